"""The policy: keys, budgets, rates, redaction, guardrails, audit; and that secrets stay secret."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from interplay.core.types import BadInput
from interplay.gateway import scrub
from interplay.gateway.contract import Ask, Caller, Denied, Usage
from interplay.gateway.ledger import Book
from interplay.gateway.ledger.store import Database
from interplay.gateway.policy import Gate, Look, Refused
from interplay.gateway.policy.audit import _mac, audit_anchor, audit_folder, audit_key, verify
from interplay.gateway.policy.config import Budget, KeySection, Limits, problems
from interplay.gateway.policy.redact import KINDS, Redaction, Redactor
from interplay.gateway.prices import pico
from tests.test_gateway_ledger import cli

CHAT = Ask("chat", route="voice")


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    book = await Book.open(str(tmp_path / "l.sqlite"))
    yield book
    await book.close()


async def key_of(gate: Gate, limits: Limits, **section: Any) -> tuple[Caller, str]:
    _, secret = await gate.keys.create(f"key {time.monotonic_ns()}", KeySection(limits=limits, **section))
    return await gate.identify(secret, user="ada"), secret


async def spend(book: Book, caller: Caller, dollars: float) -> None:
    entry = await book.begin(caller, route="voice", provider="openai", model="gpt-5-mini", kind="chat")
    entry.usage(Usage(input_tokens=round(dollars * 4_000_000)))  # $0.25 per million
    await entry.end()


async def test_keys_say_who_calls_and_are_kept_as_digests(book: Book, tmp_path: Path) -> None:
    gate = await Gate.open(book)
    caller, secret = await key_of(gate, Limits(), agent="kiosk")
    assert (caller.agent, caller.user) == ("kiosk", "ada")
    for wrong in (
        secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        "ipk_" + "a" * 12 + "_" + "b" * 43,
        "",
        "x" * 9999,
    ):
        with pytest.raises(Denied) as denied:
            await gate.identify(wrong)
        assert (denied.value.rule, denied.value.status) == ("key", 401)
        assert not wrong or wrong not in str(denied.value)
    await book.flush()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()


async def test_a_revoked_key_ends_calls_under_way_in_another_process(book: Book, tmp_path: Path) -> None:
    gate = await Gate.open(book)
    caller, secret = await key_of(gate, Limits())
    async with await gate.admit(caller, CHAT) as grant:
        await grant.check()
        code, _ = await asyncio.to_thread(cli, "keys", "revoke", caller.key_id, "--ledger", book.url)
        assert code == 0
        with pytest.raises(Denied, match="revoked"):
            async with asyncio.timeout(30):
                while True:
                    await grant.check()
                    await asyncio.sleep(0.1)
    with pytest.raises(Denied, match="revoked"):
        await gate.identify(secret)


async def test_an_expired_key_is_refused(book: Book) -> None:
    gate = await Gate.open(book)
    _, secret = await gate.keys.create("old", KeySection(expires=time.time() - 1))
    with pytest.raises(Denied, match="expired"):
        await gate.identify(secret)


async def test_a_budget_warns_and_then_stops_hard(book: Book) -> None:
    gate = await Gate.open(book, {"policy": {"ask": "Write to the desk."}})
    caller, _ = await key_of(gate, Limits(budgets=(Budget(usd=1, per="day"),)))
    await spend(book, caller, 0.85)
    async with await gate.admit(caller, CHAT) as grant:
        with pytest.raises(Denied):  # this call alone could cost more than what is left
            await gate.admit(caller, Ask("chat", price_pico=pico("0.2")))
        await spend(book, caller, 0.2)
        with pytest.raises(Denied) as denied:
            await grant.check()
    assert denied.value.rule == "budget" and denied.value.status == 402 and "Write to the desk." in str(denied.value)
    with pytest.raises(Denied):
        await gate.admit(caller, CHAT)
    await book.flush()
    kinds = [row[0] for row in await book.writer.ask(lambda d: d.query("SELECT kind FROM audit WHERE seq > 0"))]
    assert kinds.count("budget_warning") == 1 and kinds.count("denied") >= 3


async def test_estimates_of_calls_under_way_are_held(book: Book) -> None:
    gate = await Gate.open(book)
    caller, _ = await key_of(gate, Limits(budgets=(Budget(usd=1, per="total"),)))
    ask = Ask("chat", price_pico=pico("0.4"))
    outcomes = await asyncio.gather(*(gate.admit(caller, ask) for _ in range(10)), return_exceptions=True)
    assert sum(not isinstance(outcome, Denied) for outcome in outcomes) == 2
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            await outcome.close()
    await (await gate.admit(caller, ask)).close()


async def test_rates_and_concurrency(book: Book) -> None:
    gate = await Gate.open(book, {"policy": {"users": {"concurrency": 2}}})
    caller, _ = await key_of(gate, Limits(requests_per_minute=5))
    grants = [await gate.admit(caller, CHAT) for _ in range(2)]
    with pytest.raises(Denied) as denied:
        await gate.admit(caller, CHAT)
    assert (denied.value.rule, denied.value.status) == ("concurrency", 429)
    for grant in grants:
        await grant.close()
        await grant.close()  # twice gives back one place, not two
    grants = [await gate.admit(caller, CHAT) for _ in range(2)]
    for grant in grants:
        await grant.close()
    await (await gate.admit(caller, CHAT)).close()
    with pytest.raises(Denied) as denied:
        await gate.admit(caller, CHAT)
    assert denied.value.rule == "requests_per_minute" and 0 < (denied.value.retry_after_s or 0) <= 12


async def test_tokens_per_minute_count_what_was_used(book: Book) -> None:
    gate = await Gate.open(book)
    caller, _ = await key_of(gate, Limits(tokens_per_minute=1000))
    async with await gate.admit(caller, Ask("chat", input_tokens=10)):
        entry = await book.begin(caller, route="", provider="openai", model="gpt-5-mini", kind="chat")
        entry.usage(Usage(output_tokens=5000))
        await entry.end()
        await book.flush()
    with pytest.raises(Denied, match="tokens a minute"):
        await gate.admit(caller, Ask("chat", input_tokens=10))


async def test_models_regions_routes_and_kinds(book: Book) -> None:
    gate = await Gate.open(book)
    limits = Limits(models=("openai/gpt-5*",), regions=("eu",), routes=("voice",), kinds=("chat",))
    caller, _ = await key_of(gate, limits)
    async with await gate.admit(caller, CHAT) as grant:
        assert grant.forbids("openai", "gpt-5-mini", "eu") is None
        for target, rule in ((("groq", "llama", "eu"), "models"), (("openai", "gpt-5-mini", "us"), "regions")):
            denied = grant.forbids(*target)
            assert denied is not None and denied.rule == rule
    for ask, rule in ((Ask("chat", route="other"), "routes"), (Ask("realtime", route="voice"), "kinds")):
        with pytest.raises(Denied) as refused:
            await gate.admit(caller, ask)
        assert refused.value.rule == rule
    rich, _ = await key_of(gate, Limits(budgets=(Budget(usd=1),)))
    async with await gate.admit(rich, CHAT) as grant:
        denied = grant.forbids("nobody", "knows")
        assert denied is not None and denied.rule == "unpriced"


async def test_no_key_is_local_trust_and_can_be_switched_off(book: Book) -> None:
    gate = await Gate.open(book)
    assert (await gate.identify(None, agent="mine")).agent == "mine"
    gate.reload({"policy": {"local": False}})
    with pytest.raises(Denied, match="a virtual key is needed"):
        await gate.identify(None)
    with pytest.raises(BadInput, match=r"policy\.colour"):
        gate.reload({"policy": {"colour": "red"}})
    with pytest.raises(Denied):  # a broken reload changed nothing
        await gate.identify(None)


TEXT = (
    "I am Ada Byron <ada.b@mail.example.com>, +49 30 901820, card 4111 1111 1111 1111, "
    "DE89 3704 0044 0532 0130 00 at 10.0.0.7 with sk-abcdefghijklmnop123"
)


def test_personal_data_is_hidden_and_comes_back() -> None:
    redaction = Redaction(Redactor(KINDS, names=["Ada Byron"]))
    body = {
        "model": "gpt", "tools": [{"name": "ada.b@mail.example.com"}],
        "messages": [
            {"role": "user", "content": TEXT},
            {"role": "assistant", "tool_calls": [{"id": "ada.b@mail.example.com", "function": {
                "name": "mail", "arguments": '{"to": "ada.b@mail.example.com"}'}}]},
            {"role": "user", "content": [{"type": "tool_use", "name": "n", "input": {"name": "Ada Byron"}},
                                         {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        ],
    }  # fmt: skip
    hidden = redaction.hide_body(body)
    text = str(hidden["messages"])
    for personal in ("Byron", "901820", "4111", "0532", "10.0.0.7", "sk-abc"):
        assert personal not in text
    assert hidden["tools"] == body["tools"] and hidden["messages"][1]["tool_calls"][0]["id"] == "ada.b@mail.example.com"
    assert hidden["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"to": "[EMAIL_1]"}'
    assert hidden["messages"][2]["content"][0]["input"] == {"name": "[NAME_1]"}
    assert hidden["messages"][2]["content"][1] == body["messages"][2]["content"][1]
    assert redaction.show_body(hidden["messages"][0]["content"]) == TEXT
    assert redaction.hide_body(body) == hidden  # a history that is sent again looks the same


def test_restoring_survives_every_cut_of_a_stream() -> None:
    redaction = Redaction(Redactor(["email"]))
    assert redaction.hide("to a@b.example and c@d.example") == "to [EMAIL_1] and [EMAIL_2]"
    answer, want = "x [EMAIL_1], [EMAIL_2] [EMAIL_9] [no] [", "x a@b.example, c@d.example [EMAIL_9] [no] ["
    for first in range(len(answer) + 1):
        for second in range(first, len(answer) + 1):
            parts = [redaction.stream(answer[a:b]) for a, b in ((0, first), (first, second), (second, len(answer)))]
            assert "".join(parts) + redaction.finish() == want


def test_figures_that_are_not_personal_stay() -> None:
    redactor = Redactor([kind for kind in KINDS if kind != "name"])
    for text in ("on 2024-05-01 at 10:30", "12/05/2024", "1,234,567.89", "order 1234567", "card 4111111111111112",
                 "v1.2.3.4.5", "DE89370400440532013001", "about 3:4 and a::b", "ab@c"):  # fmt: skip
        assert redactor.find(text) == [], text


def no_shouting(text: str, look: Look) -> str | None:
    if "FORBIDDEN" in text:
        raise Refused("no shouting")
    return text.replace("darn", "d***") if look.when == "after" else None


async def slow_guard(text: str, look: Look) -> None:
    await asyncio.sleep(60)


async def test_guardrails_before_and_after(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    rail = {"name": "manners", "when": ["before", "after"], "use": "tests.test_gateway_policy:no_shouting"}
    gate = await Gate.open(book, {"policy": {"guardrails": [rail]}})
    async with await gate.admit(Caller(), CHAT) as grant:
        with pytest.raises(Denied) as denied:
            await grant.outgoing([{"role": "user", "content": "FORBIDDEN"}])
        assert denied.value.rule == "guardrail.manners" and denied.value.status == 400
        assert await grant.outgoing("fine") == "fine"
        heard = [await grant.incoming(part) for part in ("Well da", "rn. And", " then FORB")]
        assert heard == ["", "Well d***. ", ""]
        with pytest.raises(Denied):
            await grant.incoming("IDDEN. more")
    monkeypatch.setattr("interplay.gateway.policy.guardrails.GUARD_S", 0.05)
    gate.reload({"policy": {"guardrails": [{"name": "s", "use": "tests.test_gateway_policy:slow_guard"}]}})
    async with await gate.admit(Caller(), CHAT) as grant:
        with pytest.raises(Denied, match="took longer"):
            await grant.outgoing("x")


def test_mistakes_in_the_config_have_a_place_and_no_values() -> None:
    secret = "sk-supersecretvalue1234567"
    found = problems(
        {
            "policy": {"limits": {"budgets": [{"usd": -1}]}, "guardrails": [{"name": "x"}]},
            "keys": {"a": {"digest": secret}},
            "ledger": {"url": f"postgresql://me:{secret}@db/x"},
            "prices": {"x": {"input_tokens": 1}},
        }
    )
    places = {problem.path for problem in found}
    assert ("policy", "limits", "budgets", 0, "usd") in places and ("keys", "a", "digest") in places
    assert {place[0] for place in places} == {"policy", "keys", "ledger", "prices"}
    assert secret not in str(found)


async def test_the_audit_log_cannot_be_rewritten_silently(book: Book, tmp_path: Path) -> None:
    gate = await Gate.open(book)
    for number in range(5):
        gate.audit.record("note", number=number)
    await book.flush()
    key = audit_key(audit_folder(book.url))
    intact = await book.writer.ask(lambda d: verify(d, key))
    assert intact.ok and intact.records == 6
    attacks = {
        "changed": "UPDATE audit SET data = '{\"number\":9}' WHERE seq = 3",
        "later": "UPDATE audit SET at = at + 1 WHERE seq = 6",
        "gap": "DELETE FROM audit WHERE seq = 3",
        "end": "DELETE FROM audit WHERE seq > 4",
        "swap": "UPDATE audit SET data = (SELECT data FROM audit b WHERE b.seq = 7 - audit.seq) WHERE seq IN (3, 4)",
        "all": "DELETE FROM audit WHERE seq > 0",
    }
    for name, attack in attacks.items():
        copy = tmp_path / f"{name}.sqlite"
        with sqlite3.connect(book.url) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        with sqlite3.connect(copy) as target:
            target.execute(attack)
        assert not verify(Database(str(copy)), key).ok, name
    # The whole log gone, or put back as it was: the head that is noted beside the key has seen more.
    gate.audit.seal()
    anchor = audit_anchor(book.url)
    assert anchor.head == intact.head and anchor.path.stat().st_mode & 0o077 == 0
    attacks = {"empty": ["DELETE FROM audit"], "back": [
        "DELETE FROM audit WHERE seq > 3", "UPDATE audit SET data = '3', mac = '{mac}' WHERE seq = 0",
    ]}  # fmt: skip
    for name, attack in attacks.items():
        copy = tmp_path / f"{name}.sqlite"
        with sqlite3.connect(book.url) as source, sqlite3.connect(copy) as target:
            source.backup(target)
            earlier = source.execute("SELECT mac FROM audit WHERE seq = 3").fetchone()[0]
        with sqlite3.connect(copy) as target:
            for sql in attack:
                target.execute(sql.format(mac=_mac(key, earlier, 3, 0.0, "head", "")))
        database = Database(str(copy))
        assert verify(database, key).ok and not verify(database, key, anchor.head).ok, name
        anchor.path.with_name(f"{copy.name}.audit-head").write_text(anchor.head)
        code, text = await asyncio.to_thread(cli, "audit", "verify", "--ledger", str(copy))
        assert code == 1 and "NOT INTACT" in text
        # ... and what is written from then on does not hide it.
        code, _ = await asyncio.to_thread(cli, "keys", "create", "later", "--ledger", str(copy))
        assert code == 0 and not verify(database, key).ok
    # Who has the key as well can cut and reseal; a head that was noted elsewhere still shows it.
    assert verify(Database(book.url), key, intact.head).ok
    assert not verify(Database(book.url), key, f"9:{'0' * 64}").ok
    code, text = await asyncio.to_thread(cli, "audit", "verify", "--ledger", book.url)
    assert code == 0 and "intact: 6 records" in text
    book.writer.post(lambda d: d.execute("UPDATE audit SET kind = 'x' WHERE seq = 2"))
    await book.flush()
    code, text = await asyncio.to_thread(cli, "audit", "verify", "--ledger", book.url)
    assert code == 1 and "record 2 was changed" in text


SECRETS = (
    "sk-proj-Abcdefghijklmnop0123456789",
    "sk-ant-api03-Abcdefghijklmnop",
    "AIzaSyA1234567890abcdefghijklmnopqrstu",
    "gsk_abcdefghijklmnop0123",
    "plainlookingpassword",
)


async def test_a_secret_never_reaches_log_error_record_or_metric(
    book: Book, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scrub.remember(SECRETS[-1])  # has no shape: known because the gateway was given it
    gate = await Gate.open(book)
    scrub.guard_logging()
    logger = logging.getLogger("interplay.test")
    for secret in SECRETS:
        caller = Caller(f"a {secret}", f"u {secret}", f"s {secret}")
        entry = await book.begin(
            caller, route=secret, provider=f"p {secret}", model=secret, kind="chat", log="full", labels={"x": "y"}
        )
        entry.usage(Usage(input_tokens=1), provider_id=f"id {secret}")
        entry.content(request={"authorization": f"Bearer {secret}"}, response=f"key={secret}")
        await entry.end("error", error=f"401: incorrect key {secret}")
        gate.audit.record("note", text=secret)
        logger.warning("calling with %s", secret)
        try:
            raise ValueError(f"bad key {secret}")
        except ValueError:
            logger.exception("failed")
        with pytest.raises(Denied) as denied:
            await gate.identify(secret, agent=secret)
        assert secret not in str(denied.value)
    await book.flush()
    told = caplog.text + book.metrics.text().decode()
    slots = b"".join(file.read_bytes() for file in tmp_path.rglob("slots-*"))
    disk = b"".join(file.read_bytes() for file in tmp_path.rglob("*sqlite*") if file.is_file())
    for secret in SECRETS:
        assert secret not in told, secret
        assert secret.encode() not in disk, secret
        assert secret.encode() not in slots, secret
    assert "calling with [secret]" in caplog.text


def test_scrubbing_keeps_ordinary_text() -> None:
    for text in ("a task-oriented risk-averse skeleton", "pk is a primary key", "Bearer", "https://a.example/x?y=1"):
        assert scrub.scrub(text) == text
    assert scrub.scrub("https://me:pw123@h/x") == "https://[secret]@h/x"


async def test_log_level_none_keeps_amounts_only(book: Book) -> None:
    entry = await book.begin(Caller("a", "ada", "s"), route="r", provider="openai", model="gpt-5-mini", kind="chat",
                             log="none", labels={"x": "y"})  # fmt: skip
    entry.content(request="hello")
    await entry.end("error", error="something private")
    await book.flush()
    rows = await book.writer.ask(lambda d: d.query("SELECT user_id, session, labels, error FROM entries"))
    assert rows == [("", "", "", "")]
    assert await book.writer.ask(lambda d: d.query("SELECT * FROM content")) == []
