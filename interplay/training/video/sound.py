"""The sound beside a video: a request spoken at the beginning, chatter, or nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from interplay.core.types import MICRO_TURN_S
from interplay.model.dmel import CHANNELS, FRAMES
from interplay.training import augment
from interplay.training.clips import FRAMES_PER_S, Bank, Clip, synthesise
from interplay.training.espeak import SyntheticVoice, random_voice
from interplay.training.language import write_chatter
from interplay.training.scenes.scene import LOOKAHEAD_S


@dataclass(frozen=True, slots=True)
class Sound:
    """power: float32 (turns x 10, 80). heard: (turn, word), one per turn. asked_s: when the request was over, or 0."""

    power: np.ndarray
    heard: list[tuple[int, str]]
    asked_s: float


def record(
    rng: random.Random,
    turns: int,
    *,
    request: tuple[str, ...] = (),
    chatter: bool = False,
    bank: Bank | None = None,
    held_out: bool = False,
) -> Sound:
    """One microphone. request: words spoken first. chatter: talk that asks for nothing, after it. bank: recorded
    chatter, beside the synthetic one. Without either it is as silent as a room is."""
    power = np.zeros((turns * FRAMES, CHANNELS), np.float32)
    heard: list[tuple[int, str]] = []
    free = 0
    voice = random_voice(rng, held_out=held_out)

    def put(clip: Clip, time: float) -> float | None:
        nonlocal free
        start = int(time * FRAMES_PER_S)
        if start + len(clip.power) > len(power):
            return None
        power[start : start + len(clip.power)] += clip.power * np.float32(10 ** (rng.uniform(-3, 3) / 10))
        for word, end in clip.words:
            turn = max(free, int((time + end + LOOKAHEAD_S) / MICRO_TURN_S))
            if turn < turns:
                heard.append((turn, word))
            free = turn + 1
        return time + clip.words[-1][1]

    time, asked = rng.uniform(0.1, 0.6), 0.0
    if request:
        asked = put(synthesise(" ".join(request), voice), time) or 0.0
        time = asked + rng.uniform(0.8, 2.5)
    while chatter and time < turns * MICRO_TURN_S - 1.0:
        end = put(_sentence(rng, bank, voice), time)
        if end is None:
            break
        time = end + rng.choice((0.2, 0.5, 1.0, 2.0, 4.0))
    return Sound(augment.apply(power, augment.random_conditions(rng), rng, None), heard, asked)


def _sentence(rng: random.Random, bank: Bank | None, voice: SyntheticVoice) -> Clip:
    clip = bank.talk(rng) if bank is not None and rng.random() < 0.6 else None
    return clip or synthesise(write_chatter(rng), voice)
