"""A long tool in a live session: allowed by the person, asked how far it is, steered, asking back, called off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from interplay.agents.tools import Call, Policy, Tool, ToolBox, tool
from interplay.background import Abilities, BackgroundRoom, Piece, Work
from tests.background_scene import Talk, converse


class Clerk:
    """A background that uses one tool for everything and says what came of it."""

    name = "clerk"
    abilities = Abilities(instant=True)

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        answer = await work.tools.call("book", {"city": "lisbon"}, work)
        yield Piece(answer.text if answer.ok else answer.sentence)

    async def close(self) -> None: ...


def booking(done: list[str]) -> Tool:
    """Takes as long as it is let: waits for a wish, asks back, and works for three seconds."""

    @tool(scopes=("shop",), writes=True, approve=True, timeout_s=600)
    async def book(city: str, *, call: Call) -> str:
        "Book a room."
        done.append("begun")
        call.progress("comparing two rooms")
        try:
            wish = " ".join(await call.wait_heard())
            nights = await call.ask("For how many nights?")
            await call.sleep(3.0)
        except asyncio.CancelledError:
            done.append("cancelled")
            raise
        done.append("booked")
        return f"I booked the {'cheap' if 'cheaper' in wish else 'large'} room in {city} for {nights} nights."

    return book


async def talk_to(done: list[str], says: list[tuple[float, str]], seconds: float) -> Talk:
    room = BackgroundRoom(Clerk(), ToolBox([booking(done)], Policy.per_tool({"book": ["shop"]})))
    return await converse(
        [(1.0, "can you book a room for tonight"), *says], room, seconds=seconds, every=("tick", 2.0, 2.0)
    )


async def test_a_long_tool_is_allowed_asked_after_steered_and_asks_back() -> None:
    done: list[str] = []
    says = [(8.3, "yes please"), (11.1, "are you still looking"), (17.1, "no the cheaper one"), (23.1, "three")]
    talk = await talk_to(done, says, 40)
    said = " ".join(r["text"] for r in talk.records("agent", "said") if r["text"] != "tick")
    assert "May I use book with city lisbon?" in said and "Still on it. Comparing two rooms." in said
    assert "For how many nights?" in said and said.index("May I") < said.index("Still on it") < said.index("For how")
    assert said.endswith("I booked the cheap room in lisbon for three nights."), said
    assert done == ["begun", "booked"] and talk.states() == {"d1": "delivered"}
    assert [r["text"] for r in talk.records("background", "steered")] == ["no the cheaper one"]
    # nothing of that was dead air, and none of it made the conversation late
    ticks = talk.said_at("tick")
    assert len(ticks) == 20 and all(abs(t - 2.0 * (k + 1)) <= 0.2 + 1e-6 for k, t in enumerate(ticks))


async def test_a_tool_that_was_not_allowed_does_not_run() -> None:
    done: list[str] = []
    talk = await talk_to(done, [(8.3, "no do not")], 16)
    assert done == [] and "Then I will not use book." in " ".join(
        r["text"] for r in talk.records("agent", "said") if r["text"] != "tick"
    )


async def test_nobody_answering_is_not_a_yes() -> None:
    done: list[str] = []
    talk = await talk_to(done, [], 50)
    assert done == [] and "will not use book." in talk.said()


async def test_never_mind_cancels_the_tool_itself() -> None:
    done: list[str] = []
    talk = await talk_to(done, [(8.3, "yes please"), (12.3, "never mind")], 18)
    assert done == ["begun", "cancelled"] and talk.states() == {"d1": "dropped"}
    assert talk.records("tool", "cancelled") and "booked" not in talk.said()
