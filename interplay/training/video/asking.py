"""What a person can ask of eyes, in words, and the words that answer."""

from __future__ import annotations

import random
from dataclasses import dataclass

from interplay.training.video.sprites import COLOURS, SHAPES

ONES = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
MOST = len(ONES)  # repetitions that are counted in one scene

# movement -> names for many of it, and what somebody or something does who is at it
NOUNS = {
    "jacks": ("jumping jacks", "jacks"),
    "jumps": ("jumps",),
    "squats": ("squats",),
    "raises": ("arm raises", "raises"),
    "waves": ("waves",),
    "bounces": ("bounces",),
    "swings": ("swings",),
    "turns": ("turns",),
}
CLAUSES = {
    "jacks": ("they do jumping jacks", "somebody does jumping jacks"),
    "jumps": ("they jump", "somebody jumps"),
    "squats": ("they squat", "somebody does squats"),
    "raises": ("the arm moves", "they raise an arm"),
    "waves": ("they wave", "somebody waves"),
    "bounces": ("the ball bounces", "the ball is bouncing"),
    "swings": ("the pendulum swings", "the pendulum is swinging"),
    "turns": ("the square turns", "the square is turning"),
}
COUNT = (
    "count the {n}", "count my {n}", "please count the {n}", "count out loud the {n}", "count how many {n} you see",
    "please count out reps for {n}", "can you count the {n}", "count all the {n}", "i want you to count the {n}",
    "count {n} for me", "tell me the number of {n} you see", "count every one of the {n}", "keep count of the {n}",
)  # fmt: skip
COUNT_ANY = (
    "count the repetitions", "count my reps", "please count along", "count what you see", "i want you to count",
    "can you count along", "keep count for me", "count each repetition out loud",
)  # fmt: skip
START_STOP = (
    "say start and stop when {c}", "please say start and stop when {c}", "tell me start and stop when {c}",
    "say start when {c} and stop when it is over", "can you say start and stop when {c}",
    "when {c} say start and stop", "say start when {c} and say stop when it is over",
    "i want you to say start and stop when {c}", "when {c} say start and say stop when it ends",
)  # fmt: skip
APPEARS = (
    "say {w} when you see {o}", "when you see {o} say {w}", "say {w} when {o} appears", "tell me {w} when {o} appears",
    "whenever you see {o} say {w}", "please say {w} when you see {o}", "when {o} appears say {w}",
    "can you say {w} when {o} appears", "i want you to say {w} when you see {o}", "say {w} each time {o} comes in",
)  # fmt: skip
LEAVES = (
    "say {w} when {o} leaves", "when {o} leaves say {w}", "say {w} when {o} goes away", "when {o} is gone say {w}",
    "please say {w} when {o} leaves", "can you say {w} when {o} is gone", "when {o} goes away say {w}",
    "i want you to say {w} when {o} leaves", "tell me {w} when {o} is gone",
)  # fmt: skip
_NAMES = (
    "say the {k}s", "tell me the {k}s", "say every {k} you see", "please name each {k}",
    "name the {k} of everything you see", "can you say the {k}s you see", "i want you to name every {k}",
    "name the {k}s",
)  # fmt: skip
NAME_COLOUR, NAME_SHAPE = (
    (f"name every {kind} you see", own, *(name.format(k=kind) for name in _NAMES))
    for kind, own in (
        ("colour", "say the colour of everything that appears"), ("shape", "say the name of each shape that appears"),
    )
)  # fmt: skip
NOTHING_SEEN = (
    "be quiet and watch", "you are a friendly helper", "just listen", "keep quiet until i ask",
    "say hello every minute", "when i say apple say banana",
)  # fmt: skip
ANSWERS = (
    "hello", "bingo", "there", "now", "okay", "look", "ready", "ding", "again", "great", "yes", "apple", "water",
    "lion", "music", "window",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to watch for something. kind: count, startstop, appears, leaves, name_colour or name_shape.

    what: the movement to count or to watch, "" for any. colour, shape: of the thing, "" for any. answer: the word to
    say (start/stop, counts and names are clear without one).
    """

    kind: str
    words: tuple[str, ...]
    what: str = ""
    colour: str = ""
    shape: str = ""
    answer: str = ""


def _phrasing(rng: random.Random, options: tuple[str, ...], held_out: bool) -> str:
    """The last way of saying something is never used in training."""
    return options[-1] if held_out else rng.choice(options[:-1])


def ask_count(rng: random.Random, what: str, *, held_out: bool = False) -> Ask:
    """Count this movement; one time in five the words do not say which."""
    if rng.random() < 0.2:
        return Ask("count", tuple(_phrasing(rng, COUNT_ANY, held_out).split()))
    return Ask("count", tuple(_phrasing(rng, COUNT, held_out).format(n=rng.choice(NOUNS[what])).split()), what)


def ask_start_stop(rng: random.Random, what: str, *, held_out: bool = False) -> Ask:
    """Say when this movement begins and ends."""
    text = _phrasing(rng, START_STOP, held_out).format(c=rng.choice(CLAUSES[what]))
    return Ask("startstop", tuple(text.split()), what)


def ask_thing(rng: random.Random, kind: str, colour: str, shape: str, *, held_out: bool = False) -> Ask:
    """Watch for a thing of this colour, this shape, or both ("" for any); kind: appears or leaves."""
    if colour and shape:
        thing = f"a {colour} {shape}" if kind == "appears" else f"the {colour} {shape}"
    elif colour:
        thing = rng.choice((f"something {colour}", colour)) if kind == "appears" else f"the {colour} one"
    else:
        thing = f"a {shape}" if kind == "appears" else f"the {shape}"
    thing = thing.replace("a orange", "an orange")
    names = [word for word in (colour, shape) if word]
    answer = rng.choice(names) if rng.random() < 0.5 else rng.choice(ANSWERS)
    template = _phrasing(rng, APPEARS if kind == "appears" else LEAVES, held_out)
    return Ask(kind, tuple(template.format(w=answer, o=thing).split()), "", colour, shape, answer)


def ask_names(rng: random.Random, kind: str, *, held_out: bool = False) -> Ask:
    """Name the colour, or the shape, of everything that appears."""
    options = NAME_COLOUR if kind == "name_colour" else NAME_SHAPE
    return Ask(kind, tuple(_phrasing(rng, options, held_out).split()))


def words() -> list[str]:
    """Every word that these scenes can say or be asked with, sorted: what a vocabulary needs to have."""
    found = {*ONES, *COLOURS, *SHAPES, *ANSWERS, "a", "an", "start", "stop", "something", "the", "one"}
    clauses = [clause for group in (*NOUNS.values(), *CLAUSES.values()) for clause in group]
    templates = (*COUNT, *COUNT_ANY, *START_STOP, *APPEARS, *LEAVES, *NAME_COLOUR, *NAME_SHAPE, *NOTHING_SEEN, *clauses)
    for template in templates:
        found.update(word for word in template.split() if "{" not in word)
    return sorted(found)
