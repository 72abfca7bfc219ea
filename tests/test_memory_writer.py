"""Who writes memory: the background's model where there is one, and what remains when it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from interplay.agents.desk import AgentDesk
from interplay.agents.spec import AgentSpec, ModelSlots
from interplay.agents.writer import writer_of
from interplay.core.timeline import Timeline
from interplay.core.types import BadInput
from tests.stores import talk

URL = "INTERPLAY_BACKGROUND_URL"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes long to import a provider's library; that limit is not what is tested here."""
    monkeypatch.setattr("interplay.agents.memory.MODEL_S", 300.0)


SAID = talk(("user", "my name is anna"), ("user", "remind me tomorrow at nine to call the bank"))


def test_the_slot_decides_who_writes() -> None:
    def writer(env: dict[str, str], **slots: str) -> Any:
        return writer_of(AgentSpec("ada", models=ModelSlots(**slots)), env)

    assert writer({}) is None and writer({"OPENAI_API_KEY": "x"}, background="embedded") is None
    assert writer({"OPENAI_API_KEY": "x"}) is not None and writer({URL: "http://127.0.0.1:9/v1"}) is not None
    assert writer({"OPENAI_API_KEY": "x"}, background="off") is None
    assert writer({}, background="local") is None and writer({}, summary="local") is not None
    assert writer({}, background="embedded", summary="openai:gpt-x") is not None
    with pytest.raises(BadInput):
        writer({}, summary="gpt")


async def visit(folder: Path, summary: str = "") -> tuple[list[str], AgentDesk]:
    """A session through the desk that live pages and file runs use. Returns what is remembered, and the open desk."""
    desk = AgentDesk("ada", "anna", str(folder / "agents.db"))
    await (await desk.store()).create(AgentSpec("ada", models=ModelSlots(summary=summary)))
    with Timeline() as timeline:
        async with desk.attend(timeline):
            for entry in SAID:
                timeline.record(
                    entry["lane"], entry["kind"], **{k: v for k, v in entry.items() if k not in ("lane", "kind")}
                )
    await desk.close()  # waits for notes that are being taken
    return [item.text for item in await (await desk.memory("ada")).list()], desk


async def test_a_providers_model_writes_after_the_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_ai")
    from tests.provider_server import ProviderServer

    answer = {"notes": [{"block": "user", "key": "bank", "text": "has an account at the bank"}], "summary": "She came."}
    async with ProviderServer(lambda request, n: [json.dumps(answer)]) as server:
        monkeypatch.setenv(URL, server.url)
        kept, desk = await visit(tmp_path)
        assert "my name is anna" in str(server.requests[0]["messages"])
    assert set(kept) == {"name is anna", "call the bank", "has an account at the bank"}
    assert "She came." in await (await desk.memory("ada")).background_context()
    await desk.close()


@pytest.mark.parametrize("script", [["It was nice ", None], ["I would rather not."], ['{"notes": "none"}']])
async def test_a_model_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: list[str | None]
) -> None:
    pytest.importorskip("pydantic_ai")
    from tests.provider_server import ProviderServer

    async with ProviderServer(lambda request, n: script) as server:
        monkeypatch.setenv(URL, server.url)
        kept, desk = await visit(tmp_path)
        assert server.requests, "it was asked"
    assert set(kept) == {"name is anna", "call the bank"}
    await desk.close()


async def test_a_server_that_is_not_there_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "http://127.0.0.1:9/v1")
    kept, desk = await visit(tmp_path)
    assert set(kept) == {"name is anna", "call the bank"}
    await desk.close()


@pytest.mark.slow
async def test_the_real_local_model_loses_nothing(tmp_path: Path) -> None:
    """SmolLM2-135M writes memory: whatever it answers, and however long it takes, the plain notes are there."""
    from interplay.background.local import LocalModel
    from interplay.core.types import Missing

    try:
        LocalModel()
    except Missing as missing:
        pytest.skip(str(missing))
    kept, desk = await visit(tmp_path, summary="local")
    assert {"name is anna", "call the bank"} <= set(kept)
    await desk.close()
