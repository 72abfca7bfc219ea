"""What the engine holds, row by row: a table, a plot, numbers for the JSON.

    interplay bench engine [--option rows=flat,soak] [--option sessions=32] [--option minutes=10] [--option plot=F.png]

| row | what | processes |
|---|---|---|
| bits | equality over all ways to run a session | 1, and one more for the restore |
| batch | one step of 16 against 16 of one | 1 |
| flat | minute 30 against minute 1 | 1 |
| reprefill | against the conversation so far through the same model, by age | 1 |
| faults | vanished, doubled, 10,000 open and close, full disk, kill -9 of either side | 4 |
| soak | sessions held in real time, beside a loop that only sleeps | 3 |
| ray | two replicas, one killed | Ray's dozen |
| search | the most sessions held, each number tried for search_minutes; only when asked for | 3 |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from interplay.bench import engine_compute as compute
from interplay.bench.engine_bits import bits
from interplay.bench.engine_faults import faults
from interplay.bench.engine_soak import MISS_SHARE, search, soak
from interplay.bench.task import Result, Setup
from interplay.core.types import BadInput, InterplayError, Missing
from interplay.engine.selftest import selftest
from interplay.model import checkpoint as checkpoints
from interplay.model.transformer import InteractionModel

ROWS = ("bits", "batch", "flat", "reprefill", "faults", "soak", "ray", "search")
USUAL = ROWS[:-1]
Held = Callable[[float], bool]
# What the table says of a row: the figure, how it is shown, what is aimed at, and whether it is reached.
TARGETS: tuple[tuple[str, str, str, str, str, Held], ...] = (
    ("bits", "outputs that differ, of all ways to run", "bits_different", "{:.0f}", "0", lambda x: not x),
    ("batch", "16 single steps / one step of 16, CPU", "batch_gain", "{:.2f} x", ">= 3 x", lambda x: x >= 3),
    ("flat", "last minute / minute 1, CPU", "flatness", "{:.3f}", "0.95 .. 1.05", lambda x: abs(x - 1) <= 0.05),
    ("reprefill", "re-prefill / step, CPU, over a life", "reprefill_ratio", "{:.1f} x", ">= 20 x", lambda x: x >= 20),
    ("faults", "what the faults broke", "faults_broke", "{:.0f}", "0", lambda x: not x),
    ("soak", "sessions held at <= 0.1 % missed", "sessions_at_0p1", "{:.0f}", ">= 32", lambda x: x >= 32),
    ("ray", "sessions lost when one of two replicas is killed", "ray_broken", "{:.0f}", "0", lambda x: not x),
    ("ray", "gap of a session, p99", "ray_gap_p99_s", "{:.2f} s", "<= 3 s", lambda x: x <= 3),
    ("search", "most sessions held", "search_sessions", "{:.0f}", ">= 32", lambda x: x >= 32),
)
# Of these, every one must be 0; the other figures of the row say how much was done.
BROKE = (
    "fault_again_wrong", "fault_churn_leaked", "fault_disk_wrong", "fault_client_acknowledged_lost",
    "fault_client_wrong", "fault_kill_wrong", "fault_kill_survived", "fault_neighbour_different",
    "fault_neighbour_lost", "fault_slots_leaked",
)  # fmt: skip

BESIDE = {
    "bits": "{bits_compared:.0f} compared",
    "reprefill": "at its end {reprefill_ratio_at_end:.0f} x; window only {reprefill_ratio_window_only:.1f} x",
    "faults": (
        "{fault_churn_opens:.0f} opened and closed; the neighbour lived {fault_neighbour_turns:.0f} micro-turns; after "
        "kill -9 the longest took {fault_kill_gap_s:.2f} s"
    ),
    "soak": (
        "{soak_sessions:.0f} live, {soak_refused:.0f} x refused; missed {soak_miss_rate:.3%}, where the machine ran "
        "{soak_miss_rate_while_the_machine_ran:.3%}; a loop that only sleeps missed {soak_noop_miss_rate:.3%}, was "
        "{soak_noop_late_p99_ms:.1f} ms late at p99; the machine stood in {soak_machine_stood_share:.2%} of ticks"
    ),
    "ray": (
        "{ray_on_the_killed:.0f} of {ray_sessions:.0f} were on the killed one; their longest gap "
        "{ray_gap_of_the_killed_max_s:.2f} s"
    ),
}


def run(setup: Setup) -> Result:
    torch.set_num_threads(1)
    rows = _rows(setup)
    path = setup.checkpoint or checkpoints.default_checkpoint()
    model, _, _ = checkpoints.load(path)
    report = selftest(model)
    metrics: dict[str, float] = {
        "bits_alone_and_crowded": float(report.invariant),
        "bits_as_in_training": float(report.exact),
    }
    notes: dict[str, Any] = {"rows": list(rows)}
    failed: dict[str, str] = {}
    for row in rows:
        try:
            figures, told = _run(row, setup, model, path)
        except BadInput:
            raise
        except InterplayError as error:  # an hour of other rows must not be lost with this one
            failed[row] = str(error)
            continue
        metrics |= figures
        notes |= told
    notes["table"] = table(rows, metrics, failed)
    _print(notes["table"])
    if "plot" in setup.options:
        draw(notes, metrics, Path(setup.options["plot"]))
    return Result(int(setup.number("sessions", 32, least=1)), metrics, notes=notes)


def _rows(setup: Setup) -> tuple[str, ...]:
    asked = setup.options.get("rows", setup.options.get("row", ",".join(USUAL)))
    rows = tuple(row.strip() for row in asked.split(","))
    if unknown := [row for row in rows if row not in ROWS]:
        raise BadInput(f"--option rows={asked}: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if "rows" not in setup.options and "row" not in setup.options and find_spec("ray") is None:
        rows = tuple(row for row in rows if row != "ray")
    return tuple(row for row in ROWS if row in rows)


def _run(row: str, setup: Setup, model: InteractionModel, path: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """One row: its figures, and what the plot needs."""
    seed, advance, number = setup.seed, setup.advance, setup.number
    if row == "bits":
        turns, together = int(number("bits_turns", 260, least=20)), int(number("bits_sessions", 6, least=2))
        return bits(model, path, seed, turns, together, advance), {}
    if row == "batch":
        return compute.batch_gain(model, seed, repeats=int(number("repeats", 40, least=3))), {}
    if row == "flat":
        told = compute.flatness(model, seed, number("age_minutes", 30), int(number("flat_batch", 4, least=1)), advance)
        return told, {"by_minute": told.pop("by_minute")}
    if row == "reprefill":
        curve = compute.reprefill(model, seed, advance, number("age_s", compute.AGES_S[-1], least=1))
        return compute.ratios(curve), {"ages": curve}
    if row == "faults":
        told = asyncio.run(faults(model, path, seed, int(number("opens", 10_000, least=1)), advance))
        return told | {"faults_broke": sum(told[name] for name in BROKE)}, {}
    if row == "soak":
        sessions, minutes = int(number("sessions", 32, least=1)), number("minutes", 10, least=0.05)
        told = asyncio.run(soak(path, sessions, minutes * 60, seed, advance))
        by_minute = told.pop("by_minute")
        held = told["sessions"] if told["miss_rate"] <= MISS_SHARE else float("nan")
        return {"sessions_at_0p1": held} | {f"soak_{n}": v for n, v in told.items()}, {"soak_by_minute": by_minute}
    if row == "ray":
        from interplay.bench.engine_ray import survive

        turns = int(number("ray_seconds", 30, least=3) * 5)
        told = survive(path, int(number("ray_sessions", 16, least=2)), turns, seed)
        told["broken"] = told["sessions"] - told["intact"]
        return {f"ray_{name}": value for name, value in told.items()}, {}
    seconds, by = number("search_minutes", 1, least=0.05) * 60, int(number("search_by", 8, least=1))
    most, tried = search(path, int(number("search_most", 96, least=by)), seconds, seed, by, advance)
    return {"search_sessions": float(most), "search_seconds": seconds}, {"search": tried}


def table(rows: tuple[str, ...], metrics: dict[str, float], failed: dict[str, str]) -> list[dict[str, Any]]:
    """One entry per target of the rows that ran: what, measured, target, reached, and the machine's noise beside it.

    failed: rows that broke, and why.
    """
    out = []
    for row, what, name, shown, target, held in TARGETS:
        if row not in rows:
            continue
        entry: dict[str, Any] = {"row": row, "what": what, "target": target}
        if row in failed:
            out.append(entry | {"measured": "-", "reached": False, "beside": failed[row]})
            continue
        entry |= {"measured": shown.format(metrics[name]), "reached": bool(held(metrics[name])), "beside": ""}
        if row == "soak":
            entry["what"] = f"sessions held for {metrics['soak_seconds'] / 60:g} min at <= 0.1 % missed"
        entry["beside"] = BESIDE[row].format(**metrics) if row in BESIDE else ""
        out.append(entry)
    return out


def _print(entries: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title="engine")
    for column in ("row", "what", "measured", "target", "reached", "beside it"):
        shown.add_column(column)
    for entry in entries:
        reached = "yes" if entry["reached"] else "no"
        shown.add_row(entry["row"], entry["what"], entry["measured"], entry["target"], reached, entry["beside"])
    Console().print(shown)


def draw(notes: dict[str, Any], metrics: dict[str, float], path: Path) -> None:
    """Those of four pictures whose rows ran: compute by age, the saving by age, a step by minute, misses by minute."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise Missing('--option plot draws with matplotlib: pip install "interplay[train]"') from error
    panels = [_cost, _gain] if "ages" in notes else []
    panels += [_minutes] if "by_minute" in notes else []
    panels += [_misses] if "soak_by_minute" in notes else []
    if not panels:
        raise BadInput("--option plot: of the rows that ran there is nothing to draw; ask for flat, reprefill or soak")
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 3.6), layout="constrained", squeeze=False)
    for panel, axis in zip(panels, axes[0], strict=True):
        panel(axis, notes)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise BadInput(f"--option plot={path}: {error.strerror or error}") from error
    finally:
        plt.close(figure)


