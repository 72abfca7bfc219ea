"""The good listener: what an interaction model should do, written down as a causal machine.

It gets exactly what the model gets, micro-turn by micro-turn (words when they have been heard, when the person started
and stopped sounding, typed words, marks), and puts out one decision and at most one word. Scene programs only say what
people do; every target of training is what this listener did, so no target can depend on the future.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from interplay.core.types import MICRO_TURN_S
from interplay.training.language import Request, corrected, parse_request
from interplay.training.language.words import NAMES
from interplay.training.scenes.replies import QUIET, Replies
from interplay.training.scenes.rules import Rules
from interplay.training.scenes.scene import WORD_TURNS

STOP_AFTER_S = 0.2  # so much of a person's speech tells an interruption from a short "mhm"
OPENING_S = 0.6  # silence after which a waiting result may be delivered
SILENT_S = 0.1  # the person is silent if the last sound ended this long ago
PATIENCE_TURNS = 20  # an answer that finds no opening for so long is dropped
PAUSE_S = 4.0  # a sentence that was left open is forgotten after this
THINKING_S = 3.0  # after so long in a thinking pause it is no longer hard to wait
CORRECTING = ("no", "wait", "i", "sorry", "or")  # how a self-correction may begin


class Token(NamedTuple):
    """A word as it is heard. final: silence follows. open: what was said so far is plainly unfinished."""

    turn: int
    word: str
    end_s: float
    final: bool = False
    open: bool = False


class Sound(NamedTuple):
    """The person is audible from start_s to end_s. backchannel: softly, "mhm" or the like, without taking the floor."""

    start_s: float
    end_s: float
    backchannel: bool = False


class Input(NamedTuple):
    """What micro-turn `turn` brings. sounds: all of the person's that started before its end, in order."""

    turn: int
    token: Token | None = None
    sounds: tuple[Sound, ...] = ()
    typed: str = ""
    pending: bool = False
    busy: bool = False


class Output(NamedTuple):
    decision: str = "listen"
    word: str = ""


@dataclass(slots=True)
class Speech:
    """Words on their way out. kind: `answer` waits for the floor and yields it; `cue`, `time` and `echo` do neither."""

    words: tuple[str, ...]
    start: int
    kind: str
    said: int = 0


