"""Plays items through the same session that users run, on a simulated clock, and reads the timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from interplay.bench.item import Item
from interplay.bench.stage import Echo, Loss, Stage
from interplay.core.clock import SimulatedClock
from interplay.core.timeline import MEMORY_RECORDS, Record, Timeline
from interplay.foreground.base import Foreground
from interplay.session import Session, SessionOptions, Surface
from interplay.voice.base import Voice

if TYPE_CHECKING:
    from interplay.voice.engine import HibariEngine


@dataclass(frozen=True, slots=True)
class Run:
    """What a session made of an item.

    heard: words in order. said: (word, second it became audible). actions: (name, second it took effect), delegations
    included. stops: seconds at which the agent fell silent on purpose. envelope: RMS of its voice every 10 ms.
    reacted_s: when the person's reaction began, None if never.
    """

    heard: tuple[str, ...]
    said: tuple[tuple[str, float], ...]
    actions: tuple[tuple[str, float], ...] = ()
    stops: tuple[float, ...] = ()
    envelope: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    reacted_s: float | None = None


class Player:
    """One foreground and one voice, ready to play items one after the other."""

    def __init__(self, mind: Foreground, voice: Voice | None, options: Mapping[str, Any] | None = None) -> None:
        self.mind, self.voice = mind, voice
        self._options = SessionOptions(foreground=dict(options or {}))

    def play(self, item: Item, *, echo: Echo | None = None, loss: Loss | None = None) -> Run:
        """One session over `item`. Raises what ended the session if it was an error."""
        stage = Stage(item, echo, loss)
        records = asyncio.run(self.live(stage))
        return read(records, stage)

    async def live(self, surface: Surface, *, memory: int = MEMORY_RECORDS) -> list[Record]:
        """One session with `surface`; its timeline, at most the newest `memory` records. Raises what ended the session
        if it was an error."""
        if self.voice is not None:
            self.voice.reset()
        with Timeline(memory=memory) as timeline:
            session = Session(self.mind, self.voice, surface, SimulatedClock(), timeline, options=self._options)
            report = await session.run()
            if report.error is not None:
                raise report.error
            return timeline.records


def read(records: list[Record], stage: Stage | None = None) -> Run:
    """A timeline as a Run."""
    heard, said, actions, stops = [], [], [], []
    for record in records:
        match record["lane"], record["kind"]:
            case "user", "heard":
                heard += str(record["text"]).split()
            case "agent", "said":
                said.append((str(record["text"]), float(record["t"])))
            case "agent", "action":
                actions.append((str(record.get("name", "")), float(record["t"])))
            case "agent", "stopped":
                stops.append(float(record["t"]))
            case "background", "delegated":
                actions.append(("delegate", float(record["t"])))
    envelope = stage.envelope if stage is not None else np.zeros(0, np.float32)
    return Run(
        tuple(heard),
        tuple(said),
        tuple(actions),
        tuple(stops),
        envelope,
        stage.reacted_s if stage is not None else None,
    )


@cache
def _renderer(seed: int) -> HibariEngine:
    """One per process: its cache is worth keeping."""
    from interplay.voice.engine import HibariEngine

    return HibariEngine(seed=seed)


def agent_voice(seed: int) -> Voice:
    """The voice that users hear, rendering within the micro-turn."""
    from interplay.voice.hibari import HibariVoice

    return HibariVoice(_renderer(seed), sync=True)


def player(mind: Foreground, seed: int, options: Mapping[str, Any] | None = None) -> Player:
    """The foreground with the voice it needs, one of its own."""
    return Player(mind, None if mind.capabilities.speaks else agent_voice(seed), options)
