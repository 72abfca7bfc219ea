"""Two engine replicas on a real local Ray cluster, and what becomes of live sessions when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from interplay.core.types import MICRO_TURN_S, Missing
from interplay.engine.core import Append, Chosen, Engine, Opening
from interplay.engine.errors import EngineError
from interplay.model import checkpoint as checkpoints


def survive(checkpoint: Path, sessions: int, turns: int, seed: int) -> dict[str, float]:
    """`sessions` at the pace of real time on two replicas; a third of the way through, one replica gets SIGKILL.

    A session has resumed if every micro-turn of it was answered, with the bits of a session that nothing happened to.
    Its gap is the longest time between two of its answers.
    """
    try:
        from interplay.engine.ray_local import local_cluster
    except ImportError as error:
        raise Missing('the row ray needs Ray; get it with: pip install "interplay[ray]"') from error
    with local_cluster():
        return asyncio.run(_survive(checkpoint, sessions, turns, seed))


async def _survive(checkpoint: Path, sessions: int, turns: int, seed: int) -> dict[str, float]:
    from ray import serve

    from interplay.engine.ray_serve import RayEngine, application

    began = time.monotonic()
    serve.start(proxy_location="Disabled")
    app = application(str(checkpoint), sessions, 2, {"ray_actor_options": {"num_cpus": 0.5}})
    engine = RayEngine(await asyncio.to_thread(serve.run, app, name="bench"))
    started_s = time.monotonic() - began
    try:
        return {"start_s": started_s, **await _kill_one(engine, checkpoint, sessions, turns, seed)}
    finally:
        await asyncio.to_thread(serve.shutdown)


async def _kill_one(engine: Any, checkpoint: Path, sessions: int, turns: int, seed: int) -> dict[str, float]:
    inputs = np.random.default_rng(seed).integers(0, 16, (64, 10, 80), dtype=np.uint8)
    openings = [Opening(prefix=(1 + row % 5,), threshold=0.4) for row in range(sessions)]
    names = [await engine.open(opening, realtime=False) for opening in openings]
    where = [(await engine.whereabouts(name))["pid"] for name in names]
    placed = sorted(where.count(pid) for pid in set(where))
    victim, kill_at = where[0], turns // 3
    gaps, lost = [0.0] * sessions, 0
    answers: list[dict[int, Chosen]] = [{} for _ in names]
    killed_at = [0.0]

    async def live(row: int) -> None:
        nonlocal lost
        before, start = time.monotonic(), time.monotonic()
        for turn in range(turns):
            try:
                answers[row][turn] = await engine.append(Append(names[row], turn, inputs[(turn + row) % 64]))
            except EngineError:
                lost += 1
                return
            now = time.monotonic()
            gaps[row], before = max(gaps[row], now - before), now
            if turn == kill_at and row == 0:
                os.kill(victim, signal.SIGKILL)
                killed_at[0] = time.monotonic()
            await asyncio.sleep(max(0.0, start + (turn + 1) * MICRO_TURN_S - time.monotonic()))

    await asyncio.gather(*(live(row) for row in range(sessions)))
    truth = await asyncio.to_thread(_alone, checkpoint, openings, inputs, turns)
    intact = [
        all(_same(answers[row].get(turn), truth[row][turn]) for turn in range(turns)) for row in range(sessions)
    ]
    hit = [gaps[row] for row in range(sessions) if where[row] == victim]
    for name in names:
        await engine.close(name)
    return {
        "sessions": float(sessions),
        "replicas": float(len(placed)),
        "on_the_killed": float(where.count(victim)),
        "moves": float(engine.resumed),
        "intact": float(sum(intact)),
        "lost": float(lost),
        "gap_p99_s": float(np.quantile(gaps, 0.99)),
        "gap_of_the_killed_p50_s": float(np.median(hit)),
        "gap_of_the_killed_max_s": max(hit),
    }


def _alone(checkpoint: Path, openings: list[Opening], inputs: np.ndarray, turns: int) -> list[list[Chosen]]:
    model, _, _ = checkpoints.load(checkpoint)
    told = []
    for row, opening in enumerate(openings):
        engine = Engine(model, slots=1)
        name = engine.open(opening)
        told.append([engine.step([Append(name, turn, inputs[(turn + row) % 64])])[0] for turn in range(turns)])
    return told


def _same(a: Chosen | None, b: Chosen) -> bool:
    return a is not None and (a.heard, a.said, a.decision, a.odds) == (b.heard, b.said, b.decision, b.odds)
