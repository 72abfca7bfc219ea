"""What the real world does to a finished scene: the agent's own voice leaks back, micro-turns get lost."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import soxr

from interplay.core.types import INPUT_RATE, MICRO_TURN_S, OUTPUT_RATE, Missing
from interplay.model.dmel import FRAMES, mel_power
from interplay.training import augment
from interplay.training.clips import synthesise_word
from interplay.training.espeak import agent_voices
from interplay.training.language import CONTENT, NUMBERS, WIDE
from interplay.training.language.spanish import TO_ENGLISH
from interplay.training.scenes.scene import Scene
from interplay.training.scenes.stage import Stage
from interplay.training.speakers import FRAMES_PER_S, stretch
from interplay.voice.engine import HibariEngine

_ESSENTIAL = frozenset((*CONTENT, *WIDE, *NUMBERS, *TO_ENGLISH))
LOST = 0.65  # a word that carries meaning loses at most this share of its sound
GONE = 0.8  # a small word that lost this share cannot be heard


def expose(stage: Stage, scene: Scene, rng: random.Random) -> Scene:
    """The scene as the microphone delivers it: echo, room and noise, line, lost micro-turns."""
    mix = stage.mix
    if rng.random() < mix.echo:
        leak(scene, rng)
    conditions = augment.random_conditions(rng, mix.variety)
    babble = stage.babble() if conditions.babble_db is not None else None
    scene.power = augment.apply(scene.power, conditions, rng, babble)
    if rng.random() < mix.line:
        change = rng.choice((augment.jump_levels, augment.clip_peaks, augment.telephone))
        scene.power = change(scene.power, rng).astype(np.float32)
    if rng.random() < mix.missing:
        lose(stage, scene, rng)
    return scene


def again(stage: Stage, scene: Scene, rng: random.Random) -> Scene:
    """A take of a performed scene, which stays as it is: the same words at the same times, by people of other build in
    another room, with other losses."""
    stage.rng = rng  # whoever talks in the background of this take
    power = stretch(scene.power, rng.uniform(0.93, 1.08)) if rng.random() < 0.5 else scene.power.copy()
    return expose(stage, replace(scene, power=power, heard=list(scene.heard)), rng)


def leak(scene: Scene, rng: random.Random) -> None:
    """Add the agent's own words to the microphone: 20 to 300 ms late, 10 to 40 dB down, or hardly weakened at all."""
    voice = None if rng.random() < 0.6 else rng.choice(agent_voices())
    delay = rng.uniform(0.02, 0.3)
    down_db = rng.uniform(0, 10) if rng.random() < 0.2 else rng.uniform(10, 40)
    gain = np.float32(10 ** (-down_db / 10))
    room = rng.random() < 0.5
    silent = {turn for turn, decision in scene.decisions.items() if decision == "tool"}
    for turn, word in sorted([*scene.said, *scene.voiced]):
        if turn in silent:
            continue
        power = synthesise_word(word, voice).power if voice else own_voice(word)
        if room:
            power = augment.distant(power, radio=False)
        start = int(((turn + 1) * MICRO_TURN_S + delay) * FRAMES_PER_S)
        part = power[: max(0, len(scene.power) - start)]
        scene.power[start : start + len(part)] += part * gain


@lru_cache(maxsize=4096)
def own_voice(word: str) -> np.ndarray:
    """Mel power float32 (frames, 80) of `word` in the voice that the agent speaks with, or in one like it where that
    is not installed. Do not change it in place."""
    engine = _engine()
    if engine is None:
        return synthesise_word(word, agent_voices()[0]).power
    audio = engine.render((word,)).audio
    return mel_power(soxr.resample(audio, OUTPUT_RATE, INPUT_RATE).astype(np.float32))


@cache
def _engine() -> HibariEngine | None:
    try:
        return HibariEngine(cache_mb=0)
    except Missing:
        return None


def lose(stage: Stage, scene: Scene, rng: random.Random) -> None:
    """Lose 1 to 10 % of the micro-turns, one or two in a row. Words that carry meaning keep half of their sound."""
    lost: set[int] = set()
    turns = len(scene.power) // FRAMES
    for _ in range(max(1, round(turns * rng.uniform(0.01, 0.1) / 1.3))):
        first = rng.randrange(turns)
        new = lost | {first, *([first + 1] if rng.random() < 0.3 and first + 1 < turns else [])}
        if all(_lost(word, new) <= LOST for word in stage.word_times if _word(stage, word) in _ESSENTIAL):
            lost = new
    gone = {word[2] for word in stage.word_times if _lost(word, lost) > GONE}
    scene.heard = [(turn, word) for turn, word in scene.heard if turn not in gone]
    scene.missing = lost
    for turn in lost:
        scene.power[turn * FRAMES : (turn + 1) * FRAMES] = 0.0


def _word(stage: Stage, time: tuple[float, float, int]) -> str:
    token = stage.tokens.get(time[2])
    return token.word if token else ""


def _lost(time: tuple[float, float, int], lost: set[int]) -> float:
    """Share of a word's sound that falls into lost micro-turns."""
    start, end, _ = time
    covered = sum(max(0.0, min(end, (t + 1) * MICRO_TURN_S) - max(start, t * MICRO_TURN_S)) for t in lost)
    return covered / max(end - start, 1e-6)
