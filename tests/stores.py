"""Stores for tests: a SQLite file, and a PostgreSQL database of its own if there is a server.

INTERPLAY_TEST_POSTGRES names the server (`eval "$(scripts/postgres start)"`). Without it the PostgreSQL tests are
skipped with one line, in CI they fail.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from interplay.agents.spec import AgentSpec, Instructions
from interplay.agents.store import AgentStore
from interplay.core.timeline import Record

KINDS = ("sqlite", "postgres")
HOW = 'no PostgreSQL: eval "$(scripts/postgres start)"'


@asynccontextmanager
async def new_url(kind: str, folder: Path) -> AsyncIterator[str]:
    """The address of an empty store of this kind, gone afterwards."""
    if kind == "sqlite":
        yield str(folder / "agents.db")
        return
    server = os.environ.get("INTERPLAY_TEST_POSTGRES", "")
    if not server:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW)
    import asyncpg

    name = f"t{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield f"{server.rpartition('/')[0]}/{name}"
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def ada(name: str = "ada", **fields: object) -> AgentSpec:
    return AgentSpec(name, instructions=Instructions("be kind and brief", "Look things up."), **fields)  # type: ignore[arg-type]


async def seed(store: AgentStore, *names: str) -> None:
    for name in names:
        await store.create(ada(name))


def record(t: float, lane: str, kind: str, **fields: object) -> Record:
    return {"t": t, "turn": int(t * 5), "lane": lane, "kind": kind, **fields}


def talk(*said: tuple[str, str], started: str = "2030-03-27T14:00:00+00:00", every_s: float = 8.0) -> list[Record]:
    """A timeline in which the sides say these texts one after another, word by word."""
    records = [record(0.0, "system", "opened", started=started)]
    for n, (who, text) in enumerate(said, 1):
        kind = "heard" if who == "user" else "said"
        for k, word in enumerate(text.split()):
            records.append(record(round(n * every_s + 0.2 * k, 3), who, kind, text=word))
    end = records[-1]["t"] + 2
    return [*records, record(end, "system", "closed", reason="ended")]
