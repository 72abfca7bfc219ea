"""What a session's tools may do: decided once, before it starts, from the agent's spec, and never by what is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from interplay.agents.tools.tool import Tool


@dataclass(frozen=True, slots=True)
class Policy:
    """An immutable grant. A scope covers itself and what lies below it: `files` covers `files.read`.

    scopes: what every tool of the session may touch. grants: what one tool may touch, by its name; a tool that is named
    there has that and nothing else, whatever `scopes` and the grants of other tools say. approve: names of tools that
    need a person's yes for each call. after_untrusted: a tool that changes something needs a yes once its delegation
    has read what others wrote.
    """

    scopes: frozenset[str] = frozenset()
    approve: frozenset[str] = frozenset()
    after_untrusted: bool = True
    grants: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        own = {name: frozenset(scopes) for name, scopes in self.grants.items()}
        object.__setattr__(self, "grants", MappingProxyType(own))

    @classmethod
    def of(cls, scopes: Iterable[str] = (), *, approve: Iterable[str] = ()) -> Policy:
        """One grant for all tools of a session."""
        return cls(frozenset(scopes), frozenset(approve))

    @classmethod
    def per_tool(cls, grants: Mapping[str, Iterable[str]], *, approve: Iterable[str] = ()) -> Policy:
        """A grant for each tool by its name; a tool that is not named has none."""
        return cls(approve=frozenset(approve), grants={name: frozenset(own) for name, own in grants.items()})

    def allows(self, tool: Tool) -> bool:
        """Every scope the tool needs was granted to it. A tool that names none needs none."""
        granted = self.grants.get(tool.name, self.scopes)
        return all(any(need == scope or need.startswith(f"{scope}.") for scope in granted) for need in tool.scopes)

    def needs_yes(self, tool: Tool, *, tainted: bool) -> bool:
        """Whether a person has to agree to this call first."""
        return tool.approve or tool.name in self.approve or (tool.writes and tainted and self.after_untrusted)
