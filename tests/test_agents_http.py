"""Agents over HTTP through a real socket, and who is not answered."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("uvicorn")

import uvicorn
from websockets.asyncio.client import connect

from interplay.agents.desk import AgentDesk
from interplay.agents.files import parse_spec
from interplay.foreground.silent import SilentForeground
from interplay.server.admission import Seats
from interplay.server.app import create_app
from interplay.server.house import House
from interplay.server.live import address, listen
from interplay.voice.base import SilentVoice
from tests.stores import ada

SPEC = "name: ada\ninstructions: {foreground: be kind}\n"


class Client:
    def __init__(self, url: str, desk: AgentDesk) -> None:
        self.url, self.desk = url, desk

    async def __call__(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, Any]:
        def ask() -> tuple[int, Any]:
            netloc = self.url.split("/")[2]
            with contextlib.closing(http.client.HTTPConnection(netloc, timeout=60)) as client:
                client.request(method, f"/api/agents{path}", body, {k.replace("_", "-"): v for k, v in headers.items()})
                got = client.getresponse()
                text = got.read().decode()
                kind = got.getheader("content-type") or ""
                return got.status, json.loads(text) if "json" in kind else text

        return await asyncio.to_thread(ask)


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Client]:
    desk = AgentDesk("ada", "anna", str(tmp_path / "agents.db"))
    await (await desk.store()).create(ada("ada"))
    house = House(SilentForeground(), SilentVoice, Seats(2), agents=desk)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(house), log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield Client(address(listener), desk)
    server.should_exit = True
    await task
    await desk.close()
    listener.close()


async def test_agents_are_made_edited_moved_and_deleted(ask: Client) -> None:
    status, made = await ask("POST", "", "name: bo\nproactivity: 0.1\n")
    assert (status, made["version"]) == (201, 1)
    assert [agent["name"] for agent in (await ask("GET", ""))[1]] == ["ada", "bo"]
    status, edited = await ask("PUT", "/bo", '{"name": "bo", "proactivity": 0.9}', If_Match='"1"')
    assert (status, edited["version"], edited["id"]) == (200, 2, made["id"])
    assert (await ask("PUT", "/bo", "name: bo\n", If_Match="1"))[0] == 409
    assert (await ask("GET", "/bo?version=1"))[1]["spec"]["proactivity"] == 0.1
    status, text = await ask("GET", "/bo/export")
    assert (await ask("DELETE", "/bo"))[0] == 200 and (await ask("GET", "/bo"))[0] == 404
    status, back = await ask("POST", "/import", text)
    assert (status, back["id"]) == (201, made["id"])
    status, told = await ask("POST", "", "name: c\nproactivity: high\n")
    assert status == 422 and "line 2" in told["error"]["message"]


async def test_memory_of_this_servers_user(ask: Client) -> None:
    status, item = await ask(
        "POST", "/ada/memory", '{"block": "reminder", "text": "call", "due": "2031-01-01T09:00+01:00"}'
    )
    assert (status, item["due"]) == (201, "2031-01-01T08:00:00+00:00")
    status, item = await ask("PATCH", f"/ada/memory/{item['id']}", '{"text": "call mum"}')
    assert item["text"] == "call mum" and (await ask("GET", "/ada/memory"))[1] == [item]
    assert (await ask("DELETE", f"/ada/memory/{item['id']}"))[1]["items"] == 1
    assert (await ask("DELETE", f"/ada/memory/{item['id']}"))[0] == 404
    assert (await ask("GET", "/ada/memory/search?q=%22%20OR%20*"))[1] == []
    for body in ("", "[]", '{"text": 7}', '{"who": "me"}', '{"text": "x", "block": "root"}', "{" * 99_999):
        status, told = await ask("POST", "/ada/memory", body)
        assert status == 422 and "\n" not in told["error"]["message"], body


async def test_foreigners_and_code_are_refused(ask: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Authorization": "Bearer guess"},
        {"Authorization": "Bearer "},
    ):
        status, told = await ask("GET", "", **headers)
        assert status in (401, 403) and "error" in told, headers
    assert (await ask("GET", "", Host="evil.example"))[0] == 400
    monkeypatch.setenv("INTERPLAY_ADMIN_TOKEN", "right")
    assert (await ask("GET", "", Authorization="Bearer right", X_Forwarded_For="10.0.0.1"))[0] == 200
    assert (await ask("GET", "", Authorization="Bearer wrong"))[0] == 401
    for tool in (
        "{name: x, command: [sh, -c, id]}",
        '{name: x, python: "os:system"}',
        '{name: x, url: "https://evil.example/mcp", token_env: OPENAI_API_KEY}',  # a secret of this machine
        "{name: documents, options: {folder: /etc}}",  # and what lies on it
    ):
        bad = f"name: eve\ntools: [{tool}]\n"
        assert (await ask("POST", "", bad))[0] == 403
        assert (await ask("PUT", "/ada", bad))[0] == 403
        assert (await ask("POST", "/import", bad))[0] == 403
    assert (await ask("POST", "", "#" * 300_000))[0] == 413
    assert (await ask("GET", ""))[1][0]["version"] == 1


async def test_an_edit_may_leave_a_tool_of_the_command_line_as_it_is(ask: Client) -> None:
    store = await ask.desk.store()
    tool = "{name: x, command: [sh, -c, id], approve: true}"
    await store.create(parse_spec(f"name: eve\ntools: [{tool}]\n"))
    assert (await ask("PUT", "/eve", f"name: eve\ndescription: new\ntools: [{tool}, calculator]\n"))[0] == 200
    for bolder in ("{name: x, command: [sh, -c, ls], approve: true}", "{name: x, command: [sh, -c, id]}"):
        assert (await ask("PUT", "/eve", f"name: eve\ntools: [{bolder}]\n"))[0] == 403
    assert (await ask("POST", "", f"name: bob\ntools: [{tool}]\n"))[0] == 403, "another agent does not have it"
    status, told = await ask("POST", "", "name: bob\ntools: [teleport]\n")
    assert status == 422 and "no built-in tool 'teleport'" in told["error"]["message"]


async def test_a_policy_that_the_gateway_does_not_have_is_refused(
    ask: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    spec = "name: bo\npolicy: carefull\nbudget: 5/day\n"
    assert (await ask("POST", "", "name: cy\ndescription: plain\n"))[0] == 201
    wrong = (await ask("GET", "/cy/export"))[1].replace("description: plain\n", "policy: carefull\n", 1)
    assert "policy: carefull" in wrong
    config = tmp_path / "gateway.toml"
    config.write_text("[policy.agents.careful]\nconcurrency = 1\n")
    monkeypatch.setenv("INTERPLAY_GATEWAY", str(config))
    for method, path, body in (("POST", "", spec), ("PUT", "/ada", spec), ("POST", "/import?replace=1", wrong)):
        status, told = await ask(method, path, body)
        message = told["error"]["message"]
        assert (status, told["error"]["code"]) == (422, "bad_input"), (path, told)
        assert "no [policy.agents.carefull]" in message and "careful" in message and "\n" not in message
    assert [(agent["name"], agent["version"]) for agent in (await ask("GET", ""))[1]] == [("ada", 1), ("cy", 1)]
    assert (await ask("POST", "", spec.replace("carefull", "careful")))[0] == 201


async def test_a_live_page_leaves_memory(ask: Client) -> None:
    """A page types its name and leaves; the next session of this user begins with it."""
    async with connect(ask.url.replace("http", "ws") + "ws") as page:
        await page.send(json.dumps({"type": "hello", "rate": 16_000}))
        assert json.loads(await page.recv())["type"] == "ready"
        await page.send(json.dumps({"type": "text", "text": "My name is Anna Berg."}))
        async with asyncio.timeout(60):
            while True:
                message = await page.recv()
                if isinstance(message, str) and json.loads(message).get("turn", 0) >= 5:
                    break
        await page.send(json.dumps({"type": "bye"}))
    memory = await ask.desk.memory("ada")
    async with asyncio.timeout(60):
        while not await memory.list():
            await asyncio.sleep(0.05)
    assert " ".join(await memory.prefix()) == "be kind and brief user name is anna berg"
    visit = await ask.desk.visit("browser")
    assert visit.options["prefix"][-2:] == ("anna", "berg")
