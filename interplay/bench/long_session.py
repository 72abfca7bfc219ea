"""Two hours in one session: are the last five minutes like the first five, and does memory stay where it is?

The session is a chain of short episodes (a reminder, a cue, a repeated reminder until stop), each ended by "stop" so
that none reaches into the next. The first minutes' episodes come again, sample for sample, at the end. The people live
in a process of their own, so that the memory measured is the session's and not their voices'.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from interplay.bench.families import STOP
from interplay.bench.item import Item, Tape
from interplay.bench.mixing import mix
from interplay.bench.people import Cast, Unspoken
from interplay.bench.pool import Row, casts, plain_setup
from interplay.bench.runner import Player, Run, player
from interplay.bench.score import judge
from interplay.bench.speaking import cue_item, time_item
from interplay.bench.stats import bootstrap
from interplay.bench.task import Result, Setup
from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, MICRO_TURN_S, BadInput, InterplayError
from interplay.session import SurfaceIn, TurnView
from interplay.voice.base import Voice

RECORDS = 250  # of the timeline in memory: full within the first minutes, as any bound is sooner or later
KINDS = ("in", "until_stop", "first", "while_talking", "among_others")


@dataclass(frozen=True, slots=True)
class Episode:
    """An item and the second of the session at which it begins."""

    item: Item
    start: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is lived through. seed: of the episodes; seconds, of which the first and the last `edge_s` are judged."""

    seed: str
    seconds: float
    edge_s: float

    def sound(self, cast: Cast, first: list[Episode], last: list[Episode]) -> Iterator[np.ndarray]:
        """The sound of the session, episode by episode: float32 at 16 kHz. Fills the edges' episodes in."""
        at, number = 0.0, 0
        for number in range(1 << 30):
            if at >= self.seconds - self.edge_s:
                break
            item = episode(cast, f"{self.seed}/{number}", KINDS[number % len(KINDS)])
            if at + item.seconds <= self.edge_s:
                first.append(Episode(item, at))
            elif at + item.seconds > self.seconds - self.edge_s:
                break
            at += item.seconds
            yield item.audio
        pause = max(self.seconds - self.edge_s - at, 0.0)
        if pause:
            yield mix((), pause, snr_db=15.0, seed=number)
            at += int(pause * INPUT_RATE) / INPUT_RATE
        for known in first:
            last.append(Episode(known.item, at))
            at += known.item.seconds
            yield known.item.audio


def _people(pipe: Connection, setup: Setup, plan: Plan) -> None:
    """Process: send the sound piece by piece, then the episodes of both edges; or what went wrong."""
    edges: tuple[list[Episode], list[Episode]] = ([], [])
    try:
        for sound in plan.sound(casts(setup)[0][0], *edges):
            pipe.send(sound)
    except Unspoken as error:
        pipe.send(BadInput(f"long_session: these voices cannot ask everything ({error}); leave out --voices none"))
        return
    except InterplayError as error:
        pipe.send(error)
        return
    pipe.send(edges)  # all at once, after the last measurement of memory


