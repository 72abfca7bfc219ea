"""What a delegation carries: the conversation so far, not just a query.

A projection of the timeline: what was understood of the person, and what of the agent's speech became audible. Words
that were decided and cut off are not in it, because the person never heard them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from interplay.core.timeline import Record
from interplay.core.types import INPUT_RATE, INPUT_SAMPLES

GAP_S = 1.5  # of silence: then a new line begins
AUDIO_S = 30.0
FRAMES = 4
FRAME_EVERY = 5  # micro-turns: one frame a second is kept
MAX_CHARS = 24_000
SPEAKERS = {("user", "heard"): "user", ("user", "text"): "user", ("agent", "said"): "agent"}


@dataclass(frozen=True, slots=True)
class Line:
    """What one side said without a pause. t, end_s: session seconds of its first and last word."""

    t: float
    who: str
    text: str
    end_s: float
    typed: bool = False


@dataclass(frozen=True, slots=True)
class ContextPackage:
    """Everything a background gets with a delegation.

    question: what the person asked last, as it was understood. asked_s: session seconds. lines: the transcript of both
    sides. audio: float32 (n,), 16 kHz, the newest seconds of the person's sound up to `asked_s`, or None. frames: uint8
    (H, W, 3) each, oldest first. recognised: what a second recogniser, which knows all words, made of the person's
    sound. meant: the question in that, "" where there is none. memory: what is known of the person from before.
    instructions: the agent's, for its background. others: questions that are being worked on at the same time. wall:
    the person's date and time, None in a file run.
    """

    question: str
    asked_s: float = 0.0
    lines: tuple[Line, ...] = ()
    audio: np.ndarray | None = None
    frames: tuple[np.ndarray, ...] = ()
    recognised: tuple[Line, ...] = ()
    meant: str = ""
    memory: str = ""
    instructions: str = ""
    others: tuple[str, ...] = ()
    wall: datetime | None = None

    def transcript(self, max_chars: int = MAX_CHARS) -> str:
        """The lines as text, `[12.4 s] user: ...`, newest kept if it is too long."""
        return _text(self.lines, max_chars)

    def second_transcript(self, max_chars: int = MAX_CHARS) -> str:
        """What the second recogniser understood of the person, in the same form; "" without one."""
        return _text(self.recognised, max_chars)


def _text(lines: Sequence[Line], max_chars: int) -> str:
    out: deque[str] = deque()
    size = 0
    for line in reversed(lines):
        text = f"[{line.t:.1f} s] {line.who}{' (typed)' if line.typed else ''}: {line.text}"
        size += len(text) + 1
        if size > max_chars and out:
            out.appendleft("[earlier lines left out]")
            break
        out.appendleft(text)
    return "\n".join(out)


class Conversation:
    """The transcript of a session, kept up to date record by record. At most `limit` lines."""

    def __init__(self, *, gap_s: float = GAP_S, limit: int = 2_000) -> None:
        self._gap_s = gap_s
        self._closed: deque[Line] = deque(maxlen=limit)
        self._open: dict[str, tuple[float, float, list[str]]] = {}

    def add(self, record: Record) -> None:
        """Take one record of the timeline; those that are not speech are passed over."""
        who = SPEAKERS.get((record["lane"], record["kind"]))
        text = str(record.get("text", "")).strip()
        if who is None or not text:
            return
        t = float(record["t"])
        if record["kind"] == "text":
            self._closed.append(Line(t, who, text, t, typed=True))
            return
        if who in self._open and t - self._open[who][1] > self._gap_s:
            self._close(who)
        start, _, words = self._open.get(who, (t, t, []))
        words.append(text)
        self._open[who] = (start, t, words)

    def lines(self) -> tuple[Line, ...]:
        """Both sides, in the order in which the lines began."""
        current = [Line(t, who, " ".join(words), end) for who, (t, end, words) in self._open.items()]
        return tuple(sorted([*self._closed, *current], key=lambda line: line.t))

    def since(self, t: float) -> tuple[Line, ...]:
        """Lines with a word after session second `t`."""
        return tuple(line for line in self.lines() if line.end_s > t)

    def last(self, who: str) -> str:
        """The newest line of one side, or ""."""
        return next((line.text for line in reversed(self.lines()) if line.who == who), "")

    def _close(self, who: str) -> None:
        t, end, words = self._open.pop(who)
        self._closed.append(Line(t, who, " ".join(words), end))


def lines_of(records: Iterable[Record], gap_s: float = GAP_S) -> tuple[Line, ...]:
    """The transcript of a whole timeline."""
    conversation = Conversation(gap_s=gap_s)
    for record in records:
        conversation.add(record)
    return conversation.lines()


@dataclass(slots=True)
class Recent:
    """The newest sound and pictures of a session, in bounded memory."""

    _audio: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=int(AUDIO_S * INPUT_RATE / INPUT_SAMPLES)))
    _frames: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=FRAMES))
    _turn: int = 0

    def add(self, audio: np.ndarray, frame: np.ndarray | None) -> None:
        """audio: float32 (3200,), one micro-turn."""
        self._audio.append(audio)
        if frame is not None and self._turn % FRAME_EVERY == 0:
            self._frames.append(frame)
        self._turn += 1

    def audio(self) -> np.ndarray:
        """float32 (n,), 16 kHz, at most 30 s."""
        return np.concatenate(self._audio) if self._audio else np.zeros(0, np.float32)

    def frames(self) -> tuple[np.ndarray, ...]:
        return tuple(self._frames)
