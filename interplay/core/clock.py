"""The session's clock: wall time or as fast as possible, behind one interface.

`await clock.tick(turn)` returns when the input slice of micro-turn `turn` is complete, at session time
(turn + 1) x 0.2 s. Everything above runs the same code on either clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from interplay.core.types import MICRO_TURN_S, out_time

MAX_BEHIND = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick. `turn`: the micro-turn to run now, later than the one asked for if some had to be skipped.

    lateness_s: seconds after the slice was complete. skipped: how many micro-turns before `turn` never run.
    """

    turn: int
    lateness_s: float = 0.0
    skipped: int = 0


class Clock(Protocol):
    """What a session needs of time. `realtime` says whether session seconds are wall seconds."""

    realtime: bool

    def start(self) -> None:
        """Session second 0 is now."""
        ...

    def now(self) -> float:
        """Session seconds since `start`."""
        ...

    async def tick(self, turn: int) -> Tick:
        """Wait until the input slice of `turn` is complete."""
        ...


class RealClock:
    """Session time is monotonic wall time.

    A late tick runs at once, without sleeping, so a hiccup is caught up by a short burst. A session that is more than
    `max_behind` micro-turns late is not going to catch up by working harder: the tick then jumps to the newest complete
    slice. The skipped slices are lost to the model (the session reports them as missing) and session time stays true
    to wall time.
    """

    realtime = True

    def __init__(self, *, max_behind: int = MAX_BEHIND, time_fn: Callable[[], float] = time.monotonic) -> None:
        self.max_behind = max_behind
        self._time = time_fn
        self._origin: float | None = None

    def start(self) -> None:
        self._origin = self._time()

    def now(self) -> float:
        return 0.0 if self._origin is None else self._time() - self._origin

    async def tick(self, turn: int) -> Tick:
        if self._origin is None:
            self.start()
        wait = out_time(turn) - self.now()
        # A sleep of 0 also when late: other sessions on this event loop get their turn.
        await asyncio.sleep(max(0.0, wait))
        late = max(0.0, self.now() - out_time(turn))
        skipped = 0
        if late > self.max_behind * MICRO_TURN_S:
            skipped = int(late / MICRO_TURN_S)
            late -= skipped * MICRO_TURN_S
        return Tick(turn + skipped, late, skipped)


class SimulatedClock:
    """Session time advances as fast as the work is done; a minute of file takes seconds, and nothing is ever late."""

    realtime = False

    def __init__(self) -> None:
        self._now = 0.0

    def start(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    async def tick(self, turn: int) -> Tick:
        await asyncio.sleep(0)  # a file run must not starve the server that it may run in
        self._now = out_time(turn)
        return Tick(turn)
