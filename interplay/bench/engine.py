"""What the engine holds: sessions on one compute core, flatness over half an hour, what it saves.

    interplay bench engine [--option minutes=10] [--option sessions=32] [--option age_minutes=30] [--option plot=F.png]

The soak runs the compute process as it is deployed, fed over its socket by this process. A loop that only sleeps and
notes how late it woke runs beside it: what it misses, the machine missed, not the engine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interplay.bench.task import Result, Setup
from interplay.core.histogram import Histogram
from interplay.core.types import MICRO_TURN_S, BadInput
from interplay.engine.core import Append, Engine
from interplay.engine.errors import EngineError, Overloaded
from interplay.engine.remote import RemoteEngine
from interplay.engine.selftest import selftest
from interplay.model import checkpoint as checkpoints
from interplay.model.transformer import Inputs, InteractionModel

AGES_S = (10, 30, 60, 120, 180, 240, 300)
MISS_SHARE = 0.001
NOOP = """
import json, sys, time
period, seconds = float(sys.argv[1]), float(sys.argv[2])
start, late = time.monotonic(), []
for tick in range(1, int(seconds / period) + 1):
    time.sleep(max(0.0, start + tick * period - time.monotonic()))
    late.append(time.monotonic() - start - tick * period)
late.sort()
print(json.dumps({"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "max": late[-1],
                  "missed": sum(x > period for x in late) / len(late)}))
"""


def run(setup: Setup) -> Result:
    torch.set_num_threads(1)
    model, _, _ = checkpoints.load(setup.checkpoint or checkpoints.default_checkpoint())
    sessions = int(setup.number("sessions", 32, least=1))
    minutes, age = setup.number("minutes", 10), setup.number("age_minutes", 30)
    report = selftest(model)
    metrics: dict[str, float] = {
        "bits_alone_and_crowded": float(report.invariant),
        "bits_as_in_training": float(report.exact),
    }
    metrics |= batch_gain(model, setup.seed)
    curve = reprefill(model, setup.seed, setup.advance)
    metrics |= {f"reprefill_{name}": value for name, value in ratios(curve).items()}
    flat = flatness(model, setup.seed, age)
    metrics |= {"flatness": flat["last_ms"] / flat["first_ms"], **{f"flatness_{k}": v for k, v in flat.items()}}
    notes: dict[str, Any] = {"ages": curve}
    if minutes:
        held = asyncio.run(soak(setup.checkpoint, sessions, minutes * 60, setup.seed))
        metrics |= {f"soak_{name}": value for name, value in held.items()}
        metrics["sessions_at_0p1"] = held["sessions"] if held["miss_rate"] <= MISS_SHARE else float("nan")
    if "plot" in setup.options:
        draw(curve, Path(setup.options["plot"]))
    return Result(sessions, metrics, notes=notes)


def cpu_ms(do: Callable[[], object]) -> float:
    """CPU milliseconds of this thread: what the machine does beside it does not count."""
    began = time.thread_time()
    do()
    return 1e3 * (time.thread_time() - began)


class Crowd:
    """Sessions of an engine that hear noise, all stepped together."""

    def __init__(self, model: InteractionModel, count: int, seed: int) -> None:
        self.engine = Engine(model, slots=count)
        self.names = [self.engine.open() for _ in range(count)]
        self.bins = np.random.default_rng(seed).integers(0, 16, (64, 10, 80), dtype=np.uint8)
        self.turn = 0

    def step(self) -> None:
        bins = [self.bins[(self.turn + i) % 64] for i in range(len(self.names))]
        self.engine.step([Append(name, self.turn, b) for name, b in zip(self.names, bins, strict=True)])
        self.turn += 1


def batch_gain(model: InteractionModel, seed: int, count: int = 16, repeats: int = 40) -> dict[str, float]:
    """How much cheaper one step of 16 is than 16 steps of one; the two measured in turn."""
    many, single = Crowd(model, count, seed), Crowd(model, 1, seed)
    for _ in range(5):
        many.step()
        single.step()
    together, alone = [], []
    for _ in range(repeats):
        together.append(cpu_ms(many.step))
        alone += [cpu_ms(single.step) for _ in range(4)]
    a, b = statistics.median(alone), statistics.median(together)
    return {"batch_gain": count * a / b, "step_1_cpu_ms": a, f"step_{count}_cpu_ms": b}


def reprefill(model: InteractionModel, seed: int, advance: Callable[..., None]) -> list[dict[str, float]]:
    """CPU of one micro-turn by age: the engine's step, and the whole conversation so far through the same model;
    and, cheaper and with other outputs, only the window of it."""
    rng, rows = np.random.default_rng(seed), []
    crowd = Crowd(model, 1, seed)
    window = model.config.window
    for age in AGES_S:
        turns = round(age / MICRO_TURN_S)
        while crowd.turn < turns:
            crowd.step()
        step = statistics.median(cpu_ms(crowd.step) for _ in range(15))
        whole, part = (
            statistics.median(cpu_ms(lambda n=n: _forward(model, rng, n)) for _ in range(3))
            for n in (turns, min(turns, window))
        )
        rows.append({"age_s": float(age), "step_ms": step, "whole_ms": whole, "window_ms": part})
        advance(1, total=len(AGES_S))
    return rows


@torch.no_grad()
def _forward(model: InteractionModel, rng: np.random.Generator, turns: int) -> None:
    bins = torch.from_numpy(rng.integers(0, 16, (1, turns, 10, 80), dtype=np.uint8))
    words = torch.zeros(1, turns, dtype=torch.int64)
    model(Inputs(bins, words, words, words))


def ratios(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of a session's whole life, so averaged over its ages, and at its end."""
    ages = np.array([0.0, *(row["age_s"] for row in rows)])
    means = {}
    for name in ("step_ms", "whole_ms", "window_ms"):
        values = np.array([0.0 if name != "step_ms" else rows[0][name], *(row[name] for row in rows)])
        means[name] = float(((values[1:] + values[:-1]) / 2 * np.diff(ages)).sum() / ages[-1])
    return {
        "ratio": means["whole_ms"] / means["step_ms"],
        "ratio_at_end": rows[-1]["whole_ms"] / rows[-1]["step_ms"],
        "ratio_window_only": means["window_ms"] / means["step_ms"],
    }


