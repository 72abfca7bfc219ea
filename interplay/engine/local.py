"""An engine in this process: one thread owns it, any number of tasks of an event loop talk to it.

`LocalEngine` and `RemoteEngine` (see `remote.py`) offer the same few coroutines.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from interplay.engine.clocked import Clocked
from interplay.engine.core import Append, Chosen, Opening
from interplay.engine.errors import EngineError
from interplay.engine.metrics import exposition

T = TypeVar("T")

log = logging.getLogger("interplay.engine")


class LocalEngine:
    """Runs a `Clocked` in its own daemon thread, started with the first use."""

    def __init__(self, clocked: Clocked) -> None:
        self.clocked = clocked
        self._todo: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    async def open(self, opening: Opening | None = None, *, realtime: bool = True) -> str:
        """A new session. A real-time one begins on the common grid: this returns as a slice begins, at most one period
        later, so that everybody's slices complete together. Raises Overloaded, BadInput."""
        name = await self.call(lambda c: c.open(opening, realtime=realtime))
        if realtime and len(self.clocked.engine.seats) > 1:
            await asyncio.sleep(max(0.0, self.clocked.next_tick() - self.clocked.now()))
        return name

    async def append(self, append: Append) -> Chosen:
        """Run one micro-turn. Raises EngineError of some kind."""
        loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def reply(result: Chosen | EngineError) -> None:
            _from_thread(loop, future, result)

        self._do(lambda: self.clocked.submit(append, reply))
        return await future

    async def close(self, session: str) -> None:
        await self.call(lambda c: c.close(session))

    async def rollback(self, session: str, turn: int) -> None:
        await self.call(lambda c: c.engine.rollback(session, turn))

    async def snapshot(self, session: str, extra: dict | None = None) -> bytes:
        return await self.call(lambda c: c.engine.snapshot(session, extra))

    async def restore(self, data: bytes, session: str | None = None, *, realtime: bool = True) -> tuple[str, dict]:
        return await self.call(lambda c: c.restore(data, session, realtime=realtime))

    async def health(self) -> dict[str, Any]:
        return await self.call(lambda c: c.health())

    async def metrics(self) -> bytes:
        """For Prometheus. Raises Missing without prometheus_client."""
        return await self.call(exposition)

    async def trace(self, tell: Callable[[dict[str, Any]], None] | None) -> None:
        """Call `tell`, on the engine's thread, with where the time of every micro-turn went (see `Clocked`)."""
        await self.call(lambda c: setattr(c, "trace", tell))

    async def shut_down(self) -> None:
        self.stop()

    async def call(self, do: Callable[[Clocked], T]) -> T:
        """Run `do` between two steps, on the thread that owns the engine."""
        loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                result: Any = do(self.clocked)
            except Exception as error:
                result = error
            _from_thread(loop, future, result)

        self._do(run)
        return await future

    def stop(self) -> None:
        """End the thread; what is still asked for is never answered."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def _do(self, task: Callable[[], None]) -> None:
        with self._wake:
            self._todo.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="engine", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _live(self) -> None:
        while not self._stopped:
            with self._wake:
                at = self.clocked.next_at()
                wait = None if at is None else max(0.0, at - self.clocked.now())
                if not self._todo and (wait is None or wait > 0):
                    self._wake.wait(wait)
                tasks, self._todo = self._todo, deque()
            try:
                for task in tasks:
                    task()
                at = self.clocked.next_at()
                if at is not None and at <= self.clocked.now():
                    self.clocked.run()
            except Exception:  # a bug of ours costs whoever asked an answer, and nobody else the engine
                log.exception("the engine's thread goes on")


def _from_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future, result: Any) -> None:
    """Answer in the asker's loop, if either is still there."""

    def answer() -> None:
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(answer)
