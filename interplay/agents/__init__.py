"""Agents: who a user meets again. A versioned spec, a store, and a memory of every session of every user.

What other rooms use: `AgentSpec`, `AgentStore`, `Relationship`, `Memory`, `Visit`. Needs the extra `agents`; the names
are loaded when they are asked for, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interplay.agents.desk import AgentDesk
    from interplay.agents.memory import Memory
    from interplay.agents.spec import AgentSpec
    from interplay.agents.store import Agent, AgentStore, Relationship
    from interplay.agents.visit import Visit

__all__ = ["Agent", "AgentDesk", "AgentSpec", "AgentStore", "Memory", "Relationship", "Visit"]

_HOMES = {
    "AgentSpec": "spec",
    "Agent": "store",
    "AgentDesk": "desk",
    "AgentStore": "store",
    "Relationship": "store",
    "Memory": "memory",
    "Visit": "visit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
