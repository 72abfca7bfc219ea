"""The store of agents: stable identities, every version of their specs, and who they have met."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from interplay.agents.database import Database
from interplay.agents.spec import AgentSpec
from interplay.agents.tables import agent_versions, agents, relationships
from interplay.core.types import BadInput

LOCAL_USER = "local"  # who talks on a machine where nobody logs in
MAX_USER = 128
NOBODY = "no agent {!r}; `interplay agents list` shows who there is"


@dataclass(frozen=True, slots=True)
class Agent:
    """One version of one agent. id: stays the same over versions and names. created: of this version."""

    id: str
    version: int
    spec: AgentSpec
    created: datetime

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Relationship:
    """One user and one agent: what memory belongs to."""

    id: str
    agent: Agent
    user: str


class AgentStore:
    """Agents in a database. `await AgentStore.open(url)`, `await store.close()`; or `async with`.

    url: a file path, sqlite:///PATH, postgresql://...; None: INTERPLAY_STORE, or a file in the user's data folder.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    async def open(cls, url: str | None = None) -> AgentStore:
        """Raises BadInput, Missing or InterplayError as `Database.open` does."""
        return cls(await Database.open(url))

    async def close(self) -> None:
        await self.database.close()

    async def __aenter__(self) -> AgentStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def create(self, spec: AgentSpec, *, id: str | None = None) -> Agent:
        """A new agent, version 1. id: only when it comes from another store. Raises BadInput if the name is taken."""
        agent = Agent(id or secrets.token_hex(16), 1, spec, datetime.now(UTC))
        async with self.database.write() as connection:
            if await _by_name(connection, spec.name) is not None:
                raise BadInput(f"there is an agent {spec.name!r} already; edit it, or choose another name")
            taken = await connection.execute(sa.select(agents.c.name).where(agents.c.id == agent.id))
            if (name := taken.scalar()) is not None:
                raise BadInput(f"this agent is in the store already, as {name!r}; import it with --replace")
            row = {"id": agent.id, "name": spec.name, "version": 1, "created": agent.created}
            await connection.execute(agents.insert().values(row))
            await connection.execute(_version_row(agent))
        return agent

    async def update(self, name: str, spec: AgentSpec, *, expect: int | None = None) -> Agent:
        """A new version of the agent `name`, which may get a new name by it. The same spec again changes nothing.

        expect: the version that was edited; raises BadInput if somebody else was faster.
        """
        async with self.database.write() as connection:
            await connection.execute(sa.select(agents.c.id).where(agents.c.name == name).with_for_update())
            current = await _current(connection, name)
            if expect is not None and expect != current.version:
                raise BadInput(f"{name!r} is at version {current.version}, not {expect}; look at it again, then edit")
            if spec == current.spec:
                return current
            if spec.name != name and await _by_name(connection, spec.name) is not None:
                raise BadInput(f"there is an agent {spec.name!r} already; choose another name")
            agent = Agent(current.id, current.version + 1, spec, datetime.now(UTC))
            await connection.execute(
                agents.update().where(agents.c.id == agent.id).values(name=spec.name, version=agent.version)
            )
            await connection.execute(_version_row(agent))
        return agent

    async def get(self, name: str, version: int | None = None) -> Agent:
        """An agent by name, at its newest version or at an older one. Raises BadInput if there is none."""
        async with self.database.read() as connection:
            return await _current(connection, name, version)

    async def find(self, id: str) -> Agent | None:
        """An agent by its identity, at its newest version."""
        async with self.database.read() as connection:
            name = (await connection.execute(sa.select(agents.c.name).where(agents.c.id == id))).scalar()
            return None if name is None else await _current(connection, name)

    async def list(self) -> list[Agent]:
        """All agents at their newest versions, by name."""
        async with self.database.read() as connection:
            rows = await connection.execute(_newest().order_by(agents.c.name))
            return [_agent(row) for row in rows]

    async def versions(self, name: str) -> list[Agent]:
        """Every version of an agent, oldest first."""
        async with self.database.read() as connection:
            current = await _current(connection, name)
            rows = await connection.execute(
                sa.select(agent_versions)
                .where(agent_versions.c.agent_id == current.id)
                .order_by(agent_versions.c.version)
            )
            return [Agent(current.id, row.version, _spec(row.spec), row.created) for row in rows]

    async def delete(self, name: str) -> int:
        """Delete an agent with every memory it has, of everybody. Returns how many relationships ended."""
        async with self.database.write() as connection:
            current = await _current(connection, name)
            mine = relationships.c.agent_id == current.id
            ended = (await connection.execute(sa.select(sa.func.count()).where(mine))).scalar() or 0
            await connection.execute(agents.delete().where(agents.c.id == current.id))
        await self.database.purge()
        return ended

    async def relationship(self, name: str, user: str = LOCAL_USER) -> Relationship:
        """What this user and this agent share; begins with the first call. Raises BadInput for no such agent."""
        check_user(user)
        row = next(iter(await self.database.fetch(_met(), {"name": name, "user": user})), None)
        if row is None:
            raise BadInput(NOBODY.format(name[:80]))
        agent, found = _agent(row), row.met
        if found is None:
            async with self.database.write() as connection:
                # Another session may have begun it, or be about to: they take turns at the agent's row.
                await connection.execute(sa.select(agents.c.id).where(agents.c.id == agent.id).with_for_update())
                found = await _relationship_id(connection, agent.id, user)
                if found is None:
                    found = secrets.token_hex(16)
                    row = {"id": found, "agent_id": agent.id, "user_id": user, "created": datetime.now(UTC)}
                    await connection.execute(relationships.insert().values(row))
        return Relationship(found, agent, user)

    async def users(self, name: str) -> list[str]:
        """Who has a relationship with this agent; for its operator."""
        async with self.database.read() as connection:
            agent = await _current(connection, name)
            rows = await connection.execute(
                sa.select(relationships.c.user_id)
                .where(relationships.c.agent_id == agent.id)
                .order_by(relationships.c.user_id)
            )
            return list(rows.scalars())


