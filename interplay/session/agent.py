"""One agent made ready for one session: its tools, its background, and what it remembers of this person.

What needs an extra is imported when a room is made, not before: whoever runs sessions may import this freely.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from interplay.background.room import BackgroundRoom
from interplay.core.types import Missing
from interplay.foreground.base import Capabilities

if TYPE_CHECKING:
    from interplay.agents.allowance import Allowance
    from interplay.agents.spec import ToolSpec
    from interplay.agents.store import AgentStore
    from interplay.agents.visit import Visit
    from interplay.background.base import Background

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
    vision: str = "",
    documents: str = "",
    env: Mapping[str, str] | None = None,
    visit: Visit | None = None,
    now: Callable[[], datetime] | None = None,
) -> BackgroundRoom:
    """A background room. slot: "auto", "embedded", "local", "provider:model" or, with a visit, "route/NAME" of the
    gateway. vision: the slot of delegations with pictures, "" for the same. documents: a folder to search.

    Making a model imports a lot: it is done in a thread, before the session's clock starts. A background that takes no
    sound gets the recogniser of this process, where one is installed. Raises InterplayError.
    """
    from interplay.agents.tools.load import load_tools
    from interplay.background import ears
    from interplay.background.choose import choose

    async def search(query: str) -> list[str]:
        assert visit is not None
        return [f"{hit.who}: {hit.text}" for hit in await visit.memory.search(query)]

    async def mind(slot: str, *, shown: bool = False) -> Background:
        if visit is None:
            return await asyncio.to_thread(choose, slot, env, shown=shown)
        from interplay.agents.allowance import mind_of

        return await asyncio.to_thread(mind_of, visit.spec, slot, allowance, env, shown=shown)

    async with contextlib.AsyncExitStack() as made:  # what was made is let go if the rest cannot be had
        allowance = await _allowance(visit, slot, vision, env)
        if allowance is not None:
            await made.enter_async_context(allowance)
        background = await mind(slot)
        made.push_async_callback(background.close)
        seer = await mind(vision, shown=True) if vision else None
        if seer is not None:
            made.push_async_callback(seer.close)
        deaf = not all(one.abilities.audio for one in (background, seer) if one is not None)
        recogniser = await asyncio.to_thread(ears.find, env) if deaf else None
        specs = tuple(tools)
        try:
            toolbox = await load_tools(specs, memory=search if visit else None, documents=documents, now=now)
        except Missing:
            if specs or documents:
                raise
            toolbox = None  # nobody asked for tools: those that are there for all need an extra
        made.pop_all()
        if allowance is not None:
            await allowance.close()  # the minds hold it from here on
        return BackgroundRoom(
            background,
            toolbox,
            memory=visit.background if visit else "",
            instructions=visit.spec.instructions.background if visit else "",
            due=visit.take_due if visit else None,
            recogniser=recogniser,
            vision=seer,
        )


async def _allowance(visit: Visit | None, slot: str, vision: str, env: Mapping[str, str] | None) -> Allowance | None:
    """The gateway for this agent and this user, if its spec, its models or the operator want one in between.

    Opened whatever the models are: a spec that names what is not there is refused, not taken for less.
    """
    if visit is None:
        return None
    from interplay.agents.allowance import governed
    from interplay.background.choose import decide

    routed = any(decide(one, env).kind == "route" for one in (slot, vision) if one)
    if not (routed or governed(visit.spec, env)):
        return None
    return await _open(visit, env)


async def _open(visit: Visit, env: Mapping[str, str] | None) -> Allowance:
    from interplay.agents.allowance import Allowance

    return await Allowance.open(visit.spec, str(visit.options.get("user", "")), visit.session, env=env)


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
        if spec.budget or spec.policy:  # what is not there is refused, whoever would have spent it
            await (await _open(visit, env)).close()
        return None
    slots = spec.models
    return await make_room(
        spec.tools, slot=slots.background, vision=slots.vision, documents=documents, env=env, visit=visit, now=now
    )


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
