"""Sessions in real time on the compute process as it is deployed, and what the machine itself did meanwhile.

Three processes: the engine's, this one (a client that paces and counts), and one that only sleeps and notes how late
it woke: where that one is late, the machine was, not the engine.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from interplay.core.histogram import Histogram
from interplay.core.types import MICRO_TURN_S
from interplay.engine.core import Append
from interplay.engine.errors import EngineError, Overloaded
from interplay.engine.housed import SHM
from interplay.engine.remote import RemoteEngine

MISS_SHARE = 0.001
RAMP_S = 120.0  # for all sessions to get in
STOOD_S = 0.02  # a sleeper that wakes this much later than asked: the machine stood still
NOOP = """
import json, sys, time
start, seconds, tick, step = map(float, sys.argv[1:])
worst, late = [0.0] * (int(seconds / tick) + 1), []
at = start
while at < start + seconds:
    time.sleep(max(0.0, at - time.monotonic()))
    behind = time.monotonic() - at
    late.append(behind)
    place = int((at - start) / tick)
    worst[place] = max(worst[place], behind)
    at += step * max(1, int(behind / step))
late.sort()
print(json.dumps({"p99": late[int(len(late) * 0.99)], "max": late[-1], "worst": worst}))
"""


class Soak:
    """A crowd that joins one by one and lives on; `measure` counts what is missed while all of them are there."""

    def __init__(self, engine: RemoteEngine, seed: int) -> None:
        self.engine = engine
        self.bins = np.random.default_rng(seed).integers(0, 16, (256, 10, 80), dtype=np.uint8)
        self.names: list[str] = []
        self.turns: dict[str, int] = {}
        self.refused = 0
        self.turnaround, self.sent_late = Histogram(), Histogram()
        self.due = 0
        self.missed: Counter[int] = Counter()  # tick -> micro-turns
        self.errors: Counter[str] = Counter()
        self._measuring_from = float("inf")
        self._tasks: set[asyncio.Task] = set()

    async def fill(self, sessions: int) -> None:
        """Let `sessions` in, one after the other, while those who are in live: so admission sees what steps cost."""
        until = time.monotonic() + RAMP_S
        while len(self.names) < sessions and time.monotonic() < until:
            try:
                name = await self.engine.open()
            except Overloaded:
                self.refused += 1
                await asyncio.sleep(1)
                if self.refused >= 5:
                    return
                continue
            self.turns[name] = 0
            self.names.append(name)
            await asyncio.sleep(0.3)

    async def live(self) -> None:
        """Everybody's micro-turns, on one grid, for ever."""
        at = time.monotonic() + MICRO_TURN_S
        while True:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            counts = at >= self._measuring_from
            if counts:
                self.sent_late.add(max(0.0, time.monotonic() - at))
            for row, name in enumerate(self.names):
                task = asyncio.create_task(self._one(name, self.turns[name], at, row, counts))
                self.turns[name] += 1
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            at += MICRO_TURN_S

    async def _one(self, name: str, turn: int, at: float, row: int, counts: bool) -> None:
        took = float("inf")
        try:
            await self.engine.append(Append(name, turn, self.bins[(turn + row) % 256]))
            took = time.monotonic() - at
        except EngineError as error:
            self.errors[error.code] += counts
        if not counts:
            return
        self.due += 1
        if took < float("inf"):
            self.turnaround.add(took)
        if took > MICRO_TURN_S:
            self.missed[int((at - self._measuring_from) / MICRO_TURN_S + 0.5)] += 1

    async def measure(self, seconds: float, advance: Callable[..., None]) -> dict[str, Any]:
        """Count for so long; with the sleeper's notes of the same ticks."""
        start = self._measuring_from = time.monotonic() + MICRO_TURN_S
        command = [sys.executable, "-c", NOOP, str(start), str(seconds), str(MICRO_TURN_S), "0.01"]
        sleeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for minute in range(max(1, round(seconds / 60))):
            await asyncio.sleep(max(0.0, start + min(seconds, 60 * (minute + 1)) - time.monotonic()))
            advance(1, total=max(1, round(seconds / 60)))
        await asyncio.sleep(max(0.0, start + seconds - time.monotonic()))
        self._measuring_from = float("inf")
        await asyncio.sleep(1.0)
        idle = json.loads((await asyncio.to_thread(sleeper.communicate))[0])
        missed = sum(self.missed.values())
        stood = {tick for tick, worst in enumerate(idle["worst"]) if worst > STOOD_S}
        near = stood | {tick + 1 for tick in stood}  # what stands still in one tick makes the next one late
        quiet = sum(count for tick, count in self.missed.items() if tick not in near)
        ticks = len(idle["worst"]) - 1
        due_quiet = self.due * (1 - len(near) / max(ticks, 1))
        return {
            "miss_rate": missed / max(self.due, 1),
            "miss_rate_while_the_machine_ran": quiet / max(due_quiet, 1.0),
            "machine_stood_share": len(stood) / max(ticks, 1),
            "noop_miss_rate": sum(worst > MICRO_TURN_S for worst in idle["worst"]) / max(ticks, 1),
            "noop_late_p99_ms": 1e3 * idle["p99"],
            "noop_late_max_ms": 1e3 * idle["max"],
            "sent_late_p99_ms": self.sent_late.ms()["p99_ms"],
            "turnaround_p50_ms": self.turnaround.ms()["p50_ms"],
            "turnaround_p99_ms": self.turnaround.ms()["p99_ms"],
            "due": float(self.due),
            "errors": float(sum(self.errors.values())),
        } | {"by_minute": self._by_minute(seconds, idle["worst"])}

    def _by_minute(self, seconds: float, worst: list[float]) -> list[dict[str, float]]:
        per = round(60 / MICRO_TURN_S)
        rows = []
        for first in range(0, max(1, int(seconds / MICRO_TURN_S)), per):
            part = worst[first : first + per]
            missed = sum(self.missed[tick] for tick in range(first, first + len(part)))
            noop = sum(w > MICRO_TURN_S for w in part) / max(len(part), 1)
            rows.append({"miss_rate": missed / max(1, len(part) * len(self.names)), "noop_miss_rate": noop})
        return rows


