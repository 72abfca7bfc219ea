"""95 % intervals: Wilson's for shares, the percentile bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Z = 1.959964
RESAMPLES = 2000


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Interval of a share of `hits` in `n` (Wilson 1927); (0, 1) for n = 0. It does not collapse at 0 and 1."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    values: Sequence[float] | np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] = lambda x: x.mean(1)
) -> tuple[float, float]:
    """Interval of a statistic of `values` (Efron's percentile bootstrap, seeded).

    values: (n,) or (n, k). statistic: (resamples, n) or (resamples, n, k) -> (resamples,). (nan, nan) for n < 2.
    """
    if len(values) < 2:
        return math.nan, math.nan
    data = np.asarray(values, float)
    drawn = data[np.random.default_rng(0).integers(0, len(data), (RESAMPLES, len(data)))]
    low, high = np.percentile(statistic(drawn), [2.5, 97.5])
    return float(low), float(high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    return bootstrap(values, lambda x: np.median(x, axis=1))


def mean(values: Sequence[float]) -> float:
    """nan for none."""
    return float(np.mean(values)) if len(values) else math.nan


def median(values: Sequence[float]) -> float:
    """nan for none."""
    return float(np.median(values)) if len(values) else math.nan
