"""`interplay run` from file to files, through the command a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from interplay.cli import main
from interplay.core.timeline import read_timeline
from interplay.core.types import Action, InterplayError, MicroTurnIn, MicroTurnOut
from interplay.foreground import registry
from interplay.foreground.base import Capabilities, ForegroundSpec

pytest.importorskip("hibari")


class Echo:
    """Says "hello" whenever a loud slice follows a quiet one, stops at turn 30, breaks at turn 200."""

    name = "echo"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.loud = False

    async def open(self, spec: ForegroundSpec) -> Echo:
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        loud = float(np.abs(turn.audio).max()) > 0.1
        rises, self.loud = loud and not self.loud, loud
        if turn.turn == 200:
            raise InterplayError("the mind is lost")
        actions = (Action("stop", {"reason": "asked"}),) if turn.turn == 30 else ()
        return MicroTurnOut(turn.turn, None, "beep" if rises else "", "hello" if rises else "", actions)

    async def close(self) -> None:
        return None


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.FOREGROUNDS, "echo", lambda checkpoint: Echo())


def run(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return int(caught.value.code or 0)


def beeps(path: Path, seconds: float, at: list[float], *, rate: int = 16_000, channels: int = 1) -> Path:
    samples = np.zeros(int(seconds * rate), np.float32)
    for t in at:
        start, n = int(t * rate), rate // 5
        samples[start : start + n] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    sf.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    return path


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 2), (44_100, 2)])
def test_file_in_time_synchronous_file_and_timeline_out(
    tmp_path: Path, capsys: pytest.CaptureFixture, rate: int, channels: int
) -> None:
    source = beeps(tmp_path / "in.wav", 5.3, [1.0, 3.0], rate=rate, channels=channels)
    out, line = tmp_path / "out.wav", tmp_path / "out.jsonl"
    assert run("run", source, "--foreground", "echo", "--out", out, "--timeline", line) == 0
    audio, out_rate = sf.read(out, dtype="float32")
    info = sf.info(out)
    assert (out_rate, info.channels, info.subtype) == (24_000, 1, "PCM_16") and info.duration >= 5.3
    records = read_timeline(line)
    said = [r for r in records if (r["lane"], r["kind"]) == ("agent", "said")]
    assert [(r["text"], r["turn"]) for r in said] == [("hello", 5), ("hello", 15)]
    for record in said:
        start = int((record["t"] - 0.1) * 24_000)
        onset = (start + int(np.argmax(np.abs(audio[start:]) > 0.01))) / 24_000
        assert onset == pytest.approx(record["t"], abs=0.06)
    assert [r["t"] for r in records if r["kind"] == "heard"] == [1.2, 3.2]
    text = capsys.readouterr().out
    assert "x real time" in text and "hello @1.21s" in text and "beep beep" in text and str(out) in text


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    source = beeps(tmp_path / "in.wav", 3.0, [0.5, 1.5])
    for name in "ab":
        out, line = tmp_path / f"{name}.wav", tmp_path / f"{name}.jsonl"
        assert run("run", source, "--foreground", "echo", "--out", out, "--timeline", line, "--seed", "3") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def bad_inputs(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "garbage.wav": np.random.default_rng(0).bytes(9_999),
        "empty.wav": b"",
        "film.wav": b"\x00\x00\x00\x20ftypisom" + bytes(999),
        "film.webm": b"\x1a\x45\xdf\xa3" + bytes(999),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in [*contents, "nothing.wav", "."]}


@pytest.mark.parametrize("name", ["garbage.wav", "empty.wav", "film.wav", "film.webm", "nothing.wav", "."])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    source = bad_inputs(tmp_path)[name]
    out, line = tmp_path / "out.wav", tmp_path / "out.jsonl"
    assert run("run", source, "--foreground", "echo", "--out", out, "--timeline", line) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and told.err.startswith("interplay: ") and told.out == ""
    assert not out.exists() and not line.exists()


def test_nan_file_runs(tmp_path: Path) -> None:
    source = tmp_path / "nan.wav"
    sf.write(source, np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    assert run("run", source, "--foreground", "echo", "--out", tmp_path / "out.wav") == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--agent", "nobody"], "default"),
        (["--video", "v.mp4"], "no such file"),
        (["--foreground", "nobody"], "known: "),
        (["--out", "no/where/out.wav"], "does not exist"),
        (["--timeline", "no/where/out.jsonl"], "does not exist"),
        (["--out", "IN"], "is the input"),
        (["--timeline", "IN"], "named twice"),
        (["--seed", "many"], "--seed"),
    ],
)
def test_wrong_options_are_said_clearly(
    tmp_path: Path, capsys: pytest.CaptureFixture, args: list[str], says: str
) -> None:
    source = beeps(tmp_path / "in.wav", 1.0, [])
    before = source.read_bytes()
    args = [str(source) if arg == "IN" else arg for arg in args]
    base = [] if "--foreground" in args else ["--foreground", "echo"]
    assert run("run", source, *base, *args) == 2
    assert says in capsys.readouterr().err and source.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav"]


def test_a_mind_that_breaks_leaves_what_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = beeps(tmp_path / "in.wav", 60.0, [1.0])
    out, line = tmp_path / "out.wav", tmp_path / "out.jsonl"
    assert run("run", source, "--foreground", "echo", "--out", out, "--timeline", line) == 2
    assert capsys.readouterr().err == "interplay: the mind is lost\n"
    assert sf.info(out).duration == pytest.approx(40.2) and read_timeline(line)[-1]["reason"] == "error"


def test_replay_tells_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    source = beeps(tmp_path / "in.wav", 8.0, [1.0, 3.0, 5.9])
    line = tmp_path / "out.jsonl"
    assert run("run", source, "--foreground", "echo", "--timeline", line) == 0
    capsys.readouterr()
    assert run("replay", line, "--out", tmp_path / "p.png") == 0
    text = capsys.readouterr().out
    assert "heard    3 words" in text and "said     3 words in 3 utterances" in text and "asked" in text
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "bad.jsonl").write_text('{"t": 0}\n')
    assert run("replay", tmp_path / "bad.jsonl") == 2
    assert "line 1" in capsys.readouterr().err
    (tmp_path / "none.jsonl").write_text("")
    assert run("replay", tmp_path / "none.jsonl") == 2
    assert run("replay", line, "--out", tmp_path / "p.nonsense") == 2


def test_replay_of_anything_a_timeline_may_hold(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    line = tmp_path / "t.jsonl"
    odd = [
        {"t": 0.1, "turn": 0, "lane": "user", "kind": "heard", "text": "$x_1$ \\frac % 你好"},
        {"t": 900.0, "turn": 4500, "lane": "background", "kind": "result", "id": 1},
        {"t": 5000.0, "turn": 25000, "lane": "agent", "kind": "said"},
        {"t": -1.0, "turn": 0, "lane": "tool", "kind": "call"},
    ]
    line.write_text("".join(json.dumps(record) + "\n" for record in odd))
    assert run("replay", line) == 0 and (tmp_path / "t.png").exists()


def test_an_interrupted_run_closes_its_files(tmp_path: Path) -> None:
    source = beeps(tmp_path / "in.wav", 60.0, [])
    code = (
        "import asyncio, signal, sys\n"
        "from interplay.foreground.silent import _SilentChannel as c\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "step = c.step\n"
        "async def slow(self, turn):\n"
        "    if turn.turn == 10: signal.raise_signal(signal.SIGINT)\n"
        "    await asyncio.sleep(0.01)\n"
        "    return await step(self, turn)\n"
        "c.step = slow\n"
        "from interplay.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    args = ["run", source, "--foreground", "silent", "--out", tmp_path / "o.wav", "--timeline", tmp_path / "o.jsonl"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert read_timeline(tmp_path / "o.jsonl")[-1]["reason"] == "cancelled"
    assert sf.info(tmp_path / "o.wav").duration == pytest.approx(2.2, abs=0.21)
