"""Runs recordings through the same session that users run, on a simulated clock, and keeps its timeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interplay.core.clock import SimulatedClock
from interplay.core.timeline import Timeline
from interplay.core.types import INPUT_SAMPLES, InterplayError
from interplay.foreground.base import Foreground
from interplay.session import Session, SurfaceIn, TurnView
from interplay.voice.base import Voice

TAIL_TURNS = 15


class ArraySurface:
    """A recording in memory as the user. audio: float32, 16 kHz; three silent seconds follow it."""

    name = "array"

    def __init__(self, audio: np.ndarray) -> None:
        turns = -(-len(audio) // INPUT_SAMPLES) + TAIL_TURNS
        self._audio = np.zeros(turns * INPUT_SAMPLES, np.float32)
        self._audio[: len(audio)] = audio
        self._turns = turns

    async def read(self, turn: int) -> SurfaceIn | None:
        if turn >= self._turns:
            return None
        return SurfaceIn(self._audio[turn * INPUT_SAMPLES : (turn + 1) * INPUT_SAMPLES])

    async def write(self, view: TurnView) -> None:
        return None

    async def close(self, error: InterplayError | None) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Run:
    """What a session made of a recording. heard: words in order. said: (word, second it became audible)."""

    heard: tuple[str, ...]
    said: tuple[tuple[str, float], ...]


async def play(foreground: Foreground, voice: Voice | None, audio: np.ndarray) -> Run:
    """One session over `audio`. Raises what ended the session if it was an error."""
    if voice is not None:
        voice.reset()
    with Timeline() as timeline:
        report = await Session(foreground, voice, ArraySurface(audio), SimulatedClock(), timeline).run()
        if report.error is not None:
            raise report.error
        records = timeline.records
    heard = [word for r in records if (r["lane"], r["kind"]) == ("user", "heard") for word in str(r["text"]).split()]
    said = [(str(r["text"]), float(r["t"])) for r in records if (r["lane"], r["kind"]) == ("agent", "said")]
    return Run(tuple(heard), tuple(said))
