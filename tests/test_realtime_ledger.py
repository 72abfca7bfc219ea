"""Real-time conversations under the ledger and the policy: priced, attributed, and ended when the money is gone."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interplay.core.types import BadInput, InterplayError
from interplay.foreground.base import ForegroundSpec
from interplay.gateway import realtime
from interplay.gateway.contract import Denied
from interplay.gateway.foreground import Metered, load_mind
from interplay.gateway.scrub import guard_logging, remember
from tests.test_realtime import KEY, Server, server, talk  # noqa: F401

pytest.importorskip("pydantic_ai.realtime")


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("INTERPLAY_GATEWAY", raising=False)
    monkeypatch.delenv("INTERPLAY_KEY", raising=False)


def entries(folder: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(folder / "ledger.db") as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM entries ORDER BY started")]


def configure(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    monkeypatch.setenv("INTERPLAY_GATEWAY", str(path))
    return path


async def test_every_connection_is_priced_and_put_down_to_somebody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    running = server("openai", "answer")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.port}/v1")
    mind = load_mind("openai-realtime/gpt-realtime", agent="kiosk", user="ada")
    channel = await mind.open(ForegroundSpec(options={"session": "s-1"}))
    done = await talk(channel, lambda t: "six" in t.said, after=4)
    await channel.close()
    (row,) = entries(tmp_path)
    who = {name: row[name] for name in ("agent", "user_id", "session", "provider", "model", "kind", "status")}
    assert who == {"agent": "kiosk", "user_id": "ada", "session": "s-1", "provider": "openai",
                   "model": "gpt-realtime", "kind": "realtime", "status": "ok"}  # fmt: skip
    units = json.loads(row["units"]) if "units" in row else row
    # The provider's tokens (80 of sound and 20 of text in, 40 and 10 out), and beside them our own clock.
    assert (units["input_tokens"], units["output_tokens"], units["input_audio_tokens"]) == (100, 50, 80)
    lived = len(done.turns) * 200
    assert 0.5 * lived < units["session_ms"] < 3 * lived and 1700 <= units["audio_out_ms"] <= 1900
    assert row["cost_pico"] > 0 and row["recovered"] == 0 and row["priced"]
    assert not [path for path in tmp_path.glob("*.slots/*")]


async def test_time_is_what_costs_and_a_budget_that_runs_out_ends_the_session(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    running = server("openai", "answer")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.port}/v1")
    configure(
        tmp_path,
        '[policy]\nask = "Write to the desk."\n[policy.agents.kiosk]\nbudgets = [{usd = 0.01, per = "day"}]\n'
        '[prices."openai/gpt-realtime"]\nsession_ms = 36.0\n',  # a cent a second
        monkeypatch,
    )
    monkeypatch.setattr(realtime, "RECHECK_S", 1.0)
    mind = load_mind("openai-realtime/gpt-realtime", agent="kiosk")
    channel = await mind.open(ForegroundSpec())
    with pytest.raises(Denied, match=r"'kiosk' has spent \$0.0\d of its \$0.01 this day .*Write to the desk") as denied:
        await talk(channel, lambda t: False)
    assert denied.value.rule == "budget"
    await channel.close()
    (row,) = entries(tmp_path)
    assert row["status"] == "error" and row["error"] == "Denied"
    ms = row["session_ms"] if "session_ms" in row else json.loads(row["units"])["session_ms"]
    assert row["cost_pico"] == ms * 10**7  # exactly what the clock says
    with pytest.raises(Denied, match="budget"):
        await mind.open(ForegroundSpec())  # and the next conversation does not begin
    assert len(entries(tmp_path)) == 1


def test_run_ends_with_one_line_when_the_budget_is_gone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    import soundfile

    running = server("openai", "answer")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.port}/v1")
    configure(
        tmp_path,
        '[routes.voice]\ntargets = ["openai/gpt-realtime"]\n[policy.limits]\nbudgets = [{usd = 0.01, per = "day"}]\n'
        '[prices."openai/gpt-realtime"]\nsession_ms = 36.0\n',
        monkeypatch,
    )
    source = tmp_path / "in.wav"
    soundfile.write(source, 0.1 * np.sin(np.arange(16_000 * 60) / 20), 16_000)
    record = tmp_path / "t.jsonl"
    command = [sys.executable, "-m", "interplay.cli", "run", str(source), "--foreground", "route/voice"]
    done = subprocess.run([*command, "--timeline", str(record)], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "has spent $0.0" in done.stderr and "rule: budget" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip()]) <= 2
    last = [json.loads(line) for line in record.read_text().splitlines()]
    assert any(line["kind"] == "error" and line["code"] == "denied" for line in last)
    (row,) = entries(tmp_path)
    assert (row["route"], row["agent"], row["recovered"]) == ("voice", "default", 0) and row["cost_pico"] > 10**10
    assert KEY not in done.stderr + done.stdout + record.read_text()
    assert KEY.encode() not in (tmp_path / "ledger.db").read_bytes()


async def test_routes_choose_among_live_targets(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    monkeypatch.setenv("XAI_API_KEY", KEY)
    pytest.importorskip("xai_sdk")
    path = configure(
        tmp_path,
        "[routes.voice]\n"
        'targets = [{model = "xai/grok-voice-latest", region = "us"}, {model = "openai/gpt-realtime", region = "eu"}]\n'
        'filter = {regions = ["eu"]}\n[routes.text]\ntargets = ["mistral/mistral-small-latest"]\n',
        monkeypatch,
    )
    mind = load_mind("route/voice")
    assert isinstance(mind, Metered) and [t.name for t in mind._mind.targets] == ["openai-realtime/gpt-realtime"]
    with pytest.raises(BadInput, match=r"no target that can hold a conversation: mistral.*takes no audio"):
        load_mind("route/text")
    with pytest.raises(BadInput, match=r"no route 'voise'.*voice"):
        load_mind("route/voise")
    path.write_text('[routes.voice]\ntargets = ["openai/gpt-realtime"]\nstratgy = "cost"\n')
    with pytest.raises(BadInput, match=r"gateway.toml:3: .*did you mean.*strategy"):
        load_mind("route/voice")
    monkeypatch.delenv("INTERPLAY_GATEWAY")
    with pytest.raises(BadInput, match="set INTERPLAY_GATEWAY"):
        load_mind("route/voice")


async def test_a_virtual_key_decides_and_failover_is_one_conversation(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    running = server("openai", "limit")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.port}/v1")
    configure(tmp_path, "[policy.users]\nconcurrency = 1\n", monkeypatch)
    mind = load_mind("openai-realtime/gpt-realtime,openai-realtime/gpt-realtime-mini", user="ada")
    channel = await mind.open(ForegroundSpec())
    try:
        with pytest.raises(Denied, match="may have 1"):
            await mind.open(ForegroundSpec())
        done = await talk(channel, lambda t: bool(t.actions("link_restored")))
    finally:
        await channel.close()
    assert done.actions("link_restored")[0]["target"] == "openai-realtime/gpt-realtime-mini"
    assert {row["model"] for row in entries(tmp_path)} == {"gpt-realtime", "gpt-realtime-mini"}
    again = await mind.open(ForegroundSpec())  # its place is free again
    await again.close()
    configure(tmp_path, "[policy]\nlocal = false\n", monkeypatch)
    with pytest.raises(Denied, match="a virtual key is needed"):
        await load_mind("openai-realtime").open(ForegroundSpec())
    monkeypatch.setenv("INTERPLAY_KEY", "ipk_nobodyknows_" + "x" * 40)
    with pytest.raises(InterplayError, match="not known here") as error:
        await load_mind("openai-realtime").open(ForegroundSpec())
    assert "nobodyknows" not in str(error.value)


def test_no_log_record_carries_a_key(caplog: pytest.LogCaptureFixture) -> None:
    guard_logging()
    guard_logging()
    remember("an-odd-secret-of-no-known-shape")
    log = logging.getLogger("somebody.else")
    with caplog.at_level(logging.INFO):
        log.info("connecting with %s", "an-odd-secret-of-no-known-shape")
        log.info("a harmless %s", "line")
        try:
            raise ValueError(f"refused {KEY}")
        except ValueError:
            log.exception("it broke")
    told = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert "odd-secret" not in told and KEY not in told
    assert "a harmless line" in told and "ValueError" in told and caplog.records[1].args == ("line",)
