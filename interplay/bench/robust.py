"""The real world: the agent's own voice in its microphone, and slices of sound that never come.

Both tasks play every item twice, with and without the trouble, so that what they report is the trouble's doing.
"""

from __future__ import annotations

import random

from interplay.bench.families import CUE, Ask
from interplay.bench.item import Due, Item, Tape, phrase_beats
from interplay.bench.people import Cast, SyntheticPerson, Unspoken
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player
from interplay.bench.score import judge, macro, match, share
from interplay.bench.speaking import CUE_WINDOW_S, cue_item, time_item
from interplay.bench.stage import Echo, Loss
from interplay.bench.stats import bootstrap

ECHO_DB = 10.0
ECHO_S = (0.02, 0.3)
LOSS = 0.05


def echo_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `chain` (two cues: what the agent says on the first is the second), `every` and `cue` as in TimeSpeak
    and CueSpeak. facts: the delay of the echo."""
    facts = {"echo_s": rng.uniform(*ECHO_S)}
    if category != "chain":
        plain = time_item("every", rng, cast) if category == "every" else cue_item("first", rng, cast)
        return Item(
            "echo", category, plain.audio, plain.words, plain.script, plain.expected, plain.allowed, facts
        )  # fmt: skip
    tape, person = Tape(rng, rng.uniform(0.2, 1.0)), cast.person(rng)
    for _ in range(60):
        first, one = person.ask(CUE, rng, lambda a: len(a.phrase) == 1)
        try:
            second, two = _cue_for(one.phrase[0], person, rng)
        except Unspoken:
            continue
        if len({one.cue, *one.phrase, *two.phrase}) < 2 + len(two.phrase):
            continue
        break
    else:
        raise Unspoken("two requests of which one is triggered by the other's response")
    tape.say(first)
    tape.say(second, rng.uniform(0.5, 0.9))
    asked_by = tape.words[-1][1]
    tape.say(person.chat(rng, one.cue, frozenset(one.phrase)), rng.uniform(0.6, 1.0))
    ends = [end for word, end in tape.words if word == one.cue and end > asked_by]
    due = Due(one.phrase, ends[0] + CUE_WINDOW_S[0], ends[0] + CUE_WINDOW_S[1])
    audio = tape.render(tape.time + 4.0)
    return Item("echo", "chain", audio, tuple(tape.words), phrase_beats(one.phrase, ends[0] + 0.5), due, (due,), facts)


def _cue_for(cue: str, person, rng: random.Random):
    """A request that is triggered by `cue`: found among recordings, or a synthetic one with its cue exchanged."""
    if not isinstance(person, SyntheticPerson):
        return person.ask(CUE, rng, lambda a: a.cue == cue)
    text, ask = CUE.write(rng)
    while cue in ask.phrase or len(ask.phrase) > 2 or ask.cue in ask.phrase:
        text, ask = CUE.write(rng)
    words = [cue if word == ask.cue else word for word in text.split()]
    return person.say(" ".join(words)), Ask("cue", ask.phrase, cue=cue)


def perform_echo(item: Item, player: Player) -> Row:
    """Reacted: words nobody asked for that were not there without the echo, or asked-for ones that the echo cost."""
    plain = player.play(item)
    run = player.play(item, echo=Echo(item.facts["echo_s"], ECHO_DB))
    (met, extra), (plain_met, plain_extra) = match(item.allowed, run.said), match(item.allowed, plain.said)
    spoke = bool(run.said)
    more = _beyond([w for w, _ in extra], [w for w, _ in plain_extra])
    persons = {word for word, _ in item.words}
    return {
        "category": item.category,
        "spoke": spoke,
        "reacted": spoke and bool(more),
        "lost": len(plain_met) > len(met),
        "right": spoke and not more,
        "extra": more,
        "right_plain": judge(item, plain).right,
        "right_echo": judge(item, run).right,
        "heard_itself": any(w in {s for s, _ in run.said} - persons for w in run.heard),
    }


def summarise_echo(rows: list[Row]) -> Summary:
    """ignore_rate over the items in which it spoke: who never speaks has no echo, and scores 0."""
    spoke = [row for row in rows if row["spoke"]]
    ignored, interval = share(spoke, "right")
    metrics = {
        "ignore_rate": ignored,
        "spoke_rate": share(rows, "spoke")[0],
        "lost_rate": share(spoke, "lost")[0],
        "heard_itself_rate": share(spoke, "heard_itself")[0],
        "accuracy": macro(rows, "right_echo")[0],
        "accuracy_without_echo": macro(rows, "right_plain")[0],
    }
    return metrics, {"ignore_rate": interval, "accuracy": macro(rows, "right_echo")[1]}


def missing_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `timespeak`, `cuespeak`: an item of that task, of one of its categories."""
    if category == "timespeak":
        item = time_item(rng.choice(("every", "in", "while_talking", "until_stop")), rng, cast)
    else:
        item = cue_item(rng.choice(("first", "later", "among_others")), rng, cast)
    facts = {"loss_seed": rng.randrange(1 << 31)}
    return Item(
        "missing", category, item.audio, item.words, item.script, item.expected, item.allowed, facts
    )  # fmt: skip


def perform_missing(item: Item, player: Player) -> Row:
    plain = judge(item, player.play(item))
    lossy = judge(item, player.play(item, loss=Loss(LOSS, item.facts["loss_seed"])))
    return {"category": item.category, "right": lossy.right, "right_plain": plain.right}


def summarise_missing(rows: list[Row]) -> Summary:
    """delta_points: the larger of the two tasks' losses in points of accuracy (negative: it gained)."""
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for category in dict.fromkeys(row["category"] for row in rows):
        group = [row for row in rows if row["category"] == category]
        losses = [100.0 * (row["right_plain"] - row["right"]) for row in group]
        name = f"delta_points_{category}"
        metrics[f"{category}_accuracy"] = 100 * share(group, "right_plain")[0]
        metrics[f"{category}_accuracy_missing"] = 100 * share(group, "right")[0]
        metrics[name], intervals[name] = sum(losses) / len(losses), bootstrap(losses)
    worst = max((key for key in metrics if key.startswith("delta_points_")), key=lambda key: metrics[key])
    return {"delta_points": metrics[worst], **metrics}, {"delta_points": intervals[worst], **intervals}


def _beyond(words: list[str], known: list[str]) -> list[str]:
    """The words that are not matched by one in `known`."""
    rest = list(known)
    more = []
    for word in words:
        if word in rest:
            rest.remove(word)
        else:
            more.append(word)
    return more


ECHO = ItemTask("echo", ("chain", "every", "cue"), echo_item, perform_echo, summarise_echo)
MISSING = ItemTask("missing", ("timespeak", "cuespeak"), missing_item, perform_missing, summarise_missing)
echo = task("interplay.bench.robust:ECHO")
missing = task("interplay.bench.robust:MISSING")
