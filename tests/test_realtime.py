"""Real-time foregrounds against scripted providers that speak the real protocols, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interplay.core.types import BadInput, Event, InterplayError, MicroTurnIn, MicroTurnOut, Missing
from interplay.foreground.base import Channel, ForegroundSpec
from interplay.foreground.realtime import KINDS, RealtimeForeground, load_realtime
from interplay.foreground.realtime.link import Target
from interplay.foreground.realtime.player import Player
from interplay.foreground.registry import load_foreground

pytest.importorskip("pydantic_ai.realtime")

KEY = "sk-test-abcdefghijklmnopqrstuvwxyz"
Server = Callable[..., "Running"]


class Running:
    def __init__(self, protocol: str, script: str, log: Path, certificate: str = "") -> None:
        command = [sys.executable, "-m", "tests.realtime_server", protocol, script, str(log), certificate]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.log_path = log

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()] if self.log_path.exists() else []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running: list[Running] = []

    def start(protocol: str, script: str, certificate: str = "") -> Running:
        running.append(Running(protocol, script, tmp_path / f"{len(running)}.jsonl", certificate))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()


def openai_target(running: Running, name: str = "") -> Target:
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.realtime.openai import OpenAIRealtimeModel

    from interplay.foreground.realtime.providers import connect

    provider = OpenAIProvider(base_url=f"http://127.0.0.1:{running.port}/v1", api_key=KEY)
    model = OpenAIRealtimeModel("gpt-realtime", provider=provider)
    name = name or f"openai-realtime/{running.port}"

    async def open_link(opening: Any) -> Any:
        return await connect(model, name, opening, {"input_transcription_model": "auto"})

    return Target(name, "openai", "gpt-realtime", open_link)


class Talk:
    """What came out of a conversation, micro-turn by micro-turn."""

    def __init__(self) -> None:
        self.turns: list[MicroTurnOut] = []

    @property
    def said(self) -> str:
        return " ".join(turn.said for turn in self.turns if turn.said)

    @property
    def heard(self) -> str:
        return " ".join(turn.heard for turn in self.turns if turn.heard)

    def actions(self, kind: str) -> list[dict[str, Any]]:
        return [dict(action.data) for turn in self.turns for action in turn.actions if action.kind == kind]

    @property
    def loud_s(self) -> float:
        return sum(0.2 for turn in self.turns if turn.audio is not None and np.abs(turn.audio).max() > 0.05)


async def talk(
    channel: Channel, until: Callable[[Talk], bool], *, limit_s: float = 60.0, after: int = 2
) -> Talk:
    """Step in wall time until something has happened, and a little longer."""
    done, began, left = Talk(), time.monotonic(), after
    while left and time.monotonic() - began < limit_s:
        turn = len(done.turns)
        audio = (0.1 * np.sin(2 * np.pi * 200 * np.arange(3200) / 16_000)).astype(np.float32)
        done.turns.append(await channel.step(MicroTurnIn(turn, audio)))
        left -= until(done)
    return done


async def converse(foreground: RealtimeForeground, until: Callable[[Talk], bool], **options: Any) -> Talk:
    channel = await foreground.open(ForegroundSpec())
    try:
        return await talk(channel, until, **options)
    finally:
        await channel.close()


async def test_a_conversation_on_the_clock(server: Server) -> None:
    running = server("openai", "answer")
    done = await converse(RealtimeForeground([openai_target(running)]), lambda t: "six" in t.said, after=4)
    assert done.said == "one two three four five six"
    assert done.heard == "count to six please"
    assert 1.6 <= done.loud_s <= 2.4  # 1.8 s of voice, sent faster than it is heard
    first = next(i for i, turn in enumerate(done.turns) if turn.said)
    last = next(i for i, turn in enumerate(done.turns) if "six" in turn.said)
    assert last - first >= 6  # words come with their sound, not with the network


@pytest.mark.parametrize("script", ["drop", "limit"])
async def test_the_session_goes_on_with_the_next_provider(server: Server, script: str) -> None:
    first, second = server("openai", script), server("openai", "answer")
    foreground = RealtimeForeground([openai_target(first), openai_target(second)], instructions="Be kind.")
    done = await converse(foreground, lambda t: t.said.count("six") >= 1, after=6)
    restored = done.actions("link_restored")
    assert len(restored) == 1 and restored[0]["target"] == f"openai-realtime/{second.port}"
    assert restored[0]["gap_s"] < 2
    assert done.said.startswith("one two three")
    told = [line for line in second.log if line["kind"] == "item"]
    history = " ".join(line["text"] for line in told)
    # It knows what was heard, with the words that were still being played while it was called.
    assert "count to six please" in history and "'one two three'" in history
    assert f"{'one two three'!r}" in next(line["text"] for line in told if "interrupted" in line["text"])
    assert next(line["instructions"] for line in second.log if line["kind"] == "session") == "Be kind."
    assert "interrupted" in history and "at most one short sentence" in history
    assert done.heard.split().count("count") <= 2


async def test_refused_connections_and_wrong_keys_fall_over(server: Server) -> None:
    targets = [openai_target(server("openai", script), script) for script in ("refuse", "key", "answer")]
    done = await converse(RealtimeForeground(targets), lambda t: "one" in t.said)
    assert "one" in done.said


async def test_a_slow_provider_gets_a_rival(server: Server) -> None:
    targets = [openai_target(server("openai", script), script) for script in ("hang", "answer")]
    foreground = RealtimeForeground(targets)
    began = time.monotonic()
    channel = await foreground.open(ForegroundSpec())
    assert time.monotonic() - began < 6
    await channel.close()


async def test_nobody_there_is_one_clear_line_without_the_key(server: Server) -> None:
    targets = [openai_target(server("openai", script), script) for script in ("refuse", "key")]
    with pytest.raises(InterplayError) as error:
        await RealtimeForeground(targets).open(ForegroundSpec())
    assert "no connection to refuse, key" in str(error.value)
    assert KEY not in str(error.value)


async def test_barge_in_stops_the_voice_and_tells_the_provider_what_was_heard(server: Server) -> None:
    running = server("openai", "barge")
    done = await converse(RealtimeForeground([openai_target(running)]), lambda t: bool(t.actions("stop")), after=5)
    stop = done.actions("stop")[0]
    assert stop["reason"] == "user speaks"
    assert not set(stop["unsaid"].split()) & set(done.said.split())
    where = next(i for i, turn in enumerate(done.turns) if any(a.kind == "stop" for a in turn.actions))
    assert all(np.abs(turn.audio).max() < 0.01 for turn in done.turns[where + 1 :] if turn.audio is not None)
    truncated = [line["audio_end_ms"] for line in running.log if line["kind"] == "conversation.item.truncate"]
    assert truncated and 0 <= truncated[0] <= 1900


async def test_typed_text_and_results_reach_the_provider(server: Server) -> None:
    running = server("openai", "answer")
    channel = await RealtimeForeground([openai_target(running)]).open(ForegroundSpec())
    await channel.step(MicroTurnIn(0, np.zeros(3200, np.float32), events=(Event("text", {"text": "hello typed"}),)))
    await talk(channel, lambda t: any("hello typed" in str(line.get("text")) for line in running.log), limit_s=20)
    await channel.close()
    assert any("hello typed" in str(line.get("text")) for line in running.log)


async def test_moshi_speaks_and_falls_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphn")
    running, second = server("moshi", "drop"), server("openai", "answer")
    monkeypatch.setenv("MOSHI_URL", f"ws://127.0.0.1:{running.port}/api/chat")
    foreground = RealtimeForeground([*load_realtime("moshi").targets, openai_target(second)])
    done = await converse(foreground, lambda t: "six" in t.said, after=3)
    assert done.said.startswith("one two") and "six" in done.said
    assert done.actions("link_restored")[0]["gap_s"] < 2


async def test_minicpmo_speaks_and_is_told_goodbye(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    running = server("minicpmo", "answer")
    monkeypatch.setenv("MINICPMO_URL", f"ws://127.0.0.1:{running.port}/ws/duplex")
    foreground = load_realtime("minicpmo")
    foreground.instructions = "Be kind."
    done = await converse(foreground, lambda t: "six" in t.said)
    assert done.said == "one two three four five six" and done.loud_s > 1.2
    assert running.log[1] == {"kind": "prepare", "prompt": "Be kind."}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_is_missing_is_said_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = KINDS[name].needs
    for variable in needs:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(Missing, match=f"^{name} is .* and needs {' and '.join(needs)}: set the environment variable"):
        load_foreground(name)
    with pytest.raises(BadInput, match=f"unknown foreground .*{name}"):
        load_foreground(name[:-1])


def test_run_against_a_provider_and_without_a_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    source = tmp_path / "in.wav"
    soundfile.write(source, 0.1 * np.sin(np.arange(16_000 * 5) / 20), 16_000)
    command = [
        sys.executable,
        "-m",
        "interplay.cli",
        "run",
        str(source),
        "--foreground",
        "openai-realtime/gpt-realtime",
    ]
    command += ["--out", str(tmp_path / "out.wav"), "--timeline", str(tmp_path / "t.jsonl")]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    bare = subprocess.run(command, capture_output=True, text=True)
    assert bare.returncode == 2 and "OPENAI_API_KEY" in bare.stderr and "Traceback" not in bare.stderr
    running = server("openai", "answer")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.port}/v1")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = (tmp_path / "t.jsonl").read_text()
    said = [line["text"] for line in map(json.loads, record.splitlines()) if line["kind"] == "said"]
    assert " ".join(said).startswith("one two three four five")
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 24_000 and 1.4 < (np.abs(samples) > 0.05).mean() * len(samples) / rate * 1.5 < 4
    assert KEY not in record + done.stdout + done.stderr


def test_the_player_is_bounded_and_keeps_words_with_their_sound() -> None:
    player = Player()
    player.begin_answer()
    for word in ("a ", "b ", "c "):
        player.text(word)
        player.push(np.ones(4800, np.float32))
    taken = [player.take()[1] for _ in range(2)]
    assert taken == ["a", "b"] and player.played_ms == 400
    assert player.flush() == ["c"] and not player.busy
    player.push(np.ones(24_000 * 400, np.float32))
    assert player.dropped == 24_000 * 220


def test_a_word_is_said_when_its_own_sound_is_heard() -> None:
    player = Player()
    player.begin_answer()
    for word in (" one", " two", " three"):  # spaces before words, as some providers have them
        player.text(word)
        player.push(np.ones(4800, np.float32))
    assert [player.take()[1] for _ in range(2)] == ["one", "two"]
    assert player.coming == ["three"]
    player.text(" four")  # the transcript runs ahead of the sound ...
    assert player.take()[1] == "three" and player.take()[1] == "" and player.coming == []
    assert player.cut_answer() == ["four"] and not player.busy  # ... and the connection breaks: nobody heard it
    player.begin_answer()
    player.text("five")
    player.push(np.ones(2400, np.float32))
    player.end_answer()
    assert player.take()[1] == "five" and player.played_ms == 100
    player.begin_answer()
    player.push(np.ones(2400, np.float32))
    assert player.played_ms == 0
    player.take()
    player.push(np.ones(2400, np.float32))
    assert player.played_ms == 100  # an answer that comes as slowly as it is heard is still one answer
