"""One attempt at one provider over HTTP: the request goes out, whole events come back, everything else is a Fault.

aiohttp and not httpx: its parser is C, and on the same stream it takes half of httpx's CPU (see docs/gateway.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from interplay import __version__
from interplay.gateway.config import Limits, Times
from interplay.gateway.faults import Fault, from_event, from_exception, from_status
from interplay.gateway.providers import Provider, Wire
from interplay.gateway.scrub import remember
from interplay.gateway.sse import Splitter, data_of
from interplay.gateway.wires import chat, messages, responses
from interplay.gateway.wires.base import Json, Piece, Reader, dumps, parsed

PATHS: dict[Wire, str] = {
    "chat": chat.PATH,
    "messages": messages.PATH,
    "responses": responses.PATH,
    "embeddings": "/embeddings",
}
READERS: dict[Wire, type[Reader]] = {
    "chat": chat.ChatReader,
    "messages": messages.MessagesReader,
    "responses": responses.ResponsesReader,
}
ERROR_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Shot:
    """One request to one provider. extra: headers of the caller that the protocol allows through.

    id: of the call, the same for all its attempts. entry: of the ledger, by which the provider's bill is matched.
    """

    provider: Provider
    wire: Wire
    body: Json
    times: Times
    first_s: float
    id: str = ""
    extra: Mapping[str, str] | None = None
    entry: str = ""


class Upstream:
    """The connections to all providers. One per event loop; `close` it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, ttl_dns_cache=60)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=True,
                skip_auto_headers=("User-Agent",),
            )
        return self._session

    def _proxy(self, url: str) -> str | None:
        """The proxy that the environment names for this host, looked up once. aiohttp's own look-up takes two threads'
        turns in every call, and sends what a .netrc says to providers."""
        parts = urlsplit(url)
        place = parts.scheme, parts.netloc
        if place not in self._proxies:
            direct = proxy_bypass(parts.netloc.rpartition("@")[2])
            self._proxies[place] = None if direct else getproxies().get(parts.scheme)
        return self._proxies[place]

    async def _send(self, shot: Shot, *, stream: bool) -> aiohttp.ClientResponse:
        """The response's head. Raises Fault for anything but a 200."""
        url = shot.provider.url() + PATHS[shot.wire]
        headers = self._headers(shot, stream=stream)
        data = dumps(shot.body)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=shot.times.connect)
        for again in (True, False):
            try:
                response = await self.session().post(
                    url, data=data, headers=headers, allow_redirects=False, timeout=timeout, proxy=self._proxy(url)
                )
                break
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                # A kept connection that the other side had closed meanwhile: the request was never read.
                if not again:
                    raise
        if response.status != 200:
            try:
                body = await response.content.read(ERROR_BYTES)
            finally:
                response.close()
            raise from_status(response.status, response.headers, body)
        return response

    def _headers(self, shot: Shot, *, stream: bool) -> dict[str, str]:
        """Built from nothing: no header of the caller gets through except those named in `extra`."""
        key = shot.provider.key()
        remember(key)
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if stream else "application/json",
            "accept-encoding": "identity" if stream else "gzip, deflate",
            "user-agent": f"interplay-gateway/{__version__}",
        }
        if shot.id:
            headers["idempotency-key"] = shot.id
        if shot.entry:
            headers["x-client-request-id"] = shot.entry
        if shot.wire == "messages":
            headers["anthropic-version"] = messages.VERSION
            if key:
                headers["x-api-key"] = key
        elif key:
            headers["authorization"] = f"Bearer {key}"
        headers.update(shot.provider.headers)
        headers.update(shot.extra or {})
        return headers

    async def answer(self, shot: Shot) -> Json:
        """A whole answer, as JSON. Raises Fault."""
        try:
            async with asyncio.timeout(shot.first_s):
                response = await self._send(shot, stream=False)
                try:
                    chunks: list[bytes] = []
                    size = 0
                    async for chunk in response.content.iter_any():
                        size += len(chunk)
                        if size > self.limits.answer_bytes:
                            raise Fault("garbage", "an answer without end")
                        chunks.append(chunk)
                finally:
                    response.release() if response.content.is_eof() else response.close()
        except TimeoutError:
            raise Fault("timeout", f"no answer within {shot.first_s:.3g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise from_exception(error) from None
        return _object(b"".join(chunks))

    async def stream(self, shot: Shot) -> AsyncGenerator[list[Piece], None]:
        """Pieces of an answer, as many at a time as came in one read. Raises Fault, at any time.

        The caller must close the iterator (`aclosing`): that is what hangs up on the provider.
        """
        reader = READERS[shot.wire]()
        try:
            async with asyncio.timeout(shot.first_s):
                response = await self._send(shot, stream=True)
        except TimeoutError:
            raise Fault("timeout", f"no answer within {shot.first_s:.3g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise from_exception(error) from None
        watch = _Watch(response, shot.first_s, shot.times)
        try:
            if "text/event-stream" not in response.headers.get("content-type", "text/event-stream"):
                if "json" in response.headers.get("content-type", ""):
                    raise _no_stream(await response.content.read(ERROR_BYTES))
                raise Fault("garbage", "not an event stream")
            splitter = Splitter(self.limits.event_bytes)
            content = response.content
            while True:
                watch.wait()
                data = await content.readany()
                if not data:
                    break
                pieces, fault = _read(splitter.feed(data), reader)
                if pieces:
                    watch.got()
                    yield pieces
                if fault is not None:
                    raise fault
                watch.check()
            rest = splitter.rest.strip()  # a last event without its blank line
            if rest and not reader.ended and (pieces := _read([rest], reader)[0]):
                yield pieces
            if not reader.ended:
                raise Fault("truncated")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if watch.late:
                raise Fault("timeout", watch.late) from None
            if reader.ended:
                return  # it said that it was done; how it hung up does not matter
            raise from_exception(error) from None
        finally:
            watch.cancel()
            if response.content.is_eof() and not watch.late:
                response.release()
            else:
                response.close()


def _read(blocks: list[bytes], reader: Reader) -> tuple[list[Piece], Fault | None]:
    """The pieces up to the first event that is none, and what is wrong with that."""
    pieces = []
    for block in blocks:
        name, data = data_of(block)
        try:
            if data and (piece := reader.read(name, data)) is not None:
                pieces.append(piece)
        except Fault as fault:
            return pieces, fault
        except (AttributeError, TypeError, KeyError):
            return pieces, Fault("garbage", "an event of an unknown form")
    return pieces, None


class _Watch:
    """Hangs up on a provider that keeps silent, or that trickles bytes without ever completing an event.

    One timer per stream rather than one per read. Time in which the caller is slow does not count.
    """

    def __init__(self, response: aiohttp.ClientResponse, first_s: float, times: Times) -> None:
        self._response, self._idle = response, times.idle
        self._limit = first_s
        self._end = monotonic() + times.total
        self._since: float | None = None
        self.late = ""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> None:
        """The provider has the word."""
        if self._since is None:
            self._since = monotonic()
            if self._timer is None:
                self._timer = self._loop.call_later(self._limit, self._look)

    def got(self) -> None:
        """A whole event came: from now on the limit is the one between two events."""
        self._since, self._limit = None, self._idle

    def check(self) -> None:
        if self.late:
            raise Fault("timeout", self.late)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = monotonic()
        waited = now - self._since if self._since is not None else 0.0
        if waited >= self._limit:
            self.late = f"no event for {self._limit:g} s"
        elif now >= self._end:
            self.late = "the answer took too long"
        else:
            rest = min(self._limit - waited, self._end - now)
            self._timer = self._loop.call_later(max(0.005, rest), self._look)
            return
        self._response.close()


def _object(data: bytes) -> Json:
    """A whole JSON answer. An error object in a 200 is an error all the same."""
    body = parsed(data)
    if body.get("error") and not any(key in body for key in ("choices", "content", "output", "data")):
        raise from_event(body["error"])
    return body


def _no_stream(data: bytes) -> Fault:
    """What a whole JSON body means where a stream was asked for: mostly an error with status 200."""
    try:
        _object(data)
    except Fault as fault:
        return fault
    return Fault("garbage", "not an event stream")


def extra_headers(wire: Wire, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a caller that may go to a provider of the same protocol: feature switches, nothing else."""
    names = {"messages": ("anthropic-beta", "anthropic-version"), "responses": ("openai-beta",), "chat": ()}
    return {name: headers[name][:500] for name in names.get(wire, ()) if _plain(headers.get(name, ""))}


def _plain(value: Any) -> bool:
    return bool(value) and all(" " <= char <= "~" for char in value)
