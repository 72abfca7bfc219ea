"""Runs the items of a task over all columns, in one process or several, and puts the figures together.

Every item is made and played from (task, column, number, seed) alone, so it does not matter which process does it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from interplay.bench.item import Item
from interplay.bench.mixing import SNR_DB
from interplay.bench.people import Cast, SyntheticCast, Unspoken, load_casts
from interplay.bench.runner import Player, player
from interplay.bench.task import Result, Setup
from interplay.bench.together import side_by_side
from interplay.bench.wording import use_phrasings
from interplay.core.types import BadInput
from interplay.foreground.base import Foreground

Row = dict[str, Any]
Place = tuple[int, int]  # column, number
Summary = tuple[dict[str, float], dict[str, tuple[float, float]]]
PART = 25  # items that a process takes at a time
ATTEMPTS = 6  # an item whose sentences nobody recorded is drawn again, this often


@dataclass(frozen=True)
class ItemTask:
    """A task made of items.

    make(category, rng, cast): a new item; may raise Unspoken. perform(item, player): play and judge it; the row holds
    `category`, `right` (did it do what is asked here?) and whatever `summarise` needs. summarise(rows): metrics and
    intervals of one column.
    """

    name: str
    categories: tuple[str, ...]
    make: Callable[[str, random.Random, Cast], Item]
    perform: Callable[[Item, Player], Row]
    summarise: Callable[[list[Row]], Summary]

    def item(self, cast: Cast, seed: int, number: int) -> Item:
        """Item `number` of a column. Raises Unspoken if its column has no recordings of what it needs."""
        category = self.categories[number % len(self.categories)]
        for attempt in range(ATTEMPTS):
            try:
                return self.make(category, random.Random(f"{self.name}/{seed}/{number}/{attempt}"), cast)
            except Unspoken:
                if cast.synthetic or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError


@dataclass(frozen=True)
class Job:
    """What a process needs to make and play items."""

    task: str  # module:NAME of an ItemTask
    setup: Setup

    def load(self) -> ItemTask:
        module, _, name = self.task.partition(":")
        return getattr(import_module(module), name)


class Worker:
    """One process's foreground, voices and casts."""

    def __init__(self, job: Job, mind: Foreground | None = None) -> None:
        self.task, self.seed = job.load(), job.setup.seed
        use_phrasings(job.setup.phrasings)
        self.casts, self.notes = casts(job.setup)
        mind = mind or job.setup.mind
        self.players = [player(mind, self.seed) for _ in range(mind.capabilities.together)]

    def run(self, places: Iterable[Place]) -> Iterator[Row]:
        """Each item as a row; a row with `unspoken` where the column cannot ask this."""
        return side_by_side((self.make(*place) for place in places), self.play, self.players)

    def make(self, column: int, number: int) -> tuple[int, Item | Unspoken]:
        try:
            return number, self.task.item(self.casts[column], self.seed, number)
        except Unspoken as error:
            return number, error

    def play(self, made: tuple[int, Item | Unspoken], player: Player) -> Row:
        number, item = made
        if isinstance(item, Unspoken):
            category = self.task.categories[number % len(self.task.categories)]
            return {"category": category, "unspoken": str(item), "number": number}
        return {**self.task.perform(item, player), "number": number, "seconds": round(item.seconds, 2)}


_worker: Worker | None = None


def _begin(job: Job) -> None:
    global _worker
    _one_thread()
    _worker = Worker(job)


def _work(places: list[Place]) -> list[Row]:
    assert _worker is not None
    return list(_worker.run(places))


def run(reference: str, setup: Setup) -> Result:
    """All columns of the task at `reference` (module:NAME of an ItemTask)."""
    job = Job(reference, plain_setup(setup))
    task = job.load()
    columns, notes = casts(setup)
    n = setup.n
    places = [(column, number) for column in range(len(columns)) for number in range(n)]
    rows: list[list[Row]] = [[] for _ in columns]
    for (column, _), row in zip(places, _rows(job, places, setup), strict=True):
        rows[column].append(row)
        setup.advance(total=len(places))
    return collect(task, setup, [cast.name for cast in columns], rows, notes)


