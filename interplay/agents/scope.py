"""The one door to what a relationship remembers: every statement that goes through it is bound to one relationship.

`Memory` has no other way to the tables, so that there is no query in which the condition could be forgotten.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from interplay.agents.database import Database
from interplay.agents.tables import MEMORY_TABLES, items, lines, relationships

SQLITE_MATCH = sa.text(
    "SELECT lines.id, bm25(lines_fts, 0.0, 1.0) AS score FROM lines_fts JOIN lines ON lines.id = lines_fts.rowid "
    "WHERE lines_fts MATCH :match AND lines.relationship_id = :relationship ORDER BY score, lines.id DESC LIMIT :limit"
)
POSTGRES_MATCH = sa.text(
    "SELECT lines.id, -ts_rank(search, query) AS score FROM lines, websearch_to_tsquery('english', :match) AS query "
    "WHERE search @@ query AND lines.relationship_id = :relationship ORDER BY score, lines.id DESC LIMIT :limit"
)


class Scope:
    """Statements over the memory of one relationship. `begin` gives a `Scoped` connection."""

    def __init__(self, database: Database, relationship: str) -> None:
        self.database, self.relationship = database, relationship

    async def core(self, limit: int, horizon: datetime) -> list[Any]:
        """Open items, at most `limit` of each kind, in one statement: facts and promises newest first; reminders that
        are due after `horizon`, soonest first, those that repeat, and those without a time.

        Each kind is the beginning of an index, so it does not matter how many there are.
        """
        return await self.database.fetch(_core(limit), {"relationship": self.relationship, "horizon": horizon})

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Scoped]:
        async with self.database.read() as connection:
            yield Scoped(connection, self.relationship)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Scoped]:
        async with self.database.write() as connection:
            # SQLite has one writer at a time; on PostgreSQL those of one relationship take turns.
            mine = sa.select(relationships.c.id).where(relationships.c.id == self.relationship)
            await connection.execute(mine.with_for_update())
            yield Scoped(connection, self.relationship)


class Scoped:
    """One connection, one relationship. Takes conditions, never whole statements."""

    def __init__(self, connection: AsyncConnection, relationship: str) -> None:
        self._connection, self._relationship = connection, relationship

    async def select(
        self, table: sa.Table, *where: Any, order: tuple[Any, ...] = (), limit: int | None = None
    ) -> list[Any]:
        """Rows of `table` that belong to this relationship and meet the conditions."""
        query = sa.select(table).where(self._mine(table), *where).order_by(*order).limit(limit)
        return list(await self._connection.execute(query))

    async def count(self, table: sa.Table, *where: Any) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(self._mine(table), *where)
        return int((await self._connection.execute(query)).scalar() or 0)

    async def insert(self, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        """New rows, which belong to this relationship whatever they say."""
        self._mine(table)
        if rows:
            owned = [{**row, "relationship_id": self._relationship} for row in rows]
            await self._connection.execute(table.insert(), owned)

    async def update(self, table: sa.Table, values: Mapping[str, Any], *where: Any) -> int:
        """Returns how many rows changed. Who they belong to cannot be changed."""
        kept = {key: value for key, value in values.items() if key != "relationship_id"}
        done = await self._connection.execute(table.update().where(self._mine(table), *where).values(kept))
        return done.rowcount

    async def delete(self, table: sa.Table, *where: Any) -> int:
        """Returns how many rows are gone."""
        done = await self._connection.execute(table.delete().where(self._mine(table), *where))
        return done.rowcount

    async def match(self, words: list[str], limit: int, *, every: bool = False) -> list[tuple[int, float]]:
        """(line id, score) of lines with one of the words, or with every one of them; best (lowest score) first."""
        if self._connection.dialect.name == "sqlite":
            text = (" AND " if every else " OR ").join(f'"{word}"' for word in words)
            match = f'relationship_id : "{self._relationship}" AND text : ({text})'
            statement = SQLITE_MATCH
        else:
            match = (" " if every else " or ").join(f'"{word}"' for word in words)
            statement = POSTGRES_MATCH
        values = {"match": match, "relationship": self._relationship, "limit": limit}
        return [(row[0], float(row[1])) for row in await self._connection.execute(statement, values)]

    async def lines(self, ids: list[int]) -> dict[int, Any]:
        """Lines by id, those of this relationship only."""
        rows = await self.select(lines, lines.c.id.in_(ids)) if ids else []
        return {row.id: row for row in rows}

    def _mine(self, table: sa.Table) -> Any:
        if table not in MEMORY_TABLES:
            raise ValueError(f"{table.name} does not belong to a relationship")
        return table.c.relationship_id == self._relationship


@cache
def _core(limit: int) -> Any:
    """Built once: making a statement costs more than running it."""
    due = items.c.due >= sa.bindparam("horizon", type_=items.c.due.type)
    once = items.c.every_s.is_(None)
    kinds = (
        ("user", (), items.c.updated.desc()),
        ("promise", (), items.c.updated.desc()),
        ("reminder", (due, once), items.c.due),
        ("reminder", (items.c.due.is_(None), once), items.c.updated.desc()),
        ("reminder", (items.c.every_s.is_not(None),), items.c.every_s),
    )
    parts = []
    for block, which, order in kinds:
        mine = items.c.relationship_id == sa.bindparam("relationship")
        where = (mine, items.c.status == "open", items.c.block == block, *which)
        parts.append(sa.select(sa.select(items).where(*where).order_by(order).limit(limit).subquery()))
    return sa.union_all(*parts)
