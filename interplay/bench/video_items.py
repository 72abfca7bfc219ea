"""Items for the eyes: films with bodies, backgrounds, shades and phrasings that training never had."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from interplay.bench.mixing import level, mix
from interplay.bench.synthesiser import synthesiser
from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, MICRO_TURN_S, InterplayError
from interplay.session import SurfaceIn, TurnView
from interplay.training.espeak import random_voice
from interplay.training.language import write_chatter
from interplay.training.video.programs import PROGRAMS, Picture, Setting

TURNS = 120  # 24 s
TAIL_TURNS = 10
# How the request reaches the model, and what else there is to hear.
WAYS = ("prefix", "chatter", "spoken")


@dataclass(frozen=True, slots=True)
class VideoItem:
    """One test. category: one of `WAYS`. prefix: what was asked before the session, () if it is spoken. audio: float32,
    16 kHz. picture: frames, due words and the times of what they are about."""

    category: str
    prefix: tuple[str, ...]
    audio: np.ndarray
    picture: Picture


class Film:
    """The surface of an item: sound and pictures from memory, the last picture held for two more seconds."""

    name = "film"

    def __init__(self, item: VideoItem) -> None:
        self._frames = item.picture.frames
        self._turns = len(self._frames) + TAIL_TURNS
        self._audio = np.zeros(self._turns * INPUT_SAMPLES, np.float32)
        self._audio[: len(item.audio)] = item.audio

    async def read(self, turn: int) -> SurfaceIn | None:
        if turn >= self._turns:
            return None
        sound = self._audio[turn * INPUT_SAMPLES : (turn + 1) * INPUT_SAMPLES]
        return SurfaceIn(sound, self._frames[min(turn, len(self._frames) - 1)])

    async def write(self, view: TurnView) -> None:
        return None

    async def close(self, error: InterplayError | None) -> None:
        return None


def video_items(
    program: str,
    n: int,
    seed: int,
    *,
    held_out: bool = True,
    known_words: bool = False,
    positive: Callable[[Picture], bool] | None = None,
) -> Iterator[VideoItem]:
    """`n` items of a program, the ways of asking in turn. positive: what a picture has to fulfil to be taken."""
    for i in range(n):
        way, place = WAYS[i % len(WAYS)], f"{program}/{seed}/{i}"
        yield item(program, way, place, held_out=held_out, known_words=known_words, positive=positive)


def item(
    program: str,
    way: str,
    seed: str,
    *,
    held_out: bool = True,
    known_words: bool = False,
    positive: Callable[[Picture], bool] | None = None,
) -> VideoItem:
    """One item. The same seed gives the same film and words, and a voice that is the same but for some breath."""
    for attempt in range(200):
        rng = random.Random(f"{seed}/{attempt}")
        setting = Setting(rng, TURNS, way == "spoken", held_out, known_words=known_words)
        picture = PROGRAMS[program](setting)
        if picture.ask is None or (positive is not None and not positive(picture)):
            continue
        if way != "spoken":
            return VideoItem(way, picture.ask.words, _talk(rng, way == "chatter", held_out), picture)
        audio, over = _asked(rng, picture.ask.words, held_out)
        if over < setting.begin(picture.ask):
            return VideoItem(way, (), audio, picture)
    raise ValueError(f"no {program} that fits in 200 attempts")


def _asked(rng: random.Random, words: tuple[str, ...], held_out: bool) -> tuple[np.ndarray, float]:
    """The request, spoken, under noise; and the second at which it is over."""
    speech, timed = synthesiser().speak(" ".join(words), random_voice(rng, held_out=held_out))
    begin = rng.uniform(0.1, 0.5)
    audio = mix([(begin, level(speech))], TURNS * MICRO_TURN_S, snr_db=15.0, seed=rng.getrandbits(31))
    return audio, begin + timed[-1][1]


def _talk(rng: random.Random, chatter: bool, held_out: bool) -> np.ndarray:
    """Room noise, with talk that asks for nothing or without."""
    voice, time, parts = random_voice(rng, held_out=held_out), rng.uniform(0.5, 2.0), []
    while chatter and time < TURNS * MICRO_TURN_S - 3:
        speech, _ = synthesiser().speak(write_chatter(rng), voice)
        parts.append((time, level(speech)))
        time += len(speech) / INPUT_RATE + rng.choice((0.5, 1.0, 2.0, 4.0))
    return mix(parts, TURNS * MICRO_TURN_S, snr_db=15.0, seed=rng.getrandbits(31))
