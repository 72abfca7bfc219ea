"""Agents over HTTP: list, make, edit, export, import, delete; and what one remembers of this server's user.

Only for this machine (or for who holds INTERPLAY_ADMIN_TOKEN): an agent is what people trust, and its memory is theirs.
What starts programs, imports modules, reads folders or sends tokens of this machine is taken from the command line
only; an edit may leave it as it is.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from interplay.core.types import BadInput, InterplayError
from interplay.server.admission import Allowance, origin_allowed

if TYPE_CHECKING:
    from interplay.agents.desk import AgentDesk
    from interplay.agents.spec import AgentSpec

log = logging.getLogger("interplay.server")

TOKEN = "INTERPLAY_ADMIN_TOKEN"
MAX_BODY = 256_000
REQUESTS_PER_S, BURST = 20.0, 60.0
PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")
YAML = "application/yaml"

Answer = Callable[[Request], Awaitable[Response]]


class Refused(InterplayError):
    """Not for this caller, or not in this way."""

    def __init__(self, status: int, code: str, text: str):
        super().__init__(text)
        self.status, self.code = status, code


def agent_routes(desk: AgentDesk | None) -> list[Route]:
    """Routes under /api/agents; none without the extra `agents`."""
    if desk is None:
        return []
    api = AgentsApi(desk)
    one = "/api/agents/{name}"
    table: list[tuple[str, str, Answer]] = [
        ("GET", "/api/agents", api.list),
        ("POST", "/api/agents", api.create),
        ("POST", "/api/agents/import", api.import_),
        ("GET", one, api.show),
        ("PUT", one, api.edit),
        ("DELETE", one, api.delete),
        ("GET", f"{one}/export", api.export),
        ("GET", f"{one}/memory", api.items),
        ("POST", f"{one}/memory", api.remember),
        ("DELETE", f"{one}/memory", api.forget),
        ("GET", f"{one}/memory/search", api.search),
        ("PATCH", f"{one}/memory/{{item}}", api.correct),
        ("DELETE", f"{one}/memory/{{item}}", api.forget),
    ]
    return [Route(path, api.guarded(answer), methods=[method]) for method, path, answer in table]


class AgentsApi:
    """The answers. Every one of them goes through `guarded`."""

    def __init__(self, desk: AgentDesk) -> None:
        self.desk = desk
        self._allowance = Allowance(REQUESTS_PER_S, BURST)

    def guarded(self, answer: Answer) -> Answer:
        """Who may ask, how often, and every error as one JSON object."""

        async def guard(request: Request) -> Response:
            try:
                admit(request)
                if not self._allowance.spend(1):
                    raise Refused(429, "too_many", "too many requests; try again in a second")
                return await answer(request)
            except Refused as error:
                return _error(error.status, error.code, str(error))
            except BadInput as error:
                missing = str(error).startswith(("no agent", "there is no item", "there is nothing"))
                return _error(404 if missing else 422, "not_found" if missing else error.code, str(error))
            except InterplayError as error:
                log.error("agents: %s", error)
                return _error(503, error.code, str(error))

        return guard

    async def list(self, _: Request) -> Response:
        agents = await (await self.desk.store()).list()
        return JSONResponse([_agent(agent) for agent in agents])

    async def show(self, request: Request) -> Response:
        version = _integer(request.query_params.get("version"), "version")
        agent = await (await self.desk.store()).get(request.path_params["name"], version)
        return JSONResponse(_agent(agent) | {"spec": agent.spec.to_dict()})

    async def create(self, request: Request) -> Response:
        spec = _spec(await _body(request))
        await asyncio.to_thread(_allowed, spec)  # reads and imports
        agent = await (await self.desk.store()).create(spec)
        return JSONResponse(_agent(agent), status_code=201)

    async def edit(self, request: Request) -> Response:
        """PUT a whole spec. If-Match: the version that was edited."""
        name, spec = request.path_params["name"], _spec(await _body(request))
        expect = _integer((request.headers.get("if-match") or "").strip('" ') or None, "If-Match")
        store = await self.desk.store()
        current = await store.get(name)
        if expect is not None and expect != current.version:
            raise Refused(409, "conflict", f"{name!r} has changed since version {expect}; get it again, then edit")
        await asyncio.to_thread(_allowed, spec, current.spec)  # reads and imports
        # What was compared is what is replaced, whoever edits meanwhile.
        return JSONResponse(_agent(await store.update(name, spec, expect=current.version)))

    async def delete(self, request: Request) -> Response:
        ended = await (await self.desk.store()).delete(request.path_params["name"])
        return JSONResponse({"deleted": request.path_params["name"], "relationships": ended})

    async def export(self, request: Request) -> Response:
        """YAML; ?memory=1 adds what it remembers of this server's user."""
        from interplay.agents.transfer import export_agent

        user = self.desk.user if request.query_params.get("memory") == "1" else None
        text = await export_agent(await self.desk.store(), request.path_params["name"], user=user)
        return PlainTextResponse(text, media_type=YAML)

    async def import_(self, request: Request) -> Response:
        """What export gave, without its memory; ?replace=1 makes it a new version of the one that is there."""
        from interplay.agents.transfer import import_agent

        text, replace = await _body(request), request.query_params.get("replace") == "1"
        agent = await import_agent(await self.desk.store(), text, source="the body", replace=replace, allow=_allowed)
        return JSONResponse(_agent(agent), status_code=201)

    async def items(self, request: Request) -> Response:
        memory = await self.desk.memory(request.path_params["name"])
        found = await memory.list(request.query_params.get("block"), done=request.query_params.get("all") == "1")
        return JSONResponse([_item(item) for item in found])

    async def search(self, request: Request) -> Response:
        memory = await self.desk.memory(request.path_params["name"])
        hits = await memory.search(request.query_params.get("q", "")[:500])
        return JSONResponse(
            [{"session": h.session, "who": h.who, "at": h.at.isoformat(), "text": h.text} for h in hits]
        )

    async def remember(self, request: Request) -> Response:
        """{"block", "text", "key"?, "due"?}"""
        body = _object(await _body(request), block=str, text=str, key=(str, type(None)), due=(str, type(None)))
        memory = await self.desk.memory(request.path_params["name"])
        due = _time(body.get("due"))
        item = await memory.remember(body.get("block", "user"), body.get("text", ""), key=body.get("key"), due=due)
        return JSONResponse(_item(item), status_code=201)

    async def correct(self, request: Request) -> Response:
        """{"text"?, "due"?}"""
        body = _object(await _body(request), text=str, due=str)
        memory = await self.desk.memory(request.path_params["name"])
        item = await memory.correct(request.path_params["item"], body.get("text"), due=_time(body.get("due")))
        return JSONResponse(_item(item))

    async def forget(self, request: Request) -> Response:
        """One item by its path; without one: ?text=, ?session= or ?everything=1."""
        memory, query = await self.desk.memory(request.path_params["name"]), request.query_params
        gone = await memory.forget(
            request.path_params.get("item"),
            text=query.get("text"),
            session=query.get("session"),
            everything=query.get("everything") == "1",
        )
        return JSONResponse(
            {"items": gone.items, "lines": gone.lines, "sessions": gone.sessions, "purged": gone.purged}
        )


