"""Delegation: hand over what cannot be done alone, at once, and nothing else."""

from __future__ import annotations

import random

from interplay.bench.families import AFTER, CUE, NAMED, OPEN, REPEAT, SUM, TELL
from interplay.bench.item import Beat, Item, Tape, phrase_beats
from interplay.bench.people import Cast
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player
from interplay.bench.score import share
from interplay.bench.stats import bootstrap, mean

WINDOW_S = (-0.3, 2.0)  # a delegation counts this far around the end of the question
IN_TIME_S = 0.4
OWN = (SUM, REPEAT, AFTER, CUE, TELL)  # what it can do itself


def make(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `open` (must be delegated), `own` (can be done without), `chatter`, `aside` (to somebody else)."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.2)), cast.person(rng)
    family = {"open": OPEN, "aside": NAMED}.get(category)
    if category == "own":
        family = rng.choice(OWN)
    sentence = person.ask(family, rng)[0] if family is not None else person.chat(rng)
    if rng.random() < 0.4:
        tape.say(person.chat(rng))
        tape.time += rng.uniform(0.5, 1.2)
    end = tape.say(sentence)[-1][1]
    script = (Beat(end + 0.2, action="delegate"), *phrase_beats(("one", "moment"), end + 0.4))
    facts = {"end": end}
    return Item(
        "delegation",
        category,
        tape.render(end + 1.5),
        tuple(tape.words),
        script if category == "open" else (),
        facts=facts,
    )


def perform(item: Item, player: Player) -> Row:
    run = player.play(item)
    end = item.facts["end"]
    times = [t - end for name, t in run.actions if name == "delegate"]
    if item.category != "open":
        return {"category": item.category, "positive": False, "delegated": bool(times), "right": not times}
    hit = next((t for t in times if WINDOW_S[0] <= t <= WINDOW_S[1]), None)
    early = any(t < WINDOW_S[0] for t in times)
    return {
        "category": item.category,
        "positive": True,
        "delegated": hit is not None and not early,
        "right": hit is not None and not early,
        "latency_s": max(hit, 0.0) if hit is not None and not early else None,
        "in_time": hit is not None and not early and hit <= IN_TIME_S,
        "acknowledged": any(end - 0.2 <= t <= end + 2.0 for _, t in run.said),
    }


def summarise(rows: list[Row]) -> Summary:
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    positive = [row for row in rows if row["positive"]]
    negative = [row for row in rows if not row["positive"]]
    if positive:
        latencies = [row["latency_s"] for row in positive if row["right"]]
        metrics["recall"], intervals["recall"] = share(positive, "right")
        metrics["latency_s"], intervals["latency_s"] = mean(latencies), bootstrap(latencies)
        metrics["in_time_rate"], intervals["in_time_rate"] = share(positive, "in_time")
        metrics["acknowledged_rate"] = share(positive, "acknowledged")[0]
    if negative:
        metrics["false_rate"], intervals["false_rate"] = share(negative, "delegated")
    return metrics, intervals


# Every second item is one that must be delegated.
TASK = ItemTask("delegation", ("open", "own", "open", "chatter", "open", "aside"), make, perform, summarise)
delegation = task("interplay.bench.delegation:TASK")
