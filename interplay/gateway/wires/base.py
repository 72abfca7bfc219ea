"""What flows between a provider and a caller, whatever the two of them speak."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault

Json = dict[str, Any]


@dataclass(slots=True)
class ToolPiece:
    """A part of a tool call. id and name are set in the first part of call `index`, arguments grow."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Piece:
    """A part of an answer. raw: the provider's own event, to be handed on as it is if the caller speaks the same.

    event: `raw`, parsed. finish: why the answer ended, in the words of OpenAI chat ("stop", "length", "tool_calls",
    "content_filter"), set once. usage: the provider's own count so far, of the whole answer. boundary: a text
    ends here, though the answer may go on.
    """

    text: str = ""
    reasoning: str = ""
    tools: tuple[ToolPiece, ...] = ()
    finish: str = ""
    usage: Usage | None = None
    raw: bytes = b""
    event: Json | None = None
    boundary: bool = False

    @property
    def speaks(self) -> bool:
        """Whether the caller's user could notice it: such a piece cannot be taken back."""
        return bool(self.text or self.tools)


class Reader(Protocol):
    """Reads one provider's stream. `read` raises Fault for an error event or for something unreadable."""

    ended: bool

    def read(self, name: str, data: bytes) -> Piece | None: ...


class Writer(Protocol):
    """Writes one answer to one caller; keeps what it needs to go on when another provider takes over."""

    def write(self, piece: Piece) -> bytes: ...

    def end(self) -> bytes: ...

    def error(self, code: str, message: str, status: int) -> bytes: ...


def parsed(data: bytes) -> Json:
    """One event's data. Raises Fault("garbage")."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Fault("garbage", "an event that is not JSON") from None
    if not isinstance(value, dict):
        raise Fault("garbage", "an event that is not an object")
    return value


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def sse(value: Any, name: str = "") -> bytes:
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + dumps(value) + b"\n\n"


class FollowingWriter:
    """A Writer of named events: hands the provider's own on, and follows them so that it can go on after them."""

    def __init__(self) -> None:
        self._used: Usage | None = None

    def write(self, piece: Piece) -> bytes:
        if piece.usage is not None:
            self._used = piece.usage
        if not piece.raw or piece.event is None:
            return self._made(piece)
        self._follow(piece.event)
        raw = piece.raw if b"\n" not in piece.raw else dumps(piece.event)
        return b"event: " + str(piece.event.get("type")).encode() + b"\ndata: " + raw + b"\n\n"

    def _made(self, piece: Piece) -> bytes:
        """The events of a piece that has none of its own."""
        raise NotImplementedError

    def _follow(self, event: Json) -> None:
        """What an event that was handed on means for those that may follow."""
        raise NotImplementedError


def whole(value: Any) -> int:
    """A count out of somebody's JSON: never negative, never anything but a number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def details(value: Any, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def text_of(content: Any) -> str:
    """The words of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Mapping) and isinstance(words := part.get("text") or part.get("refusal"), str):
            parts.append(words)
    return "".join(parts)
