"""One call of one caller: what was asked, in which protocol, and what a given provider has to be sent for it."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from interplay.gateway.catalog import Catalog
from interplay.gateway.config import Route, Target
from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault
from interplay.gateway.images import kinds_of
from interplay.gateway.providers import Provider, Wire
from interplay.gateway.wires import chat, messages, responses
from interplay.gateway.wires.base import Json, Writer, text_of

CHARS_PER_TOKEN = 4  # of English, for estimates; what the provider reports replaces them
IMAGE_TOKENS = 800


@dataclass
class Call:
    """One request. body: as the caller sent it, in the protocol `wire`. headers: lower-case names."""

    wire: Wire
    body: Json
    route: Route
    session: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"ipg-{uuid.uuid4().hex}")

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @cached_property
    def chat(self) -> Json:
        """The request as a chat body. Raises Fault if it cannot be said that way."""
        if self.wire == "messages":
            return messages.to_chat(self.body)
        if self.wire == "responses":
            return responses.to_chat(self.body)
        return self.body

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """What beside text is in the request."""
        found = tuple(kind for kind in kinds_of(self.body) if kind != "file")
        return (*found, "audio") if "audio" not in found and _has_audio(self.body) else found

    @cached_property
    def media(self) -> bool:
        """Whether there is anything in it that a URL may stand for."""
        return bool(kinds_of(self.body))

    @cached_property
    def input_tokens(self) -> int:
        """A rough count of the prompt's tokens."""
        return _chars(self.body) // CHARS_PER_TOKEN + 1 + (IMAGE_TOKENS if "image" in self.inputs else 0)

    @property
    def max_output_tokens(self) -> int:
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            if isinstance(value := self.body.get(name), int) and not isinstance(value, bool) and value > 0:
                return value
        return 0

    def wire_for(self, provider: Provider) -> Wire:
        """The protocol in which to ask this provider: the caller's own if possible. Raises Fault."""
        if self.wire in provider.wires:
            return self.wire
        if self.wire == "embeddings":
            raise Fault("modality", f"{provider.name} has no embeddings")
        for wire in ("chat", "messages"):
            if wire in provider.wires:
                return wire
        raise Fault("modality", f"{provider.name} speaks none of our chat protocols")

    def body_for(self, wire: Wire, target: Target, catalog: Catalog, *, said: str = "") -> Json:
        """The request for a target. said: what another target had answered before it broke off; go on from there."""
        if wire == self.wire and not said:
            body = {**self.body, "model": target.model}
        else:
            made = chat.continuation(self.chat, said) if said else self.chat
            body = {**made, "model": target.model}
            if wire == "messages":
                body = messages.from_chat(body, min(catalog.find(target.id).output, 8192))
            elif wire == "responses":
                raise Fault("modality", "a continuation over the responses protocol")
        if wire == "chat" and body.get("stream"):
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return body

    def writer(self) -> Writer:
        """What writes the stream in the caller's protocol."""
        model = str(self.body.get("model", ""))
        if self.wire == "messages":
            return messages.MessagesWriter(model)
        if self.wire == "responses":
            return responses.ResponsesWriter(model)
        options = self.body.get("stream_options")
        return chat.ChatWriter(model, usage=bool(isinstance(options, dict) and options.get("include_usage")))

    def answer(self, wire: Wire, body: Json) -> Json:
        """A provider's whole answer, in the caller's protocol."""
        if wire == self.wire:
            return body
        used = usage_of(wire, body)
        if wire == "messages":
            body = messages.answer_to_chat(body)
        if self.wire == "messages":
            return messages.answer_from_chat(body, used)
        if self.wire == "responses":
            return responses.answer_from_chat(body, used)
        return body

    def error(self, code: str, message: str, status: int) -> Json:
        if self.wire == "messages":
            return messages.error_json(code, message, status)
        return chat.error_json(code, message, status)


def usage_of(wire: Wire, body: Any) -> Usage | None:
    if wire == "messages":
        return messages.usage_of(body)
    if wire == "responses":
        return responses.usage_of(body)
    return chat.usage_of(body)


def check_answer(wire: Wire, body: Json) -> None:
    """Raises Fault("garbage") for a whole answer that is none."""
    key = {"chat": "choices", "messages": "content", "responses": "output", "embeddings": "data"}[wire]
    if not isinstance(body.get(key), list):
        raise Fault("garbage", f"an answer without `{key}`")


def texts(wire: Wire, body: Json) -> list[tuple[Json, str]]:
    """Where the words of a whole answer stand: (object, key)."""
    found: list[tuple[Json, str]] = []
    if wire == "chat":
        for choice in body.get("choices") or ():
            message = choice.get("message") if isinstance(choice, dict) else None
            if isinstance(message, dict) and isinstance(message.get("content"), str):
                found.append((message, "content"))
    blocks = body.get("content") if wire == "messages" else []
    if wire == "responses":
        blocks = [part for item in body.get("output") or () if isinstance(item, dict)
                  for part in item.get("content") or ()]  # fmt: skip
    for block in blocks or ():
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            found.append((block, "text"))
    return found


def private_copy(body: Json) -> Json:
    """A copy deep enough to put pictures into."""
    return copy.deepcopy(body)


def _has_audio(body: Json) -> bool:
    for message in body.get("messages") or body.get("input") or ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and any(isinstance(p, dict) and p.get("type") == "input_audio" for p in content):
            return True
    return False


def _chars(body: Json) -> int:
    """Characters of prompt in a request of any protocol; pictures are not counted."""
    total = 0
    given = body.get("messages") or body.get("input") or ()
    if isinstance(given, str):
        return len(given)
    for message in given:
        if isinstance(message, str):
            total += len(message)
        elif isinstance(message, dict):
            total += len(text_of(message.get("content"))) + 16
            for key in ("tool_calls", "output", "arguments"):
                if message.get(key):
                    total += len(str(message[key]))
    for key in ("system", "instructions", "tools"):
        if value := body.get(key):
            total += len(value) if isinstance(value, str) else len(str(value))
    return total
