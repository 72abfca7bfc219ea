"""The agent's voice on the clock: providers send sound faster than it is heard; here it waits for its micro-turn."""

from __future__ import annotations

from collections import deque

import numpy as np

from interplay.core.types import OUTPUT_RATE, OUTPUT_SAMPLES

MAX_SAMPLES = 180 * OUTPUT_RATE  # three minutes of speech: no answer is longer, and a broken provider must end


class Player:
    """Sound and its words, by position. A word counts as said when the sound that came after it begins to be heard."""

    def __init__(self) -> None:
        self._blocks: deque[np.ndarray] = deque()
        self._waiting = 0
        self._pushed = 0  # samples ever pushed
        self._answer_at = 0  # where the present answer begins
        self._open = False  # more of the present answer may come
        self._words: deque[tuple[int, str]] = deque()
        self._part, self._part_at = "", 0
        self.dropped = 0

    @property
    def busy(self) -> bool:
        """Is something being said, or about to be?"""
        return self._waiting > 0 or bool(self._words)

    @property
    def played_ms(self) -> int:
        """How much of the present answer has been heard; 0 while an older one is still being played."""
        return max(0, self._pushed - self._waiting - self._answer_at) * 1000 // OUTPUT_RATE

    @property
    def coming(self) -> list[str]:
        """The words whose sound is here and will be heard, unless somebody interrupts."""
        words = [word for at, word in self._words if at < self._pushed]
        return [*words, self._part] if self._part and self._part_at < self._pushed else words

    def push(self, samples: np.ndarray) -> None:
        """More sound, float32 (n,) at 24 kHz; what is too much is dropped and counted."""
        room = MAX_SAMPLES - self._waiting
        self.dropped += max(0, len(samples) - room)
        samples = samples[:room]
        if len(samples):
            self._blocks.append(samples)
            self._waiting += len(samples)
            self._pushed += len(samples)

    def text(self, piece: str, *, trails: bool = False) -> None:
        """More transcript. Words are whole once a space follows, or at the end of the answer.

        trails: its sound came before it. It is said at the latest with the last of that.
        """
        here = max(self._answer_at, self._pushed - 1) if trails else self._pushed
        if not self._part:
            self._part_at = here
        *whole, rest = (self._part + piece).replace("\n", " ").split(" ")
        for word in whole:
            if word:
                self._words.append((self._part_at, word))
                self._part_at = here  # only the first began with an earlier piece
        if whole:
            self._part_at = here
        self._part = rest
        while len(self._words) > 5000:
            self._words.popleft()

    def begin_answer(self) -> None:
        """The next sound is the first of an answer: `played_ms` counts from there."""
        self._answer_at, self._open = self._pushed, True

    def end_answer(self) -> None:
        """The answer is complete: its last word is whole, and words that came after the sound belong to its end."""
        if self._part:
            self._words.append((self._part_at, self._part))
            self._part = ""
        self._open = False

    def cut_answer(self) -> list[str]:
        """No more of the answer will come. Sound that is here is still heard; returns the words that have none."""
        if not self._open:
            return []
        self.end_answer()
        lost = [word for at, word in self._words if at >= self._pushed]
        while self._words and self._words[-1][0] >= self._pushed:
            self._words.pop()
        return lost

    def take(self) -> tuple[np.ndarray, str]:
        """The next micro-turn: float32 (4800,), silence where there is no sound, and the words that start in it."""
        audio = np.zeros(OUTPUT_SAMPLES, np.float32)
        at = 0
        while at < OUTPUT_SAMPLES and self._blocks:
            block = self._blocks.popleft()
            n = min(len(block), OUTPUT_SAMPLES - at)
            audio[at : at + n] = block[:n]
            if n < len(block):
                self._blocks.appendleft(block[n:])
            at += n
        self._waiting -= at
        heard_to = self._pushed - self._waiting
        words = []
        # A word at the very end of the sound so far has no sound yet; at the end of an answer it is said with the last.
        while self._words and (self._words[0][0] < heard_to or not (self._waiting or self._open)):
            words.append(self._words.popleft()[1])
        return audio, " ".join(words)

    def flush(self) -> list[str]:
        """Fall silent; returns the words that nobody will hear."""
        unsaid = [word for _, word in self._words] + ([self._part] if self._part else [])
        self._blocks.clear()
        self._words.clear()
        self._pushed -= self._waiting
        self._waiting, self._part, self._open = 0, "", False
        return unsaid
