"""Which events of a provider's stream are nothing but a piece of text, and how two of them become one.

Known: OpenAI's chat chunks (and of the many servers that speak like it), OpenAI's Responses, Anthropic's Messages. What
is not surely such a piece is none: an event that says anything else beside its text is left alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

CHAT = ("content", "reasoning_content", "reasoning", "refusal")  # texts in the delta of a chat chunk
RESPONSES = frozenset(
    f"response.{kind}.delta" for kind in ("output_text", "reasoning_summary_text", "reasoning_text", "refusal")
)
BLOCKS = {"text_delta": "text", "thinking_delta": "thinking"}
# They differ from piece to piece and say nothing about the text.
PASSING = ("created", "obfuscation", "sequence_number")


@dataclass(slots=True)
class Text:
    """A piece of text out of a stream. event: the SSE event's name, or "". data: the event's JSON; holder: the dict in
    it that has the text, under `field`. part: what it belongs to. spoken: it may be read to a person."""

    event: str
    data: dict[str, Any]
    holder: dict[str, Any]
    field: str
    part: Any
    spoken: bool

    @property
    def text(self) -> str:
        return self.holder[self.field]

    def goes_on(self, other: Text) -> bool:
        """Whether `other`, which came right after it, is more of the same. It then takes from it what is not text."""
        if (self.event, self.field) != (other.event, other.field) or self.part != other.part:
            return False
        role, its = self.holder.get("role"), other.holder.get("role")
        if role is not None and its is not None and role != its:
            return False
        if its is not None:
            self.holder["role"] = its
        if "sequence_number" in other.data:
            self.data["sequence_number"] = other.data["sequence_number"]  # what comes next counts on from there
        return True

    def joined(self, text: str) -> dict[str, Any]:
        """The event's JSON with this text. The piece is used up by it."""
        self.holder[self.field] = text
        return self.data


def text_of(raw: bytes) -> Text | None:
    """An SSE event as a piece of text, None if it is anything else, or broken."""
    if b'"delta"' not in raw:
        return None
    event, data = "", b""
    for line in raw.splitlines():
        name, _, value = line.partition(b":")
        if name == b"data" and not data:
            data = value
        elif name == b"event" and not event:
            event = value.strip().decode(errors="replace")
        elif line:
            return None  # a second line of data, an id, a comment
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    kind = found.get("type")
    if kind is None:
        return _chat(event, found)
    if kind == "content_block_delta":
        return _block(event, found)
    return _response(event, found) if kind in RESPONSES else None


def _chat(event: str, data: dict[str, Any]) -> Text | None:
    choices = data.get("choices")
    if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
        return None
    choice = choices[0]
    delta, index = choice.get("delta"), choice.get("index")
    if not isinstance(delta, dict) or not _bare(choice, "delta", "index"):
        return None
    if not all(_empty(value) or (name in (*CHAT, "role") and isinstance(value, str)) for name, value in delta.items()):
        return None
    about = {name: value for name, value in data.items() if name not in ("choices", *PASSING) and not _empty(value)}
    if not all(isinstance(value, str) for value in about.values()):
        return None  # usage, timings: what a piece says of itself is not to be lost
    texts = [name for name in CHAT if isinstance(delta.get(name), str)]
    field = next((name for name in texts if delta[name]), texts[0] if texts else "")
    if not field or any(delta[name] for name in texts if name != field):
        return None
    return Text(event, data, delta, field, (index, about), field == "content")


def _block(event: str, data: dict[str, Any]) -> Text | None:
    delta = data.get("delta")
    if not isinstance(delta, dict) or not data.keys() <= {"type", "index", "delta"}:
        return None
    field = BLOCKS.get(str(delta.get("type")), "")
    if delta.keys() != {"type", field} or not isinstance(delta[field], str):
        return None
    return Text(event, data, delta, field, data.get("index"), field == "text")


def _response(event: str, data: dict[str, Any]) -> Text | None:
    part = {name: value for name, value in data.items() if name not in ("delta", *PASSING) and not _empty(value)}
    if not isinstance(data.get("delta"), str) or not all(isinstance(value, str | int) for value in part.values()):
        return None
    return Text(event, data, data, "delta", part, data["type"] == "response.output_text.delta")


def _bare(data: dict[str, Any], *but: str) -> bool:
    return all(_empty(value) for name, value in data.items() if name not in but)


def _empty(value: Any) -> bool:
    return value is None or value == [] or value == {}
