"""Elapsed time: a stopwatch by voice. How far off is the number of seconds that the agent says?"""

from __future__ import annotations

import random

from interplay.bench.families import CLOCK, ELAPSED
from interplay.bench.item import Item, Tape, phrase_beats
from interplay.bench.people import Cast
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player
from interplay.bench.score import share
from interplay.bench.stats import bootstrap, mean
from interplay.bench.wording import number_words, spoken_number

ANSWER_S = (-0.2, 3.0)  # the answer's words are audible this far around the end of the question


def make(category: str, rng: random.Random, cast: Cast) -> Item:
    """ "The time starts now" ... "how long was it". category: `quiet` or `talking` in between."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.2)), cast.person(rng)
    begin, _ = person.ask(CLOCK, rng)
    ask, _ = person.ask(ELAPSED, rng)
    start = tape.say(begin)[-1][1]
    wait = rng.uniform(1.5, 14.0)
    if category == "talking":
        while tape.time < start + wait - 2.0:
            tape.say(person.chat(rng), rng.uniform(0.3, 1.5))
    end = tape.say(ask, max(start + wait - tape.time, 0.3))[-1][1]
    true = end - start
    script = phrase_beats((*number_words(round(true)), "seconds"), end + 0.8)
    audio = tape.render(end + ANSWER_S[1])
    return Item("elapsed", category, audio, tuple(tape.words), script, facts={"end": end, "true": true})


def perform(item: Item, player: Player) -> Row:
    run = player.play(item)
    end, true = item.facts["end"], item.facts["true"]
    answer = tuple(word for word, t in run.said if end + ANSWER_S[0] <= t <= end + ANSWER_S[1])
    value = spoken_number(answer)
    return {
        "category": item.category,
        "true_s": round(true, 2),
        "said_s": value,
        "answered": value is not None,
        "error_s": abs((value or 0) - true),
        "right": value is not None and abs(value - true) <= 1.0,
        "early": any(t < end + ANSWER_S[0] for _, t in run.said),
    }


def summarise(rows: list[Row]) -> Summary:
    """No answer counts as "zero seconds": who says nothing is off by all of it."""
    errors = [row["error_s"] for row in rows]
    answered, answered_interval = share(rows, "answered")
    within, within_interval = share(rows, "right")
    metrics = {
        "mae_s": mean(errors),
        "answered_mae_s": mean([row["error_s"] for row in rows if row["answered"]]),
        "answer_rate": answered,
        "within_1s_rate": within,
        "early_rate": share(rows, "early")[0],
    }
    intervals = {"mae_s": bootstrap(errors), "answer_rate": answered_interval, "within_1s_rate": within_interval}
    return metrics, intervals


TASK = ItemTask("elapsed", ("quiet", "talking"), make, perform, summarise)
elapsed = task("interplay.bench.elapsed:TASK")
