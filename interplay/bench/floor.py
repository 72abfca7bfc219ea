"""Who has the floor while the agent talks: it stops for the person, and for nothing else.

The agent is set talking by a request (count, tell a story); what happens then depends on when it really talks. The
four situations are those of Full-Duplex-Bench v1.5 (Lin et al., 2025): interruption, backchannel, talking to others,
background sound; the time to silence is measured on the sound, with its merging of gaps of up to half a second.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from interplay.bench.families import AFTER, BACKCHANNEL, COUNT, HUSH, NAMED, SUM, TELL, Ask
from interplay.bench.item import WORD_S, Due, Item, Reaction, Tape, phrase_beats
from interplay.bench.mixing import level
from interplay.bench.noises import band_limited, noise
from interplay.bench.people import Cast, Person, Unspoken, Utterance
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player, Run
from interplay.bench.score import contains, judge, share
from interplay.bench.speaking import TIME_WINDOW_S
from interplay.bench.stage import ENVELOPE_S
from interplay.bench.stats import bootstrap, mean
from interplay.core.types import INPUT_RATE, MICRO_TURN_S

AUDIBLE_RMS = 0.005  # -46 dBFS; the voice speaks at -20
GAP_S = 0.5  # Full-Duplex-Bench merges the agent's speech over gaps of this length
STOP_S = 1.5  # silent this soon after the person begins, or it did not stop
START_S = 4.0  # the agent begins to talk this soon after the request, or there is nothing to interrupt
HOLD_S = 1.2  # between two words of speech that goes on
OTHERS_DB = (-12.0, -6.0)


def talking(tape: Tape, person: Person, rng: random.Random) -> tuple[Ask, float, tuple[tuple[float, str], ...]]:
    """Have the person set the agent talking: the words it should say, the second at which the request is complete,
    what is typed.

    Where nobody recorded such a request, it is typed, after something else the person says: who never heard the person
    cannot tell the person from others."""
    family = rng.choice((COUNT, TELL))
    try:
        request, ask = person.ask(family, rng)
        return ask, tape.say(request)[-1][1], ()
    except Unspoken:
        text, ask = family.write(rng)
        with contextlib.suppress(Unspoken):
            tape.say(person.chat(rng))
        at = tape.time + 0.6
        read_by = at + MICRO_TURN_S * len(text.split())  # words of a message reach the model one per micro-turn
        return ask, read_by, ((at, text),)


def floor_item(
    name: str, category: str, rng: random.Random, person: Person, sound: Utterance | np.ndarray, answer: Ask
) -> Item:
    """The agent is set talking; `sound` comes a while after its first word."""
    tape = Tape(rng, rng.uniform(0.2, 1.0))
    ask, said_by, typed = talking(tape, person, rng)
    delay = rng.uniform(0.8, 1.8 if len(ask.phrase) < 20 else 4.0)
    audio, words = (sound, ()) if isinstance(sound, np.ndarray) else (sound.audio, sound.words)
    seconds = words[-1][1] if words else len(audio) / INPUT_RATE
    start = said_by + 0.4
    script = phrase_beats(ask.phrase, start)
    after_s = len(ask.phrase) * 0.45 + 3.0
    if name == "interruption":
        script = tuple(beat for beat in script if beat.t < start + delay + 0.15)
        script += phrase_beats(answer.phrase, start + delay + seconds + 0.4)
        after_s = 4.0
    reaction = Reaction(audio, words, delay, said_by - 0.2, said_by + START_S, after_s)
    facts = {"from": said_by - 0.2, "phrase": ask.phrase, "sound_s": seconds, "answer": answer.phrase}
    tape_audio = tape.render(reaction.longest_s)
    return Item(name, category, tape_audio, tuple(tape.words), script, facts=facts, reaction=reaction, typed=typed)


# --- interruption -------------------------------------------------------------------------------------------------


def interruption_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `hush` ("wait a moment", "stop") or `question` (the person wants something else)."""
    person = cast.person(rng)
    sound, answer = person.ask(HUSH if category == "hush" else SUM, rng, lambda a: len(a.phrase) <= 4)
    return floor_item("interruption", category, rng, person, sound, answer)


