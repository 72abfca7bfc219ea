"""Search in what the agent remembers of this person, and of nobody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from interplay.agents.tools.documents import NOTHING
from interplay.agents.tools.tool import Tool, tool

Search = Callable[[str], Awaitable[list[str]]]


def recall(search: Search) -> Tool:
    """The tool. search: a query -> lines of earlier talks, best first; it is bound to one relationship already."""

    @tool(name="recall", scopes=("memory.read",), untrusted=True)
    async def remember(query: str) -> str:
        """Search earlier conversations with this person."""
        found = await search(query)
        return "\n".join(found[:5]) if found else NOTHING

    return remember
