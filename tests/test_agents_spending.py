"""What an agent may spend: budgets, policies and the model for pictures, over real sockets and with a real ledger."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiosqlite")
pytest.importorskip("aiohttp")
pytest.importorskip("pydantic_ai.models.openai")

from interplay.agents import AgentSpec, AgentStore
from interplay.agents.spec import ModelSlots
from interplay.agents.writer import writer_of
from interplay.background import BackgroundRoom, ContextPackage
from interplay.cli import main
from interplay.core.timeline import Timeline
from interplay.core.types import BadInput, InterplayError
from interplay.gateway.ledger.book import Book
from interplay.gateway.policy.config import Budget, KeySection, Limits
from interplay.gateway.policy.keys import Keys
from interplay.session.agent import live_agent
from tests.background_scene import converse
from tests.provider_server import ProviderServer

USED = (1_000, 2_000)  # tokens of each answer: $0.021 at the prices below
FRAME = np.zeros((48, 64, 3), np.uint8)


def answers(request: dict[str, Any], n: int) -> list[Any]:
    return [f"This is answer {n}."]


class House:
    """A gateway's config file with a provider that is the scripted server, a ledger, and a store of agents."""

    def __init__(self, folder: Path, url: str, more: str = "") -> None:
        self.ledger, self.config = folder / "ledger.sqlite", folder / "gateway.toml"
        self.agents = str(folder / "agents.db")
        self.env = {"INTERPLAY_GATEWAY": str(self.config), "INTERPLAY_RECOGNISER": "off"}
        self.config.write_text(
            f"""
[providers.house]
base_url = "{url}"
keyless = true
wires = ["chat"]

[routes.slow]
targets = ["house/tiny"]

[prices."house/tiny"]
input_tokens = 1
output_tokens = 10

[prices."house/eyes"]
input_tokens = 1

[ledger]
url = "{self.ledger}"
{more}
"""
        )

    @asynccontextmanager
    async def live(self, spec: AgentSpec, user: str = "local") -> AsyncIterator[BackgroundRoom]:
        """The room of a session with this agent."""
        async with await AgentStore.open(self.agents) as store:
            if spec.name not in {agent.name for agent in await store.list()}:
                await store.create(spec)
            async with live_agent(store, spec.name, user, env=self.env) as live:
                assert live.room is not None
                try:
                    yield live.room
                finally:
                    await live.room.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.ledger)) as database:
            return database.execute(sql).fetchall()


def ada(slot: str = "route/slow", vision: str = "", **fields: Any) -> AgentSpec:
    return AgentSpec(fields.pop("name", "ada"), models=ModelSlots(background=slot, vision=vision), **fields)


async def ask(room: BackgroundRoom, question: str = "what is it", **fields: Any) -> list[str]:
    """What there is to say about one delegation at the end of its work."""
    delegation = room.delegate(ContextPackage(question, **fields))
    async with asyncio.timeout(60):
        while not delegation.finished:
            room.at(0)
            await asyncio.sleep(0.01)
    texts = [*delegation.waiting]
    room.deliver(delegation.id)
    return texts


def opened(room: BackgroundRoom) -> Timeline:
    timeline, began = Timeline(), time.monotonic()
    room.open(timeline, lambda: time.monotonic() - began)
    return timeline


async def test_a_spent_budget_refuses_the_next_delegation_aloud_and_everything_is_put_down(tmp_path: Path) -> None:
    async with ProviderServer(answers, USED) as server:
        house = House(tmp_path, server.url)
        async with house.live(ada(budget="0.05/day"), "grace") as room:
            for n in (1, 2):
                assert await ask(room) == [f"This is answer {n}."]
            talk = await converse([(0.6, "what is the capital of france")], room, seconds=40)
        assert len(server.requests) == 2, "the third never left this machine"
        assert "by the rule budget: the agent ada has spent 0.04 dollars of its 0.05 dollars this day" in talk.said()
        [failed] = talk.records("background", "failed")
        assert "(rule: budget)" in failed["text"] and talk.states()["d3"] == "delivered"
    spent = house.rows("SELECT agent, user_id, session, route, provider, model, kind, status, cost_pico FROM entries")
    session = spent[0][2]
    assert session
    assert spent == [("ada", "grace", session, "slow", "house", "tiny", "chat", "ok", 21_000_000_000)] * 2
    told = [data for kind, data in house.rows("SELECT kind, data FROM audit WHERE seq > 0") if kind == "budget_warning"]
    assert len(told) == 1 and "has spent $0.04 of $0.05 this day" in told[0] and '"user":"grace"' in told[0]


