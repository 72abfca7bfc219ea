"""When a repeated movement is where in its cycle: bouts of repetitions with jitter, pauses and a drifting pace."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Repetitions in time. starts, ends: seconds, ascending, one of each per repetition; between them there is rest."""

    starts: tuple[float, ...]
    ends: tuple[float, ...]

    def phase(self, time: float) -> float:
        """Where in its cycle the movement is: 0 at rest, rising from 0 to 1 within a repetition."""
        i = bisect_right(self.starts, time) - 1
        if i < 0 or time >= self.ends[i]:
            return 0.0
        return (time - self.starts[i]) / (self.ends[i] - self.starts[i])

    def index(self, time: float) -> int:
        """Which repetition is under way or was the last one; -1 before the first."""
        return bisect_right(self.starts, time) - 1

    def activity(self, time: float, ramp: float = 0.25) -> float:
        """1 within a bout (pauses below a second included), 0 at rest, with ramps of `ramp` seconds outside it."""
        if not self.starts:
            return 0.0
        i = max(0, bisect_right(self.starts, time) - 1)
        since = max(0.0, time - self.ends[i]) if time >= self.starts[i] else 9.0
        ahead = self.starts[0] if time < self.starts[0] else (self.starts[i + 1] if i + 1 < len(self.starts) else 1e9)
        if time < self.starts[0]:
            since = 9.0
        if since + max(0.0, ahead - time) < 1.0:
            return 1.0
        nearest = min(since, max(0.0, ahead - time))
        return max(0.0, 1.0 - nearest / ramp)


NOTHING = Rhythm((), ())


def repetitions(
    rng: random.Random, start: float, until: float, count: int, period: float, *, pauses: float = 0.0
) -> Rhythm:
    """At most `count` repetitions of about `period` seconds from `start` on, none of them ending after `until`.

    Every repetition takes up to 15 % more or less, the pace drifts by up to 20 %. pauses: how likely a rest of 0.3 to
    2 s is after a repetition.
    """
    drift = rng.uniform(-0.2, 0.2) if rng.random() < 0.5 else 0.0
    jitter = rng.choice((0.0, 0.05, 0.15))
    starts, ends, time = [], [], start
    for i in range(count):
        length = period * (1 + drift * i / max(count, 1)) * (1 + rng.uniform(-jitter, jitter))
        if time + max(length, 0.55) > until:
            break
        starts.append(time)
        time += max(length, 0.55)
        ends.append(time)
        if rng.random() < pauses:
            time += rng.uniform(0.3, 2.0)
    return Rhythm(tuple(starts), tuple(ends))


def join(parts: list[Rhythm]) -> Rhythm:
    """Several bouts, which must not overlap and come in order."""
    return Rhythm(tuple(t for p in parts for t in p.starts), tuple(t for p in parts for t in p.ends))


@dataclass(frozen=True, slots=True)
class Stroke:
    """The shape of one repetition: out, hold, back, rest. hold, rest: their share of the cycle. skew: how much slower
    the way out is than the way back, -0.3 .. 0.3."""

    hold: float = 0.0
    rest: float = 0.0
    skew: float = 0.0

    @classmethod
    def random(cls, rng: random.Random) -> Stroke:
        return cls(rng.choice((0.0, 0.0, 0.1, 0.25)), rng.choice((0.0, 0.05, 0.15)), rng.uniform(-0.2, 0.2))

    def excursion(self, phase: float) -> float:
        """0 at rest, 1 fully out, smooth."""
        moving = 1 - self.hold - self.rest
        out = moving * (0.5 + self.skew / 2)
        if phase < out:
            return 0.5 - 0.5 * math.cos(math.pi * phase / out)
        if phase < out + self.hold:
            return 1.0
        if phase < 1 - self.rest:
            return 0.5 + 0.5 * math.cos(math.pi * (phase - out - self.hold) / (moving - out))
        return 0.0
