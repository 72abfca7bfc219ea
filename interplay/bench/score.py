"""What counts: the expected words, in their window, and nothing that nobody asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from interplay.bench.item import Due, Item
from interplay.bench.runner import Run
from interplay.bench.stats import wilson

WORD_PACE_S = 1.2  # the words of a phrase follow each other within this
BACKCHANNELS = frozenset(("mhm", "yeah", "right", "uh-huh", "mm", "okay", "hm"))


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
    assert item.expected is not None
    met, left = match(item.allowed, run.said)
    onset = met.get(item.expected, math.nan)
    middle = (item.expected.start + item.expected.end) / 2
    due = [d for d in item.allowed if d.end <= item.seconds]
    return Verdict(
        item.category,
        item.expected in met,
        tuple(word for word, _ in left),
        all(d in met for d in due) or len(met) == len(item.allowed),
        onset - middle,
    )


def match(dues: Sequence[Due], said: Sequence[tuple[str, float]]) -> tuple[dict[Due, float], list[tuple[str, float]]]:
    """Which dues were met (with the second of their first word), and the said words that belong to none."""
    left = list(said)
    met: dict[Due, float] = {}
    for due in sorted(dues, key=lambda d: d.start):
        found = _take(due, left)
        if found is not None:
            met[due] = found
    return met, left


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


def contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Do the words of `phrase` occur in `words` in this order (others may lie between)?"""
    rest = iter(words)
    return all(word in rest for word in phrase)


def talk(said: Sequence[tuple[str, float]], start: float, end: float) -> list[tuple[str, float]]:
    """Words that claim the floor, audible within [start, end): backchannels do not."""
    return [(word, t) for word, t in said if start <= t < end and word not in BACKCHANNELS]


def macro(rows: Sequence[dict[str, Any]], key: str = "right") -> tuple[float, tuple[float, float]]:
    """Mean over categories of the share of rows with `key`, in percent, with Wilson's interval for all items."""
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(row["category"], []).append(bool(row[key]))
    mean = sum(sum(g) / len(g) for g in groups.values()) / len(groups)
    low, high = wilson(mean * len(rows), len(rows))
    return 100 * mean, (100 * low, 100 * high)


def share(rows: Sequence[dict[str, Any]], key: str) -> tuple[float, tuple[float, float]]:
    """Share of rows with `key`, 0..1, with Wilson's interval. No rows: 0."""
    hits = sum(bool(row[key]) for row in rows)
    return hits / max(len(rows), 1), wilson(hits, len(rows))
