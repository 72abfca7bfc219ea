"""What one micro-turn costs, batch 1, one thread, through the foreground's public interface."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from interplay.bench.task import Result, Setup
from interplay.core.types import INPUT_SAMPLES, MicroTurnIn
from interplay.foreground.base import Foreground, ForegroundSpec


def run(setup: Setup) -> Result:
    times = 1e3 * asyncio.run(step_times(setup.mind, turns=max(setup.n, 300) + 20))
    p50, p99 = np.percentile(times, [50, 99])
    return Result(len(times), {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(times.max())})


async def step_times(foreground: Foreground, turns: int = 600) -> np.ndarray:
    """Seconds of each of `turns` micro-turns of one session, batch 1, the first 20 left out; the window fills up."""
    channel = await foreground.open(ForegroundSpec())
    audio = (np.random.default_rng(0).standard_normal(INPUT_SAMPLES * 20) * 0.05).astype(np.float32)
    times = []
    for turn in range(turns):
        slice_ = audio[(turn % 20) * INPUT_SAMPLES : (turn % 20 + 1) * INPUT_SAMPLES]
        began = time.perf_counter()
        await channel.step(MicroTurnIn(turn, slice_))
        times.append(time.perf_counter() - began)
    await channel.close()
    return np.array(times[20:])
