"""Sounds of a room that nobody should answer: float32, 16 kHz, at RMS 0.06 where they sound."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from interplay.bench.mixing import SPEECH_RMS
from interplay.core.types import INPUT_RATE


def slam(rng: np.random.Generator) -> np.ndarray:
    """A door: one broadband burst that decays within a fifth of a second."""
    t = np.arange(INPUT_RATE // 2) / INPUT_RATE
    thud = np.sin(2 * np.pi * rng.uniform(60, 110) * t)
    return np.exp(-t * 14) * (0.6 * rng.standard_normal(len(t)) + thud)


def typing(rng: np.random.Generator) -> np.ndarray:
    """Keys: some twenty clicks in two seconds."""
    sound = np.zeros(2 * INPUT_RATE)
    for at in np.sort(rng.uniform(0, 1.95, 20)):
        click = rng.standard_normal(160) * np.exp(-np.arange(160) / 30)
        start = int(at * INPUT_RATE)
        sound[start : start + 160] += click[: len(sound) - start]
    return sound


def siren(rng: np.random.Generator) -> np.ndarray:
    """A tone that rises and falls twice."""
    t = np.arange(int(1.6 * INPUT_RATE)) / INPUT_RATE
    pitch = rng.uniform(500, 700) + 300 * np.sin(2 * np.pi * 1.25 * t)
    return np.sin(2 * np.pi * np.cumsum(pitch) / INPUT_RATE)


def engine(rng: np.random.Generator) -> np.ndarray:
    """A motor that passes: low harmonics that swell and fade."""
    t = np.arange(2 * INPUT_RATE) / INPUT_RATE
    base = rng.uniform(70, 120)
    tone = sum(np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) / k for k in range(1, 9))
    return tone * np.sin(np.pi * t / 2) ** 2


def melody(rng: np.random.Generator) -> np.ndarray:
    """Six plucked notes."""
    t = np.arange(int(0.28 * INPUT_RATE)) / INPUT_RATE
    notes = [220 * 2 ** (k / 12) for k in rng.integers(0, 24, 6)]
    return np.concatenate([np.exp(-t * 7) * sum(np.sin(2 * np.pi * f * h * t) / h for h in (1, 2, 3)) for f in notes])


KINDS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (slam, typing, siren, engine, melody)


def noise(rng: random.Random) -> tuple[str, np.ndarray]:
    """One of the kinds, with its name."""
    kind = rng.choice(KINDS)
    sound = kind(np.random.default_rng(rng.randrange(1 << 31)))
    active = np.abs(sound) > 0.02 * np.abs(sound).max()
    rms = np.sqrt(np.mean(np.square(sound[active])))
    return kind.__name__, np.clip(sound * (SPEECH_RMS / rms), -1, 1).astype(np.float32)


def band_limited(audio: np.ndarray) -> np.ndarray:
    """As from a small loudspeaker: 300-3,400 Hz."""
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / INPUT_RATE)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    return np.fft.irfft(spectrum, len(audio)).astype(np.float32)
