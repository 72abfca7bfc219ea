"""What a good listener answers, and the small signs with which it shows that it listens."""

from __future__ import annotations

from typing import NamedTuple

from interplay.training.language import Request, number_words
from interplay.training.language.chatter import HELD_OUT_STORY_OPENINGS, STORY_ENDS, STORY_OPENINGS
from interplay.training.language.facts import REMARKS
from interplay.training.language.words import BACKCHANNELS
from interplay.training.scenes.rules import Rules
from interplay.training.scenes.scene import REPLY_TURNS

STORY_GAP_S, EAGER_GAP_S = 5.0, 2.5  # between backchannels: in an announced story, and for an eager listener
QUIET, EAGER = 0.25, 0.75  # proactivity: up to the first only what was asked for; from the second on side remarks too
_OPENINGS = frozenset((*STORY_OPENINGS, *HELD_OUT_STORY_OPENINGS))
_UNKNOWN = ("i", "do", "not", "know")
_LONG_TALK = 4  # words from which on an eager listener takes a sentence for talk


class Reply(NamedTuple):
    """delay: micro-turns after the last heard word. 0 where the first word follows from the kind of the question,
    so that it can be said as soon as the sentence is over; 1 where it needs the last word."""

    words: tuple[str, ...]
    delay: int = 0


class Replies:
    """Answers, with what the session has told it so far."""

    def __init__(self, proactivity: float) -> None:
        self.proactivity = proactivity
        self.name = ""
        self.memory: dict[str, tuple[str, ...]] = {}
        self._story = False
        self._last_s = -100.0
        self._turn_of = 0
        self._took: int | None = None

    def reply(self, request: Request, end_s: float, rules: Rules) -> Reply | None:
        """What to say to `request`, which was complete at `end_s`; None for nothing."""
        match request.kind:
            case "ask":
                return Reply(request.phrase)
            case "say":
                return Reply(request.phrase, 1)
            case "repeat":
                return Reply(request.phrase, REPLY_TURNS)
            case "elapsed":
                return Reply(self._elapsed(end_s, rules))
            case "since":
                last = rules.last_said_s.get(request.cue)
                return Reply(_UNKNOWN if last is None else _about(end_s - last), 1)
            case "how_many":
                cue = request.cue or next(reversed(rules.counts), "")
                known = cue in rules.counts
                return Reply(("so", "far", *number_words(rules.counts[cue])) if known else _UNKNOWN)
            case "remember":
                self.memory[request.cue] = request.phrase
                return self._unasked(("hello" if request.cue == "name" else "okay", *request.phrase))
            case "recall":
                value = self.memory.get(request.cue)
                return Reply(("it", "is", *value) if value else _UNKNOWN, 1)
            case "persona":
                self.name = request.phrase[0]
                return self._unasked(("okay",))
            case "who":
                return Reply(("i", "am", self.name) if self.name else ("i", "have", "no", "name", "yet"))
            case "greet":
                return self._unasked(("hello",), 1)
        return None

    def _unasked(self, words: tuple[str, ...], delay: int = 0) -> Reply | None:
        return Reply(words, delay) if self.proactivity > QUIET else None

    def _elapsed(self, end_s: float, rules: Rules) -> tuple[str, ...]:
        if rules.clock_s is not None:
            self._took, rules.clock_s = round(end_s - rules.clock_s), None
        return _UNKNOWN if self._took is None else _about(self._took)

    def remark(self, words: list[str]) -> tuple[str, ...]:
        """An eager listener's answer to something said to nobody in particular."""
        return tuple(REMARKS.get(" ".join(words), "").split()) if self.proactivity >= EAGER else ()

    def backchannel(self, words: list[str], end_s: float) -> str:
        """The sign of listening that is due after this sentence, or ""."""
        text = " ".join(words)
        self._story = (self._story or text in _OPENINGS) and text not in STORY_ENDS
        eager = self.proactivity >= EAGER and len(words) >= _LONG_TALK
        gap = EAGER_GAP_S if eager else STORY_GAP_S
        if self.proactivity <= QUIET or not (eager or self._story) or end_s - self._last_s < gap:
            return ""
        self._last_s = end_s
        self._turn_of += 1
        return BACKCHANNELS[(self._turn_of - 1) % len(BACKCHANNELS)]


def _about(seconds: float) -> tuple[str, ...]:
    """A duration to the nearest second, in words."""
    whole = min(max(0, round(seconds)), 999)
    return ("about", *number_words(whole), "second" if whole == 1 else "seconds")
