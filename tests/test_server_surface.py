"""The browser surface: bounded whatever the page does, close to now, no word lost."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, OUTPUT_SAMPLES, out_time
from interplay.session.surface import SurfaceClosed, TurnView
from interplay.surfaces import browser
from interplay.surfaces.browser import BrowserSurface, Cell, Gap


def surface(rate: int = INPUT_RATE) -> BrowserSurface:
    return BrowserSurface(rate, lambda: 0.0)


def view(turn: int, heard: str = "", said: tuple[tuple[str, float], ...] = ()) -> TurnView:
    return TurnView(turn, out_time(turn), np.zeros(OUTPUT_SAMPLES, np.float32), heard=heard, said=said)


def tone(samples: int, level: float = 0.3) -> np.ndarray:
    return np.full(samples, level, np.float32)


async def test_frames_of_20_ms_become_whole_slices_after_the_first():
    page = surface()
    sent = 0
    for turn in range(30):
        while sent < (turn + 1) * INPUT_SAMPLES - 320 * (turn % 2):  # every other turn the last frame is late
            page.hear(tone(320))
            sent += 320
        got = await page.read(turn)
        assert len(got.audio) == INPUT_SAMPLES
    assert page.dropped == 0


async def test_silence_of_a_page_is_missing_not_silence():
    page = surface()
    page.hear(tone(INPUT_SAMPLES))
    await page.read(0)
    assert len((await page.read(1)).audio) == browser.RESERVE
    assert len((await page.read(2)).audio) == 0
    page.hear(tone(INPUT_SAMPLES // 2))
    assert len((await page.read(3)).audio) == INPUT_SAMPLES // 2


async def test_a_page_that_sends_too_much_costs_nothing_but_its_own_sound():
    page = surface()
    for _ in range(1000):
        page.hear(tone(3200))
    assert page.dropped > 3_000_000
    assert len((await page.read(0)).audio) == INPUT_SAMPLES


async def test_standing_delay_is_given_up_where_nobody_speaks():
    page = surface()
    page.hear(tone(INPUT_SAMPLES + browser.RESERVE))
    await page.read(0)
    page.hear(tone(2 * browser.TIGHTEN, 0.0))  # a hiccup that left 200 ms too much
    for turn in range(1, 40):
        page.hear(tone(INPUT_SAMPLES, 0.3 if turn < 20 else 0.0))
        await page.read(turn)
        if turn < 20:
            assert page.tightened == 0
    assert page.tightened == 2 * browser.TIGHTEN


async def test_any_rate_becomes_16_khz():
    for rate in (8_000, 22_050, 44_100, 96_000, 192_000):
        page = surface(rate)
        time = np.arange(rate * 2) / rate
        block = np.sin(2 * np.pi * 440 * time).astype(np.float32) * 0.5
        heard = []
        for turn, part in enumerate(np.array_split(block, 10)):
            page.hear(part)
            heard.append((await page.read(turn)).audio)
        audio = np.concatenate(heard)[INPUT_RATE // 2 : INPUT_RATE]
        peak = np.argmax(np.abs(np.fft.rfft(audio * np.hanning(len(audio))))) * INPUT_RATE / len(audio)
        assert abs(peak - 440) < 4


async def test_typed_text_is_an_event_of_the_next_turn_and_bounded():
    page = surface()
    for n in range(100):
        page.type(f"message {n}")
    events = (await page.read(0)).events
    assert len(events) == browser.MAX_EVENTS
    assert events[-1].data["text"] == "message 99"
    assert (await page.read(1)).events == ()


async def test_a_page_that_takes_everything_gets_every_cell():
    page = surface()
    for turn in range(50):
        await page.write(view(turn))
        cell = await page.next()
        assert isinstance(cell, Cell)
        assert cell.view.turn == turn
        page.acknowledge(turn)


async def test_a_stalled_page_gets_a_gap_with_the_words_then_now():
    page = surface()
    taken = []
    for turn in range(60):
        await page.write(view(turn, heard=f"h{turn}" if turn % 10 == 0 else "", said=((f"s{turn}", 0.05),)))
        if turn < 10:
            taken.append(await page.next())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(page.next(), 0.05)  # no credit: nothing more goes out
    page.acknowledge(9)
    gap = await page.next()
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last) == (10, 58)
    assert [words for _, words in gap.heard] == ["h10", "h20", "h30", "h40", "h50"]
    assert gap.said[0] == ("s10", round(out_time(10) + 0.05, 4))
    live = await page.next()
    assert isinstance(live, Cell)
    assert live.view.turn == 59


async def test_a_page_that_never_reads_holds_nothing():
    page = surface()
    for turn in range(20_000):
        await page.write(view(turn, heard="word", said=(("word", 0.0),)))
    assert len(page._waiting_out) == browser.WAITING
    assert page._gap is not None
    assert len(page._gap.heard) == len(page._gap.said) == browser.GAP_WORDS


async def test_a_page_that_left_ends_the_session():
    page = surface()
    page.leave()
    with pytest.raises(SurfaceClosed):
        await page.read(0)
    with pytest.raises(SurfaceClosed):
        await page.write(view(0))
    assert await page.next() is None


async def test_the_last_cells_still_go_out_when_the_session_ends():
    page = surface()
    await page.write(view(0))
    await page.close(None)
    assert isinstance(await page.next(), Cell)
    assert await page.next() is None
