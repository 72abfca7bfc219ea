"""Being on time with nothing in it is a failure too: watches what comes out, not only when."""

from __future__ import annotations

import math
from collections import OrderedDict

from interplay.engine.core import Chosen

STUCK_TURNS = 15  # 3 s of different inputs with identical outputs: nobody computes here
KEEP = 256


class Watch:
    """Counts outputs that are no outputs. `problems` names what is wrong now, for /health."""

    def __init__(self) -> None:
        self.broken = 0  # outputs that were not numbers
        self._same: OrderedDict[str, tuple[int, tuple[float, ...], int]] = OrderedDict()

    def saw(self, chosen: Chosen, digest: int) -> bool:
        """Note one output; digest: of its input. False if it must not be delivered."""
        if not all(math.isfinite(odd) for odd in chosen.odds):
            self.broken += 1
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
        return found + ([f"{self.broken} outputs were not numbers"] if self.broken else [])
