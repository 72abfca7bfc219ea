"""A scripted live session: a recording in, a simulated clock, the embedded default, and the next session the next day.

The recording is spoken by the project's own synthetic voice. The shipped nano model hears a closed world of words and
would mishear most of this, so the foreground here is given the words with the times at which they were spoken; it
keeps a counting reminder, as nano does. Everything behind it is what users run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from interplay.background import BackgroundRoom
from interplay.background.embedded import EmbeddedBackground
from interplay.core.clock import SimulatedClock
from interplay.core.timeline import Timeline
from interplay.core.types import OUTPUT_RATE
from interplay.session import Session, SessionOptions
from interplay.surfaces.file import FileSurface
from interplay.voice.engine import HibariEngine
from interplay.voice.hibari import HibariVoice
from tests.background_scene import Ears, Talk

RATE = 16_000
NIGHT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
QUIET = {"INTERPLAY_RECOGNISER": "off"}  # it is for people, and takes these training voices for something else


@pytest.fixture(scope="module")
def engine() -> HibariEngine:
    pytest.importorskip("hibari")
    return HibariEngine()


def record(path: Path, says: list[tuple[float, str]], tail_s: float) -> list[tuple[float, float, str]]:
    """Write a recording of these sentences. Returns (start, end, word) of every word in it."""
    pytest.importorskip("espeakng_loader")
    from interplay.training.espeak import agent_voices
    from interplay.training.espeak import engine as espeak

    words: list[tuple[float, float, str]] = []
    sound = np.zeros(int((says[-1][0] + 8.0 + tail_s) * RATE), np.float32)
    for start, text in says:
        audio, ends = espeak().speak(text, agent_voices()[0])
        at = int(start * RATE)
        sound[at : at + len(audio)] += audio[: len(sound) - at]
        previous = 0.0
        for word, end in ends:
            words.append((start + previous, start + end, word))
            previous = end
    sf.write(path, sound[: int((words[-1][1] + tail_s) * RATE)], RATE)
    return words


async def run(
    source: Path,
    ears: Ears,
    engine: HibariEngine,
    room: BackgroundRoom,
    out: Path,
    timeline: Timeline,
    **options: object,
) -> Talk:
    surface = FileSurface(source, out)
    session = Session(
        ears,
        HibariVoice(engine, sync=True),
        surface,
        SimulatedClock(),
        timeline,
        background=room,
        options=SessionOptions(foreground=options),
    )
    report = await session.run()
    assert report.error is None, report.error
    return Talk(ears, room, surface, timeline)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Scene:
    """asked: the second at which each question that goes to the background ends."""

    source: Path
    docs: str
    words: list[tuple[float, float, str]]
    asked: list[float]


def scene(folder: Path, *, slow: bool) -> Scene:
    """The recording of the scripted session and the documents it asks about. slow: for a background that takes its
    time: the last question is the one it will still be busy with, and the recording goes on however long that is."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "club.md").write_text("The garden club was founded by Maria Keller in 1987. It meets on Tuesdays.\n")
    fact, promise = "who founded the garden club", "remind me tomorrow to call the bank"
    says = [
        (0.5, "my name is ada"),
        (3.0, "what is seventeen times twenty three"),
        (5.8, "no wait what is seventeen times twenty four"),
        *([(12.7, promise), (17.0, fact)] if slow else [(14.7, fact), (22.0, promise)]),
    ]
    source = folder / "in.wav"
    words = record(source, says, 400.0 if slow else 3.0)
    asked = [(start, text) for start, text in says if text.split()[0] not in ("my", "remind")]
    ends = [[e for s, e, _ in words if s >= start][len(text.split()) - 1] for start, text in asked]
    return Scene(source, str(docs), words, ends)


