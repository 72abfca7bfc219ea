"""One person and one agent over several days: what was promised on one is said on the next, whatever the store.

Every session here has the real room, tools, memory and store; only the ears are given the words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from interplay.agents import AgentSpec, AgentStore
from interplay.agents.spec import ModelSlots
from interplay.core.clock import SimulatedClock
from interplay.core.timeline import Timeline
from interplay.session import Session, SessionOptions
from interplay.session.agent import live_agent
from interplay.voice.base import SilentVoice
from tests.background_scene import Ears, Room, Talk, spoken
from tests.stores import KINDS, new_url

MORNING = datetime(2026, 3, 2, 8, 59, 40, tzinfo=UTC)
QUIET = {"INTERPLAY_RECOGNISER": "off"}  # these rooms hear tones, not words


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    async with new_url(request.param, tmp_path) as url:
        async with await AgentStore.open(url) as store:
            await store.create(AgentSpec("keeper", models=ModelSlots(background="embedded")))
        yield url


async def session(
    url: str, now: datetime, says: list[tuple[float, str]], seconds: float, *, user: str = "ada"
) -> tuple[Talk, str]:
    """A session at `now`, with a store opened for it alone, as another process would. Returns it and its prefix."""
    words, timeline = spoken(*says), Timeline()
    ears, surface = Ears(words), Room(words, seconds)
    async with await AgentStore.open(url) as store, live_agent(store, "keeper", user, env=QUIET, now=now) as live:
        assert live.visit is not None and live.room is not None
        live.visit.follow(timeline)
        options = SessionOptions(foreground=live.foreground)
        report = await Session(
            ears, SilentVoice(), surface, SimulatedClock(), timeline, options=options, background=live.room
        ).run()
        assert report.error is None
    assert live.visit.error is None
    return Talk(ears, live.room, surface, timeline), " ".join(live.foreground["prefix"])


async def test_remind_me_tomorrow_is_said_tomorrow_at_its_time_and_once(url: str) -> None:
    await session(url, MORNING, [(1.0, "my name is ada"), (4.0, "remind me tomorrow at nine to call the bank")], 10)
    await session(url, MORNING, [(1.0, "remind me tomorrow at nine to sell the boat")], 6, user="bo")

    evening, prefix = await session(url, MORNING + timedelta(hours=10), [(1.0, "good evening")], 5)
    assert "call the bank" in prefix and "bank" not in evening.said()

    talk, prefix = await session(url, MORNING + timedelta(days=1), [(1.0, "good morning")], 30)
    assert prefix.startswith("user name is ada") and "reminder today at nine am call the bank" in prefix
    said = [r for r in talk.records("agent", "said") if r.get("of") == "reminder"]
    assert " ".join(r["text"] for r in said) == "You wanted to be reminded: call the bank."
    assert 20.0 <= said[0]["t"] <= 20.8, "nine o'clock is 20 s into this session"
    assert [r["text"] for r in talk.records("background", "reminder")] == ["call the bank"]

    later, prefix = await session(url, MORNING + timedelta(days=1, hours=1), [(1.0, "hello again")], 10)
    assert "bank" not in later.said() and "bank" not in prefix, "a reminder that was given is done"


async def test_a_reminder_nobody_was_there_for_is_said_when_they_come_back(url: str) -> None:
    await session(url, MORNING, [(1.0, "remind me tomorrow at nine to call the bank")], 6)
    talk, prefix = await session(url, MORNING + timedelta(days=2), [(3.0, "good morning")], 10)
    assert "overdue call the bank" in prefix
    assert talk.said().startswith("You wanted to be reminded: call the bank.")


async def test_a_session_that_ends_before_it_could_say_it_has_not_said_it(url: str) -> None:
    await session(url, MORNING, [(1.0, "remind me tomorrow at nine to call the bank")], 6)
    short, _ = await session(url, MORNING + timedelta(days=1), [], 19)
    assert "bank" not in short.said()
    talk, _ = await session(url, MORNING + timedelta(days=1, minutes=5), [], 6)
    assert "call the bank." in talk.said()


async def test_what_was_promised_and_what_is_owed_are_known_the_next_day(url: str) -> None:
    says = [(1.0, "i promise to water the plants"), (6.0, "who founded the garden club")]
    talk, _ = await session(url, MORNING, says, 8.6)
    assert talk.records("background", "dropped")[0]["reason"] == "session closed", "it ended before it was answered"
    _, prefix = await session(url, MORNING + timedelta(days=1), [], 2)
    assert "water the plants" in prefix and "answer who founded the garden club" in prefix


async def test_a_live_page_is_told_what_is_due(url: str) -> None:
    """The server, a socket and the wall clock: a reminder of an earlier day comes due while the page is open."""
    pytest.importorskip("uvicorn")
    import uvicorn
    from websockets.asyncio.client import connect

    from interplay.agents.desk import AgentDesk
    from interplay.foreground.silent import SilentForeground
    from interplay.server.admission import Seats
    from interplay.server.app import create_app
    from interplay.server.house import House
    from interplay.server.live import address, listen

    desk = AgentDesk("keeper", "ada", url)
    await (await desk.memory("keeper")).remember(
        "reminder", "feed the cat", due=datetime.now(UTC) + timedelta(seconds=3)
    )
    listener = listen("127.0.0.1", 0)
    house = House(SilentForeground(), SilentVoice, Seats(2), agents=desk)
    server = uvicorn.Server(uvicorn.Config(create_app(house), log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    said: list[str] = []
    try:
        async with connect(address(listener).replace("http", "ws") + "ws") as page, asyncio.timeout(120):
            await page.send(json.dumps({"type": "hello", "rate": 16_000}))
            while "cat." not in said:
                message = await page.recv()
                if isinstance(message, str) and (cell := json.loads(message))["type"] == "turn":
                    said += [word for word, *_ in cell["said"]]
                    await page.send(json.dumps({"type": "ack", "turn": cell["turn"]}))
            await page.send(json.dumps({"type": "bye"}))
        assert " ".join(said) == "You wanted to be reminded: feed the cat."
        memory = await desk.memory("keeper")
        async with asyncio.timeout(60):
            while await memory.list("reminder"):  # given, so it is done: written when the session has ended
                await asyncio.sleep(0.05)
    finally:
        server.should_exit = True
        await task
        await desk.close()
        listener.close()
