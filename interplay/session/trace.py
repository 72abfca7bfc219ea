"""Where did the 200 ms go: one line per micro-turn, and a table of all of them.

Times are of the machine's monotonic clock, which the engine's process shares, so one line tells a whole micro-turn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from interplay.core.histogram import Histogram
from interplay.core.types import MICRO_TURN_S, InterplayError
from interplay.foreground.base import Foreground

STAGES = {
    "late": "the tick came after its slice was complete",
    "read": "sound and pictures taken from the surface",
    "listen": "levels, words and marks made of them",
    "gather": "waited for the others of the same step, or for the step before",
    "step": "the model, for everybody in the batch",
    "answer": "the way back from the engine",
    "think": "listen, gather, step and answer of a mind that does not tell them apart",
    "speak": "words into sound, and the record",
    "write": "handed to the surface",
}


class Trace:
    """Notes of every micro-turn of any number of sessions. path: a file of JSON lines, None for the table alone.

    Raises InterplayError if the file cannot be made. One that cannot be written to later is given up, with `error`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.error: InterplayError | None = None
        self.stages: dict[str, Histogram] = {}
        self.whole = Histogram()
        self.over = 0  # micro-turns that took longer than there is
        self._file: IO[str] | None = None
        if path is not None:
            try:
                self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise InterplayError(f"--trace {path}: {error.strerror or error}") from error

    async def watch(self, foreground: Foreground) -> None:
        """Ask a mind to tell its times as well; one that cannot is one stage, `think`."""
        if (begin := getattr(foreground, "begin_tracing", None)) is not None:
            await begin()

    def note(
        self, session: str, turn: int, late_s: float, marks: tuple[float, ...], times: Mapping[str, Any] | None
    ) -> None:
        """One micro-turn. marks: when its tick came, its input was read, the mind was asked, it had answered, the
        output was ready, it was handed over. times: `arrived`, `began`, `ended`, `batch` in the engine."""
        tick, read, asked, answered, spoken, written = marks
        stages = {"late": late_s, "read": read - tick}
        if times is None:
            stages |= {"listen": asked - read, "think": answered - asked}
        else:
            arrived, began, ended = (float(times[name]) for name in ("arrived", "began", "ended"))
            stages |= {"listen": arrived - read, "gather": began - arrived, "step": ended - began}
            stages |= {"answer": answered - ended}
        stages |= {"speak": spoken - answered, "write": written - spoken}
        total = late_s + written - tick
        self.whole.add(total)
        self.over += total > MICRO_TURN_S
        for name, seconds in stages.items():
            self.stages.setdefault(name, Histogram()).add(max(0.0, seconds))
        if self._file is not None and self.error is None:
            line: dict[str, Any] = {"session": session, "turn": turn, "total_ms": _ms(total)}
            line |= {f"{name}_ms": _ms(seconds) for name, seconds in stages.items()}
            if times is not None:
                line["batch"] = times["batch"]
            try:
                self._file.write(json.dumps(line) + "\n")
            except OSError as error:
                self.error = InterplayError(f"--trace {self.path}: {error.strerror or error}; no more is written")

    def table(self) -> str:
        """Where the time went, as people read it; "" if nothing was noted."""
        if not self.whole.n:
            return ""
        rows = [f"{'where the 200 ms went':22s} {'p50':>8s} {'p99':>8s} {'max':>8s} ms"]
        for name in [name for name in STAGES if name in self.stages]:
            rows.append(f"  {name:20s} {_row(self.stages[name])}     {STAGES[name]}")
        rows.append(f"  {'all of it':20s} {_row(self.whole)}     {self.whole.n} micro-turns, {self.over} over 200 ms")
        return "\n".join(rows)

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self.error = self.error or InterplayError(f"--trace {self.path}: {error.strerror or error}")
            self._file = None


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def _row(histogram: Histogram) -> str:
    figures = histogram.ms()
    return " ".join(f"{figures[name]:8.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
