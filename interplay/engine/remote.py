"""The other side of the socket: an engine in its own process, as if it were here.

Keeps two compute processes on a folder, one at work and one waiting (see `process.py`). When the first dies, the
second takes over the sessions where they were; what was not answered is sent again, and answered once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interplay.engine import wire
from interplay.engine.core import Append, Chosen, Opening
from interplay.engine.errors import EngineError, EngineGone
from interplay.engine.process import SOCKET, STOP

START_S = 60.0  # loading torch and a model on a busy machine
RETRY_S = 0.02
MAX_UNANSWERED = 4096


class RemoteEngine:
    """Client of the compute process of `folder`. Made with `await RemoteEngine.connect(folder)`."""

    def __init__(self, folder: Path, command: list[str] | None) -> None:
        self.folder, self._command = folder, command
        self.processes: list[asyncio.subprocess.Process] = []
        self.restarts = 0
        self._number = 0
        self._asked: dict[int, tuple[bytes, asyncio.Future]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task | None = None
        self._closing = False

    @classmethod
    async def connect(
        cls,
        folder: Path,
        *,
        checkpoint: Path | None = None,
        slots: int = 32,
        spare: bool = True,
        start: bool = True,
    ) -> RemoteEngine:
        """Talk to the engine of `folder`, starting it (and a spare) if `start`. Raises EngineGone if none answers.

        folder: private to this user; it holds the socket and the sessions' memory, so a tmpfs is best.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / STOP).unlink(missing_ok=True)
        command = None
        if start:
            command = [sys.executable, "-m", "interplay.engine.process", str(folder), "--slots", str(slots)]
            command += ["--checkpoint", str(checkpoint)] if checkpoint else []
        engine = cls(folder, command)
        for _ in range(1 + spare if command else 0):
            await engine._spawn()
        await engine._reconnect()
        engine._task = asyncio.create_task(engine._listen(), name="engine-client")
        return engine

    async def _spawn(self) -> None:
        assert self._command is not None
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # A session of its own: a signal to us, or our death, is not its death.
        process = await asyncio.create_subprocess_exec(
            *self._command, env=environment, start_new_session=True, stdin=asyncio.subprocess.DEVNULL
        )
        self.processes.append(process)

    async def _reconnect(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + START_S
        while True:
            try:
                self._reader, self._writer = await asyncio.open_unix_connection(
                    str(self.folder / SOCKET), limit=wire.MAX_BYTES
                )
                return
            except OSError as error:
                self.processes = [p for p in self.processes if p.returncode is None]
                if loop.time() > until or (self._command and not self.processes):
                    raise EngineGone("the engine's process does not answer") from error
                await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Read answers; when the line breaks, find the engine again and ask again what was not answered."""
        while True:
            try:
                head, body = await wire.read(self._reader)
            except (asyncio.IncompleteReadError, ConnectionError, EngineError):
                if self._closing:
                    return
                self.restarts += 1
                try:
                    self.processes = [p for p in self.processes if p.returncode is None]
                    await self._reconnect()
                    if self._command is not None:
                        await self._spawn()  # a new spare
                except EngineError as error:
                    self._fail(error)
                    return
                assert self._writer is not None
                for message, _ in list(self._asked.values()):
                    self._writer.write(message)
                continue
            _, future = self._asked.pop(head.get("n", 0), (b"", None))
            if future is None or future.done():
                continue
            if "error" in head:
                future.set_exception(wire.read_error(head))
            else:
                future.set_result((head, body))

    def _fail(self, error: EngineError) -> None:
        for _, future in self._asked.values():
            if not future.done():
                future.set_exception(error)
        self._asked.clear()

    async def _ask(self, make: Any) -> tuple[dict[str, Any], bytes]:
        if self._writer is None or self._closing or (self._task is not None and self._task.done()):
            raise EngineGone("the engine's process is gone")
        if len(self._asked) >= MAX_UNANSWERED:
            raise EngineGone("the engine's process does not keep up with us")
        self._number += 1
        number = self._number
        message, future = make(number), asyncio.get_running_loop().create_future()
        self._asked[number] = (message, future)
        try:
            with suppress(ConnectionError):  # the listener notices, and sends it again
                self._writer.write(message)
                await self._writer.drain()
            return await future
        finally:
            self._asked.pop(number, None)

    async def _command_(self, op: str, body: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        return await self._ask(lambda n: wire.pack({"n": n, "op": op, **fields}, body))

    async def open(self, opening: Opening | None = None, *, realtime: bool = True, session: str | None = None) -> str:
        """As `LocalEngine.open`."""
        fields = {"opening": asdict(opening or Opening()), "realtime": realtime, "session": session}
        head, _ = await self._command_("open", **fields)
        if realtime:
            await asyncio.sleep(head["wait_s"])
        return str(head["session"])

    async def append(self, append: Append) -> Chosen:
        head, _ = await self._ask(lambda n: wire.append_message(n, append))
        return wire.read_chosen(head)

    async def close(self, session: str) -> None:
        await self._command_("close", session=session)

    async def rollback(self, session: str, turn: int) -> None:
        await self._command_("rollback", session=session, turn=turn)

    async def last(self, session: str) -> int:
        return int((await self._command_("last", session=session))[0]["turn"])

    async def sessions(self) -> list[str]:
        return list((await self._command_("sessions"))[0]["sessions"])

    async def snapshot(self, session: str, extra: dict | None = None) -> bytes:
        return (await self._command_("snapshot", session=session, extra=extra))[1]

    async def restore(self, data: bytes, session: str | None = None, *, realtime: bool = True) -> tuple[str, dict]:
        head, _ = await self._command_("restore", data, session=session, realtime=realtime)
        return str(head["session"]), head["extra"]

    async def health(self) -> dict[str, Any]:
        return {**(await self._command_("health"))[0]["health"], "restarts": self.restarts}

    async def leave(self) -> None:
        """Hang up. The engine and its sessions stay for whoever comes next."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()

    async def shut_down(self) -> None:
        """End the engine, its spare and all sessions."""
        (self.folder / STOP).touch()
        with suppress(EngineError, TimeoutError):
            await asyncio.wait_for(self._command_("stop"), 2)
        await self.leave()
        for process in self.processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
