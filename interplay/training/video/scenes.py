"""Scenes with eyes: a program of `programs.py` with the sound beside it, as one training example."""

from __future__ import annotations

import random

from interplay.training.clips import Bank
from interplay.training.scenes.scene import Scene
from interplay.training.video.programs import PROGRAMS, WEIGHTS, Picture, Setting
from interplay.training.video.sound import record

SPOKEN = 0.35  # how often the request is spoken in the scene and not set before it
CHATTER = 0.4
PLAIN = 0.45  # how often camera and room are as simple as they can be


def video_scene(
    rng: random.Random, turns: int, *, bank: Bank | None = None, held_out: bool = False, program: str = ""
) -> Scene:
    """One scene: frames, sound, and the words that are due.

    What to watch for stands in the scene's `prefix` or is spoken at its beginning. program: one of `PROGRAMS`, a random
    one by default. held_out: bodies, patterns, shades, phrasings and voices that training never has, for the bench.
    """
    name = program or rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    chatter, spoken, plain = rng.random() < CHATTER, rng.random() < SPOKEN, rng.random() < PLAIN and not held_out
    return compose(rng, turns, name, spoken=spoken, chatter=chatter, bank=bank, held_out=held_out, plain=plain)[0]


def compose(
    rng: random.Random,
    turns: int,
    program: str,
    *,
    spoken: bool = False,
    chatter: bool = False,
    bank: Bank | None = None,
    held_out: bool = False,
    plain: bool = False,
) -> tuple[Scene, Picture]:
    """A scene and the program behind it. spoken: the request is said aloud first, and what it is about comes after.

    A request that is not over in time (a very slow voice, a very short scene) stands in the prefix after all.
    """
    setting = Setting(rng, turns, spoken, held_out, plain)
    picture = PROGRAMS[program](setting)
    words = picture.ask.words if picture.ask is not None else ()
    request = words if spoken and picture.ask is not None and setting.begin(picture.ask) < setting.seconds else ()
    sound = record(rng, turns, request=request, chatter=chatter, bank=bank, held_out=held_out)
    if request and picture.ask is not None and not 0 < sound.asked_s < setting.begin(picture.ask):
        request = ()
        sound = record(rng, turns, chatter=chatter, bank=bank, held_out=held_out)
    prefix = () if request else words
    scene = Scene(sound.power, sound.heard, list(picture.said), [], prefix=prefix)
    scene.frames, scene.seen = picture.frames, picture.seen
    return scene, picture
