"""Rates and places: what a scope (everybody, an agent, a user, a key) uses per minute and at the same time.

Kept in the memory of one process: a gateway of several processes allows as much in each of them. Budgets are not
here: they are sums of the ledger and hold across processes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SCOPES = 20_000

Scope = tuple[str, str]
"""(column, value): ("key_id", "ab12...") or ("all", "")."""


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` per minute, at most a minute's worth at once. May go below zero, and recovers from it."""

    rate: float
    level: float = 0.0
    at: float = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0 for now. More than a minute's worth waits for a full bucket."""
        self._fill(now)
        missing = min(amount, self.rate) - self.level
        return max(0.0, missing / self.rate * 60)

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self.level -= amount

    def resize(self, rate: float) -> None:
        """A reloaded config: what was used stays used."""
        self.level += rate - self.rate
        self.rate = rate

    def _fill(self, now: float) -> None:
        if self.at == 0.0:
            self.level = self.rate
        else:
            self.level = min(self.rate, self.level + (now - self.at) * self.rate / 60)
        self.at = now


@dataclass(slots=True)
class Use:
    """What one scope uses right now. held_pico: the worst that admitted calls may still cost."""

    running: int = 0
    held_pico: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None
    warned: set[tuple[str, float]] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        return self.running == 0 and self.held_pico == 0


class Uses:
    """Uses by scope, bounded: the longest unused idle ones are forgotten first."""

    def __init__(self, time_fn: Callable[[], float] = time.monotonic) -> None:
        self.now = time_fn
        self._uses: OrderedDict[Scope, Use] = OrderedDict()

    def of(self, scope: Scope) -> Use:
        use = self._uses.get(scope)
        if use is None:
            use = self._uses[scope] = Use()
            for old in list(self._uses)[:8] if len(self._uses) > MAX_SCOPES else ():
                if old != scope and self._uses[old].idle:
                    del self._uses[old]
        self._uses.move_to_end(scope)
        return use

    def peek(self, scope: Scope) -> Use | None:
        """The use of a scope, if there is one."""
        return self._uses.get(scope)

    def bucket(self, use: Use, name: str, rate: int) -> Bucket:
        """The bucket `requests` or `tokens` of a use, at this rate."""
        bucket: Bucket | None = getattr(use, name)
        if bucket is None:
            bucket = Bucket(rate)
            setattr(use, name, bucket)
        elif bucket.rate != rate:
            bucket.resize(rate)
        return bucket
