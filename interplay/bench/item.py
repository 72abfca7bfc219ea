"""One test: what a person says and when, what would be right, and the tape it is cut on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interplay.bench.mixing import SNR_DB, mix
from interplay.bench.people import Utterance
from interplay.core.types import INPUT_RATE

WORD_S = 0.4  # the pace at which a foreground says the words of a phrase


@dataclass(frozen=True, slots=True)
class Due:
    """Speech that is asked for: `phrase` with its first word audible within [start, end] seconds."""

    phrase: tuple[str, ...]
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Beat:
    """One thing that the ideal listener does: a word that becomes audible at `t`, or an action at `t`."""

    t: float
    word: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What reaches the microphone once the agent talks: `audio` begins `delay_s` after the first word that the agent
    says after `since_s`. after_s: how long the session goes on when it is over. If the agent says nothing until
    `deadline_s`, the session ends there."""

    audio: np.ndarray
    words: tuple[tuple[str, float], ...]
    delay_s: float
    since_s: float
    deadline_s: float
    after_s: float = 3.0

    @property
    def longest_s(self) -> float:
        """How long the session can become."""
        return self.deadline_s + self.delay_s + len(self.audio) / INPUT_RATE + self.after_s


@dataclass(frozen=True, slots=True)
class Item:
    """One test. audio: float32, 16 kHz, noise included; it is as long as the test, three silent seconds follow.

    words: what the person says, with ends. script: what an ideal listener would do. expected: the one response that
    counts, allowed: everything that was asked for, `expected` included. facts: what else the judge needs.
    typed: (second, message) for what the person types instead of saying it.
    """

    task: str
    category: str
    audio: np.ndarray
    words: tuple[tuple[str, float], ...]
    script: tuple[Beat, ...] = ()
    expected: Due | None = None
    allowed: tuple[Due, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    reaction: Reaction | None = None
    typed: tuple[tuple[float, str], ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.audio) / INPUT_RATE


def phrase_beats(phrase: tuple[str, ...], t: float) -> tuple[Beat, ...]:
    """The words of a phrase at the pace of speech, from `t` on."""
    return tuple(Beat(t + i * WORD_S, word) for i, word in enumerate(phrase))


@dataclass
class Tape:
    """A recording in the making. time: seconds at which the person has finished what was said so far."""

    rng: random.Random
    time: float = 0.0
    parts: list[tuple[float, np.ndarray]] = field(default_factory=list)
    words: list[tuple[str, float]] = field(default_factory=list)

    def say(self, utterance: Utterance, gap: float = 0.0) -> list[tuple[str, float]]:
        """Append an utterance after `gap` seconds; the (word, end) of what was said."""
        self.time += gap
        self.parts.append((self.time, utterance.audio))
        timed = [(word, self.time + end) for word, end in utterance.words]
        self.words += timed
        self.time = max(self.time + utterance.seconds - 0.1, timed[-1][1])
        return timed

    def overlay(self, audio: np.ndarray, at: float) -> None:
        """Add sound at `at` that is not the person's: its words are nobody's request."""
        self.parts.append((at, audio))

    def render(self, seconds: float, snr_db: float | None = SNR_DB) -> np.ndarray:
        """Everything so far on `seconds` of noise, 15 dB below speech."""
        return mix(self.parts, seconds, snr_db=snr_db, seed=self.rng.randrange(1 << 31))
