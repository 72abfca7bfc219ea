"""The items of TimeSpeak and CueSpeak: a recording, one expected response, one window.

Every item is spoken by a synthetic voice, under noise, in words of the nano's closed world; which sentence, words,
numbers and voice is drawn from the seed. The generator shares the request grammar with training, never the voices.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from interplay.core.types import INPUT_RATE
from interplay.training.espeak import SyntheticVoice, engine, random_voice
from interplay.training.language import Request, parse_request, write_chatter, write_request

TIME_WINDOW_S = (-0.6, 0.6)
CUE_WINDOW_S = (-0.2, 1.2)
SNR_DB = 15.0
SECONDS = ("two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True, slots=True)
class Due:
    """Speech that is asked for: `phrase` with its first word audible within [start, end] seconds."""

    phrase: tuple[str, ...]
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Item:
    """One test. audio: float32, 16 kHz. expected: the one response that counts. allowed: everything that was asked
    for (it includes `expected`); speech outside of it fails the item. words: the transcript."""

    task: str
    category: str
    audio: np.ndarray
    expected: Due
    allowed: tuple[Due, ...]
    words: tuple[str, ...]


@dataclass
class _Tape:
    """A recording in the making."""

    rng: random.Random
    voice: SyntheticVoice
    parts: list[tuple[int, np.ndarray]] = field(default_factory=list)
    words: list[tuple[str, float]] = field(default_factory=list)
    time: float = 0.0

    def say(self, text: str, gap: float) -> list[tuple[str, float]]:
        """Append `text` after `gap` seconds; the (word, end) of what was said."""
        audio, words = engine().speak(text, self.voice)
        self.time += gap
        self.parts.append((int(self.time * INPUT_RATE), audio))
        timed = [(word, self.time + end) for word, end in words]
        self.words += timed
        self.time = max(self.time + len(audio) / INPUT_RATE - 0.1, timed[-1][1])
        return timed

    def audio(self, tail: float) -> np.ndarray:
        """The recording with noise at 15 dB below the speech (over the speech's own duration), `tail` s appended."""
        mix = np.zeros(int((self.time + tail) * INPUT_RATE), np.float32)
        spoken = 0
        for start, part in self.parts:
            part = part[: len(mix) - start]
            mix[start : start + len(part)] += part
            spoken += len(part)
        mix *= np.float32(0.06 / max(float(np.sqrt((mix**2).sum() / max(spoken, 1))), 1e-6))
        noise = np.random.default_rng(self.rng.randrange(1 << 31)).standard_normal(len(mix)).astype(np.float32)
        return np.clip(mix + noise * np.float32(0.06 * 10 ** (-SNR_DB / 20)), -1, 1)


def time_item(category: str, seed: str, *, held_out: bool = True) -> Item:
    """TimeSpeak. category: `every`, `in`, `while_talking` (in N seconds, and the person talks on), `until_stop`."""
    rng = random.Random(seed)
    tape = _Tape(rng, random_voice(rng, held_out=held_out), time=rng.uniform(0.2, 1.2))
    kind = "every" if category in ("every", "until_stop") else "after"
    longest = 5 if kind == "every" else 8
    text = write_request(kind, rng, seconds=SECONDS[: longest - 1], avoid=frozenset())
    end = tape.say(text, 0.0)[-1][1]
    request = _parsed(text)
    n = request.seconds

    def due(k: int) -> Due:
        return Due(request.phrase, end + k * n + TIME_WINDOW_S[0], end + k * n + TIME_WINDOW_S[1])

    if kind == "after":
        if category == "while_talking":
            _chat(tape, until=end + n + 2.0)
        audio = tape.audio(tail=max(2.0, end + n + 2.0 - tape.time))
        return _item("timespeak", category, tape, audio, due(1), (due(1),))
    count = rng.randint(1, 3)
    if category == "until_stop":
        # The word falls between two due times, so that it is clear which of them it cancels.
        stop = write_request("stop", rng, seconds=(), avoid=frozenset())
        tape.say(stop, end + (count + 0.3) * n - tape.time)
        asked = tuple(due(k) for k in range(1, 60) if end + k * n < tape.words[-1][1])
        audio = tape.audio(tail=2 * n + 1)
        return _item("timespeak", category, tape, audio, asked[-1], asked)
    audio = tape.audio(tail=count * n + 1.5)
    asked = tuple(due(k) for k in range(1, 60) if due(k).start < len(audio) / INPUT_RATE + 3)
    return _item("timespeak", category, tape, audio, asked[count - 1], asked)


def cue_item(category: str, seed: str, *, held_out: bool = True) -> Item:
    """CueSpeak: the cue comes inside running speech. category: `first` (the first cue counts), `later` (the second),
    `among_others` (it counts that speech without the cue stays unanswered before it)."""
    rng = random.Random(seed)
    tape = _Tape(rng, random_voice(rng, held_out=held_out), time=rng.uniform(0.2, 1.2))
    text = write_request("cue", rng, seconds=(), avoid=frozenset())
    tape.say(text, 0.0)
    request = _parsed(text)
    first = len(tape.words)
    before = {"first": 0, "later": 0, "among_others": 2}[category]
    plan = [None] * before + [request.cue] + [None] * rng.randint(0, 1)
    plan += [request.cue, None] if category == "later" else [None]
    for want in plan:
        sentence = _sentence(rng, want, request)
        tape.say(sentence, rng.choice((0.3, 0.6, 1.0)))
    ends = [end for word, end in tape.words[first:] if word == request.cue]
    asked = tuple(Due(request.phrase, end + CUE_WINDOW_S[0], end + CUE_WINDOW_S[1]) for end in ends)
    return _item(
        "cuespeak", category, tape, tape.audio(tail=2.0), asked[1 if category == "later" else 0], asked
    )  # fmt: skip


TASKS = {
    "timespeak": (time_item, ("every", "in", "while_talking", "until_stop")),
    "cuespeak": (cue_item, ("first", "later", "among_others")),
}


def items(task: str, n: int, seed: int, *, held_out: bool = True) -> list[Item]:
    """`n` items of `task`, its categories in turn."""
    make, categories = TASKS[task]
    return [make(categories[i % len(categories)], f"{task}/{seed}/{i}", held_out=held_out) for i in range(n)]


def _item(task: str, category: str, tape: _Tape, audio: np.ndarray, expected: Due, allowed: tuple[Due, ...]) -> Item:
    return Item(task, category, audio, expected, allowed, tuple(word for word, _ in tape.words))


def _parsed(text: str) -> Request:
    request = parse_request(text.split())
    assert request is not None, text  # the grammar's own sentences parse; the tests check all of them
    return request


def _sentence(rng: random.Random, want: str | None, request: Request) -> str:
    while True:
        words = write_chatter(rng, want).split()
        if 3 <= len(words) <= 14 and words.count(request.cue) == (want is not None) and "stop" not in words:
            return " ".join(words)


def _chat(tape: _Tape, until: float) -> None:
    gap = tape.rng.uniform(0.3, 1.0)
    while tape.time + gap < until - 1.5:
        tape.say(write_chatter(tape.rng), gap)
        gap = tape.rng.choice((0.2, 0.5, 1.0))
