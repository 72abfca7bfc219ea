"""One interface, several minds: what a session needs of the model that is present on every micro-turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from interplay.core.types import MicroTurnIn, MicroTurnOut


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a foreground can do. The session looks at these flags, never at a provider's name.

    speaks: MicroTurnOut.audio carries the foreground's own voice; otherwise the session's Voice speaks `said`.
    sees: frames are used. delegates: it decides itself what goes to the background and when a result is spoken
    (actions `delegate`, `deliver`, `yield`, `tool`); otherwise the session's delegator does. together: how many
    sessions it serves at once for much less than that many times the work.
    """

    speaks: bool = False
    sees: bool = False
    delegates: bool = False
    together: int = 1


@dataclass(frozen=True, slots=True)
class ForegroundSpec:
    """What a session asks of a foreground when it opens a channel. realtime: session seconds are wall seconds."""

    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    realtime: bool = False


class Channel(Protocol):
    """One live conversation with a foreground. Micro-turns are stepped in order, one at a time."""

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut: ...

    async def close(self) -> None: ...


class Foreground(Protocol):
    """A mind that sessions can open channels to."""

    name: str
    capabilities: Capabilities

    async def open(self, spec: ForegroundSpec) -> Channel: ...
