"""Durations in fixed memory: a session of any length reports its percentiles from the same few hundred counters."""

from __future__ import annotations

import math

LOWEST_S = 1e-6
BUCKETS_PER_DECADE = 48  # neighbouring buckets differ by 4.9 %
DECADES = 9  # 1 us .. 1000 s
STEP = 10 ** (1 / BUCKETS_PER_DECADE)


class Histogram:
    """Log-spaced counters of durations in seconds. Percentiles are exact to one bucket (4.9 %), `max` exactly."""

    def __init__(self) -> None:
        self.counts = [0] * (BUCKETS_PER_DECADE * DECADES + 1)
        self.n = 0
        self.total = 0.0
        self.max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; what is outside 1 us .. 1000 s counts as the nearest end."""
        bucket = int(math.log10(max(seconds, LOWEST_S) / LOWEST_S) * BUCKETS_PER_DECADE)
        self.counts[min(bucket, len(self.counts) - 1)] += 1
        self.n += 1
        self.total += seconds
        self.max = max(self.max, seconds)

    def percentile(self, p: float) -> float:
        """Seconds below which `p` percent of the durations lie; 0.0 when nothing was counted."""
        if not self.n:
            return 0.0
        rank, seen = max(1, math.ceil(self.n * p / 100)), 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= rank:
                return min(LOWEST_S * STEP ** (bucket + 1), self.max)
        return self.max

    def ms(self) -> dict[str, float]:
        """`p50_ms`, `p99_ms`, `max_ms` and `n`, for a metrics record."""
        return {
            "p50_ms": round(self.percentile(50) * 1e3, 3),
            "p99_ms": round(self.percentile(99) * 1e3, 3),
            "max_ms": round(self.max * 1e3, 3),
            "n": self.n,
        }
