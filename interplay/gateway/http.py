"""The gateway over HTTP: an ASGI app that speaks as OpenAI and Anthropic do. `docs/gateway.md` lists the endpoints.

Written on bare ASGI: a chunk of a stream costs one parse, one ledger write and one send. Mount it into a larger app,
or run it alone with `interplay gateway serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from typing import Any

from interplay.core.types import BadInput, InterplayError
from interplay.gateway.call import Call
from interplay.gateway.contract import Caller, Denied
from interplay.gateway.failover import Trace
from interplay.gateway.faults import Failed, Fault
from interplay.gateway.gateway import Gateway
from interplay.gateway.providers import Wire
from interplay.gateway.scrub import scrub
from interplay.gateway.wires import chat, messages
from interplay.gateway.wires.base import Json, dumps

log = logging.getLogger("interplay.gateway.http")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ENDPOINTS: dict[str, Wire] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/embeddings": "embeddings",
}
OUR_KEY = "ipk_"


class Refused(InterplayError):
    """A request that is answered with an error before any provider hears of it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, code, headers or {}


class GatewayApp:
    """ASGI app. gateway: an open Gateway, or a function that gives it once it is open (for a lifespan elsewhere).

    hosts: names under which callers without a key may reach it, beside loopback ones.
    """

    def __init__(self, gateway: Gateway | Callable[[], Gateway], *, hosts: tuple[str, ...] = ()) -> None:
        self._gateway = gateway
        self._hosts = frozenset(host.lower() for host in hosts)
        self.running = 0

    @property
    def gateway(self) -> Gateway:
        return self._gateway if isinstance(self._gateway, Gateway) else self._gateway()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        path = str(scope["path"])
        root = str(scope.get("root_path", ""))
        path = path[len(root) :] if root and path.startswith(root) else path
        wire = ENDPOINTS.get(path)
        reply = _Reply(send, self.gateway.config.limits.write_s)
        try:
            if wire is not None:
                await self._post(wire, scope, receive, reply)
            else:
                await self._get(path, scope, reply)
        except (Refused, Denied, Failed, Fault, BadInput) as error:
            await _tell(reply, wire or "chat", error)
        except (_Gone, asyncio.CancelledError):
            raise
        except InterplayError as error:
            await _tell(reply, wire or "chat", Refused(500, "gateway_error", str(error)))
        except Exception as error:
            log.exception("a bug of ours")
            await _tell(reply, wire or "chat", Refused(500, "gateway_bug", f"a bug of ours: {type(error).__name__}"))

    async def _post(self, wire: Wire, scope: Scope, receive: Receive, reply: _Reply) -> None:
        if scope["method"] != "POST":
            raise Refused(405, "method_not_allowed", "use POST", {"allow": "POST"})
        headers = _headers(scope)
        limits = self.gateway.config.limits
        if self.running >= limits.concurrency:
            raise Refused(503, "busy", "too many calls at a time", {"retry-after": "1"})
        self.running += 1
        try:
            caller = await self._caller(scope, headers)
            body = await _body(headers, receive, limits.body_bytes, limits.body_s)
            call = self.gateway.call(wire, body, session=caller.session, headers=headers)
            if call.stream and wire != "embeddings":
                await self._stream(call, caller, receive, reply)
            else:
                await self._whole(call, caller, receive, reply)
        except _Gone:
            pass  # the caller hung up; the ledger has the call as cancelled
        finally:
            self.running -= 1

    async def _caller(self, scope: Scope, headers: Mapping[str, str]) -> Caller:
        """Whose call this is. Raises Denied or Refused.

        Trust without a key is for programs on this machine: not through a proxy, and not for a web page that makes a
        browser here send the request (another Origin, or a foreign name that was bound to a loopback address).
        """
        secret = headers.get("x-api-key", "").strip()
        if not secret:
            scheme, _, value = headers.get("authorization", "").partition(" ")
            secret = value.strip() if scheme.lower() == "bearer" else ""
        local = self._is_local(scope, headers)
        names = {name: headers.get(f"x-interplay-{name}", "")[:200] for name in ("agent", "user", "session")}
        if secret and (secret.startswith(OUR_KEY) or not local):
            return await self.gateway.policy.identify(secret, **names)
        if not local:
            raise Refused(401, "key_required", "a virtual key is needed: Authorization: Bearer ipk_...")
        # On this machine clients that insist on some key may send any: it is not looked at and goes nowhere.
        return await self.gateway.policy.identify(None, **names)

    def _is_local(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        client = scope.get("client")
        if client is not None and not _loopback(str(client[0])):
            return False
        if any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
            return False
        host = _host(headers.get("host", ""))
        if not (_loopback(host) or host in self._hosts):
            return False
        origin = headers.get("origin")
        return origin is None or (_host(origin.partition("://")[2]) == host and "sec-fetch-site" not in headers)

    async def _whole(self, call: Call, caller: Caller, receive: Receive, reply: _Reply) -> None:
        trace = Trace()
        work = asyncio.ensure_future(self.gateway.answer(call, caller, trace))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _Gone
            body = work.result()
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                with contextlib.suppress(BaseException):
                    await work
        await reply.json(200, body, _trace_headers(call, trace))

    async def _stream(self, call: Call, caller: Caller, receive: Receive, reply: _Reply) -> None:
        """The status line waits for the first event of a provider: until then an error is an honest HTTP error."""
        trace = Trace()
        writer = call.writer()
        task = asyncio.current_task()
        assert task is not None
        gone = asyncio.ensure_future(_disconnected(receive))
        hung_up = False

        def hang_up(_: Any) -> None:
            nonlocal hung_up
            if not gone.cancelled():
                hung_up = True
                task.cancel()

        gone.add_done_callback(hang_up)
        try:
            async with aclosing(self.gateway.pieces(call, caller, trace)) as batches:
                async for batch in batches:
                    data = b"".join([writer.write(piece) for piece in batch])
                    if not reply.begun:
                        await reply.begin(200, b"text/event-stream; charset=utf-8", _trace_headers(call, trace))
                    if data:
                        await reply.more(data)
            if not reply.begun:
                await reply.begin(200, b"text/event-stream; charset=utf-8", _trace_headers(call, trace))
            await reply.end(writer.end())
        except (Failed, Denied, Fault, BadInput) as error:
            if not reply.begun:
                raise
            status, code, message, _ = _said(error)
            await reply.end(writer.error(code, message, status))
        except asyncio.CancelledError:
            if hung_up:
                task.uncancel()
                raise _Gone from None
            raise
        finally:
            gone.remove_done_callback(hang_up)
            gone.cancel()

    async def _get(self, path: str, scope: Scope, reply: _Reply) -> None:
        if path in ("/health", "/healthz"):
            await reply.json(200, {"status": "ok", "config": self.gateway.stale or "ok"})
            return
        if path == "/metrics":
            await self._caller(scope, _headers(scope))
            metrics = getattr(self.gateway.ledger, "metrics", None)
            await reply.begin(200, b"text/plain; version=0.0.4; charset=utf-8", {})
            await reply.end(metrics.text() if metrics is not None else b"")
            return
        if not path.startswith("/v1/models"):
            raise Refused(404, "not_found", f"no such endpoint; there are {', '.join(ENDPOINTS)} and /v1/models")
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "method_not_allowed", "use GET", {"allow": "GET"})
        headers = _headers(scope)
        await self._caller(scope, headers)
        name = path.removeprefix("/v1/models").strip("/")
        if name:
            rows = [row for row in self._models() if row["id"] == name]
            if not rows:
                raise Refused(404, "model_not_found", self.gateway.config.catalog.unknown(name))
            await reply.json(200, rows[0])
            return
        rows = self._models()
        edges = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {}
        await reply.json(200, {"object": "list", "data": rows, "has_more": False, **edges})

    def _models(self) -> list[Json]:
        """Routes, and the models of every provider whose key is there."""
        config = self.gateway.config
        common = {"object": "model", "type": "model", "created": 0, "created_at": "1970-01-01T00:00:00Z"}
        rows = [{"id": name, **common, "owned_by": "interplay", "display_name": name} for name in config.routes]
        ready = {provider.name for provider in config.providers if provider.ready() and not provider.keyless}
        for key, name in config.catalog.names.items() if ready else ():
            if (provider := key.partition("/")[0]) in ready:
                rows.append({"id": key, **common, "owned_by": provider, "display_name": name})
        return rows


