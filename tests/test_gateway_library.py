"""Providers that are reached through pydantic-ai's own model classes, here its Ollama class, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interplay.gateway.faults import Failed
from interplay.gateway.gateway import Gateway, words_of
from tests.gateway_house import SECRET, asked, config
from tests.gateway_upstream import TEXT

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When does the ferry leave?"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
MORE = """
[providers.through]
library = "ollama"
[routes.broken]
targets = ["through/cut-5", "b/words"]
[routes.other-way]
targets = ["a/cut-5", "through/words"]
"""


@pytest.fixture
async def gateway(up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("UP_KEY", SECRET)
    monkeypatch.setenv("OLLAMA_BASE_URL", f"{up}/v1")
    monkeypatch.setenv("INTERPLAY_LEDGER", str(tmp_path / "ledger.db"))
    async with await Gateway.open(config(tmp_path / "g.toml", up, "", MORE), watch=False) as opened:
        asked(up)
        yield opened


async def test_words_whole_and_streamed(gateway: Gateway, up: str) -> None:
    answer = await gateway.chat("through/words", ASK, temperature=0.5, max_tokens=50)
    assert words_of(answer) == TEXT and answer["usage"]["completion_tokens"] == 21
    sent = asked(up)[0]["body"]
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."} and sent["temperature"] == 0.5
    pieces = [piece async for piece in gateway.stream("through/words", ASK)]
    assert "".join(piece.text for piece in pieces) == TEXT
    assert pieces[-1].finish == "stop" and pieces[-1].usage and pieces[-1].usage.output_tokens == 21


async def test_tools(gateway: Gateway) -> None:
    answer = await gateway.chat("through/tool", ASK, tools=[TOOL])
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    parts = [tool async for piece in gateway.stream("through/tool", ASK, tools=[TOOL]) for tool in piece.tools]
    assert parts[0].name == "weather" and "".join(part.arguments for part in parts) == '{"city": "Oslo"}'


async def test_an_answer_goes_on_from_the_library_and_to_it(gateway: Gateway) -> None:
    for route in ("broken", "other-way"):
        assert "".join([words async for words in gateway.talk(route, ASK)]) == TEXT


@pytest.mark.parametrize(("name", "words"), [("status-401", "refused our key"), ("status-500", "server error 500"),
                                             ("context", "prompt too long")])  # fmt: skip
async def test_faults_are_known_there_too(gateway: Gateway, name: str, words: str) -> None:
    with pytest.raises(Failed, match=words) as caught:
        await gateway.chat(f"through/{name}", ASK)
    assert "sk-" not in str(caught.value)
