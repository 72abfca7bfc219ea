"""What a room, a microphone and a phone line do to speech, done to its mel power (cheap: no sound is rendered)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.signal import lfilter

from interplay.core.types import INPUT_RATE
from interplay.model.dmel import CHANNELS, mel_power


@dataclass(frozen=True, slots=True)
class Conditions:
    """Recording conditions of a scene. `snr_db` is speech power (where there is speech) over noise power."""

    level_db: float = 0.0
    tilt_db: float = 0.0
    snr_db: float = 40.0
    noise_colour_db: tuple[float, ...] = (0.0,) * 5
    babble_db: float | None = None
    band: tuple[int, int] | None = None
    reverb: float = 0.0


def random_conditions(rng: random.Random) -> Conditions:
    """The conditions a training scene is heard under."""
    return Conditions(
        level_db=rng.uniform(-15, 8),
        tilt_db=rng.uniform(-8, 8),
        snr_db=rng.uniform(8, 45),
        noise_colour_db=tuple(rng.uniform(-10, 10) for _ in range(5)),
        babble_db=rng.uniform(-25, -12) if rng.random() < 0.1 else None,
        band=(rng.randint(4, 10), rng.randint(52, 62)) if rng.random() < 0.08 else None,
        reverb=rng.uniform(0.3, 0.75) if rng.random() < 0.18 else 0.0,
    )


@cache
def _white_noise() -> np.ndarray:
    """float32 (9000, 80): mel power of three minutes of white noise of unit mean power, with its true statistics."""
    power = mel_power(np.random.default_rng(0).standard_normal(180 * INPUT_RATE).astype(np.float32))
    return (power / power.mean(0)).astype(np.float32)


def apply(
    power: np.ndarray, conditions: Conditions, rng: random.Random, babble: np.ndarray | None = None
) -> np.ndarray:
    """Hear `power` (frames, 80) under `conditions`.

    babble: mel power of other people, any length, used where `conditions.babble_db` is set. Returns float32, same
    shape. Speech power is taken over the loudest third of the frames that carry any.
    """
    frames = len(power)
    if conditions.reverb:
        # Late energy decays exponentially; a one-pole smear per channel is its power envelope.
        tail = np.asarray(lfilter([1 - conditions.reverb], [1, -conditions.reverb], power, axis=0))
        power = (0.6 * power + 0.4 * tail).astype(np.float32)
    energy = power.mean(1)
    spoken = energy[energy > 1e-7]
    speech = float(np.sort(spoken)[-max(1, len(spoken) // 3) :].mean()) if len(spoken) else 1e-2
    if conditions.babble_db is not None and babble is not None and len(babble):
        scale = speech * 10 ** (conditions.babble_db / 10) / max(float(babble.mean()), 1e-9)
        power = power + scale * np.resize(babble, (frames, CHANNELS))
    colour = np.interp(np.arange(CHANNELS), np.linspace(0, CHANNELS - 1, 5), conditions.noise_colour_db)
    shape = (10 ** (colour / 10)).astype(np.float32)
    shape /= shape.mean()
    noise = _white_noise()
    start = rng.randrange(len(noise))
    rows = np.take(noise, np.arange(start, start + frames), axis=0, mode="wrap")
    power = power + speech * 10 ** (-conditions.snr_db / 10) * shape * rows
    gain = conditions.level_db + np.linspace(-1, 1, CHANNELS) * conditions.tilt_db
    power = power * (10 ** (gain / 10)).astype(np.float32)
    if conditions.band is not None:
        low, high = conditions.band
        power[:, :low] *= 1e-3
        power[:, high:] *= 1e-4
    return power
