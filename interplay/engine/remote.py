"""The other side of the socket: an engine in its own process, as if it were here.

When the compute process dies, the spare takes over the sessions where they were; what was not answered is sent again,
and answered once. One that hangs is killed, and then it is the same.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interplay.engine import wire
from interplay.engine.core import Append, Chosen, Opening
from interplay.engine.errors import EngineError, EngineGone, NoSession
from interplay.engine.keeper import Keeper
from interplay.engine.process import SOCKET, STOP

START_S = 90.0  # loading torch and a model on a busy machine
RETRY_S = 0.02
ANSWER_S = 2.0  # a micro-turn that is not answered by then is sent again
PATIENCE_S = 30.0  # ... until it is given up
HEALTH_S = 2.0
BEAT_S = 1.0
STALLED_BEATS = 6  # so many questions in a row without an answer: it hangs
MAX_UNANSWERED = 4096


class _Asked:
    """One question on its way. again: it was sent twice, to two processes."""

    __slots__ = ("again", "future", "message")

    def __init__(self, message: bytes, future: asyncio.Future) -> None:
        self.message, self.future, self.again = message, future, False


class RemoteEngine:
    """Client of the compute process of `folder`. Made with `await RemoteEngine.connect(folder)`."""

    def __init__(self, folder: Path, keeper: Keeper | None) -> None:
        self.folder, self.keeper = folder, keeper
        self.restarts = 0
        self.pid = 0  # of the process that answers
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        self._simulated: set[str] = set()
        self._tell: Callable[[dict[str, Any]], None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task] = []
        self._closing = False

    @classmethod
    async def connect(cls, folder: Path, keeper: Keeper | None = None) -> RemoteEngine:
        """Talk to the engine of `folder`. keeper: who starts it and ends it with us; without one somebody else has
        started it, and keeps it. Raises EngineGone if none answers."""
        engine = cls(folder, keeper)
        try:
            await engine._reconnect()
        except BaseException:
            if keeper is not None:
                await keeper.stop()
            raise
        engine._tasks.append(asyncio.create_task(engine._listen(), name="engine-client"))
        if keeper is not None:
            engine._tasks.append(asyncio.create_task(engine._beat(), name="engine-beat"))
        return engine

    async def _reconnect(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + START_S
        while True:
            if self.keeper is not None:
                self.keeper.keep()
            try:
                self._reader, self._writer = await asyncio.open_unix_connection(
                    str(self.folder / SOCKET), limit=wire.MAX_BYTES
                )
            except OSError as error:
                if loop.time() > until:
                    raise EngineGone("the engine's process does not answer") from error
                await asyncio.sleep(RETRY_S)
                continue
            if self.keeper is not None:
                self.keeper.answered()
            if self._tell is not None:
                self._writer.write(wire.pack({"n": 0, "op": "trace"}))
            return

    async def _listen(self) -> None:
        """Read answers; when the line breaks, find the engine again and ask again what was not answered."""
        broken = False
        while True:
            try:
                head, body = await wire.read(self._reader)
            except (asyncio.IncompleteReadError, ConnectionError, EngineError):
                if self._closing:
                    return
                broken = True
                try:
                    await self._reconnect()
                except EngineError as error:
                    self._fail(error)
                    return
                assert self._writer is not None
                for asked in list(self._asked.values()):
                    asked.again = True
                    self._writer.write(asked.message)
                continue
            self.restarts += broken  # counted when it answers: a dying process may still accept one line more
            broken = False
            asked = self._asked.pop(head.get("n", 0), None)
            if asked is None or asked.future.done():
                continue
            if "error" in head:
                asked.future.set_exception(wire.read_error(head))
            else:
                asked.future.set_result((head, body))

    async def _beat(self) -> None:
        """Watch that the process answers; end it if it hangs, for the spare to take over. Only beats of ours that
        really happened count, so a machine that stood still as a whole kills nobody."""
        silent = 0
        while not self._closing:
            await asyncio.sleep(BEAT_S)
            try:
                await asyncio.wait_for(self._health(), BEAT_S)
                silent = 0
            except (TimeoutError, EngineError):
                silent += 1
            if silent >= STALLED_BEATS and self.keeper is not None and self.keeper.kill(self.pid):
                silent = 0

    def _fail(self, error: EngineError) -> None:
        for asked in self._asked.values():
            if not asked.future.done():
                asked.future.set_exception(error)
        self._asked.clear()

    async def _ask(self, make: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes, bool]:
        """The answer, and whether the question was sent to two processes."""
        if self._writer is None or self._closing or (self._tasks and self._tasks[0].done()):
            raise EngineGone("the engine's process is gone")
        if len(self._asked) >= MAX_UNANSWERED:
            raise EngineGone("the engine's process does not keep up with us")
        self._number += 1
        number = self._number
        asked = self._asked[number] = _Asked(make(number), asyncio.get_running_loop().create_future())
        try:
            with suppress(ConnectionError):  # the listener notices, and sends it again
                self._writer.write(asked.message)
                await self._writer.drain()
            try:
                head, body = await asked.future
            except NoSession:
                if asked.again:
                    raise _Gone from None
                raise
            return head, body, asked.again
        finally:
            self._asked.pop(number, None)

    async def _command_(self, op: str, body: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        try:
            head, data, _ = await self._ask(lambda n: wire.pack({"n": n, "op": op, **fields}, body))
        except _Gone:
            if op == "close":  # the first of them heard it, and died
                return {}, b""
            raise NoSession(f"no session {fields.get('session')!r} here") from None
        return head, data

    async def open(self, opening: Opening | None = None, *, realtime: bool = True, session: str | None = None) -> str:
        """As `LocalEngine.open`."""
        name = session or secrets.token_hex(8)  # ours, so that a question that is sent twice opens one session
        fields = {"opening": asdict(opening or Opening()), "realtime": realtime, "session": name}
        head, _ = await self._command_("open", **fields)
        if realtime:
            await asyncio.sleep(head["wait_s"])
        else:
            self._simulated.add(name)
        return name

    async def append(self, append: Append) -> Chosen:
        """Run one micro-turn. Raises EngineError of some kind; EngineGone if there is no answer for long."""
        until = time.monotonic() + PATIENCE_S
        simulated = append.session in self._simulated
        while True:
            asking = self._ask(lambda n: wire.append_message(n, append, simulated))
            try:
                head, _, _ = await asyncio.wait_for(asking, ANSWER_S)
            except TimeoutError:
                if time.monotonic() > until:
                    raise EngineGone(f"micro-turn {append.turn} was not answered for {PATIENCE_S:.0f} s") from None
                continue
            except _Gone:
                raise NoSession(f"no session {append.session!r} here") from None
            if self._tell is not None and "times" in head:
                self._tell({"session": append.session, "turn": append.turn, **head["times"]})
            return wire.read_chosen(head)

    async def close(self, session: str) -> None:
        self._simulated.discard(session)
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
        if not realtime:
            self._simulated.add(str(head["session"]))
        return str(head["session"]), head["extra"]

    async def drain(self) -> None:
        """Let nobody in any more."""
        await self._command_("drain")

    async def health(self) -> dict[str, Any]:
        """As `Clocked.health`, with `restarts`. Raises EngineGone if it does not answer at once."""
        try:
            health = await asyncio.wait_for(self._health(), HEALTH_S)
        except TimeoutError:
            raise EngineGone(f"the engine's process has not answered for {HEALTH_S:.0f} s") from None
        return {**health, "restarts": self.restarts}

    async def _health(self) -> dict[str, Any]:
        health = (await self._command_("health"))[0]["health"]
        self.pid = health["pid"]
        return health

    async def metrics(self) -> bytes:
        """For Prometheus. Raises EngineError without prometheus_client over there, or if it does not answer."""
        try:
            return (await asyncio.wait_for(self._command_("metrics"), HEALTH_S))[1]
        except TimeoutError:
            raise EngineGone(f"the engine's process has not answered for {HEALTH_S:.0f} s") from None

    async def trace(self, tell: Callable[[dict[str, Any]], None] | None) -> None:
        """Call `tell` with where the time of each of our micro-turns went. The clock is the machine's, so its times
        can be compared with `time.monotonic` here."""
        self._tell = tell
        await self._command_("trace")

    async def leave(self) -> None:
        """Hang up. The engine and its sessions stay for whoever comes next."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        for task in self._tasks:
            task.cancel()
        self._fail(EngineGone("we hung up"))

    async def shut_down(self) -> None:
        """End the engine, its spare and all sessions."""
        (self.folder / STOP).touch()
        with suppress(EngineError, TimeoutError):
            await asyncio.wait_for(self._command_("stop"), 2)
        await self.leave()
        if self.keeper is not None:
            await self.keeper.stop()


class _Gone(Exception):
    """No such session, said by the second process that was asked the same."""
