"""The clock: sessions whose slice is complete are gathered, and run as one batched step, once per tick.

    submit -> waiting (a few per session) -> run: one of each, oldest first, as one batch -> reply

Real-time sessions share a grid of ticks, so that their slices complete together; a step begins as soon as everybody
who is due is there, and waits for nobody longer than `gather_s`. Sessions on a simulated clock run at once in between.
Not thread-safe: the owner calls `submit` and `run`; `next_at` says when `run` has something to do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from interplay.core.histogram import Histogram
from interplay.core.types import MICRO_TURN_S, InterplayError
from interplay.engine.admission import Admission
from interplay.engine.core import Append, Chosen, Engine, Opening
from interplay.engine.errors import EngineError, Lagging, NoSession, OutOfOrder, Overloaded
from interplay.engine.watch import Watch, is_number

GATHER_S = 0.004
MAX_WAITING = 8  # micro-turns of one session; more is a client that does not listen to us
MAX_BEHIND = 2  # waiting micro-turns of a real-time session that are still run; older ones are dropped, not caught up
SHED_AT = 0.5  # of the period: a step that begins this late, or is expected to end beyond it, runs without pictures
ACTIVE_S = 0.6  # a real-time session that has sent nothing for so long is not waited for

NOT_A_NUMBER = EngineError("the model's output was not a number; this session cannot go on")

Reply = Callable[["Chosen | EngineError"], None]


@dataclass(slots=True)
class _Waiting:
    append: Append
    arrived: float
    reply: Reply


@dataclass(slots=True)
class _Line:
    """One session's queue. realtime: deadlines count. seen: when something last came."""

    realtime: bool
    seen: float
    queue: deque[_Waiting] = field(default_factory=deque)


@dataclass(slots=True)
class Stats:
    """What happened, in fixed memory. wait: from arrival to the beginning of the step; step: of a batch; turnaround:
    from arrival to the result; jitter: between real-time steps, how far from the period. Seconds."""

    turns: int = 0
    steps: int = 0
    late: int = 0
    dropped: int = 0
    shed_frames: int = 0
    refused: int = 0
    wait: Histogram = field(default_factory=Histogram)
    step: Histogram = field(default_factory=Histogram)
    turnaround: Histogram = field(default_factory=Histogram)
    jitter: Histogram = field(default_factory=Histogram)


