"""What the background costs the conversation, and how quick it is, on a real clock with real sockets.

`turn_p99_ms_0|4|16`: micro-turn p99 with so many delegations in flight, streaming from a provider in another process;
`in_flight_0|4|16`: the fewest that were, seen once a micro-turn.
`turn_p99_ratio`: that with 16 over that with none.
`withdraw_s`: from "never mind" reaching the session to the provider seeing its stream closed, the longest of all.
`result_to_word_s`: from a result to its first audible word, median, with nobody talking.
`memory_p99_ms`: what a session waits for its prefix when its agent has 10,000 sessions behind it (`bench/memory.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interplay.background import Abilities, BackgroundRoom, ContextPackage, Piece, Work
from interplay.background.base import Background
from interplay.bench.task import Result, Setup
from interplay.core.clock import RealClock
from interplay.core.timeline import Timeline
from interplay.core.types import INPUT_SAMPLES, Event, InterplayError, MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Channel, Foreground, ForegroundSpec
from interplay.foreground.silent import SilentForeground
from interplay.session import Session, SurfaceIn, TurnView
from interplay.voice.base import SilentVoice

LEVELS = (0, 4, 16)
WARM_TURNS = 10
SETTLE_S = 1.0  # without a stream closing: then all have that were to
ROUNDS = 10  # withdrawals and results, unless --n is less
WORK_S = 1.2  # of a result: the acknowledgement is over by then
SESSIONS, LOADS = 10_000, 1_000  # of memory
BUSY = "this machine is too busy to measure on"
FILLS = 10  # steps of progress while it is filled


def run(setup: Setup) -> Result:
    """--n: micro-turns per level (200 ms each, at least 20). --option sessions=10000: of memory; 0: without that part.
    --option loads=1000: of its prefix."""
    return asyncio.run(_run(setup))


async def _run(setup: Setup) -> Result:
    turns, rounds = max(setup.n, 20), max(1, min(ROUNDS, setup.n))
    sessions = int(setup.number("sessions", SESSIONS))
    loads = int(setup.number("loads", LOADS, least=1))
    setup.advance(0, len(LEVELS) + 2 + FILLS * bool(sessions))
    metrics: dict[str, float] = {}
    async with _provider() as (background, closed):
        for level in LEVELS:
            seconds, flying = await _turn_times(setup.mind, background, level, turns)
            times, metrics[f"in_flight_{level}"] = 1e3 * seconds, float(flying)
            metrics[f"turn_p50_ms_{level}"], metrics[f"turn_p99_ms_{level}"] = map(
                float, np.percentile(times, [50, 99])
            )
            setup.advance()
        metrics["turn_p99_ratio"] = metrics[f"turn_p99_ms_{LEVELS[-1]}"] / max(metrics["turn_p99_ms_0"], 1e-9)
        withdrawn = await _withdrawals(background, closed, rounds)
        metrics["withdraw_s"], metrics["withdraw_median_s"] = max(withdrawn), float(np.median(withdrawn))
        setup.advance()
    results = await _results(rounds)
    metrics["result_to_word_s"], metrics["result_to_word_max_s"] = float(np.median(results)), max(results)
    setup.advance()
    notes: dict[str, Any] = {"turns_per_level": turns, "withdrawals": len(withdrawn), "results": len(results)}
    if sessions:
        found = await _memory(setup, sessions, loads)
        metrics |= {f"memory_{name}": found[f"prefix_{name}"] for name in ("p99_ms", "cpu_ms")}
        notes |= {"memory_sessions": sessions, "memory_loads": loads, "memory_cold_ms": found["cold_ms"]}
    return Result(turns, metrics, notes=notes)


async def _memory(setup: Setup, sessions: int, loads: int) -> dict[str, Any]:
    from interplay.bench.memory import measure

    shown = 0

    def progress(written: int) -> None:
        nonlocal shown
        steps = FILLS * written // sessions - shown
        shown += steps
        if steps:
            setup.advance(steps)

    with tempfile.TemporaryDirectory() as folder:
        found = await measure(f"{folder}/agents.db", sessions, loads, progress)
    setup.advance(FILLS - shown)
    return found


@contextlib.asynccontextmanager
async def _provider() -> AsyncIterator[tuple[Background, asyncio.Queue[float]]]:
    """A provider's model on loopback, and the moments at which it saw streams closed. Raises Missing."""
    from interplay.background.choose import compatible

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "interplay.bench.loopback", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    output, closed = process.stdout, asyncio.Queue[float]()

    async def watch() -> None:
        while line := await output.readline():
            closed.put_nowait(float(line.split()[1]))

    try:
        port = int(await output.readline())
        watcher = asyncio.create_task(watch())
        yield await asyncio.to_thread(compatible, f"http://127.0.0.1:{port}/v1", "loopback"), closed
        watcher.cancel()
    finally:
        process.kill()
        await process.wait()