async def soak(
    checkpoint: Path | None, sessions: int, seconds: float, seed: int, advance: Callable[..., None]
) -> dict[str, Any]:
    """`sessions` in real time on the compute process for so long. A micro-turn is missed if its result is not back
    here when the next one is due, or never comes."""
    with tempfile.TemporaryDirectory(prefix="interplay-", dir=SHM if SHM.is_dir() else None) as folder:
        engine = await RemoteEngine.connect(Path(folder), checkpoint=checkpoint, slots=sessions, spare=False)
        crowd = Soak(engine, seed)
        living = asyncio.create_task(crowd.live())
        try:
            await crowd.fill(sessions)
            told = await crowd.measure(seconds, advance)
            health = await engine.health()
        finally:
            living.cancel()
            await engine.shut_down()
    step = {f"step_{name}": health["step_ms"][name] for name in ("p50_ms", "p99_ms", "max_ms")}
    return {"sessions": float(len(crowd.names)), "refused": float(crowd.refused), "seconds": seconds, **told, **step}


def search(
    checkpoint: Path | None, most: int, seconds: float, seed: int, by: int, advance: Callable[..., None]
) -> tuple[int, list[dict[str, Any]]]:
    """The largest number of sessions, in steps of `by`, that is held with at most 0.1 % missed, each tried in a fresh
    process for `seconds`; and what was measured on the way."""
    held, tried = 0, []
    for sessions in range(by, most + 1, by):
        told = asyncio.run(soak(checkpoint, sessions, seconds, seed, lambda *a, **k: None))
        told.pop("by_minute")
        tried.append(told)
        advance(1, total=most // by)
        if told["sessions"] < sessions or told["miss_rate"] > MISS_SHARE:
            break
        held = sessions
    return held, tried
