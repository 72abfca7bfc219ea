"""The ledger: every attempt at a provider, from before the first token to after the last, in picodollars.

begin -> a write-ahead slot (durable against `kill -9`) -> usage, usage, ... -> end -> a row in the database, in a
group commit -> the slot is free. What a killed process left in its slots is written at the next start, as recovered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from interplay.core.types import InterplayError
from interplay.gateway.contract import CHECK_S, Caller, Denied, Kind, LogLevel
from interplay.gateway.ledger.entry import LiveEntry, recovered_row
from interplay.gateway.ledger.metrics import Metrics
from interplay.gateway.ledger.slots import Slots, SlotsFull, orphans
from interplay.gateway.ledger.store import UPSERT, Database, is_postgres, sqlite_path
from interplay.gateway.ledger.totals import Totals
from interplay.gateway.ledger.writer import Writer
from interplay.gateway.prices import PriceBook

SYNC_S = 1.0
REFRESH_S = 10.0


class LedgerFull(Denied):
    """What would be spent could not be recorded, so it is not spent."""


def home() -> Path:
    """Where the gateway keeps its state: INTERPLAY_HOME, or the user's state folder."""
    if own := os.environ.get("INTERPLAY_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "interplay"


def default_url() -> str:
    """The ledger's database: INTERPLAY_LEDGER (a path or a postgresql:// URL), or a file in `home`."""
    return os.environ.get("INTERPLAY_LEDGER") or str(home() / "ledger.sqlite")


class Book:
    """The Ledger of one process. `await Book.open()`; use it on that event loop; `await close()`.

    Several processes may share a database: spend against budgets is then at most REFRESH_S behind in the others.
    """

    def __init__(self, url: str, folder: Path, prices: PriceBook) -> None:
        self.url, self.prices = url, prices
        self.writer = Writer(url)
        self.slots = Slots(folder)
        self.totals = Totals(self.writer)
        self.metrics = Metrics()
        self.live: dict[str, LiveEntry] = {}
        self.listeners: list[Callable[[LiveEntry, list[int]], None]] = []  # told the units of each commit
        self.recovered = 0
        self._upkeep: asyncio.Task[None] | None = None
        self._dirty = False

    @classmethod
    async def open(
        cls, url: str | None = None, *, folder: str | Path | None = None, prices: PriceBook | None = None
    ) -> Book:
        """Connect, and recover what a crash left behind.

        url: a path, sqlite:/// or postgresql:// URL. folder: of the write-ahead slots, on a local disk; default:
        beside an SQLite file. Raises InterplayError if the database cannot be used.
        """
        url = url or default_url()
        if folder is None:
            folder = home() / "slots" if is_postgres(url) else Path(f"{sqlite_path(url)}.slots")
        try:
            book = cls(url, Path(folder), prices or PriceBook())
        except OSError as error:
            raise InterplayError(f"the ledger cannot write into {folder}: {error.strerror or error}") from error
        await book.writer.open()
        await book._recover()
        book._upkeep = asyncio.create_task(book._keep_up(), name="ledger upkeep")
        return book

    async def begin(
        self,
        caller: Caller,
        *,
        route: str,
        provider: str,
        model: str,
        kind: Kind,
        log: LogLevel = "metadata",
        labels: Mapping[str, str] | None = None,
    ) -> LiveEntry:
        """An entry for one attempt at one provider. Raises LedgerFull if it could not be recorded."""
        if self._upkeep is None:
            raise InterplayError("the ledger is closed")
        try:
            entry = LiveEntry(
                self, caller, route, provider, model, kind, log, labels or {}, self.prices.price(provider, model)
            )
        except (SlotsFull, OSError) as error:
            why = str(error) if isinstance(error, SlotsFull) else f"the ledger cannot write: {error.strerror}"
            how = "Try again once the ledger's database and disk are well."
            raise LedgerFull("ledger", why, how, status=503, retry_after_s=5.0) from error
        self.live[entry.id] = entry
        self.totals.attach(entry)
        self._dirty = True
        return entry

    async def spent(self, column: str, value: str, since: float) -> int:
        """Picodollars spent by one `agent`, `user_id` or `key_id`, or by `all`, in entries begun since (Unix seconds).

        Includes what is open right now. The first question about a period asks the database, later ones are free.
        """
        return await self.totals.spent(column, value, since, self.live.values())

    def spent_now(self, column: str, value: str, since: float) -> int | None:
        """As `spent`, at once; None if nobody has asked `spent` about it yet."""
        return self.totals.now(column, value, since)

    def post_row(self, entry: LiveEntry, *, final: bool) -> None:
        """Hand an entry's present state to the writer; a final one frees its slot when it is in the database."""
        row, cost, units = entry.row(), entry.cost_pico, entry.units

        def committed() -> None:
            self.totals.commit(entry, cost)
            more = [now - before for now, before in zip(units, entry.committed_units, strict=True)]
            for listener in self.listeners:
                listener(entry, more)
            self.metrics.add(entry, cost, units, final=final)
            if final:
                self.slots.release(entry.slot)
                self.live.pop(entry.id, None)

        self.writer.write(row, committed)

    async def flush(self) -> None:
        """Until everything that ended is in the database."""
        await self.writer.ask(lambda database: None)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Write what waits and stop. Entries still open stay in their slots and are recovered at the next start."""
        if self._upkeep is None:
            return
        self._upkeep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._upkeep
        self._upkeep = None
        await self.writer.close()
        await asyncio.sleep(0)  # the last commit's callbacks free their slots
        self.slots.close()

    async def _recover(self) -> None:
        for path, found in orphans(self.slots.folder):
            rows = [recovered_row(one, self.prices) for one in found]

            def write(database: Database, rows: list[tuple[Any, ...]] = rows) -> None:
                database.executemany(UPSERT, rows)

            if rows:
                await self.writer.ask(write)
                self.recovered += len(rows)
            path.unlink(missing_ok=True)

    async def _keep_up(self) -> None:
        """Windows of long entries into the database, pages to the disk, other processes' spend into the totals."""
        refresh = 0.0
        while True:
            await asyncio.sleep(SYNC_S)
            now = time.time()
            if self._dirty or self.live:
                self._dirty = False
                await asyncio.to_thread(self.slots.sync)
            for entry in list(self.live.values()):
                if entry.window_due(now, CHECK_S):
                    self.post_row(entry, final=False)
            if now - refresh > REFRESH_S:
                refresh = now
                with contextlib.suppress(InterplayError):  # the database is away: the last known totals count
                    await self.totals.refresh()


def labels_json(labels: Mapping[str, str]) -> str:
    """Labels as stored: at most 256 bytes of JSON, later ones left out."""
    kept: dict[str, str] = {}
    for name, value in labels.items():
        trial = {**kept, str(name)[:40]: str(value)[:80]}
        if len(json.dumps(trial, ensure_ascii=False).encode()) > 256:
            break
        kept = trial
    return json.dumps(kept, ensure_ascii=False) if kept else ""