class _Gone(Exception):
    """The caller hung up."""


class _Reply:
    """One response. Every send has a deadline: a caller that does not read may not hold a provider's stream open."""

    def __init__(self, send: Send, write_s: float) -> None:
        self._send, self._write_s = send, write_s
        self.begun = self.ended = False

    async def begin(self, status: int, content_type: bytes, headers: Mapping[str, str]) -> None:
        self.begun = True
        rows = [(b"content-type", content_type), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"),
                (b"x-content-type-options", b"nosniff")]  # fmt: skip
        rows += [(name.encode(), _header(value)) for name, value in headers.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": rows})

    async def more(self, data: bytes) -> None:
        await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        await self._put({"type": "http.response.body", "body": data})

    async def json(self, status: int, body: Json, headers: Mapping[str, str] | None = None) -> None:
        data = dumps(body)
        await self.begin(status, b"application/json", {**(headers or {}), "content-length": str(len(data))})
        await self.end(data)

    async def _put(self, message: MutableMapping[str, Any]) -> None:
        # Mostly the socket takes it at once, and then there is no need for a timer.
        work = self._send(message)
        try:
            async with asyncio.timeout(self._write_s):
                await work
        except TimeoutError:
            raise _Gone from None
        except OSError:
            raise _Gone from None


async def _tell(reply: _Reply, wire: Wire, error: InterplayError) -> None:
    """An error as the caller's client expects it."""
    if reply.begun:
        return
    status, code, message, headers = _said(error)
    make = messages.error_json if wire == "messages" else chat.error_json
    with contextlib.suppress(_Gone):
        await reply.json(status, make(code, message, status), headers)


def _said(error: InterplayError) -> tuple[int, str, str, dict[str, str]]:
    """Status, code, words and headers of an error.

    x-should-retry: the official clients retry 429 and 5xx by themselves. What we have tried already is tried again
    for nothing, and might be paid for twice.
    """
    message = scrub(str(error))
    headers = {"x-should-retry": "false"}
    if isinstance(error, Failed):
        if error.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        return error.status, error.reason, message, headers
    if isinstance(error, Denied):
        if error.retry_after_s is not None:
            headers = {"retry-after": str(max(1, round(error.retry_after_s)))}
        return error.status, f"denied_{error.rule}", message, headers
    if isinstance(error, Refused):
        return error.status, error.reason, message, {**headers, **error.headers}
    if isinstance(error, Fault):
        return error.then.status, error.then.code, message, headers
    status = 404 if message.startswith("unknown model") or message.startswith("unknown provider") else 400
    return status, "model_not_found" if status == 404 else "invalid_request_error", message, headers


def _trace_headers(call: Call, trace: Trace) -> dict[str, str]:
    headers = {"x-request-id": call.id, "x-interplay-target": trace.target}
    if call.route.name:
        headers["x-interplay-route"] = call.route.name
    if len(trace.attempts) > 1:
        headers["x-interplay-attempts"] = str(len(trace.attempts))
    return headers


def _headers(scope: Scope) -> dict[str, str]:
    """Lower-case names to values. Raises Refused for what a proxy in front could read differently than we do."""
    found: dict[str, str] = {}
    once = ("content-length", "transfer-encoding", "host", "authorization", "x-api-key", "content-type", "origin")
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        if key in found and key in once:
            raise Refused(400, "bad_request", f"the header {key} was sent twice")
        found[key] = text
    if "host" not in found and scope.get("http_version") != "1.0":
        raise Refused(400, "bad_request", "a Host header is needed")
    if found.get("transfer-encoding", "chunked").lower() != "chunked":
        raise Refused(400, "bad_request", "the only transfer-encoding is chunked")
    if "content-length" in found and "transfer-encoding" in found:
        raise Refused(400, "bad_request", "content-length and transfer-encoding exclude each other")
    if any(name.startswith("x-interplay-") and any(c < " " for c in value) for name, value in found.items()):
        raise Refused(400, "bad_request", "control characters in a header")
    return found


async def _body(headers: Mapping[str, str], receive: Receive, most: int, limit_s: float) -> Json:
    """The request's JSON object. Raises Refused, or _Gone."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "unsupported_media_type", "content-type must be application/json")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "unsupported_encoding", "a request body must not be compressed")
    declared = headers.get("content-length", "")
    if declared and (not declared.isdigit() or int(declared) > most):
        raise Refused(413, "request_too_large", f"a request may have at most {most} bytes", {"connection": "close"})
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limit_s):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise Refused(413, "request_too_large", f"a request may have at most {most} bytes",
                                  {"connection": "close"})  # fmt: skip
                chunks.append(chunk)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refused(408, "request_timeout", f"the request did not arrive within {limit_s:g} s",
                      {"connection": "close"}) from None  # fmt: skip
    try:
        body = json.loads(b"".join(chunks))
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the request is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_json", "the request must be a JSON object")
    return body


async def _disconnected(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


def _host(value: str) -> str:
    """The host of a Host header or of an origin's authority, without its port."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0] if value.count(":") <= 1 else value


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _header(value: str) -> bytes:
    return "".join(char if " " <= char <= "~" else "?" for char in value).encode()

