"""What was spent in a period, without asking the database for every chunk: a known sum, and what is not yet in it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interplay.gateway.ledger.store import Database
from interplay.gateway.ledger.writer import Writer

if TYPE_CHECKING:
    from interplay.gateway.ledger.entry import LiveEntry

SCOPES = ("all", "agent", "user_id", "key_id")
FORGET_S = 3600.0


@dataclass(slots=True, eq=False)
class _Watch:
    """One sum. base: what the database had. pending: what entries of this process cost beyond that."""

    column: str
    value: str
    since: float
    base: int = 0
    pending: int = 0
    asked: float = field(default_factory=time.monotonic)

    def wants(self, entry: LiveEntry) -> bool:
        return entry.scope[self.column] == self.value and entry.meta["started"] >= self.since


class Totals:
    """Sums per agent, user and key. Commits and answers of the writer arrive in order, which keeps them exact."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._watches: dict[tuple[str, str, float], _Watch] = {}

    async def spent(self, column: str, value: str, since: float, live: Iterable[LiveEntry]) -> int:
        """Picodollars; see `Book.spent`."""
        if column not in SCOPES:
            raise ValueError(f"spend is summed by {', '.join(SCOPES)}, not by {column!r}")
        key = (column, value, since)
        watch = self._watches.get(key)
        if watch is None:
            fresh = _Watch(column, value, since)

            def known(base: int) -> None:
                if key in self._watches:
                    return
                fresh.base = base
                for entry in live:
                    if fresh.wants(entry):
                        fresh.pending += entry.cost_pico - entry.committed_pico
                        entry.scopes.append(fresh)
                self._watches[key] = fresh

            await self._writer.ask(lambda database: _sum(database, fresh), then=known)
            watch = self._watches.get(key, fresh)
        watch.asked = time.monotonic()
        return watch.base + watch.pending

    def now(self, column: str, value: str, since: float) -> int | None:
        """The sum if it is known."""
        watch = self._watches.get((column, value, since))
        return None if watch is None else watch.base + watch.pending

    def attach(self, entry: LiveEntry) -> None:
        """A new entry counts in every sum that wants it."""
        entry.scopes = [watch for watch in self._watches.values() if watch.wants(entry)]

    def add(self, entry: LiveEntry, more: int) -> None:
        for watch in entry.scopes:
            watch.pending += more

    def commit(self, entry: LiveEntry, cost: int) -> None:
        """The database now has `cost` of this entry."""
        more, entry.committed_pico = cost - entry.committed_pico, cost
        for watch in entry.scopes:
            watch.pending -= more
            watch.base += more

    async def refresh(self) -> None:
        """Read the sums again, for what other processes spent; forget those that nobody asked about for an hour."""
        now = time.monotonic()
        for key, watch in list(self._watches.items()):
            if now - watch.asked > FORGET_S:
                del self._watches[key]
        watches = list(self._watches.values())
        if not watches:
            return

        def known(sums: list[int]) -> None:
            for watch, base in zip(watches, sums, strict=True):
                watch.base = base

        await self._writer.ask(lambda database: [_sum(database, watch) for watch in watches], then=known)


def _sum(database: Database, watch: _Watch) -> int:
    where, values = ("", ()) if watch.column == "all" else (f"{watch.column} = ? AND ", (watch.value,))
    sql = f"SELECT COALESCE(SUM(COALESCE(billed_pico, cost_pico)), 0) FROM entries WHERE {where}started >= ?"
    rows: list[tuple[Any, ...]] = database.query(sql, (*values, watch.since))
    return int(rows[0][0])
