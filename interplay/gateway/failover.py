"""A call carried through to its answer, over as many attempts as it takes.

No attempt's failure reaches the caller while another target may still answer. After the first word the answer goes
on instead: another model continues it, and `Seam` sees to it that no word comes twice. What has been handed on is
never taken back; where it cannot be continued honestly (inside a tool call), the caller is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from interplay.core.types import Missing
from interplay.gateway import library
from interplay.gateway.attempts import Attempts, watched
from interplay.gateway.call import CHARS_PER_TOKEN, Call, check_answer, private_copy, texts, usage_of
from interplay.gateway.config import Config, Target
from interplay.gateway.contract import CHECK_S, Caller, Denied, Entry, Grant, Ledger, Status, Usage
from interplay.gateway.faults import Fault
from interplay.gateway.images import Pictures, in_house
from interplay.gateway.ledger.entry import MAX_CONTENT
from interplay.gateway.outgoing import Incoming
from interplay.gateway.providers import Provider
from interplay.gateway.routes import Board, Health
from interplay.gateway.seam import Seam
from interplay.gateway.upstream import Shot, Upstream, extra_headers
from interplay.gateway.wires import messages
from interplay.gateway.wires.base import Json, Piece

UNBILLED = frozenset({"rate_limit", "quota", "auth", "no_key", "server", "overloaded", "connect", "tls", "context",
                      "filter", "modality", "not_found", "bad_request"})  # fmt: skip
"""Faults after which nothing was spent: the provider refused before it did anything."""


@dataclass(slots=True)
class Trace:
    """How a call went, for headers, logs and metrics. first_s: seconds to the first word."""

    target: str = ""
    attempts: list[tuple[str, str]] = field(default_factory=list)
    first_s: float | None = None
    resumed: int = 0
    cost_pico: int = 0
    usage: Usage | None = None


class Carrier:
    """Carries calls. Shared by all calls of a gateway; `config` may be replaced between calls."""

    def __init__(self, config: Config, upstream: Upstream, board: Board, ledger: Ledger) -> None:
        self.config, self.upstream, self.board, self.ledger = config, upstream, board, ledger

    async def answer(self, call: Call, grant: Grant, caller: Caller, trace: Trace) -> Json:
        """A whole answer in the caller's protocol. Raises Failed or Denied."""
        attempts = Attempts(call, self.board, grant)
        while True:
            target = await attempts.next()
            async with self._attempt(call, grant, caller, target, attempts, trace) as attempt:
                wire, body = await self._whole(call, target, attempts, grant, attempt)
                attempt.keep_whole(wire, body)
                used = usage_of(wire, body) or Usage(
                    input_tokens=call.input_tokens,
                    output_tokens=sum(len(holder[key]) for holder, key in texts(wire, body)) // CHARS_PER_TOKEN,
                )
                attempt.entry.reported(_with(used, requests=1), provider_id=str(body.get("id") or ""))
                _refused(call, wire, body)
                attempt.worked(None)
                trace.usage = used
                return await self._shown(call, wire, body, grant)

    async def _whole(
        self, call: Call, target: Target, attempts: Attempts, grant: Grant, attempt: _Attempt
    ) -> tuple[Any, Json]:
        provider = self.config.providers.get(target.provider)
        if provider.library:
            body = {**call.chat, "model": target.model}
            limit_s = min(call.route.times.whole, attempts.left_s())
            work = library.answer(provider, target.model, body, limit_s, attempt.entry.id)
            wire: Any = "chat"
        else:
            wire = call.wire_for(provider)
            body = call.body_for(wire, target, self.config.catalog)
            shot = await self._shot(call, provider, wire, body, attempts, attempt.entry.id)
            work = self.upstream.answer(shot)
        attempt.spend(Usage(input_tokens=call.input_tokens, requests=1))
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=CHECK_S)
                if not task.done():
                    await grant.check()
        finally:
            task.cancel()
        body = task.result()
        check_answer(wire, body)
        return wire, body

    async def _shown(self, call: Call, wire: Any, body: Json, grant: Grant) -> Json:
        """The answer as the caller may see it."""
        for holder, key in texts(wire, body):
            holder[key] = await grant.incoming(holder[key]) + await grant.finish()
        if wire != "embeddings":
            body = grant.restore(body)
        return call.answer(wire, body)

    async def stream(self, call: Call, grant: Grant, caller: Caller, trace: Trace) -> AsyncGenerator[list[Piece], None]:
        """Pieces of one answer. Raises Failed or Denied, before the first piece or after any.

        Close it (`aclosing`) to hang up.
        """
        began = monotonic()
        attempts = Attempts(call, self.board, grant)
        incoming = Incoming(grant)
        said: list[str] = []
        handed = False  # the caller has something, be it without words
        restart = call.route.mid_stream == "restart"
        checked = began
        while True:
            target = await attempts.next()
            before = "".join(said)
            async with self._attempt(call, grant, caller, target, attempts, trace) as attempt:
                seam = Seam(before, restart=restart) if before else None
                pieces = self._pieces(call, target, attempts, attempt, "" if restart else before)
                times = call.route.times
                if max(times.first, times.idle) > CHECK_S:
                    pieces = watched(pieces, grant)
                async with aclosing(pieces):
                    async for batch in pieces:
                        out: list[Piece] = []
                        fresh = 0
                        for piece in batch:
                            fresh += attempt.count(piece)
                            if handed:
                                piece.raw = b""
                            if piece.usage is not None:
                                attempt.reported(piece)
                                if before:
                                    piece.usage = _with(piece.usage, output_tokens=len(before) // CHARS_PER_TOKEN)
                                trace.usage = piece.usage
                            if seam is not None:
                                await self._resumed(piece, seam, said, incoming, out)
                            else:
                                said.append(piece.text)
                                await incoming.take(piece, out)
                        attempt.write()
                        now = monotonic()
                        if attempt.first_s is None and fresh:
                            attempt.first_s = now - attempt.began
                            if trace.first_s is None:
                                trace.first_s = now - began
                        if now - checked > 1.0:
                            checked = now
                            await grant.check()
                        if out:
                            yield out
                            incoming.opened = True
                if seam is not None and (tail := seam.finish()):
                    said.append(tail)
                    yield await incoming.words(tail)
                if rest := await incoming.finish():
                    yield rest
                attempt.worked(attempt.first_s)
                return
            # Only a fault leads here: what follows continues what the caller already has.
            fault = attempts.faults[-1][1]
            handed = handed or incoming.opened
            if incoming.in_tool or (said and any(said) and not self._resumable(call)):
                raise attempts.failed()
            if seam is not None and seam.diverged:
                if not restart:
                    raise attempts.failed()
                restart = False  # it says something else: ask the next one to continue instead
            if any(said) or incoming.opened:
                trace.resumed += 1
                if fault.then.next:
                    attempts.resume()

    @staticmethod
    async def _resumed(piece: Piece, seam: Seam, said: list[str], incoming: Incoming, out: list[Piece]) -> None:
        """A piece of a continuation: only what is new in it."""
        piece.raw, piece.reasoning = b"", ""
        if piece.text:
            piece.text = seam.take(piece.text)
            if seam.diverged:
                raise Fault("truncated", "the continuation said something else")
        if (piece.finish or piece.tools) and (tail := seam.finish()):
            piece.text += tail
        said.append(piece.text)
        await incoming.take(piece, out)

    @staticmethod
    def _resumable(call: Call) -> bool:
        if call.route.mid_stream == "fail" or call.body.get("n", 1) not in (1, None):
            return False
        try:
            return bool(call.chat["messages"])
        except Fault:
            return False

    async def _pieces(
        self, call: Call, target: Target, attempts: Attempts, attempt: _Attempt, said: str
    ) -> AsyncGenerator[list[Piece], None]:
        """One attempt's pieces. raw is kept only where the caller speaks the provider's protocol."""
        provider = self.config.providers.get(target.provider)
        if provider.library:
            from interplay.gateway.wires import chat

            body = {**(chat.continuation(call.chat, said) if said else call.chat), "model": target.model}
            attempt.spend(Usage(input_tokens=call.input_tokens + len(said) // CHARS_PER_TOKEN, requests=1))
            times = call.route.times
            first_s = min(times.first, max(0.001, attempts.left_s()))
            pieces = library.stream(provider, target.model, body, first_s, times.idle, attempt.entry.id)
            same = False
        else:
            wire = call.wire_for(provider)
            if said and wire == "responses":
                wire = "chat"  # every provider of responses speaks chat too
            body = call.body_for(wire, target, self.config.catalog, said=said)
            shot = await self._shot(call, provider, wire, body, attempts, attempt.entry.id)
            attempt.spend(Usage(input_tokens=call.input_tokens + len(said) // CHARS_PER_TOKEN, requests=1))
            pieces, same = self.upstream.stream(shot), wire == call.wire
        async with aclosing(pieces):
            spoke = bool(said)
            async for batch in pieces:
                attempt.name(batch)
                if not same:
                    for piece in batch:
                        piece.raw, piece.event = b"", None
                spoke = spoke or any(piece.speaks for piece in batch)
                if not spoke and any(piece.finish == "content_filter" for piece in batch):
                    raise Fault("filter", "the answer was withheld")
                yield batch

    async def _shot(
        self, call: Call, provider: Provider, wire: Any, body: Json, attempts: Attempts, entry: str
    ) -> Shot:
        if call.media and (provider.inline_images or in_house(provider.url())):
            body = private_copy(body)
            await Pictures(self.config.image_hosts, self.config.limits.image_bytes).inline(body)
        times = call.route.times
        limit = times.first if call.stream else times.whole
        extra = extra_headers(wire, call.headers) if wire == call.wire else None
        return Shot(provider, wire, body, times, min(limit, max(0.001, attempts.left_s())), call.id, extra, entry)

    def _attempt(
        self, call: Call, grant: Grant, caller: Caller, target: Target, attempts: Attempts, trace: Trace
    ) -> _Attempt:
        return _Attempt(self, call, grant, caller, target, attempts, trace)


class _Attempt:
    """The frame around one attempt: its place in the ledger and in the health of its target.

    As an `async with` block it ends the ledger entry in every case, and swallows a fault, which is told to `attempts`.
    """

    def __init__(
        self, carrier: Carrier, call: Call, grant: Grant, caller: Caller, target: Target, attempts: Attempts,
        trace: Trace,
    ) -> None:  # fmt: skip
        self._carrier, self._call, self._grant, self._caller = carrier, call, grant, caller
        self._target, self._attempts, self._trace = target, attempts, trace
        self.began = monotonic()
        self.first_s: float | None = None
        self._exact = self._finished = self._named = False
        self._unwritten = 0  # characters that are not in the ledger yet
        self._health: Health = carrier.board.health(target)
        self._kept: list[str] | None = [] if grant.log == "full" else None
        self._kept_chars = 0
        self.entry: Entry

    async def __aenter__(self) -> _Attempt:
        labels = {"call": self._call.id}
        self.entry = await self._carrier.ledger.begin(
            self._caller, route=self._call.route.name, provider=self._target.provider, model=self._target.model,
            kind=self._call.wire, log=self._grant.log, labels=labels,
        )  # fmt: skip
        if self._kept is not None:
            # As the provider sees it, with tokens for what is personal; `hidden` is for what no redaction touched yet.
            self.entry.content(request=self._grant.hidden(self._call.body))
        self._health.busy += 1
        self._health.probing = self._health.state(self._carrier.board.clock()) == "half-open"
        self._trace.target = self._target.id
        return self

    def spend(self, usage: Usage) -> None:
        """Just before the request leaves: what it will cost at least."""
        self.entry.usage(usage, estimated=True)

    def name(self, batch: list[Piece]) -> None:
        """The provider's id of its answer, as soon as it says it: after a crash its bill is matched by it."""
        if self._named:
            return
        for piece in batch:
            event = piece.event or {}
            inner = event.get("response") or event.get("message") or event
            if isinstance(inner, dict) and isinstance(identity := inner.get("id"), str) and identity:
                self._named = True
                self.entry.usage(Usage(), provider_id=identity)
                return

    def count(self, piece: Piece) -> int:
        """Characters of a piece, which are remembered for `write`."""
        fresh = len(piece.text) + len(piece.reasoning)
        for tool in piece.tools:
            fresh += len(tool.name) + len(tool.arguments)
        if self._kept is not None and fresh and self._kept_chars < MAX_CONTENT:
            self._kept_chars += fresh
            self._kept.append(piece.text + piece.reasoning + "".join(f" {t.name}{t.arguments}" for t in piece.tools))
        self._unwritten += fresh
        self._finished = self._finished or bool(piece.finish)
        return fresh

    def keep_whole(self, wire: Any, body: Json) -> None:
        """An answer that was not streamed, for the record of a call that is logged in full."""
        if self._kept is not None and wire != "embeddings":
            self.entry.content(response=self._grant.hidden(body))

    def write(self) -> None:
        """Before the caller gets them: what was counted goes into the ledger, unless the provider has counted."""
        if self._unwritten and not self._exact:
            tokens = max(1, self._unwritten // CHARS_PER_TOKEN)
            self.entry.usage(Usage(output_tokens=tokens), estimated=True)
        self._unwritten = 0

    def reported(self, piece: Piece) -> None:
        """The provider's count of what came up to this piece."""
        assert piece.usage is not None
        if piece.finish or not piece.speaks:
            self.write()
            self._exact = bool(piece.usage.output_tokens) and self._finished
            self.entry.reported(_with(piece.usage, requests=1))

    def worked(self, first_s: float | None) -> None:
        self._health.worked(first_s if first_s is not None else monotonic() - self.began, self._carrier.board.clock())
        self._trace.attempts.append((self._target.id, "ok"))

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self._health.busy -= 1
        status: Status = "ok"
        fault: Fault | None = None
        if isinstance(error, Missing):
            error = Fault("no_key", str(error))
        if isinstance(error, Fault):
            fault, status = error, "error"
            if fault.kind in UNBILLED and self.first_s is None:
                self.entry.reported(Usage())
            if fault.kind == "not_found" and (hint := self._carrier.config.catalog.unlisted(self._target.id)):
                fault = Fault("not_found", f"{fault.detail}; {hint}".removeprefix("; "), status=fault.status)
            route = self._call.route
            self._health.failed(fault, route.fails, route.cool_down, self._carrier.board.clock())
            self._attempts.fault(self._target, fault)
            self._trace.attempts.append((self._target.id, fault.kind))
        elif error is not None:
            status = "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit | Denied) else "error"
            self._health.probing = False
        if self._kept:
            self.entry.content(response=self._grant.hidden({"content": "".join(self._kept)})["content"])
        words = fault.words if fault else type(error).__name__ if error is not None else ""
        self._trace.cost_pico += await self.entry.end(status, error=words)
        return fault is not None


def _with(usage: Usage, **more: int) -> Usage:
    return usage + Usage(**more)


def _refused(call: Call, wire: Any, body: Json) -> None:
    """Raises Fault("filter") for an answer that a content filter emptied."""
    if wire == "messages":
        body = messages.answer_to_chat(body)
    choices = body.get("choices")
    if wire in ("chat", "messages") and choices and isinstance(choices[0], dict):
        message = choices[0].get("message") or {}
        empty = not message.get("content") and not message.get("tool_calls")
        if choices[0].get("finish_reason") == "content_filter" and empty:
            raise Fault("filter", "the answer was withheld")
