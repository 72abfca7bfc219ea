"""Asks this machine's libraries whether they keep the promise, before anyone relies on it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from interplay.engine import exact
from interplay.engine.core import Append, Chosen, Engine
from interplay.model.transformer import Inputs, InteractionModel

TURNS = 5


@dataclass(frozen=True, slots=True)
class Report:
    """invariant: outputs do not depend on batch or slot. exact: nor on one by one against many at once, which is also
    how training computes. seconds: what asking took."""

    invariant: bool
    exact: bool
    seconds: float


def selftest(model: InteractionModel) -> Report:
    """Run the same few micro-turns alone, among others in another slot, and at once, and compare the bits."""
    began = time.perf_counter()
    rng = np.random.default_rng(0)
    bins = rng.integers(0, 16, (TURNS, 10, 80), dtype=np.uint8)
    noise = rng.integers(0, 16, (TURNS, 4, 10, 80), dtype=np.uint8)
    alone = _play(Engine(model, slots=1), "it", bins, [], noise)
    crowded = _play(Engine(model, slots=4), "it", bins, ["a", "b", "c"], noise)
    heard = torch.tensor([[chosen.heard for chosen in alone]])
    said = torch.tensor([[chosen.said for chosen in alone]])
    fed = [torch.cat([torch.zeros(1, 1, dtype=torch.int64), words[:, :-1]], 1) for words in (heard, said)]
    with torch.no_grad():
        out = exact.forward(model, Inputs(torch.from_numpy(bins)[None], fed[0], fed[1], heard))
    odds = [tuple(row) for row in out.decision[0].softmax(-1).tolist()]
    same = [c.odds for c in alone] == [c.odds for c in crowded]
    return Report(same, same and odds == [c.odds for c in alone], time.perf_counter() - began)


def _play(engine: Engine, name: str, bins: np.ndarray, others: list[str], noise: np.ndarray) -> list[Chosen]:
    for other in others:
        engine.open(session=other)
    engine.open(session=name)
    results = []
    for turn in range(TURNS):
        crowd = [Append(o, turn, noise[turn, i]) for i, o in enumerate(others[: 1 + turn])]
        results.append(engine.step([*crowd, Append(name, turn, bins[turn])])[-1])
    return results


def describe(report: Report) -> str:
    """One line for people."""
    if report.exact:
        return "bit for bit: alone, among others, at once, as in training"
    if report.invariant:
        return "bit for bit alone and among others; not against many micro-turns at once on this machine"
    return "outputs depend on the batch on this machine: all slots run in one fixed shape"


__all__ = ["Report", "describe", "selftest"]
