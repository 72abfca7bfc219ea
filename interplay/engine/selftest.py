"""Asks this machine's libraries whether they keep the promise, before anyone relies on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from interplay.core.types import BadInput
from interplay.engine import device as devices
from interplay.engine import exact
from interplay.engine.clocked import Clocked
from interplay.engine.core import Append, Chosen, Engine, Opening
from interplay.engine.state import FRAME
from interplay.model.transformer import Inputs, InteractionModel

TURNS = 5
CROWD = 4
IT = "it"  # the session whose bits are compared

log = logging.getLogger("interplay.engine")


@dataclass(frozen=True, slots=True)
class Report:
    """invariant: outputs do not depend on batch or slot. exact: nor on one by one against many at once, which is also
    how training computes. seconds: what asking took. device: where. recorded: whether steps are replayed as CUDA
    graphs, to the same bits as unrecorded; None where that is not asked. fixed: whether what was asked has one fixed
    shape.
    """

    invariant: bool
    exact: bool
    seconds: float
    device: str = "cpu"
    recorded: bool | None = None
    fixed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For /health."""
        told = {"invariant": self.invariant, "exact": self.exact, "text": describe(self), "device": self.device}
        return told if self.recorded is None else told | {"recorded": self.recorded}


def selftest(model: InteractionModel, engine: Engine | None = None) -> Report:
    """Run the same few micro-turns alone, among others in another slot, and at once, and compare the bits; with eyes
    also in sessions with video. engine: an empty one of this model to ask, default: a small one on this machine's CPU.

    One of fixed shape is asked in its own size, in its last slot and in all of them at once. On CUDA it is asked
    unrecorded too; where that is not the same, its graphs are left unused from then on.
    """
    began = time.perf_counter()
    eyes = model.config.glances > 0
    if engine is None:  # one for all: arranging weights takes time
        engine = Engine(model, slots=CROWD, video_slots=CROWD if eyes else 0)
    ways = [(False, False)]
    if engine.video is not None:
        ways += [(True, True), (True, False)] if engine.fixed else [(True, True)]  # another shape: a frame left out
    found = [_ask(engine, video, seen) for video, seen in ways]
    players = [pool.player for pool in engine.pools if pool.player is not None]
    recorded = all(player.record for player in players) if engine.device.type == "cuda" and engine.record else None
    took = time.perf_counter() - began
    invariant, exact = all(f[0] for f in found), all(f[1] for f in found)
    return Report(invariant, exact, took, str(engine.device), recorded, engine.fixed)


def _ask(engine: Engine, video: bool, seen: bool) -> tuple[bool, bool]:
    """Whether outputs are invariant, and whether exact, in sessions with video or without, with frames or without."""
    rng = np.random.default_rng(0)
    bins = rng.integers(0, 16, (TURNS, 10, 80), dtype=np.uint8)
    noise = rng.integers(0, 16, (TURNS, 4, 10, 80), dtype=np.uint8)
    frames = rng.integers(0, 256, (TURNS, *FRAME), dtype=np.uint8) if seen else None
    pool = engine.video if video and engine.video is not None else engine.audio
    play = partial(_play, engine, video, bins, frames)
    alone = play([], noise)
    if (player := pool.player) is not None and player.record:
        player.record = False
        recorded, alone = alone, play([], noise)
        player.record = recorded == alone
        if not player.record:
            log.warning("a step that is replayed differs from one that is not on this machine: nothing is replayed")
    others = [f"other {i}" for i in range((pool.slots if engine.fixed else CROWD) - 1)]
    crowded = play(others, noise)
    same = crowded[-1] == alone[-1]
    if engine.fixed:  # then a slot may be what matters: the same session in each of them
        everywhere = play(others, np.repeat(bins[:, None], 4, 1), together=True)
        same = same and all(one == alone[-1] for one in everywhere)
    # A session with video whose frames are left out is nothing that is trained on.
    return same, same and (video != seen or _at_once(engine, bins, frames, alone[-1]))


