"""What the engine does when things break: each fault done for real, beside a neighbour that must not notice.

One compute process and its spare serve a neighbour that lives on through everything; its every output is compared with
a session that nothing happened to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from interplay.engine import snapshots, wire
from interplay.engine.core import Append, Chosen, Engine, Opening
from interplay.engine.errors import EngineError, OutOfOrder, SnapshotFailed
from interplay.engine.housed import SHM
from interplay.engine.keeper import Keeper
from interplay.engine.process import SOCKET
from interplay.engine.remote import RemoteEngine
from interplay.model.transformer import InteractionModel

PAUSE_S = 0.02
CLIENT = """
import asyncio, sys
from pathlib import Path
from interplay.bench.engine_faults import OPENING, append, inputs
from interplay.engine.remote import RemoteEngine

async def main():
    engine = await RemoteEngine.connect(Path(sys.argv[1]))
    await engine.open(OPENING, session="client")
    for turn in range(10_000):
        await engine.append(append("client", turn, inputs(int(sys.argv[2]))))
        print(turn, flush=True)
        await asyncio.sleep(0.02)

asyncio.run(main())
"""
OPENING = Opening(prefix=(2, 3, 4), threshold=0.4)


def inputs(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, (64, 10, 80), dtype=np.uint8)


def append(session: str, turn: int, bins: np.ndarray) -> Append:
    return Append(session, turn, bins[turn % 64], event=turn % 50 if turn % 11 == 0 else 0)


class Neighbour:
    """Lives on, and compares."""

    def __init__(self, model: InteractionModel, engine: RemoteEngine, seed: int) -> None:
        self.bins, self.engine = inputs(seed), engine
        self._alone = Engine(model, slots=1)
        self._alone.open(OPENING, "neighbour")
        self.turns = self.different = self.lost = 0
        self.longest_s = 0.0

    async def live(self) -> None:
        await self.engine.open(OPENING, session="neighbour", realtime=False)
        while True:
            asked, now = append("neighbour", self.turns, self.bins), time.monotonic()
            try:
                got = await self.engine.append(asked)
            except EngineError:
                self.lost += 1
                return
            self.longest_s = max(self.longest_s, time.monotonic() - now)
            self.different += not same(got, self._alone.step([asked])[0])
            self.turns += 1
            await asyncio.sleep(PAUSE_S)


def same(a: Chosen, b: Chosen) -> bool:
    return (a.heard, a.said, a.decision, a.odds) == (b.heard, b.said, b.decision, b.odds)


async def faults(
    model: InteractionModel, checkpoint: Path, seed: int, opens: int, advance: Callable[..., None]
) -> dict[str, float]:
    """Every fault in turn. opens: how many sessions are opened and closed. Numbers of what went wrong: all 0."""
    with tempfile.TemporaryDirectory(prefix="interplay-", dir=SHM if SHM.is_dir() else None) as name:
        folder = Path(name)
        engine = await RemoteEngine.connect(folder, Keeper(folder, checkpoint=checkpoint, slots=4, floor=4))
        neighbour = Neighbour(model, engine, seed)
        living = asyncio.create_task(neighbour.live())
        told: dict[str, float] = {}
        try:
            for fault in (_vanish, _again, _churn, _disk, _kill_client, _kill_engine):
                before = neighbour.turns
                told |= await fault(model, engine, folder, seed, opens)
                until = time.monotonic() + 30
                while neighbour.turns < before + 5 and not living.done() and time.monotonic() < until:
                    await asyncio.sleep(PAUSE_S)
                advance(1, total=6)
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await engine.close("neighbour")
            told["slots_leaked"] = float(4 - (await engine.health())["free"])
        finally:
            living.cancel()
            await engine.shut_down()
    return {
        **{f"fault_{name}": value for name, value in told.items()},
        "fault_neighbour_turns": float(neighbour.turns),
        "fault_neighbour_different": float(neighbour.different),
        "fault_neighbour_lost": float(neighbour.lost),
        "fault_neighbour_longest_s": neighbour.longest_s,
    }


async def _vanish(
    model: InteractionModel, engine: RemoteEngine, folder: Path, seed: int, opens: int
) -> dict[str, float]:
    """Clients that vanish in the middle of an append, at every kind of place."""
    whole = wire.append_message(1, append("neighbour", 0, inputs(seed + 1)))
    for size in (3, 8, 40, len(whole) // 2, len(whole) - 1):
        _, writer = await asyncio.open_unix_connection(str(folder / SOCKET))
        writer.write(whole[:size])
        await writer.drain()
        writer.transport.abort()
    return {"vanish_clients": 5.0}


async def _again(
    model: InteractionModel, engine: RemoteEngine, folder: Path, seed: int, opens: int
) -> dict[str, float]:
    """The same micro-turn twice is one answer; another input for it, or one that is past, is refused by name."""
    bins, wrong = inputs(seed + 2), 0
    name = await engine.open(OPENING, realtime=False)
    for turn in (0, 1, 2, 5):
        first = await engine.append(append(name, turn, bins))
        wrong += not same(await engine.append(append(name, turn, bins)), first)
    for turn, other in ((2, bins[1:]), (3, bins), (0, bins[1:])):
        try:
            await engine.append(append(name, turn, other))
            wrong += 1
        except OutOfOrder:
            pass
    await engine.close(name)
    return {"again_wrong": float(wrong)}


async def _churn(
    model: InteractionModel, engine: RemoteEngine, folder: Path, seed: int, opens: int
) -> dict[str, float]:
    """`opens` sessions opened and closed; one in a hundred says something."""
    bins, before = inputs(seed + 3), (await engine.health())["free"]
    for number in range(opens):
        name = await engine.open(realtime=False)
        if number % 100 == 0:
            await engine.append(append(name, 0, bins))
        await engine.close(name)
    return {"churn_opens": float(opens), "churn_leaked": float(before - (await engine.health())["free"])}


async def _disk(model: InteractionModel, engine: RemoteEngine, folder: Path, seed: int, opens: int) -> dict[str, float]:
    """A snapshot onto a disk that is full (the system's own: /dev/full) fails by name, the older one stays whole, and
    the session goes on from where it was."""
    bins, wrong = inputs(seed + 4), 0
    name = await engine.open(OPENING, realtime=False)
    alone = Engine(model, slots=1)
    alone.open(OPENING, name)
    path = folder / "snapshot"
    for turn in range(10):
        wrong += not same(await engine.append(append(name, turn, bins)), alone.step([append(name, turn, bins)])[0])
        if turn == 3:
            snapshots.write(path, await engine.snapshot(name))
            older = path.read_bytes()
            path.with_name(f"{path.name}.{os.getpid()}.tmp").symlink_to("/dev/full")
        if turn == 6:
            try:
                snapshots.write(path, await engine.snapshot(name))
                wrong += 1
            except SnapshotFailed:
                wrong += path.read_bytes() != older
    await engine.close(name)
    await engine.restore(older, realtime=False)
    alone.rollback(name, 4)
    wrong += not same(await engine.append(append(name, 4, bins)), alone.step([append(name, 4, bins)])[0])
    await engine.close(name)
    path.unlink()
    return {"disk_wrong": float(wrong)}


async def _kill_client(
    model: InteractionModel, engine: RemoteEngine, folder: Path, seed: int, opens: int
) -> dict[str, float]:
    """kill -9 of the process that has the sound: what it was told is there for whoever comes back for it."""
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(folder), str(seed + 5)], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    told = [int(await asyncio.to_thread(client.stdout.readline)) for _ in range(20)]
    client.send_signal(signal.SIGKILL)
    client.wait()
    told += [int(line) for line in client.stdout.read().split()]
    last, bins, alone = await engine.last("client"), inputs(seed + 5), Engine(model, slots=1)
    alone.open(OPENING, "client")
    for turn in range(last + 1):
        expected = alone.step([append("client", turn, bins)])[0]
    wrong = not same(await engine.append(append("client", last, bins)), expected)
    for turn in range(last + 1, last + 6):
        asked = append("client", turn, bins)
        wrong += not same(await engine.append(asked), alone.step([asked])[0])
    await engine.close("client")
    return {"client_acknowledged_lost": float(max(0, told[-1] - last)), "client_wrong": float(wrong)}


async def _kill_engine(
    model: InteractionModel, engine: RemoteEngine, folder: Path, seed: int, opens: int
) -> dict[str, float]:
    """kill -9 of the compute process, once its spare waits: the longest that a micro-turn then took."""
    pid, locks, inode = (await engine.health())["pid"], Path("/proc/locks"), (folder / "lock").stat().st_ino
    until = time.monotonic() + 60
    while locks.exists() and time.monotonic() < until:
        if any("->" in line and f":{inode} " in line for line in locks.read_text().splitlines()):
            break
        await asyncio.sleep(0.2)
    bins, alone, gap, wrong = inputs(seed + 6), Engine(model, slots=1), 0.0, 0
    name = await engine.open(OPENING, realtime=False)
    alone.open(OPENING, name)
    for turn in range(40):
        if turn == 20:
            os.kill(pid, signal.SIGKILL)
        began, asked = time.monotonic(), append(name, turn, bins)
        got = await engine.append(asked)
        gap = max(gap, time.monotonic() - began)
        wrong += not same(got, alone.step([asked])[0])
    again = (await engine.health())["pid"]
    await engine.close(name)
    return {"kill_wrong": float(wrong), "kill_survived": float(again == pid), "kill_gap_s": gap}
