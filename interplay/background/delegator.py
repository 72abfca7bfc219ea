"""A stopgap: decides when to delegate, for foregrounds that hear and do not delegate themselves.

It reads the words such a foreground understood and what is typed, and acts on whole utterances: a question goes to the
background and is acknowledged, "never mind" withdraws, "are you still looking?" is answered from what is known, a word
of correction steers, and results are spoken when nobody talks. A foreground with `Capabilities.delegates` decides all
of this itself, and this file is then not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from interplay.background.utterance import BACKCHANNELS, Kind, classify, is_complete, is_question, normal, says_yes
from interplay.core.types import Action

GAP_TURNS = 4  # micro-turns without a heard word: the utterance is over
PATIENCE_TURNS = 10  # and so long for one that sounds unfinished
UNHEARD_TURNS = 5  # sound that has not become a word by then is none
ACKNOWLEDGEMENTS = ("Let me see.", "One moment.", "Let me look.")
INTERRUPTING_WORDS = 2
SHORT = (Kind.STOP, Kind.RESUME, Kind.YES, Kind.NO, Kind.BACKCHANNEL)  # complete, short as they are
ALONE = (Kind.WITHDRAW, Kind.PROGRESS, Kind.STOP, Kind.CORRECTION, Kind.QUESTION)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the delegator may know of the moment. working: questions under way. asking: a task waits for an answer.
    reading: a result is being read aloud. rest: there is an unread rest of one. silent: micro-turns, this one included,
    since the person last made a sound.
    """

    working: tuple[str, ...] = ()
    asking: bool = False
    reading: bool = False
    rest: bool = False
    silent: int = 100


@dataclass(frozen=True, slots=True)
class Decision:
    """actions: what a delegating foreground would have put out. say: words to speak now."""

    actions: tuple[Action, ...] = ()
    say: str = ""


@dataclass(slots=True)
class Delegator:
    """One per session. Feed it every micro-turn, in order."""

    _words: list[str] = field(default_factory=list)
    _last: int = -100
    _asked: str = ""  # what was delegated of the utterance that is going on
    _acknowledged: int = 0

    def step(self, turn: int, heard: str, typed: tuple[str, ...], moment: Moment) -> Decision:
        """heard: words understood in this micro-turn, or "". typed: whole messages."""
        for message in typed:
            if (decision := self._whole(message, moment)) is not None:
                return decision
        if heard:
            self._words += heard.split()
            self._last = turn
        if not self._words:
            return Decision()
        self._part()
        text = " ".join(self._words)
        since = turn - self._last
        # Not a rest between two words, but the end of them: no sound since, which might be a word still to be heard.
        ended = moment.silent > since or (moment.silent and since >= UNHEARD_TURNS)
        complete = is_complete(text) or classify(text) in SHORT
        ended = bool(ended) and (complete or since >= PATIENCE_TURNS)
        if heard and moment.reading and self._interrupts(text):
            if ended:
                return self._end(text, moment, cut=True)
            return Decision((Action("yield", {"reason": "interrupted"}),))
        if ended and self._urgent(text):
            return self._end(text, moment)
        if since >= (GAP_TURNS if complete else PATIENCE_TURNS):
            return self._end(text, moment, over=True)
        return Decision()

    def _part(self) -> None:
        """Words that follow what was acted on without a pause are an utterance of their own if they can stand alone."""
        acted = self._asked.split()
        rest = normal(" ".join(self._words)).split()
        if not acted or rest[: len(acted)] != acted:
            return
        rest = rest[len(acted) :]
        if classify(" ".join(rest)) in ALONE:
            self._words, self._asked = rest, ""

    def _urgent(self, text: str) -> bool:
        """Worth acting on at once: it has not been acted on already as it stands."""
        return normal(text) != self._asked and classify(text) is not Kind.OTHER

    def _interrupts(self, text: str) -> bool:
        words = [word for word in normal(text).split() if word not in BACKCHANNELS]
        return len(words) >= INTERRUPTING_WORDS or classify(text) in (Kind.STOP, Kind.WITHDRAW)

    def _end(self, text: str, moment: Moment, *, cut: bool = False, over: bool = False) -> Decision:
        """An utterance is complete, as far as one can tell now; `over`: and nothing more belongs to it."""
        done = normal(text) == self._asked
        decision = None if done else self._whole(text, moment)
        if decision is not None and not over:
            self._asked = normal(text)
        if over:
            self._words, self._asked = [], ""
        decision = decision or Decision()
        if cut:
            stop = next((a for a in decision.actions if a.kind == "yield"), Action("yield", {"reason": "interrupted"}))
            decision = Decision((stop, *(a for a in decision.actions if a.kind != "yield")), decision.say)
        return decision

    def _whole(self, text: str, moment: Moment) -> Decision | None:
        """What to do about one utterance; None if nothing."""
        kind = classify(text)
        if kind is Kind.WITHDRAW and (moment.working or moment.reading or moment.rest):
            which = "all" if any(w in normal(text).split() for w in ("everything", "all")) else "last"
            return Decision((Action("withdraw", {"which": which, "text": text}),), "Okay.")
        if kind is Kind.STOP:
            return Decision((Action("yield", {"reason": "stop"}),)) if moment.reading or moment.rest else None
        if moment.asking and (says_yes(text) is not None or kind in (Kind.OTHER, Kind.CORRECTION, Kind.YES, Kind.NO)):
            return Decision((Action("answer", {"text": text}),))
        if kind is Kind.PROGRESS and (moment.working or moment.rest):
            return Decision((Action("status"),))
        if kind is Kind.RESUME and moment.rest:
            return Decision((Action("resume"),))
        if is_question(text) and is_complete(text):
            return Decision((Action("delegate", {"text": text, "revises": self._asked}),), self._acknowledge(text))
        if kind is Kind.CORRECTION and moment.working:
            return Decision((Action("steer", {"text": text}),), "Okay.")
        return None

    def _acknowledge(self, text: str) -> str:
        """Once per utterance: an utterance that goes on is not acknowledged a second time."""
        if self._asked and normal(text).startswith(self._asked):
            return ""
        self._acknowledged += 1
        return ACKNOWLEDGEMENTS[(self._acknowledged - 1) % len(ACKNOWLEDGEMENTS)]
