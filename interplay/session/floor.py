"""Who has the floor: whether the person makes a sound, and when there is an opening to speak into."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from interplay.core.audio import level_db

TAIL = 1_600  # samples, 100 ms: what the end of a slice sounds like says whether the person has stopped
LOUDEST_QUIET_DB = -35.0
ABOVE_NOISE_DB = 12.0
START_NOISE_DB = -62.0
NOISE_TURNS = 50  # 10 s: the quietest of them is the noise of the room
OPEN_TURNS = 3  # micro-turns without a word or a sound: 0.6 s
PATIENT_S = 8.0  # after this a steady noise is no reason to wait any longer
LONGEST_S = 20.0  # and after this nothing is


@dataclass(slots=True)
class Floor:
    """Fed once per micro-turn with what the person sounds like."""

    _noise: deque[float] = field(default_factory=lambda: deque(maxlen=NOISE_TURNS))
    _silent: int = 100
    _unheard: int = 100

    @property
    def silent(self) -> int:
        """Micro-turns, the newest included, whose end was silent."""
        return self._silent

    def update(self, audio: np.ndarray, heard: str) -> None:
        """audio: float32 (3200,), this slice. heard: words understood in it, or ""."""
        tail = level_db(audio[-TAIL:])
        noise = min(self._noise, default=START_NOISE_DB)
        self._noise.append(tail)
        quiet = tail < min(LOUDEST_QUIET_DB, max(noise, START_NOISE_DB) + ABOVE_NOISE_DB)
        self._silent = self._silent + 1 if quiet else 0
        self._unheard = 0 if heard else self._unheard + 1

    def open(self, waited_s: float) -> bool:
        """True if something that has waited this long may be said now: the longer it waits, the less it takes.

        Sound alone holds a result back for 8 s only: a fan or a phantom must not make it unspoken for ever.
        """
        if waited_s >= LONGEST_S:
            return True
        if self._unheard < OPEN_TURNS:
            return False
        return self._silent >= OPEN_TURNS or waited_s >= PATIENT_S