async def test_the_next_session_is_refused_as_well_and_another_agent_is_not(tmp_path: Path) -> None:
    async with ProviderServer(answers, USED) as server:
        house = House(tmp_path, server.url)
        spent = ada(budget="0.021/day")  # one call, if nothing is held against it: the estimate fits, the next does not
        async with house.live(spent) as room:
            await ask(room)
        async with house.live(spent) as room:
            refused = await ask(room)
        async with house.live(ada(name="bea")) as room:
            free = await ask(room)
    assert "rule budget" in refused[0] and free == ["This is answer 2."]


async def test_a_budget_by_name_is_a_key_that_several_agents_share(tmp_path: Path) -> None:
    async with ProviderServer(answers, USED) as server:
        house = House(tmp_path, server.url)
        with pytest.raises(BadInput, match="no key 'household'"):
            async with house.live(ada(budget="household")):
                pass
        book = await Book.open(str(house.ledger))
        limits = Limits(budgets=(Budget(usd=0.03, per="total"),))
        key, _ = await Keys(book.writer).create("household", KeySection(limits=limits))
        theirs, _ = await Keys(book.writer).create("kiosk", KeySection(agent="kiosk"))
        await book.close()
        async with (
            house.live(ada(budget="household")) as room,
            house.live(ada(name="bea", budget="household")) as other,
        ):
            first, second = await ask(room), await ask(other)
        assert first == ["This is answer 1."] and len(server.requests) == 1
        assert "the key household has spent 0.02 dollars of its 0.03 dollars in all" in second[0]
        with pytest.raises(BadInput, match="for the agent 'kiosk' alone"):
            async with house.live(ada(name="cleo", budget="kiosk")):
                pass
    assert house.rows("SELECT agent, key_id FROM entries") == [("ada", key.id)] and theirs.id != key.id


async def test_a_policy_by_name_limits_and_one_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = '[policy.agents.careful]\nmodels = ["elsewhere/*"]\n[policy.agents.ruled]\nconcurrency = 1\n'
    async with ProviderServer(answers, USED) as server:
        house = House(tmp_path, server.url, more)
        async with house.live(ada(policy="careful")) as room:
            refused = await ask(room)
        assert "by the rule models: the agent ada may not use house/tiny" in refused[0] and not server.requests
        for spec, why in (
            (ada(name="bea", policy="carefull"), r"no \[policy\.agents\.carefull\]; did you mean careful"),
            (ada(name="ruled", policy="careful"), "has limits for this agent already"),
            (ada("embedded", name="dora", policy="nobody"), r"no \[policy\.agents\.nobody\]"),
        ):
            with pytest.raises(BadInput, match=why):
                async with house.live(spec):
                    pass
    monkeypatch.setenv("INTERPLAY_GATEWAY", str(house.config))
    monkeypatch.setenv("INTERPLAY_STORE", str(tmp_path / "other.db"))
    (tmp_path / "ada.yaml").write_text("name: ada\npolicy: carefull\n")
    with pytest.raises(SystemExit) as caught:
        main(["agents", "create", str(tmp_path / "ada.yaml")])
    assert caught.value.code == 2 and "did you mean careful" in capsys.readouterr().err


async def test_what_the_gateway_cannot_count_is_refused(tmp_path: Path) -> None:
    async with ProviderServer(answers) as server:
        house = House(tmp_path, server.url)
        for n, (slot, env, why) in enumerate(
            (
                ("route/quick", {}, "no route 'quick'; it has slow"),
                ("nobody:tiny", {}, "unknown"),
                ("auto", {"INTERPLAY_BACKGROUND_URL": server.url}, "no model of the gateway"),
            )
        ):
            house.env |= env
            with pytest.raises(BadInput, match=why):
                async with house.live(ada(slot, name=f"a{n}", budget="5/day")):
                    pass
    for fields, why in (
        ({"budget": "5/week"}, "'5/week' is no amount"),
        ({"vision": "embedded"}, "takes no pictures"),
    ):
        with pytest.raises(BadInput, match=why):
            ada(**fields)


