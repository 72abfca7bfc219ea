"""What the bench lets people say, family by family: how it is worded, and what a recording of it means.

Requests are worded by the language package in sentences that training never sees, and understood by its parser. What
the package has no sentences for (side talk, thinking aloud, interruptions) is worded here. `also` patterns admit
recordings with the same meaning in words of their own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from interplay.bench.wording import (
    BACKCHANNELS,
    CONTENT,
    NAMES,
    Request,
    number_words,
    parse_request,
    write_chatter,
    write_request,
)

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a sentence means. phrase: what is to be said. seconds: the N of a reminder. cue: the word that triggers.

    pause: the number of the word after which a person may stop to think, -1 if nowhere.
    """

    kind: str
    phrase: Words = ()
    seconds: float = 0.0
    cue: str = ""
    pause: int = -1


@dataclass(frozen=True, slots=True)
class Family:
    """write: a new sentence (lower case, no punctuation) and its meaning. parse: the meaning of recorded words."""

    name: str
    write: Callable[[random.Random], tuple[str, Ask]]
    parse: Callable[[Words], Ask | None]


def _request(
    name: str,
    forms: Words,
    *,
    kind: str = "",
    seconds: Words = (),
    also: str = "",
    accept: Callable[[Request], bool] = lambda request: True,
    pause: Callable[[Words, Request], int] = lambda words, request: -1,
) -> Family:
    """forms: names of the language package's forms. kind: what its parser calls them, default the family's name."""
    pattern = re.compile(also or "(?!)")

    def parse(words: Words) -> Ask | None:
        if pattern.fullmatch(" ".join(words)):
            return Ask(name)
        request = parse_request(list(words))
        if request is None or request.kind != (kind or name) or (request.topic and request.topic not in forms):
            return None
        if not accept(request):
            return None
        return Ask(name, request.phrase, request.seconds, request.cue, pause(words, request))

    def write(rng: random.Random) -> tuple[str, Ask]:
        while True:
            text = write_request(rng.choice(forms), rng, seconds=seconds)
            ask = parse(tuple(text.split()))
            if ask is not None:
                return text, ask

    return Family(name, write, parse)


def _sentences(name: str, sentences: Words, also: str = "", pause: str = "") -> Family:
    """Sentences of our own; {0} {1} are content words, {n[0]}.. small numbers, {name} a name. pause: the word after
    which the person may stop to think."""
    pattern = re.compile(also or "|".join(sentences))

    def ask(words: Words) -> Ask:
        return Ask(name, pause=words.index(pause) if pause else -1)

    def write(rng: random.Random) -> tuple[str, Ask]:
        numbers = [number_words(rng.randint(1, 9))[0] for _ in range(5)]
        text = rng.choice(sentences).format(*rng.sample(CONTENT, 3), n=numbers, name=rng.choice(NAMES))
        return text, ask(tuple(text.split()))

    def parse(words: Words) -> Ask | None:
        return ask(words) if pattern.fullmatch(" ".join(words)) else None

    return Family(name, write, parse)


def _after_first_number(words: Words, request: Request) -> int:
    """Where to hesitate in a sum: before its sign nobody knows what is asked."""
    return next((i - 1 for i, word in enumerate(words) if word in ("plus", "times", "minus", "and")), -1)


def _before_list(words: Words, request: Request) -> int:
    """Where to hesitate before the words to repeat: after the first one the request could be over."""
    return words.index(request.phrase[0]) - 1


SHORT = ("two", "three", "four", "five")
LONG = ("three", "four", "five", "six", "seven", "eight")

EVERY = _request("every", ("every",), seconds=SHORT, accept=lambda r: not r.lasting)
AFTER = _request("after", ("after",), seconds=LONG)
CUE = _request("cue", ("cue",))
REPEAT = _request("repeat", ("repeat",), pause=_before_list)
STOP = _request("stop", ("stop",))
SUM = _request("sum", ("sum",), kind="ask", pause=_after_first_number)
PRODUCT = _request("product", ("times",), kind="ask", pause=_after_first_number)
FACT = _request("fact", ("opposite", "color", "next", "previous", "more"), kind="ask")
CLOCK = _request("clock", ("clock",), also="start the timer")
ELAPSED = _request("elapsed", ("elapsed",), also="stop the timer|how long did that take|how much time has passed")
COUNT = _request("count", ("count_to",), kind="ask", accept=lambda r: len(r.phrase) >= 10)
TELL = _request("tell", ("story", "describe", "explain"), kind="ask")
HUSH = _request("hush", ("hush", "stop"), also="(?:no |please )*(?:wait|stop|hold on)(?: now| that)?|never mind")
WITHDRAW = _request("withdraw", ("withdraw",))
OPEN = _request(
    "open",
    ("question", "task"),
    kind="delegate",
    also="what is the capital of .*|look up .*|search for .*|who wrote .*",
)
TO_SPANISH = _request("translate", ("to_spanish",), also="translate after me into spanish")
TO_ENGLISH = _request("translate", ("to_english",), also="translate after me into english")

BACKCHANNEL = _sentences(
    "backchannel", (*BACKCHANNELS, "right yeah mhm", "yeah right"), f"(?:(?:{'|'.join(BACKCHANNELS)}) ?)+|go on"
)
STATEMENT = _sentences(
    "statement",
    ("the number is {n[0]} {n[1]} uh {n[2]} {n[3]}", "we had {n[0]} or {n[1]} uh {0} there and one {1}"),
    r"the number is \w+ \w+ uh \w+ \w+",
    pause="uh",
)
THINKING = _sentences(
    "thinking",
    ("the answer is uh hold on i know this one", "it was in the uh what do you call it in the {0}"),
    r"the answer is uh hold on i know this one",
    pause="uh",
)
NAMED = _sentences(
    "named",
    (
        "hey {name} did you feed the {0} this morning", "{name} can you hand me the {0}", "hey {name} where is my {0}",
        "can you hand me the {0} no not you i was talking to {name}", "{name} what is on the {1}",
    ),
    r"hey \w+ did you .*|can you hand me .* no not you i was talking to \w+",
)  # fmt: skip

# Sentences of recordings that ask for something the bench has no family for: they are no chatter either.
_OTHER = re.compile(
    r".*\b(?:timer|count|note|translate|um|tell me|say|remind|repeat|stop|make (?:that|it)|are you still|my name|quiet"
    r"|reps|times did|search|never mind|cancel|capital|how long|how much|hey|hand me|the number is|the answer is|go on"
    r"|let me think|right yeah)\b.*"
)


def means_something(words: Words) -> bool:
    """Is this anything but chatter? Then it is not used as speech that asks for nothing."""
    return parse_request(list(words)) is not None or bool(_OTHER.fullmatch(" ".join(words)))


def chatter(rng: random.Random, want: str | None = None) -> str:
    """A sentence that asks for nothing, with the word `want` in it."""
    while True:
        text = write_chatter(rng, want)
        words = text.split()
        if len(words) >= 3 and "stop" not in words and parse_request(words) is None and "mhm" not in words:
            return text
