"""A provider's stream in fewer, larger pieces: texts that follow one another are joined before a client parses them.

A client spends about a millisecond of the session's thread on every event of a stream, whatever is in it, and a model
sends 20 to 100 words a second, each in an event of its own. Nobody is read a word before its sentence is whole, so the
words of one part wait for each other here, as bytes: until the next sentence begins, or HOLD_S. Everything else passes
as it came, in its place. A read of the network costs a third of that, so there are fewer of them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2

from interplay.background.joined import Text, text_of
from interplay.background.pieces import END

HOLD_S = 0.4  # so long a text may wait for the next one
PACE_S = 0.2  # and so long the network's reads, one micro-turn, where nobody waits for a word of it
ARRIVES_S = 0.005  # what took longer was not there yet: all that had come is read
MAX_HELD = 32_000  # bytes; beyond that the stream is not read on until somebody takes what is there
TAIL = 16  # characters that may decide whether a sentence is over
# What ends an event: an empty line, with the line ends of any system. It may arrive in parts.
EVENT_END = re.compile(rb"\n\r?\n|\r\r")
LONGEST_END = 3
CLOSED = "the stream was closed on this side"


def gathering(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The same client, whose event streams are gathered from now on; timeouts, proxies and pool stay as they are."""
    client.event_hooks["request"].append(_plainly)
    client.event_hooks["response"].append(_gather)
    return client


async def _plainly(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = "identity"  # events are found in bytes, not in a compressed stream of them


async def _gather(response: httpx2.Response) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    plain = response.headers.get("content-encoding", "identity").strip().lower() in ("", "identity")
    if kind == "text/event-stream" and plain and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = Gathered(response.stream)


class Gatherer:
    """Bytes of an event stream in, as the network cuts them; the same stream with joined texts out. Knows no time.

    held: a text that waits for the next one. waiting: bytes that are in here.
    """

    def __init__(self) -> None:
        self.held: _Held | None = None
        self._out: list[bytes] = []
        self._part = bytearray()  # of an event whose end has not come
        self._seen = 0  # of it, searched for the end
        self._long = False  # its beginning has been passed on: it is larger than anything that is held
        self._tail = ""
        self._told = False  # a whole sentence has gone on: there is something to speak while the rest comes

    @property
    def patient(self) -> bool:
        """Whether what comes next may come a little later: in the middle of a text that is not for a person's ears, or
        of which they have a sentence to listen to."""
        return self.held is not None and (self._told or not self.held.first.spoken)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._out)) + (self.held.size if self.held is not None else 0)

    @property
    def ready(self) -> bool:
        """Whether there is something for `take`."""
        return bool(self._out)

    def feed(self, data: bytes) -> None:
        self._part += data
        start = 0
        while end := self._end(start):
            self._event(bytes(self._part[start:end]))
            start = end
        del self._part[:start]
        if len(self._part) > MAX_HELD:
            self.push()
            self._out.append(bytes(self._part[:-LONGEST_END]))
            del self._part[:-LONGEST_END]
            self._long = True
        self._seen = max(0, len(self._part) - LONGEST_END)

    def push(self) -> None:
        """Let go of what is held."""
        if self.held is not None:
            self._out.append(self.held.bytes())
            self.held, self._tail = None, ""

    def finish(self) -> None:
        """The stream is over, perhaps in the middle of an event."""
        self.push()
        self._out.append(bytes(self._part))
        self._part.clear()

    def take(self) -> bytes:
        """What may go on, b"" if there is nothing."""
        out, self._out = b"".join(self._out), []
        return out

    def _end(self, start: int) -> int:
        """Where the event that begins at `start` is over, 0 if that has not come."""
        found = EVENT_END.search(self._part, max(start, self._seen))
        return found.end() if found is not None else 0

    def _event(self, raw: bytes) -> None:
        text = None if self._long else text_of(raw)
        self._long = False
        if text is None:
            self.push()
            self._out.append(raw)
            return
        if self.held is None or not self.held.add(text):
            self.push()
            self.held = _Held(text, raw)
        if text.spoken:
            said = self._tail + text.text
            self._tail = said[-TAIL:]
            if any(match.end() < len(said) for match in END.finditer(said)):
                self.push()  # the next sentence has begun: this one can be spoken
                self._told = True
        if self.held is not None and self.held.size > MAX_HELD:
            self.push()