def _cost(axis: Any, notes: dict[str, Any]) -> None:
    rows = notes["ages"]
    ages = [row["age_s"] for row in rows]
    for name, label in (("whole_ms", "conversation so far again"), ("window_ms", "window again"), ("step_ms", "step")):
        axis.plot(ages, [row[name] for row in rows], marker="o", label=label)
    axis.set(yscale="log", xlabel="age of the session, s", ylabel="CPU ms per micro-turn")
    axis.legend()


def _gain(axis: Any, notes: dict[str, Any]) -> None:
    rows = notes["ages"]
    axis.plot([row["age_s"] for row in rows], [row["whole_ms"] / row["step_ms"] for row in rows], marker="o")
    axis.axhline(20, color="#999", lw=1)
    axis.set(xlabel="age of the session, s", ylabel="times less compute than re-prefill")


def _minutes(axis: Any, notes: dict[str, Any]) -> None:
    by_minute = notes["by_minute"]
    axis.plot(range(1, len(by_minute) + 1), by_minute, marker=".")
    axis.set(xlabel="minute of the session", ylabel="CPU ms of a step (median)", ylim=(0, max(by_minute) * 1.2))


def _misses(axis: Any, notes: dict[str, Any]) -> None:
    rows = notes["soak_by_minute"]
    minutes = range(1, len(rows) + 1)
    axis.plot(minutes, [100 * row["miss_rate"] for row in rows], marker="o", label="missed")
    axis.plot(minutes, [100 * row["noop_miss_rate"] for row in rows], marker=".", label="a loop that only sleeps")
    axis.axhline(100 * MISS_SHARE, color="#999", lw=1)
    axis.set(xlabel="minute", ylabel="% of micro-turns")
    axis.legend()
