"""Being on time with nothing in it is a failure too: watches what comes out, not only when."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from interplay.engine.core import Chosen

STUCK_TURNS = 15  # 3 s of different inputs with identical outputs: nobody computes here
REMEMBER_S = 60.0  # how long an output that was no number counts after its session has gone
KEEP = 1024


def is_number(chosen: Chosen) -> bool:
    """Whether the odds are all finite."""
    return all(math.isfinite(odd) for odd in chosen.odds)


class Watch:
    """Counts outputs that are no outputs. `problems` names what is wrong now, for /health."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.broken = 0  # outputs that were not numbers, ever
        self._bad: dict[str, float] = {}  # session -> when it last put out what is no number
        self._same: OrderedDict[str, tuple[int, tuple[float, ...], int]] = OrderedDict()

    def saw(self, chosen: Chosen, digest: int) -> bool:
        """Note one output; digest: of its input. False if it must not be delivered."""
        if not is_number(chosen):
            self.broken += 1
            self._bad[chosen.session] = self.now()
            return False
        before = self._same.pop(chosen.session, None)
        count = 0
        if before is not None and before[1] == chosen.odds:
            count = before[2] + (before[0] != digest)
        self._same[chosen.session] = (digest, chosen.odds, count)
        while len(self._same) > KEEP:
            self._same.popitem(last=False)
        return True

    def gone(self, session: str) -> None:
        self._same.pop(session, None)

    def problems(self) -> list[str]:
        stuck = sum(count >= STUCK_TURNS for _, _, count in self._same.values())
        found = [f"{stuck} sessions put out the same for different inputs"] if stuck else []
        limit = self.now() - REMEMBER_S
        self._bad = {session: at for session, at in self._bad.items() if at > limit}
        return found + ([f"{len(self._bad)} sessions put out what is not a number"] if self._bad else [])