@contextmanager
def people(setup: Setup, plan: Plan) -> Iterator[Connection]:
    """The other end of `_people`, who are a few seconds ahead at most: the pipe is full before they get far."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_people, args=(theirs, plain_setup(setup), plan), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join()


class LongStage:
    """Surface that gets its sound as it goes: two hours of it are never in memory.

    After a run: `episodes` of the first and of the last `edge_s` seconds, `said` within them, `resident` = (second,
    resident MB, MB of them that the voice's cache holds) once a minute, `steps` = seconds per micro-turn of the first
    and of the last edge.
    """

    name = "long"

    def __init__(self, sound: Connection, plan: Plan, advance, cache_mb: Callable[[], float] = lambda: 0.0) -> None:
        self.turns = int(plan.seconds / MICRO_TURN_S)
        self.episodes: tuple[list[Episode], list[Episode]] = ([], [])
        self.said: list[tuple[str, float]] = []
        self.resident: list[tuple[float, float, float]] = []
        self.steps: tuple[list[float], list[float]] = ([], [])
        self._sound, self._plan = sound, plan
        self._buffer = np.zeros(0, np.float32)
        self._over = False
        self._advance, self._cache_mb = advance, cache_mb

    def _more(self) -> np.ndarray | None:
        """The next piece of sound; None at the end."""
        if self._over:
            return None
        try:
            found = self._sound.recv()
        except EOFError as error:
            raise InterplayError("long_session: the process that makes the people's voices ended early") from error
        if isinstance(found, InterplayError):
            raise found
        if isinstance(found, np.ndarray):
            return found
        self.episodes, self._over = found, True
        return None

    async def read(self, turn: int) -> SurfaceIn | None:
        while len(self._buffer) < INPUT_SAMPLES:
            more = self._more()
            if more is None:
                return None
            self._buffer = np.concatenate([self._buffer, more])
        audio, self._buffer = self._buffer[:INPUT_SAMPLES], self._buffer[INPUT_SAMPLES:]
        return SurfaceIn(audio)

    async def write(self, view: TurnView) -> None:
        now = view.elapsed_s
        plan = self._plan
        early, late = now <= plan.edge_s + 5, now >= plan.seconds - plan.edge_s - 5
        if early or late:
            self.said += [(word, now + t) for word, t in view.said]
            self.steps[0 if early else 1].append(view.step_s)
        if view.turn % round(60 / MICRO_TURN_S) == 0:
            self.resident.append((now, resident_mb(), self._cache_mb()))
            self._advance(total=int(plan.seconds // 60))

    async def close(self, error: InterplayError | None) -> None:
        return None


def episode(cast: Cast, seed: str, kind: str) -> Item:
    """One thing to do, and "stop" at its end. Its length is a whole number of micro-turns."""
    for attempt in range(20):
        rng = random.Random(f"{seed}/{attempt}")
        try:
            timed = kind in ("in", "until_stop", "while_talking")
            item = time_item(kind, rng, cast) if timed else cue_item(kind, rng, cast)
            stop, _ = cast.person(rng).ask(STOP, rng)
        except Unspoken:
            if attempt == 19:
                raise
            continue
        ending = Tape(rng)
        ending.say(stop)
        audio = np.concatenate([item.audio, ending.render(ending.time + 1.5)])
        audio = np.concatenate([audio, np.zeros(-len(audio) % INPUT_SAMPLES, np.float32)])
        words = (*item.words, *((word, item.seconds + t) for word, t in ending.words))
        return replace(item, task="long_session", audio=audio, words=words)
    raise AssertionError


def session(setup: Setup, number: int, live: Player | None = None) -> tuple[list[Row], Row]:
    """One long session: a row per episode of its edges, and one of the session's own figures."""
    seconds, edge = 60 * setup.number("minutes", 120.0, least=1.0), 60 * setup.number("edge", 5.0, least=0.2)
    if 2 * edge > seconds:
        raise BadInput("long_session: --option minutes is at least twice --option edge")
    live = live or player(setup.mind, setup.seed)
    plan = Plan(f"long/{setup.seed}/{number}", seconds, edge)
    with people(setup, plan) as sound:
        stage = LongStage(sound, plan, setup.advance, lambda: _cache_mb(live.voice))
        asyncio.run(live.live(stage, memory=RECORDS))
    rows = []
    for first, last in zip(*stage.episodes, strict=True):
        verdicts = [judge(each.item, within(stage.said, each)) for each in (first, last)]
        rows.append({
            "category": first.item.category, "session": number, "start_s": round(first.start, 1),
            "right_first": verdicts[0].right, "right_last": verdicts[1].right, "right": verdicts[1].right,
        })  # fmt: skip
    settled = next((each for each in stage.resident if each[0] >= min(edge, seconds / 4)), stage.resident[0])
    growth, cached = (stage.resident[-1][i] - settled[i] for i in (1, 2))
    steps = [1e3 * float(np.median(edge_steps)) for edge_steps in stage.steps]
    figures: Row = {"growth_mb": growth, "cached_mb": cached, "step_first_ms": steps[0], "step_last_ms": steps[1]}
    figures["resident_mb"] = [(round(t / 60), round(mb, 1), round(voice, 1)) for t, mb, voice in stage.resident[::10]]
    return rows, figures


def within(said: list[tuple[str, float]], each: Episode) -> Run:
    """The words said in an episode, with times counted from its begin."""
    inside = [(word, t - each.start) for word, t in said if each.start <= t < each.start + each.item.seconds]
    return Run((), tuple(inside))


def _cache_mb(voice: Voice | None) -> float:
    """What the voice keeps of what it said: bounded, and filled in the course of a session."""
    from interplay.voice.hibari import HibariVoice

    return voice.engine.held_mb if isinstance(voice, HibariVoice) else 0.0


def resident_mb() -> float:
    """Resident memory of this process; its peak where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _one(job: tuple[Setup, int]) -> tuple[list[Row], Row]:
    return session(*job)


def run(setup: Setup) -> Result:
    """`--option minutes=120 edge=5 sessions=1`; sessions may share the `--jobs`."""
    count = int(setup.number("sessions", 1, least=1))
    if setup.jobs == 1 or count == 1:
        done = [session(setup, number) for number in range(count)]
    else:
        jobs = [(plain_setup(setup), number) for number in range(count)]
        with ProcessPoolExecutor(min(setup.jobs, count), get_context("spawn")) as pool:
            done = list(pool.map(_one, jobs))
    rows = [row for found, _ in done for row in found]
    figures = [row for _, row in done]
    if not rows:
        raise BadInput("long_session: no episode fits into --option edge; make it longer")
    losses = [100.0 * (row["right_first"] - row["right_last"]) for row in rows]
    metrics = {
        "delta_points": float(np.mean(losses)),
        "accuracy_first": 100 * float(np.mean([row["right_first"] for row in rows])),
        "accuracy_last": 100 * float(np.mean([row["right_last"] for row in rows])),
        "memory_growth_mb": max(row["growth_mb"] for row in figures),
        "of_that_voice_cache_mb": max(figures, key=lambda row: row["growth_mb"])["cached_mb"],
        "step_first_ms": float(np.mean([row["step_first_ms"] for row in figures])),
        "step_last_ms": float(np.mean([row["step_last_ms"] for row in figures])),
    }
    notes = {
        "minutes": setup.number("minutes", 120.0), "edge_minutes": setup.number("edge", 5.0), "sessions": count,
        "voices": casts(setup)[1][:1], "resident_mb": figures[0]["resident_mb"],
    }  # fmt: skip
    return Result(len(rows), metrics, {"delta_points": bootstrap(losses)}, notes=notes, rows=rows)
