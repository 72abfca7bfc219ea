"""Whose turn is it: taking the turn when the person yields it, and waiting while the person only thinks.

Take-over rate and latency follow Full-Duplex-Bench v1 (Lin et al., 2025): speech of the agent counts, its content does
not; backchannels are no take-over; the latency is averaged over items with one and never negative.
"""

from __future__ import annotations

import random

from interplay.bench.families import FACT, OPEN, PRODUCT, REPEAT, STATEMENT, SUM, THINKING
from interplay.bench.item import Item, Tape, phrase_beats
from interplay.bench.people import Cast
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player
from interplay.bench.score import contains, share, talk
from interplay.bench.stats import bootstrap, mean

EARLY_S = 0.2  # a word that begins this shortly before the person has quite finished is no interruption
LATE_S = 2.0
ASKS = {"sum": SUM, "product": PRODUCT, "fact": FACT, "repeat": REPEAT, "open_question": OPEN}
PAUSES = {"question": SUM, "request": REPEAT, "statement": STATEMENT, "thinking_aloud": THINKING}


def turn_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """A sentence or none, then something to answer, then silence."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.2)), cast.person(rng)
    question, ask = person.ask(ASKS[category], rng, lambda a: len(a.phrase) <= 4)
    if rng.random() < 0.5:
        tape.say(person.chat(rng))
        tape.time += rng.uniform(0.5, 1.2)
    end = tape.say(question)[-1][1]
    script = phrase_beats(ask.phrase or ("okay", "one", "moment"), end + 0.3)
    facts = {"end": end, "phrase": ask.phrase}
    return Item("turn_taking", category, tape.render(end + 2.0), tuple(tape.words), script, facts=facts)


def perform_turn(item: Item, player: Player) -> Row:
    run = player.play(item)
    end = item.facts["end"]
    early = talk(run.said, 0.0, end - EARLY_S)
    words = talk(run.said, end - EARLY_S, end + LATE_S)
    taken = bool(words) and not early
    return {
        "category": item.category,
        "right": taken,
        "early": bool(early),
        "latency_s": max(words[0][1] - end, 0.0) if taken else None,
        "content": taken and contains([w for w, t in run.said if t >= end - EARLY_S], item.facts["phrase"]),
    }


def summarise_turn(rows: list[Row]) -> Summary:
    taken, interval = share(rows, "right")
    latencies = [row["latency_s"] for row in rows if row["right"]]
    content, content_interval = share(rows, "content")
    metrics = {
        "take_rate": taken,
        "latency_s": mean(latencies),
        "right_answer_rate": content,
        "early_rate": share(rows, "early")[0],
    }
    return metrics, {"take_rate": interval, "latency_s": bootstrap(latencies), "right_answer_rate": content_interval}


def pause_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """A sentence that stops in the middle for 0.8-2.2 s, at a place where it cannot be over."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.2)), cast.person(rng)
    sentence, ask = person.ask(PAUSES[category], rng)
    after = ask.pause
    length = rng.uniform(0.8, 2.2)
    begin = tape.time
    words = tape.say(sentence.paused(after, length))
    pause, end = words[after][1], words[-1][1]
    answers = category in ("question", "request")
    script = phrase_beats(ask.phrase, end + 0.3) if answers else ()
    facts = {"begin": begin, "pause": pause, "end": end, "phrase": ask.phrase, "answers": answers}
    return Item("pauses", category, tape.render(end + 2.0), tuple(tape.words), script, facts=facts)


def perform_pause(item: Item, player: Player) -> Row:
    run = player.play(item)
    begin, end = item.facts["begin"], item.facts["end"]
    taken = bool(talk(run.said, begin, end - EARLY_S))
    after = talk(run.said, end - EARLY_S, end + LATE_S)
    answered = bool(after) and not taken if item.facts["answers"] else None
    # After a statement nothing is due; an answer to it is a matter of taste, not of taking the turn wrongly.
    right = not taken and answered is not False
    return {"category": item.category, "right": right, "taken": taken, "answered": answered}


def summarise_pause(rows: list[Row]) -> Summary:
    """take_rate: wrongly, so low is good; answer_rate (after questions and requests) shows that it was not asleep."""
    taken, interval = share(rows, "taken")
    asked = [row for row in rows if row["answered"] is not None]
    metrics, intervals = {"take_rate": taken}, {"take_rate": interval}
    if asked:
        metrics["answer_rate"], intervals["answer_rate"] = share(asked, "answered")
        metrics["right_rate"], intervals["right_rate"] = share(rows, "right")
    return metrics, intervals


TURN_TAKING = ItemTask("turn_taking", tuple(ASKS), turn_item, perform_turn, summarise_turn)
PAUSES_TASK = ItemTask("pauses", tuple(PAUSES), pause_item, perform_pause, summarise_pause)
turn_taking = task("interplay.bench.turns:TURN_TAKING")
pauses = task("interplay.bench.turns:PAUSES_TASK")
