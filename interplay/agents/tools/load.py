"""From an agent's spec to its ToolBox: built-in tools, Python functions and MCP servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING

from interplay.agents.tools.box import ToolBox
from interplay.agents.tools.policy import Policy
from interplay.agents.tools.recall import Search, recall
from interplay.agents.tools.tool import Tool, tool
from interplay.core.types import BadInput, InterplayError

if TYPE_CHECKING:
    from interplay.agents.spec import ToolSpec
    from interplay.agents.tools.mcp import McpServer

BUILT_IN = ("calculator", "clock", "units", "documents", "recall")
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
    for the clock. Raises BadInput for what cannot be, InterplayError if a server cannot be had.
    """
    tools: list[Tool] = []
    grants: dict[str, frozenset[str]] = {}  # by the tool's own name: what one may touch says nothing of another
    approve: set[str] = set()
    servers: list[McpServer] = []
    names = set()

    async def close() -> None:
        await asyncio.gather(*(server.close() for server in servers), return_exceptions=True)

    try:
        for spec in specs:
            names.add(spec.name)
            made = await _make(spec, memory, documents, now, servers)
            for one in made:
                # The spec says what may be touched: a tool that wants more than that is not offered.
                grants[one.name] = frozenset(spec.scopes) or one.scopes
                if spec.approve:
                    approve.add(one.name)
            tools += made
        plain = [] if names else [*(DEFAULT if memory is not None else DEFAULT[:3])]
        plain += ["documents"] if documents and "documents" not in names else []
        for name in plain:
            one = _built_in(name, {}, memory, documents, now)
            tools.append(one)
            grants[one.name] = one.scopes
        return ToolBox(tools, Policy.per_tool(grants, approve=approve), close=close)
    except BaseException:
        await close()
        raise


async def _make(
    spec: ToolSpec, memory: Search | None, documents: str, now: Callable[[], datetime] | None, servers: list[McpServer]
) -> list[Tool]:
    if spec.python:
        return [_python(spec)]
    if not spec.command and not spec.url:
        return [_built_in(spec.name, spec.options, memory, documents, now)]
    from interplay.agents.tools.mcp import McpServer

    token = ""
    if spec.token_env:
        token = os.environ.get(spec.token_env, "")
        if not token:
            raise InterplayError(f"the tool {spec.name!r} needs the environment variable {spec.token_env}")
    server = McpServer(
        spec.name, command=spec.command, url=spec.url, env=spec.env, token=token, scopes=spec.scopes or (spec.name,)
    )
    servers.append(server)
    return await server.open()


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
    raise BadInput(f"no built-in tool {name!r}; there are {', '.join(BUILT_IN)}; others need python, command or url")


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
