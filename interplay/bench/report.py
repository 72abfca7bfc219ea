"""The bench as pictures: per task what came out by category, and how the times of its items are spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interplay.bench.task import Result
from interplay.core.types import Missing

BLUE, ORANGE = "#3d6fb6", "#c05621"
# Of these figures of an item the first that is there is drawn as a histogram.
TIMES = {
    "onset_s": "seconds after the due time or the end of the cue word",
    "latency_s": "seconds until it answered, stopped or delegated",
    "lag_s": "seconds behind the translated word (median of an item)",
    "error_s": "seconds that the answer is off",
}


def draw(results: dict[str, Result], document: dict[str, Any], folder: Path) -> None:
    """Draw `bench.png` into `folder`: a row per task. Raises Missing without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise Missing('--report draws with matplotlib: pip install "interplay[train]"') from error
    figure, axes = plt.subplots(len(results), 2, figsize=(12, 2.8 * len(results)), squeeze=False, layout="constrained")
    for (bars, times), (task, result) in zip(axes, results.items(), strict=True):
        if any("right" in row for row in result.rows):
            _shares(bars, result)
        else:
            _figures(bars, result)
        bars.set_title(f"{task}, n = {result.n}", loc="left", fontsize=10)
        _spread(times, result.rows)
    figure.suptitle(
        f"{document['foreground']}, voices {document['voices']}, seed {document['seed']}, {document['machine']}",
        fontsize=8,
    )
    figure.savefig(folder / "bench.png", dpi=110)
    plt.close(figure)


def _shares(axis: Any, result: Result) -> None:
    """Share of items that were right, by column and category."""
    groups: dict[str, list[bool]] = {}
    for row in result.rows:
        column = row.get("column", "")
        name = row["category"] + ("" if column in ("", "voices") else f" ({column})")
        groups.setdefault(name, []).append(bool(row.get("right")))
    shares = [100 * sum(found) / len(found) for found in groups.values()]
    axis.barh(list(groups), shares, color=[ORANGE if "(" in name else BLUE for name in groups])
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="right items, %")


def _figures(axis: Any, result: Result) -> None:
    """The metrics themselves, for tasks without items."""
    names = [name for name, value in result.metrics.items() if value == value]
    axis.barh(names, [result.metrics[name] for name in names], color=BLUE)
    axis.invert_yaxis()


def _spread(axis: Any, rows: list[dict[str, Any]]) -> None:
    for key, label in TIMES.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            axis.hist(values, bins=24, color=BLUE)
            axis.set_xlabel(label, fontsize=8)
            axis.set_ylabel("items", fontsize=8)
            return
    axis.set_axis_off()