class Clocked:
    """Sessions of an engine on a clock.

    floor: real-time sessions that are let in whatever was measured. report: what the self-test found, for `health`.
    trace: called with one dict per micro-turn (when it arrived, its step began and ended, and with how many), None for
    no tracing.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        period_s: float = MICRO_TURN_S,
        gather_s: float = GATHER_S,
        floor: int = 1,
        report: dict[str, Any] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine, self.period_s, self.gather_s, self.now = engine, period_s, gather_s, now
        self.admission, self.watch, self.stats = Admission(period_s, floor=floor), Watch(now), Stats()
        self.report = report
        self.trace: Callable[[dict[str, Any]], None] | None = None
        self.draining = False
        self._lines: dict[str, _Line] = {name: _Line(True, now()) for name in engine.seats}
        self._first: float | None = None  # arrival of the oldest that waits
        self._last_tick: float | None = None

    # ---- sessions

    def open(
        self,
        opening: Opening | None = None,
        session: str | None = None,
        *,
        realtime: bool = True,
        admitted: bool = False,
    ) -> str:
        """As `Engine.open`; a real-time session is refused early if the clock would not hold. Raises Overloaded.

        admitted: it was let in elsewhere already, and only comes here because that place is gone.
        """
        self._admit(realtime and not admitted)
        name = self.engine.open(opening, session)
        self._lines[name] = _Line(realtime, self.now())
        return name

    def restore(
        self, data: bytes, session: str | None = None, *, realtime: bool = True, admitted: bool = False
    ) -> tuple[str, dict]:
        """As `Engine.restore`, let in as by `open`."""
        self._admit(realtime and not admitted)
        name, extra = self.engine.restore(data, session)
        self._lines[name] = _Line(realtime, self.now())
        return name, extra

    def _admit(self, realtime: bool) -> None:
        try:
            if self.draining:
                raise Overloaded("this engine is being emptied; try elsewhere")
            if realtime:
                self.admission.check(1 + sum(line.realtime for line in self._lines.values()))
        except Overloaded:
            self.stats.refused += 1
            raise

    def close(self, session: str) -> None:
        """What still waits is answered with NoSession."""
        line = self._lines.pop(session, None)
        self.watch.gone(session)
        self.engine.close(session)
        for waiting in line.queue if line else ():
            waiting.reply(NoSession(f"session {session!r} was closed"))

    def pace(self, session: str, realtime: bool) -> None:
        """Whether deadlines count for this session: what a client knows and the memory of a dead process does not."""
        if (line := self._lines.get(session)) is not None:
            line.realtime = realtime

    def idle(self, seconds: float) -> list[str]:
        """Sessions that have sent nothing for so long."""
        limit = self.now() - seconds
        return [name for name, line in self._lines.items() if line.seen < limit and not line.queue]

    def next_tick(self) -> float:
        """When the next slice of the common grid is complete."""
        return (int(self.now() / self.period_s) + 1) * self.period_s

    # ---- micro-turns

    def submit(self, append: Append, reply: Reply, sent: float | None = None) -> None:
        """Queue one micro-turn; `reply` is called once, now or in a later `run`. Never raises for what is sent.

        sent: when it was sent, if that is known: what lay unread while we stood still was late all the same.
        """
        try:
            known = self.engine.known(append)
            if known is not None:
                return reply(known if is_number(known) else NOT_A_NUMBER)
            line = self._lines[append.session]
            tail = line.queue[-1].append.turn if line.queue else -1
            if append.turn <= tail:
                self._again(line, append, reply)
                return None
            if len(line.queue) >= MAX_WAITING:
                raise Lagging(f"{MAX_WAITING} micro-turns wait already; send no more before they are answered")
        except EngineError as error:
            return reply(error)
        except InterplayError as error:
            return reply(_as_engine_error(error))
        line.seen = self.now()
        arrived = line.seen if sent is None else min(max(sent, line.seen - 60.0), line.seen)
        line.queue.append(_Waiting(append, arrived, reply))
        if self._first is None:
            self._first = arrived
        return None

    def _again(self, line: _Line, append: Append, reply: Reply) -> None:
        """The same micro-turn twice before it ran: the newer asker gets the answer."""
        for waiting in line.queue:
            if waiting.append.turn == append.turn and waiting.append.digest() == append.digest():
                waiting.reply(Lagging("asked again elsewhere"))
                waiting.reply = reply
                return
        raise OutOfOrder(f"micro-turn {append.turn} comes after {line.queue[-1].append.turn}")

    def next_at(self) -> float | None:
        """When `run` should be called; None while nothing waits."""
        if self._first is None:
            return None
        return self._first if self._complete() else self._first + self.gather_s

    def _complete(self) -> bool:
        """Nobody who is due is missing: or only simulated sessions wait, for whom nothing is late."""
        recent = self.now() - ACTIVE_S
        real = [line for line in self._lines.values() if line.realtime and line.seen >= recent]
        return all(line.queue for line in real) or not any(line.queue for line in real)

    def run(self) -> int:
        """Run one micro-turn of every session that waits, as one batch. Returns how many."""
        began, due = self.now(), []
        for line in self._lines.values():
            while line.realtime and len(line.queue) > MAX_BEHIND:
                old = line.queue.popleft()
                self.stats.dropped += 1
                old.reply(Lagging(f"micro-turn {old.append.turn} was dropped: too far behind to catch up"))
            if line.queue:
                due.append((line, line.queue.popleft()))
        left = [line.queue[0].arrived for line in self._lines.values() if line.queue]
        self._first = min(left) if left else None
        if not due:
            return 0
        appends = self._shed(due, began)
        try:
            results: list[Chosen | EngineError] = list(self.engine.step(appends))
        except Exception as error:  # a bug or a broken machine: everybody hears of it, the clock goes on
            results = [EngineError(f"the step failed: {type(error).__name__}: {error}")] * len(due)
        ended = self.now()
        self._account(due, began, ended)
        for (_, waiting), result in zip(due, results, strict=True):
            if isinstance(result, Chosen) and not self.watch.saw(result, waiting.append.digest()):
                result = NOT_A_NUMBER
            waiting.reply(result)
        return len(due)

    def _shed(self, due: list[tuple[_Line, _Waiting]], began: float) -> list[Append]:
        """Leave pictures out before anybody's sound is late. On a simulated clock nothing is ever late."""
        appends = [w.append for _, w in due]
        real = [w.arrived for line, w in due if line.realtime]
        late = bool(real) and began - min(real) > SHED_AT * self.period_s
        if not real or (not late and self.admission.predict(len(due)) < self.period_s):
            return appends
        for place, (line, waiting) in enumerate(due):
            if line.realtime and waiting.append.frame is not None:
                self.stats.shed_frames += 1
                appends[place] = replace(waiting.append, frame=None)
        return appends

    def _account(self, due: list[tuple[_Line, _Waiting]], began: float, ended: float) -> None:
        stats, real = self.stats, [w for line, w in due if line.realtime]
        stats.steps += 1
        stats.turns += len(due)
        stats.step.add(ended - began)
        self.admission.measured(len(due), ended - began)
        if real:
            if self._last_tick is not None and began - self._last_tick < 2 * self.period_s:
                stats.jitter.add(abs(began - self._last_tick - self.period_s))
            self._last_tick = began
        for waiting in real:
            stats.wait.add(began - waiting.arrived)
            stats.turnaround.add(ended - waiting.arrived)
            late = ended - waiting.arrived > self.period_s
            stats.late += late
            self.admission.finished(late)
        if self.trace is not None:
            for _, waiting in due:
                self.trace(
                    {
                        "session": waiting.append.session,
                        "turn": waiting.append.turn,
                        "arrived": waiting.arrived,
                        "began": began,
                        "ended": ended,
                        "batch": len(due),
                    }
                )

    def health(self) -> dict[str, Any]:
        """What is true now: places, load, and `status`, with `problems`: degraded (late), draining (no new sessions),
        or broken (on time, with nothing in it, or waited for in vain)."""
        broken = self.watch.problems()
        status = "broken" if broken else "draining" if self.draining else "ok"
        problems = [*broken]
        if self.admission.miss_rate > 0.01:
            problems.append(f"{self.admission.miss_rate:.1%} of micro-turns were late lately")
            status = "degraded" if status == "ok" else status
        return {
            "status": status,
            "problems": problems,
            "sessions": len(self._lines),
            "free": 0 if self.draining else self.engine.free(),
            "step_ms": self.stats.step.ms(),
            "late": self.stats.late,
            "turns": self.stats.turns,
            "fixed_shape": self.engine.fixed,
            "selftest": self.report,
        }


def _as_engine_error(error: InterplayError) -> EngineError:
    told = EngineError(str(error))
    told.code = error.code
    return told
