"""The timeline: the append-only record of a session, and the one source of truth about it.

One record is one JSON object on one line: `{"t": seconds, "turn": n, "lane": ..., "kind": ..., **fields}`. Records are
kept in bounded memory, streamed to a JSONL file, and offered to subscribers; metrics, replay and the page's picture
are projections of them. `docs/timeline.md` lists the fixed names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from interplay.core.types import BadInput, InterplayError

LANES = ("user", "agent", "background", "tool", "system")
MEMORY_RECORDS = 20_000

Record = dict[str, Any]


class Subscription:
    """A live view of a timeline with a bounded queue: a slow reader loses the oldest records and knows how many.

    Iterate it with `async for`; it ends when the timeline closes. Must be read on the event loop that records.
    """

    def __init__(self, maxsize: int) -> None:
        self.dropped = 0
        self._queue: deque[Record] = deque()
        self._maxsize = maxsize
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Record:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def drain(self) -> list[Record]:
        """Everything that waits, without waiting."""
        records = list(self._queue)
        self._queue.clear()
        return records

    def _put(self, record: Record) -> None:
        if len(self._queue) >= self._maxsize:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(record)
        self._wake.set()

    def _close(self) -> None:
        self._closed = True
        self._wake.set()


class Timeline:
    """Append-only session record. A context manager; `close` flushes the file and ends the subscriptions.

    path: JSONL file to stream to, or None for memory only. memory: how many newest records stay in `records`.
    If the file cannot be written any more (a full disk), the live session matters more than its record: one
    `system/error` record says so, `error` holds the same line, and the timeline goes on in memory.
    Raises BadInput if the file cannot be created at all.
    """

    def __init__(self, path: str | Path | None = None, *, memory: int = MEMORY_RECORDS) -> None:
        self.path = Path(path) if path is not None else None
        self.error: InterplayError | None = None
        self.count = 0
        self._records: deque[Record] = deque(maxlen=memory)
        self._subscriptions: list[Subscription] = []
        self._file: TextIO | None = None
        self._unwritten: list[str] = []
        if self.path is not None:
            try:
                self._file = self.path.open("w", encoding="utf-8")
            except OSError as error:
                raise BadInput(f"cannot write the timeline {self.path}: {error.strerror or error}") from error

    @property
    def records(self) -> list[Record]:
        """The newest records, oldest first; at most `memory` of them."""
        return list(self._records)

    @property
    def forgotten(self) -> int:
        """How many records are no longer in memory."""
        return self.count - len(self._records)

    def record(self, lane: str, kind: str, *, t: float, turn: int, **fields: Any) -> Record:
        """Append one record and return it. `t`: session seconds at which the event starts.

        Raises ValueError for a lane that is not in LANES: that is a bug of the caller, not of the user.
        """
        if lane not in LANES:
            raise ValueError(f"unknown lane {lane!r}; lanes are {', '.join(LANES)}")
        entry: Record = {"t": round(float(t), 6), "turn": int(turn), "lane": lane, "kind": kind, **fields}
        self._records.append(entry)
        self.count += 1
        if self._file is not None:
            self._unwritten.append(json.dumps(entry, ensure_ascii=False, default=_plain))
        for subscription in self._subscriptions:
            subscription._put(entry)
        return entry

    def subscribe(self, maxsize: int = 256) -> Subscription:
        """A live view of what is recorded from now on."""
        subscription = Subscription(maxsize)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; harmless if it is already ended."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        subscription._close()

    def flush(self) -> None:
        """Hand what was recorded since the last flush to the file. The session calls this once per micro-turn."""
        if self._file is None or not self._unwritten:
            return
        lines, self._unwritten = self._unwritten, []
        try:
            self._file.write("\n".join(lines) + "\n")
            self._file.flush()
        except OSError as error:
            self._lose_file(error)

    def close(self) -> None:
        """Flush, close the file, end the subscriptions. Safe to call twice."""
        self.flush()
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._lose_file(error)
            self._file = None
        for subscription in self._subscriptions:
            subscription._close()
        self._subscriptions.clear()

    def __enter__(self) -> Timeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lose_file(self, error: OSError) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what it still buffers is what could not be written
                file.close()
        reason = error.strerror or str(error)
        self.error = InterplayError(f"the timeline {self.path} cannot be written ({reason}); it goes on in memory only")
        last = self._records[-1] if self._records else {"t": 0.0, "turn": 0}
        self.record("system", "error", t=last["t"], turn=last["turn"], code="timeline", text=str(self.error))


def iter_timeline(path: str | Path) -> Iterator[Record]:
    """Read a timeline file record by record, in constant memory.

    A last line without its newline is what a killed process leaves behind; it is dropped if it does not parse and
    records came before it. Raises BadInput, with the line number, on anything else that is not a timeline.
    """
    path = Path(path)
    if path.is_dir():
        raise BadInput(f"{path} is a directory, not a timeline file")
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield _parse(line)
                except ValueError as error:
                    if number > 1 and not line.endswith("\n"):
                        return
                    raise BadInput(f"{path} line {number} is not a timeline record: {error}") from error
    except FileNotFoundError as error:
        raise BadInput(f"no such file: {path}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not a timeline: not text after line {number}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error


def read_timeline(path: str | Path) -> list[Record]:
    """All records of a timeline file, in the order they were written. Raises BadInput as `iter_timeline` does."""
    return list(iter_timeline(path))


def _parse(line: str) -> Record:
    """One line as a record, or ValueError saying what is wrong with it."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError("not JSON") from error
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    for key, kinds in (("t", (int, float)), ("turn", (int,)), ("lane", (str,)), ("kind", (str,))):
        if not isinstance(entry.get(key), kinds) or isinstance(entry.get(key), bool):
            raise ValueError(f"`{key}` is missing or of the wrong type")
    if entry["lane"] not in LANES:
        raise ValueError(f"unknown lane {entry['lane']!r}")
    return entry


def _plain(value: Any) -> Any:
    """What json cannot write by itself: numpy scalars and arrays, paths, anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
