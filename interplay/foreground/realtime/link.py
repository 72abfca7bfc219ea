"""A link: one live connection to a real-time provider, whatever its protocol, in terms that a channel understands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from interplay.core.types import InterplayError


class LinkLost(InterplayError):
    """The connection is gone, or never came to be. `final`: trying the same target again cannot help (a wrong key)."""

    code = "link_lost"

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class Sound:
    """The agent's voice: float32 (n,) at OUTPUT_RATE, to be played after what came before it.

    answer: which answer it belongs to, where the provider says so: the rest of one that was cut off is told by it.
    """

    samples: np.ndarray
    answer: str = ""


@dataclass(frozen=True, slots=True)
class SaidText:
    """A piece of the transcript of the agent's voice; pieces are joined without anything between them.

    trails: it is of sound that came before it; otherwise its sound comes with or after it.
    """

    text: str
    answer: str = ""
    trails: bool = False


@dataclass(frozen=True, slots=True)
class HeardText:
    """What the provider understood the user to say. whole: this is the final text of an utterance."""

    text: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class UserSpeaks:
    """The provider heard the user begin: what is still to be played is no longer wanted."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """The provider itself stopped its answer: what is still to be played is no longer wanted."""


@dataclass(frozen=True, slots=True)
class AnswerDone:
    """The provider has sent all of one answer; it may still be playing."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The provider's count of units so far in this connection, by the names of the gateway's Usage.

    model: which other model spent them, where the live one hands work on (a backend, a transcriber).
    """

    units: Mapping[str, int]
    model: str = ""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The provider will end the connection soon (session limit, `go_away`)."""

    within_s: float = 0.0


LinkEvent = Sound | SaidText | HeardText | UserSpeaks | CutOff | AnswerDone | Spent | Leaving


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the conversation so far, as it was heard and said. who: "user" or "agent"."""

    who: str
    text: str


class Link(Protocol):
    """One connection. `events` ends, or raises LinkLost, when it is gone; the channel then opens another."""

    async def send_audio(self, samples: np.ndarray) -> None:
        """The user's voice: float32 (n,) at INPUT_RATE. Raises LinkLost."""
        ...

    async def send_text(self, text: str, *, answer: bool = True) -> None:
        """Something typed, or a note for the model; answer: ask it to speak now. Raises LinkLost."""
        ...

    async def stop_speaking(self, played_ms: int) -> None:
        """The user heard only so much of the present answer. Raises LinkLost."""
        ...

    def events(self) -> AsyncIterator[LinkEvent]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What a new connection should know. history: the conversation so far, oldest first."""

    instructions: str = ""
    history: Sequence[Line] = field(default_factory=tuple)
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """One place where a conversation can be held. provider, model: for bills. sees, hears: what it offers."""

    name: str
    provider: str
    model: str
    connect: Connect


class Connect(Protocol):
    async def __call__(self, opening: Opening) -> Link: ...


class Meter(Protocol):
    """What is told of every connection's costs; the gateway's ledger is one. Nothing here may block."""

    async def begin(self, target: Target) -> Metering:
        """A connection is about to be made. Raises InterplayError if it may not be."""
        ...

    async def close(self) -> None:
        """The conversation is over."""
        ...


class Metering(Protocol):
    def counted(self, units: Mapping[str, int]) -> None:
        """More of what passes: audio_in_ms, audio_out_ms. Its time is the metering's own to measure."""
        ...

    async def reported(self, units: Mapping[str, int], model: str = "") -> None:
        """The provider's own count so far, of the target's model or of another `model`."""
        ...

    async def check(self) -> None:
        """May it go on? Raises InterplayError if not. Asked every second or so, whether anything passes or not."""
        ...

    async def end(self, error: str = "") -> None: ...

