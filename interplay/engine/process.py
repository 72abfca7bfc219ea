"""The compute process: one thread that owns an engine, and a local socket to whoever has the sound.

    python -m interplay.engine.process FOLDER [--checkpoint FILE] [--slots N] [--video-slots N]

The sessions live in FOLDER/sessions.mem, which outlives the process: whoever holds FOLDER/lock is the engine, and a
second process started on the same folder has everything loaded and waits for the lock. If the first is killed, the
kernel hands the lock over and the second goes on with every session where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from interplay.core.types import InterplayError
from interplay.engine import wire
from interplay.engine.clocked import Clocked
from interplay.engine.core import Chosen, Opening
from interplay.engine.errors import EngineError
from interplay.engine.mapped import MappedEngine
from interplay.engine.metrics import exposition
from interplay.engine.selftest import assemble
from interplay.model import checkpoint as checkpoints

SOCKET, LOCK, STOP = "engine.sock", "lock", "stop"
IDLE_S = 120.0  # a session that sends nothing for so long is closed
LINGER_S = 60.0  # with no client at all for so long, the process ends
# Results that a client does not read; beyond, they are dropped: it asks again by sending again.
READ_ROUNDS = 50
READ_BYTES = 4 << 20  # of one client, before it is left to wait
UNASKED = 1_000  # micro-turns whose times nobody picked up
UNREAD_BYTES = 1 << 20


class Server:
    """Answers clients of one engine. Everything runs in one thread: between two reads a step may happen."""

    def __init__(self, clocked: Clocked) -> None:
        self.clocked = clocked
        self.clients = 0
        self.alone_since = clocked.now()
        self.stopping = asyncio.Event()
        self._poke = asyncio.Event()
        self._read = 0  # messages, ever
        self._times: dict[tuple[str, int], dict[str, Any]] = {}  # of micro-turns that are just being answered

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        try:
            while True:
                head, body = await wire.read(reader)
                self._answer(head, body, writer)
                self._read += 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, EngineError):
            pass  # gone, or talks nonsense, or we end: its sessions wait for it to come back
        finally:
            self.clients -= 1
            self.alone_since = self.clocked.now()
            writer.close()

    def _answer(self, head: dict[str, Any], body: bytes, writer: asyncio.StreamWriter) -> None:
        number = head.get("n", 0)

        def send(answer: dict[str, Any], data: bytes = b"") -> None:
            if not writer.is_closing() and writer.transport.get_write_buffer_size() < UNREAD_BYTES:
                writer.write(wire.pack(answer, data))

        def reply(result: Chosen | EngineError) -> None:
            if not isinstance(result, Chosen):
                return send(wire.error_head(number, result))
            times = self._times.pop((result.session, result.turn), None)
            send(wire.chosen_head(number, result) | ({"times": times} if times is not None else {}))

        try:
            if head.get("op") == "append":
                if head.get("simulated"):
                    self.clocked.pace(str(head.get("session")), False)
                sent = head.get("at")
                self.clocked.submit(wire.read_append(head, body), reply, sent if isinstance(sent, float) else None)
                self._poke.set()
            else:
                send(*self._command(number, head, body))
        except InterplayError as error:
            send(wire.error_head(number, error))
        except (KeyError, TypeError, ValueError) as error:
            send(wire.error_head(number, EngineError(f"not a request: {type(error).__name__}")))

    def _command(self, number: int, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        clocked, session = self.clocked, head.get("session")
        match head.get("op"):
            case "open":
                given = {**head.get("opening", {})}
                opening = Opening(**{**given, "prefix": tuple(given.get("prefix", ()))})
                name = session if self._is_new(session, opening) else None
                name = name or clocked.open(opening, session, realtime=bool(head.get("realtime", True)))
                return {"n": number, "session": name, "wait_s": max(0.0, clocked.next_tick() - clocked.now())}, b""
            case "close":
                clocked.close(str(session))
            case "rollback":
                clocked.engine.rollback(str(session), int(head["turn"]))
            case "last":
                return {"n": number, "turn": clocked.engine.last(str(session))}, b""
            case "snapshot":
                return {"n": number}, clocked.engine.snapshot(str(session), head.get("extra"))
            case "restore":
                name, extra = clocked.restore(body, session, realtime=bool(head.get("realtime", True)))
                return {"n": number, "session": name, "extra": extra}, b""
            case "sessions":
                return {"n": number, "sessions": sorted(clocked.engine.seats)}, b""
            case "health":
                return {"n": number, "health": {**clocked.health(), "pid": os.getpid()}}, b""
            case "metrics":
                return {"n": number}, exposition(clocked)
            case "trace":
                clocked.trace = self._note
            case "drain":
                clocked.draining = True
            case "stop":
                self.stopping.set()
            case other:
                raise EngineError(f"unknown request {other!r}")
        return {"n": number}, b""

    def _is_new(self, session: str | None, opening: Opening) -> bool:
        """It was opened just so, and nothing has happened in it: the one who asks has asked before, and not heard."""
        seat = self.clocked.engine.seats.get(session or "")
        return seat is not None and seat.opening == opening and self.clocked.engine.last(seat.id) < 0

    def _note(self, times: dict[str, Any]) -> None:
        key = (times.pop("session"), times.pop("turn"))
        self._times[key] = times
        while len(self._times) > UNASKED:
            self._times.pop(next(iter(self._times)))

    async def clock(self) -> None:
        """The tick loop: runs what is due, when it is due."""
        while True:
            at = self.clocked.next_at()
            wait = None if at is None else at - self.clocked.now()
            if wait is not None and wait <= 0:
                await self._read_on()
                self.clocked.run()
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), wait)
            self._poke.clear()

    async def _read_on(self) -> None:
        """Read what lies in the sockets already: after a stall it is all there at once, and only the newest of each
        session is to be run, not one after the other."""
        for _ in range(READ_ROUNDS):
            before = self._read
            for _ in range(3):  # select, read, take apart
                await asyncio.sleep(0)
            if self._read == before:
                return

    async def sweep(self) -> None:
        """Close what nobody uses; end when there is nobody at all."""
        while True:
            await asyncio.sleep(min(5.0, LINGER_S))
            for name in self.clocked.idle(IDLE_S):
                self.clocked.close(name)
            if not self.clients and self.clocked.now() - self.alone_since > LINGER_S:
                self.stopping.set()


async def serve(clocked: Clocked, folder: Path) -> None:
    """Answer on FOLDER/engine.sock until told to stop."""
    server, path = Server(clocked), folder / SOCKET
    path.unlink(missing_ok=True)
    listener = await asyncio.start_unix_server(server.client, path=str(path), limit=READ_BYTES)
    os.chmod(path, 0o600)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, server.stopping.set)
    tasks = [asyncio.create_task(server.clock()), asyncio.create_task(server.sweep())]
    stop = asyncio.create_task(server.stopping.wait())
    try:
        await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # a bug is an exit code, not a silence
    finally:
        listener.close()
        path.unlink(missing_ok=True)
        for task in (*tasks, stop):
            task.cancel()


def wait_for_lock(folder: Path) -> IO[bytes]:
    """Blocks until this process is the engine of the folder; it is as long as the file stays open."""
    file = open(folder / LOCK, "ab")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="interplay.engine.process")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=checkpoints.default_checkpoint())
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--video-slots", type=int, default=0)
    parser.add_argument("--floor", type=int, default=1)
    parser.add_argument("--ephemeral", action="store_true", help="leave nothing behind when nobody needs it any more")
    options = parser.parse_args(argv)
    folder: Path = options.folder
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        model, _, _ = checkpoints.load(options.checkpoint)
        held: list[IO[bytes]] = []

        def take_the_floor(fixed: bool) -> MappedEngine:
            held.append(wait_for_lock(folder))
            if (folder / STOP).exists() or not folder.is_dir():
                raise SystemExit(0)
            video_slots = options.video_slots if model.config.glances else 0
            return MappedEngine(model, folder, slots=options.slots, video_slots=video_slots, fixed=fixed)

        clocked = assemble(model, slots=options.slots, floor=options.floor, make=take_the_floor)
        asyncio.run(serve(clocked, folder))
        if options.ephemeral and not clocked.engine.seats:
            shutil.rmtree(folder, ignore_errors=True)
    except (InterplayError, FileNotFoundError) as error:
        print(f"interplay engine: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
