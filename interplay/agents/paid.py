"""A background model behind the gateway: routes and failover, budgets, redaction and the ledger, in this process.

pydantic-ai's client of OpenAI's protocol talks to it through a transport of its own instead of a socket.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx2
from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from interplay.agents.allowance import ROUTE, Allowance, spoken
from interplay.background.base import Piece, Refused, Work
from interplay.background.choose import hears, sees
from interplay.background.gathered import gathering
from interplay.background.provider import ProviderBackground
from interplay.core.types import BadInput, InterplayError
from interplay.gateway.config import MODALITIES, Target
from interplay.gateway.contract import Denied
from interplay.gateway.scrub import scrub

if TYPE_CHECKING:
    from interplay.gateway.call import Call

NOWHERE = "http://gateway.invalid/v1"  # no name is looked up: the transport answers


class PaidBackground(ProviderBackground):
    """slot: "provider:model", or "route/NAME" of the gateway's config. shown: it is the slot for pictures.

    Holds the allowance open until it is closed. Raises BadInput for a route or provider that the gateway does not know
    or that takes no pictures where it is to be shown some.
    """

    def __init__(self, slot: str, allowance: Allowance, *, shown: bool = False) -> None:
        name = slot.removeprefix(ROUTE)
        config = allowance.gateway.config
        if slot.startswith(ROUTE) and name not in config.routes:
            raise BadInput(f"the gateway has no route {name!r}; it has {', '.join(config.routes) or 'none'}")
        targets = allowance.gateway.route(name).targets
        routed = slot.startswith(ROUTE)
        images = all(_takes(t, "image") if routed else "image" in t.inputs and sees(name) for t in targets)
        if shown and (not any("image" in t.inputs for t in targets) or not (routed or images)):
            raise BadInput(f"models.vision: {slot} takes no pictures")
        audio = all(_takes(t, "audio") if routed else "audio" in t.inputs and hears(name) for t in targets)
        self._paid = gathering(httpx2.AsyncClient(transport=_Transport(allowance)))
        # Whatever is worth trying again the gateway has tried.
        client = AsyncOpenAI(base_url=NOWHERE, api_key="none", http_client=self._paid, max_retries=0)
        super().__init__(
            OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client)), audio=audio, images=images or shown
        )
        self.name = slot
        self._allowance: Allowance | None = allowance.hold()

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        """As a provider's. What policy refuses is told to the person in one sentence that names the rule."""
        try:
            async with aclosing(super().work(work)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
        except InterplayError as error:
            raise _own(error) from error

    async def complete(self, instructions: str, text: str) -> str:
        try:
            return await super().complete(instructions, text)
        except InterplayError as error:
            raise _own(error) from error

    async def close(self) -> None:
        """Safe to call twice."""
        allowance, self._allowance = self._allowance, None
        if allowance is not None:
            await self._paid.aclose()
            await allowance.close()


class _Transport(httpx2.AsyncBaseTransport):
    """Requests of OpenAI's chat protocol go into the gateway as native calls of one caller."""

    def __init__(self, allowance: Allowance) -> None:
        self._gateway, self._caller = allowance.gateway, allowance.caller

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(await request.aread())
        call = self._gateway.call("chat", body, session=self._caller.session)
        if not call.stream:
            return httpx2.Response(200, json=await self._gateway.answer(call, self._caller))
        chunks = _Chunks(call, self._bytes(call))
        await chunks.begin()  # up to here an error is raised to the caller as it is
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=chunks)

    async def _bytes(self, call: Call) -> AsyncGenerator[bytes, None]:
        writer = call.writer()
        async with aclosing(self._gateway.pieces(call, self._caller)) as batches:
            async for batch in batches:
                if data := b"".join([writer.write(piece) for piece in batch]):
                    yield data
        yield writer.end()


class _Chunks(httpx2.AsyncByteStream):
    def __init__(self, call: Call, chunks: AsyncGenerator[bytes, None]) -> None:
        self._call, self._chunks, self._first = call, chunks, b""

    async def begin(self) -> None:
        self._first = await anext(self._chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        async for data in self._chunks:
            yield data

    async def aclose(self) -> None:
        await self._chunks.aclose()


def _takes(target: Target, kind: str) -> bool:
    """Whether it is known to take this: a model that no table lists, and no config describes, might take anything."""
    return kind in target.inputs and set(target.inputs) != set(MODALITIES)


def _own(error: InterplayError) -> InterplayError:
    """What the gateway said, out of the errors that the client wrapped around it."""
    for inner in _chain(error):
        if isinstance(inner, Denied):
            why = f"I may not look that up, by the rule {inner.rule.replace('_', ' ')}: {spoken(inner.message)}."
            return Refused(scrub(inner), why)
    told = [inner for inner in _chain(error) if isinstance(inner, InterplayError)]
    return InterplayError(
        scrub(told[min(1, len(told) - 1)])
    )  # what is in the client's wrapping, if anything of ours is


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
