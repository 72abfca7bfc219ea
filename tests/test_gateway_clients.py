"""The official clients and pydantic-ai, unmodified, through a running gateway to a provider's process, on real sockets.

Every answer goes through all protocols: `a` speaks chat and responses, `b` chat only, `claude` Anthropic messages only.
"""
# Parts are reached by name here that their types do not show.
# pyright: reportOptionalSubscript=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.gateway_house import SECRET, asked, config, gateway
from tests.gateway_upstream import TEXT

ASK = [{"role": "user", "content": "When does the ferry leave?"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ROUTES = """
[routes.broken]
targets = ["a/cut-5", "b/words"]
[routes.broken-claude]
targets = ["claude/cut-5", "b/words"]
[routes.dead]
retries = 0
targets = ["a/status-500", "b/status-429"]
"""
MODELS = ["a/words", "b/words", "claude/words", "broken", "broken-claude"]


@pytest.fixture(scope="module")
def url(up: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("gateway")
    with gateway(config(home / "g.toml", up, ROUTES), home) as address:
        yield address


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="anything")


@pytest.fixture
def claude(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="anything")


@pytest.mark.parametrize("model", MODELS)
def test_openai_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ASK)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == TEXT and answer.choices[0].finish_reason == "stop"
    assert answer.usage and answer.usage.completion_tokens == 21
    text, finish, usage, roles = "", "", 0, 0
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(model=model, messages=ASK, stream=True, stream_options=options):  # type: ignore[call-overload]
        for choice in chunk.choices:
            text += choice.delta.content or ""
            roles += choice.delta.role is not None
            finish = choice.finish_reason or finish
        usage += chunk.usage is not None
    assert (text, finish, usage, roles) == (TEXT, "stop", 1, 1)


def test_usage_is_sent_only_if_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="a/words", messages=ASK, stream=True))  # type: ignore[arg-type]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("model", MODELS)
def test_openai_responses(client: openai.OpenAI, model: str) -> None:
    assert client.responses.create(model=model, input="When does the ferry leave?").output_text == TEXT
    text, numbers = "", []
    with client.responses.stream(model=model, input="When does the ferry leave?") as stream:
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
        final = stream.get_final_response()
    assert text == TEXT == final.output_text and numbers == sorted(set(numbers))


@pytest.mark.parametrize("model", MODELS)
def test_anthropic_messages(claude: anthropic.Anthropic, model: str) -> None:
    answer = claude.messages.create(model=model, messages=ASK, max_tokens=100)  # type: ignore[arg-type]
    assert answer.content[0].text == TEXT and answer.stop_reason == "end_turn"  # type: ignore[union-attr]
    with claude.messages.stream(model=model, messages=ASK, max_tokens=100) as stream:  # type: ignore[arg-type]
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == TEXT and [block.text for block in final.content] == [TEXT]  # type: ignore[union-attr]
    assert final.stop_reason == "end_turn" and final.usage.output_tokens >= 21


@pytest.mark.parametrize("model", ["a/tool", "claude/tool"])
def test_tools(client: openai.OpenAI, claude: anthropic.Anthropic, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ASK, tools=[TOOL])  # type: ignore[call-overload]
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and call.function.arguments.replace(" ", "") == '{"city":"Oslo"}'
    arguments = ""
    for chunk in client.chat.completions.create(model=model, messages=ASK, tools=[TOOL], stream=True):  # type: ignore[call-overload]
        for piece in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            arguments += piece.function.arguments or ""
    assert arguments == '{"city": "Oslo"}'
    tool = {"name": "weather", "input_schema": {"type": "object"}}
    with claude.messages.stream(model=model, messages=ASK, max_tokens=99, tools=[tool]) as stream:  # type: ignore[list-item]
        final = stream.get_final_message()
    assert final.content[0].name == "weather" and final.content[0].input == {"city": "Oslo"}  # type: ignore[union-attr]
    assert final.stop_reason == "tool_use"


def test_a_whole_tool_conversation_reaches_the_other_protocol(client: openai.OpenAI, up: str) -> None:
    asked(up)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "And this?"},
                                     {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]  # fmt: skip
    client.chat.completions.create(model="claude/words", messages=talk, tools=[TOOL], stop="END")  # type: ignore[call-overload]
    body = asked(up)[0]["body"]
    assert body["system"] == "Be brief." and body["stop_sequences"] == ["END"] and body["max_tokens"] > 0
    image = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, {"type": "image", "source": image}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather",
                                           "input": {"city": "Oslo"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]},
    ]  # fmt: skip


def test_embeddings_and_models(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    found = client.embeddings.create(model="a/words", input=["one", "three"], encoding_format="float")
    assert [row.embedding for row in found.data] == [[3.0, 0.5], [5.0, 0.5]]
    assert [model.id for model in client.models.list()][:2] == ["broken", "broken-claude"]
    assert [model.id for model in claude.models.list()][:2] == ["broken", "broken-claude"]
    with pytest.raises(openai.APIStatusError):
        client.embeddings.create(model="claude/words", input="one")


def test_errors_are_the_clients_own_and_are_not_retried_for_nothing(client: openai.OpenAI, up: str) -> None:
    asked(up)
    with pytest.raises(openai.RateLimitError, match="a/status-500: server error 500; b/status-429: rate limit 429"):
        client.chat.completions.create(model="dead", messages=ASK)  # type: ignore[arg-type]
    assert len(asked(up)) == 2  # each target once: the client was told not to try again
    with pytest.raises(openai.NotFoundError, match="did you mean claude"):
        client.chat.completions.create(model="cloude/words", messages=ASK)  # type: ignore[arg-type]
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="a/toolcut-1", messages=ASK, stream=True))  # type: ignore[arg-type]


def test_an_error_in_anthropics_form(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.RateLimitError, match="status-429: rate limit"):
        claude.messages.create(model="dead", messages=ASK, max_tokens=9)  # type: ignore[arg-type]


def test_the_provider_gets_its_own_key_and_nothing_of_the_callers_headers(url: str, up: str) -> None:
    asked(up)
    noisy = openai.OpenAI(
        base_url=f"{url}/v1", api_key="callers-own-key",
        default_headers={"cookie": "a=b", "x-forwarded-host": "evil", "openai-organization": "org", "te": "trailers"},
    )  # fmt: skip
    noisy.chat.completions.create(model="a/words", messages=ASK)  # type: ignore[arg-type]
    headers = asked(up)[0]["headers"]
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert set(headers) == {"host", "content-type", "accept", "accept-encoding", "user-agent", "authorization",
                            "idempotency-key", "x-client-request-id", "content-length"}  # fmt: skip
    assert "callers-own-key" not in str(headers)


async def test_pydantic_ai(url: str) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    chat = OpenAIProvider(base_url=f"{url}/v1", api_key="anything")
    for model in (
        OpenAIChatModel("broken", provider=chat),
        OpenAIResponsesModel("broken", provider=chat),
        AnthropicModel("broken-claude", provider=AnthropicProvider(base_url=url, api_key="anything")),
    ):
        assert (await Agent(model).run("When does the ferry leave?")).output == TEXT
        async with Agent(model).run_stream("When does the ferry leave?") as stream:
            assert await stream.get_output() == TEXT