def on_time(talk: Talk, scene: Scene, *, least: int) -> list[float]:
    """What the foreground owes whatever is worked on: every question acknowledged within 0.4 s of its last sound (none
    ends where a reminder is due: that would go first), and each reminder on time within one micro-turn.

    Returns the seconds of the reminders."""
    remarks = [r["t"] for r in talk.records("agent", "said") if r.get("of") == "now"]
    for end in scene.asked:
        assert any(end < t <= end + 0.4 for t in remarks), (end, remarks)
    ticks = talk.said_at("tick")
    assert len(ticks) >= least and all(abs(t - 2.0 * (k + 1)) <= 0.2 for k, t in enumerate(ticks)), ticks
    return ticks


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_session_with_reminders_work_and_memory(engine: HibariEngine, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("aiosqlite")
    from interplay.agents import AgentSpec, AgentStore
    from interplay.agents.spec import ModelSlots
    from interplay.session.agent import live_agent
    from tests.stores import new_url

    told = scene(tmp_path, slow=False)
    ears = Ears(told.words, every=("tick", 2.0, 2.0))
    async with new_url(kind, tmp_path) as url, await AgentStore.open(url) as store:
        await store.create(AgentSpec("keeper", models=ModelSlots(background="embedded")))
        with Timeline(tmp_path / "one.jsonl") as timeline:
            async with live_agent(store, "keeper", documents=told.docs, env=QUIET, now=NIGHT) as live:
                assert live.visit is not None and live.room is not None
                live.visit.follow(timeline)
                talk = await run(told.source, ears, engine, live.room, tmp_path / "out.wav", timeline)

        # one question was superseded, both results were spoken, and nothing else
        assert talk.states() == {"d1": "superseded", "d2": "delivered", "d3": "delivered"}
        # a word that a reminder cut in half was said again
        of = {}
        for id in ("d2", "d3"):
            texts = [r["text"] for r in talk.records("agent", "said") if r.get("of") == id]
            of[id] = " ".join(word for word, _ in groupby(texts))
        assert of["d2"] == "Seventeen times twenty four is 408." and "Maria Keller in 1987." in of["d3"]
        assert "391" not in talk.said()

        ticks = on_time(talk, told, least=12)

        # and they are audible in the file at the time the timeline says
        sound, rate = sf.read(tmp_path / "out.wav", dtype="float32")
        assert rate == OUTPUT_RATE
        for t in ticks:
            assert np.abs(sound[int((t - 0.02) * rate) : int((t + 0.25) * rate)]).max() > 0.05

        # the next day it knows the name and what it promised
        words = record(
            tmp_path / "next.wav", [(0.5, "what is my name"), (5.0, "do you remember what i wanted to call")], 3.0
        )
        ears, line = Ears(words), Timeline()
        async with live_agent(store, "keeper", env=QUIET, now=NIGHT + timedelta(days=1)) as live:
            assert live.visit is not None and live.room is not None
            assert "ada" in " ".join(live.foreground["prefix"]).lower()
            assert "bank" in (live.room.memory + " ".join(live.foreground["prefix"])).lower()
            live.visit.follow(line)
            talk = await run(tmp_path / "next.wav", ears, engine, live.room, tmp_path / "next_out.wav", line)
    assert "Your name is Ada." in talk.said(), talk.said()
    assert "bank" in talk.said().lower(), talk.said()


async def test_two_runs_of_the_same_session_are_bitwise_equal(engine: HibariEngine, tmp_path: Path) -> None:
    from interplay.agents.tools.load import load_tools

    words = record(tmp_path / "in.wav", [(0.5, "what is seventeen times twenty three")], 1.0)
    files = []
    for name in "ab":
        with Timeline(tmp_path / f"{name}.jsonl") as timeline:
            room = BackgroundRoom(EmbeddedBackground(), await load_tools([]))
            ears = Ears(words, every=("tick", 2.0, 2.0))
            talk = await run(tmp_path / "in.wav", ears, engine, room, tmp_path / f"{name}.wav", timeline)
        assert "is 391." in talk.said()
        files.append([(tmp_path / f"{name}{suffix}").read_bytes() for suffix in (".jsonl", ".wav")])
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.xfail(reason="nano takes the question up, but its reminders slip by up to two seconds", strict=False)
async def test_the_shipped_model_keeps_its_reminders_while_the_background_works(
    engine: HibariEngine, tmp_path: Path
) -> None:
    """nano itself, on sound: it hears "say apple every three seconds", and its words go on beside a reading.

    Not strict: it passes by itself as soon as the shipped weights are good enough.
    """
    pytest.importorskip("torch")
    from interplay.core.types import Event
    from interplay.foreground.registry import load_foreground
    from interplay.session import SurfaceIn

    mind = load_foreground("native")
    says = [(0.5, "say apple every three seconds")]
    if mind.capabilities.delegates:  # it decides itself, by what it hears
        says.append((7.0, "what is seventeen times twenty three"))
    words = record(tmp_path / "in.wav", says, 16.0)

    class Typing(FileSurface):
        """The question is typed where the model does not delegate by itself."""

        async def read(self, turn: int) -> SurfaceIn | None:
            captured = await super().read(turn)
            if captured is None or turn != 30 or mind.capabilities.delegates:
                return captured
            return SurfaceIn(captured.audio, events=(Event("text", {"text": "what is seventeen times twenty three"}),))

    from interplay.agents.tools.load import load_tools

    room, timeline = BackgroundRoom(EmbeddedBackground(), await load_tools([])), Timeline()
    surface = Typing(tmp_path / "in.wav", tmp_path / "out.wav")
    voice = HibariVoice(engine, sync=True)
    report = await Session(mind, voice, surface, SimulatedClock(), timeline, background=room).run()
    assert report.error is None
    said = [r for r in timeline.records if r["lane"] == "agent" and r["kind"] == "said"]
    assert " ".join(r["text"] for r in said if r.get("of") == "d1").endswith("391.")
    if mind.capabilities.delegates:
        end = words[-1][1]
        assert any(end < r["t"] <= end + 0.4 for r in said), "acknowledged"
    apples = [r["t"] for r in said if r["text"] == "apple"]
    assert len(apples) >= 4 and all(abs(b - a - 3.0) <= 0.41 for a, b in pairwise(apples)), apples


@pytest.mark.slow
async def test_the_same_session_with_a_real_model_behind_a_real_server(engine: HibariEngine, tmp_path: Path) -> None:
    """llama.cpp serves SmolLM2-135M over OpenAI's API in a process of its own. What so small a model says is its own
    business; that it is asked, superseded, heard, and never in the way, is ours."""
    pytest.importorskip("pydantic_ai")
    pytest.importorskip("sqlalchemy")
    from interplay.agents import AgentSpec, AgentStore
    from interplay.session.agent import live_agent
    from tests.local_server import local_server

    told = scene(tmp_path, slow=True)
    ears = Ears(told.words, every=("tick", 2.0, 2.0))
    async with local_server() as url, await AgentStore.open(str(tmp_path / "store.db")) as store:
        env = {**QUIET, "INTERPLAY_BACKGROUND_URL": url}
        await store.create(AgentSpec("keeper"))
        with Timeline() as timeline:
            async with live_agent(store, "keeper", documents=told.docs, env=env, now=NIGHT) as live:
                assert live.visit is not None and live.room is not None
                room = live.room
                live.visit.follow(timeline)
                surface = FileSurface(told.source, None)
                session = Session(
                    ears, HibariVoice(engine, sync=True), surface, SimulatedClock(), timeline, background=room
                )
                surface.on_turn = lambda view: (
                    session.stop("answered")
                    if "d3" in room.delegations and all(d.state.final for d in room.delegations.values())
                    else None
                )
                report = await session.run()
        talk = Talk(ears, room, surface, timeline)  # type: ignore[arg-type]
        assert report.error is None and not talk.records("background", "failed")
        assert talk.states() == {"d1": "superseded", "d2": "delivered", "d3": "delivered"}
        said = talk.records("agent", "said")
        for id in ("d2", "d3"):
            assert [r for r in said if r.get("of") == id], "its answer was heard"
        assert not [r for r in said if r.get("of") == "d1"]
        on_time(talk, told, least=10)
        async with live_agent(store, "keeper", env=QUIET, now=NIGHT + timedelta(days=1)) as live:
            known = " ".join(live.foreground["prefix"])
    assert "name is ada" in known and "call the bank" in known
