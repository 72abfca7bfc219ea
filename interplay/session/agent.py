"""One agent made ready for one session: its tools, its background, and what it remembers of this person.

What needs an extra is imported when a room is made, not before: whoever runs sessions may import this freely.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from interplay.background.room import BackgroundRoom
from interplay.core.types import Missing
from interplay.foreground.base import Capabilities

if TYPE_CHECKING:
    from interplay.agents.spec import ToolSpec
    from interplay.agents.store import AgentStore
    from interplay.agents.visit import Visit

NOBODY = "off"  # an agent whose background this is has none


@dataclass(frozen=True, slots=True)
class LiveAgent:
    """What a Session takes: `background=live.room`, `options=SessionOptions(foreground=live.foreground)`.

    room: None for an agent whose background is "off". visit: the relationship's memory in this session.
    """

    room: BackgroundRoom | None
    foreground: Mapping[str, Any] = field(default_factory=dict)
    visit: Visit | None = None


async def make_room(
    tools: Iterable[ToolSpec] = (),
    *,
    slot: str = "auto",
    documents: str = "",
    env: Mapping[str, str] | None = None,
    visit: Visit | None = None,
    now: Callable[[], datetime] | None = None,
) -> BackgroundRoom:
    """A background room. slot: "auto", "embedded", "local" or "provider:model". documents: a folder to search.

    Making a model imports a lot: it is done in a thread, before the session's clock starts. A background that takes no
    sound gets the recogniser of this process, where one is installed. Raises InterplayError.
    """
    from interplay.agents.tools.load import load_tools
    from interplay.background import ears
    from interplay.background.choose import choose

    async def search(query: str) -> list[str]:
        assert visit is not None
        return [f"{hit.who}: {hit.text}" for hit in await visit.memory.search(query)]

    background = await asyncio.to_thread(choose, slot, env)
    recogniser = None if background.abilities.audio else await asyncio.to_thread(ears.find, env)
    specs = tuple(tools)
    try:
        toolbox = await load_tools(specs, memory=search if visit else None, documents=documents, now=now)
    except Missing:
        if specs or documents:
            raise
        toolbox = None  # nobody asked for tools: those that are there for all need an extra
    return BackgroundRoom(
        background,
        toolbox,
        memory=visit.background if visit else "",
        instructions=visit.spec.instructions.background if visit else "",
        due=visit.take_due if visit else None,
        recogniser=recogniser,
    )


async def room_of(
    visit: Visit | None,
    mind: Capabilities,
    *,
    documents: str = "",
    env: Mapping[str, str] | None = None,
    now: Callable[[], datetime] | None = None,
) -> BackgroundRoom | None:
    """The background of one session: an agent's own, or the plain one for the agent without a spec.

    None for an agent whose background is "off"; and for the one without a spec if its foreground speaks for itself and
    does not delegate: a provider that answers questions, to which a second answer is one too many. mind: what the
    foreground can do. Raises InterplayError for a background or tool that cannot be had.
    """
    if visit is None:
        answers = mind.speaks and not mind.delegates
        return None if answers else await make_room(documents=documents, env=env, now=now)
    spec = visit.spec
    if spec.models.background == NOBODY:
        return None
    slot = spec.models.background
    return await make_room(spec.tools, slot=slot, documents=documents, env=env, visit=visit, now=now)


@asynccontextmanager
async def live_agent(
    store: AgentStore,
    agent: str,
    user: str = "local",
    *,
    documents: str = "",
    env: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> AsyncIterator[LiveAgent]:
    """Open an agent for one session of one user; at the end its memory of the session is written.

    Call `live.visit.follow(timeline)` before the session runs. now: when the session is, default: at present.
    Raises BadInput for an agent that does not exist, InterplayError for a background or tool that cannot be had.
    """
    from interplay.agents.visit import Visit

    visit = await Visit.open(store, agent, user, now=now)
    try:
        clock = (lambda: now) if now is not None else None
        room = await room_of(visit, Capabilities(), documents=documents, env=env, now=clock)
        yield LiveAgent(room, visit.options, visit)
    finally:
        await visit.close()
