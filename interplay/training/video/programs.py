"""Scene programs for the eyes: what is asked, what is to be seen, and the words that are due, exactly timed.

Each program returns a `Picture`: frames and words, no sound. `scenes.py` puts chatter or a spoken request
to it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from interplay.core.types import MICRO_TURN_S
from interplay.training.video.asking import (
    CLAUSES,
    MOST,
    NOTHING_SEEN,
    NOUNS,
    ONES,
    Ask,
    ask_count,
    ask_names,
    ask_start_stop,
    ask_thing,
)
from interplay.training.video.figures import MOVEMENTS, Doing, bystander, somebody
from interplay.training.video.film import Actor, Conditions, Pole, film
from interplay.training.video.rhythm import NOTHING, Rhythm, Stroke, join, repetitions
from interplay.training.video.seen import of_movements, of_things
from interplay.training.video.sprites import (
    COLOURS,
    SHAPES,
    Ball,
    Pendulum,
    Stay,
    Turning,
    any_colour,
    drifter,
    shade,
)
from interplay.training.video.textures import backdrop

OBJECTS = ("bounces", "swings", "turns")
SPOKEN_S, SPOKEN_WORD_S = 1.2, 0.36  # room for a spoken request: slow speech
STILL_S = 0.2  # a movement is over when it has not gone on for this long


@dataclass(frozen=True, slots=True)
class Picture:
    """What the eyes get and what is due. frames: uint8 (turns, 80, 80, 3). said: (turn, word), at most one per turn.

    ask: what was asked for, None for nothing. times: seconds of the events behind `said`: ends of repetitions, starts
    and ends of bouts, appearances. program: its name. seen: float32, what is there in every micro-turn (`seen.py`).
    """

    frames: np.ndarray
    said: tuple[tuple[int, str], ...]
    ask: Ask | None
    times: tuple[float, ...]
    program: str
    seen: np.ndarray


@dataclass(frozen=True, slots=True)
class Setting:
    """What a program is given. spoken: the request is spoken when the scene begins, and takes its time.

    held_out: with bodies, backgrounds, shades and phrasings that training never has. plain: a steady camera, a wall
    behind, nothing in the way: where it is learnt first what is asked for.
    known_words: asked as in training, even if the rest is held out.
    """

    rng: random.Random
    turns: int
    spoken: bool = False
    held_out: bool = False
    plain: bool = False
    known_words: bool = False

    @property
    def new_words(self) -> bool:
        """Whether the request is worded as training never does."""
        return self.held_out and not self.known_words

    @property
    def seconds(self) -> float:
        return self.turns * MICRO_TURN_S

    def begin(self, ask: Ask) -> float:
        """Second from which on something may happen: the request is over by then."""
        return SPOKEN_S + SPOKEN_WORD_S * len(ask.words) if self.spoken else 0.6


def due(time: float) -> int:
    """The micro-turn in which a word about something at `time` is due: the first that begins after it."""
    return math.floor(time / MICRO_TURN_S + 1e-6) + 1


def ordered(words: list[tuple[int, str]], turns: int) -> tuple[tuple[int, str], ...]:
    """One word per turn: one that falls on a taken turn goes to the next free one; none is due after the end."""
    taken: dict[int, str] = {}
    for turn, word in sorted(words, key=lambda pair: pair[0]):
        while turn in taken:
            turn += 1
        if turn < turns:
            taken[turn] = word
    return tuple(sorted(taken.items()))


def performer(rng: random.Random, movement: str, rhythm: Rhythm, *, held_out: bool, steady: bool = False) -> Actor:
    """Whoever or whatever does `movement` in this rhythm. steady: without long holds, so that a stop is a stop."""
    stroke = Stroke.random(rng)
    if steady:
        stroke = Stroke(min(stroke.hold, 0.1), 0.0, stroke.skew)
    if movement in MOVEMENTS:
        doing = Doing(movement, rhythm, stroke, rng.uniform(0.8, 1.0), rng.randrange(3))
        return somebody(rng, (doing,), held_out=held_out, near=rng.uniform(0.8, 1.05))
    rgb = shade(rng, rng.choice(COLOURS), held_out=held_out) if rng.random() < 0.7 else any_colour(rng)
    if movement == "bounces":
        floor = rng.uniform(0.75, 0.95)
        return Ball(rgb, rng.uniform(0.25, 0.75), floor, rng.uniform(0.3, 0.6), rng.uniform(0.06, 0.12), rhythm)
    if movement == "swings":
        pivot = (rng.uniform(0.4, 0.6), rng.uniform(0.02, 0.2))
        angle = rng.uniform(0.45, 0.9) * rng.choice((-1, 1))
        return Pendulum(rgb, pivot, rng.uniform(0.45, 0.65), rng.uniform(0.06, 0.11), angle, rhythm)
    if movement == "turns":
        at = (rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65))
        mark = (245, 245, 245) if sum(rgb) < 380 else (20, 20, 20)
        return Turning(rgb, mark, at, rng.uniform(0.16, 0.28), rng.random() < 0.5, rhythm)
    raise ValueError(f"no such movement: {movement}")


def surroundings(setting: Setting) -> tuple[list[Actor], list[Actor]]:
    """What moves behind and in front without meaning anything."""
    if setting.plain:
        return [], []
    rng = setting.rng
    behind: list[Actor] = [drifter(rng) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    front: list[Actor] = []
    if rng.random() < 0.15:
        speed = rng.choice((0.0, rng.uniform(-0.12, 0.12)))
        front.append(Pole(rng.uniform(0.1, 0.9), rng.uniform(0.03, 0.08), speed, any_colour(rng)))
    return behind, front


def bouts(rng: random.Random, begin: float, until: float, most: int) -> Rhythm:
    """One to three bouts of one movement, each at a pace of its own between 0.6 and 4 s."""
    parts: list[Rhythm] = []
    time = begin + rng.uniform(0.0, 1.5)
    for _ in range(rng.choice((1, 1, 2, 3))):
        left = most - sum(len(part.ends) for part in parts)
        period = math.exp(rng.uniform(math.log(0.6), math.log(4.0)))
        count = min(left, rng.choice((1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)))
        part = repetitions(rng, time, until, count, period, pauses=rng.choice((0.0, 0.0, 0.1, 0.3)))
        if not part.ends:
            break
        parts.append(part)
        time = part.ends[-1] + rng.uniform(0.8, 4.0)
    return join(parts) if parts else NOTHING


def count(setting: Setting) -> Picture:
    """Count the repetitions of a movement; another one, or somebody else at the side, does not count."""
    rng, until = setting.rng, setting.seconds - 0.4
    movement = rng.choice((*MOVEMENTS, *MOVEMENTS, *OBJECTS))
    ask = ask_count(rng, movement, held_out=setting.new_words)
    behind, front = surroundings(setting)
    shown = movement
    if ask.what and rng.random() < 0.3:  # what is to be seen is not what was asked for
        shown = rng.choice([m for m in (*MOVEMENTS, *OBJECTS) if m not in _alike(movement)])
    rhythm = bouts(rng, setting.begin(ask), until, MOST)
    if ask.what and rng.random() < 0.2:
        other = rng.choice([m for m in MOVEMENTS if m not in _alike(movement)])
        behind.append(bystander(rng, other, bouts(rng, 0.0, until, 40)))
    actor = performer(rng, shown, rhythm, held_out=setting.held_out)
    frames = _film(setting, [*behind, actor, *front])
    ends = rhythm.ends if shown == movement else ()
    said = [(due(end), ONES[i]) for i, end in enumerate(ends)]
    seen = of_movements([(shown, rhythm)], setting.turns)
    return Picture(frames, ordered(said, setting.turns), ask, ends, "count", seen)


def _alike(movement: str) -> tuple[str, ...]:
    """Movements that contain this one, or look too much like it to be told apart by a word."""
    return {
        "jacks": ("jacks", "jumps", "raises"),
        "jumps": ("jumps", "jacks"),
        "raises": ("raises", "jacks", "waves"),
        "waves": ("waves", "raises"),
    }.get(movement, (movement,))


def start_stop(setting: Setting) -> Picture:
    """Say "start" and "stop" when the asked-for movement begins and ends, among other movements."""
    rng, until = setting.rng, setting.seconds - 1.0
    movement = rng.choice((*MOVEMENTS, *MOVEMENTS, *OBJECTS))
    ask = ask_start_stop(rng, movement, held_out=setting.new_words)
    generic = "arm" in ask.words  # "the arm moves", "they raise an arm": waving would be a matter of taste
    other = rng.choice([m for m in MOVEMENTS if m not in _alike(movement)])
    asked: list[Rhythm] = []
    others: list[Rhythm] = []
    time = setting.begin(ask) + rng.uniform(0.2, 2.0)
    while time < until - 3:
        period = math.exp(rng.uniform(math.log(0.6), math.log(2.0)))
        length = rng.uniform(3.0, 8.0)
        part = repetitions(rng, time, min(until, time + length), 14, period)
        if not part.ends or part.ends[-1] - part.starts[0] < 2.5:
            break
        (others if rng.random() < 0.3 else asked).append(part)
        time = part.ends[-1] + rng.uniform(1.2, 4.0)
    figure = performer(rng, movement, join(asked), held_out=setting.held_out, steady=True)
    behind, front = surroundings(setting)
    shown = [(movement, join(asked))]
    if movement in MOVEMENTS and not generic:
        shown.append((other, join(others)))
        doing = Doing(other, join(others), Stroke(), side=rng.randrange(3))
        figure = replace(figure, doings=(*figure.doings, doing))  # type: ignore[attr-defined,type-var]
        actors: list[Actor] = [figure]
    else:
        actors = [bystander(rng, other, join(others)), figure]
    frames = _film(setting, [*behind, *actors, *front])
    said: list[tuple[int, str]] = []
    times: list[float] = []
    for part in asked:
        period = part.ends[0] - part.starts[0]
        said += [(due(part.starts[0] + 0.12 * period), "start"), (due(part.ends[-1] + STILL_S), "stop")]
        times += [part.starts[0], part.ends[-1]]
    seen = of_movements(shown, setting.turns)
    return Picture(frames, ordered(said, setting.turns), ask, tuple(times), "startstop", seen)


def things(setting: Setting) -> Picture:
    """Say a word when a thing of a colour or shape appears or leaves; other things come and go as well."""
    rng = setting.rng
    kind = rng.choice(("appears", "appears", "leaves", "name_colour", "name_shape"))
    colour, shape = rng.choice(COLOURS), rng.choice(SHAPES)
    want = rng.choice(("colour", "colour", "shape", "both"))
    if kind.startswith("name"):
        ask = ask_names(rng, kind, held_out=setting.new_words)
    else:
        ask = ask_thing(
            rng, kind, "" if want == "shape" else colour, "" if want == "colour" else shape, held_out=setting.new_words
        )
    stays = _visits(setting, ask, colour, shape)
    saturation = 0.35 if "colour" in kind or want != "shape" else 0.8
    background = backdrop(rng, held_out=setting.held_out, saturation=saturation, plain=setting.plain)
    conditions = replace(_conditions(setting), bars=(0, 0))
    frames = film([stay for stay, _, _ in stays], setting.turns, conditions, rng, background)
    said, times = [], []
    for stay, its_colour, its_shape in stays:
        time = stay.leave if ask.kind == "leaves" else stay.enter
        word = {"name_colour": its_colour, "name_shape": its_shape}.get(ask.kind, ask.answer)
        fits = ask.colour in ("", its_colour) and ask.shape in ("", its_shape)
        if fits and time < setting.seconds - 0.3:
            said.append((due(time), word))
            times.append(time)
    seen = of_things(stays, setting.turns)
    return Picture(frames, ordered(said, setting.turns), ask, tuple(times), ask.kind, seen)


def _visits(setting: Setting, ask: Ask, colour: str, shape: str) -> list[tuple[Stay, str, str]]:
    """Things that come and go: (thing, its colour, its shape). Never two at once that the request is about."""
    rng = setting.rng
    places = [(x + rng.uniform(-0.06, 0.06), y + rng.uniform(-0.06, 0.06)) for x in (0.27, 0.73) for y in (0.27, 0.73)]
    rng.shuffle(places)
    found: list[tuple[Stay, str, str]] = []
    for place in places[: rng.choice((1, 2, 2, 3))]:
        time = setting.begin(ask) + rng.uniform(0.0, 5.0)
        while time < setting.seconds - 1.2:
            its_colour, its_shape = rng.choice(COLOURS), rng.choice(SHAPES)
            if rng.random() < 0.45:
                its_colour = colour
            if rng.random() < 0.4:
                its_shape = shape
            leave = time + rng.uniform(1.2, 6.0)
            fits = ask.colour in ("", its_colour) and ask.shape in ("", its_shape)
            crowded = ask.kind in ("appears", "leaves") and any(
                s.enter - 0.8 < leave and time < s.leave + 0.8
                for s, c, h in found
                if ask.colour in ("", c) and ask.shape in ("", h)
            )
            close = any(abs(s.enter - time) < 0.5 or abs(s.leave - leave) < 0.5 for s, _, _ in found)
            if (fits and crowded) or close:
                time += 0.7
                continue
            rgb = shade(rng, its_colour, held_out=setting.held_out)
            way = rng.choice(("pop", "pop", "slide", "fade", "grow"))
            size = rng.uniform(0.1, 0.2)
            wander = rng.choice((0.0, 0.02, 0.04))
            side = rng.uniform(0, 2 * math.pi)
            stay = Stay(its_shape, rgb, place, size, time, leave, way, rng.uniform(0.2, 0.7), side, wander, 1.0)
            found.append((stay, its_colour, its_shape))
            time = leave + rng.uniform(0.8, 5.0)
    return found


def nothing_asked(setting: Setting) -> Picture:
    """Whatever is to be seen: nobody has asked for a word about it."""
    rng = setting.rng
    shown = rng.choice((count, start_stop, things))(setting)
    words = tuple(rng.choice(NOTHING_SEEN).split()) if rng.random() < 0.5 else ()
    return Picture(shown.frames, (), Ask("nothing", words) if words else None, (), "nothing", shown.seen)


def never_shown(setting: Setting) -> Picture:
    """Something is asked for that does not happen, while other things do."""
    rng = setting.rng
    shown = things(setting)
    movement = rng.choice((*MOVEMENTS, *OBJECTS))
    ask = (ask_count if rng.random() < 0.5 else ask_start_stop)(rng, movement, held_out=setting.new_words)
    if not ask.what:
        return replace(shown, said=(), ask=None, times=(), program="nothing")
    return Picture(shown.frames, (), ask, (), "never", shown.seen)


def _film(setting: Setting, actors: list[Actor]) -> np.ndarray:
    background = backdrop(setting.rng, held_out=setting.held_out, plain=setting.plain)
    return film(actors, setting.turns, _conditions(setting), setting.rng, background)


def _conditions(setting: Setting) -> Conditions:
    if setting.plain:
        return Conditions(gain=setting.rng.uniform(0.8, 1.1), noise=2.0, delay=setting.rng.uniform(0.0, 0.1))
    return Conditions.random(setting.rng)


PROGRAMS: dict[str, Callable[[Setting], Picture]] = {
    "count": count,
    "startstop": start_stop,
    "things": things,
    "nothing": nothing_asked,
    "never": never_shown,
}
WEIGHTS = {"count": 0.26, "startstop": 0.2, "things": 0.38, "nothing": 0.08, "never": 0.08}

assert set(CLAUSES) == set(NOUNS) == {*MOVEMENTS, *OBJECTS}
