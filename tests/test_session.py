"""The live loop: what is said is heard when the timeline says so, nothing is lost, and every run repeats."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from interplay.core.audio import level_db, save_audio
from interplay.core.clock import RealClock, SimulatedClock, Tick
from interplay.core.timeline import Timeline, read_timeline
from interplay.core.types import (
    INPUT_RATE,
    INPUT_SAMPLES,
    OUTPUT_RATE,
    OUTPUT_SAMPLES,
    Action,
    Event,
    InterplayError,
    MicroTurnIn,
    MicroTurnOut,
    out_time,
)
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.foreground.registry import load_foreground
from interplay.session import Session, SessionOptions, SurfaceClosed, SurfaceIn, TurnView
from interplay.surfaces.file import FileSurface
from interplay.voice.base import SilentVoice
from interplay.voice.engine import HibariEngine
from interplay.voice.hibari import HibariVoice


class Script:
    """A foreground that plays a script: {turn: MicroTurnOut fields}. It keeps what it was given."""

    name = "script"

    def __init__(self, script: dict[int, dict], *, speaks: bool = False) -> None:
        self.script, self.capabilities = script, Capabilities(speaks=speaks)
        self.seen: list[MicroTurnIn] = []
        self.closed = 0

    async def open(self, spec: ForegroundSpec) -> Script:
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        self.seen.append(turn)
        fields = self.script.get(turn.turn, {})
        if "raises" in fields:
            raise fields["raises"]
        return MicroTurnOut(**{"turn": turn.turn, "audio": None, **fields})

    async def close(self) -> None:
        self.closed += 1


class Memory:
    """A surface in memory: gives `turns` slices of a quiet tone, keeps what it is given."""

    name = "memory"

    def __init__(self, turns: int, *, short: dict[int, int] | None = None, events: dict | None = None) -> None:
        self.turns, self.short, self.events = turns, short or {}, events or {}
        self.views: list[TurnView] = []
        self.closed: list[InterplayError | None] = []
        self.gone_at: int | None = None

    async def read(self, turn: int) -> SurfaceIn | None:
        if turn >= self.turns:
            return None
        audio = np.full(self.short.get(turn, INPUT_SAMPLES), 0.1, np.float32)
        return SurfaceIn(audio, events=self.events.get(turn, ()))

    async def write(self, view: TurnView) -> None:
        if view.turn == self.gone_at:
            raise SurfaceClosed("page closed")
        self.views.append(view)

    async def close(self, error: InterplayError | None) -> None:
        self.closed.append(error)


@pytest.fixture(scope="module")
def engine() -> HibariEngine:
    pytest.importorskip("hibari")
    return HibariEngine()


def lane(timeline: Timeline, lane: str, kind: str) -> list[dict]:
    return [r for r in timeline.records if (r["lane"], r["kind"]) == (lane, kind)]


async def run_file(engine: HibariEngine, source: Path, folder: Path, script: dict[int, dict]) -> tuple[Path, Path]:
    out, line = folder / "out.wav", folder / "out.jsonl"
    with Timeline(line) as timeline:
        surface = FileSurface(source, out)
        report = await Session(
            Script(script), HibariVoice(engine, sync=True), surface, SimulatedClock(), timeline
        ).run()
    assert report.error is None
    return out, line


def tone(path: Path, seconds: float, rate: int = INPUT_RATE) -> Path:
    t = np.arange(int(seconds * rate)) / rate
    sf.write(path, 0.1 * np.sin(2 * np.pi * 200 * t), rate)
    return path


def onset_after(audio: np.ndarray, t: float) -> float:
    """Seconds at which sound begins at or after t - 0.1 s."""
    start = int((t - 0.1) * OUTPUT_RATE)
    return (start + int(np.argmax(np.abs(audio[start:]) > 0.01))) / OUTPUT_RATE


async def test_out_wav_is_time_synchronous_with_the_timeline(engine: HibariEngine, tmp_path: Path) -> None:
    script = {5: {"said": "hello"}, 15: {"said": "stop"}, 25: {"said": "good morning"}, 31: {"heard": "hi you"}}
    source = tone(tmp_path / "in.wav", 7.3)
    out, line = await run_file(engine, source, tmp_path, script)
    audio, rate = sf.read(out, dtype="float32")
    assert rate == OUTPUT_RATE and len(audio) >= 7.3 * OUTPUT_RATE
    said = [r for r in read_timeline(line) if r["kind"] == "said"]
    assert [r["text"] for r in said] == ["hello", "stop", "good", "morning"]
    for record in (said[0], said[1], said[2]):
        assert record["t"] == pytest.approx(out_time(record["turn"]), abs=0.04)  # on cue: in the same micro-turn
        assert onset_after(audio, record["t"]) == pytest.approx(record["t"], abs=0.06)
    assert np.abs(audio[: int(said[0]["t"] * OUTPUT_RATE)]).max() < 0.02  # nothing but the breath before the word
    assert not audio[: int(1.2 * OUTPUT_RATE)].any()
    heard = [r for r in read_timeline(line) if r["kind"] == "heard"]
    assert [(r["t"], r["turn"], r["text"]) for r in heard] == [(6.4, 31, "hi you")]


async def test_no_word_is_lost_and_the_tail_lets_the_agent_finish(engine: HibariEngine, tmp_path: Path) -> None:
    script = {k: {"said": f"one two {k}"} for k in range(10)}
    out, line = await run_file(engine, tone(tmp_path / "in.wav", 2.0), tmp_path, script)
    said = [r["text"] for r in read_timeline(line) if r["kind"] == "said"]
    # 30 words need more than 5 s: the tail ends after 3 s, and what it cut off is told.
    closed = read_timeline(line)[-1]
    expected = " ".join(f"one two {k}" for k in range(10)).split()
    assert closed["unsaid"] and said + closed.get("unsaid", "").split() == expected
    assert 5.0 <= sf.info(out).duration <= 5.21


async def test_two_runs_are_bitwise_equal(engine: HibariEngine, tmp_path: Path) -> None:
    script = {3: {"said": "hello there"}, 8: {"heard": "go on"}, 9: {"actions": (Action("stop", {"reason": "yield"}),)}}
    source = tone(tmp_path / "in.wav", 3.0)
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        fresh = HibariEngine()  # a cold cache must give the same samples
        files.append([p.read_bytes() for p in await run_file(fresh, source, tmp_path / name, script)])
    assert files[0] == files[1]


async def test_stop_is_silent_within_a_micro_turn_and_unsaid_words_stay_unsaid(engine: HibariEngine) -> None:
    stop = (Action("stop", {"reason": "interrupted"}),)
    mind = Script({1: {"said": "one two three four five six seven"}, 4: {"actions": stop}})
    surface, timeline = Memory(12), Timeline()
    await Session(mind, HibariVoice(engine, sync=True), surface, SimulatedClock(), timeline).run()
    said = [r["text"] for r in lane(timeline, "agent", "said")]
    stopped = lane(timeline, "agent", "stopped")
    assert stopped[0]["t"] == out_time(4) and stopped[0]["reason"] == "interrupted"
    assert " ".join(said) + " " + stopped[0]["unsaid"] == "one two three four five six seven"
    assert 1 <= len(said) <= 4
    audio = np.concatenate([v.audio for v in surface.views])
    assert np.abs(audio[4 * OUTPUT_SAMPLES + 240 :]).max() == 0.0  # 10 ms after the stop becomes audible
    assert surface.views[4].stopped == "interrupted" and not surface.views[5].speaking
    assert Event("unsaid", {"text": stopped[0]["unsaid"]}) in mind.seen[5].events


async def test_missing_samples_are_marked_not_taken_for_silence() -> None:
    mind, timeline = Script({}), Timeline()
    await Session(mind, SilentVoice(), Memory(6, short={2: 1000, 3: 0}), SimulatedClock(), timeline).run()
    assert all(m.audio.shape == (INPUT_SAMPLES,) and m.audio.dtype == np.float32 for m in mind.seen)
    assert mind.seen[2].events == (Event("missing", {"samples": 2200}),) and not mind.seen[4].events
    assert [(r["t"], r["samples"]) for r in lane(timeline, "system", "missing")] == [(0.4, 5400)]


async def test_typed_text_reaches_the_mind_and_the_timeline() -> None:
    mind, timeline = Script({}), Timeline()
    text = Event("text", {"text": "stop it"})
    await Session(mind, SilentVoice(), Memory(3, events={1: (text,)}), SimulatedClock(), timeline).run()
    assert mind.seen[1].events == (text,)
    assert [r["text"] for r in lane(timeline, "user", "text")] == ["stop it"]


@pytest.mark.parametrize("error", [RuntimeError("tensor of wrong shape"), InterplayError("the provider hung up")])
async def test_a_broken_foreground_ends_the_session_cleanly(error: Exception, tmp_path: Path) -> None:
    mind, surface = Script({3: {"raises": error}}), Memory(9)
    with Timeline(tmp_path / "t.jsonl") as timeline:
        report = await Session(mind, SilentVoice(), surface, SimulatedClock(), timeline).run()
        on_disk = read_timeline(tmp_path / "t.jsonl")  # flushed before the timeline is closed
    assert report.reason == "error" and str(error) in str(report.error)
    assert surface.closed == [report.error] and mind.closed == 1 and len(surface.views) == 3
    assert [r["kind"] for r in on_disk] == ["opened", "error", "metrics", "closed"]
    assert str(error) in on_disk[1]["text"]


async def test_a_closed_page_mid_word_is_no_error(engine: HibariEngine) -> None:
    mind, surface, timeline = Script({1: {"said": "good morning everyone"}}), Memory(100), Timeline()
    surface.gone_at = 2
    report = await Session(mind, HibariVoice(engine, sync=True), surface, SimulatedClock(), timeline).run()
    assert report.error is None and report.reason == "page closed" and surface.closed == [None] and mind.closed == 1
    closed = timeline.records[-1]
    assert closed["reason"] == "page closed" and "everyone" in closed["unsaid"]


async def test_cancelling_cleans_up_and_is_passed_on() -> None:
    mind, surface, timeline = Script({}), Memory(10**6), Timeline()
    task = asyncio.create_task(Session(mind, SilentVoice(), surface, RealClock(), timeline).run())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mind.closed == 1 and surface.closed == [None] and timeline.records[-1]["reason"] == "cancelled"


async def test_a_foreground_with_its_own_voice_is_passed_through() -> None:
    sound = np.full(OUTPUT_SAMPLES, 0.25, np.float32)
    mind, surface, timeline = Script({1: {"audio": sound, "said": "hi"}}, speaks=True), Memory(3), Timeline()
    await Session(mind, None, surface, SimulatedClock(), timeline).run()
    assert np.array_equal(surface.views[1].audio, sound) and not surface.views[0].audio.any()
    assert [(r["t"], r["text"]) for r in lane(timeline, "agent", "said")] == [(0.4, "hi")]
    with pytest.raises(InterplayError, match="no voice"):
        Session(Script({}), None, surface, SimulatedClock(), timeline)


async def test_real_and_simulated_clock_record_the_same(engine: HibariEngine) -> None:
    script = {1: {"said": "hello"}, 3: {"heard": "yes"}, 6: {"said": "good evening"}}
    for words in ("hello", "good evening"):
        engine.render(words.split())  # as a server does ahead: a busy machine must not decide this test
    records = []
    for clock, sync in ((RealClock(), False), (SimulatedClock(), True)):
        timeline, surface = Timeline(), Memory(11)
        began = time.monotonic()
        report = await Session(Script(script), HibariVoice(engine, sync=sync), surface, clock, timeline).run()
        if clock.realtime:
            assert time.monotonic() - began == pytest.approx(2.2, abs=0.4)
            assert report.late.percentile(50) < 0.05
            assert lane(timeline, "system", "metrics")[-1]["step"]["n"] == 11
        records.append([r for r in timeline.records if r["lane"] != "system"])
    assert records[0] == records[1] and len(records[0]) == 4


async def test_a_machine_that_is_too_slow_skips_and_says_so() -> None:
    class Jumpy:
        """A clock that finds itself 8 micro-turns late once."""

        realtime = False

        def start(self) -> None: ...

        def now(self) -> float:
            return 0.0

        async def tick(self, turn: int) -> Tick:
            return Tick(turn + 8, 0.1, 8) if turn == 4 else Tick(turn)

    mind, surface, timeline = Script({}), Memory(15), Timeline()
    report = await Session(mind, SilentVoice(), surface, Jumpy(), timeline).run()
    assert [m.turn for m in mind.seen] == [0, 1, 2, 3, 12, 13, 14]
    assert mind.seen[4].events == (Event("skipped", {"turns": 8}),)
    assert report.skipped == 8 and lane(timeline, "system", "skipped")[0]["turns"] == 8


async def test_a_stop_request_ends_after_the_micro_turn() -> None:
    session = Session(Script({}), SilentVoice(), Memory(10**9), SimulatedClock(), Timeline())
    task = asyncio.create_task(session.run())
    await asyncio.sleep(0)
    session.stop("enough")
    assert (await task).reason == "enough"


@pytest.mark.slow
async def test_an_hour_of_silence_streams_in_bounded_memory(tmp_path: Path) -> None:
    source = tmp_path / "hour.wav"
    with sf.SoundFile(source, "w", INPUT_RATE, 1, "PCM_16") as file:
        for _ in range(360):
            file.write(np.zeros(10 * INPUT_RATE, np.int16))
    with Timeline(tmp_path / "t.jsonl") as timeline:
        surface = FileSurface(source, tmp_path / "out.wav")
        session = Session(load_foreground("silent"), SilentVoice(), surface, SimulatedClock(), timeline)
        tracemalloc.start(1)
        try:
            report = await session.run()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert report.error is None and report.turns == 18_005
    assert peak < 8e6
    assert sf.info(tmp_path / "out.wav").duration == pytest.approx(3601.2, abs=0.01)
    assert level_db(sf.read(tmp_path / "out.wav", frames=10**6, dtype="float32")[0]) == -100.0


async def test_a_full_disk_under_out_wav_is_one_clear_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    source = tmp_path / "in.wav"
    save_audio(source, np.zeros(60 * INPUT_RATE, np.float32), INPUT_RATE)
    timeline = Timeline()
    session = Session(
        Script({}), SilentVoice(), FileSurface(source, full), SimulatedClock(), timeline, options=SessionOptions()
    )
    report = await session.run()
    assert "/dev/full" in str(report.error) and json.dumps(timeline.records)
