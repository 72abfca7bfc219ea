"""A word said on cue is audible in its micro-turn, words follow each other, and silence comes without a click."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from interplay.core.types import OUTPUT_RATE, OUTPUT_SAMPLES, InterplayError, Missing
from interplay.voice.base import SilentVoice, Voice
from interplay.voice.clip import finish, frame_rms
from interplay.voice.hibari import HibariVoice

pytest.importorskip("hibari")

from interplay.voice.engine import HibariEngine

COMMON = "hello yes no stop now one two three four five six seven eight nine ten the a sorry thanks fish hat okay"


@pytest.fixture(scope="module")
def engine() -> HibariEngine:
    return HibariEngine()


def speak(voice: Voice, turns: int) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Audio of so many micro-turns, and (word, second) of what became audible."""
    audio, words = [], []
    for turn in range(turns):
        out = voice.step()
        assert out.audio.shape == (OUTPUT_SAMPLES,) and out.audio.dtype == np.float32
        audio.append(out.audio)
        words += [(word, turn * 0.2 + offset) for word, offset in out.audible]
    return np.concatenate(audio), words


def onset_s(audio: np.ndarray) -> float:
    """Second at which the sound has reached 5 % of its peak."""
    return float(np.argmax(np.abs(audio) > 0.05 * np.abs(audio).max())) / OUTPUT_RATE


@pytest.mark.parametrize("word", COMMON.split())
def test_a_word_sounds_at_once_and_at_one_loudness(engine: HibariEngine, word: str) -> None:
    voice = HibariVoice(engine, sync=True)
    voice.say(word)
    audio, words = speak(voice, 6)
    assert onset_s(audio) < 0.04
    assert [text for text, _ in words] == [word] and words[0][1] == pytest.approx(onset_s(audio), abs=0.03)
    rms = frame_rms(audio)
    active = rms[rms > rms.max() * 10 ** (-32 / 20)]
    assert 20 * np.log10(np.sqrt(np.mean(active**2))) == pytest.approx(-20, abs=1.5)
    assert np.abs(audio).max() <= 0.9 and not voice.speaking and voice.pending == ()


def test_words_that_come_one_by_one_follow_each_other(engine: HibariEngine) -> None:
    clips = [engine.render((word,)) for word in ("one", "two", "three")]
    joined = np.concatenate([clip.audio for clip in clips])
    rms = frame_rms(joined)
    quiet, longest = 0, 0
    for loud in rms > rms.max() * 0.03:
        quiet = 0 if loud else quiet + 1
        longest = max(longest, quiet)
    assert longest * 5 <= 150  # ms, the closure of a "t" included


def test_a_phrase_is_one_utterance_with_the_models_word_times(engine: HibariEngine) -> None:
    assert engine._timed, "hibari's graph has changed: word times are estimates"
    voice = HibariVoice(engine, sync=True)
    voice.say("please count to seven")
    voice.say("now stop")
    audio, words = speak(voice, 14)
    assert [word for word, _ in words] == ["please", "count", "to", "seven", "now", "stop"]
    times = [t for _, t in words]
    assert times == sorted(times) and times[-1] < 2.0
    # A phrase is shorter than its words one by one, and sound follows each word's time within 60 ms.
    alone = sum(len(engine.render((word,)).audio) for word, _ in words)
    assert len(audio[: int(np.flatnonzero(np.abs(audio) > 0.005)[-1])]) < alone
    for t in times:
        start = int((t - 0.01) * OUTPUT_RATE)
        assert np.abs(audio[start : start + int(0.07 * OUTPUT_RATE)]).max() > 0.03


@pytest.mark.parametrize("phrase", ["yes, tomorrow", "well, dog", "okay. paul", "yes, five", "now, tick"])
def test_word_times_agree_with_a_pause_in_the_sound(engine: HibariEngine, phrase: str) -> None:
    clip = engine.render(tuple(phrase.split()))
    at = clip.words[1][1] / OUTPUT_RATE
    rms = frame_rms(clip.audio)
    silent = np.flatnonzero(rms < 0.03 * rms.max()) * 0.005
    gap_ends = [t + 0.005 for t, after in pairwise(silent) if after - t > 0.006]
    assert min(abs(at - end) for end in gap_ends) < 0.04


def test_numbers_prices_and_signs_lose_no_word(engine: HibariEngine) -> None:
    text = "I paid $9.99 for 25 apples at 10:30, Dr. Smith — 🙂 really!"
    voice = HibariVoice(engine, sync=True)
    voice.say(text)
    _, words = speak(voice, 60)
    assert [w for w, _ in words] == [w for w in text.split() if w not in ("—", "🙂")]
    voice.say("— 🙂 ...")
    assert voice.step().audible == () and not voice.speaking


def test_long_text_loses_no_word(engine: HibariEngine) -> None:
    text = "the quick brown fox jumps over the lazy dog and then it runs home to sleep until the next morning comes"
    voice = HibariVoice(engine, sync=True)
    voice.say(text)
    _, words = speak(voice, 50)
    assert [word for word, _ in words] == text.split()