def admit(request: Request) -> None:
    """Raises Refused unless the caller is on this machine and no foreign page, or holds the operator's token."""
    token = os.environ.get(TOKEN, "")
    given = request.headers.get("authorization", "")
    if token and given and hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return
    if given:
        raise Refused(401, "wrong_token", f"this is not the token of {TOKEN}")
    if not origin_allowed(request.headers.get("origin"), request.headers.get("host", "")):
        raise Refused(403, "wrong_origin", "agents are for the page of this server only")
    # A page of another site may send a simple request without an Origin that we would know; browsers say so here.
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "wrong_origin", "agents are for the page of this server only")
    if not _local(request):
        raise Refused(403, "not_local", f"agents can be reached from this machine only, or with the token of {TOKEN}")


def _local(request: Request) -> bool:
    """On this machine, and not through a proxy that stands on it."""
    if any(name in request.headers for name in PROXIED) or request.client is None:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> str:
    """The body as text, of bounded size. Raises Refused."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise Refused(413, "too_large", f"a body may have at most {MAX_BODY} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(422, "bad_input", "the body is not UTF-8 text") from None


def _spec(text: str) -> AgentSpec:
    from interplay.agents.files import parse_spec

    return parse_spec(text, source="the body")


def _allowed(spec: AgentSpec, current: AgentSpec | None = None) -> None:
    """Raises Refused or BadInput for a spec that is not taken over HTTP, or that no session could be opened with."""
    from interplay.agents import allowance

    _only_harmless(spec, current)
    allowance.check(spec)


def _only_harmless(spec: AgentSpec, current: AgentSpec | None = None) -> None:
    """Raises Refused for a tool that reaches into this machine, unless the agent has it already, exactly so."""
    from interplay.agents.tools.load import check

    known = current.tools if current is not None else ()
    for tool in spec.tools:
        if tool not in known and (tool.runs_code or tool.token_env or tool.env or tool.options):
            why = "runs code" if tool.runs_code else "is given a token" if tool.token_env or tool.env else "has options"
            raise Refused(
                403, "command_line_only", f"a tool that {why} ({tool.name}) is added with: interplay agents edit"
            )
    check(tool for tool in spec.tools if tool not in known)


def _object(body: str, **fields: Any) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BadInput("the body must be a JSON object")
    for key, value in data.items():
        if key not in fields or not isinstance(value, fields[key]):
            raise BadInput(f"`{key[:40]}` is not known here, or of the wrong type; known: {', '.join(fields)}")
    return data


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text[:40]!r} is no time; write it like 2030-01-31T09:00+01:00") from None


def _integer(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise BadInput(f"`{name}` must be a version number")
    return int(text)


def _agent(agent: Any) -> dict[str, Any]:
    return {
        "id": agent.id,
        "name": agent.name,
        "version": agent.version,
        "description": agent.spec.description,
        "created": agent.created.isoformat(),
    }


def _item(item: Any) -> dict[str, Any]:
    return {
        "id": item.id,
        "block": item.block,
        "key": item.key,
        "text": item.text,
        "due": item.due.isoformat() if item.due is not None else None,
        "every_s": item.every_s,
        "status": item.status,
        "source": item.source,
        "session": item.session,
        "updated": item.updated.isoformat(),
    }


def _error(status: int, code: str, text: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": text}}, status_code=status)
