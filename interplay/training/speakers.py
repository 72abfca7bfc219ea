"""Another speaker from the same recording: pace, vocal tract and timbre, done to mel power (no sound is rendered)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from interplay.model.dmel import CHANNELS
from interplay.training.augment import SPEECH_POWER

FRAMES_PER_S = 50
PITCHES = (0.91, 1.1)  # at which a recording is kept beside its own: resampled, so its formants and pace move along
_KNOT_S = 0.35  # how fast pace changes: about a word

Words = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Build:
    """What makes a speaker another one.

    tempo: >1 is faster; unsteady: how much of it changes from word to word (standard deviation of its logarithm).
    formants: stretch of the mel axis (<1 a shorter vocal tract); bends: channels by which it is off, at evenly spaced
    places of the axis. colour_db: timbre, at evenly spaced places. contrast: of loud and soft, of formants and what
    lies between, 1 leaves it.
    """

    tempo: float = 1.0
    unsteady: float = 0.0
    formants: float = 1.0
    bends: tuple[float, ...] = (0.0, 0.0)
    colour_db: tuple[float, ...] = (0.0, 0.0)
    contrast: float = 1.0


def random_build(rng: random.Random, variety: float = 1.0) -> Build:
    """A speaker as training draws them. variety: how far from what was recorded, 0 not at all, 1 as far as people
    are from each other and somewhat beyond. The vocal tract stretch is that of VTLP (Jaitly and Hinton, 2013)."""
    return Build(
        tempo=rng.uniform(0.82, 1.22) ** variety,
        unsteady=rng.uniform(0.0, 0.2) * variety,
        formants=rng.uniform(0.86, 1.15) ** variety,
        bends=(0.0, *(variety * rng.uniform(-1.2, 1.2) for _ in range(4))),
        colour_db=tuple(variety * rng.uniform(-5, 5) for _ in range(6)),
        contrast=rng.uniform(0.88, 1.1) ** variety,
    )


def respeak(power: np.ndarray, words: Words, build: Build, rng: random.Random) -> tuple[np.ndarray, Words]:
    """Mel power float32 (frames, 80) and (word, end in seconds), said by somebody of another build."""
    power, words = _paced(power, words, build, rng)
    return recolour(power, build), words


def recolour(power: np.ndarray, build: Build) -> np.ndarray:
    """Mel power float32 (frames, 80) out of another vocal tract, with another timbre; its times stay."""
    places = np.linspace(0, 1, CHANNELS)
    channels = np.arange(CHANNELS) * build.formants + _curve(build.bends, places)
    power = _sampled(power, channels)
    if build.contrast != 1.0:
        power = SPEECH_POWER * (power / SPEECH_POWER) ** np.float32(build.contrast)
    return (power * 10 ** (_curve(build.colour_db, places) / 10)).astype(np.float32)


def stretch(power: np.ndarray, formants: float) -> np.ndarray:
    """Mel power (frames, 80) with its mel axis stretched: the same speech from a shorter (<1) or longer vocal tract."""
    return _sampled(power, np.arange(CHANNELS) * formants)


def _sampled(power: np.ndarray, channels: np.ndarray) -> np.ndarray:
    channels = np.clip(channels, 0, CHANNELS - 1)
    low = channels.astype(int)
    high = np.minimum(low + 1, CHANNELS - 1)
    part = (channels - low).astype(np.float32)
    return (power[:, low] * (1 - part) + power[:, high] * part).astype(np.float32)


def _paced(power: np.ndarray, words: Words, build: Build, rng: random.Random) -> tuple[np.ndarray, Words]:
    frames = np.arange(len(power) + 1)
    knots = 2 + math.ceil(len(power) / FRAMES_PER_S / _KNOT_S)
    pace = [build.tempo * math.exp(rng.gauss(0, build.unsteady)) for _ in range(knots)]
    spent = 1 / np.clip(_curve(tuple(pace), frames[:-1] / max(1, len(power))), 0.6, 1.7)
    later = np.concatenate([[0.0], np.cumsum(spent)])  # when a frame comes now
    source = np.interp(np.arange(int(later[-1])), later, frames).astype(int)
    ends = np.interp([end * FRAMES_PER_S for _, end in words], frames, later) / FRAMES_PER_S
    moved = tuple((word, float(end)) for (word, _), end in zip(words, ends, strict=True))
    return power[np.minimum(source, len(power) - 1)], moved


def _curve(values: tuple[float, ...], places: np.ndarray) -> np.ndarray:
    """The values at evenly spaced places of [0, 1], and straight lines between them, read at `places`."""
    return np.interp(places, np.linspace(0, 1, len(values)), values)
