"""What was spent, by whom, on what: the questions that people ask the ledger."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from interplay.core.types import BadInput, Missing
from interplay.gateway.ledger.store import Database
from interplay.gateway.prices import usd

BY = {
    "agent": "agent", "user": "user_id", "session": "session", "key": "key_id", "route": "route",
    "provider": "provider", "model": "model", "kind": "kind", "status": "status", "day": "day",
}  # fmt: skip
_UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_DAY = "CAST(FLOOR(started / 86400) AS BIGINT)"


@dataclass(frozen=True, slots=True)
class Line:
    """One group. cost_pico: billed where there is a bill, else recorded. unpriced: attempts of unknown price."""

    name: str
    attempts: int
    cost_pico: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    audio_s: float
    tool_calls: int
    estimated: int
    recovered: int
    unpriced: int


def since_time(since: str, now: float | None = None) -> float:
    """Unix seconds of "7d", "24h", "90m", "2w", "all", or a date such as 2026-11-01 (UTC). Raises BadInput."""
    now = time.time() if now is None else now
    if since == "all":
        return 0.0
    if match := re.fullmatch(r"(\d{1,5})([mhdw])", since):
        return now - int(match.group(1)) * _UNIT_S[match.group(2)]
    try:
        return datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise BadInput(f"--since {since!r}: use 7d, 24h, 90m, 2w, all, or a date such as 2026-11-01") from None


def spend(database: Database, by: str, since: float) -> list[Line]:
    """Groups of entries begun since, the dearest first (days: in order). Raises BadInput for an unknown `by`."""
    if by not in BY:
        raise BadInput(f"--by {by!r}: known are {', '.join(BY)}")
    column = BY[by]
    if column == "day":
        column = _DAY if database.postgres else "CAST(started / 86400 AS INTEGER)"
    rows = database.query(
        f"SELECT {column}, COUNT(*), SUM(COALESCE(billed_pico, cost_pico)), SUM(input_tokens), SUM(cached_tokens), "
        "SUM(output_tokens), SUM(audio_in_ms + audio_out_ms + session_ms), SUM(tool_calls), SUM(estimated), "
        f"SUM(recovered), SUM(1 - priced) FROM entries WHERE started >= ? GROUP BY {column}",
        (since,),
    )
    lines = [
        Line(
            _day(row[0]) if by == "day" else str(row[0]) or "-",
            *(int(value) for value in row[1:6]),
            audio_s=float(row[6]) / 1000,
            tool_calls=int(row[7]), estimated=int(row[8]), recovered=int(row[9]), unpriced=int(row[10]),
        )
        for row in rows
    ]  # fmt: skip
    return sorted(lines, key=lambda line: line.name) if by == "day" else sorted(lines, key=lambda x: -x.cost_pico)


def write_csv(lines: Sequence[Line], by: str, file: TextIO) -> None:
    """One row per group, exact dollars."""
    out = csv.writer(file)
    names = [name for name in Line.__slots__ if name not in ("name", "cost_pico")]
    out.writerow([by, "usd", *names])
    for line in lines:
        # A name that a spreadsheet would run as a formula comes from a request header: it stays text.
        name = "'" + line.name if line.name[:1] in ("=", "+", "-", "@", "\t") and line.name != "-" else line.name
        out.writerow([name, f"{usd(line.cost_pico):f}", *(getattr(line, field) for field in names)])


def plot(lines: Sequence[Line], by: str, title: str, path: Path) -> None:
    """Bars of dollars. Raises Missing without matplotlib, BadInput if the picture cannot be written."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise Missing('plots need matplotlib; get it with: pip install "interplay[train]"') from error
    shown = list(lines if by == "day" else reversed(lines[:20]))
    costs = [float(usd(line.cost_pico)) for line in shown]
    figure, axes = pyplot.subplots(figsize=(8, max(2.0, 0.4 * len(shown) + 1)) if by != "day" else (8, 4))
    if by == "day":
        axes.bar([line.name for line in shown], costs, color="#3b6ea5")
        axes.tick_params(axis="x", rotation=45)
        axes.set_ylabel("US dollars")
    else:
        bars = axes.barh([line.name for line in shown], costs, color="#3b6ea5")
        axes.bar_label(bars, fmt="$%.4g", padding=3)
        axes.set_xlabel("US dollars")
        axes.margins(x=0.15)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        pyplot.close(figure)


def _day(number: object) -> str:
    return datetime.fromtimestamp(int(str(number)) * 86400, UTC).date().isoformat()
