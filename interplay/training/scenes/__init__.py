"""Scene programs: what a person says on a timeline, and what a good listener hears and says, exactly timed.

A scene is mel power plus events. `heard` is due a little after each word's end; `said` follows from the requests the
person has made: every / in / after N seconds, when-I-say, repeat-after-me, stop. Everything else is chatter, where
silence is right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from interplay.core.types import MICRO_TURN_S
from interplay.model.dmel import CHANNELS, FRAMES
from interplay.training import augment
from interplay.training.clips import FRAMES_PER_S, Bank, Clip, synthesise
from interplay.training.espeak import random_voice
from interplay.training.language import NUMBERS, Request, parse_request, write_chatter, write_request
from interplay.training.scenes.scene import LOOKAHEAD_S, REPLY_TURNS, WORD_TURNS, Mix, Scene

NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "fifteen", "twenty")


@dataclass(slots=True)
class _Rule:
    """A request in force: from `turn` on (exclusive) it asks for speech."""

    request: Request
    end_s: float
    turn: int
    until: int = 1 << 30


@dataclass
class Composer:
    """Puts one scene together. `bank` adds recorded speech; without one everything is synthesised."""

    rng: random.Random
    turns: int
    bank: Bank | None = None
    mix: Mix = field(default_factory=Mix)
    held_out: bool = False

    def compose(self) -> Scene:
        rng = self.rng
        self.voice = random_voice(rng, held_out=self.held_out)
        self.natural = rng.choice((0.0, self.mix.natural, min(1.0, 2 * self.mix.natural))) if self.bank else 0.0
        self.gain_db = 0.0
        self.power = np.zeros((self.turns * FRAMES, CHANNELS), np.float32)
        self.heard: list[tuple[int, str]] = []
        self.free_turn = 0  # heard words come one per micro-turn; what does not fit spills into the next
        self.rules: list[_Rule] = []
        self.requests: list[tuple[float, Request]] = []
        self.request_turns: set[int] = set()
        self.length_s = self.turns * MICRO_TURN_S
        time = rng.uniform(0.1, 1.8)
        kinds = ("every", "after", "cue", "repeat", "chatter")
        weights = [getattr(self.mix, kind) for kind in kinds]
        while time < self.length_s - 3:
            time = getattr(self, "_" + rng.choices(kinds, weights)[0])(time) + rng.uniform(0.4, 2.0)
        said = self._said()
        conditions = augment.random_conditions(rng)
        babble = self._babble() if conditions.babble_db is not None else None
        return Scene(augment.apply(self.power, conditions, rng, babble), self.heard, said, self.requests)

    # --- sound -------------------------------------------------------------------------------------------------

    def _put(self, clip: Clip, time: float) -> float | None:
        """Add a clip at `time`. Returns the end of its last word, or None (nothing added) if it does not fit."""
        start = int(time * FRAMES_PER_S)
        if start + len(clip.power) > len(self.power):
            return None
        loudness = 10 ** (self.rng.uniform(-3, 3) / 10)
        self.power[start : start + len(clip.power)] += clip.power * np.float32(loudness)
        for word, end in clip.words:
            turn = max(self.free_turn, int((time + end + LOOKAHEAD_S) / MICRO_TURN_S))
            if turn < self.turns:
                self.heard.append((turn, word))
            self.free_turn = turn + 1
        return time + clip.words[-1][1]

    def _babble(self) -> np.ndarray:
        others = [synthesise(write_chatter(self.rng), random_voice(self.rng)).power for _ in range(6)]
        half = len(others) // 2
        first, second = np.concatenate(others[:half]), np.concatenate(others[half:])
        length = min(len(first), len(second))
        return first[:length] + second[:length]

    def _active(self) -> set[str]:
        return {rule.request.cue for rule in self.rules if rule.until == 1 << 30 and rule.request.cue}

    def _request(self, kind: str, time: float, longest_s: float) -> tuple[Request, float] | None:
        """Say a request of `kind`; its N is at most `longest_s`. Returns it with the end of its last word."""
        rng, avoid = self.rng, frozenset(self._active())
        clip = None
        if rng.random() < self.natural and self.bank is not None:
            fits = [
                number
                for number, request in rng.sample(self.bank.requests[kind], min(30, len(self.bank.requests[kind])))
                if request.seconds <= longest_s and not avoid & {request.cue, *request.phrase}
            ]
            clip = self.bank.pick(rng, fits) if fits else None
        if clip is None:
            allowed = tuple(n for n in NUMBER_WORDS if NUMBERS[n] <= max(longest_s, 2))
            clip = synthesise(write_request(kind, rng, seconds=allowed, avoid=avoid), self.voice)
        request = parse_request(clip.text())
        first_turn = self.free_turn
        end = self._put(clip, time)
        if end is None or request is None:
            return None
        self.requests.append((end, request))
        self.request_turns.update(turn for turn, _ in self.heard if turn >= first_turn)
        return request, end

    def _talk(self, time: float, until: float, cues: tuple[str, ...] = ()) -> float:
        """Chatter from `time` to about `until`; every other sentence or so carries one of `cues`."""
        rng = self.rng
        while time < until - 1.0:
            want = rng.choice(cues) if cues and rng.random() < 0.65 else None
            clip = self._chatter_clip(want)
            if time + clip.seconds > until:
                return time
            end = self._put(clip, time)
            if end is None:
                return time
            time = max(end, time + clip.seconds - 0.3) + rng.choice((0.05, 0.2, 0.4, 0.8, 1.4, 2.5))
        return time

    def _chatter_clip(self, want: str | None) -> Clip:
        rng = self.rng
        if rng.random() < self.natural and self.bank is not None:
            numbers = self.bank.with_word.get(want, []) if want else self.bank.chatter
            if numbers:
                clip = self.bank.pick(rng, numbers)
                if not {"stop", "cancel", "quiet"} & set(clip.text()):
                    return clip
        return synthesise(write_chatter(rng, want), self.voice)

    # --- programs: each starts at `time` and returns when it has nothing more to add ---------------------------------

    def _chatter(self, time: float) -> float:
        return self._talk(time, min(self.length_s, time + self.rng.uniform(4, 14)))

    def _every(self, time: float) -> float:
        rng = self.rng
        got = self._request("every", time, longest_s=(self.length_s - time - 3) / 1.5)
        if got is None:
            return time + 1
        request, end = got
        rule = self._enforce(request, end)
        count = rng.choice((1, 2, 2, 3, 4, 8))
        finish = end + (count + rng.uniform(0.25, 0.75)) * request.seconds
        stopping = rng.random() < 0.7 and finish < self.length_s - 2
        until = finish if stopping else self.length_s
        if rng.random() < 0.55:
            self._talk(end + rng.uniform(0.3, 2.5), until)
        if stopping:
            return self._stop(finish, rule)
        return self.length_s

    def _after(self, time: float) -> float:
        rng = self.rng
        got = self._request("after", time, longest_s=self.length_s - time - 4)
        if got is None:
            return time + 1
        request, end = got
        rule = self._enforce(request, end)
        due = end + request.seconds
        if rng.random() < 0.12 and request.seconds >= 4:  # thinks better of it
            return self._stop(end + request.seconds * rng.uniform(0.3, 0.6), rule)
        if rng.random() < 0.55:
            return self._talk(end + rng.uniform(0.3, 2.0), due + rng.uniform(1, 5))
        return due + 1.0

    def _cue(self, time: float) -> float:
        rng = self.rng
        got = self._request("cue", time, longest_s=0)
        if got is None:
            return time + 1
        request, end = got
        rule = self._enforce(request, end)
        cues = tuple(self._active())
        time = self._talk(end + rng.uniform(0.3, 1.5), min(self.length_s, end + rng.uniform(7, 16)), cues)
        if rng.random() < 0.7 and time < self.length_s - 2.5:
            return self._stop(time + 0.3, rule)
        return self._talk(time, self.length_s, cues)

    def _repeat(self, time: float) -> float:
        got = self._request("repeat", time, longest_s=0)
        if got is None:
            return time + 1
        request, end = got
        self._enforce(request, end)
        return end + MICRO_TURN_S * (REPLY_TURNS + WORD_TURNS * len(request.phrase)) + 0.3

    def _enforce(self, request: Request, end: float) -> _Rule:
        rule = _Rule(request, end, self.heard[-1][0])
        self.rules.append(rule)
        return rule

    def _stop(self, time: float, rule: _Rule) -> float:
        """Say stop: every rule in force ends with the micro-turn in which the word was heard."""
        got = self._request("stop", time, longest_s=0)
        if got is None:
            rule.until = min(rule.until, self.turns)
            return self.length_s
        for each in self.rules:
            each.until = min(each.until, self.heard[-1][0])
        return got[1]

    # --- what a good listener says ---------------------------------------------------------------------------------

    def _said(self) -> list[tuple[int, str]]:
        starts: list[tuple[int, tuple[str, ...]]] = []
        for rule in self.rules:
            request = rule.request
            turns: list[int] = []
            if request.kind in ("every", "after"):
                many = range(1, 400) if request.kind == "every" else range(1, 2)
                turns = [round((rule.end_s + k * request.seconds) / MICRO_TURN_S) - 1 for k in many]
            elif request.kind == "cue":
                cues = (t for t, w in self.heard if w == request.cue and t not in self.request_turns)
                turns = [turn + 1 for turn in cues]
            elif request.kind == "repeat":
                turns = [rule.turn + REPLY_TURNS]
            starts += [(turn, request.phrase) for turn in turns if rule.turn < turn <= rule.until]
        taken: dict[int, str] = {}
        for turn, phrase in sorted(starts):
            for word in phrase:
                while turn in taken:
                    turn += 1
                if turn < self.turns:
                    taken[turn] = word
                turn += WORD_TURNS
        return sorted(taken.items())
