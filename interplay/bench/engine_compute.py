"""Compute of the engine's steps: by age, in batches, and against the same model fed the whole conversation again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch

from interplay.core.types import MICRO_TURN_S, BadInput
from interplay.engine.core import Append, Engine, Opening
from interplay.model.decode import SURE
from interplay.model.transformer import Inputs, InteractionModel

ALWAYS, NEVER = 1e-9, 1 - 1e-9  # act in every micro-turn; only listen
AGES_S = (10, 30, 60, 120, 180, 240, 300)
PER_MINUTE = round(60 / MICRO_TURN_S)


def cpu_ms(do: Callable[[], object]) -> float:
    """CPU milliseconds of this thread: what the machine does beside it does not count."""
    began = time.thread_time()
    do()
    return 1e3 * (time.thread_time() - began)


class Crowd:
    """Sessions of an engine that hear noise, all stepped together. thresholds: how sure each must be, in turn."""

    def __init__(self, model: InteractionModel, count: int, seed: int, thresholds: tuple[float, ...] = (SURE,)) -> None:
        self.engine = Engine(model, slots=count)
        self.names = [self.engine.open(Opening(threshold=t)) for t, _ in zip(cycle(thresholds), range(count))]
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


def reprefill(
    model: InteractionModel, seed: int, advance: Callable[..., None], oldest_s: float = AGES_S[-1]
) -> list[dict[str, float]]:
    """CPU of one micro-turn by age: the engine's step, and the whole conversation so far through the same model;
    and, cheaper and with other outputs, only the window of it."""
    rng, rows = np.random.default_rng(seed), []
    crowd = Crowd(model, 1, seed)
    ages = [age for age in AGES_S if age <= oldest_s] or [oldest_s]
    for age in ages:
        turns = round(age / MICRO_TURN_S)
        while crowd.turn < turns:
            crowd.step()
        step = statistics.median(cpu_ms(crowd.step) for _ in range(15))
        whole, part = (
            statistics.median(cpu_ms(lambda n=n: _forward(model, rng, n)) for _ in range(3))
            for n in (turns, min(turns, model.config.window))
        )
        rows.append({"age_s": float(age), "step_ms": step, "whole_ms": whole, "window_ms": part})
        advance(1, total=len(ages))
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
        "reprefill_ratio": means["whole_ms"] / means["step_ms"],
        "reprefill_ratio_at_end": rows[-1]["whole_ms"] / rows[-1]["step_ms"],
        "reprefill_ratio_window_only": means["window_ms"] / means["step_ms"],
    }


def flatness(
    model: InteractionModel, seed: int, minutes: float, batch: int, advance: Callable[..., None]
) -> dict[str, Any]:
    """CPU of a step in the last of `minutes` against minute 1, batches of the same size.

    Every second session acts in each micro-turn and the others only listen: finding a word costs more than finding
    none, so sessions left to themselves would be compared by how much they talk. The old batch and a new one take
    turns, so that whatever else the machine does meets both; `drift` compares the old batch with its own first minute,
    long ago. by_minute: medians of the old batch's life.
    """
    if minutes < 2:
        raise BadInput("--option age_minutes: at least 2, to compare the last minute with the first")
    old, young = (Crowd(model, batch, seed, (NEVER, ALWAYS)) for _ in range(2))
    by_minute = []
    for _ in range(round(minutes) - 1):
        by_minute.append(statistics.median(cpu_ms(old.step) for _ in range(PER_MINUTE)))
        advance(1, total=round(minutes))
    pairs = [(cpu_ms(old.step), cpu_ms(young.step)) for _ in range(PER_MINUTE)]
    last, first = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "flatness": last / first,
        "flatness_drift": last / by_minute[0],
        "flatness_first_ms": first,
        "flatness_last_ms": last,
        "flatness_minutes": float(round(minutes)),
        "by_minute": [*by_minute, last],
    }
