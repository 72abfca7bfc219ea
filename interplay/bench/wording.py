"""The bench's one door to the language package: words, numbers, held-out requests, and chatter of the closed world."""

from __future__ import annotations

import random

from interplay.bench.task import PHRASINGS
from interplay.training import language
from interplay.training.language import CONTENT, NUMBERS, Request, number_words, parse_request
from interplay.training.language.spanish import PAIRED_CONTENT, SPELLED, TO_ENGLISH, TO_SPANISH, write_sentence
from interplay.training.language.words import BACKCHANNELS, NAMES

__all__ = [
    "BACKCHANNELS",
    "CONTENT",
    "NAMES",
    "PAIRED_CONTENT",
    "SPELLED",
    "TO_ENGLISH",
    "TO_SPANISH",
    "Request",
    "number_words",
    "parse_request",
    "spoken_number",
    "use_phrasings",
    "write_chatter",
    "write_request",
    "write_sentence",
]


def spoken_number(words: tuple[str, ...]) -> int | None:
    """The first number among words: ("that", "was", "twenty", "one", "seconds") -> 21."""
    values = {**NUMBERS, "zero": 0}
    for i, word in enumerate(words):
        value = values.get(word)
        if value is None:
            continue
        unit = values.get(words[i + 1], 0) if i + 1 < len(words) and value >= 20 else 0
        return value + unit if 0 < unit < 10 else value
    return None


_phrasings = PHRASINGS[0]


def use_phrasings(name: str) -> None:
    """From now on, in this process, requests are worded as training words them (`known`) or never does (`held-out`)."""
    global _phrasings
    assert name in PHRASINGS, name
    _phrasings = name


def write_request(kind: str, rng: random.Random, *, seconds: tuple[str, ...] = (), word: str | None = None) -> str:
    """A request in words. kind: a name in the language package's FORMS."""
    held_out = _phrasings == "held-out"
    return language.write_request(kind, rng, seconds=seconds, avoid=frozenset(), held_out=held_out, word=word)


def write_chatter(rng: random.Random, want: str | None = None) -> str:
    """A sentence that asks for nothing; the language package has one set of them, for training and bench."""
    return language.write_chatter(rng, want)
