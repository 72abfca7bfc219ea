"""From an agent's spec to its ToolBox: built-in tools, Python functions and MCP servers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING

from interplay.agents.tools.box import ToolBox
from interplay.agents.tools.policy import Policy
from interplay.agents.tools.recall import Search, recall
from interplay.agents.tools.tool import Call, Tool, ToolError, tool
from interplay.core.types import BadInput, InterplayError, Missing

if TYPE_CHECKING:
    from interplay.agents.spec import ToolSpec
    from interplay.agents.tools.mcp import McpServer

log = logging.getLogger("interplay.agents")

BUILT_IN = ("calculator", "clock", "units", "documents", "recall")
NEEDED = {"documents": "documents.read", "recall": "memory.read"}  # scopes; the others need none
DEFAULT = ("calculator", "clock", "units", "recall")  # what an agent has whose spec names no tools


async def load_tools(
    specs: Iterable[ToolSpec],
    *,
    memory: Search | None = None,
    documents: str = "",
    now: Callable[[], datetime] | None = None,
) -> ToolBox:
    """The ToolBox of an agent. The scopes of each tool in its spec are the grant of that tool, and of no other; a tool
    without any gets what it needs itself.

    memory: search bound to one relationship. documents: a folder to search beside what the spec says. now: the time
    for the clock. An MCP server that cannot be had costs its own tools: the box names it as unavailable, and has a tool
    that says so. Raises BadInput for what cannot be, and for a line whose scopes leave nothing of its tool.
    """
    tools: list[Tool] = []
    grants: dict[str, frozenset[str]] = {}  # by the tool's own name: what one may touch says nothing of another
    approve: set[str] = set()
    servers: list[McpServer] = []
    unavailable: dict[str, str] = {}
    specs = tuple(specs)
    names = {spec.name for spec in specs}

    async def close() -> None:
        await asyncio.gather(*(server.close() for server in servers), return_exceptions=True)

    try:
        connected = asyncio.gather(*(_connect(spec, servers) for spec in specs if spec.url or spec.command))
        opened = dict(await connected)  # at the same time: the slowest of them is what a session waits for
        for spec in specs:
            here = opened.get(spec.name)
            if isinstance(here, InterplayError):
                unavailable[spec.name] = str(here)
                tools.append(_stand_in(spec.name))
                continue
            made = here if here is not None else [_make(spec, memory, documents, now)]
            for one in made:
                # The spec says what may be touched: a tool that wants more than that is not offered.
                grants[one.name] = frozenset(spec.scopes) or (
                    frozenset([spec.name]) if here is not None else one.scopes
                )
                if spec.approve:
                    approve.add(one.name)
            _something_left(spec, made, grants)
            tools += made
        plain = [] if names else [*(DEFAULT if memory is not None else DEFAULT[:3])]
        plain += ["documents"] if documents and "documents" not in names else []
        for name in plain:
            one = _built_in(name, {}, memory, documents, now)
            tools.append(one)
            grants[one.name] = one.scopes
        return ToolBox(tools, Policy.per_tool(grants, approve=approve), close=close, unavailable=unavailable)
    except BaseException:
        await close()
        raise


def check(specs: Iterable[ToolSpec]) -> None:
    """What can be told of the tools of a spec without loading them. Raises BadInput as `load_tools` would."""
    for spec in specs:
        if not (spec.python or spec.command or spec.url):
            if spec.name not in BUILT_IN:
                raise _unknown(spec.name)
            need = NEEDED.get(spec.name)
            if need and spec.scopes and not any(f"{need}.".startswith(f"{scope}.") for scope in spec.scopes):
                raise _out_of_scope(spec, [need])


async def _connect(spec: ToolSpec, servers: list[McpServer]) -> tuple[str, list[Tool] | InterplayError]:
    """The tools of the MCP server in this line, or why there are none."""
    from interplay.agents.tools.mcp import McpServer

    token = ""
    if spec.token_env:
        token = os.environ.get(spec.token_env, "")
        if not token:
            return spec.name, InterplayError(f"the environment variable {spec.token_env} is not set")
    server = McpServer(spec.name, command=spec.command, url=spec.url, env=spec.env, token=token)
    servers.append(server)
    try:
        return spec.name, await server.open()
    except Missing:
        raise
    except InterplayError as error:
        log.warning("the session does without the tool %r: %s", spec.name, error)
        return spec.name, error


def _stand_in(name: str) -> Tool:
    """In the place of a server's tools: whoever wants them is told, instead of guessing."""

    async def run(arguments: Mapping[str, object], call: Call) -> str:
        raise ToolError(f"{name.replace('_', ' ').capitalize()} cannot be reached right now.")

    return Tool(name, "Not available in this session: calling it says so.", {"type": "object", "properties": {}}, run)


def _something_left(spec: ToolSpec, made: list[Tool], grants: Mapping[str, frozenset[str]]) -> None:
    policy = Policy.per_tool(grants)
    if made and not any(policy.allows(one) for one in made):
        raise _out_of_scope(spec, sorted(scope for one in made for scope in one.scopes))


def _out_of_scope(spec: ToolSpec, needed: list[str]) -> BadInput:
    more = ", ..." if len(needed) > 3 else ""
    return BadInput(
        f"the tool {spec.name!r} needs {', '.join(needed[:3])}{more}; its line grants only {', '.join(spec.scopes)}"
    )


def _unknown(name: str) -> BadInput:
    return BadInput(f"no built-in tool {name!r}; there are {', '.join(BUILT_IN)}; others need python, command or url")


def _make(spec: ToolSpec, memory: Search | None, documents: str, now: Callable[[], datetime] | None) -> Tool:
    return _python(spec) if spec.python else _built_in(spec.name, spec.options, memory, documents, now)


def _built_in(
    name: str,
    options: Mapping[str, object],
    memory: Search | None,
    documents: str,
    now: Callable[[], datetime] | None,
) -> Tool:
    if name == "calculator":
        from interplay.agents.tools.calculator import calculator

        return calculator
    if name == "units":
        from interplay.agents.tools.units import units

        return units
    if name == "clock":
        from interplay.agents.tools.clock import clock

        return clock(now)
    if name == "documents":
        from interplay.agents.tools.documents import documents as make

        folder = str(options.get("folder") or documents)
        if not folder:
            raise BadInput("the tool 'documents' needs a folder: options: {folder: PATH}")
        return make(folder)
    if name == "recall":
        return recall(memory or _nothing)
    raise _unknown(name)


def _python(spec: ToolSpec) -> Tool:
    module, _, attribute = spec.python.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"the tool {spec.name!r}: cannot load {spec.python}: {error}") from error
    made = found if isinstance(found, Tool) else tool(found)
    return made.with_(name=spec.name)


async def _nothing(query: str) -> list[str]:
    return []
