"""What one micro-turn costs, batch 1, one thread on one core, through the foreground's public interface."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import numpy as np

from interplay.bench.task import Result, Setup
from interplay.core.types import INPUT_SAMPLES, MicroTurnIn
from interplay.foreground.base import Foreground, ForegroundSpec


def run(setup: Setup) -> Result:
    with one_core() as core:
        whole, model = asyncio.run(step_times(setup.mind, turns=max(setup.n, 300) + 20))
    p50, p99 = np.percentile(1e3 * whole, [50, 99])
    metrics = {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(1e3 * whole.max())}
    if len(model):
        metrics["model_p50_ms"] = float(np.median(1e3 * model))
    return Result(len(whole), metrics, notes={"core": "any" if core is None else core})


@contextmanager
def one_core() -> Iterator[int | None]:
    """Keep this thread, and those it starts, on one core: a step of ten milliseconds that wakes up on another core pays
    a tenth more for the scheduler's choice. Yields the core, None where the system cannot be told."""
    try:
        allowed = os.sched_getaffinity(0)
        core = max(allowed)
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)


async def step_times(foreground: Foreground, turns: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each of `turns` micro-turns of one session, batch 1, the first 20 left out; the window fills up.

    Returns what the caller waited, and what the model's own step took of it (empty where the foreground does not say).
    """
    begin: Callable[[], Awaitable[None]] | None = getattr(foreground, "begin_tracing", None)
    if begin is not None:
        await begin()
    channel = await foreground.open(ForegroundSpec())
    audio = (np.random.default_rng(0).standard_normal(INPUT_SAMPLES * 20) * 0.05).astype(np.float32)
    whole, model = [], []
    for turn in range(turns):
        slice_ = audio[(turn % 20) * INPUT_SAMPLES : (turn % 20 + 1) * INPUT_SAMPLES]
        began = time.perf_counter()
        await channel.step(MicroTurnIn(turn, slice_))
        whole.append(time.perf_counter() - began)
        if (times := getattr(channel, "times", None)) is not None:
            model.append(times["ended"] - times["began"])
    await channel.close()
    return np.array(whole[20:]), np.array(model[20:])
