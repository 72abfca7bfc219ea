"""The stage of a scene: people put sound on its timeline, the good listener lives on it, micro-turn by micro-turn.

A program may look at what the listener has done so far (`run` up to a time, then go on from there), so that somebody
can interrupt it in the middle of a sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from interplay.core.types import MICRO_TURN_S
from interplay.model.dmel import CHANNELS, FRAMES
from interplay.training import augment
from interplay.training.clips import FRAMES_PER_S, Bank, Clip, Speaker, synthesise
from interplay.training.espeak import SyntheticVoice, random_voice
from interplay.training.language import write_chatter, write_request
from interplay.training.language.forms import FORMS
from interplay.training.language.words import BACKCHANNELS, NUMBERS
from interplay.training.scenes.listener import Input, Listener, Output, Sound, Token
from interplay.training.scenes.scene import LOOKAHEAD_S, WORD_TURNS, Mix, Scene

NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "fifteen", "twenty")
# Recorded sentences with one of these may ask for something that the parser does not know: no chatter.
_SUSPECT = frozenset(
    ("stop", "cancel", "quiet", "count", "translate", "repeat", "remind", "tell", "say", "what", "timer", "not", "how")
)


class Stage:
    """One scene in the making."""

    def __init__(
        self, rng: random.Random, turns: int, bank: Bank | None, mix: Mix, *, held_out: bool, held_out_words: bool
    ) -> None:  # fmt: skip
        self.rng, self.turns, self.bank, self.mix = rng, turns, bank, mix
        self.held_out, self.held_out_words = held_out, held_out_words
        self.voice = random_voice(rng, held_out=held_out, variety=mix.variety)
        self.natural = rng.choice((0.0, mix.natural, mix.natural, min(1.0, 2 * mix.natural))) if bank else 0.0
        # Who says what is recorded, and who else is in the room; in some scenes anybody.
        self.person: Speaker | None = None
        self.neighbour: Speaker | None = None
        if bank and rng.random() < 0.85:
            self.person = bank.speaker(rng)
            self.neighbour = bank.speaker(rng, other_than=self.person)
        self.length_s = turns * MICRO_TURN_S
        self.power = np.zeros((turns * FRAMES, CHANNELS), np.float32)
        self.heard: list[tuple[int, str]] = []
        self.tokens: dict[int, Token] = {}
        self.word_times: list[tuple[float, float, int]] = []  # start, end, turn in which it is heard
        self.sounds: list[Sound] = []  # that may still matter
        self.everything: list[Sound] = []
        self.events: dict[int, str] = {}
        self.results: list[tuple[int, tuple[str, ...], int]] = []  # delay in turns, text, turns until it is stale
        self.free_turn = 0  # heard words come one per micro-turn; what does not fit spills into the next
        self.done = 0  # micro-turns the listener has lived through
        self.outputs: list[Output] = []
        self.tempting: set[int] = set()  # see Scene, as the next
        self.times = np.full((turns, 3), np.nan, np.float32)
        self.baits: set[int] = set()  # micro-turns after something that sounds like a request and is none
        self.pending: set[int] = set()
        self.busy: set[int] = set()
        self.voiced: dict[int, str] = {}
        self._arrivals: list[tuple[int, tuple[str, ...], int]] = []
        self._waiting: tuple[tuple[str, ...], int] | None = None
        self.listener = Listener()

    @property
    def now(self) -> float:
        """The listener has lived through everything before this second."""
        return self.done * MICRO_TURN_S

    # --- sound ------------------------------------------------------------------------------------------------------

    def put(
        self, clip: Clip, time: float, *, gain_db: float = 0.0, open_: bool = False, backchannel: bool = False
    ) -> float | None:  # fmt: skip
        """The person says `clip` at `time`. Returns the end of its last word; None if it does not fit."""
        time = max(time, self.now)
        start = int(time * FRAMES_PER_S)
        if start + len(clip.power) > len(self.power):
            return None
        loudness = 10 ** ((self.rng.uniform(-3, 3) + gain_db) / 10)
        self.power[start : start + len(clip.power)] += clip.power * np.float32(loudness)
        onset = _onset(clip)
        before = onset
        last = len(clip.words) - 1
        for i, (word, end) in enumerate(clip.words):
            turn = max(self.free_turn, int((time + end + LOOKAHEAD_S) / MICRO_TURN_S))
            if turn < self.turns:
                self.heard.append((turn, word))
                self.tokens[turn] = Token(turn, word, time + end, i == last, open_ and i == last)
                self.word_times.append((time + before, time + end, turn))
            self.free_turn = turn + 1
            before = end
        end = time + clip.words[-1][1]
        sound = Sound(time + onset, end, backchannel or set(clip.text()) <= set(BACKCHANNELS))
        self.sounds.append(sound)
        self.everything.append(sound)
        return end

    def say(
        self, text: str, time: float, *, voice: SyntheticVoice | None = None, gain_db: float = 0.0, open_: bool = False
    ) -> float | None:  # fmt: skip
        """The person says `text`, synthesised. Returns as `put` does."""
        return self.put(synthesise(text, voice or self.voice), time, gain_db=gain_db, open_=open_)

    def beside(self, text: str, time: float, *, radio: bool = False, near: bool = False, kind: str = "") -> float:
        """A second voice, farther away or out of a loudspeaker, says `text`: not for the listener, and not heard.

        near: only softer, as somebody at the same table. In natural scenes a recorded request of `kind`, or any
        recorded chatter where that is "", instead of `text`."""
        rng, clip = self.rng, None
        if self.bank is not None and rng.random() < self.natural:
            if kind:
                clip = self.bank.pick(rng, [number for number, _ in self.bank.requests[kind]], self.neighbour)
            else:
                clip = self.bank.talk(rng, self.neighbour)
        clip = clip or synthesise(text, random_voice(rng, held_out=self.held_out, variety=self.mix.variety))
        power = clip.power if near else augment.distant(clip.power, radio=radio)
        power = power * np.float32(10 ** (rng.uniform(-14, -6) / 10))
        start = int(time * FRAMES_PER_S)
        part = power[: max(0, len(self.power) - start)]
        self.power[start : start + len(part)] += part
        return time + clip.seconds

    def bait(self, end: float) -> None:
        """What ended at `end` sounds like something to answer, and is not."""
        self.baits |= set(range(int(end / MICRO_TURN_S), int(end / MICRO_TURN_S) + 6))

    def burst(self, time: float) -> None:
        """A short noise: a cough, a door, a cup."""
        noise = augment.noise_burst(self.rng)
        start = int(time * FRAMES_PER_S)
        part = noise[: max(0, len(self.power) - start)]
        self.power[start : start + len(part)] += part

    def type(self, text: str, time: float) -> float:
        """A typed message arrives from `time` on, a word a micro-turn. Returns the second after its last word."""
        turn = max(self.done, int(time / MICRO_TURN_S))
        for word in text.split():
            self.events[turn] = word
            turn += 1
        return turn * MICRO_TURN_S

    # --- what people say --------------------------------------------------------------------------------------------

    def write(self, kind: str, *, longest_s: float = 20.0, word: str | None = None) -> str:
        """A request in words. Its N is at most `longest_s`; words of active cues stay out."""
        allowed = tuple(n for n in NUMBER_WORDS if NUMBERS[n] <= max(longest_s, 2))
        return write_request(
            kind, self.rng, seconds=allowed, avoid=frozenset(self.cues()), held_out=self.held_out_words,
            breadth=self.mix.breadth, word=word, looseness=self.mix.looseness,
        )  # fmt: skip

    def cues(self) -> set[str]:
        """Words that would trigger something now."""
        rules = self.listener.rules
        return {r.request.cue for r in rules.rules if r.until >= self.turns and r.request.cue} | (
            {rules.counted} if rules.counted else set()
        )

    def request(self, kind: str, time: float, *, longest_s: float = 20.0, word: str | None = None) -> float | None:
        """The person makes a request of `kind`. Returns the end of its last word."""
        self.run(time)
        recorded = None if word else self.recorded(kind, longest_s)
        if recorded is not None:
            return self._asked(self.put(recorded, time))
        return self._asked(self.say(self.write(kind, longest_s=longest_s, word=word), time))

    def recorded(self, kind: str, longest_s: float) -> Clip | None:
        """A recorded request of `kind`, its N at most `longest_s`; None where there is none, or it is not due."""
        rng, avoid = self.rng, self.cues()
        if self.bank is None or self.held_out_words or rng.random() >= self.natural:
            return None
        some = [
            number
            for number, request in self.bank.requests[kind]
            if request.seconds <= max(longest_s, 2) and avoid.isdisjoint((request.cue, *request.phrase))
        ]
        return self.bank.pick(rng, some, self.person)

    def _asked(self, end: float | None) -> float | None:
        """Let the listener hear the request, so that what follows can build on it."""
        if end is None or self.free_turn > self.turns:
            return None  # its last word would be heard after the scene's end
        self.run(self.tokens_end())
        return end

    def tokens_end(self) -> float:
        """The end of the micro-turn in which the last word so far is heard."""
        return min(self.free_turn, self.turns) * MICRO_TURN_S

    def asking(self, kind: str, y: str) -> str:
        """A request of `kind` about the kept fact `y`."""
        return self.rng.choice(FORMS[kind][self.held_out_words]).format(y=y)

    def paced(self, rate: int) -> SyntheticVoice:
        """The person, speaking at `rate` words a minute."""
        return replace(self.voice, rate=rate)

    def babble(self) -> np.ndarray:
        """Mel power of several people talking at once."""
        others = [synthesise(write_chatter(self.rng), random_voice(self.rng)).power for _ in range(6)]
        half = len(others) // 2
        first, second = np.concatenate(others[:half]), np.concatenate(others[half:])
        length = min(len(first), len(second))
        return first[:length] + second[:length]

    def pending_or_waiting(self) -> bool:
        """Is some background work under way, or its result still waiting?"""
        return bool(self._arrivals and self._arrivals[-1][2] >= self.done) or bool(self.results)

    def talk(self, time: float, until: float, cues: tuple[str, ...] = ()) -> float:
        """Chatter from `time` to about `until`; every other sentence or so carries one of `cues`."""
        rng = self.rng
        while time < until - 1.0:
            want = rng.choice(cues) if cues and rng.random() < 0.65 else None
            clip = self.chatter(want)
            if time + clip.seconds > until:
                return time
            end = self.put(clip, time)
            if end is None:
                return time
            time = max(end, time + clip.seconds - 0.3) + rng.choice((0.05, 0.2, 0.4, 0.8, 1.4, 2.5))
        return time

    def chatter(self, want: str | None = None) -> Clip:
        """A sentence that asks for nothing."""
        rng = self.rng
        if rng.random() < self.natural and self.bank is not None:
            clip = self.bank.saying(rng, want, self.person) if want else self.bank.talk(rng, self.person)
            if clip is not None and not _SUSPECT & set(clip.text()):
                return clip
        return synthesise(write_chatter(rng, want, breadth=self.mix.breadth), self.voice)

    # --- the listener -----------------------------------------------------------------------------------------------

    def run(self, until_s: float) -> None:
        """Let the listener live through all micro-turns that end by `until_s`."""
        while self.done < self.turns and (self.done + 1) * MICRO_TURN_S <= until_s + 1e-6:
            self._step()

    def run_until(self, happened: Callable[[], bool], limit_s: float) -> bool:
        """Let it live until `happened()`, at most until `limit_s`. Returns whether it happened."""
        while not happened() and self.done < self.turns and self.now < limit_s:
            self._step()
        return happened()

    def _step(self) -> None:
        turn = self.done
        self._arrive(turn)
        end = (turn + 1) * MICRO_TURN_S
        while len(self.sounds) > 8 and self.sounds[0].end_s < end - 20:
            self.sounds.pop(0)
        sounds = tuple(s for s in self.sounds if s.start_s < end)
        typed, pending, busy = self.events.get(turn, ""), turn in self.pending, turn in self.busy
        out = self.listener.step(Input(turn, self.tokens.get(turn), sounds, typed, pending, busy))
        self.outputs.append(out)
        if not out.word and (self.listener.tempting(turn) or turn in self.baits):
            self.tempting.add(turn)
        self.times[turn] = *self.listener.rules.times(turn), self.listener.words_left(turn)
        self.done += 1
        if out.decision == "delegate" and self.results:
            delay, text, stale = self.results.pop(0)
            self._arrivals.append((turn + delay, text, turn + delay + stale))
        elif out.decision == "deliver" and self._waiting is not None:
            for i, word in enumerate(self._waiting[0]):
                at = turn + 1 + WORD_TURNS * i
                self.voiced[at] = word
                self.busy |= {at, at + 1}
            self._waiting = None
        elif out.decision == "yield":
            self.voiced = {t: w for t, w in self.voiced.items() if t <= turn}
            self.busy = {t for t in self.busy if t <= turn}

    def _arrive(self, turn: int) -> None:
        """Results of the background come in, wait, and go stale."""
        for arrival in [a for a in self._arrivals if a[0] == turn]:
            self._waiting = arrival[1:]
        if self._waiting is not None and turn >= self._waiting[1]:
            self._waiting = None
        if self._waiting is not None:
            self.pending.add(turn)

    # --- the result -------------------------------------------------------------------------------------------------

    def scene(self) -> Scene:
        """What was put on the stage, before microphone and room."""
        self.run(self.length_s)
        said = [(turn, out.word) for turn, out in enumerate(self.outputs) if out.word]
        plain = ("listen", "speak")
        decisions = {t: out.decision for t, out in enumerate(self.outputs) if out.decision not in plain}
        within = {turn for turn in range(self.turns)}
        return Scene(
            self.power, self.heard, said, self.listener.requests, decisions,
            sorted((t, w) for t, w in self.events.items() if t < self.turns),
            sorted((t, w) for t, w in self.voiced.items() if t < self.turns),
            self.pending & within, self.busy & within, set(), self.listener.prefix, self.listener.proactivity,
            tempting=self.tempting & within, times=self.times,
        )  # fmt: skip


def _onset(clip: Clip) -> float:
    """Seconds into a clip at which it becomes audible."""
    energy = clip.power.mean(1)
    loud = np.flatnonzero(energy > 0.003 * float(energy.max()))
    return float(loud[0]) / FRAMES_PER_S if len(loud) else 0.0

