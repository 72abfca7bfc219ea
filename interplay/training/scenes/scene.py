"""What a scene is: the input of a session, micro-turn by micro-turn, and what the model should have done in each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

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
    tempting: micro-turns of silence in which it would be easy to speak (`Listener.tempting`).
    seen: float32 (turns, labels), what is in them, for training alone (`video/seen.py`), or None.
    times: float32 (turns, 3), seconds that the stopwatch has run, seconds left to the next reminder, and words left of
        what the listener is saying, NaN where there is none; for training alone.
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
    seen: np.ndarray | None = None
    tempting: set[int] = field(default_factory=set)
    times: np.ndarray | None = None

    @property
    def delegated(self) -> set[int]:
        """Micro-turns right after a delegation: there the model is told of it, as it puts out no word."""
        return {turn + 1 for turn, decision in self.decisions.items() if decision == "delegate"}


@dataclass(frozen=True, slots=True)
class Mix:
    """Which programs a scene draws from (weights), and what else varies (probabilities).

    `Mix()` is the first five programs alone, in a plain world; `Mix.everything()` is the whole curriculum.
    """

    every: float = 1.0
    after: float = 1.0
    cue: float = 1.6
    repeat: float = 0.7
    chatter: float = 0.7
    several: float = 0.0
    lasting: float = 0.0
    minute: float = 0.0
    revise: float = 0.0
    elapsed: float = 0.0
    filler: float = 0.0
    count: float = 0.0
    switch: float = 0.0
    drill: float = 0.0
    question: float = 0.0
    memory: float = 0.0
    pause: float = 0.0
    correct: float = 0.0
    interrupt: float = 0.0
    keep: float = 0.0
    story: float = 0.0
    remark: float = 0.0
    translate: float = 0.0
    shadow: float = 0.0
    along: float = 0.0
    delegate: float = 0.0
    tool: float = 0.0
    typed: float = 0.0
    natural: float = 0.5  # share of speech that is recorded, where there is a bank
    decoy: float = 0.0  # share of programs in which the request is only quoted, or meant for somebody else
    standing: float = 0.0  # share of scenes with a prefix
    manners: float = 0.0  # share of scenes with a proactivity of their own; 0.5 in the others
    side: float = 0.0  # share of scenes with a second voice or a radio
    echo: float = 0.0  # share of scenes in which the agent's own voice leaks back
    missing: float = 0.0  # share of scenes that lose micro-turns
    line: float = 0.0  # share of scenes with level jumps, clipping or a phone codec
    bursts: float = 0.0  # share of scenes with short noises: a cough, a door
    breadth: float = 0.0  # share of content words from beyond the core
    looseness: float = 0.0  # share of reminders and cues that are put together from loose parts
    variety: float = 1.0  # how far speakers are from the voice or the recording they come from (speakers.py)

    @classmethod
    def everything(cls, **changes: float) -> Mix:
        """All families; `changes` override single dials."""
        whole = {name: 1.0 for name in PROGRAMS} | {"minute": 0.3, "cue": 1.6, "question": 1.6, "interrupt": 1.6}
        world = {"decoy": 0.3, "standing": 0.15, "manners": 0.6, "side": 0.15, "echo": 0.4, "missing": 0.15}
        speech = {"line": 0.25, "bursts": 0.2, "breadth": 0.08, "looseness": 0.3}
        return cls(**(whole | world | speech | changes))

    @classmethod
    def only(cls, *programs: str, **changes: float) -> Mix:
        """These programs alone, in equal parts and in a plain world; `changes` set dials beside."""
        return cls(**({name: float(name in programs) for name in PROGRAMS} | changes))


_DIALS = (
    "natural", "decoy", "standing", "manners", "side", "echo", "missing", "line", "bursts", "breadth", "looseness",
    "variety",
)  # fmt: skip
PROGRAMS = tuple(f.name for f in fields(Mix) if f.name not in _DIALS)
