"""The second recogniser: what the background reads when the foreground knows fewer words than the person uses."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from interplay.background import Abilities, BackgroundRoom, ContextPackage, Line
from interplay.background.ears import Ears, Heard, Moonshine, describe, find, question_in
from interplay.background.embedded import EmbeddedBackground
from interplay.core.clock import RealClock, SimulatedClock
from interplay.core.timeline import Timeline
from interplay.core.types import INPUT_RATE, Event, InterplayError, Missing
from interplay.session import Session, SurfaceIn
from interplay.surfaces.file import FileSurface
from interplay.voice.base import SilentVoice
from tests.background_scene import Ears as Foreground
from tests.background_scene import Talk, Told, converse

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def moonshine() -> Iterator[Moonshine]:
    try:
        recogniser = Moonshine()
    except Missing as missing:
        pytest.skip(str(missing))
    recogniser.warm()
    yield recogniser
    recogniser.close()


def mono(path: Path) -> np.ndarray:
    audio, rate = sf.read(path, dtype="float32", always_2d=True)
    return soxr.resample(audio.mean(axis=1), rate, INPUT_RATE)


def spoken_by_the_voice(path: Path, *says: tuple[float, str]) -> list[tuple[float, float, str]]:
    """A recording of these sentences in the agent's own voice. Returns (start, end, word) of every word."""
    pytest.importorskip("hibari")
    from interplay.voice.engine import HibariEngine

    engine, words = HibariEngine(), []
    sound = np.zeros(round((says[-1][0] + 6.0) * INPUT_RATE), np.float32)
    for start, text in says:
        clip = engine.render(tuple(text.split()))
        audio = soxr.resample(clip.audio, 24_000, INPUT_RATE)
        at = round(start * INPUT_RATE)
        sound[at : at + len(audio)] = audio
        step = len(audio) / INPUT_RATE / len(text.split())
        words += [(start + k * step, start + (k + 1) * step, word) for k, word in enumerate(text.split())]
    sf.write(path, sound, INPUT_RATE)
    return words


class Stub:
    """A recogniser that gives what it is told to, after `seconds` of wall time."""

    name = "stub"

    def __init__(self, *found: Heard, seconds: float = 0.0, error: str = "") -> None:
        self.found, self.seconds, self.error = list(found), seconds, error
        self.lengths: list[float] = []

    async def recognise(self, audio: np.ndarray) -> list[Heard]:
        self.lengths.append(len(audio) / INPUT_RATE)
        await asyncio.sleep(self.seconds)
        if self.error:
            raise InterplayError(self.error)
        return self.found


# the real one


async def test_a_recording_becomes_words(moonshine: Moonshine) -> None:
    heard = await moonshine.recognise(mono(EXAMPLES / "chatter.flac"))
    text = " ".join(h.text for h in heard).lower()
    assert "can we talk about music or the weather" in text and "near the window" in text
    assert all(0 <= h.start_s < 14 and h.seconds > 0 for h in heard) and len(heard) >= 3
    person = moonshine.folder.parent / "beckett.wav"  # the publisher's own recording of a person
    assert "ever tried" in " ".join(h.text for h in await moonshine.recognise(mono(person))).lower()
    assert await moonshine.recognise(np.zeros(INPUT_RATE, np.float32)) == []
    assert await moonshine.recognise(np.zeros(0, np.float32)) == []


async def test_a_broken_process_costs_one_answer_and_not_the_next(moonshine: Moonshine) -> None:
    sound = mono(EXAMPLES / "chatter.flac")
    moonshine.warm()
    first = moonshine._process
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)
    asking = asyncio.create_task(moonshine.recognise(sound))
    while not moonshine._turn.locked():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(InterplayError, match="the recogniser broke"):
        await asking
    assert await moonshine.recognise(sound)
    second = moonshine._process
    assert second is not None and second.pid != first.pid
    moonshine.close()
    assert second.poll() is not None, "closing ends the process"


async def test_a_process_that_broke_is_not_asked_again_even_if_it_still_looks_alive(moonshine: Moonshine) -> None:
    """The pipes of a killed process close before the system says that it is dead."""
    sound = mono(EXAMPLES / "chatter.flac")
    moonshine.warm()
    first = moonshine._process
    assert first is not None
    first.poll = lambda: None  # type: ignore[method-assign]
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(InterplayError, match="the recogniser broke"):
        await moonshine.recognise(sound)
    assert await moonshine.recognise(sound)
    assert moonshine._process is not first
    moonshine.close()


