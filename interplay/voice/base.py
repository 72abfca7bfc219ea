"""What a session needs of a voice: words go in, 200 ms of speech come out, and every audible word is accounted for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from interplay.core.types import OUTPUT_SAMPLES


@dataclass(frozen=True, slots=True)
class VoiceTurn:
    """The speech of one micro-turn.

    audio: float32 (4800,), 24 kHz mono. audible: (word, seconds into this slice) for every word whose sound starts in
    this slice, in order.
    """

    audio: np.ndarray = field(default_factory=lambda: np.zeros(OUTPUT_SAMPLES, np.float32))
    audible: tuple[tuple[str, float], ...] = ()


class Voice(Protocol):
    """One speaker of one session. Called from one task; `step` never waits for a render."""

    name: str

    @property
    def pending(self) -> tuple[str, ...]:
        """Words that were queued and are not audible yet, in order."""
        ...

    @property
    def speaking(self) -> bool:
        """True while a word sounds or waits to."""
        ...

    def say(self, text: str) -> None:
        """Queue words to be spoken as soon as what is queued before them is over."""
        ...

    async def settle(self, timeout_s: float) -> None:
        """Wait, at most this long, until the next words are rendered: what is ready now is audible in this turn."""
        ...

    def step(self) -> VoiceTurn:
        """The next 200 ms of speech; silence while nothing is queued or ready."""
        ...

    def stop(self) -> list[str]:
        """Fall silent within a few ms of the next slice, without a click. Returns the words that nobody will hear."""
        ...

    def pause(self) -> list[str]:
        """As `stop`, but a word that is cut in its middle is among those returned, first: it can be said again."""
        ...

    def reset(self) -> None:
        """Forget everything queued and sounding, at once. For a new session."""
        ...


class SilentVoice:
    """A voice that makes every word audible in time, without a sound: for sessions whose user only reads."""

    name = "silent"
    words_per_turn = 1

    def __init__(self) -> None:
        self._queue: list[str] = []

    @property
    def pending(self) -> tuple[str, ...]:
        return tuple(self._queue)

    @property
    def speaking(self) -> bool:
        return bool(self._queue)

    def say(self, text: str) -> None:
        self._queue += text.split()

    async def settle(self, timeout_s: float) -> None:
        return None

    def step(self) -> VoiceTurn:
        words, self._queue = self._queue[: self.words_per_turn], self._queue[self.words_per_turn :]
        return VoiceTurn(audible=tuple((word, 0.0) for word in words))

    def stop(self) -> list[str]:
        dropped, self._queue = self._queue, []
        return dropped

    def pause(self) -> list[str]:
        return self.stop()

    def reset(self) -> None:
        self._queue = []