@dataclass(slots=True)
class _Held:
    first: Text
    raw: bytes
    more: list[str] | None = None
    size: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.raw)

    def add(self, text: Text) -> bool:
        """Join it. False if it belongs to something else."""
        if not self.first.goes_on(text):
            return False
        self.more = self.more or [self.first.text]
        self.more.append(text.text)
        self.size += len(text.text)
        return True

    def bytes(self) -> bytes:
        if self.more is None:
            return self.raw
        name = f"event: {self.first.event}\n" if self.first.event else ""
        return f"{name}data: {json.dumps(self.first.joined(''.join(self.more)))}\n\n".encode()


class Gathered(httpx2.AsyncByteStream):
    """A response's stream, gathered. One task reads the provider's; closing this ends it and closes that."""

    def __init__(self, upstream: httpx2.AsyncByteStream) -> None:
        self._upstream, self._gatherer = upstream, Gatherer()
        self._reader: asyncio.Task[None] | None = None
        self._news, self._taken = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._next: float | None = None  # loop second at which what is held goes on
        self._over = self._closed = False
        self._error: Exception | None = None

    @property
    def elapsed(self) -> Any:
        """What httpx asks a stream for, once it is closed."""
        return getattr(self._upstream, "elapsed", None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._reader = asyncio.create_task(self._read(), name="provider's stream")
        try:
            while True:
                if data := self._gatherer.take():
                    self._taken.set()
                    yield data
                elif self._over:
                    if self._error is not None:
                        raise self._error
                    return
                else:
                    self._news.clear()
                    await self._news.wait()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._reader is not None and not self._reader.done():
                self._reader.cancel()
                await asyncio.wait([self._reader])
            if not self._over:  # it had not even begun: whoever iterates is not to wait for it
                self._over, self._error = True, httpx2.ReadError(CLOSED)
                self._news.set()
        finally:
            await self._upstream.aclose()

    async def _read(self) -> None:
        gatherer, loop = self._gatherer, asyncio.get_running_loop()
        chunks = aiter(self._upstream)
        asked = loop.time()
        try:
            async for data in chunks:
                waited = loop.time() - asked > ARRIVES_S
                gatherer.feed(data)
                if gatherer.held is not None and self._timer is None:
                    if self._next is None:
                        # Streams that began together are not to come together ever after.
                        self._next = loop.time() + random.uniform(0.0, HOLD_S)
                    self._timer = loop.call_at(self._next, self._due)
                if gatherer.ready:
                    self._next = loop.time() + HOLD_S
                    self._news.set()
                while gatherer.waiting > MAX_HELD:
                    gatherer.push()
                    self._taken.clear()
                    self._news.set()
                    await self._taken.wait()
                if gatherer.patient and waited:
                    await asyncio.sleep(PACE_S)  # a read costs as much for one word as for four
                asked = loop.time()
        except asyncio.CancelledError:
            self._error = httpx2.ReadError(CLOSED)
            raise
        except Exception as error:
            self._error = error  # after what came before it
        finally:
            gatherer.finish()
            self._over = True
            self._news.set()
            if (close := getattr(chunks, "aclose", None)) is not None:
                with contextlib.suppress(Exception):
                    await close()

    def _due(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        if self._gatherer.held is None or self._closed:
            return
        if self._next is not None and loop.time() < self._next - 1e-3:
            self._timer = loop.call_at(self._next, self._due)  # some of it has gone on since
            return
        self._gatherer.push()
        self._next = loop.time() + HOLD_S
        self._news.set()