def perform_interruption(item: Item, player: Player) -> Row:
    run = player.play(item)
    row: Row = {"category": item.category, "spoke": _spoke(run), "right": False, "latency_s": None, "answered": None}
    if not row["spoke"] or run.reacted_s is None:
        return row
    begin, end = run.reacted_s, run.reacted_s + item.facts["sound_s"]
    quiet = silent_from(run.envelope, begin)
    before = [word for word, t in run.said if item.facts["from"] < t <= quiet]
    finished = contains(before, item.facts["phrase"])
    talked_on = any(quiet < t < end for _, t in run.said)
    row["right"] = quiet - begin <= STOP_S and not finished and not talked_on
    row["latency_s"] = quiet - begin if row["right"] else None
    if item.facts["answer"]:
        row["answered"] = contains([w for w, t in run.said if t >= end - 0.2], item.facts["answer"])
    row["resumed"] = contains([w for w, t in run.said if t >= quiet], item.facts["phrase"][-3:])
    return row


def summarise_interruption(rows: list[Row]) -> Summary:
    stopped, interval = share(rows, "right")
    latencies = [row["latency_s"] for row in rows if row["right"]]
    metrics = {"stop_rate": stopped, "stop_latency_s": mean(latencies), "spoke_rate": share(rows, "spoke")[0]}
    asked = [row for row in rows if row["answered"] is not None]
    if asked:
        metrics["answer_rate"] = share(asked, "answered")[0]
    return metrics, {"stop_rate": interval, "stop_latency_s": bootstrap(latencies)}


# --- backchannel, noise, side talk --------------------------------------------------------------------------------


def backchannel_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """The person says a backchannel ("mhm", "right") while the agent counts or tells something."""
    person = cast.person(rng)
    sound, _ = person.ask(BACKCHANNEL, rng)
    return floor_item("backchannel", category, rng, person, sound, Ask("backchannel"))


def noise_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `while_speaking`, or `while_waiting` for the time of a reminder."""
    person = cast.person(rng)
    _, sound = noise(rng)
    if category == "while_speaking":
        return floor_item("noise", category, rng, person, sound, Ask("noise"))
    return waiting_item("noise", category, rng, person, lambda: [noise(rng)[1] for _ in range(2)])


def side_talk_item(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `second_voice` and `radio` (both while the agent waits for the time of a reminder), `named` (the person
    talks to somebody else), `while_speaking` (a second voice while the agent talks)."""
    person = cast.person(rng)
    other = cast.person(rng, other_than=person)

    def heard() -> list[np.ndarray]:
        if category == "named":
            return [person.ask(NAMED, rng)[0].audio]
        if category == "radio":
            return [level(band_limited(other.chat(rng).audio), rng.uniform(*OTHERS_DB)) for _ in range(2)]
        return [other.ask(NAMED, rng)[0].at(rng.uniform(*OTHERS_DB)).audio]

    if category == "while_speaking":
        return floor_item("side_talk", category, rng, person, heard()[0], Ask("side_talk"))
    return waiting_item("side_talk", category, rng, person, heard)


def waiting_item(
    name: str, category: str, rng: random.Random, person: Person, sounds: Callable[[], list[np.ndarray]]
) -> Item:
    """A reminder is asked for; `sounds()` are heard before it is due, and must not be answered."""
    tape = Tape(rng, rng.uniform(0.2, 1.0))
    parts: list[np.ndarray] = sounds()
    need = sum(len(part) for part in parts) / INPUT_RATE + 0.6 * len(parts)
    request, ask = person.ask(AFTER, rng, lambda a: min(need + 0.8, 6.0) <= a.seconds <= 15)
    end = tape.say(request)[-1][1]
    at = end + 0.7
    for part in parts:
        tape.overlay(part, at)
        at += len(part) / INPUT_RATE + rng.uniform(0.2, 0.6)
    due = end + ask.seconds
    window = Due(ask.phrase, due + TIME_WINDOW_S[0], due + TIME_WINDOW_S[1])
    audio = tape.render(max(due, at) + 2.5)
    return Item(name, category, audio, tuple(tape.words), phrase_beats(ask.phrase, due), window, (window,))


def perform_keeping(item: Item, player: Player) -> Row:
    run = player.play(item)
    moved = None
    if item.expected is not None:
        verdict = judge(item, run)
        ignored, done = not verdict.extra, verdict.hit
    else:
        done = _spoke(run)
        ignored = done and kept(item, run)
        if done and item.reaction is not None:
            nothing = replace(item.reaction, audio=np.zeros_like(item.reaction.audio))
            moved = not _same_after(run, player.play(replace(item, reaction=nothing)))
    # One thing to ignore, one to do: only both together are right.
    return {"category": item.category, "ignored": ignored, "done": done, "right": ignored and done, "moved": moved}


