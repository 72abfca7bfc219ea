"""`interplay bench`: runs tasks, prints a table, writes the JSON that other tools read, draws a report."""

from __future__ import annotations

import json
import math
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

from interplay import __version__
from interplay.bench.task import PHRASINGS, Result, Setup, Task
from interplay.core.types import BadInput, InterplayError, Missing

# Task -> where its `run(setup) -> Result` is. Nothing is imported before it is asked for.
TASKS: dict[str, str] = {
    "timespeak": "interplay.bench.speaking:timespeak",
    "cuespeak": "interplay.bench.speaking:cuespeak",
    "elapsed": "interplay.bench.elapsed:elapsed",
    "turn_taking": "interplay.bench.turns:turn_taking",
    "pauses": "interplay.bench.turns:pauses",
    "interruption": "interplay.bench.floor:interruption",
    "backchannel": "interplay.bench.floor:backchannel",
    "noise": "interplay.bench.floor:noise_task",
    "side_talk": "interplay.bench.floor:side_talk",
    "translation": "interplay.bench.translation:translation",
    "echo": "interplay.bench.robust:echo",
    "missing": "interplay.bench.robust:missing",
    "delegation": "interplay.bench.delegation:delegation",
    "hearing": "interplay.bench.hearing:run",
    "long_session": "interplay.bench.long_session:run",
    "step": "interplay.bench.step:run",
    "engine": "interplay.bench.engine:run",
    "gateway": "interplay.bench.gateway:run",
    "background": "interplay.bench.background:run",
    "repcount": "interplay.bench.video:repcount",
    "startstop": "interplay.bench.video:startstop",
    "sightings": "interplay.bench.video:sightings",
    "step_video": "interplay.bench.video:step_video",
}


def bench_command(
    tasks: list[str],
    *,
    foreground: str = "native",
    checkpoint: Path | None = None,
    n: int = 100,
    seed: int = 0,
    voices: str = "held-out",
    data: list[Path] | None = None,
    held_out: list[str] | None = None,
    phrasings: str = "known",
    jobs: int = 1,
    options: list[str] | None = None,
    json_path: Path | None = None,
    report: Path | None = None,
) -> None:
    """Run `tasks` and show what came out. The options are those of `task.Setup`; options: NAME=VALUE each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    base = _setup(foreground, checkpoint, n, seed, voices, data, held_out, phrasings, jobs, options)
    runs = {name: _load(name) for name in tasks}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:12s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: dict[str, Result] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for name, run in runs.items():
            row = bar.add_task(name, total=None)

            def advance(done: int = 1, total: int | None = None, row=row) -> None:
                bar.update(row, advance=done, total=total)

            base.advance = advance
            results[name] = run(base)
            bar.update(row, total=1, completed=1)
    document = _document(base, results)
    _print(document)
    if json_path is not None:
        _write(json_path, json.dumps(document, indent=2) + "\n")
    if report is not None:
        from interplay.bench.report import draw

        try:
            report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--report {report}: cannot make that folder ({error.strerror})") from error
        _write(report / "bench.json", json.dumps(document, indent=2) + "\n")
        rows = (json.dumps({"task": name, **row}) for name, r in results.items() for row in r.rows)
        _write(report / "items.jsonl", "".join(row + "\n" for row in rows))
        draw(results, document, report)


def _setup(
    foreground: str,
    checkpoint: Path | None,
    n: int,
    seed: int,
    voices: str,
    data: list[Path] | None,
    held_out: list[str] | None,
    phrasings: str,
    jobs: int,
    options: list[str] | None,
) -> Setup:
    if n < 1:
        raise BadInput(f"--n {n}: at least one item")
    if jobs < 1:
        raise BadInput(f"--jobs {jobs}: at least one process")
    if voices not in ("held-out", "training", "none") and not Path(voices.split(":")[0]).is_dir():
        raise BadInput(
            f"--voices {voices!r}: held-out, training, none, or FOLDER[:speaker,speaker] with an index.jsonl"
        )
    if phrasings not in PHRASINGS:
        raise BadInput(f"--phrasings {phrasings!r}: {' or '.join(PHRASINGS)}")
    for folder in data or ():
        if not folder.is_dir():
            raise BadInput(f"--data {folder}: no such folder; a data folder holds recordings and an index.jsonl")
    pairs = [option.partition("=") for option in options or ()]
    if any(not (name and equals) for name, equals, _ in pairs):
        raise BadInput("--option wants NAME=VALUE")
    chosen = tuple(held_out) if held_out else None
    given = {name: value for name, _, value in pairs}
    return Setup(foreground, checkpoint, n, seed, voices, tuple(data or ()), chosen, phrasings, jobs, given)


def _load(name: str) -> Task:
    """The function of a task. Raises BadInput for a name that is not in the table, Missing for a part that is not
    installed."""
    if name not in TASKS:
        raise BadInput(f"no bench task {name}; there are {', '.join(TASKS)}")
    module, _, function = TASKS[name].partition(":")
    try:
        return getattr(import_module(module), function)
    except ImportError as error:
        part = (error.name or "").split(".")[0]
        if part in ("", "interplay"):
            raise
        raise Missing(f'the task {name} needs {part}; get it with: pip install "interplay[train,voice]"') from error


def machine() -> str:
    """Processor, system, Python and torch: what a number was measured on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        name = next(lines, name)
    try:
        import torch

        engine = f"torch {torch.__version__}"
    except ImportError:
        engine = "no torch"
    return f"{name}, {platform.system()}, Python {platform.python_version()}, {engine}, 1 thread"


def _document(setup: Setup, results: dict[str, Result]) -> dict[str, Any]:
    return {
        "version": __version__,
        "machine": machine(),
        "foreground": setup.mind.name if "mind" in vars(setup) else setup.foreground,
        "checkpoint": str(setup.checkpoint) if setup.checkpoint is not None else None,
        "voices": setup.voices,
        "phrasings": setup.phrasings,
        "data": [str(folder) for folder in setup.data],
        "seed": setup.seed,
        "tasks": {
            name: {
                "n": r.n,
                "metrics": _rounded(r.metrics),
                "interval": {key: [_round(low), _round(high)] for key, (low, high) in r.interval.items()},
                "categories": {key: _rounded(figures) for key, figures in r.categories.items()},
                "notes": r.notes,
            }
            for name, r in results.items()
        },
    }


def _rounded(metrics: dict[str, float]) -> dict[str, float | None]:
    return {key: _round(value) for key, value in metrics.items()}


def _round(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{document['foreground']}, voices {document['voices']}, seed {document['seed']}")
    for column in ("task", "n", "metric", "value", "95 % interval"):
        table.add_column(column, justify="right" if column in ("n", "value") else "left")
    for task, result in document["tasks"].items():
        for i, (name, value) in enumerate(result["metrics"].items()):
            bounds = result["interval"].get(name)
            text = "" if not bounds or None in bounds else f"{bounds[0]:.4g} .. {bounds[1]:.4g}"
            shown = "-" if value is None else f"{value:.4g}"
            table.add_row(task if i == 0 else "", str(result["n"]) if i == 0 else "", name, shown, text)
    console.print(table)
    console.print(document["machine"], style="dim")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise InterplayError(f"cannot write {path}: {error.strerror}") from error
