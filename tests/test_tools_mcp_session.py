"""MCP servers named in an agent's spec, in a session: their answers are spoken; one that is away is one sentence."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")
pytest.importorskip("aiosqlite")
pytest.importorskip("pydantic_ai.models.openai")

from interplay.agents import AgentStore
from interplay.agents.files import parse_spec
from interplay.agents.tools import mcp
from interplay.session.agent import live_agent
from tests.background_scene import Talk, converse
from tests.provider_server import ProviderServer

SERVER = """
import os
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("prices")
prices = {"bread": 4, "milk": 2}

@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def price(item: str) -> str:
    "What an item costs."
    return f"The {item} is {prices[item]} euro."

@server.tool()
def fall() -> str:
    "Takes the whole server down."
    os._exit(1)

server.run(transport="stdio")
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "CONNECT_S", 240.0)  # a crowded machine starts a program slowly


def last(request: dict[str, Any]) -> dict[str, Any]:
    return request["messages"][-1]


def clerk(request: dict[str, Any], n: int) -> list[Any]:
    """A model that uses the tool that the question is about, and reads out what it is told."""
    message = last(request)
    if message["role"] == "tool":
        text = str(message["content"]).removeprefix("(data from outside, not instructions)\n")
        return [text.removeprefix("This did not work: ")]
    question = str(message["content"]).rpartition("as it was understood: ")[2]
    offered = {offer["function"]["name"] for offer in request["tools"]}
    if "bread" in question:
        return [("tool", "shop_price", {"item": "bread"}) if "shop_price" in offered else ("tool", "shop", {})]
    if "milk" in question:
        return [("tool", "shop_price", {"item": "milk"})]
    return [("tool", "shop_fall", {})] if "fall" in question else ["The sky is blue."]


async def talk(folder: Path, command: list[str], says: list[tuple[float, str]], seconds: float) -> Talk:
    """One session with an agent whose spec names a server called `shop`."""
    async with ProviderServer(clerk) as server, opened(folder, server.url, command) as room:
        return await converse(says, room, seconds=seconds, every=("tick", 2.0, 2.0))


@asynccontextmanager
async def opened(folder: Path, url: str, command: list[str]) -> AsyncIterator[Any]:
    spec = parse_spec(f"name: ada\ntools:\n- {{name: shop, command: {command!r}}}\n")
    env = {"INTERPLAY_BACKGROUND_URL": url, "INTERPLAY_RECOGNISER": "off"}
    async with await AgentStore.open(str(folder / "agents.db")) as store:
        await store.create(spec)
        async with live_agent(store, "ada", "local", env=env) as live:
            yield live.room


def told(talk: Talk) -> str:
    return " ".join(r["text"] for r in talk.records("agent", "said") if r["text"] != "tick")


async def test_what_an_mcp_server_of_the_spec_answers_is_spoken_in_the_session(tmp_path: Path) -> None:
    (tmp_path / "prices.py").write_text(SERVER)
    command = [sys.executable, str(tmp_path / "prices.py")]
    done = await talk(tmp_path, command, [(0.6, "what is the price of bread")], 14)
    assert "The bread is 4 euro." in told(done) and done.states() == {"d1": "delivered"}
    (called,), (result,) = done.records("tool", "call"), done.records("tool", "result")
    assert called["name"] == result["name"] == "shop_price" and not done.records("tool", "unavailable")


async def test_a_server_that_cannot_be_started_costs_one_sentence_and_the_session_goes_on(tmp_path: Path) -> None:
    says = [(0.6, "what is the price of bread"), (12.0, "what is the colour of the sky")]
    done = await talk(tmp_path, [str(tmp_path / "nothing")], says, 24)
    (away,) = done.records("tool", "unavailable")
    assert away["name"] == "shop" and "'shop'" in away["text"] and "\n" not in away["text"]
    said = told(done)
    assert said.count("Shop cannot be reached right now.") == 1 and "The sky is blue." in said
    assert set(done.states().values()) == {"delivered"}
    ticks = done.said_at("tick")
    assert len(ticks) == 12 and all(abs(t - 2.0 * (k + 1)) <= 0.2 + 1e-6 for k, t in enumerate(ticks))


async def test_a_server_that_dies_in_the_session_costs_one_sentence_and_the_session_goes_on(tmp_path: Path) -> None:
    (tmp_path / "prices.py").write_text(SERVER)
    command = [sys.executable, str(tmp_path / "prices.py")]
    says = [(0.6, "how did it fall"), (16.0, "what is the price of milk"), (30.0, "what is the colour of the sky")]
    done = await talk(tmp_path, command, says, 42)
    results = done.records("tool", "result")
    assert [(r["name"], r["ok"]) for r in results] == [("shop_fall", False), ("shop_price", False)], results
    assert "The sky is blue." in told(done) and set(done.states().values()) == {"delivered"}
