"""The one place where tools are run: every call passes the same gate, whoever asks for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from interplay.agents.tools.policy import Policy
from interplay.agents.tools.tool import Call, Tool, ToolError
from interplay.background.base import ToolAnswer, ToolOffer, Work
from interplay.background.utterance import says_yes
from interplay.core.types import BadInput, InterplayError

MAX_RESULT = 16_000  # characters of one result
MAX_ARGUMENTS = 8_000
MAX_AT_ONCE = 16


class ToolBox:
    """The tools of one session, fixed when it is made: tools and policy are values, there is no way to add to them.

    A tool whose scopes are not granted is not offered, and calling it by name is refused in the same words as a tool
    that does not exist. close: called once at the end, for example to end MCP servers. unavailable: name -> why, of
    tools that the session was to have and does without.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        policy: Policy | None = None,
        *,
        close: Callable[[], Awaitable[None]] | None = None,
        unavailable: Mapping[str, str] | None = None,
    ) -> None:
        self._policy = policy or Policy()
        self.unavailable: Mapping[str, str] = dict(unavailable or {})
        offered: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in offered:
                raise BadInput(f"two tools are called {tool.name!r}; give one of them another name")
            if self._policy.allows(tool):
                offered[tool.name] = tool
        self._tools: Mapping[str, Tool] = offered
        self._close = close
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._count = 0

    def offers(self) -> tuple[ToolOffer, ...]:
        return tuple(ToolOffer(t.name, t.description, t.parameters) for t in self._tools.values())

    async def call(self, name: str, arguments: Mapping[str, Any], work: Work) -> ToolAnswer:
        """Run one tool: known and granted, arguments checked, a person's yes where the policy wants one, in its time.

        What goes wrong is an answer with `ok` false and one sentence for the person; only cancellation is raised.
        """
        self._count += 1
        id = f"{work.id}.{self._count}"
        tool = self._tools.get(name)
        shown = {key: _short(value) for key, value in arguments.items()} if isinstance(arguments, Mapping) else {}
        work.note("tool", "call", id=id, name=str(name)[:64], args=shown)
        try:
            answer = await self._gate(tool, name, arguments, work)
        except asyncio.CancelledError:
            work.note("tool", "cancelled", id=id, name=str(name)[:64])
            raise
        work.note("tool", "result", id=id, name=str(name)[:64], ok=answer.ok, text=_short(answer.text, 300))
        return answer

    async def close(self) -> None:
        if self._close is not None:
            await self._close()

    async def _gate(self, tool: Tool | None, name: str, arguments: Mapping[str, Any], work: Work) -> ToolAnswer:
        if tool is None:
            return ToolAnswer(False, f"there is no tool {str(name)[:64]!r} here", "I am not able to do that.")
        spoken = tool.name.replace("_", " ")
        try:
            if len(json.dumps(dict(arguments), default=str)) > MAX_ARGUMENTS:
                raise BadInput("the arguments are too long")
            given = tool.validate(arguments)
        except (BadInput, TypeError, ValueError) as error:
            return ToolAnswer(
                False, f"{tool.name}: {error}", f"I could not use {spoken}: something was missing or wrong."
            )
        if self._policy.needs_yes(tool, tainted=work.tainted) and not await self._yes(tool, given, work):
            return ToolAnswer(False, f"{tool.name}: the person did not agree", f"Then I will not use {spoken}.")
        return await self._run(tool, given, work)

    async def _yes(self, tool: Tool, given: Mapping[str, Any], work: Work) -> bool:
        """The question is ours, word for word; of the call only its arguments are in it, short."""
        values = ", ".join(f"{key} {_short(value, 60)}" for key, value in given.items())
        answer = await work.ask(f"May I use {tool.name.replace('_', ' ')}{' with ' + values if values else ''}?")
        return says_yes(answer) is True

    async def _run(self, tool: Tool, given: Mapping[str, Any], work: Work) -> ToolAnswer:
        spoken = tool.name.replace("_", " ")
        # From now on, not from its answer on: its progress and its questions are in the words of others as well.
        work.tainted |= tool.untrusted
        try:
            async with self._slots, asyncio.timeout(tool.timeout_s):
                result = await tool.run(given, Call(work))
        except TimeoutError:
            return ToolAnswer(
                False,
                f"{tool.name} gave no answer within {tool.timeout_s:g} s",
                f"{spoken.capitalize()} did not answer in time.",
            )
        except ToolError as error:
            return ToolAnswer(False, str(error), str(error), tool.untrusted)
        except InterplayError as error:
            return ToolAnswer(False, str(error), f"{spoken.capitalize()} did not work.", tool.untrusted)
        except Exception as error:
            # What a crash says may hold secrets or somebody's orders: its kind is enough for a model.
            return ToolAnswer(
                False, f"{tool.name} failed ({type(error).__name__})", f"{spoken.capitalize()} did not work."
            )
        return ToolAnswer(True, _text(result)[:MAX_RESULT], untrusted=tool.untrusted)


def _text(result: Any) -> str:
    if isinstance(result, str):
        return result
    return "" if result is None else json.dumps(result, ensure_ascii=False, default=str)


def _short(value: Any, limit: int = 200) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
