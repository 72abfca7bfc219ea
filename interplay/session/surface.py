"""What a session needs of a surface, the place where the user is: a slice in, a slice out, and a goodbye.

The implementations are in `interplay/surfaces`; the protocol is here because the session is what defines it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from interplay.core.types import Action, Event, InterplayError


@dataclass(frozen=True, slots=True)
class SurfaceIn:
    """What the surface captured in one slice.

    audio: float32 (n,), n <= 3200, 16 kHz mono; fewer samples than 3200 never came, and the session says so to the
    model. frame: uint8 (H, W, 3) or None. events: typed text and the like.
    """

    audio: np.ndarray
    frame: np.ndarray | None = None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnView:
    """Everything about one finished micro-turn that a surface may play or show.

    turn, elapsed_s: the micro-turn and the session second at which `audio` begins to be audible.
    audio: float32 (4800,), 24 kHz mono. heard: words of the user understood in this micro-turn, or "".
    said: (word, seconds into `audio`) of every word that becomes audible in it. speaking: a word sounds or waits to.
    pending: words decided and not audible yet. level_db: RMS of the user's slice in dBFS, -100 for silence.
    missing: samples of the user's slice that never came. stopped: why the agent fell silent in this micro-turn, or "".
    unsaid: the words that nobody will hear because of it. skipped: micro-turns lost before this one.
    actions: whatever else the foreground asked for. step_s: seconds the foreground took. working: the background is at
    work, or has something to say.
    """

    turn: int
    elapsed_s: float
    audio: np.ndarray
    heard: str = ""
    said: tuple[tuple[str, float], ...] = ()
    speaking: bool = False
    pending: tuple[str, ...] = ()
    level_db: float = -100.0
    missing: int = 0
    stopped: str = ""
    unsaid: tuple[str, ...] = ()
    skipped: int = 0
    actions: tuple[Action, ...] = field(default=())
    step_s: float = 0.0
    working: bool = False


class SurfaceClosed(Exception):
    """Raised by `Surface.read` or `Surface.write` when the user is gone: the session ends, and it is no error."""


class Surface(Protocol):
    """Where the user is. All three are called from the session's task, one at a time.

    `read` and `write` must not wait for a slow user: a surface drops, marks or buffers (in bounds) instead.
    """

    name: str

    async def read(self, turn: int) -> SurfaceIn | None:
        """What was captured in micro-turn `turn`; None when there will be no more. Turns ascend, with gaps."""
        ...

    async def write(self, view: TurnView) -> None:
        """Play and show one finished micro-turn."""
        ...

    async def close(self, error: InterplayError | None) -> None:
        """The session is over; `error` says why if it is not the user who ended it. Called exactly once."""
        ...
