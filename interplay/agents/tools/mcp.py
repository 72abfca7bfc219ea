"""MCP servers as tools: a program on stdin and stdout, or an address, behind the same gate as every other tool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interplay.agents.tools.tool import NAME, Call, Tool, ToolError
from interplay.core.types import InterplayError, Missing

CONNECT_S = 30.0  # a server on stdio may have to be fetched first
CALL_S = 30.0
MAX_TOOLS = 64
MAX_DESCRIPTION = 1_000


class McpServer:
    """A connection to one MCP server. Start it with `open`, which returns its tools; end it with `close`.

    name: put before the names of its tools. command: argv of a server on stdio; env: names of the variables of this
    process that it is given, beside the few every program needs. url: of a server over streamable HTTP; token: sent as
    a bearer token. One task owns the connection, as the protocol's library wants it; calls go to it from anywhere.

    Each tool needs the scope NAME.read.TOOL if the server says that it only reads, otherwise NAME.write.TOOL: grants of
    `files`, `files.read` and `files.write.move_file` are all of them, those that only read, and one.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Sequence[str] = (),
        url: str = "",
        env: Sequence[str] = (),
        token: str = "",
        timeout_s: float = CALL_S,
    ) -> None:
        self.name, self.timeout_s = name, timeout_s
        self._command, self._url, self._env, self._token = tuple(command), url, tuple(env), token
        self._client: Any = None
        self._done = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    async def open(self) -> list[Tool]:
        """Connect, and list the tools. Raises InterplayError with one line if the server cannot be had."""
        ready: asyncio.Future[list[Tool]] = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._own(ready), name=f"mcp {self.name}")
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.shield(ready)
        except TimeoutError:
            await self.close()
            raise InterplayError(f"the MCP server {self.name!r} did not answer within {CONNECT_S:.0f} s") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the connection, and the program if it is one. Safe to call twice."""
        self._done.set()
        owner, self._owner = self._owner, None
        if owner is not None:
            done, _ = await asyncio.wait([owner], timeout=3.0)
            if not done:
                owner.cancel()
                await asyncio.wait([owner], timeout=1.0)

    async def _own(self, ready: asyncio.Future[list[Tool]]) -> None:
        """The one task in which the connection lives."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                self._client = await stack.enter_async_context(self._connect(stack))
                listed = (await self._client.list_tools()).tools[:MAX_TOOLS]
                ready.set_result([self._tool(entry) for entry in listed])
                await self._done.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(
                    error
                    if isinstance(error, InterplayError)
                    else InterplayError(f"the MCP server {self.name!r} cannot be used: {_reason(error)}")
                )
        finally:
            self._client = None

    def _connect(self, stack: contextlib.AsyncExitStack) -> Any:
        try:
            from httpx2 import AsyncClient  # what mcp itself speaks HTTP with
            from mcp.client import Client
            from mcp.client.stdio import StdioServerParameters, stdio_client
            from mcp.client.streamable_http import streamable_http_client
        except ImportError as error:
            raise Missing('MCP servers need mcp; get it with: pip install "interplay[tools]"') from error
        if self._command:
            given = {key: os.environ[key] for key in self._env if key in os.environ}
            parameters = StdioServerParameters(command=self._command[0], args=list(self._command[1:]), env=given)
            quiet = stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115
            return Client(stdio_client(parameters, errlog=quiet))
        if not self._token:
            return Client(streamable_http_client(self._url))
        http = AsyncClient(headers={"Authorization": f"Bearer {self._token}"}, timeout=self.timeout_s)
        return Client(streamable_http_client(self._url, http_client=http))

    def _tool(self, entry: Any) -> Tool:
        hints = entry.annotations
        reads = bool(
            hints is not None and (getattr(hints, "read_only_hint", None) or getattr(hints, "readOnlyHint", None))
        )
        schema = getattr(entry, "input_schema", None) or getattr(entry, "inputSchema", None) or {}

        async def run(arguments: Mapping[str, Any], call: Call) -> str:
            return await self._call(entry.name, arguments, call)

        full = self._named(entry.name)
        return Tool(
            full,
            (entry.description or "")[:MAX_DESCRIPTION],
            schema,
            run,
            frozenset([f"{self.name}.{'read' if reads else 'write'}.{full.removeprefix(self.name + '_')}"]),
            # A server's word that it only reads is not proof, but one that does not say so is taken to write.
            writes=not reads,
            untrusted=True,
            timeout_s=self.timeout_s,
            validate=_validator(schema),
        )

    def _named(self, name: str) -> str:
        own = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        full = f"{self.name}_{own}"[:64]
        if not NAME.fullmatch(full):
            raise InterplayError(f"the MCP server {self.name!r} has a tool whose name cannot be used")
        return full

    async def _call(self, name: str, arguments: Mapping[str, Any], call: Call) -> str:
        client = self._client
        if client is None:
            raise ToolError(f"{self.name.replace('_', ' ').capitalize()} is not connected any more.")

        async def progress(done: float, total: float | None, message: str | None) -> None:
            call.progress(message or (f"{done:g} of {total:g}" if total else f"{done:g}"))

        result = await client.call_tool(name, dict(arguments), progress_callback=progress)
        text = "\n".join(part.text for part in result.content if getattr(part, "type", "") == "text")
        if getattr(result, "is_error", False) or getattr(result, "isError", False):
            raise InterplayError(f"{name}: {text[:500]}")
        return text


def _validator(schema: Mapping[str, Any]) -> Any:
    """Names and presence are checked here; types are the server's business, which checks them again."""
    known, required = set(schema.get("properties", {})), set(schema.get("required", ()))

    def validate(arguments: Mapping[str, Any]) -> dict[str, Any]:
        if missing := sorted(required - set(arguments)):
            raise ValueError(f"{missing[0]} is missing")
        if known and schema.get("additionalProperties") is not True and (extra := sorted(set(arguments) - known)):
            raise ValueError(f"{extra[0]} is not an argument")
        return dict(arguments)

    return validate


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return " ".join(str(error).split())[:200] or type(error).__name__