@dataclass
class Listener:
    """One session's listener. prefix: standing instructions, separated by "also"."""

    proactivity: float = 0.5
    prefix: tuple[str, ...] = ()
    queue: list[Speech] = field(default_factory=list)
    current: Speech | None = None
    broken: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    requests: list[tuple[float, Request]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rules = Rules()
        self.replies = Replies(self.proactivity)
        self._next_turn = 0
        self._spoken = self._yielded = -100  # turns: of the last word of a speech, of the last yield
        self._chunk: list[Token] = []
        self._unfinished: list[Token] = []
        self._adopted = False
        self._calls_from = 0
        self._unfinished_end = 0.0
        self._last: list[str] = []
        self._last_end = -10.0
        self._typed: list[str] = []
        self._handled = -1.0
        self._backchannel = (-1, "")
        self._outstanding = False
        self._delegate = False
        self._mute_until = 0.0
        for words in _split(self.prefix, "also"):
            request = parse_request(words)
            if request is not None:
                self._obey(request, 0.0, -1)
        self.queue.clear()  # nothing of a prefix is answered aloud

    @property
    def speaking(self) -> bool:
        """An answer has begun and is not finished."""
        speeches = self.queue if self.current is None else [*self.queue, self.current]
        return any(s.kind == "answer" and s.said for s in speeches)

    def tempting(self, turn: int) -> bool:
        """Is `turn`, in which nothing was said, one in which it would be easy to speak? A reminder that is over would
        come again, a phrase would go on, the person only thinks, or has just taken the floor."""
        now = (turn + 1) * MICRO_TURN_S
        thinking = bool(self._unfinished) and now - self._unfinished_end < THINKING_S
        over = WORD_TURNS <= turn - self._spoken <= WORD_TURNS + 1
        return thinking or over or 0 < turn - self._yielded <= 2 * WORD_TURNS or self.rules.tempting(turn)

    def words_left(self, turn: int) -> float:
        """How many words are left of the phrase that is being said, 0 right after its last one; else NaN."""
        if self.current is not None and self.current.said:
            return len(self.current.words) - self.current.said
        return 0 if turn - self._spoken <= WORD_TURNS + 1 else math.nan

    def step(self, given: Input) -> Output:
        turn, now = given.turn, (given.turn + 1) * MICRO_TURN_S
        self._delegate = False
        if given.token is not None:
            self._hear(given.token)
        self._read(given)
        stopped = self._yield(given, now)
        for words in self.rules.due(turn):
            self._say(words, turn, "time")
        if now <= self._mute_until:
            self.queue, self.current = [], None
        if stopped:
            self._yielded = turn
            return Output("yield")
        if self._delegate:
            return Output("delegate")
        return self._act(given, now)

    # --- hearing ----------------------------------------------------------------------------------------------------

    def _hear(self, token: Token) -> None:
        self._chunk.append(token)
        for kind, words in self.rules.heard(token.word, token.turn):
            self._say(words, token.turn + 1, kind)
        if not token.final and (begun := parse_request([t.word for t in self._chunk])) and begun.kind == "along":
            self._obey(begun, token.end_s, token.turn)  # "count along with me one two": the numbers follow at once
        if token.final:
            chunk, self._chunk = self._chunk, []
            self._utterance(chunk, token)

    def _utterance(self, chunk: list[Token], token: Token) -> None:
        if self._unfinished and token.end_s - self._unfinished_end > PAUSE_S + 2:
            self._unfinished = []
        whole = [*self._unfinished, *chunk]
        if token.open:
            self._unfinished, self._unfinished_end = whole, token.end_s
            return
        self._unfinished = []
        for part in (whole, chunk):
            words = [t.word for t in part]
            request = parse_request(self._addressed(words))
            if request is not None:
                self._last, self._last_end = words, token.end_s
                return self._obey(request, token.end_s, token.turn)
        words = [t.word for t in whole]
        if words[0] in CORRECTING and token.end_s - self._last_end < PAUSE_S and self._correct(words, token):
            return None
        self.rules.talk([(t.word, t.end_s) for t in whole])
        if self.rules.echoing(token.turn):
            return None
        reply = self.replies.remark(words)
        if reply:
            return self._say(reply, token.turn + 1, "answer")
        word = self.replies.backchannel(words, token.end_s)
        if word and not self.speaking:
            self._backchannel = (token.turn + 1, word)

    def _addressed(self, words: list[str]) -> list[str]:
        """The words without the listener's own name in front; nothing if they are for somebody else."""
        rest = words[1:] if words[:1] in (["hey"], ["hello"]) and len(words) > 1 else words
        if rest and rest[0] in NAMES:
            return rest[1:] if rest[0] == self.replies.name else []
        return words

    def _correct(self, words: list[str], token: Token) -> bool:
        """ "... in five seconds" - "no, seven": the request before, corrected, takes the place of the former one."""
        said = [*self._last, *words]
        better = corrected(said)
        request = parse_request(better) if better != said else None
        if request is None:
            return False
        self._last, self._last_end = better, token.end_s
        if self._adopted:
            self.rules.undo()
        self._obey(request, token.end_s, token.turn)
        return True

    def _read(self, given: Input) -> None:
        """Typed words make a message that ends with the first micro-turn without one."""
        if given.typed:
            self._typed.append(given.typed)
            return
        words, self._typed = self._typed, []
        if words == ["timer", "done"]:
            self._say(("your", "timer", "is", "up"), given.turn, "time")
        elif words and (request := parse_request(words)) is not None:
            self._obey(request, given.turn * MICRO_TURN_S, given.turn)

    # --- what was asked for -----------------------------------------------------------------------------------------

    def _obey(self, request: Request, end_s: float, turn: int) -> None:
        self.requests.append((end_s, request))
        if request.topic == "timer_stop" and self.rules.clock_s is not None:
            request = Request("elapsed")  # it is the stopwatch that runs
        match request.kind:
            case "stop":
                self.rules.stop(turn)
                self._drop_answers()
            case "hush":  # only wait: "go on" may follow
                broken = self.broken
                self._drop_answers()
                self.broken = broken
                self._mute_until = end_s + request.seconds if request.seconds else 0.0
            case "resume":
                if self.broken:
                    self._say(self.broken, turn + 1, "answer")
                    self.broken = ()
            case "withdraw":
                self._outstanding = False
                self._drop_answers()
            case "tool":
                self.calls += [*request.phrase, "over"]
                self._calls_from = turn + 1
            case "delegate":
                self._delegate = self._outstanding = True
                if self.proactivity > QUIET:
                    self._say(request.phrase, turn + 1, "answer")
            case _:
                self._adopted = self.rules.adopt(request, end_s, turn)
                if self._adopted:
                    return
                reply = self.replies.reply(request, end_s, self.rules)
                if reply is not None:
                    self._drop_answers()
                    self._say(reply.words, turn + reply.delay, "answer")

    def _drop_answers(self) -> None:
        self.broken = ()
        self.queue = [s for s in self.queue if s.kind != "answer"]
        if self.current is not None and self.current.kind == "answer":
            self.current = None

    def _say(self, words: tuple[str, ...], start: int, kind: str) -> None:
        if words:
            self.queue.append(Speech(words, start, kind))

    # --- acting -----------------------------------------------------------------------------------------------------

    def _yield(self, given: Input, now: float) -> bool:
        """The person takes the floor while an answer or a delivery is under way: no further word of it."""
        for sound in given.sounds:
            if sound.backchannel or sound.start_s <= self._handled or now < sound.start_s + STOP_AFTER_S:
                continue
            self._handled = sound.start_s
            if given.busy or self.speaking:
                speeches = self.queue if self.current is None else [*self.queue, self.current]
                left = next((s for s in speeches if s.kind == "answer" and s.said), None)
                self._drop_answers()
                self.broken = left.words[left.said :] if left else ()
                return True
        return False

    def _silence(self, given: Input, now: float) -> float:
        """Seconds for which the person has been silent at the end of this micro-turn."""
        return min((now - min(s.end_s, now) for s in given.sounds), default=now)

    def _act(self, given: Input, now: float) -> Output:
        turn = given.turn
        silence = self._silence(given, now)
        if not given.busy:
            speech = self._choose(turn, silence)
            if speech is not None and turn >= self._next_turn:
                return self._utter(speech, turn)
        if self.calls and turn >= self._calls_from:
            return Output("tool", self.calls.pop(0))
        due, word = self._backchannel
        if due == turn >= self._next_turn and not given.busy and self.current is None:
            return Output("backchannel", word)
        waiting = self.current or any(s.start <= turn + 1 for s in self.queue) or self._unfinished_now(now)
        if given.pending and self._outstanding and not given.busy and not waiting and silence >= OPENING_S:
            self._outstanding = False
            return Output("deliver")
        return Output()

    def _unfinished_now(self, now: float) -> bool:
        return bool(self._unfinished) and now - self._unfinished_end < PAUSE_S

    def _choose(self, turn: int, silence: float) -> Speech | None:
        """What goes on or begins now. What has its time goes before answers, which continue afterwards."""
        current = self.current
        if current is not None and (current.kind != "answer" or current.said == len(current.words)):
            return current
        self.queue = [s for s in self.queue if s.kind != "answer" or s.said or turn <= s.start + PATIENCE_TURNS]
        ready = [s for s in self.queue if s.start <= turn and s.kind != "answer"]
        if not ready and current is None:
            ready = [s for s in self.queue if s.start <= turn and (s.said or silence >= SILENT_S)]
        if not ready or turn < self._next_turn:
            return current
        chosen = min(ready, key=lambda s: s.start)
        self.queue.remove(chosen)
        if current is not None:
            self.queue.append(current)
        self.current = chosen
        return chosen

    def _utter(self, speech: Speech, turn: int) -> Output:
        word = speech.words[speech.said]
        speech.said += 1
        self._next_turn = turn + WORD_TURNS
        if speech.said == len(speech.words):
            self.current = None
            self._spoken = turn
        return Output("speak", word)


def _split(words: tuple[str, ...], mark: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == mark:
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]
