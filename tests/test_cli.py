"""The command itself: help without the heavy parts, one line for every error, the contract's options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from interplay import __version__, cli, doctor
from interplay.core.types import InterplayError


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(args))
    return int(caught.value.code or 0)


@pytest.mark.parametrize("command", ["live", "run", "bench", "train", "replay", "doctor"])
def test_every_command_of_the_contract_has_help(command: str, capsys: pytest.CaptureFixture) -> None:
    assert run(command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_version_and_unknown_command(capsys: pytest.CaptureFixture) -> None:
    assert run("--version") == 0 and __version__ in capsys.readouterr().out
    assert run("nonsense") == 2 and "nonsense" in capsys.readouterr().err


def test_help_and_bad_input_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, interplay.cli as c\n"
        "try: c.main(['run', 'nothing.wav'])\n"
        "except SystemExit as e: assert e.code == 2\n"
        "heavy = {'torch', 'onnxruntime', 'fastapi', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "interplay: no such file: nothing.wav\n"


def test_our_errors_are_one_line_and_bugs_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("INTERPLAY_DEBUG", raising=False)
    for error, code, says in (
        (InterplayError("two\nlines"), 2, "interplay: two lines\n"),
        (
            ZeroDivisionError("oh"),
            1,
            f"interplay: ZeroDivisionError: oh {cli.BUG}\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ):

        def raises(args: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(cli, "app", raises)
        assert run("x") == code and capsys.readouterr().err == says
    monkeypatch.setenv("INTERPLAY_DEBUG", "1")
    monkeypatch.setattr(cli, "app", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main([])


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["live"], "interplay.server.live", "live"),
        (["bench", "timespeak"], "interplay.bench.cli", "train"),
        (["train", "x.toml"], "interplay.training.cli", "train"),
    ],
)
def test_a_missing_extra_is_named(
    command: list[str], module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise ModuleNotFoundError("No module named 'somelib'", name="somelib.part")

    monkeypatch.setitem(sys.modules, module, Broken(module))
    assert run(*command) == 2
    told = capsys.readouterr().err
    assert "somelib" in told and f"interplay[{extra}" in told and told.count("\n") == 1


def test_options_reach_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict = {}
    bench = ModuleType("interplay.bench.cli")
    bench.bench_command = lambda tasks, **options: got.update(tasks=tasks, **options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "interplay.bench.cli", bench)
    args = "bench timespeak cuespeak --voices held-out --n 7 --seed 3 --json o.json --report r --foreground silent"
    assert run(*args.split()) == 0
    assert got == {
        "tasks": ["timespeak", "cuespeak"], "foreground": "silent", "checkpoint": None, "n": 7, "seed": 3,
        "voices": "held-out", "data": None, "held_out": None, "phrasings": "known", "jobs": 1, "options": None,
        "json_path": Path("o.json"), "report": Path("r"),
    }  # fmt: skip


def test_agents_other_than_default_are_refused(capsys: pytest.CaptureFixture) -> None:
    assert run("live", "--agent", "nobody") == 2
    assert "default" in capsys.readouterr().err


def test_doctor_reports_every_illness_and_dies_of_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def ill() -> str:
        raise RuntimeError("weights are\ngone")

    monkeypatch.setattr(doctor, "_native", ill)
    monkeypatch.setattr(doctor, "_voice", lambda: "fine")
    assert run("doctor") == 1
    told = capsys.readouterr().out
    assert "MISSING  native model weights are gone" in told and "not ready" in told
    monkeypatch.setattr(doctor, "_native", lambda: "fine")
    monkeypatch.setattr(doctor, "_torch", lambda: "fine")
    monkeypatch.setattr(doctor, "_package", lambda *a, needed=False: doctor.Check(a[0], needed, "hint", needed))
    assert run("doctor") == 0
    assert "ready: interplay live" in capsys.readouterr().out
