"""Which session gets which background, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from interplay.foreground.base import Capabilities
from interplay.session.agent import live_agent, room_of

QUIET = {"INTERPLAY_BACKGROUND": "embedded", "INTERPLAY_RECOGNISER": "off"}


async def test_the_agent_without_a_spec_has_a_background_unless_its_foreground_answers_by_itself() -> None:
    """One that only hears and speaks (an older checkpoint, say) has questions that nobody else would answer; to what a
    provider answers itself a second answer is one too many."""
    pytest.importorskip("pydantic")
    for mind in (Capabilities(), Capabilities(delegates=True), Capabilities(speaks=True, delegates=True)):
        room = await room_of(None, mind, env=QUIET)
        assert room is not None and "calculator" in [offer.name for offer in room.tools.offers()], mind
        await room.close()
    assert await room_of(None, Capabilities(speaks=True), env=QUIET) is None


async def test_instructions_are_not_a_memory_of_the_person(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("aiosqlite")
    from interplay.agents import AgentSpec, AgentStore
    from interplay.agents.spec import Instructions, ModelSlots

    told = Instructions("be kind", "You remember to name your sources.")
    async with await AgentStore.open(str(tmp_path / "a.db")) as store:
        for name, slot in (("ada", "embedded"), ("none", "off")):
            await store.create(AgentSpec(name, instructions=told, models=ModelSlots(background=slot)))
        async with live_agent(store, "ada", env=QUIET) as live:
            assert live.room is not None and live.room.instructions == "You remember to name your sources."
            assert "sources" not in live.room.memory
        async with live_agent(store, "none", env=QUIET) as live:
            assert live.room is None
