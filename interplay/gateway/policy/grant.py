"""An admitted call: its place, its guardrails, and its redaction."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from interplay.gateway.contract import Ask, Caller, Denied, LogLevel
from interplay.gateway.policy.guardrails import Guard, Look, Refused
from interplay.gateway.policy.redact import Redaction, Redactor, walk

if TYPE_CHECKING:
    from interplay.gateway.policy.gate import Gate, Layer

THREAD_CHARS = 50_000  # longer bodies are searched in a thread: the event loop has sockets to serve
HOLD_CHARS = 400
_SENTENCE = re.compile(r"[.!?。！？\n]+\s*")


class Admitted:
    """A Grant of the contract. Made by `Gate.admit`."""

    def __init__(
        self,
        gate: Gate,
        caller: Caller,
        ask: Ask,
        layers: list[Layer],
        log: LogLevel,
        redactor: Redactor | None,
        guards: list[Guard],
        *,
        restore: bool,
    ) -> None:
        self.caller, self.ask, self.log, self.layers = caller, ask, log, layers
        self._gate = gate
        self._redaction = Redaction(redactor, restore=restore) if redactor is not None else None
        self._before = [guard for guard in guards if "before" in guard.when]
        self._after = [guard for guard in guards if "after" in guard.when]
        self._sentence = ""
        self._open = True

    def forbids(self, provider: str, model: str, region: str = "") -> Denied | None:
        """Why this target may not be used, or None."""
        return self._gate.forbids(self, provider, model, region)

    async def check(self) -> None:
        """Raises Denied if a budget ran out, or the key was revoked or expired, since the call was admitted."""
        await self._gate.check(self)

    async def outgoing(self, messages: Any) -> Any:
        """The body as the provider may see it. Raises Denied if a guardrail refuses."""
        if self._before:
            look = Look(self.caller, "before")
            changes: dict[str, str] = {}
            for text in dict.fromkeys(_texts(messages)):
                changes[text] = await self._look(self._before, text, look)
            if any(old != new for old, new in changes.items()):
                messages = walk(messages, lambda text: changes.get(text, text))
        redaction = self._redaction
        if redaction is None:
            return messages
        if sum(map(len, _texts(messages))) > THREAD_CHARS:
            return await asyncio.to_thread(redaction.hide_body, messages)
        return redaction.hide_body(messages)

    async def incoming(self, delta: str) -> str:
        """The next piece of the answer. With a guardrail after, a sentence is handed on once it is whole."""
        if self._redaction is not None:
            delta = self._redaction.stream(delta)
        if not self._after:
            return delta
        self._sentence += delta
        ends = [match.end() for match in _SENTENCE.finditer(self._sentence)]
        cut = ends[-1] if ends else len(self._sentence) if len(self._sentence) > HOLD_CHARS else 0
        whole, self._sentence = self._sentence[:cut], self._sentence[cut:]
        return await self._look(self._after, whole, Look(self.caller, "after")) if whole else ""

    async def finish(self) -> str:
        """What `incoming` held back."""
        rest = self._redaction.finish() if self._redaction is not None else ""
        if not self._after:
            return rest
        rest, self._sentence = self._sentence + rest, ""
        return await self._look(self._after, rest, Look(self.caller, "after")) if rest else ""

    def hidden(self, body: Any) -> Any:
        """A body as it may be recorded: what is personal in it stands as tokens."""
        return self._redaction.hide_body(body) if self._redaction is not None else body

    def restore(self, body: Any) -> Any:
        """A whole body with redaction undone."""
        return self._redaction.show_body(body) if self._redaction is not None else body

    async def close(self) -> None:
        """Give the place back. Safe to call twice."""
        if self._open:
            self._open = False
            self._gate.release(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _look(self, guards: list[Guard], text: str, look: Look) -> str:
        for guard in guards:
            try:
                text = await guard.look(text, look)
            except Refused as refused:
                what = "this request" if look.when == "before" else "the rest of the answer"
                raise self._gate.deny(
                    self.caller, f"guardrail.{guard.name}", f"{what} was refused: {refused}", status=400
                ) from None
        return text


def _texts(body: Any) -> list[str]:
    from interplay.gateway.policy.redact import texts

    return texts(body)
