"""`interplay gateway serve`: the gateway as a server of its own, with limits that uvicorn does not have."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from interplay.core.types import BadInput, Missing
from interplay.gateway.gateway import Gateway
from interplay.gateway.http import GatewayApp
from interplay.gateway.scrub import guard_logging

HEAD_S = 10.0  # for a request's head to arrive, whether it is the first on its connection or a later one
KEEP_ALIVE_S = 30
HEAD_BYTES = 65_536
CONNECTIONS = 2_048
_READ = 262_144  # what a socket gives at a time, which may be the body of the request before


def _patient(base: Any) -> Any:
    """A uvicorn protocol that gives a client HEAD_S to send the head of a request (against slow-loris attacks)."""

    class Guarded(base):  # type: ignore[misc, valid-type]
        _late: asyncio.TimerHandle | None = None
        _open = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                transport.abort()
                return
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._reading_head():
                if self._late is None:
                    self._wait()
            elif self._late is not None:
                self._late.cancel()
                self._late = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None
            super().connection_lost(exc)

        def _reading_head(self) -> bool:
            cycle = getattr(self, "cycle", None)
            return cycle is None or cycle.response_complete

        def _wait(self) -> None:
            self._late = asyncio.get_running_loop().call_later(HEAD_S, self._too_slow)

        def _too_slow(self) -> None:
            self._late = None
            if self._reading_head() and not self.transport.is_closing():
                self.transport.abort()

    return Guarded


def _strict(base: Any) -> Any:
    """httptools' protocol with the limits that h11 has by itself: a head of HEAD_BYTES, no trailers among the headers.

    A target must be a path: an absolute one carries a host of its own, which would be another than the one we look at.
    """

    class Strict(base):  # type: ignore[misc, valid-type]
        _in_head = False
        _head = 0  # bytes of a head that is not whole yet

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head = True

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_head = False
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > HEAD_BYTES or not self.url.startswith(b"/"):
                raise ValueError("not a request for us")  # uvicorn answers 400 and hangs up
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._head = self._head + len(data) if self._in_head else 0
            if self._head > 2 * HEAD_BYTES + _READ and not self.transport.is_closing():
                self.transport.abort()

    return Strict


def protocol() -> Any:
    """httptools where it is installed (twice as fast), else h11; both with a limit for the head."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return _patient(H11Protocol)
    return _patient(_strict(HttpToolsProtocol))


def server_of(app: Any) -> uvicorn.Server:
    """uvicorn with our limits: no access log, no header that says what we are, no trust in forwarded addresses."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol(),
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=10,
            backlog=1024,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
    )


async def serve(
    config: str | Path | None, host: str = "127.0.0.1", port: int = 8780, *, hosts: tuple[str, ...] = (),
    ready: Any = None,
) -> None:  # fmt: skip
    """Run until interrupted. ready: called with the address once it listens. Raises BadInput, Missing."""
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        raise BadInput(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    guard_logging()
    async with await Gateway.open(config) as gateway:
        server = server_of(GatewayApp(gateway, hosts=hosts))
        if ready is not None:
            shown = f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{sock.getsockname()[1]}")
        await server.serve(sockets=[sock])


def run(config: str | Path | None, host: str, port: int, hosts: tuple[str, ...] = (), ready: Any = None) -> None:
    """`serve` on an event loop of its own; uvloop if it is installed."""
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise Missing('the gateway needs aiohttp; get it with: pip install "interplay[gateway]"') from error
    try:
        import uvloop  # pyright: ignore[reportMissingImports]

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(config, host, port, hosts=hosts, ready=ready))
