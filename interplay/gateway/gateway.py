"""The gateway as an object: native calls from Python, and what the HTTP app calls.

async with await Gateway.open("gateway.toml") as gateway:
    answer = await gateway.chat("background-cheap", [{"role": "user", "content": "Hello"}])
    async for words in gateway.talk("background-cheap", [{"role": "user", "content": "Hello"}]):
        print(words, end="")
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from interplay.core.types import BadInput, InterplayError
from interplay.gateway.call import Call
from interplay.gateway.config import MODALITIES, Config, Route, Target, default_config, load
from interplay.gateway.contract import Ask, Caller, Grant, Ledger, Policy, Usage
from interplay.gateway.failover import Carrier, Trace
from interplay.gateway.faults import Fault
from interplay.gateway.images import Pictures
from interplay.gateway.prices import PriceBook, values_of
from interplay.gateway.providers import Wire
from interplay.gateway.routes import Board
from interplay.gateway.toml_lines import Located
from interplay.gateway.upstream import Upstream
from interplay.gateway.wires.base import Json, Piece, text_of

log = logging.getLogger("interplay.gateway")

RELOAD_S = 1.0
TYPICAL_OUTPUT = 1000  # tokens that a call is held to cost if it names no limit


class Gateway:
    """One seam to every provider. Use it on the event loop that opened it; `close` it."""

    def __init__(
        self, config: Config, policy: Policy, ledger: Ledger, prices: PriceBook, *, path: Path | None = None
    ) -> None:
        self.policy, self.ledger, self.prices = policy, ledger, prices
        self.path = path
        self.upstream = Upstream(config.limits)
        self.carrier = Carrier(config, self.upstream, Board(prices), ledger)
        self.stale = ""  # why the config file that lies there now could not be taken
        self._loaded: Config | InterplayError | None = None
        self._direct: dict[str, Route] = {}
        self._watching: asyncio.Task[None] | None = None
        self._closers: list[Callable[[], Any]] = []
        self._sealed: Callable[[], None] = lambda: None

    @classmethod
    async def open(cls, path: str | Path | None = None, *, watch: bool = True) -> Gateway:
        """With ledger and policy as the config file says. Raises BadInput, Missing or InterplayError."""
        from interplay.gateway.ledger.book import Book
        from interplay.gateway.policy.config import check, ledger_place, parse
        from interplay.gateway.policy.gate import Gate

        path = Path(path) if path is not None else None
        seen = _stamp(path)  # before it is read: a change while we open is a change
        config = load(path, check=check) if path is not None else default_config()
        sections = parse(config.sections)
        prices = PriceBook(sections.prices)
        url, folder = ledger_place(sections.ledger)
        book = await Book.open(url, folder=folder, prices=prices)
        try:
            gate: Any = await Gate.open(book, config.sections)
        except BaseException:
            await book.close()
            raise
        gateway = cls(config, gate, book, prices, path=path)
        gateway._closers.append(book.close)
        gateway._sealed = gate.audit.seal
        gateway._doubt(config)
        if path is not None and watch:
            gateway._watching = asyncio.create_task(gateway._watch(check, seen), name="gateway config")
        return gateway

    @property
    def config(self) -> Config:
        return self.carrier.config

    @property
    def board(self) -> Board:
        return self.carrier.board

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self.upstream.close()
        for closer in self._closers:
            await closer()
        self._sealed()

    def route(self, name: str) -> Route:
        """A route by name, or one made for a single model. Raises BadInput with the nearest names."""
        if (found := self.config.routes.get(name)) is not None:
            return found
        if (found := self._direct.get(name)) is not None:
            return found
        catalog = self.config.catalog
        try:
            model = catalog.find(name)
        except BadInput:
            raise BadInput(catalog.unknown(name, tuple(self.config.routes))) from None
        inputs = model.inputs if model.known_inputs else MODALITIES
        target = Target(model.provider, model.name, context=model.context, inputs=inputs)
        route = Route("", (target,), times=self.config.times)
        if len(self._direct) < 10_000:
            self._direct[name] = route
        return route

    def call(self, wire: Wire, body: Json, *, session: str = "", headers: Mapping[str, str] | None = None) -> Call:
        """A request, checked as far as it can be before anybody is asked. Raises BadInput."""
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise BadInput("`model` must be the name of a route or of a model")
        call = Call(wire, body, self.route(model), session, headers or {})
        if call.stream and body.get("n", 1) not in (1, None):
            raise BadInput("`n` > 1 cannot be streamed through the gateway")
        key = "input" if wire in ("responses", "embeddings") else "messages"
        given = body.get(key)
        if key == "messages" and not (isinstance(given, list) and all(isinstance(m, dict) for m in given) and given):
            raise BadInput("`messages` must be a list of objects that is not empty")
        return call

    async def admit(self, call: Call, caller: Caller) -> Grant:
        """Past the policy, or Denied. The caller closes the grant. Pictures are checked, words redacted."""
        try:
            await Pictures(self.config.image_hosts, self.config.limits.image_bytes).check(call.body)
        except Fault as fault:
            raise BadInput(fault.detail) from None
        known = call.max_output_tokens
        ask = Ask(
            call.wire if call.wire != "embeddings" else "embeddings",
            route=call.route.name,
            model=str(call.body.get("model", "")),
            modalities=("text", *call.inputs),
            input_tokens=call.input_tokens,
            max_output_tokens=known,
            price_pico=self._worst(call.route, Usage(input_tokens=call.input_tokens,
                                                     output_tokens=known or TYPICAL_OUTPUT)),
        )  # fmt: skip
        grant = await self.policy.admit(caller, ask)
        try:
            call.body = await grant.outgoing(call.body)
        except BaseException:
            await grant.close()
            raise
        return grant

    def _worst(self, route: Route, usage: Usage) -> int:
        used = values_of(usage)
        return max((self.prices.price(t.provider, t.model).cost(used) for t in route.targets), default=0)

    async def answer(self, call: Call, caller: Caller, trace: Trace | None = None) -> Json:
        """A whole answer in the protocol of the call. Raises Denied, Failed, BadInput."""
        async with await self.admit(call, caller) as grant:
            return await self.carrier.answer(call, grant, caller, trace or Trace())

    async def pieces(self, call: Call, caller: Caller, trace: Trace | None = None) -> AsyncGenerator[list[Piece], None]:
        """The pieces of a streamed answer. Raises Denied, Failed, BadInput, at any time. Close it to hang up."""
        async with (
            await self.admit(call, caller) as grant,
            aclosing(self.carrier.stream(call, grant, caller, trace or Trace())) as pieces,
        ):
            async for batch in pieces:
                yield batch

    async def chat(self, model: str, messages: Sequence[Json], *, caller: Caller | None = None, **options: Any) -> Json:
        """One chat completion, as OpenAI's API has it. options: further fields of the request.

        Raises Denied if policy says no, Failed if no provider could answer, BadInput for a wrong request.
        """
        caller = await self._native(caller)
        body = {**options, "model": model, "messages": list(messages), "stream": False}
        return await self.answer(self.call("chat", body, session=caller.session), caller)

    async def stream(
        self, model: str, messages: Sequence[Json], *, caller: Caller | None = None, **options: Any
    ) -> AsyncGenerator[Piece, None]:
        """The pieces of one answer as they come: words, tool calls, why it ended, what it cost. See `chat`."""
        caller = await self._native(caller)
        body = {**options, "model": model, "messages": list(messages), "stream": True}
        call = self.call("chat", body, session=caller.session)
        async with aclosing(self.pieces(call, caller)) as batches:
            async for batch in batches:
                for piece in batch:
                    yield piece

    async def talk(
        self, model: str, messages: Sequence[Json], *, caller: Caller | None = None, **options: Any
    ) -> AsyncGenerator[str, None]:
        """Only the words of an answer, as they come. See `chat`."""
        async with aclosing(self.stream(model, messages, caller=caller, **options)) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield piece.text

    async def embed(self, model: str, texts: Sequence[str], *, caller: Caller | None = None) -> list[list[float]]:
        """One vector per text. Raises as `chat` does."""
        caller = await self._native(caller)
        call = self.call("embeddings", {"model": model, "input": list(texts), "encoding_format": "float"})
        body = await self.answer(call, caller)
        return [row["embedding"] for row in sorted(body["data"], key=lambda row: row.get("index", 0))]

    async def _native(self, caller: Caller | None) -> Caller:
        return caller if caller is not None else await self.policy.identify(None)

    def reload(self, check: Callable[[Located], None] | None = None) -> bool:
        """Take the config file again if it is good; returns whether it was. The reason it was not is in `stale`."""
        self._load(check)
        return self._take()

    def _load(self, check: Callable[[Located], None] | None) -> None:
        """Read the file; what comes of it waits in `_loaded`."""
        assert self.path is not None
        try:
            self._loaded = load(self.path, check=check)
        except InterplayError as error:
            self._loaded = error

    def _take(self) -> bool:
        """Between two calls: the new settings, if they are good."""
        config = self._loaded
        try:
            if isinstance(config, InterplayError):
                raise config
            assert config is not None
            self.policy.reload(config.sections)
        except InterplayError as error:
            self.stale = str(error)
            log.error("config not taken, the old one stays: %s", error)
            return False
        self.stale = ""
        self._direct.clear()
        self.carrier.config = config
        self.upstream.limits = config.limits
        log.info("config taken from %s", self.path)
        self._doubt(config)
        return True

    def _doubt(self, config: Config) -> None:
        """Say which targets no table lists: a new model, or a slip of the pen."""
        for route in config.routes.values():
            for target in route.targets:
                if hint := config.catalog.unlisted(target.id):
                    log.warning("route %s: %s", route.name, hint)

    async def _watch(self, check: Callable[[Located], None], seen: tuple[int, int, int] | None) -> None:
        """Looks at the config file once a second, for ever."""
        while True:
            await asyncio.sleep(RELOAD_S)
            if (now := _stamp(self.path)) != seen:
                seen = now
                await asyncio.to_thread(self._load, check)
                self._take()


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        stat = path.stat() if path is not None else None
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else None


def words_of(completion: Json) -> str:
    """The words of a chat completion."""
    return text_of(((completion.get("choices") or [{}])[0].get("message") or {}).get("content"))