@pytest.mark.parametrize("clock", [SimulatedClock, pytest.param(RealClock, marks=pytest.mark.slow)])
async def test_the_background_answers_what_was_really_said(moonshine: Moonshine, tmp_path: Path, clock: type) -> None:
    """The foreground hears words of its own small world; the tower and the year are in none of them."""
    from interplay.agents.tools.load import load_tools

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "town.md").write_text("The lantern tower burned down in 1911. The chapel was built in 1702.\n")
    words = spoken_by_the_voice(tmp_path / "in.wav", (0.6, "when did the lantern tower burn down"))
    misheard = {"lantern": "lemon", "tower": "flower", "burn": "bread"}
    foreground = Foreground([(a, b, misheard.get(word, word)) for a, b, word in words])
    room = BackgroundRoom(
        EmbeddedBackground(), await load_tools([], documents=str(tmp_path / "docs")), recogniser=moonshine, hear_s=60.0
    )
    await moonshine.recognise(np.zeros(1_600, np.float32))  # it is loaded before the session begins
    surface, timeline = FileSurface(tmp_path / "in.wav", None), Timeline()
    report = await Session(foreground, SilentVoice(), surface, clock(), timeline, background=room).run()
    assert report.error is None
    talk = Talk(foreground, room, surface, timeline)  # type: ignore[arg-type]
    assert "lemon flower" in talk.records("background", "delegated")[0]["text"]
    recognised = talk.records("background", "recognised")[0]
    assert "lantern tower" in recognised["question"].lower() and "lantern tower" in recognised["text"].lower()
    assert talk.said().endswith("The lantern tower burned down in 1911."), talk.said()


async def test_what_is_typed_is_not_listened_for(tmp_path: Path) -> None:
    stub = Stub(Heard(0.1, 2.0, "Who wrote the song?"))
    mind = Told(lambda question: (0.1, ["Done."]))
    room = BackgroundRoom(mind, recogniser=stub)

    class Typing:
        name = "typing"

        async def read(self, turn: int) -> SurfaceIn | None:
            events = (Event("text", {"text": "who founded the club"}),) if turn == 3 else ()
            return None if turn > 20 else SurfaceIn(np.full(3_200, 0.01, np.float32), events=events)

        async def write(self, view: object) -> None: ...

        async def close(self, error: object) -> None: ...

    await Session(Foreground([]), SilentVoice(), Typing(), SimulatedClock(), Timeline(), background=room).run()
    assert stub.lengths == [] and mind.packages[0].meant == "" and mind.packages[0].audio is None


# how it is woven in


async def test_the_package_has_what_both_understood_and_nothing_is_recognised_twice() -> None:
    stub = Stub(Heard(0.5, 1.8, "My dog is called Zorro. When does the ferry leave?"))
    mind = Told(lambda question: (0.2, ["At nine."]))
    room = BackgroundRoom(mind, recogniser=stub)
    says = [(1.0, "when does the fairy leave"), (7.0, "what is the price of it")]
    talk = await converse(says, room, seconds=14)
    first, second = mind.packages
    assert first.question == "when does the fairy leave" and first.meant == "When does the ferry leave?"
    assert "user: when does the fairy leave" in first.transcript()
    assert "user: My dog is called Zorro. When does the ferry leave?" in first.second_transcript()
    assert first.audio is None and talk.states() == {"d1": "delivered", "d2": "delivered"}
    assert stub.lengths[0] == pytest.approx(first.asked_s) and sum(stub.lengths) == pytest.approx(second.asked_s)
    assert len(second.recognised) == 2 and second.recognised[0] == first.recognised[0]


async def test_a_recogniser_that_is_slow_or_broken_is_done_without() -> None:
    for stub, why in ((Stub(seconds=30.0), "too slow"), (Stub(error="no ears today"), "no ears today")):
        mind = Told(lambda question: (0.2, ["Paris."]))
        room = BackgroundRoom(mind, recogniser=stub, hear_s=0.3)
        talk = await converse([(0.4, "what is the capital of france")], room, seconds=6, clock=RealClock())
        assert why in talk.records("background", "unrecognised")[0]["text"]
        assert talk.said().endswith("Paris.") and talk.said().startswith("Let me see.")
        assert mind.packages[0].question == "what is the capital of france" and mind.packages[0].audio is None


