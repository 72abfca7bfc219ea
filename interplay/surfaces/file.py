"""A file as the user: a recording in, a time-synchronous recording of the agent out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from interplay.core.audio import WavWriter, probe, slices
from interplay.core.types import INPUT_SAMPLES, MICRO_TURN_S, OUTPUT_SAMPLES, BadInput, InterplayError
from interplay.session.surface import SurfaceIn, TurnView

TAIL_MIN_S = 1.0  # a model answers the last words of a file a moment after it ends
TAIL_MAX_S = 3.0
WORK_MAX_S = 60.0  # and so long for what the background is still at


class FileSurface:
    """Plays a sound file to the session and records what a listener would have heard.

    The sample at time t of OUT.wav is what was audible at session time t: the output of micro-turn k lies at
    (k + 1) x 0.2 s, so the file begins with 0.2 s of silence and is longer than the input. When the input is over,
    silent slices follow for at least 1 s and until the agent has finished speaking, 3 s at most, or 60 s while the
    background still works on something.

    Raises BadInput before anything is written: unreadable input, or an output that cannot be.
    """

    name = "file"

    def __init__(
        self,
        source: str | Path,
        out: str | Path | None = None,
        *,
        tail_s: float = TAIL_MAX_S,
        on_turn: Callable[[TurnView], None] | None = None,
    ) -> None:
        self.info = probe(source)
        self.out = Path(out) if out is not None else None
        if self.out is not None:
            _check_out(Path(source), self.out)
        self.turns_estimate = math.ceil(self.info.duration_s / MICRO_TURN_S)
        self.on_turn = on_turn
        self._slices: Iterator[np.ndarray] = slices(source)
        self._next = 0
        self._tail_min = round(min(tail_s, TAIL_MIN_S) / MICRO_TURN_S)
        self._tail_max = round(tail_s / MICRO_TURN_S)
        self._work_max = self._tail_max * round(WORK_MAX_S / TAIL_MAX_S)
        self._working = False
        self._ended_at: int | None = None
        self._speaking = False
        self._writer: WavWriter | None = None

    async def read(self, turn: int) -> SurfaceIn | None:
        audio = self._slice(turn)
        if audio is None:
            self._ended_at = turn if self._ended_at is None else self._ended_at
            tail = turn - self._ended_at
            busy = self._speaking or self._working
            if tail >= (self._work_max if self._working else self._tail_max) or (tail >= self._tail_min and not busy):
                return None
            audio = np.zeros(INPUT_SAMPLES, np.float32)
        return SurfaceIn(audio)

    async def write(self, view: TurnView) -> None:
        self._speaking, self._working = view.speaking, view.working
        if self.out is not None:
            if self._writer is None:
                self._writer = WavWriter(self.out)
            # Up to the time of this slice: the first 0.2 s, and any micro-turn that a real clock had to skip.
            gap = (view.turn + 1) * OUTPUT_SAMPLES - self._writer.samples
            if gap > 0:
                self._writer.write(np.zeros(gap, np.float32))
            self._writer.write(view.audio)
        if self.on_turn is not None:
            self.on_turn(view)

    async def close(self, error: InterplayError | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _slice(self, turn: int) -> np.ndarray | None:
        """The slice of micro-turn `turn`, passing over skipped ones; None after the end."""
        audio = None
        while self._next <= turn:
            audio = next(self._slices, None)
            if audio is None:
                return None
            self._next += 1
        return audio


def _check_out(source: Path, out: Path) -> None:
    if out.is_dir():
        raise BadInput(f"cannot write {out}: it is a directory")
    if not out.parent.exists():
        raise BadInput(f"cannot write {out}: the folder {out.parent} does not exist")
    if out.exists() and out.samefile(source):
        raise BadInput(f"{out} is the input; write the agent's voice to another file")
