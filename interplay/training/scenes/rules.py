"""What stays in force: reminders, cues, counts, stopwatch, and the modes in which every word is answered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from interplay.core.types import MICRO_TURN_S
from interplay.training.language import NUMBERS, Request, spanish
from interplay.training.language.forms import CONFUSED
from interplay.training.language.words import HESITATIONS

FOREVER = 1 << 30
_TIMED = ("every", "after", "minute")
_MODES = ("filler", "switch", "drill", "translate", "shadow", "along")
_ECHOES = ("translate", "shadow", "along")
_FILLERS = frozenset((*HESITATIONS, "basically"))


@dataclass(slots=True)
class Rule:
    """A request in force from `turn` (exclusive) to `until` (inclusive); times count from `end_s`."""

    request: Request
    end_s: float
    turn: int
    until: int = FOREVER
    done: int = 0  # how many times it was due

    def next_due(self) -> int:
        """The micro-turn whose output is audible at the next due time, or FOREVER."""
        return self.due(self.done + 1)

    def due(self, k: int) -> int:
        """The micro-turn whose output is audible at the k-th due time, from 1 on, or FOREVER."""
        request = self.request
        if request.kind == "minute":
            seconds = 60.0 * math.ceil((self.end_s + 0.3) / 60) if k == 1 else math.inf
        elif request.kind == "after":
            seconds = self.end_s + request.seconds if k == 1 else math.inf
        else:
            over = request.lasting and k * request.seconds > request.lasting + 0.01
            seconds = math.inf if over else self.end_s + k * request.seconds
        return FOREVER if seconds == math.inf else round(seconds / MICRO_TURN_S) - 1


class Rules:
    """Everything that was asked for and still holds."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.counts: Counter[str] = Counter()
        self.counted = ""
        self.clock_s: float | None = None
        self.last_said_s: dict[str, float] = {}

    def adopt(self, request: Request, end_s: float, turn: int) -> bool:
        """Put `request` in force; False if it is nothing that stays."""
        kind = request.kind
        if kind in _TIMED or kind in _MODES or kind == "cue":
            if kind in _ECHOES:  # one of them at a time
                self.rules = [r for r in self.rules if r.request.kind not in _ECHOES]
            self.rules.append(Rule(request, end_s, turn))
        elif kind == "revise":
            timed = [r for r in self.rules if r.request.kind in ("every", "after") and r.next_due() < r.until]
            if timed:
                last = timed[-1]
                old = last.request
                changed = Request(old.kind, old.phrase, request.seconds, lasting=old.lasting)
                self.rules[self.rules.index(last)] = Rule(changed, end_s, turn)
        elif kind == "cancel":
            gone = set(request.phrase)
            self.rules = [r for r in self.rules if not gone & {*r.request.phrase, r.request.cue}]
        elif kind == "count":
            self.counted = request.cue
            self.counts[request.cue] = 0
        elif kind == "clock":
            self.clock_s = end_s
        else:
            return False
        return True

    def undo(self) -> None:
        """Forget the latest rule: it was said wrong."""
        if self.rules:
            self.rules.pop()

    def stop(self, turn: int) -> None:
        """Everything ends with micro-turn `turn`."""
        for rule in self.rules:
            rule.until = min(rule.until, turn)
        self.counted = ""

    def due(self, turn: int) -> list[tuple[str, ...]]:
        """The phrases whose time is micro-turn `turn`."""
        found = []
        for rule in self.rules:
            if rule.request.kind not in _TIMED:
                continue
            while (due := rule.next_due()) <= turn:
                rule.done += 1
                if due == turn and rule.turn < turn <= rule.until:
                    found.append(rule.request.phrase)
        return found

    def tempting(self, turn: int) -> bool:
        """Is nothing due in micro-turn `turn`, although it lies where a reminder would be if it came again, or still
        held? These are the moments at which a model speaks that has learnt when, and not yet when no more."""
        now, tempted = (turn + 1) * MICRO_TURN_S, False
        for rule in self.rules:
            kind, seconds = rule.request.kind, rule.request.seconds
            if kind not in ("every", "after") or turn <= rule.turn or now - rule.end_s < seconds / 2:
                continue
            away = abs(now - rule.end_s - round((now - rule.end_s) / seconds) * seconds)
            if away < 1.5 * MICRO_TURN_S:
                if turn <= rule.until and any(abs(rule.due(k) - turn) <= 1 for k in (rule.done, rule.done + 1) if k):
                    return False
                tempted = True
        return tempted

    def times(self, turn: int) -> tuple[float, float]:
        """Seconds that the stopwatch has run, and that are left to the next reminder; NaN where there is none."""
        now = (turn + 1) * MICRO_TURN_S
        timed = [(rule.next_due(), rule.until) for rule in self.rules if rule.request.kind in _TIMED]
        due = min((due for due, until in timed if due <= until), default=FOREVER)
        left = math.nan if due == FOREVER else (due - turn) * MICRO_TURN_S
        return math.nan if self.clock_s is None else now - self.clock_s, left

    def heard(self, word: str, turn: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(kind of speech, words) that the word heard in `turn` calls for in the next one."""
        for rule in self.rules:
            request = rule.request
            if not rule.turn < turn <= rule.until:
                continue
            match request.kind:
                case "cue" if word == request.cue:
                    yield "cue", request.phrase
                case "filler" if word in _FILLERS:
                    yield "cue", request.phrase
                case "drill" if word in CONFUSED[request.cue]:
                    yield "cue", (request.cue,)
                case "switch" if word in spanish.TO_ENGLISH:
                    yield "cue", (spanish.TO_ENGLISH[word],)
                case "translate" if word in (table := _table(request)):
                    yield "echo", (table[word],)
                case "shadow" if word != "stop":
                    yield "echo", (word,)
                case "along" if word in NUMBERS:
                    yield "echo", (word,)

    def echoing(self, turn: int) -> bool:
        """Is a mode in force in which every word is answered?"""
        return any(rule.request.kind in _ECHOES and rule.turn < turn <= rule.until for rule in self.rules)

    def talk(self, words: list[tuple[str, float]]) -> None:
        """(word, end in seconds) of something said that asks for nothing: what counts, counts here."""
        self.last_said_s.update(words)
        if self.counted:
            self.counts[self.counted] += sum(word == self.counted for word, _ in words)


def _table(request: Request) -> dict[str, str]:
    return spanish.TO_SPANISH if request.topic == "to_spanish" else spanish.TO_ENGLISH
