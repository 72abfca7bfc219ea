"""Our count against the provider's bill: line by line, by the id of the response or of our request."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from interplay.core.types import BadInput
from interplay.gateway.ledger.store import Database
from interplay.gateway.prices import pico

MAX_LINES = 5_000_000


@dataclass(frozen=True, slots=True)
class BillLine:
    """What a provider charges for one request. id: of its response, or the X-Client-Request-Id that we sent."""

    id: str
    cost_pico: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Counts and picodollars. unknown: lines of the bill that no entry matches: spent, and not by this ledger.

    unbilled: entries in the period that the bill does not know; those whose cost was our guess are now counted as 0.
    """

    matched: int
    differing: int
    unknown: int
    unbilled: int
    recorded_pico: int
    billed_pico: int
    unknown_pico: int


def read_bill(path: Path) -> list[BillLine]:
    """A CSV file with the columns `id` and `usd`. Raises BadInput with the line of the first mistake."""
    lines: list[BillLine] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not rows.fieldnames or not {"id", "usd"} <= set(rows.fieldnames):
                raise BadInput(f"{path} line 1: a bill needs the columns id and usd")
            for number, row in enumerate(rows, 2):
                try:
                    lines.append(BillLine(row["id"].strip(), pico(row["usd"].strip())))
                except (ArithmeticError, AttributeError, ValueError):
                    raise BadInput(f"{path} line {number}: usd is not an amount: {row.get('usd')!r}") from None
                if len(lines) > MAX_LINES:
                    raise BadInput(f"{path} has more than {MAX_LINES} lines; split it")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not a CSV file: not text") from error
    return lines


def reconcile(database: Database, provider: str, since: float, until: float, bill: Iterable[BillLine]) -> Reconciled:
    """Take a provider's bill for entries begun in [since, until) as what they cost. Run inside a write transaction.

    What we had recorded stays in `cost_pico`; `billed_pico` is what reports and budgets use from now on. An entry that
    a crash, a hang-up or a fault cut off, of which the provider reported nothing and which its bill does not know,
    never reached it, and is billed as 0.
    """
    rows = database.query(
        "SELECT id, provider_id, cost_pico, recovered, estimated, status FROM entries "
        "WHERE provider = ? AND started >= ? AND started < ? AND status <> 'open'",
        (provider, since, until),
    )
    by_id = {row[0]: row for row in rows}
    by_id.update({row[1]: row for row in rows if row[1]})
    charged: dict[str, int] = {}
    unknown = unknown_pico = 0
    for line in bill:
        row = by_id.get(line.id)
        if row is None:
            unknown, unknown_pico = unknown + 1, unknown_pico + line.cost_pico
        else:
            charged[row[0]] = charged.get(row[0], 0) + line.cost_pico
    left = {row[0]: row for row in rows if row[0] not in charged}
    matched = len(charged)
    never = {entry: 0 for entry, row in left.items() if row[3] or (row[4] and row[5] != "ok")}
    costs = {row[0]: int(row[2]) for row in rows}
    database.executemany(
        "UPDATE entries SET billed_pico = ? WHERE id = ?",
        [(cost, entry) for entry, cost in {**never, **charged}.items()],
    )
    return Reconciled(
        matched=matched,
        differing=sum(charged[entry] != costs[entry] for entry in charged),
        unknown=unknown,
        unbilled=len(left),
        recorded_pico=sum(costs.values()),
        billed_pico=sum(charged.values()) + sum(costs[entry] for entry in left if entry not in never),
        unknown_pico=unknown_pico,
    )
