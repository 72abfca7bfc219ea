"""A rendered utterance made ready for the clock: silence trimmed, loudness set, the time of every word known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interplay.core.types import OUTPUT_RATE

FRAME = OUTPUT_RATE // 200  # 5 ms
TARGET_RMS = 0.1  # -20 dBFS
PEAK = 0.9
AUDIBLE_DB = -30.0  # below the loudest 5 ms: where a word starts for a listener; keeps f, s and th, not a hum before b
LEAD_S = 0.010  # kept before the onset, under a fade-in
TRAIL_S = 0.050  # kept after the last sound: the gap to a word that follows at once
FADE_S = 0.005
MAX_BIAS = OUTPUT_RATE // 10


@dataclass(frozen=True, slots=True)
class Clip:
    """audio: float32 (n,), 24 kHz. words: (word, first sample of its sound), in order, samples ascending."""

    audio: np.ndarray
    words: tuple[tuple[str, int], ...]


def frame_rms(audio: np.ndarray) -> np.ndarray:
    """RMS of each whole 5 ms frame. float32 (n,) -> float32 (n // 120,)."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    return np.sqrt(np.mean(frames * frames, axis=1))


def finish(audio: np.ndarray, words: list[tuple[str, float]]) -> Clip:
    """Trim, normalise and fade a raw render.

    audio: float32 (n,), 24 kHz, with the silence that engines put around speech. words: (word, start in seconds of
    `audio`). A render without sound gives an empty clip without words: what makes no sound was not said.
    """
    rms = frame_rms(audio)
    if not len(rms) or rms.max() < 1e-4:
        return Clip(np.zeros(0, np.float32), ())
    loud = np.flatnonzero(rms > rms.max() * 10 ** (AUDIBLE_DB / 20))
    onset, end = int(loud[0]) * FRAME, (int(loud[-1]) + 1) * FRAME
    start = max(0, onset - int(LEAD_S * OUTPUT_RATE))
    out = np.array(audio[start : end + int(TRAIL_S * OUTPUT_RATE)], np.float32)
    # Loudness of the sounding part alone: pauses within a phrase must not make it louder than a word.
    level = float(np.sqrt(np.mean(np.square(rms[loud]))))
    out *= min(TARGET_RMS / level, PEAK / float(np.abs(out).max()))
    fade = min(int(FADE_S * OUTPUT_RATE), len(out) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    out[:fade] *= ramp
    out[len(out) - fade :] *= ramp[::-1]
    starts, floor = [], onset - start
    # An engine's alignment is off by a constant (hibari's says 45 to 60 ms late): where the first word is heard to
    # begin tells how much.
    bias = int(np.clip(words[0][1] * OUTPUT_RATE - onset, -MAX_BIAS, MAX_BIAS)) if words else 0
    for index, (word, seconds) in enumerate(words):
        at = floor if index == 0 else max(floor, int(seconds * OUTPUT_RATE) - bias - start)
        floor = min(at, len(out) - 1)
        starts.append((word, floor))
    return Clip(out, tuple(starts))