@pytest.mark.parametrize("word", ["morning", "seventeen", "hurray", "sorry"])
@pytest.mark.parametrize("turns", [1, 2])
def test_stop_is_quick_and_does_not_click(engine: HibariEngine, word: str, turns: int) -> None:
    going, stopped = HibariVoice(engine, sync=True), HibariVoice(engine, sync=True)
    for voice in (going, stopped):
        voice.say(f"{word} everyone here")
        speak(voice, turns)
    before = stopped.pending
    assert stopped.stop() == list(before) and before[-1] == "here"
    assert not stopped.speaking and stopped.pending == ()
    on, off = going.step().audio, stopped.step().audio
    assert not off[int(0.01 * OUTPUT_RATE) :].any()
    assert np.abs(np.diff(off)).max() <= np.abs(np.diff(on[:400])).max() + 0.01
    assert stopped.stop() == [] and not stopped.step().audio.any()


def test_stop_before_a_word_sounded_leaves_no_sound(engine: HibariEngine) -> None:
    voice = HibariVoice(engine, sync=True)
    voice.say("hello there")
    assert voice.stop() == ["hello", "there"] and not voice.step().audio.any()
    voice.say("yes")
    voice.step()
    voice.stop()
    voice.say("now")  # the next word may follow in the same slice
    assert [word for word, _ in voice.step().audible] == ["now"]


def test_the_same_words_are_the_same_samples(engine: HibariEngine) -> None:
    other = HibariEngine()
    for phrase in (("hello",), ("good", "morning", "everyone")):
        assert np.array_equal(engine.render(phrase).audio, other.render(phrase).audio)
    assert engine.render(("HELLO",)).words[0][0] == "HELLO"
    assert engine.cached(("hello",)) is not None and engine.cached(("Hello",)) is not None


def test_the_cache_is_bounded_in_bytes() -> None:
    small = HibariEngine(cache_mb=0.08)
    assert small.prepare(["one", "two", "three", "four", "four"]) == 4
    assert small.cached(("one",)) is None and small.cached(("four",)) is not None
    assert 1 < len(small._clips) < 4 and small.held_mb <= 0.08
    assert small.held_mb == pytest.approx(sum(clip.audio.nbytes for clip in small._clips.values()) / 1e6)
    small.render(("a sentence is kept", "even where it is longer", "than all there is room for"))
    assert len(small._clips) == 1 and small.held_mb > 0.08


async def test_a_prepared_word_is_audible_in_its_turn_without_waiting(
    engine: HibariEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.prepare(["bonjour"])
    monkeypatch.setattr(engine, "_synthesize", lambda words: 1 / 0)  # nothing is rendered any more
    voice = HibariVoice(engine)
    voice.say("bonjour")
    out = voice.step()
    assert [word for word, _ in out.audible] == ["bonjour"] and out.audible[0][1] < 0.04
    voice.close()


async def test_a_render_never_blocks_the_tick_and_settle_gives_it_time(engine: HibariEngine) -> None:
    voice, text = HibariVoice(engine), "unusual sentences that nobody has ever rendered"
    with engine._lock:  # the engine is busy
        voice.say(text)
        began = time.perf_counter()
        await voice.settle(0.02)
        out = voice.step()
        assert time.perf_counter() - began < 0.1
    assert not out.audio.any() and out.audible == () and voice.speaking and voice.pending[0] == "unusual"
    for _ in range(100):
        await voice.settle(1.0)
        if (out := voice.step()).audible:
            break
    _, words = speak(voice, 20)
    assert [w for w, _ in out.audible] + [w for w, _ in words] == text.split()
    voice.close()


async def test_threaded_and_sync_voices_say_the_same(engine: HibariEngine) -> None:
    outputs = []
    for sync in (True, False):
        voice = HibariVoice(HibariEngine(), sync=sync)
        audio = []
        for turn in range(20):
            if turn in (1, 2, 3, 9):
                voice.say(f"number {turn}")
            await voice.settle(2.0)
            audio.append(voice.step())
        outputs.append((np.concatenate([a.audio for a in audio]), [a.audible for a in audio]))
        voice.close()
    assert outputs[0][1] == outputs[1][1] and np.array_equal(outputs[0][0], outputs[1][0])


async def test_stop_while_rendering_drops_the_words(engine: HibariEngine) -> None:
    voice, text = HibariVoice(engine), "an unheard of beginning"
    voice.say(text)
    assert voice.stop() == text.split()
    await asyncio.sleep(0.2)
    assert not voice.step().audio.any()
    voice.close()


async def test_a_failing_render_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HibariEngine()
    monkeypatch.setattr(engine, "_synthesize", lambda words: 1 / 0)
    for sync in (True, False):
        voice = HibariVoice(engine, sync=sync)
        voice.say("unrenderable")
        await voice.settle(1.0)
        with pytest.raises(InterplayError, match="unrenderable"):
            voice.step()
        voice.close()


async def test_closing_ends_the_thread(engine: HibariEngine) -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        voice = HibariVoice(engine)
        voice.say(f"thread number {_}")
        voice.close()
        voice.close()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        await asyncio.to_thread(thread.join, 10.0)
    assert not any(thread.is_alive() for thread in left)


def test_unknown_voice_is_named() -> None:
    with pytest.raises(Missing, match="heart"):
        HibariEngine("nobody")


def test_silence_is_no_clip() -> None:
    clip = finish(np.zeros(5_000, np.float32), [("x", 0.0)])
    assert clip.words == () and len(clip.audio) == 0
    assert len(finish(np.zeros(3, np.float32), []).audio) == 0


def test_the_silent_voice_accounts_for_every_word() -> None:
    voice = SilentVoice()
    voice.say("a b c")
    assert [voice.step().audible for _ in range(2)] == [(("a", 0.0),), (("b", 0.0),)]
    assert voice.stop() == ["c"] and not voice.speaking and not voice.step().audio.any()
