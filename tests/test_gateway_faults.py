"""The fault matrix: what goes wrong at a provider, what the caller sees, and what the ledger has of it.

The provider is a process that misbehaves on the socket (`tests/gateway_upstream.py`); everything else is real too.
"""
# Parts are reached by name here that their types do not show.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from interplay.gateway.contract import Caller, Denied
from interplay.gateway.faults import Failed
from interplay.gateway.gateway import Gateway, words_of
from tests.gateway_house import SECRET, asked, config
from tests.gateway_upstream import TEXT, USAGE

ASK = [{"role": "user", "content": "When does the ferry leave?"}]
BEFORE = ["status-429", "status-500", "status-503", "status-401", "status-402", "quota", "context", "filter", "blind",
          "hang", "html", "empty", "filtered"]  # fmt: skip
INSIDE = ["cut", "clean", "half", "reset", "stall", "trickle", "garbage", "error"]
PRICES = "".join(f'[prices."{name}/*"]\ninput_tokens = 1.0\noutput_tokens = 1.0\n' for name in "ab")


@pytest.fixture
async def gateway(up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("UP_KEY", SECRET)
    monkeypatch.setenv("INTERPLAY_LEDGER", str(tmp_path / "ledger.db"))
    names = [*BEFORE, *(f"{name}-5" for name in INSIDE), "cut-0", "tls", "refused", "toolcut-1", "cut-6"]
    routes = "".join(
        f'[routes.{name}]\nretries = 1\ntargets = ["{_first(name)}", "b/words"]\n' for name in names if "6" not in name
    )
    for name in ("repeats", "over", "words"):
        routes += f'[routes.goes-on-{name}]\ntargets = ["a/cut-6", "b/{name}"]\n'
    routes += '[routes.again]\nmid_stream = "restart"\ntargets = ["a/cut-6", "b/words"]\n'
    routes += '[routes.no]\nmid_stream = "fail"\ntargets = ["a/cut-6", "b/words"]\n'
    routes += '[routes.thrice]\ntargets = ["a/cut-3", "a/cut-2", "b/words"]\n'
    routes += '[routes.gone]\nretries = 0\ntargets = ["a/status-500", "b/status-429"]\n'
    routes += f'[providers.tls]\nbase_url = "{up.replace("http:", "https:")}/v1"\nkeyless = true\n'
    routes += '[providers.refused]\nbase_url = "http://127.0.0.1:9/v1"\nkeyless = true\n'
    async with await Gateway.open(config(tmp_path / "g.toml", up, routes, PRICES), watch=False) as opened:
        asked(up)
        yield opened


def _first(name: str) -> str:
    return f"{name}/words" if name in ("tls", "refused") else f"a/{name}"


async def talked(gateway: Gateway, model: str, **options: object) -> str:
    return "".join([words async for words in gateway.talk(model, ASK, **options)])


async def rows(gateway: Gateway) -> list[tuple[str, str, str, int]]:
    """(provider, model, status, output tokens) of every entry, in order."""
    await gateway.ledger.flush()  # type: ignore[attr-defined]
    import sqlite3

    with sqlite3.connect(str(gateway.ledger.url).removeprefix("sqlite:///")) as database:  # type: ignore[attr-defined]
        found = database.execute("SELECT provider, model, status, output_tokens FROM entries ORDER BY started, id")
        return [tuple(row) for row in found]


@pytest.mark.parametrize("name", [*BEFORE, "cut-0", "tls", "refused"])
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_word_the_caller_sees_nothing_of_it(gateway: Gateway, name: str, stream: bool) -> None:
    if name == "cut-0" and not stream:
        name = "empty"
    text = await talked(gateway, name) if stream else words_of(await gateway.chat(name, ASK))
    assert text == TEXT
    good = [row for row in await rows(gateway) if row[2] == "ok"]
    assert good == [("b", "words", "ok", USAGE["completion_tokens"])]  # billed once, by the provider's own count


@pytest.mark.parametrize("name", INSIDE)
async def test_inside_an_answer_another_model_goes_on_without_a_word_twice(gateway: Gateway, name: str) -> None:
    assert await talked(gateway, f"{name}-5") == TEXT
    found = await rows(gateway)
    assert [(row[0], row[2]) for row in found] == [("a", "error"), ("b", "ok")]
    assert 0 < found[0][3] < 21  # what the first one had said is paid for, and no more


@pytest.mark.parametrize("route", ["goes-on-words", "goes-on-repeats", "goes-on-over", "again", "thrice"])
async def test_however_the_continuation_begins(gateway: Gateway, route: str) -> None:
    assert await talked(gateway, route) == TEXT


async def test_a_route_may_forbid_continuations(gateway: Gateway) -> None:
    said = ""
    with pytest.raises(Failed, match="broke off"):
        async for words in gateway.talk("no", ASK):
            said += words
    assert said and TEXT.startswith(said)


async def test_a_tool_call_that_broke_off_is_an_error_and_not_half_a_call(gateway: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    with pytest.raises(Failed, match="broke off"):
        async for _ in gateway.stream("toolcut-1", ASK, tools=tools):
            pass


async def test_when_nobody_answers_every_target_is_named_and_no_key(gateway: Gateway) -> None:
    with pytest.raises(Failed) as caught:
        await gateway.chat("gone", ASK)
    assert str(caught.value) == ("route 'gone' failed: a/status-500: server error 500; b/status-429: rate limit 429")
    with pytest.raises(Failed) as caught:
        await gateway.chat("a/status-401", ASK)
    assert "refused our key" in str(caught.value) and "sk-" not in str(caught.value) and caught.value.status == 502


async def test_a_wrong_request_is_not_tried_elsewhere(gateway: Gateway, up: str) -> None:
    with pytest.raises(Failed, match="messages: wrong") as caught:
        await gateway.chat("a/status-400", ASK)
    assert caught.value.status == 400 and len(asked(up)) == 1


async def test_retries_wait_as_long_as_the_provider_asks(gateway: Gateway, up: str) -> None:
    import time

    began = time.monotonic()
    with pytest.raises(Failed) as caught:
        await gateway.chat("a/wait-1", ASK)
    assert time.monotonic() - began >= 2 and caught.value.status == 429  # two more rounds, one second before each
    assert len(asked(up)) == 3
    began = time.monotonic()
    with pytest.raises(Failed) as caught:
        await talked(gateway, "a/wait-60")  # longer than the deadline: said at once
    assert time.monotonic() - began < 15 and caught.value.retry_after_s == 60


async def test_the_same_target_is_tried_again_with_the_same_idempotency_key(gateway: Gateway, up: str) -> None:
    assert words_of(await gateway.chat("a/flaky-2", ASK)) == TEXT
    log = asked(up)
    assert len(log) == 3 and len({entry["headers"]["idempotency-key"] for entry in log}) == 1
    assert [row[2] for row in await rows(gateway)] == ["error", "error", "ok"]
    assert sum(row[3] for row in await rows(gateway)) == USAGE["completion_tokens"]


@pytest.mark.parametrize("target", ["a/words", "claude/words", "claude/words-30ms", "a/words-30ms"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bill_can_be_matched_by_both_ids(gateway: Gateway, up: str, target: str, stream: bool) -> None:
    asked(up)
    call = gateway.call("chat", {"model": target, "messages": ASK, "stream": stream})
    if stream:
        async with aclosing(gateway.pieces(call, Caller())) as pieces:
            await anext(pieces)  # a crash now must leave both
            (entry,) = gateway.ledger.live.values()  # type: ignore[attr-defined]
            found = {entry.id: entry.provider_id}
    else:
        await gateway.answer(call, Caller())
        await gateway.ledger.flush()  # type: ignore[attr-defined]
        sql = "SELECT id, provider_id FROM entries"
        found = dict(await gateway.ledger.writer.ask(lambda database: database.query(sql)))  # type: ignore[attr-defined]
    sent = asked(up)[0]["headers"]["x-client-request-id"]
    assert sent in found and found[sent] in ("chatcmpl-s", "msg_s")


async def test_policy_is_asked_while_a_provider_is_silent(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interplay.gateway.attempts.CHECK_S", 0.2)
    monkeypatch.setattr("interplay.gateway.failover.CHECK_S", 0.2)
    asks = 0
    admit = gateway.policy.admit

    async def admitted(caller: Caller, ask: Any) -> Any:
        grant = await admit(caller, ask)

        async def check() -> None:
            nonlocal asks
            asks += 1
            if asks > 1:
                raise Denied("budget", "all is spent", "Ask.")

        monkeypatch.setattr(grant, "check", check)
        return grant

    monkeypatch.setattr(gateway.policy, "admit", admitted)
    with pytest.raises(Denied, match="all is spent"):
        async for _ in gateway.talk("a/stall-5", ASK):
            pass
    assert asks == 2


async def test_a_model_that_the_provider_does_not_know_gets_the_nearest_names(
    up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("INTERPLAY_LEDGER", str(tmp_path / "other.db"))
    route = '[providers.openai]\nbase_url = "' + up + '/v1"\n[routes.r]\ntargets = ["openai/status-404"]\n'
    async with await Gateway.open(config(tmp_path / "o.toml", up, route), watch=False) as gateway:
        assert "route r: no table lists openai/status-404" in caplog.text
        with pytest.raises(Failed, match=r"no such model 404 .*no table lists openai/status-404"):
            await gateway.chat("openai/status-404", ASK)
        catalog = gateway.config.catalog
        assert "did you mean openai/gpt-4o-mini" in catalog.unlisted("openai/gpt-4o-mnii")
        assert not catalog.unlisted("openai/gpt-4o-mini") and not catalog.unlisted("a/anything")


async def test_hanging_up_reaches_the_provider_and_the_ledger(gateway: Gateway) -> None:
    stream = gateway.talk("a/words-20ms", ASK)
    assert await anext(stream)
    await stream.aclose()
    found = await rows(gateway)
    assert [row[2] for row in found] == ["cancelled"] and 0 < found[0][3] < 21
    assert gateway.board.health(gateway.route("a/words-20ms").targets[0]).busy == 0


async def test_a_refusal_of_the_policy_is_not_a_failure_of_a_provider(gateway: Gateway, up: str) -> None:
    gateway.policy.reload({"policy": {"limits": {"models": ["b/*"]}}})
    with pytest.raises(Denied):
        await gateway.chat("a/words", ASK)
    assert asked(up) == []


async def test_redaction_is_undone_in_a_stream_and_inside_tool_arguments(gateway: Gateway, up: str) -> None:
    gateway.policy.reload({"policy": {"redact": ["email"]}})
    ask = [{"role": "user", "content": "Write to ada@example.org today"}]
    text = "".join([words async for words in gateway.talk("a/echo", ask)])
    assert "ada@example.org" in text
    assert "ada@example.org" not in str(asked(up)[0]["body"])
