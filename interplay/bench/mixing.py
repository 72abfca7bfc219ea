"""Levels and noise of everything that the bench lets a person say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from interplay.core.types import INPUT_RATE

SPEECH_RMS = 0.06  # -24 dBFS
SNR_DB = 15.0
QUIET_DB = -35.0  # below the loudest 20 ms: silence around a recording


def level(audio: np.ndarray, gain_db: float = 0.0) -> np.ndarray:
    """Speech at the bench's level: RMS 0.06 over its own duration, moved by `gain_db`. float32 (n,) -> float32 (n,)."""
    rms = max(float(np.sqrt(np.mean(np.square(audio)))), 1e-6) if len(audio) else 1.0
    return (audio * np.float32(SPEECH_RMS / rms * 10 ** (gain_db / 20))).astype(np.float32)


def mix(parts: Iterable[tuple[float, np.ndarray]], seconds: float, *, snr_db: float | None, seed: int) -> np.ndarray:
    """Put parts (start in seconds, audio at its level) on `seconds` of white noise, `snr_db` below speech at RMS 0.06.

    Returns float32 at 16 kHz in [-1, 1]; what does not fit is cut. snr_db None: no noise at all.
    """
    total = np.zeros(max(int(seconds * INPUT_RATE), 0), np.float32)
    for start, audio in parts:
        at = int(start * INPUT_RATE)
        part = audio[: max(len(total) - at, 0)]
        total[at : at + len(part)] += part
    if snr_db is not None:
        noise = np.random.default_rng(seed).standard_normal(len(total), dtype=np.float32)
        total += noise * np.float32(SPEECH_RMS * 10 ** (-snr_db / 20))
    return np.clip(total, -1, 1)


def spoken_part(audio: np.ndarray) -> tuple[int, int]:
    """First and last+1 sample of the sounding part of a recording: what lies within 35 dB of its loudest 20 ms."""
    frame = INPUT_RATE // 50
    rms = np.sqrt(np.mean(np.square(audio[: len(audio) // frame * frame].reshape(-1, frame)), axis=1))
    loud = np.flatnonzero(rms > max(rms.max(initial=0.0) * 10 ** (QUIET_DB / 20), 1e-5))
    return (int(loud[0]) * frame, (int(loud[-1]) + 1) * frame) if len(loud) else (0, len(audio))