def flatness(model: InteractionModel, seed: int, minutes: float, batch: int = 1) -> dict[str, float]:
    """Median CPU of a step in minute 1 and in the last minute of `minutes`, the same sessions all along."""
    if minutes < 2:
        raise BadInput("--option age_minutes: at least 2, to compare the last minute with the first")
    crowd, per_minute = Crowd(model, batch, seed), round(60 / MICRO_TURN_S)
    first = [cpu_ms(crowd.step) for _ in range(per_minute)]
    for _ in range(round((minutes - 2) * per_minute)):
        crowd.step()
    last = [cpu_ms(crowd.step) for _ in range(per_minute)]
    return {"first_ms": statistics.median(first), "last_ms": statistics.median(last), "minutes": minutes}


async def soak(checkpoint: Path | None, sessions: int, seconds: float, seed: int) -> dict[str, float]:
    """`sessions` in real time on the compute process for so long. A micro-turn is missed if its result is not back
    here when the next one is due, or never comes."""
    with tempfile.TemporaryDirectory(prefix="interplay-") as folder:
        engine = await RemoteEngine.connect(Path(folder), checkpoint=checkpoint, slots=sessions, spare=False)
        try:
            return await _soak(engine, sessions, seconds, seed)
        finally:
            await engine.shut_down()


async def _soak(engine: RemoteEngine, sessions: int, seconds: float, seed: int) -> dict[str, float]:
    bins = np.random.default_rng(seed).integers(0, 16, (256, 10, 80), dtype=np.uint8)
    names, refused = [], 0
    for _ in range(sessions):
        try:
            names.append(await engine.open())
        except Overloaded:
            refused += 1
        for name in names[-1:]:  # a few micro-turns, so that admission knows what a step costs
            await engine.append(Append(name, 0, bins[0]))
    noop = subprocess.Popen(
        [sys.executable, "-c", NOOP, str(MICRO_TURN_S), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    turnaround, sent_late, missed, due = Histogram(), Histogram(), 0, 0

    async def one(name: str, turn: int, at: float, row: int) -> None:
        nonlocal missed
        try:
            await engine.append(Append(name, turn, bins[(turn + row) % 256]))
        except EngineError:
            missed += 1
            return
        took = time.monotonic() - at
        turnaround.add(took)
        missed += took > MICRO_TURN_S

    start, tasks = time.monotonic() + MICRO_TURN_S, set()
    for tick in range(int(seconds / MICRO_TURN_S)):
        at = start + tick * MICRO_TURN_S
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        sent_late.add(max(0.0, time.monotonic() - at))
        for row, name in enumerate(names):
            due += 1
            task = asyncio.create_task(one(name, tick + 1, at, row))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.wait(tasks, timeout=10) if tasks else None
    missed += len(tasks)
    health, idle = await engine.health(), json.loads((await asyncio.to_thread(noop.communicate))[0])
    return {
        "sessions": float(len(names)),
        "refused": float(refused),
        "seconds": seconds,
        "miss_rate": missed / max(due, 1),
        "noop_miss_rate": idle["missed"],
        "noop_late_p99_ms": 1e3 * idle["p99"],
        "noop_late_max_ms": 1e3 * idle["max"],
        "sent_late_p99_ms": sent_late.ms()["p99_ms"],
        "turnaround_p50_ms": turnaround.ms()["p50_ms"],
        "turnaround_p99_ms": turnaround.ms()["p99_ms"],
        "step_p50_ms": health["step_ms"]["p50_ms"],
        "step_p99_ms": health["step_ms"]["p99_ms"],
    }


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Compute per micro-turn, and what is saved, by age of the session."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ages = [row["age_s"] for row in rows]
    figure, (cost, gain) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, label in (("whole_ms", "conversation so far again"), ("window_ms", "window again"), ("step_ms", "step")):
        cost.plot(ages, [row[name] for row in rows], marker="o", label=label)
    cost.set(yscale="log", xlabel="age of the session, s", ylabel="CPU ms per micro-turn")
    cost.legend()
    gain.plot(ages, [row["whole_ms"] / row["step_ms"] for row in rows], marker="o")
    gain.axhline(20, color="#999", lw=1)
    gain.set(xlabel="age of the session, s", ylabel="times less compute than re-prefill")
    figure.savefig(path, dpi=120)
    plt.close(figure)
