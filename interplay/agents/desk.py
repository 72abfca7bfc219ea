"""Which agent a command or a server serves, to whom, and from which store: opened when first needed, once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from interplay.agents.database import store_exists
from interplay.agents.memory import Memory
from interplay.agents.store import LOCAL_USER, Agent, AgentStore, check_user
from interplay.agents.visit import Visit
from interplay.agents.writer import MemoryWriter, writer_of
from interplay.core.timeline import Timeline
from interplay.core.types import BadInput

DEFAULT = "default"  # the agent without a spec, a store or a memory
HOW = "make another with `interplay agents create ada.yaml`"


def current_user(given: str | None = None) -> str:
    """Who talks here: what was given, else INTERPLAY_USER, else the one user of this machine. Raises BadInput."""
    user = given or os.environ.get("INTERPLAY_USER", "").strip() or LOCAL_USER
    check_user(user)
    return user


class AgentDesk:
    """name: of the agent, or "default" for none. url: of the store; None: as `AgentStore.open` finds it.

    writer: makes the memory writer of an agent; by default that of its spec, `writer_of`.
    """

    def __init__(
        self,
        name: str = DEFAULT,
        user: str | None = None,
        url: str | None = None,
        *,
        writer: Callable[[Agent], MemoryWriter | None] | None = None,
    ) -> None:
        self.name, self.user, self.url = name, current_user(user), url
        self._writer = writer or (lambda agent: writer_of(agent.spec, user=self.user))
        self._store: AgentStore | None = None
        self._opening = asyncio.Lock()
        self._refining: set[asyncio.Task[None]] = set()

    @property
    def serves(self) -> bool:
        """Whether there is an agent, and with it a memory."""
        return self.name != DEFAULT

    async def store(self) -> AgentStore:
        """The open store of this event loop. Raises what `AgentStore.open` raises, each time until it works."""
        async with self._opening:
            if self._store is None:
                self._store = await AgentStore.open(self.url)
            return self._store

    async def agent(self, surface: str = "") -> Agent:
        """The agent. surface: where it is to be met. Raises BadInput if there is none, or if it does not go there."""
        if self._store is None and not store_exists(self.url):  # looking for somebody makes no store
            raise BadInput(f'no agent {self.name[:80]!r}; "default" is there always: {HOW}')
        agent = await (await self.store()).get(self.name)
        if surface and agent.spec.surface and surface not in agent.spec.surface:
            raise BadInput(f"the agent {self.name!r} is for {', '.join(agent.spec.surface)}, not for {surface}")
        return agent

    async def visit(self, surface: str = "", *, now: datetime | None = None) -> Visit:
        """Begin a session of this agent and this user. Raises BadInput as `agent` does."""
        agent = await self.agent(surface)
        return await Visit.open(await self.store(), self.name, self.user, now=now, writer=self._writer(agent))

    @asynccontextmanager
    async def attend(self, timeline: Timeline, surface: str = "") -> AsyncIterator[Visit | None]:
        """A session from `visit` to `close`, around the code that runs it; None for the agent without a memory.

        What the session leaves is written when the block ends, whatever ended it.
        """
        if not self.serves:
            yield None
            return
        visit = await self.visit(surface)
        visit.follow(timeline)
        try:
            yield visit
        finally:
            await visit.close()
            if visit.writer is not None:  # beside whatever comes next: nobody waits for a model to take notes
                task = asyncio.create_task(visit.refine(), name="memory-refine")
                self._refining.add(task)
                task.add_done_callback(self._refining.discard)

    async def memory(self, agent: str) -> Memory:
        """What that agent remembers of this desk's user."""
        store = await self.store()
        return Memory(store, await store.relationship(agent, self.user))

    async def close(self) -> None:
        """Let notes that are being taken be finished, and close the store. Safe to call twice."""
        if self._refining:
            await asyncio.gather(*self._refining, return_exceptions=True)
        store, self._store = self._store, None
        if store is not None:
            await store.close()


def look_up(name: str, surface: str = "", *, user: str | None = None, url: str | None = None) -> Agent:
    """The agent, for code that has no event loop yet. Raises BadInput as `AgentDesk.agent` does."""

    async def look() -> Agent:
        desk = AgentDesk(name, user, url)
        try:
            return await desk.agent(surface)
        finally:
            await desk.close()

    return asyncio.run(look())
