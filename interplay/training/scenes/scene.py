"""What a scene is: the input of a session, micro-turn by micro-turn, and what the model should have done in each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from interplay.training.language import Request

LOOKAHEAD_S = 0.15  # a word is due in the first micro-turn that has heard this much beyond its end
REPLY_TURNS = 2  # repeat-after-me starts this many micro-turns after the last word: a list may go on
WORD_TURNS = 2  # words of a phrase follow each other at speech pace
LONGEST_PREFIX = 48


@dataclass(slots=True)
class Scene:
    """One training example of `turns` micro-turns. Every list is in ascending turns, at most one word a turn.

    power: float32 (turns x 10, 80), mel power of what the microphone hears.
    heard: words of the person, due 0.15 s after they end. said: words that the model puts out.
    requests: (second at which it was complete, request).
    decisions: what the model decides where that is neither `listen` (no word put out) nor `speak` (a word put out);
        `backchannel` and `tool` belong to a word in `said`, `yield`, `delegate` and `deliver` to none.
    events: words of text events (typed messages, tool results).
    voiced: words of a delivered text that the session's voice reads aloud. They are fed back exactly as said words
        are, but they are no targets: the model decides `listen` there, unless `decisions` says otherwise.
    pending, busy, missing: micro-turns with that mark. prefix: what was agreed before the session started.
    frames: uint8 (turns, 80, 80, 3), one RGB picture a micro-turn, or None.
    """

    power: np.ndarray
    heard: list[tuple[int, str]]
    said: list[tuple[int, str]]
    requests: list[tuple[float, Request]]
    decisions: dict[int, str] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    voiced: list[tuple[int, str]] = field(default_factory=list)
    pending: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    prefix: tuple[str, ...] = ()
    proactivity: float = 0.5
    frames: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Mix:
    """Which programs a scene draws from, and how often its speech is recorded rather than synthesised."""

    every: float = 1.0
    after: float = 1.0
    cue: float = 1.6
    repeat: float = 0.7
    chatter: float = 0.7
    natural: float = 0.5