async def test_withdrawing_does_not_wait_for_the_recogniser() -> None:
    mind = Told(lambda question: (0.2, ["Paris."]))
    room = BackgroundRoom(mind, recogniser=Stub(seconds=600.0), hear_s=600.0)
    says = [(0.4, "what is the capital of france"), (3.0, "never mind")]
    talk = await converse(says, room, seconds=5, clock=RealClock())
    assert talk.records("background", "dropped")[0]["reason"] == "withdrawn" and mind.started == []
    assert not room._running


async def test_a_background_that_takes_sound_gets_the_sound() -> None:
    mind, stub = Told(lambda question: (0.1, ["Yes."])), Stub(Heard(0.0, 1.0, "What?"))
    mind.abilities = Abilities(audio=True, instant=True)
    await converse([(1.0, "what is the capital of france")], BackgroundRoom(mind, recogniser=stub), seconds=6)
    assert stub.lengths == [] and mind.packages[0].audio is not None and mind.packages[0].recognised == ()


async def test_the_planner_falls_back_on_what_the_foreground_heard() -> None:
    from interplay.agents.tools.load import load_tools

    stub = Stub(Heard(0.5, 2.0, "What is save and times what he dreams?"))
    room = BackgroundRoom(EmbeddedBackground(), await load_tools([]), recogniser=stub)
    talk = await converse([(0.6, "what is seven times twenty three")], room, seconds=8)
    assert talk.said().endswith("Seven times twenty three is 161."), talk.said()


async def test_a_provider_without_ears_reads_the_second_transcript() -> None:
    pytest.importorskip("pydantic_ai")
    from interplay.background.choose import compatible
    from tests.provider_server import ProviderServer

    async with ProviderServer(lambda request, n: ["At nine."]) as server:
        room = BackgroundRoom(
            await asyncio.to_thread(compatible, server.url),
            recogniser=Stub(Heard(0.5, 2.0, "When does the ferry to Lødingen leave?")),
        )
        talk = await converse([(0.6, "when does the fairy leave")], room, seconds=10)
    sent = str(server.requests[0]["messages"])
    assert "ferry to Lødingen" in sent and "second recogniser" in sent and "user: when does the fairy leave" in sent
    assert talk.said().endswith("At nine.")


def test_the_question_is_the_last_thing_that_was_asked() -> None:
    lines = (
        Line(1.0, "user", "What is two plus two?", 2.0),
        Line(5.0, "user", "I am in the kitchen. What is 3.5 times two? It is late.", 8.0),
    )
    assert question_in(lines, 4.0) == "What is 3.5 times two?" and question_in(lines, 8.5) == ""
    assert question_in(lines[:1], 0.0) == "What is two plus two?"
    cut = (Line(1.0, "user", "You", 1.2), Line(1.5, "user", "What is seventeen times", 3.0), Line(4, "user", "23?", 5))
    assert question_in(cut, 0.0) == "What is seventeen times 23?"


async def test_two_at_once_do_not_double_the_lines() -> None:
    ears = Ears(Stub(Heard(0.2, 1.0, "Who wrote it?"), seconds=0.05))
    sound = np.zeros(3 * INPUT_RATE, np.float32)
    packages = [ContextPackage("who wrote it", asked_s=3.0, audio=sound) for _ in range(2)]
    both = await asyncio.gather(*(ears.listen(package, 5.0) for package in packages))
    assert [len(package.recognised) for package in both] == [1, 1]


async def test_a_question_that_grows_by_a_word_is_still_known() -> None:
    """A line's end may be put a little behind the sound it was found in; the next piece of sound must not erase it."""
    stub = Stub(Heard(0.1, 2.35, "When did the lantern tower burn down?"))
    ears, sound = Ears(stub), np.zeros(round(2.6 * INPUT_RATE), np.float32)
    first = ContextPackage("when did the lemon", asked_s=2.4, audio=sound[: round(2.4 * INPUT_RATE)])
    assert (await ears.listen(first, 5.0)).meant == "When did the lantern tower burn down?"
    stub.found = [Heard(0.0, 0.1, "You")]
    second = await ears.listen(ContextPackage("when did the lemon down", asked_s=2.6, audio=sound), 5.0)
    assert second.meant == "When did the lantern tower burn down?"


def test_it_can_be_turned_off_and_the_doctor_says_what_is_there() -> None:
    assert find({"INTERPLAY_RECOGNISER": "off"}) is None
    assert describe({"INTERPLAY_RECOGNISER": "off"})[1].startswith("off")
    ok, line = describe({})
    assert ("moonshine-tiny" in line and "English" in line) if ok else "pip install" in line
