"""TimeSpeak and CueSpeak: speech at a due time, speech on a cue, and nothing else.

The names and the all-or-nothing rule (one expected response, one window, macro average) are those of the Interaction
Models report (Thinking Machines Lab, 2026); its items are private, these are not them.
"""

from __future__ import annotations

import random

from interplay.bench.families import AFTER, CUE, EVERY, STOP, Ask
from interplay.bench.item import Due, Item, Tape, phrase_beats
from interplay.bench.people import Cast, Person, Unspoken
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player
from interplay.bench.score import judge, macro
from interplay.bench.stats import median, median_interval

TIME_WINDOW_S = (-0.6, 0.6)
CUE_WINDOW_S = (-0.2, 1.2)
STOP_S = 0.4  # two micro-turns: what is due this soon after the end of "stop" may still be said, and need not be


def time_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """TimeSpeak. category: `every`, `in`, `while_talking` (in N seconds, and the person talks on), `until_stop`."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.2)), cast.person(rng)
    repeated = category in ("every", "until_stop")
    longest = 5 if repeated else 8
    request, ask = person.ask(EVERY if repeated else AFTER, rng, lambda a: 2 <= a.seconds <= longest)
    end = tape.say(request)[-1][1]
    n = ask.seconds

    def due(k: int) -> Due:
        return Due(ask.phrase, end + k * n + TIME_WINDOW_S[0], end + k * n + TIME_WINDOW_S[1])

    if not repeated:
        if category == "while_talking":
            talk_until(tape, person, end + n + 2.0, ask)
        length = tape.time + max(2.0, end + n + 2.0 - tape.time)
        return _timed("timespeak", category, tape, length, due(1), (due(1),))
    count = rng.randint(1, 3)
    if category == "until_stop":
        stop, _ = person.ask(STOP, rng)
        # The word falls between two due times, so that it is clear which of them it cancels. A person who is slow to
        # say it has begun before the next one is due.
        tape.say(stop, max(end + (count + 0.3) * n - tape.time, 0.1))
        stopped = tape.words[-1][1]
        asked = [due(k) for k in range(1, 60) if end + k * n < stopped + STOP_S]
        expected = max((d for d in asked if d.end - TIME_WINDOW_S[1] < stopped), key=lambda d: d.end)
        return _timed("timespeak", category, tape, tape.time + 2 * n + 1, expected, tuple(asked))
    length = tape.time + count * n + 1.5
    asked = tuple(due(k) for k in range(1, 60) if due(k).start < length + 3)
    return _timed("timespeak", category, tape, length, asked[count - 1], asked)


def cue_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """CueSpeak: the cue comes inside running speech. category: `first` (the first cue counts), `later` (the second),
    `among_others` (it counts that speech without the cue stays unanswered before it)."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.2)), cast.person(rng)
    before = {"first": 0, "later": 0, "among_others": 2}[category]
    for _ in range(40):
        request, ask = person.ask(CUE, rng)
        plan = [None] * before + [ask.cue] + [None] * rng.randint(0, 1)
        plan += [ask.cue, None] if category == "later" else [None]
        try:
            sentences = [person.chat(rng, want, frozenset((ask.cue, "stop"))) for want in plan]
            break
        except Unspoken:
            continue
    else:
        raise Unspoken("chatter with the cue of a recorded request in it")
    tape.say(request)
    first = len(tape.words)
    for sentence in sentences:
        tape.say(sentence, rng.choice((0.3, 0.6, 1.0)))
    ends = [end for word, end in tape.words[first:] if word == ask.cue]
    asked = tuple(Due(ask.phrase, end + CUE_WINDOW_S[0], end + CUE_WINDOW_S[1]) for end in ends)
    expected = asked[1 if category == "later" else 0]
    return _timed("cuespeak", category, tape, tape.time + 2.0, expected, asked)


def talk_until(tape: Tape, person: Person, until: float, ask: Ask) -> None:
    """The person chats until about `until`."""
    gap = tape.rng.uniform(0.3, 1.0)
    while tape.time + gap < until - 1.5:
        tape.say(person.chat(tape.rng, None, frozenset((ask.cue, "stop"))), gap)
        gap = tape.rng.choice((0.2, 0.5, 1.0))


def perform(item: Item, player: Player) -> Row:
    verdict = judge(item, player.play(item))
    middle = 0.5 if item.task == "cuespeak" else 0.0  # CueSpeak's window runs from -0.2 to 1.2 s after the cue
    return {
        "category": item.category,
        "right": verdict.right,
        "hit": verdict.hit,
        "extra": list(verdict.extra),
        "complete": verdict.complete and not verdict.extra,
        "onset_s": verdict.onset_s + middle if verdict.hit else None,
    }


def summarise(rows: list[Row]) -> Summary:
    value, interval = macro(rows)
    onsets = [row["onset_s"] for row in rows if row["hit"]]
    metrics = {
        "macro_accuracy": value,
        "hit_rate": 100 * sum(row["hit"] for row in rows) / len(rows),
        "extra_rate": 100 * sum(bool(row["extra"]) for row in rows) / len(rows),
        "all_responses_rate": 100 * sum(row["complete"] for row in rows) / len(rows),
        "onset_median_s": median(onsets),
    }
    return metrics, {"macro_accuracy": interval, "onset_median_s": median_interval(onsets)}


def _timed(task: str, category: str, tape: Tape, length: float, expected: Due, allowed: tuple[Due, ...]) -> Item:
    script = tuple(beat for due in allowed for beat in phrase_beats(due.phrase, (due.start + due.end) / 2))
    return Item(task, category, tape.render(length), tuple(tape.words), script, expected, allowed)


TIMESPEAK = ItemTask("timespeak", ("every", "in", "while_talking", "until_stop"), time_item, perform, summarise)
CUESPEAK = ItemTask("cuespeak", ("first", "later", "among_others"), cue_item, perform, summarise)
timespeak = task("interplay.bench.speaking:TIMESPEAK")
cuespeak = task("interplay.bench.speaking:CUESPEAK")