def _rows(job: Job, places: list[Place], setup: Setup) -> Iterator[Row]:
    if setup.jobs == 1:
        _one_thread()
        yield from Worker(job, setup.mind).run(places)
        return
    # spawn: a forked child would inherit torch's and espeak-ng's threads and locks in whatever state they are in.
    with ProcessPoolExecutor(setup.jobs, get_context("spawn"), _begin, (job,)) as pool:
        parts = [places[at : at + PART] for at in range(0, len(places), PART)]
        for rows in pool.map(_work, parts):
            yield from rows


def collect(task: ItemTask, setup: Setup, names: list[str], rows: list[list[Row]], notes: list[str]) -> Result:
    """Rows of every column as one result: the first column's metrics as they are, the others' with a suffix."""
    result = Result(setup.n, {}, notes={"voices": notes, "phrasings": setup.phrasings, "snr_db": SNR_DB})
    for name, found in zip(names, rows, strict=True):
        asked = [row for row in found if "unspoken" not in row]
        missing = sorted({f"{row['category']}: {row['unspoken']}" for row in found if "unspoken" in row})
        if missing:
            result.notes[f"not asked{_suffix(name)}"] = missing
        if name:
            result.notes[f"n_{name}"] = len(asked)
        if not asked:
            continue
        metrics, interval = task.summarise(asked)
        result.metrics |= {key + _suffix(name): value for key, value in metrics.items()}
        result.interval |= {key + _suffix(name): value for key, value in interval.items()}
        for category in dict.fromkeys(row["category"] for row in asked):
            group = [row for row in asked if row["category"] == category]
            figures, _ = task.summarise(group)
            result.categories[category + _suffix(name)] = {"n": len(group), **figures}
        result.rows += [{"column": name or "voices", **row} for row in asked]
    return result


def casts(setup: Setup) -> tuple[list[Cast], list[str]]:
    """Who speaks in each column, and what a reader should know about them. Raises BadInput."""
    found: list[Cast] = []
    notes: list[str] = []
    held_out = frozenset(setup.held_out) if setup.held_out is not None else known_held_out(setup)
    folder, _, only = setup.voices.partition(":")
    if setup.voices in ("held-out", "training"):
        found.append(SyntheticCast(held_out=setup.voices == "held-out"))
        notes.append(f"espeak-ng, {setup.voices} voices")
    elif setup.voices != "none":
        chosen = frozenset(filter(None, only.split(","))) or held_out
        named, about = load_casts([Path(folder)], chosen, name="")
        found, notes = [*found, *named], [*notes, *about]
    if setup.data:
        named, about = load_casts(setup.data, held_out)
        found, notes = [*found, *named], [*notes, *about]
    if not found:
        raise BadInput("--voices none: then somebody else must speak; add --data FOLDER")
    return found, notes


def known_held_out(setup: Setup) -> frozenset[str] | None:
    """The speakers that the checkpoint's note says training left out; None if it says nothing."""
    note = getattr(setup.mind, "note", None) or {}
    names = note.get("held_out") if isinstance(note, dict) else None
    return frozenset(map(str, names)) if names else None


def _suffix(name: str) -> str:
    return f"_{name}" if name else ""


def plain_setup(setup: Setup) -> Setup:
    """The same without what cannot travel to another process: the loaded foreground and the progress bar."""
    return Setup(**{**{f.name: getattr(setup, f.name) for f in fields(setup)}, "advance": _nothing})


def _nothing(done: int = 1, total: int | None = None) -> None:
    return None


def _one_thread() -> None:
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        pass


def task(reference: str) -> Callable[[Setup], Result]:
    """The `run(setup)` of the ItemTask at `reference`."""
    return partial(run, reference)
