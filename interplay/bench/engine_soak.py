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

from interplay.bench.children import child
from interplay.core.histogram import Histogram
from interplay.core.types import MICRO_TURN_S
from interplay.engine.core import Append
from interplay.engine.errors import EngineError, Overloaded
from interplay.engine.housed import SHM
from interplay.engine.keeper import Keeper
from interplay.engine.remote import RemoteEngine

MISS_SHARE = 0.001
RAMP_S = 120.0  # for all sessions to get in
STOOD_S = 0.02  # a sleeper that wakes this much later than asked: the machine stood still
NOOP = """
import json, sys, time
seconds, tick, step = map(float, sys.argv[1:])
print("ready", flush=True)
start = float(sys.stdin.readline())
worst, late = [0.0] * (int(seconds / tick) + 1), []
at = start
while at < start + seconds:
    time.sleep(max(0.0, at - time.monotonic()))
    behind = time.monotonic() - at
    late.append(behind)
    for place in range(int((at - start) / tick), min(int((at + behind - start) / tick) + 1, len(worst))):
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
        self.due: Counter[int] = Counter()  # tick -> micro-turns that were sent
        self.held: Counter[int] = Counter()  # ... and were back in time
        self.errors: Counter[str] = Counter()
        self._start, self._end = float("inf"), float("inf")
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
            tick = int((at - self._start) / MICRO_TURN_S + 0.5) if self._start <= at < self._end else None
            if tick is not None:
                self.sent_late.add(max(0.0, time.monotonic() - at))
                self.due[tick] += len(self.names)
            for row, name in enumerate(self.names):
                task = asyncio.create_task(self._one(name, self.turns[name], at, row, tick))
                self.turns[name] += 1
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            at += MICRO_TURN_S

    async def _one(self, name: str, turn: int, at: float, row: int, tick: int | None) -> None:
        try:
            await self.engine.append(Append(name, turn, self.bins[(turn + row) % 256]))
        except EngineError as error:
            self.errors[error.code] += tick is not None
            return
        took = time.monotonic() - at
        if tick is not None:
            self.turnaround.add(took)
            self.held[tick] += took <= MICRO_TURN_S

    async def measure(self, seconds: float, advance: Callable[..., None]) -> dict[str, Any]:
        """Count for so long; with the sleeper's notes of the same ticks."""
        command = [sys.executable, "-c", NOOP, str(seconds), str(MICRO_TURN_S), "0.01"]
        with child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sleeper:
            return await self._measured(sleeper, seconds, advance)

    async def _measured(
        self, sleeper: subprocess.Popen[str], seconds: float, advance: Callable[..., None]
    ) -> dict[str, Any]:
        assert sleeper.stdin is not None and sleeper.stdout is not None
        await asyncio.to_thread(sleeper.stdout.readline)
        start = time.monotonic() + MICRO_TURN_S
        sleeper.stdin.write(f"{start}\n")
        sleeper.stdin.flush()
        self._start, self._end = start, start + seconds
        for minute in range(max(1, round(seconds / 60))):
            await asyncio.sleep(max(0.0, start + min(seconds, 60 * (minute + 1)) - time.monotonic()))
            advance(1, total=max(1, round(seconds / 60)))
        await asyncio.sleep(max(0.0, start + seconds - time.monotonic()))
        await asyncio.sleep(1.0)  # for the last ones to come back; what is not back by then is missed
        idle = json.loads((await asyncio.to_thread(sleeper.communicate))[0])
        due, held = sum(self.due.values()), sum(self.held.values())
        stood = {tick for tick, worst in enumerate(idle["worst"]) if worst > STOOD_S}
        near = stood | {tick + 1 for tick in stood}  # what stands still in one tick makes the next one late
        quiet_due = sum(count for tick, count in self.due.items() if tick not in near)
        quiet_held = sum(count for tick, count in self.held.items() if tick not in near)
        ticks = len(idle["worst"]) - 1
        return {
            "miss_rate": 1 - held / max(due, 1),
            "miss_rate_while_the_machine_ran": 1 - quiet_held / quiet_due if quiet_due else float("nan"),
            "machine_stood_share": len(stood) / max(ticks, 1),
            "noop_miss_rate": sum(worst > MICRO_TURN_S for worst in idle["worst"]) / max(ticks, 1),
            "noop_late_p99_ms": 1e3 * idle["p99"],
            "noop_late_max_ms": 1e3 * idle["max"],
            "sent_late_p99_ms": self.sent_late.ms()["p99_ms"],
            "turnaround_p50_ms": self.turnaround.ms()["p50_ms"],
            "turnaround_p99_ms": self.turnaround.ms()["p99_ms"],
            "due": float(due),
            "errors": float(sum(self.errors.values())),
        } | {"by_minute": self._by_minute(seconds, idle["worst"])}

    def _by_minute(self, seconds: float, worst: list[float]) -> list[dict[str, float]]:
        per = round(60 / MICRO_TURN_S)
        rows = []
        for first in range(0, max(1, int(seconds / MICRO_TURN_S)), per):
            part = worst[first : first + per]
            ticks = range(first, first + len(part))
            due, held = (sum(counted[tick] for tick in ticks) for counted in (self.due, self.held))
            noop = sum(w > MICRO_TURN_S for w in part) / max(len(part), 1)
            rows.append({"miss_rate": 1 - held / max(due, 1), "noop_miss_rate": noop})
        return rows


async def soak(
    checkpoint: Path | None, sessions: int, seconds: float, seed: int, advance: Callable[..., None]
) -> dict[str, Any]:
    """`sessions` in real time on the compute process for so long. A micro-turn is missed if its result is not back
    here when the next one is due, or never comes."""
    with tempfile.TemporaryDirectory(prefix="interplay-", dir=SHM if SHM.is_dir() else None) as folder:
        keeper = Keeper(Path(folder), checkpoint=checkpoint, slots=sessions, spare=False)
        engine = await RemoteEngine.connect(keeper.folder, keeper)
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
