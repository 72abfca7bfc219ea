"""`interplay agents ...` as a user types it, and a file run that remembers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("sqlalchemy")

from interplay.cli import main
from interplay.core.types import MicroTurnIn, MicroTurnOut
from interplay.foreground import registry
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.voice import engine, hibari
from interplay.voice.base import SilentVoice

SPEC = "name: ada\ninstructions: {foreground: be kind}\nproactivity: 0.25\nvoice: {speed: 1.2}\n"


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_STORE", str(tmp_path / "store" / "agents.db"))
    monkeypatch.delenv("INTERPLAY_USER", raising=False)
    (tmp_path / "ada.yaml").write_text(SPEC)


def run(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return int(caught.value.code or 0)


def out(capsys: pytest.CaptureFixture, *args: str | Path, code: int = 0) -> str:
    capsys.readouterr()
    got = run(*args)
    told = capsys.readouterr()
    assert got == code, told.err
    if code:
        assert told.err.count("\n") == 1 and told.err.startswith("interplay: ")
    return told.out + told.err


def test_an_agent_from_file_to_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "no agents yet" in out(capsys, "agents", "list")
    assert "created ada" in out(capsys, "agents", "create", tmp_path / "ada.yaml")
    assert "already" in out(capsys, "agents", "create", tmp_path / "ada.yaml", code=2)
    assert "proactivity: 0.25" in out(capsys, "agents", "show", "ada")
    (tmp_path / "ada.yaml").write_text(SPEC.replace("0.25", "0.75"))
    assert "version 2" in out(capsys, "agents", "edit", "ada", tmp_path / "ada.yaml", "--expect", "1")
    assert "version 2, not 1" in out(capsys, "agents", "edit", "ada", tmp_path / "ada.yaml", "--expect", "1", code=2)
    assert "proactivity: 0.25" in out(capsys, "agents", "show", "ada", "--version", "1")
    out(capsys, "agents", "memory", "add", "ada", "likes tea")
    exported = tmp_path / "exported.yaml"
    out(capsys, "agents", "export", "ada", "--memory", "--out", exported)
    assert exported.stat().st_mode & 0o077 == 0
    assert "1 user" in out(capsys, "agents", "delete", "ada", "--yes")
    assert "imported ada" in out(capsys, "agents", "import", exported, "--memory", "--user", "anna")
    assert "likes tea" in out(capsys, "agents", "memory", "list", "ada", "--user", "anna")
    assert "likes tea" not in out(capsys, "agents", "memory", "list", "ada")
    (tmp_path / "ada.yaml").write_text(SPEC.replace("0.25", "lots"))
    assert "line 3" in out(capsys, "agents", "create", tmp_path / "ada.yaml", code=2)
    assert "no agent 'eve'" in out(capsys, "agents", "show", "eve", code=2)


def test_memory_is_listed_corrected_and_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run("agents", "create", tmp_path / "ada.yaml")
    line = out(capsys, "agents", "memory", "add", "ada", "call mum", "--block", "reminder", "--due", "tomorrow at nine")
    id = line.split()[0]
    assert "09:00" in line
    line = out(capsys, "agents", "memory", "correct", "ada", id, "call dad", "--due", "2031-01-31T10:30")
    assert "call dad" in line and "2031-01-31 10:30" in line
    assert "no time I understand" in out(capsys, "agents", "memory", "correct", "ada", id, "--due", "soonish", code=2)
    assert "forgot 1 item" in out(capsys, "agents", "forget", "ada", id)
    assert "nothing like that" in out(capsys, "agents", "forget", "ada", id, code=2)
    assert "say what to forget" in out(capsys, "agents", "forget", "ada", code=2)
    assert "remembers nothing" in out(capsys, "agents", "memory", "list", "ada")


class Parrot:
    """Hears what it is scripted to hear, and keeps what it was opened with."""

    name = "parrot"
    capabilities = Capabilities()

    def __init__(self, heard: str) -> None:
        self.heard = heard.split()
        self.spec = ForegroundSpec()

    async def open(self, spec: ForegroundSpec) -> Parrot:
        self.spec = spec
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        heard = self.heard[turn.turn] if turn.turn < len(self.heard) else ""
        return MicroTurnOut(turn.turn, None, heard, "hello" if turn.turn == 20 else "")

    async def close(self) -> None:
        return None


def test_a_file_run_remembers_for_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    speakers: list[tuple[tuple, dict]] = []
    monkeypatch.setattr(engine, "HibariEngine", lambda *args, **options: speakers.append((args, options)))
    monkeypatch.setattr(hibari, "HibariVoice", lambda *args, **options: SilentVoice())
    run("agents", "create", tmp_path / "ada.yaml")
    source = tmp_path / "in.wav"
    sf.write(source, np.zeros(16_000 * 6, np.float32), 16_000)
    mind = Parrot("my name is anna and remind me tomorrow at nine to buy milk")
    monkeypatch.setitem(registry.FOREGROUNDS, "parrot", lambda checkpoint: mind)
    out(capsys, "run", source, "--agent", "ada", "--foreground", "parrot")
    assert mind.spec.options["prefix"] == ("be", "kind") and mind.spec.options["proactivity"] == 0.25
    assert speakers[0][1]["speed"] == 1.2
    out(capsys, "run", source, "--agent", "ada", "--foreground", "parrot")
    assert mind.spec.options["prefix"][:6] == ("be", "kind", "user", "name", "is", "anna")
    assert "tomorrow at nine am buy milk" in " ".join(mind.spec.options["prefix"])
    assert "name is anna" in mind.spec.options["instructions"]
    out(capsys, "run", source, "--agent", "ada", "--foreground", "parrot", "--user", "bob")
    assert mind.spec.options["prefix"] == ("be", "kind")  # nobody reads another one's memory
    assert "agent:" in out(capsys, "agents", "memory", "search", "ada", "hello")
    assert "no agent 'eve'" in out(capsys, "run", source, "--agent", "eve", "--foreground", "parrot", code=2)