@dataclass
class Person:
    """A surface: silence, what is typed at given micro-turns, and how long each micro-turn took the session; at each of
    them also what `watch` said."""

    turns: int
    types: dict[int, str] = field(default_factory=dict)
    watch: Callable[[], int] = int
    times: list[float] = field(default_factory=list)
    watched: list[int] = field(default_factory=list)
    read_at: dict[int, float] = field(default_factory=dict)
    name: str = "bench"

    async def read(self, turn: int) -> SurfaceIn | None:
        self.read_at[turn] = time.monotonic()
        if turn >= self.turns:
            return None
        events = (Event("text", {"text": self.types[turn]}),) if turn in self.types else ()
        return SurfaceIn(np.zeros(INPUT_SAMPLES, np.float32), events=events)

    async def write(self, view: TurnView) -> None:
        self.times.append(time.monotonic() - self.read_at[view.turn])
        self.watched.append(self.watch())

    async def close(self, error: InterplayError | None) -> None:
        return None


class Quiet:
    """A foreground that steps the mind under test and keeps what it would say to itself: the turn is measured."""

    def __init__(self, mind: Foreground) -> None:
        self.name, self.capabilities, self._mind = mind.name, mind.capabilities, mind

    async def open(self, spec: ForegroundSpec) -> Channel:
        channel = await self._mind.open(spec)

        class Muted:
            async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
                return MicroTurnOut((await channel.step(turn)).turn, None)

            async def close(self) -> None:
                await channel.close()

        return Muted()


async def _turn_times(mind: Foreground, background: Background, level: int, turns: int) -> tuple[np.ndarray, int]:
    """Seconds of each micro-turn of a session with `level` delegations in flight, and the fewest that really were."""
    room, timeline = BackgroundRoom(background), Timeline()
    person = Person(turns + WARM_TURNS, watch=lambda: len(room.working))
    session = Session(Quiet(mind), SilentVoice(), person, RealClock(), timeline, background=room)
    task = asyncio.create_task(session.run())
    await asyncio.sleep(0)
    for number in range(level):
        room.delegate(ContextPackage(f"question {number}"))
    report = await task
    if report.error is not None:
        raise report.error
    failed = [r for r in timeline.records if r["kind"] == "failed"]
    if failed:
        raise InterplayError(f"the delegations of the bench failed: {failed[0]['text']}")
    if len(person.times) < WARM_TURNS + turns // 2:
        raise InterplayError(f"{BUSY}: {len(person.times)} of {turns + WARM_TURNS} micro-turns could be run in time")
    flying = min(person.watched[WARM_TURNS:])
    if flying < level:
        raise InterplayError(f"of {level} delegations {level - flying} ended before the measurement did")
    return np.array(person.times[WARM_TURNS:]), flying


async def _withdrawals(background: Background, closed: asyncio.Queue[float], rounds: int) -> list[float]:
    types = {}
    for number in range(rounds):
        types[2 + 12 * number], types[10 + 12 * number] = f"who wrote book number {number}", "never mind"
    with contextlib.suppress(TimeoutError):  # the provider is slower to notice: the streams before this end first
        while True:
            await asyncio.wait_for(closed.get(), SETTLE_S)
    person = Person(12 * rounds + 6, types)
    room = BackgroundRoom(background)
    await Session(SilentForeground(), SilentVoice(), person, RealClock(), Timeline(), background=room).run()
    out = []
    for number in range(rounds):
        async with asyncio.timeout(10):
            out.append(await closed.get() - person.read_at[10 + 12 * number])
    if min(out) < 0:
        raise InterplayError("a stream was closed before anybody said never mind: nothing was measured")
    return out


class Later:
    """A background whose answer is ready after WORK_S."""

    name = "later"
    abilities = Abilities()

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        await asyncio.sleep(WORK_S)
        yield Piece("Here it is.")

    async def close(self) -> None:
        return None


async def _results(rounds: int) -> list[float]:
    types = {2 + 15 * number: f"who wrote book number {number}" for number in range(rounds)}
    timeline, person = Timeline(), Person(15 * rounds + 10, types)
    room = BackgroundRoom(Later())
    await Session(SilentForeground(), SilentVoice(), person, RealClock(), timeline, background=room).run()
    came = {r["id"]: r["t"] for r in timeline.records if r["kind"] == "result"}
    first: dict[str, float] = {}
    for record in timeline.records:
        if record["kind"] == "said" and record.get("of") in came:
            first.setdefault(record["of"], record["t"])
    out = [first[id] - t for id, t in came.items() if id in first]
    if not out:
        raise InterplayError(f"{BUSY}: no result was spoken in time")
    return out
