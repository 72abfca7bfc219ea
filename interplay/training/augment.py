"""What a room, a microphone and a phone line do to speech, done to its mel power (cheap: no sound is rendered)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.signal import lfilter

from interplay.core.types import INPUT_RATE
from interplay.model.dmel import CHANNELS, mel_power

SPEECH_POWER = 14.0  # of the synthetic voices, where they are loud: mean over channels


@dataclass(frozen=True, slots=True)
class Conditions:
    """Recording conditions of a scene. `snr_db` is speech power (where there is speech) over noise power. `holes`:
    ranges of channels that are hardly there, the frequency masks of SpecAugment (Park et al., 2019)."""

    level_db: float = 0.0
    tilt_db: float = 0.0
    snr_db: float = 40.0
    noise_colour_db: tuple[float, ...] = (0.0,) * 5
    babble_db: float | None = None
    band: tuple[int, int] | None = None
    reverb: float = 0.0
    holes: tuple[tuple[int, int], ...] = ()


def random_conditions(rng: random.Random, variety: float = 1.0) -> Conditions:
    """The conditions a training scene is heard under. variety: how often there are holes in the spectrum."""
    return Conditions(
        level_db=rng.uniform(-15, 8),
        tilt_db=rng.uniform(-8, 8),
        snr_db=rng.uniform(45, 80) if rng.random() < 0.2 else rng.uniform(8, 45),
        noise_colour_db=tuple(rng.uniform(-10, 10) for _ in range(5)),
        babble_db=rng.uniform(-25, -12) if rng.random() < 0.1 else None,
        band=(rng.randint(4, 10), rng.randint(52, 62)) if rng.random() < 0.12 else None,
        reverb=rng.uniform(0.3, 0.75) if rng.random() < 0.18 else 0.0,
        holes=tuple(_hole(rng) for _ in range(rng.randint(1, 2))) if rng.random() < 0.35 * variety else (),
    )


def _hole(rng: random.Random) -> tuple[int, int]:
    width = rng.randint(2, 9)
    first = rng.randrange(CHANNELS - width)
    return first, first + width


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
    for first, last in conditions.holes:
        power[:, first:last] *= 1e-3
    return power


def distant(power: np.ndarray, *, radio: bool) -> np.ndarray:
    """Speech (frames, 80) from across the room, or out of a small loudspeaker: dull or band-limited, with a tail."""
    keep = 0.5 if radio else 0.75
    tail = np.asarray(lfilter([1 - keep], [1, -keep], power, axis=0))
    shape = np.zeros(CHANNELS, np.float32)
    if radio:
        shape[8:58] = 1.0
    else:
        shape[:] = 10 ** (-np.linspace(0, 1.2, CHANNELS))
    return ((0.5 * power + 0.5 * tail) * shape).astype(np.float32)


def noise_burst(rng: random.Random) -> np.ndarray:
    """float32 (frames, 80): 0.1 to 0.6 s of a cough, a door or a cup, about as loud as speech."""
    frames = rng.randint(5, 30)
    decay = np.exp(-np.arange(frames) / (frames * rng.uniform(0.15, 0.5)))
    colour = np.interp(np.arange(CHANNELS), np.linspace(0, CHANNELS - 1, 5), [rng.uniform(-18, 0) for _ in range(5)])
    noise = _white_noise()
    start = rng.randrange(len(noise) - frames)
    level = SPEECH_POWER * 10 ** (rng.uniform(-8, 3) / 10)
    return (level * decay[:, None] * 10 ** (colour / 10) * noise[start : start + frames]).astype(np.float32)


def jump_levels(power: np.ndarray, rng: random.Random) -> np.ndarray:
    """Somebody moves, or the automatic gain does: one to four sudden changes of level of up to 12 dB."""
    gain = np.zeros(len(power), np.float32)
    for _ in range(rng.randint(1, 4)):
        gain[rng.randrange(len(power)) :] = rng.uniform(-12, 6)
    return power * (10 ** (gain / 10))[:, None]


def clip_peaks(power: np.ndarray, rng: random.Random) -> np.ndarray:
    """An overdriven input: the loudest frames lose power, and gain distortion over all channels."""
    energy = power.mean(1, keepdims=True)
    limit = np.quantile(energy, rng.uniform(0.6, 0.9)) + 1e-9
    over = np.maximum(energy / limit, 1.0)
    return (power / np.sqrt(over) + 0.05 * energy * (1 - 1 / over)).astype(np.float32)


def telephone(power: np.ndarray, rng: random.Random) -> np.ndarray:
    """A phone line: 300 to 3400 Hz, and the noise of an 8-bit companding codec, 30 to 38 dB below the signal."""
    low, high = rng.randint(8, 11), rng.randint(56, 60)
    noise = 10 ** (-rng.uniform(3.0, 3.8)) * power.mean(1, keepdims=True)
    power = (power + noise).astype(np.float32)
    power[:, :low] *= 1e-3
    power[:, high:] *= 1e-4
    return power
