"""One attempt at one provider, while it is being spent on."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from operator import add
from typing import TYPE_CHECKING, Any

from interplay.gateway.contract import Caller, Kind, LogLevel, Status, Usage
from interplay.gateway.ledger.slots import Found
from interplay.gateway.prices import UNITS, Price, PriceBook, values_of
from interplay.gateway.scrub import scrub

if TYPE_CHECKING:
    from interplay.gateway.ledger.book import Book

NAME_BYTES = 120
MAX_CONTENT = 1_000_000  # characters of one logged request or response

# Pictures and sound are not kept: their size and kind are.
_MEDIA = re.compile(r"(data:[\w.+/-]{1,80};base64,)([A-Za-z0-9+/=]+)|(?<=\")([A-Za-z0-9+/]{2000,}={0,2})(?=\")")
_STATUSES = ("open", "ok", "error", "cancelled")
_ESTIMATED = 1
_NO_UNITS = (0,) * len(UNITS)


class LiveEntry:
    """An Entry of the contract. Made by `Book.begin`."""

    def __init__(
        self,
        book: Book,
        caller: Caller,
        route: str,
        provider: str,
        model: str,
        kind: Kind,
        log: LogLevel,
        labels: Mapping[str, str],
        price: Price,
    ) -> None:
        from interplay.gateway.ledger.book import labels_json

        self.id = f"e_{time.time_ns():x}{secrets.token_hex(5)}"
        self.price, self.log = price, log
        private = log == "none"  # then nothing is kept that leads to a person or a conversation
        self.meta: dict[str, Any] = {
            "id": self.id,
            "started": time.time(),
            "agent": short(caller.agent),
            "user_id": "" if private else short(caller.user),
            "session": "" if private else short(caller.session),
            "key_id": short(caller.key_id),
            "route": short(route),
            "provider": short(provider),
            "model": short(model),
            "kind": kind,
            "priced": int(price.known),
            "price_table": price.table,
            "labels": "" if private else labels_json(labels),
        }
        # Budgets of a user hold whatever is logged about the user.
        self.scope = {"all": "", "agent": short(caller.agent), "user_id": short(caller.user), "key_id": caller.key_id}
        self.scopes: list[Any] = []
        self.committed_pico = 0
        self.counted_pico = 0
        self.committed_units: tuple[int, ...] = _NO_UNITS
        self.units: tuple[int, ...] = _NO_UNITS
        self.cost_pico_value = 0
        self.provider_id = ""
        self._counted: tuple[int, ...] = _NO_UNITS
        self._estimated = False
        self._status = 0
        self._error = ""
        self._ended = 0.0
        self._window = self.meta["started"]
        self._book = book
        self.slot = book.slots.take(self.meta)

    @property
    def cost_pico(self) -> int:
        """Picodollars so far."""
        return self.cost_pico_value

    @property
    def status(self) -> str:
        """open, ok, error or cancelled."""
        return _STATUSES[self._status]

    def usage(self, more: Usage, *, estimated: bool = False, provider_id: str = "") -> None:
        """Add what was just spent; durable against `kill -9` when it returns."""
        if self._status:
            return
        added = values_of(more)
        self.units = tuple(map(add, self.units, added))
        self._counted = tuple(map(add, self._counted, added))
        self._estimated = self._estimated or estimated
        if provider_id and not self.provider_id:
            self._identify(provider_id)
        self._put()

    def reported(self, total: Usage, *, provider_id: str = "") -> None:
        """The provider's own count so far replaces ours."""
        if self._status:
            return
        self.units, self._estimated = values_of(total), False
        if provider_id:
            self._identify(provider_id)
        self._put()

    def content(self, *, request: Any = None, response: Any = None) -> None:
        """Keep what was said, if this entry is logged in full; without secrets, and cut at a million characters."""
        if self.log != "full" or (request is None and response is None):
            return
        kept = [None if body is None else _text(body) for body in (request, response)]
        row = (self.id, *kept)
        sql = (
            "INSERT INTO content (id, request, response) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "request = COALESCE(excluded.request, content.request), "
            "response = COALESCE(excluded.response, content.response)"
        )
        self._book.writer.post(lambda database: database.execute(sql, row))

    async def end(self, status: Status = "ok", *, error: str = "") -> int:
        """Close the entry. What it cost is durable when this returns; the database has it a moment later."""
        if self._status == 0:
            self._status, self._ended = _STATUSES.index(status), time.time()
            self._error = "" if self.log == "none" else scrub(error)[:300]
            self._put()
            self._book.slots.end(self.slot)
            self._book.post_row(self, final=True)
        return self.cost_pico_value

    def row(self) -> tuple[Any, ...]:
        """The database row of the present state, in the order of `store.COLUMNS`."""
        return _row(
            self.meta,
            ended=self._ended or None,
            status=_STATUSES[self._status],
            error=self._error,
            estimated=self._estimated,
            recovered=False,
            provider_id="" if self.log == "none" else self.provider_id,
            cost=self.cost_pico_value,
            counted=self.price.cost(self._counted),
            units=self.units,
        )

    def window_due(self, now: float, window_s: float) -> bool:
        """Is it time to show this long entry in the database again?"""
        if self._status or now - self._window < window_s:
            return False
        self._window = now
        return True

    def _identify(self, provider_id: str) -> None:
        self.provider_id = short(provider_id)
        self._book.slots.name(self.slot, self.provider_id)

    def _put(self) -> None:
        cost = self.price.cost(self.units)
        self._book.totals.add(self, cost - self.cost_pico_value)
        self.cost_pico_value = cost
        flags = (_ESTIMATED if self._estimated else 0) | self._status << 4
        self._book.slots.put(self.slot, self.units, cost, self.price.cost(self._counted), flags)


def recovered_row(found: Found, prices: PriceBook) -> tuple[Any, ...]:
    """The row of an entry that a dead process left in its slot: what had been metered, at the price of that time."""
    status = _STATUSES[min(found.flags >> 4, len(_STATUSES) - 1)] if found.ended else "error"
    return _row(
        found.meta,
        ended=time.time(),
        status=status,
        error="" if found.ended else "the gateway's process died; what had been metered is recorded",
        estimated=bool(found.flags & _ESTIMATED),
        recovered=True,
        provider_id=found.provider_id,
        cost=found.cost_pico,
        counted=found.counted_pico,
        units=found.units,
    )


def _row(
    meta: Mapping[str, Any],
    *,
    ended: float | None,
    status: str,
    error: str,
    estimated: bool,
    recovered: bool,
    provider_id: str,
    cost: int,
    counted: int,
    units: tuple[int, ...],
) -> tuple[Any, ...]:
    return (
        *(meta[name] for name in ("id", "started")),
        ended,
        *(meta[name] for name in ("agent", "user_id", "session", "key_id", "route", "provider", "model", "kind")),
        status,
        error,
        int(estimated),
        int(recovered),
        meta["priced"],
        meta["price_table"],
        provider_id,
        cost,
        counted,
        meta["labels"],
        *units,
    )


def short(name: str) -> str:
    """A name as it is stored: without secrets and line breaks, at most NAME_BYTES bytes."""
    told = " ".join(scrub(name).replace("\x00", "").split())
    return told.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")


def _text(body: Any) -> str:
    told = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
    told = _MEDIA.sub(lambda found: f"{found[1] or ''}[{len(found[2] or found[3])} characters]", told)
    return scrub(told)[:MAX_CONTENT]
