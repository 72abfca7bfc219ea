"""The writer: one thread that owns the ledger's database connection, with group commit.

The event loop notes rows and goes on: what came within LINGER_S is handed over at once and shares one transaction, so
that a call does not wake another thread, and fight it for the interpreter, before its first word. If the
database is away, rows wait (their slots keep them safe) and the writer tries again; questions fail with what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from interplay.core.types import InterplayError
from interplay.gateway.ledger.store import UPSERT, Database, shown, transient

log = logging.getLogger("interplay.gateway.ledger")
T = TypeVar("T")

LINGER_S = 0.01
MAX_BATCH = 1000
RETRY_S = 0.5


@dataclass(slots=True)
class _Row:
    values: tuple[Any, ...]
    done: Callable[[], None]


@dataclass(slots=True)
class _Job:
    """A function of the database. future: who waits for it; None for something that must be written in the end."""

    run: Callable[[Database], Any]
    future: asyncio.Future[Any] | None
    then: Callable[[Any], None] | None = None


class Writer:
    """Owns the database. `open` first, on the event loop whose callbacks it calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.error = ""  # what keeps the database from being written right now
        self._noted: list[_Row | _Job] = []  # by the event loop, not handed over yet
        self._timer: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[list[_Row | _Job] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._database: Database | None = None
        self._closing = threading.Event()

    async def open(self) -> None:
        """Connect and make the tables. Raises InterplayError or Missing: no gateway starts without its ledger."""
        self._loop = asyncio.get_running_loop()
        self._database = await asyncio.to_thread(_connect, self.url)
        self._thread.start()

    def write(self, values: tuple[Any, ...], done: Callable[[], None]) -> None:
        """Write one entry's row; `done` is called on the event loop when it is committed."""
        self._note(_Row(values, done))

    def post(self, run: Callable[[Database], Any], then: Callable[[Any], None] | None = None) -> None:
        """Do something in a transaction, some time soon, without anybody waiting for it. then: as in `ask`."""
        self._note(_Job(run, None, then))

    async def ask(self, run: Callable[[Database], T], then: Callable[[T], None] | None = None) -> T:
        """Do something in a transaction, after everything handed over before, and return what it returns.

        then: called with the answer on the event loop, exactly between the commits before it and those after it.
        """
        if not self._thread.is_alive():
            raise InterplayError("the ledger is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._noted.append(_Job(run, future, then))
        self._hand_over()
        return await future

    async def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then let go of the database. What cannot be written in time stays in its slots."""
        if self._thread.is_alive():
            self._hand_over()
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, timeout_s)
            self._closing.set()
            await asyncio.to_thread(self._thread.join, 1.0)
        if self._database is not None and not self._thread.is_alive():
            self._database.close()
            self._database = None

    def _note(self, item: _Row | _Job) -> None:
        self._noted.append(item)
        if len(self._noted) >= MAX_BATCH or self._loop is None:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(LINGER_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._noted:
            self._queue.put(self._noted)
            self._noted = []

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._gather()
            while batch:
                try:
                    self._commit(batch)
                    self.error = ""
                    batch = []
                except Exception as error:
                    batch = self._recover(batch, error)
                    if batch and self._closing.wait(RETRY_S):
                        return

    def _gather(self) -> tuple[list[_Row | _Job], bool]:
        """Wait for something, and take what else is there. True: this is the last batch."""
        batch: list[_Row | _Job] = []
        wait = True
        while len(batch) < MAX_BATCH:
            try:
                items = self._queue.get(block=wait)
            except queue.Empty:
                break
            if items is None:
                return batch, True
            batch += items
            wait = False
        return batch, False

    def _commit(self, batch: list[_Row | _Job]) -> None:
        if self._database is None:
            self._database = _connect(self.url)
        database = self._database
        database.begin(write=True)
        answers: list[tuple[_Job, Any]] = []
        try:
            rows = [item for item in batch if isinstance(item, _Row)]
            if rows:
                database.executemany(UPSERT, [row.values for row in rows])
            for job in batch:
                if isinstance(job, _Job):
                    answers.append((job, job.run(database)))
            database.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                database.rollback()
            raise
        self._call([row.done for row in rows], answers)

    def _recover(self, batch: list[_Row | _Job], error: Exception) -> list[_Row | _Job]:
        """What of a failed batch is to be tried again."""
        if transient(error):
            told = error if isinstance(error, InterplayError) else InterplayError(
                f"the ledger's database {shown(self.url)} cannot be written: {_line(error)}"
            )  # fmt: skip
            if not self.error:
                log.error("%s; what is spent is kept in the write-ahead slots", told)
            self.error = str(told)
            with contextlib.suppress(Exception):
                if self._database is not None:
                    self._database.close()
            self._database = None
            questions = [item for item in batch if isinstance(item, _Job) and item.future is not None]
            self._call([], [], [(job, told) for job in questions])
            return [item for item in batch if item not in questions]
        if len(batch) == 1:  # the one that is wrong: it must not keep the others from being written
            if isinstance(batch[0], _Job) and batch[0].future is not None:
                self._call([], [], [(batch[0], error)])
            else:
                log.error("the ledger cannot write a record: %s", _line(error))
            return []
        for item in batch:
            rest = [item]
            while rest:
                try:
                    self._commit(rest)
                    rest = []
                except Exception as again:
                    rest = self._recover(rest, again)
                    if rest and self._closing.wait(RETRY_S):
                        return []
        return []

    def _call(
        self,
        done: list[Callable[[], None]],
        answers: list[tuple[_Job, Any]],
        failures: list[tuple[_Job, Exception]] | None = None,
    ) -> None:
        """Tell the event loop, in the order in which things were committed."""

        def tell() -> None:
            for callback in done:
                callback()
            for job, answer in answers:
                if job.then is not None:
                    job.then(answer)
                if job.future is not None and not job.future.done():
                    job.future.set_result(answer)
            for job, error in failures or ():
                if job.future is not None and not job.future.done():
                    job.future.set_exception(error)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(tell)


def _connect(url: str) -> Database:
    database = Database(url)
    database.create()
    return database


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
