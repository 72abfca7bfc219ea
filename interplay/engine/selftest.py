"""Asks this machine's libraries whether they keep the promise, before anyone relies on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interplay.engine import exact
from interplay.engine.clocked import Clocked
from interplay.engine.core import Append, Chosen, Engine, Opening
from interplay.engine.state import FRAME
from interplay.model.transformer import Inputs, InteractionModel

TURNS = 5
CROWD = 4

log = logging.getLogger("interplay.engine")


@dataclass(frozen=True, slots=True)
class Report:
    """invariant: outputs do not depend on batch or slot. exact: nor on one by one against many at once, which is also
    how training computes. seconds: what asking took."""

    invariant: bool
    exact: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For /health."""
        return {"invariant": self.invariant, "exact": self.exact, "text": describe(self)}


def selftest(model: InteractionModel) -> Report:
    """Run the same few micro-turns alone, among others in another slot, and at once, and compare the bits; with eyes
    also in sessions with video."""
    began = time.perf_counter()
    eyes = model.config.glances > 0
    engine = Engine(model, slots=CROWD, video_slots=CROWD if eyes else 0)  # one for all: arranging weights takes time
    found = [_ask(model, engine, video) for video in ((False, True) if eyes else (False,))]
    return Report(all(f[0] for f in found), all(f[1] for f in found), time.perf_counter() - began)


def _ask(model: InteractionModel, engine: Engine, video: bool) -> tuple[bool, bool]:
    """Whether outputs are invariant, and whether exact."""
    rng = np.random.default_rng(0)
    bins = rng.integers(0, 16, (TURNS, 10, 80), dtype=np.uint8)
    noise = rng.integers(0, 16, (TURNS, 4, 10, 80), dtype=np.uint8)
    frames = rng.integers(0, 256, (TURNS, *FRAME), dtype=np.uint8) if video else None
    alone = _play(engine, "it", bins, frames, [], noise)
    crowded = _play(engine, "it", bins, frames, ["a", "b", "c"], noise)
    heard = torch.tensor([[chosen.heard for chosen in alone]])
    said = torch.tensor([[chosen.said for chosen in alone]])
    fed = [torch.cat([torch.zeros(1, 1, dtype=torch.int64), words[:, :-1]], 1) for words in (heard, said)]
    seen = None if frames is None else torch.from_numpy(frames)[None]
    with torch.no_grad():
        out = exact.forward(model, Inputs(torch.from_numpy(bins)[None], fed[0], fed[1], heard, frames=seen))
    odds = [tuple(row) for row in out.decision[0].softmax(-1).tolist()]
    same = [c.odds for c in alone] == [c.odds for c in crowded]
    return same, same and odds == [c.odds for c in alone]


def _play(
    engine: Engine, name: str, bins: np.ndarray, frames: np.ndarray | None, others: list[str], noise: np.ndarray
) -> list[Chosen]:
    video = frames is not None
    for other in others:
        engine.open(Opening(video=video), other)
    engine.open(Opening(video=video), name)
    results = []
    for turn in range(TURNS):
        frame = None if frames is None else frames[turn]
        crowd = [Append(o, turn, noise[turn, i], frame=frame) for i, o in enumerate(others[: 1 + turn])]
        results.append(engine.step([*crowd, Append(name, turn, bins[turn], frame=frame)])[-1])
    for session in (*others, name):
        engine.close(session)
    return results


def describe(report: Report) -> str:
    """One line for people."""
    if report.exact:
        return "bit for bit: alone, among others, at once, as in training"
    if report.invariant:
        return "bit for bit alone and among others; not against many micro-turns at once on this machine"
    return "outputs depend on the batch on this machine: all slots run in one fixed shape"


def assemble(
    model: InteractionModel,
    *,
    slots: int,
    video_slots: int = 0,
    floor: int = 1,
    make: Callable[[bool], Engine] | None = None,
) -> Clocked:
    """An engine on a clock, after asking this machine's libraries: in the fixed shape if they do not keep the promise.

    make(fixed): the engine, default: one in this process's own memory. The report is in `Clocked.health`.
    """
    report = selftest(model)
    if make is None:
        engine = Engine(model, slots=slots, video_slots=video_slots, fixed=not report.invariant)
    else:
        engine = make(not report.invariant)
    level = logging.INFO if report.exact else logging.WARNING
    log.log(level, "self-test in %.1f s: %s", report.seconds, describe(report))
    return Clocked(engine, floor=floor, report=report.as_dict())


__all__ = ["Report", "assemble", "describe", "selftest"]
