"""Bench tasks for the eyes: `repcount`, `startstop`, `sightings` and `step_video`.

repcount: the last number said after the last repetition but one counts (as the reference system is tested); `obo` is
the share of films where it is off by at most one, `mae` the mean of |said - true| / (true + 0.1), both as in RepCount
(Hu et al. 2022, TransRAC).
startstop: temporal intersection over union between what lies between "start" and "stop" and the asked-for movement.
sightings: a word at the appearance or the leaving of a colour or shape. Each has negatives: films that do not contain
what was asked for.
"""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interplay.bench.runner import Player, Run, player, read
from interplay.bench.score import share
from interplay.bench.stats import bootstrap, mean
from interplay.bench.task import Result, Setup
from interplay.bench.together import side_by_side
from interplay.bench.video_items import Film, VideoItem, video_items
from interplay.core.types import INPUT_SAMPLES, BadInput, MicroTurnIn
from interplay.foreground.base import Foreground, ForegroundSpec
from interplay.training.video.asking import ONES
from interplay.training.video.programs import Picture

WINDOW_S = (-0.2, 1.2)  # of a word about something that is seen, after it has happened
SEEING = 8  # films side by side
NEGATIVES = 5  # one film in so many is beside the n that count


def repcount(setup: Setup) -> Result:
    rows = _play(setup, "count", lambda p: len(p.times) > 0, count_row)
    idle = _play(setup, "count", lambda p: not p.times, silent_row, max(1, setup.n // NEGATIVES))
    errors = [row["relative_error"] for row in rows]
    obo, interval = share(rows, "within_one")
    metrics = {
        "obo": obo,
        "mae": mean(errors),
        "exact_rate": share(rows, "exact")[0],
        "word_recall": mean([row["recall"] for row in rows]),
        "silent_rate": share(idle, "silent")[0],
    }
    return Result(setup.n, metrics, {"obo": interval, "mae": bootstrap(errors)}, _ways(rows, "within_one"), rows=rows)


def startstop(setup: Setup) -> Result:
    rows = _play(setup, "startstop", lambda p: len(p.times) > 0, overlap_row)
    idle = _play(setup, "startstop", lambda p: not p.times, silent_row, max(1, setup.n // NEGATIVES))
    values = [row["tiou"] for row in rows]
    metrics = {"tiou": mean(values), "silent_rate": share(idle, "silent")[0]}
    return Result(setup.n, metrics, {"tiou": bootstrap(values)}, _ways(rows, "tiou"), rows=rows)


def sightings(setup: Setup) -> Result:
    rows = _play(setup, "things", lambda p: len(p.times) > 0, sighting_row)
    idle = _play(setup, "never", None, silent_row, max(1, setup.n // NEGATIVES))
    right, interval = share(rows, "right")
    metrics = {
        "accuracy": right,
        "recall": mean([row["recall"] for row in rows]),
        "extra_words": mean([row["extra"] for row in rows]),
        "silent_rate": share(idle, "silent")[0],
    }
    return Result(setup.n, metrics, {"accuracy": interval}, _ways(rows, "right", "recall", by="kind"), rows=rows)


def step_video(setup: Setup) -> Result:
    """One micro-turn with sound and a frame, batch 1, one thread, through the foreground's public interface."""
    times = 1e3 * asyncio.run(_steps(_seeing(setup), max(setup.n, 300) + 20))
    p50, p99 = np.percentile(times, [50, 99])
    return Result(len(times), {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(times.max())})


async def _steps(mind: Foreground, turns: int) -> np.ndarray:
    """Seconds of each of `turns` micro-turns of one session, the first 20 left out; the window fills up."""
    channel = await mind.open(ForegroundSpec(options={"prefix": ("count", "the", "jumps")}))
    noise = np.random.default_rng(0)
    audio = (noise.standard_normal((20, INPUT_SAMPLES)) * 0.05).astype(np.float32)
    frames = noise.integers(0, 256, (20, 240, 320, 3), np.uint8)  # as a camera delivers them
    times = []
    for turn in range(turns):
        seen = MicroTurnIn(turn, audio[turn % 20], frames[turn % 20])
        began = clock.perf_counter()
        await channel.step(seen)
        times.append(clock.perf_counter() - began)
    await channel.close()
    return np.array(times[20:])


def _seeing(setup: Setup) -> Foreground:
    if not setup.mind.capabilities.sees:
        raise BadInput(f"{setup.mind.name} has no eyes: this task needs a model with video")
    return setup.mind


def _play(
    setup: Setup,
    program: str,
    wanted: Callable[[Picture], bool] | None,
    judge: Callable[[VideoItem, Run], dict[str, Any]],
    n: int = 0,
) -> list[dict[str, Any]]:
    """Rows of `n` films (default: those of the command line), played through the session that users run."""
    if setup.voices not in ("held-out", "training", "none"):
        raise BadInput("films are asked about by synthetic voices: --voices held-out or training")
    mind, n = _seeing(setup), n or setup.n
    setup.advance(0, total=n + max(1, n // NEGATIVES))

    def play(item: VideoItem, live: Player) -> dict[str, Any]:
        watching = Player(mind, live.voice, {"prefix": item.prefix})
        row = judge(item, read(asyncio.run(watching.live(Film(item)))))
        ask = " ".join(item.picture.ask.words) if item.picture.ask else ""
        return {"category": item.category, "ask": ask, **row}

    rows = []
    asked = {"held_out": setup.voices != "training", "known_words": setup.phrasings == "known"}
    items = video_items(program, n, setup.seed, positive=wanted, **asked)
    together = min(SEEING, mind.capabilities.together)
    for row in side_by_side(items, play, [player(mind, setup.seed) for _ in range(together)]):
        rows.append(row)
        setup.advance()
    return rows


def count_row(item: VideoItem, run: Run) -> dict[str, Any]:
    """The number that counts, and how many repetitions were counted in time."""
    ends = item.picture.times
    true = min(len(ends), len(ONES))
    after = ends[true - 2] if true > 1 else 0.0
    numbers = [ONES.index(word) + 1 for word, t in run.said if word in ONES and t >= after]
    said = numbers[-1] if numbers else 0
    hits = _hits([(ONES[i], end) for i, end in enumerate(ends[:true])], run.said)
    return {
        "true": true,
        "said": said,
        "within_one": abs(said - true) <= 1,
        "exact": said == true,
        "relative_error": abs(said - true) / (true + 0.1),
        "recall": hits / true,
    }


def overlap_row(item: VideoItem, run: Run) -> dict[str, Any]:
    """Temporal IoU of what was called out with what was to be seen, over the whole film."""
    length = len(item.picture.frames) * 0.2
    starts, ends = item.picture.times[::2], item.picture.times[1::2]
    called: list[tuple[float, float]] = []
    since: float | None = None
    for word, t in run.said:
        if word == "start" and since is None:
            since = t
        elif word == "stop" and since is not None:
            called.append((since, t))
            since = None
    if since is not None:
        called.append((since, max(length, since)))
    return {"tiou": overlap(list(zip(starts, ends, strict=True)), called), "called": len(called), "true": len(starts)}


def overlap(true: Sequence[tuple[float, float]], called: Sequence[tuple[float, float]]) -> float:
    """Intersection over union of two sets of intervals, each without overlaps of its own; 0 if both are empty."""
    both = sum(max(0.0, min(b, d) - max(a, c)) for a, b in true for c, d in called)
    union = sum(b - a for a, b in true) + sum(d - c for c, d in called) - both
    return both / union if union > 0 else 0.0


def sighting_row(item: VideoItem, run: Run) -> dict[str, Any]:
    """All-or-nothing: every word in its window, and no other word."""
    assert item.picture.ask is not None
    due = list(zip((word for _, word in item.picture.said), sorted(item.picture.times), strict=True))
    hits = _hits(due, run.said)
    extra = len(run.said) - hits
    right = hits == len(due) and extra == 0
    return {"kind": item.picture.ask.kind, "right": right, "recall": hits / len(due), "extra": extra}


def silent_row(item: VideoItem, run: Run) -> dict[str, Any]:
    return {"silent": not run.said}


def _hits(due: list[tuple[str, float]], said: Sequence[tuple[str, float]]) -> int:
    """How many due words (word, second of the event) were audible in their window; each said word counts once."""
    left = list(said)
    hits = 0
    for word, event in due:
        for i, (other, t) in enumerate(left):
            if other == word and event + WINDOW_S[0] <= t <= event + WINDOW_S[1]:
                del left[i]
                hits += 1
                break
    return hits


def _ways(rows: list[dict[str, Any]], *keys: str, by: str = "category") -> dict[str, dict[str, float]]:
    """The means of `keys`, and how many there are, for each way in which was asked."""
    groups = {row[by]: [r for r in rows if r[by] == row[by]] for row in rows}
    return {
        name: {key: mean([float(row[key]) for row in group]) for key in keys} | {"n": float(len(group))}
        for name, group in groups.items()
    }
