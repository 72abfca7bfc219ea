"""What a session's tools may do: decided once, before it starts, from the agent's spec, and never by what is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from interplay.agents.tools.tool import Tool


@dataclass(frozen=True, slots=True)
class Policy:
    """An immutable grant.

    scopes: what may be touched. approve: names of tools that need a person's yes for each call. after_untrusted: a
    tool that changes something needs a yes once its delegation has read what others wrote.
    """

    scopes: frozenset[str] = frozenset()
    approve: frozenset[str] = frozenset()
    after_untrusted: bool = True

    @classmethod
    def of(cls, scopes: Iterable[str] = (), *, approve: Iterable[str] = ()) -> Policy:
        return cls(frozenset(scopes), frozenset(approve))

    def allows(self, tool: Tool) -> bool:
        """Every scope the tool needs was granted. A tool that names none needs none."""
        return tool.scopes <= self.scopes

    def needs_yes(self, tool: Tool, *, tainted: bool) -> bool:
        """Whether a person has to agree to this call first."""
        return tool.approve or tool.name in self.approve or (tool.writes and tainted and self.after_untrusted)