async def test_a_model_nobody_has_a_price_for_is_no_way_round_a_budget(tmp_path: Path) -> None:
    async with ProviderServer(answers) as server:
        house = House(tmp_path, server.url)
        async with house.live(ada("house:unheard-of", budget="5/day")) as room:
            refused = await ask(room)
    assert "by the rule unpriced" in refused[0] and not server.requests


async def test_through_the_gateway_tools_questions_and_withdrawing_work_as_before(tmp_path: Path) -> None:
    def script(request: dict[str, Any], n: int) -> list[Any]:
        steps = [("tool", "ask_person", {"question": "Which city?"})], ["A room in ", "Lisbon it is. "], ["So. ", 20.0]
        return steps[n - 1]

    async with ProviderServer(script) as server:
        house = House(tmp_path, server.url)
        async with house.live(ada()) as room:
            delegation = room.delegate(ContextPackage("book a room"))
            async with asyncio.timeout(60):
                while not delegation.asking:
                    room.at(0)
                    await asyncio.sleep(0.01)
                room.put(delegation.id)
                assert room.answer("lisbon")
                while not delegation.finished:
                    await asyncio.sleep(0.01)
                assert [*delegation.waiting] == ["A room in Lisbon it is."]
                assert "lisbon" in str(server.requests[1]["messages"])
                slow = room.delegate(ContextPackage("what takes so long"))
                while len(server.requests) < 3:
                    await asyncio.sleep(0.01)
                room.drop(slow.id, "withdrawn")
                while not server.closed:
                    await asyncio.sleep(0.01)
    assert house.rows("SELECT status FROM entries ORDER BY started") == [("ok",), ("ok",), ("cancelled",)]


async def test_pictures_go_to_the_model_for_pictures_and_nothing_else_does(tmp_path: Path) -> None:
    async with ProviderServer(answers) as server:
        house = House(tmp_path, server.url)
        async with house.live(ada("house:tiny", "house:eyes", budget="5/day")) as room:
            timeline = opened(room)
            await ask(room)
            await ask(room, frames=(FRAME,))
        async with house.live(ada("embedded", "house:eyes", name="bea")) as room:
            assert room.takes_pictures and await ask(room, "what is two times three")
            await ask(room, frames=(FRAME,))
        async with house.live(ada("house:tiny", name="cleo")) as room:
            await ask(room, frames=(FRAME,))
    assert [request["model"] for request in server.requests] == ["tiny", "eyes", "eyes", "tiny"]
    assert ["image_url" in str(request["messages"]) for request in server.requests] == [False, True, True, True]
    minds = [r["background"] for r in timeline.records if r["kind"] == "delegated"]
    assert minds == ["house:tiny", "house:eyes"]


async def test_what_the_camera_shows_reaches_the_model_for_pictures_in_a_session(tmp_path: Path) -> None:
    """The background takes none, so without the other slot there would be none to hand over."""
    from interplay.session import SurfaceIn
    from tests import background_scene

    class Filmed(background_scene.Room):
        async def read(self, turn: int) -> SurfaceIn | None:
            heard = await super().read(turn)
            return heard and SurfaceIn(heard.audio, FRAME)

    async with ProviderServer(answers) as server:
        house = House(tmp_path, server.url)
        async with house.live(ada("embedded", "house:eyes")) as room:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(background_scene, "Room", Filmed)
                over = lambda: any(not d.live for d in room.delegations.values())  # noqa: E731
                says = [(0.6, "what is the capital of france")]
                talk = await converse(says, room, seconds=60, until=over)
    assert "This is answer 1." in talk.said() and "image_url" in str(server.requests[0]["messages"])


async def test_who_writes_the_memory_pays_from_the_same_budget(tmp_path: Path) -> None:
    async with ProviderServer(lambda request, n: ['{"notes": [], "done": [], "summary": "Hello."}'], USED) as server:
        house = House(tmp_path, server.url)
        from datetime import UTC, datetime

        for budget, error in (("5/day", ""), ("0.001/day", "rule: budget")):
            writer = writer_of(ada(budget=budget), house.env, user="grace")
            assert writer is not None
            if error:
                with pytest.raises(InterplayError, match=error):
                    await writer.write([], datetime.now(UTC), [], [])
            else:
                assert (await writer.write([], datetime.now(UTC), [], [])).summary == "Hello."
    assert house.rows("SELECT agent, user_id, session FROM entries") == [("ada", "grace", "memory")]
