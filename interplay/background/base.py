"""What a background is, what it is handed, and what it may do while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

from interplay.background.package import ContextPackage
from interplay.core.types import InterplayError

PieceKind = Literal["speak", "context"]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a background can use. audio, images: it takes them. instant: it works in this process without a network,
    so a simulated session may treat its work as taking no time; otherwise session time keeps to wall time meanwhile.
    """

    audio: bool = False
    images: bool = False
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a result. speak: to be said at the next opening. context: for the foreground to know, silently."""

    text: str
    kind: PieceKind = "speak"


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool as a model sees it. parameters: JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool call came to. text: the result, or what went wrong, for a model. sentence: for a person, one clear
    sentence, if `ok` is false. untrusted: `text` came from outside (a document, a server) and is data, never orders.
    """

    ok: bool
    text: str
    sentence: str = ""
    untrusted: bool = False


class Refused(InterplayError):
    """Work that is not allowed. sentence: what the person is told about it."""

    code = "refused"

    def __init__(self, message: str, sentence: str) -> None:
        super().__init__(message)
        self.sentence = sentence


class Work(Protocol):
    """One delegation as the background sees it while it works on it."""

    id: str
    package: ContextPackage
    tainted: bool  # something untrusted was read: from then on tools that change something need a yes

    @property
    def tools(self) -> Toolset: ...

    def progress(self, text: str, *, aloud: bool = False) -> None:
        """Say how far it is: to be told when the person asks, or spoken at the next opening if `aloud`."""
        ...

    def heard(self) -> list[str]:
        """What the person said to this work since the last look ("no, the cheaper one"), oldest first."""
        ...

    async def wait_heard(self) -> list[str]:
        """As `heard`, but waits until there is something."""
        ...

    async def ask(self, question: str) -> str:
        """Put a question to the person and wait for the answer. Returns "" if none comes."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait in session time."""
        ...

    def note(self, lane: str, kind: str, **fields: Any) -> None:
        """A record on the session's timeline, now."""
        ...


class Toolset(Protocol):
    """The tools a session may use. There is no way to add one or to widen what one may do while it runs.

    unavailable: name -> why, of tools that the session was to have and does without.
    """

    unavailable: Mapping[str, str]

    def offers(self) -> tuple[ToolOffer, ...]: ...

    async def call(self, name: str, arguments: Mapping[str, Any], work: Work) -> ToolAnswer:
        """Run a tool. Never raises for what a tool does; cancellation is passed on."""
        ...

    async def close(self) -> None: ...


class Background(Protocol):
    """A slower mind. One instance serves any number of delegations at a time."""

    name: str
    abilities: Abilities

    def work(self, work: Work) -> AsyncIterator[Piece]:
        """Work on one delegation and give its result piece by piece. Cancelled when it is not wanted any more."""
        ...

    async def close(self) -> None: ...


class NoTools:
    """A session without tools."""

    unavailable: Mapping[str, str] = MappingProxyType({})

    def offers(self) -> tuple[ToolOffer, ...]:
        return ()

    async def call(self, name: str, arguments: Mapping[str, Any], work: Work) -> ToolAnswer:
        return ToolAnswer(False, f"there is no tool {name!r}", "I have no tool for that.")

    async def close(self) -> None:
        return None
