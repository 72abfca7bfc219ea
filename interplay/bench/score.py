"""What counts: the expected words, in their window, and nothing that nobody asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from interplay.bench.items import Due, Item
from interplay.bench.runner import Run

WORD_PACE_S = 1.2  # the words of a phrase follow each other within this


@dataclass(frozen=True, slots=True)
class Verdict:
    """hit: the expected response came in its window. extra: words nobody asked for. complete: every asked-for
    response came. onset_s: first word of the expected response minus the middle of its window; nan without a hit."""

    category: str
    hit: bool
    extra: tuple[str, ...]
    complete: bool
    onset_s: float

    @property
    def right(self) -> bool:
        return self.hit and not self.extra


def judge(item: Item, run: Run) -> Verdict:
    """Match what was said against what was asked for, in order of time; each said word counts once."""
    left = list(run.said)
    met: dict[Due, float] = {}
    for due in sorted(item.allowed, key=lambda d: d.start):
        found = _take(due, left)
        if found is not None:
            met[due] = found
    onset = met.get(item.expected, math.nan)
    middle = (item.expected.start + item.expected.end) / 2
    return Verdict(
        item.category,
        item.expected in met,
        tuple(word for word, _ in left),
        len(met) == len([d for d in item.allowed if d.end <= len(item.audio) / 16_000])
        or len(met) == len(item.allowed),
        onset - middle,
    )


def _take(due: Due, left: list[tuple[str, float]]) -> float | None:
    """Find the phrase with its first word in the window, remove it from `left`; the time of its first word."""
    for i, (word, time) in enumerate(left):
        if word == due.phrase[0] and due.start <= time <= due.end:
            part = left[i : i + len(due.phrase)]
            near = all(b[1] - a[1] <= WORD_PACE_S for a, b in pairwise(part))
            if tuple(w for w, _ in part) == due.phrase and near:
                del left[i : i + len(part)]
                return time
    return None


def macro(verdicts: list[Verdict]) -> tuple[float, tuple[float, float]]:
    """Mean over categories of the share of right items, in percent, with a 95 % normal interval over items."""
    groups: dict[str, list[bool]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.category, []).append(verdict.right)
    shares = [sum(g) / len(g) for g in groups.values()]
    mean = sum(shares) / len(shares)
    variance = sum(p * (1 - p) / len(g) for p, g in zip(shares, groups.values(), strict=True)) / len(shares) ** 2
    half = 1.96 * math.sqrt(variance)
    return 100 * mean, (100 * max(0.0, mean - half), 100 * min(1.0, mean + half))
