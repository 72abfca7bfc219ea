"""A conversation for tests of the background: what a person says and when, through the real session.

The foreground hears what was said, word by word, as late as a model may (0.15 s after a word's end, one word per
micro-turn). It stands in for a model's ears, and for nothing else: delegator, room, judgement, voice and timeline are
the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import numpy as np

from interplay.background import Abilities, BackgroundRoom, Piece, Work
from interplay.core.clock import Clock, SimulatedClock
from interplay.core.timeline import Timeline
from interplay.core.types import INPUT_SAMPLES, MICRO_TURN_S, Action, Event, MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.session import Session, SurfaceIn, TurnView
from interplay.voice.base import SilentVoice, Voice

WORD_S = 0.36
HEARD_AFTER_S = 0.15


def spoken(*says: tuple[float, str]) -> list[tuple[float, float, str]]:
    """(start, end, word) of sentences that begin at the given seconds, at the pace of speech."""
    words = []
    for start, text in says:
        for index, word in enumerate(text.split()):
            at = start + index * WORD_S
            words.append((at, at + WORD_S - 0.02, word))
    return words


class Ears:
    """A foreground that hears words, and says and decides what a script of micro-turns tells it to."""

    name = "ears"

    def __init__(
        self,
        words: Iterable[tuple[float, float, str]],
        script: dict[int, dict[str, Any]] | None = None,
        *,
        delegates: bool = False,
        every: tuple[str, float, float] | None = None,
    ) -> None:
        """every: (word, first second, period in seconds): a reminder this foreground keeps by itself."""
        self.capabilities = Capabilities(delegates=delegates)
        self.script, self.every = script or {}, every
        self.heard: dict[int, str] = {}
        free = 0
        for _, end, word in words:
            turn = max(free, int((end + HEARD_AFTER_S) / MICRO_TURN_S))
            self.heard[turn], free = word, turn + 1
        self.seen: list[MicroTurnIn] = []

    async def open(self, spec: ForegroundSpec) -> Ears:
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        self.seen.append(turn)
        fields = {"heard": self.heard.get(turn.turn, ""), **self.script.get(turn.turn, {})}
        if self.every is not None:
            word, first, period = self.every
            due = (turn.turn + 1) * MICRO_TURN_S
            # In the micro-turn whose output slice holds the due time.
            k = round((due - first) / period)
            if k >= 0 and due - 1e-6 <= first + k * period < due + MICRO_TURN_S - 1e-6:
                fields["said"] = word
        return MicroTurnOut(turn.turn, None, **fields)

    async def close(self) -> None:
        return None

    def events(self, kind: str) -> list[tuple[int, Event]]:
        return [(m.turn, e) for m in self.seen for e in m.events if e.kind == kind]


class Room:
    """The person as a surface: sound while they talk, silence otherwise."""

    name = "room"

    def __init__(self, words: list[tuple[float, float, str]], seconds: float, noise: float = 0.0) -> None:
        self.turns = round(seconds / MICRO_TURN_S)
        samples = np.random.default_rng(0).normal(0, max(noise, 1e-6), self.turns * INPUT_SAMPLES)
        for start, end, _ in words:
            a, b = int(start * 16_000), int(end * 16_000)
            samples[a:b] += 0.2 * np.sin(np.arange(b - a) * 0.2)[: len(samples[a:b])]
        self.sound = samples.astype(np.float32)
        self.views: list[TurnView] = []
        self.until: Callable[[], bool] = lambda: False

    async def read(self, turn: int) -> SurfaceIn | None:
        if turn >= self.turns or self.until():
            return None
        return SurfaceIn(self.sound[turn * INPUT_SAMPLES : (turn + 1) * INPUT_SAMPLES])

    async def write(self, view: TurnView) -> None:
        self.views.append(view)

    async def close(self, error: Exception | None) -> None:
        return None


class Told:
    """A background that takes some session seconds for a question and then gives the pieces it was told to give.

    plan: question -> (seconds, pieces). started, closed: questions, in order; closed with the session second.
    """

    name = "told"
    abilities = Abilities(instant=True)

    def __init__(self, plan: Callable[[str], tuple[float, list[str | Piece]]]) -> None:
        self.plan = plan
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.packages: list[Any] = []

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        question = work.package.question
        self.started.append(question)
        self.packages.append(work.package)
        seconds, pieces = self.plan(question)
        try:
            await work.sleep(seconds)
            for piece in pieces:
                yield Piece(piece) if isinstance(piece, str) else piece
        except asyncio.CancelledError:
            self.cancelled.append(question)
            raise

    async def close(self) -> None:
        return None


class Talk:
    """What became of a conversation."""

    def __init__(self, ears: Ears, room: BackgroundRoom, surface: Room, timeline: Timeline) -> None:
        self.ears, self.room, self.surface, self.timeline = ears, room, surface, timeline

    def records(self, lane: str, kind: str) -> list[dict[str, Any]]:
        return [r for r in self.timeline.records if (r["lane"], r["kind"]) == (lane, kind)]

    def said(self) -> str:
        return " ".join(r["text"] for r in self.records("agent", "said"))

    def said_at(self, word: str) -> list[float]:
        return [r["t"] for r in self.records("agent", "said") if r["text"] == word]

    def states(self) -> dict[str, str]:
        return {d.id: d.state.value for d in self.room.delegations.values()}


async def converse(
    says: list[tuple[float, str]],
    room: BackgroundRoom,
    *,
    seconds: float,
    script: dict[int, dict[str, Any]] | None = None,
    delegates: bool = False,
    every: tuple[str, float, float] | None = None,
    clock: Clock | None = None,
    voice: Voice | None = None,
    noise: float = 0.0,
    until: Callable[[], bool] | None = None,
) -> Talk:
    """One session of `seconds`, or until `until`. Raises what ended it if that was an error."""
    words = spoken(*says)
    ears = Ears(words, script, delegates=delegates, every=every)
    surface, timeline = Room(words, seconds, noise), Timeline()
    surface.until = until or surface.until
    session = Session(ears, voice or SilentVoice(), surface, clock or SimulatedClock(), timeline, background=room)
    report = await session.run()
    if report.error is not None:
        raise report.error
    return Talk(ears, room, surface, timeline)


DELEGATE, DELIVER, YIELD = Action("delegate"), Action("deliver"), Action("yield")