def check_user(user: str) -> None:
    """Raises BadInput for a user id that is empty, too long, or holds signs that do not print."""
    if not user or len(user) > MAX_USER or not user.isprintable():
        raise BadInput(f"a user is named by 1 to {MAX_USER} printable characters")


@cache
def _met() -> Any:
    """An agent by name, and its relationship with a user if there is one. Built once: that costs more than running."""
    user = relationships.c.user_id == sa.bindparam("user")
    met = sa.and_(relationships.c.agent_id == agents.c.id, user)
    query = _newest().add_columns(relationships.c.id.label("met")).outerjoin(relationships, met)
    return query.where(agents.c.name == sa.bindparam("name"))


def _newest() -> Any:
    joined = sa.and_(agent_versions.c.agent_id == agents.c.id, agent_versions.c.version == agents.c.version)
    return sa.select(agents.c.id, agents.c.name, agent_versions.c.version, agent_versions.c.spec,
                     agent_versions.c.created).join(agent_versions, joined)  # fmt: skip


async def _current(connection: AsyncConnection, name: str, version: int | None = None) -> Agent:
    query = _newest().where(agents.c.name == name)
    if version is not None:
        query = (
            sa.select(agent_versions.c.agent_id.label("id"), agent_versions.c.version, agent_versions.c.spec,
                      agent_versions.c.created)
            .join(agents, agents.c.id == agent_versions.c.agent_id)
            .where(agents.c.name == name, agent_versions.c.version == version)
        )  # fmt: skip
    row = (await connection.execute(query)).first()
    if row is not None:
        return _agent(row)
    if version is not None and await _by_name(connection, name) is not None:
        raise BadInput(f"the agent {name!r} has no version {version}")
    raise BadInput(NOBODY.format(name[:80]))


async def _by_name(connection: AsyncConnection, name: str) -> str | None:
    return (await connection.execute(sa.select(agents.c.id).where(agents.c.name == name))).scalar()


async def _relationship_id(connection: AsyncConnection, agent_id: str, user: str) -> str | None:
    query = sa.select(relationships.c.id).where(relationships.c.agent_id == agent_id, relationships.c.user_id == user)
    return (await connection.execute(query)).scalar()


def _version_row(agent: Agent) -> sa.Insert:
    spec = json.dumps(agent.spec.to_dict(), ensure_ascii=False)
    row = {"agent_id": agent.id, "version": agent.version, "spec": spec, "created": agent.created}
    return agent_versions.insert().values(row)


def _agent(row: Any) -> Agent:
    return Agent(row.id, row.version, _spec(row.spec), row.created)


def _spec(text: str) -> AgentSpec:
    return AgentSpec.from_dict(json.loads(text))
