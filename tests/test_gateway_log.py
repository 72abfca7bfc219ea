"""What is kept of a call at each logging level: nothing about people, only amounts and names, or what was said too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from interplay.gateway import ledger_cli
from interplay.gateway.contract import Caller
from interplay.gateway.gateway import Gateway
from tests.gateway_house import SECRET, config
from tests.gateway_upstream import TEXT

MAIL = "ada@lovelace.org"
PICTURE = "data:image/png;base64," + "iVBORw0K" * 40
ASK: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": f"Write to {MAIL}. My key is {SECRET}."},
            {"type": "image_url", "image_url": {"url": PICTURE}},
        ],
    }
]


async def logged(level: str, up: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of each kind at this level, and what `interplay gateway calls` then knows of them."""
    monkeypatch.setenv("UP_KEY", SECRET)
    monkeypatch.setenv("INTERPLAY_LEDGER", str(folder / "ledger.db"))
    more = f'[policy]\nlog = "{level}"\nredact = ["email"]\n'
    routes = '[routes.broken]\ntargets = ["a/cut-5", "b/words"]\n'
    who = Caller("desk", "ada", "s-1")
    async with await Gateway.open(config(folder / "g.toml", up, routes, more), watch=False) as gateway:
        await gateway.chat("a/words", ASK, caller=who)
        assert "".join([words async for words in gateway.talk("a/words", ASK, caller=who)]) == TEXT
        assert "".join([words async for words in gateway.talk("broken", ASK, caller=who)]) == TEXT
        echoed = await gateway.chat("a/echo", ASK, caller=who)
        assert MAIL in str(echoed)  # the caller gets it back ...
        await gateway.embed("a/words", ["a text"], caller=who)
    app = Typer()
    ledger_cli.mount(app)
    done = CliRunner().invoke(app, ["calls", "--ledger", str(folder / "ledger.db")])
    assert done.exit_code == 0, done.output
    disk = b"".join(path.read_bytes() for path in folder.glob("ledger*") if path.is_file())
    assert MAIL.encode() not in disk and SECRET.encode() not in disk  # ... and nobody else, at any level
    return [json.loads(line) for line in done.output.splitlines()]


@pytest.mark.parametrize("level", ["none", "metadata"])
async def test_below_full_nothing_that_was_said_is_kept(
    level: str, up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = await logged(level, up, tmp_path, monkeypatch)
    assert len(calls) >= 6 and all(call["model"] and call["input_tokens"] for call in calls)
    assert not any("request" in call or "response" in call for call in calls)
    people = [call for call in calls if call.get("user_id") or call.get("session") or call.get("labels")]
    assert len(people) == (0 if level == "none" else len(calls))
    disk = b"".join(path.read_bytes() for path in tmp_path.glob("ledger*") if path.is_file())
    assert b"Write to" not in disk and TEXT.split()[3].encode() + b" " + TEXT.split()[4].encode() not in disk


async def test_full_keeps_both_sides_as_the_provider_saw_them(
    up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, streamed, broken, rest, echoed, vectors = await logged("full", up, tmp_path, monkeypatch)
    for call in (whole, streamed, broken, rest, echoed):
        assert "Write to [EMAIL_1]. My key is [secret]." in call["request"]
        assert f"data:image/png;base64,[{len(PICTURE) - 22} characters]" in call["request"]
    assert json.loads(whole["response"])["choices"][0]["message"]["content"] == TEXT
    assert streamed["response"] == TEXT
    assert broken["status"] == "error" and TEXT.startswith(broken["response"].rstrip()) and rest["response"]
    assert "[EMAIL_1]" in echoed["response"]
    assert "a text" in vectors["request"] and "response" not in vectors
