"""Both clocks keep session time; the real one does so when the machine does not keep up."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from interplay.core.clock import RealClock, SimulatedClock
from interplay.core.histogram import Histogram


async def test_real_ticks_come_when_the_slice_is_complete() -> None:
    clock = RealClock()
    clock.start()
    began = time.monotonic()
    for turn in range(5):
        tick = await clock.tick(turn)
        assert tick.turn == turn and tick.skipped == 0
        assert time.monotonic() - began == pytest.approx((turn + 1) * 0.2, abs=0.12)
        assert clock.now() >= (turn + 1) * 0.2 - 1e-3 and 0 <= tick.lateness_s < 0.12


async def test_a_late_tick_runs_at_once_and_catches_up() -> None:
    clock = RealClock()
    clock.start()
    await clock.tick(0)
    await asyncio.sleep(0.65)  # three slices late
    began = time.monotonic()
    ticks = [await clock.tick(turn) for turn in (1, 2, 3)]
    assert time.monotonic() - began < 0.05 and [t.skipped for t in ticks] == [0, 0, 0]
    assert ticks[0].lateness_s > 0.4 > ticks[2].lateness_s
    await clock.tick(4)
    assert clock.now() == pytest.approx(1.0, abs=0.12)


async def test_too_far_behind_jumps_to_the_newest_complete_slice() -> None:
    now = [100.0]
    clock = RealClock(time_fn=lambda: now[0])
    clock.start()
    now[0] += 3.05  # slices 0 .. 14 are complete
    tick = await clock.tick(0)
    assert (tick.turn, tick.skipped) == (14, 14) and tick.lateness_s == pytest.approx(0.05)
    assert (await clock.tick(14)).skipped == 0


async def test_simulated_time_is_exact_and_leaves_room_for_others() -> None:
    clock, others = SimulatedClock(), 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for turn in range(1_000):
        assert (await clock.tick(turn)).turn == turn
    task.cancel()
    assert clock.now() == pytest.approx(200.0) and others >= 999


def test_percentiles_in_fixed_memory() -> None:
    histogram, rng = Histogram(), np.random.default_rng(0)
    values = rng.lognormal(-5, 1, 20_000)
    size = len(histogram.counts)
    for value in values:
        histogram.add(float(value))
    for p in (50, 90, 99):
        assert histogram.percentile(p) == pytest.approx(np.percentile(values, p), rel=0.06)
    assert histogram.max == values.max() and len(histogram.counts) == size
    assert histogram.ms()["n"] == 20_000 and Histogram().percentile(50) == 0.0
    histogram.add(0.0)
    histogram.add(1e9)