def _at_once(engine: Engine, bins: np.ndarray, frames: np.ndarray | None, alone: list[Chosen]) -> bool:
    """Whether a whole scene in one pass has the odds that were stepped to."""
    device = engine.device
    heard = torch.tensor([[chosen.heard for chosen in alone]], device=device)
    said = torch.tensor([[chosen.said for chosen in alone]], device=device)
    fed = [torch.cat([torch.zeros_like(words[:, :1]), words[:, :-1]], 1) for words in (heard, said)]
    seen = None if frames is None else torch.from_numpy(frames)[None].to(device)
    with torch.no_grad():
        scene = Inputs(torch.from_numpy(bins)[None].to(device), fed[0], fed[1], heard, frames=seen)
        out = exact.forward(engine.model, scene)
    return [tuple(row) for row in out.decision[0].softmax(-1).tolist()] == [c.odds for c in alone]


def _play(
    engine: Engine,
    video: bool,
    bins: np.ndarray,
    frames: np.ndarray | None,
    others: list[str],
    noise: np.ndarray,
    *,
    together: bool = False,
) -> list[list[Chosen]]:
    """Results of `others` and of `IT`, which sits in the last slot of them, without names. together: all of them are
    there in every micro-turn; else one more in each."""
    everybody = [*others, IT]
    for session in everybody:
        engine.open(Opening(video=video), session)
    results: dict[str, list[Chosen]] = {session: [] for session in everybody}
    for turn in range(TURNS):
        frame = None if frames is None else frames[turn]
        there = others if together else others[: 1 + turn]
        crowd = [Append(o, turn, noise[turn, i % 4], frame=frame) for i, o in enumerate(there)]
        for chosen in engine.step([*crowd, Append(IT, turn, bins[turn], frame=frame)]):
            results[chosen.session].append(replace(chosen, session=""))
    for session in everybody:
        engine.close(session)
    return list(results.values())


def describe(report: Report) -> str:
    """One line for people."""
    if report.device != "cpu" or report.fixed:
        return _describe_fixed(report)
    if report.exact:
        return "bit for bit: alone, among others, at once, as in training"
    if report.invariant:
        return "bit for bit alone and among others; not against many micro-turns at once on this machine"
    return "outputs depend on the batch on this machine: all slots run in one fixed shape"


def _describe_fixed(report: Report) -> str:
    where = f"on {report.device}, all slots in one fixed shape"
    how = {None: "", True: ", replayed as CUDA graphs", False: ", not as CUDA graphs, which do not work here"}
    if report.exact:
        kept = "bit for bit: alone, among others, in any slot, at once, as in training"
    elif report.invariant:
        kept = "bit for bit alone, among others and in any slot; not as in training on this machine"
    else:
        kept = "outputs depend on slot or neighbours on this machine: nothing is promised"
    return f"{where}{how[report.recorded]}: {kept}"


def assemble(
    model: InteractionModel,
    *,
    slots: int,
    video_slots: int = 0,
    floor: int = 1,
    make: Callable[[bool], Engine] | None = None,
    device: str | None = None,
) -> Clocked:
    """An engine on a clock, after asking this machine's libraries: in the fixed shape if they do not keep the promise.

    make(fixed): the engine, default: one in this process's own memory. device: see `device.choose`; on CUDA the very
    engine that will serve is asked. The report is in `Clocked.health`. Raises BadInput for a device that is not there,
    or that `make` cannot have.
    """
    where = devices.choose(device)
    if where.type != "cpu":
        if make is not None:
            raise BadInput(devices.NOT_ALONE)
        engine = Engine(model, slots=slots, video_slots=video_slots, device=where)
        report = selftest(model, engine)
        engine.at_once = report.exact
    else:
        report = selftest(model)
        fixed = not report.invariant
        engine = Engine(model, slots=slots, video_slots=video_slots, fixed=fixed) if make is None else make(fixed)
    level = logging.INFO if report.exact else logging.WARNING
    log.log(level, "self-test in %.1f s: %s", report.seconds, describe(report))
    return Clocked(engine, floor=floor, report=report.as_dict())


__all__ = ["Report", "assemble", "describe", "selftest"]
