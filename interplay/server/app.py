"""The ASGI app: the page, its example recordings, and the socket of a live session."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from interplay import __version__
from interplay.core.types import InterplayError, Missing
from interplay.foreground.base import Foreground
from interplay.server import wire
from interplay.server.admission import Seats, host_allowed, origin_allowed
from interplay.server.agents_api import agent_routes
from interplay.server.conversation import converse
from interplay.server.house import House

log = logging.getLogger("interplay.server")

STATIC = Path(__file__).parent / "static"
VITALS_S = 5.0  # for the mind to say how it is
WAITING_ROOM = 32  # sockets that may be open without a session
SOUND = {".flac": "audio/flac", ".ogg": "audio/ogg", ".wav": "audio/wav", ".mp3": "audio/mpeg"}
PLAIN_HOST = re.compile(r"[A-Za-z0-9.\-_:\[\]]+")


def create_app(house: House) -> Starlette:
    """The app of one server. `house` is what all its sessions share."""
    waiting = Seats(house.seats.limit + WAITING_ROOM)

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def health(_: Request) -> Response:
        sessions = {"taken": house.seats.taken, "limit": house.seats.limit}
        told = await vitals(house.foreground)
        state = {"version": __version__, "foreground": house.foreground.name, "sessions": sessions, **told}
        return JSONResponse(state, status_code=503 if told["status"] in ("broken", "draining") else 200)

    async def metrics(_: Request) -> Response:
        figures = getattr(house.foreground, "metrics", None)
        try:
            text = await asyncio.wait_for(figures(), VITALS_S) if figures is not None else b""
        except (TimeoutError, InterplayError) as error:
            missing = isinstance(error, InterplayError) and error.code == Missing.code
            told = str(error) or "the engine does not answer"
            return PlainTextResponse(f"{told}\n", status_code=501 if missing else 503)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def examples(_: Request) -> Response:
        return JSONResponse(list_examples(house.examples))

    async def example(request: Request) -> Response:
        name = request.path_params["file"]
        if name not in {entry["file"] for entry in list_examples(house.examples)}:
            return JSONResponse(wire.error("not_found", "no such example"), status_code=404)
        return FileResponse(house.examples / name, media_type=SOUND.get(Path(name).suffix.lower()))

    async def live(socket: WebSocket) -> None:
        host = socket.headers.get("host", "")
        if not origin_allowed(socket.headers.get("origin"), host):
            await _deny(socket, 403, "wrong_origin", "this socket is for the page of this server only")
        elif not waiting.take():
            await _deny(socket, 503, "overloaded", "too many connections; try again in a minute")
        else:
            try:
                await socket.accept()
                await converse(socket, house)
            finally:
                waiting.leave()

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/examples", examples),
            Route("/examples/{file}", example),
            WebSocketRoute("/ws", live),
            *agent_routes(house.agents),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
    )
    app.add_middleware(Guard, hosts=house.hosts)
    return app


async def vitals(foreground: Foreground) -> dict[str, Any]:
    """`status` as the mind itself says, see `Clocked.health`; one that cannot tell counts as well, one that does not
    answer as broken."""
    ask = getattr(foreground, "health", None)
    if ask is None:
        return {"status": "ok"}
    try:
        engine = await asyncio.wait_for(ask(), VITALS_S)
    except (TimeoutError, InterplayError) as error:
        return {"status": "broken", "problems": [str(error) or "the engine does not answer"]}
    return {"status": engine["status"], "problems": engine["problems"], "engine": engine}


async def _deny(socket: WebSocket, status: int, code: str, message: str) -> None:
    await socket.send_denial_response(JSONResponse(wire.error(code, message), status_code=status))


def list_examples(folder: Path) -> list[dict[str, str]]:
    """The example recordings that really are there: [{file, title, expect}]. No folder, no examples."""
    try:
        entries = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        return [
            {"file": str(entry["file"]), "title": str(entry["title"]), "expect": str(entry["expect"])}
            for entry in entries
            if Path(entry["file"]).name == entry["file"] and (folder / entry["file"]).is_file()
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("examples/index.json is not usable: %s", error)
        return []


class Guard:
    """Refuses foreign host names and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        host = Headers(scope=scope).get("host", "")
        if not PLAIN_HOST.fullmatch(host) or not host_allowed(host, self.hosts):
            text = "this server does not answer to that host name; see --allow-host\n"
            if scope["type"] == "websocket":
                return await _deny(WebSocket(scope, receive, send), 400, "wrong_host", text.strip())
            return await PlainTextResponse(text, status_code=400)(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(security_headers(host))
            await send(message)

        await self.app(scope, receive, guarded)


def security_headers(host: str) -> dict[str, str]:
    """No script, style, picture or connection from elsewhere; microphone and camera for this page alone."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "worker-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' ws://{host} wss://{host}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Permissions-Policy": "microphone=(self), camera=(self), geolocation=()",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
