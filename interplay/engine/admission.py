"""Whether one session more still fits the clock, from what steps have really cost here lately."""

from __future__ import annotations

from interplay.core.types import MICRO_TURN_S
from interplay.engine.errors import Overloaded

TARGET = 0.6  # of the period that a step may take: the rest is for the machine's own hiccups
MEMORY = 0.98  # what a measurement still weighs after one more
MISS_LIMIT = 0.01  # share of late micro-turns lately above which nobody is let in
WORST_DECAY = 0.97


class Admission:
    """Predicts the step time of one session more and refuses early. Those who are in are never asked to leave.

    Cost is taken as linear in the batch: a decayed least-squares line through (sessions, seconds). A batch that has
    always had one size gives no slope; then the cost per session of that size is taken, which overestimates.
    """

    def __init__(self, period_s: float = MICRO_TURN_S, target: float = TARGET, floor: int = 1) -> None:
        self.period_s, self.target, self.floor = period_s, target, floor
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._above = 0.0  # how far steps lie above the line, slowly forgotten
        self.miss_rate = 0.0

    def measured(self, sessions: int, seconds: float) -> None:
        """A step of `sessions` took `seconds`."""
        self._above = max(self._above * WORST_DECAY, seconds - self.predict(sessions) if self._n else 0.0)
        self._n, self._x, self._y = self._n * MEMORY + 1, self._x * MEMORY + sessions, self._y * MEMORY + seconds
        self._xx, self._xy = self._xx * MEMORY + sessions**2, self._xy * MEMORY + sessions * seconds

    def finished(self, late: bool) -> None:
        """One micro-turn was delivered, in time or late."""
        self.miss_rate = self.miss_rate * 0.995 + (0.005 if late else 0.0)

    def predict(self, sessions: int) -> float:
        """Seconds that a step of this many is expected to take; 0.0 while nothing was measured."""
        if not self._n:
            return 0.0
        mean_x, mean_y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - mean_x**2
        if spread < 0.05:
            return mean_y * max(1.0, sessions / max(mean_x, 1.0))
        slope = max(0.0, (self._xy / self._n - mean_x * mean_y) / spread)
        return max(0.0, mean_y + slope * (sessions - mean_x))

    def check(self, sessions: int) -> None:
        """Raises Overloaded if a clock with this many real-time sessions would not hold."""
        if sessions <= self.floor:
            return
        expected = self.predict(sessions) + self._above
        if expected > self.target * self.period_s:
            raise Overloaded(
                f"a step of {sessions} sessions would take about {expected * 1e3:.0f} ms of the "
                f"{self.period_s * 1e3:.0f} ms there are; try again later or elsewhere"
            )
        if self.miss_rate > MISS_LIMIT:
            raise Overloaded(f"{self.miss_rate:.1%} of micro-turns were late lately; try again later or elsewhere")