def _same_after(run: Run, calm: Run) -> bool:
    """Did the agent go on as in `calm`, the same session in which no sound came? Four fifths of the words the same, in
    order, and no hole. What it had understood, and so what it says, may be wrong: that is for `kept` to judge."""
    assert run.reacted_s is not None
    after, rest = _after(run, run.reacted_s), [word for word, _ in _after(calm, run.reacted_s)]
    same = _common(rest, [word for word, _ in after])
    return same >= 0.8 * max(len(rest), len(after)) and _steady(after, run.reacted_s)


def _after(run: Run, since: float) -> list[tuple[str, float]]:
    return [(word, t) for word, t in run.said if t > since]


def _steady(after: list[tuple[str, float]], since: float) -> bool:
    """Is there no hole between `since` and the last of these words?"""
    holes = [b - a for a, b in pairwise([since, *(t for _, t in after)])]
    return max(holes, default=0.0) <= HOLD_S


def kept(item: Item, run: Run) -> bool:
    """Did the agent go on? At least four fifths of what was left came, in order, without a hole and nothing else."""
    assert run.reacted_s is not None
    phrase = item.facts["phrase"]
    before = sum(item.facts["from"] < t <= run.reacted_s for _, t in run.said)
    after = _after(run, run.reacted_s)
    rest = phrase[before:]
    found = _common(rest, [word for word, _ in after])
    return (
        found >= 0.8 * len(rest)
        and all(word in phrase for word, _ in after)
        and _steady(after, run.reacted_s)
    )  # fmt: skip


def _summary(rate: str) -> Callable[[list[Row]], Summary]:
    def summarise(rows: list[Row]) -> Summary:
        key = "ignored" if rate == "ignore_rate" else "right"
        value, interval = share(rows, key)
        done, done_interval = share(rows, "done")
        both, both_interval = share(rows, "right")
        metrics, intervals = {rate: value, "done_rate": done}, {rate: interval, "done_rate": done_interval}
        if key != "right":
            metrics["both_rate"], intervals["both_rate"] = both, both_interval
        talked = [{**row, "unmoved": not row["moved"]} for row in rows if row["moved"] is not None]
        if talked:
            metrics["unmoved_rate"], intervals["unmoved_rate"] = share(talked, "unmoved")
        return metrics, intervals

    return summarise


# --- measuring ----------------------------------------------------------------------------------------------------


def silent_from(envelope: np.ndarray, begin: float) -> float:
    """The second from which the agent's voice is silent for at least half a second, not before `begin`."""
    first, gap = int(begin / ENVELOPE_S), int(GAP_S / ENVELOPE_S)
    loud = np.flatnonzero(envelope[first:] > AUDIBLE_RMS)
    last = -1
    for frame in loud:
        if frame - last > gap:
            break
        last = int(frame)
    return max(begin, (first + last + 1) * ENVELOPE_S)


def _spoke(run: Run) -> bool:
    """Was the agent talking when the reaction came?"""
    if run.reacted_s is None:
        return False
    return any(run.reacted_s - 2 * WORD_S <= t <= run.reacted_s + 0.1 for _, t in run.said)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for a in one:
        previous = 0
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], previous + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


INTERRUPTION = ItemTask(
    "interruption", ("hush", "question"), interruption_item, perform_interruption, summarise_interruption
)
BACKCHANNEL_TASK = ItemTask(
    "backchannel", ("while_speaking",), backchannel_item, perform_keeping, _summary("keep_rate")
)  # fmt: skip
NOISE = ItemTask("noise", ("while_speaking", "while_waiting"), noise_item, perform_keeping, _summary("keep_rate"))
SIDE_TALK = ItemTask(
    "side_talk",
    ("second_voice", "named", "radio", "while_speaking"),
    side_talk_item,
    perform_keeping,
    _summary("ignore_rate"),
)
interruption = task("interplay.bench.floor:INTERRUPTION")
backchannel = task("interplay.bench.floor:BACKCHANNEL_TASK")
noise_task = task("interplay.bench.floor:NOISE")
side_talk = task("interplay.bench.floor:SIDE_TALK")
