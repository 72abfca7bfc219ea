"""dMel: log-mel channels rounded to a few levels, the model's only view of sound (Bai et al. 2024, arXiv 2407.15835).

Ten frames of 20 ms make a micro-turn. Analysis windows look back, never ahead: frame `i` covers the 40 ms that end
with sample (i + 1) x 320, so a slice of sound turns into exactly its own frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from interplay.core.types import INPUT_RATE

HOP = 320
WINDOW = 640
FFT = 1024
CHANNELS = 80
LEVELS = 16
FRAMES = 10  # per micro-turn
LOG_LOW, LOG_HIGH = -5.0, 2.0  # log10 power that maps to levels 0 and 15; outside saturates


@cache
def _filters() -> np.ndarray:
    """float32 (513, 80): triangular mel filters, 20 Hz to 7.6 kHz, each normalised to unit sum."""
    freqs = np.linspace(0, INPUT_RATE / 2, FFT // 2 + 1)
    edges = np.linspace(_mel(20.0), _mel(7600.0), CHANNELS + 2)
    hz = 700 * (10 ** (edges / 2595) - 1)
    low, mid, high = hz[:-2, None], hz[1:-1, None], hz[2:, None]
    bank = np.maximum(0, np.minimum((freqs - low) / (mid - low), (high - freqs) / (high - mid)))
    # The lowest channels are narrower than one FFT bin: give each at least its nearest bin.
    for i in np.flatnonzero(bank.sum(1) < 1e-6):
        bank[i, round(hz[i + 1] / (INPUT_RATE / 2) * (FFT // 2))] = 1.0
    bank /= bank.sum(1, keepdims=True)
    return np.ascontiguousarray(bank.T.astype(np.float32))


def _mel(hz: float) -> float:
    return 2595 * np.log10(1 + hz / 700)


@cache
def _window() -> np.ndarray:
    return np.hanning(WINDOW).astype(np.float32)


def mel_power(audio: np.ndarray, history: np.ndarray | None = None) -> np.ndarray:
    """Mel power of 16 kHz mono audio.

    audio: float32 (n,), n a multiple of 320 is used, a remainder is ignored. history: the 320 samples before it
    (zeros if None). Returns float32 (n // 320, 80), linear power.
    """
    frames = len(audio) // HOP
    if frames == 0:
        return np.zeros((0, CHANNELS), np.float32)
    past = np.zeros(WINDOW - HOP, np.float32) if history is None else history
    padded = np.concatenate([past, audio[: frames * HOP]]).astype(np.float32, copy=False)
    windows = sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(windows * _window(), FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return power @ _filters()


def quantize(power: np.ndarray) -> np.ndarray:
    """Linear mel power (..., 80) to dMel levels, uint8 of the same shape, 0 .. 15. Values outside saturate."""
    log = np.log10(power + 1e-10)
    return np.clip(np.rint((log - LOG_LOW) * ((LEVELS - 1) / (LOG_HIGH - LOG_LOW))), 0, LEVELS - 1).astype(np.uint8)


class DMelStream:
    """dMel of a live stream: one slice of 3200 samples in, uint8 (10, 80) out; keeps the last 20 ms between slices."""

    def __init__(self) -> None:
        self._history = np.zeros(WINDOW - HOP, np.float32)

    def push(self, audio: np.ndarray) -> np.ndarray:
        bins = quantize(mel_power(audio, self._history))
        self._history = audio[-(WINDOW - HOP) :].astype(np.float32, copy=True)
        return bins
