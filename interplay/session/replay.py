"""What a timeline shows: the two streams of a session as a picture, and its numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from interplay.core.timeline import Record
from interplay.core.types import MICRO_TURN_S, BadInput, Missing

ROW_S = 12.0  # seconds per row: a word of 0.2 s is then wide enough to be read
MAX_ROWS = 40  # 8 minutes with words; a longer session is drawn in wider rows, as marks without words
HEIGHT = {"user": 1.0, "agent": 0.0}
COLOUR = {"heard": "#2b6cb0", "text": "#6b46c1", "said": "#c05621", "stopped": "#c53030"}
UNSEEN = ("opened", "closed", "metrics")


def duration(records: Sequence[Record]) -> float:
    """Session seconds until the last event."""
    return max((record["t"] for record in records), default=0.0)


def describe(records: Sequence[Record]) -> Iterator[str]:
    """The numbers of a session, one line each."""
    opened = _first(records, "opened")
    who = ", ".join(f"{key} {opened[key]}" for key in ("foreground", "voice", "surface") if key in opened)
    yield f"session  {duration(records):.1f} s{', ' + who if who else ''}"
    heard = [r for r in records if r["kind"] == "heard"]
    said = [r for r in records if r["kind"] == "said"]
    yield f"heard    {sum(len(str(r.get('text', '')).split()) for r in heard)} words"
    yield f"said     {len(said)} words in {len(list(_utterances(said)))} utterances"
    for record in records:
        if record["kind"] == "stopped":
            unsaid = f", unsaid: {record['unsaid']}" if record.get("unsaid") else ""
            yield f"stopped  at {record['t']:.1f} s ({record.get('reason', '')}){unsaid}"
    missing = sum(r.get("samples", 0) for r in records if r["kind"] == "missing")
    skipped = sum(r.get("turns", 0) for r in records if r["kind"] == "skipped")
    if missing or skipped:
        yield f"missing  {missing / 16_000:.2f} s of input never came, {skipped} micro-turns were skipped"
    metrics = next((r for r in reversed(records) if r["kind"] == "metrics"), {})
    for name in ("step", "late"):
        if isinstance(metrics.get(name), dict):
            yield f"{name:<8} p50 {metrics[name]['p50_ms']} ms, p99 {metrics[name]['p99_ms']} ms"
    for record in records:
        if record["kind"] == "error":
            yield f"error    at {record['t']:.1f} s: {record.get('text', '')}"
    closed = _first(records, "closed")
    yield f"ended    {closed.get('reason', 'unknown: the record breaks off')}"


def draw(records: Sequence[Record], path: str | Path) -> None:
    """Draw the session as a PNG, SVG or PDF (by the suffix): heard above, said below, time from left to right.

    Raises Missing if matplotlib is not installed, BadInput if the picture cannot be written.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise Missing('pictures need matplotlib; get it with: pip install "interplay[train]"') from error
    end = max(duration(records), 1.0)
    rows = min(MAX_ROWS, math.ceil(end / ROW_S))
    row_s = max(ROW_S, end / rows)
    words = row_s <= 2 * ROW_S
    figure, axes = plt.subplots(rows, 1, figsize=(15, 0.6 + 1.25 * rows), squeeze=False, layout="constrained")
    for index, axis in enumerate(axes[:, 0]):
        _frame(axis, index * row_s, row_s)
    for record in records:
        axis = axes[min(rows - 1, int(record["t"] / row_s)), 0]
        _mark(axis, record, words)
    axes[-1, 0].set_xlabel("seconds of the session")
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot draw into {path}: {error}") from error
    finally:
        plt.close(figure)


def _frame(axis: Any, start: float, row_s: float) -> None:
    axis.set(xlim=(start, start + row_s), ylim=(-0.6, 1.7), yticks=[0, 1], yticklabels=["said", "heard"])
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    if row_s <= 2 * ROW_S:
        for cell in range(int(row_s / MICRO_TURN_S) + 1):
            axis.axvline(start + cell * MICRO_TURN_S, color="#e2e8f0", lw=0.5)


def _mark(axis: Any, record: Record, words: bool) -> None:
    kind, t = record["kind"], record["t"]
    if record["lane"] in HEIGHT and kind in COLOUR:
        y = HEIGHT[record["lane"]]
        axis.plot([t, t], [y - 0.25, y + 0.1], color=COLOUR[kind], lw=1.2)
        label = "(stopped)" if kind == "stopped" else str(record.get("text", ""))
        if words:
            # "$" would start a formula
            axis.text(t + 0.02, y + 0.12, label.replace("$", r"\$"), color=COLOUR[kind], fontsize=8, clip_on=True)
    elif kind not in UNSEEN:
        axis.plot([t], [0.5], marker="|", color="#718096")
        if words:
            axis.text(t + 0.02, 0.5, f"{record['lane']} {kind}", color="#718096", fontsize=6, va="center", clip_on=True)


def _first(records: Sequence[Record], kind: str) -> Record:
    return next((r for r in records if r["lane"] == "system" and r["kind"] == kind), {})


def _utterances(said: Sequence[Record], gap_s: float = 1.0) -> Iterator[list[Record]]:
    """Said words grouped where less than a second lies between their starts."""
    group: list[Record] = []
    for record in said:
        if group and record["t"] - group[-1]["t"] > gap_s:
            yield group
            group = []
        group.append(record)
    if group:
        yield group
