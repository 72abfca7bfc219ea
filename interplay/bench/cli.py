"""`interplay bench`: runs tasks, prints a table, writes the JSON that other tools read, draws a report."""

from __future__ import annotations

import asyncio
import json
import math
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from interplay import __version__
from interplay.bench.items import TASKS, items
from interplay.bench.runner import play
from interplay.bench.score import Verdict, judge, macro
from interplay.core.types import BadInput, InterplayError
from interplay.foreground.base import Foreground


@dataclass(slots=True)
class Result:
    """One task. metrics: name -> value; interval: name -> 95 % interval. verdicts: per item, for the report."""

    n: int
    metrics: dict[str, float]
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def bench_command(
    tasks: list[str],
    *,
    foreground: str = "native",
    checkpoint: Path | None = None,
    n: int = 100,
    seed: int = 0,
    voices: str = "held-out",
    json_path: Path | None = None,
    report: Path | None = None,
) -> None:
    """Run `tasks`. voices: `held-out` (never used in training), `training`, or a data folder (hearing only)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    unknown = [t for t in tasks if t not in RUNNERS]
    if unknown:
        raise BadInput(f"no bench task {', '.join(unknown)}; there are {', '.join(RUNNERS)}")
    if n < 1:
        raise BadInput(f"--n {n}: at least one item")
    if voices not in ("held-out", "training") and not Path(voices.split(":")[0]).is_dir():
        raise BadInput(f"--voices {voices!r}: held-out, training, or FOLDER[:voice,voice] (with an index.jsonl)")
    from interplay.foreground.registry import load_foreground

    mind = load_foreground(foreground, checkpoint=checkpoint)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:10s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: dict[str, Result] = {}
    with Progress(*columns, console=console) as bar:
        for name in tasks:
            row = bar.add_task(name, total=n)
            results[name] = RUNNERS[name](mind, n, seed, voices, lambda row=row: bar.advance(row))
            bar.update(row, completed=n)
    document = {
        "version": __version__,
        "machine": machine(),
        "foreground": mind.name,
        "voices": voices,
        "seed": seed,
        "tasks": {
            name: {"n": r.n, "metrics": _rounded(r.metrics), "interval": {k: list(v) for k, v in r.interval.items()}}
            for name, r in results.items()
        },
    }
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
        draw({name: r.verdicts for name, r in results.items() if r.verdicts}, document, report / "bench.png")


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


def _spoken(name: str) -> Callable[..., Result]:
    def run(mind: Foreground, n: int, seed: int, voices: str, advance: Callable[[], None]) -> Result:
        from interplay.voice.engine import HibariEngine
        from interplay.voice.hibari import HibariVoice

        if voices not in ("held-out", "training"):
            raise BadInput(f"{name} items are composed from synthetic voices: --voices held-out or training")
        voice = None if mind.capabilities.speaks else HibariVoice(HibariEngine(seed=seed), sync=True)
        verdicts = []
        for item in items(name, n, seed, held_out=voices == "held-out"):
            verdicts.append(judge(item, asyncio.run(play(mind, voice, item.audio))))
            advance()
        value, interval = macro(verdicts)
        metrics = {"macro_accuracy": value}
        for category in dict.fromkeys(v.category for v in verdicts):
            group = [v for v in verdicts if v.category == category]
            metrics[f"accuracy_{category}"] = 100 * sum(v.right for v in group) / len(group)
        metrics["hit_rate"] = 100 * sum(v.hit for v in verdicts) / len(verdicts)
        metrics["extra_rate"] = 100 * sum(bool(v.extra) for v in verdicts) / len(verdicts)
        metrics["all_responses_rate"] = 100 * sum(v.complete and not v.extra for v in verdicts) / len(verdicts)
        onsets = [v.onset_s for v in verdicts if v.hit]
        middle = 0.5 if name == "cuespeak" else 0.0  # CueSpeak's window runs from -0.2 to 1.2 s after the cue
        metrics["onset_median_s"] = statistics.median(onsets) + middle if onsets else math.nan
        return Result(n, metrics, {"macro_accuracy": interval}, verdicts)

    return run


def _hearing(mind: Foreground, n: int, seed: int, voices: str, advance: Callable[[], None]) -> Result:
    from interplay.bench import hearing

    if voices not in ("held-out", "training"):
        folder, _, only = voices.partition(":")
        chosen = frozenset(filter(None, only.split(",")))
        return Result(n, {"wer_recorded": hearing.recorded_error_rate(mind, Path(folder), n, seed, chosen)})
    held_out = voices == "held-out"
    rates = {
        f"wer_{name}": hearing.word_error_rate(mind, n, seed, snr, held_out=held_out)
        for name, snr in (("clean", None), ("15db", 15.0), ("10db", 10.0))
    }
    return Result(n, rates)


def _step(mind: Foreground, n: int, seed: int, voices: str, advance: Callable[[], None]) -> Result:
    from interplay.bench import hearing

    times = 1e3 * asyncio.run(hearing.step_times(mind, turns=max(n, 300) + 20))
    p50, p99 = np.percentile(times, [50, 99])
    return Result(len(times), {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(times.max())})


RUNNERS: dict[str, Callable[..., Result]] = {
    **{name: _spoken(name) for name in TASKS},
    "hearing": _hearing,
    "step": _step,
}


def _rounded(metrics: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(value, 3) for key, value in metrics.items()}


def _print(document: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{document['foreground']}, voices {document['voices']}, seed {document['seed']}")
    for column in ("task", "n", "metric", "value", "95 % interval"):
        table.add_column(column, justify="right" if column in ("n", "value") else "left")
    for task, result in document["tasks"].items():
        for i, (name, value) in enumerate(result["metrics"].items()):
            low_high = result["interval"].get(name)
            interval = f"{low_high[0]:.1f} .. {low_high[1]:.1f}" if low_high else ""
            text = "-" if value is None else f"{value:.2f}"
            table.add_row(task if i == 0 else "", str(result["n"]) if i == 0 else "", name, text, interval)
    console.print(table)
    console.print(document["machine"], style="dim")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise InterplayError(f"cannot write {path}: {error.strerror}") from error
