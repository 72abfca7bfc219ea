"""From words to what they ask for, and back: one parser for synthetic, recorded and typed sentences.

So a recorded "say blue after five seconds" and a synthesised one lead to exactly the same targets. The parser is made
from the forms; around a form it forgives politeness, inside it a self-correction ("in five, no, seven seconds").
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache

from interplay.training.language import facts, loose
from interplay.training.language.forms import CONFUSED, FORMS, SHAPES
from interplay.training.language.words import (
    COLORS,
    CONTENT,
    DAYS,
    HESITATIONS,
    MONTHS,
    NAMES,
    NUMBER_PATTERN,
    NUMBERS,
    PHRASES,
    RESERVED,
    WIDE,
    content,
    number_value,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for.

    kind: every, after, minute, revise, cancel, clock, elapsed, since, stop; cue, filler, count, how_many, switch,
    drill; translate, shadow, along; ask, remember, recall, persona, greet, say, repeat, hush, resume; tool; delegate,
    withdraw. phrase: what to say, note or call. seconds: the N of a time. cue: the word that triggers `phrase`, or
    the one that is counted, drilled or asked about. lasting: seconds after which `every` ends by itself (0: never).
    topic: the form's name, where one kind has several (`ask`: sum, opposite, story, ...).
    """

    kind: str
    phrase: tuple[str, ...] = ()
    seconds: float = 0.0
    cue: str = ""
    lasting: float = 0.0
    topic: str = ""


_SLOTS = {
    "p": "(?P<p>[a-z']+(?: [a-z']+)*?)", "w": "(?P<w>[a-z']+(?: [a-z']+)*)", "x": "(?P<x>[a-z']+)",
    "y": "(?P<y>[a-z']+)", "a": "(?:an?|the)", "n": f"(?P<n>{NUMBER_PATTERN})", "m": f"(?P<m>{NUMBER_PATTERN})",
    "c": f"(?P<c>{'|'.join(COLORS)})", "s": f"(?P<s>{'|'.join(SHAPES)})", "name": f"(?P<name>{'|'.join(NAMES)})",
}  # fmt: skip
_BEFORE = (
    "(?:(?:oh|nothing|okay|so|actually|no|wait|sorry|well|and|then|now|hey|"
    "can you|could you|would you|i want you to) )*"
)
_AFTER = "(?: (?:for me|now|until i say stop|thanks|okay))?"
_KNOWN = frozenset((*CONTENT, *WIDE, *NUMBERS, *COLORS, *NAMES, *DAYS, *MONTHS))
_SAYABLE = frozenset((*CONTENT, *WIDE, *NUMBERS, *(w for p in PHRASES for w in p.split()))) - {"what", "that"}
_CORRECTIONS = (("no", "wait"), ("i", "mean"), ("or", "rather"), ("no",), ("sorry",))
_TIMED = ("every", "lasting", "after", "revise", "timer", "timer_minutes")
# What can be remembered, and the words that it can be.
FACTS: dict[str, tuple[str, ...]] = {
    "number": ("zero", *NUMBERS), "code": ("zero", *NUMBERS), "color": COLORS, "name": NAMES, "day": DAYS,
    "word": CONTENT, "month": MONTHS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Form:
    order: int
    topic: str
    held_out: bool
    literals: frozenset[str]
    pattern: re.Pattern[str]


@cache
def _table() -> dict[str, tuple[_Form, ...]]:
    """The forms by one word that each cannot do without, the rarest it has; in order of what is meant first."""
    table: list[_Form] = []
    for topic, groups in FORMS.items():
        for held_out, forms in zip((False, True), groups, strict=True):
            for form in forms:
                words = [w for w in form.split() if w != "please"]
                body = " ".join(_SLOTS[w[1:-1]] if w[0] == "{" else w for w in words)
                ends_open = words[-1] in ("{w}",)
                pattern = re.compile(_BEFORE + body + ("" if ends_open else _AFTER) + "$")
                table.append(_Form(len(table), topic, held_out, frozenset(w for w in words if w[0] != "{"), pattern))
    for topic, forms in loose.LOOSE.items():
        for form in forms:
            pattern = re.compile(_BEFORE + loose.pattern(form, _SLOTS) + "$")
            literals = frozenset(w for w in form.split() if w[0] != "{")
            table.append(_Form(len(table), topic, False, literals, pattern))
    uses = Counter(word for form in table for word in form.literals)
    index: dict[str, list[_Form]] = defaultdict(list)
    for form in table:
        index[min(form.literals, key=lambda word: (uses[word], word), default="")].append(form)
    return {word: tuple(forms) for word, forms in index.items()}


def corrected(words: list[str]) -> list[str]:
    """A sentence with its self-correction carried out: "in five no seven seconds" is "in seven seconds".

    What follows "no", "no wait", "i mean", "sorry" or "or rather" replaces the last word of its class (a number, a
    color, any other word with a meaning) before. Without such a word the sentence comes back as it is.
    """
    for start in range(1, len(words) - 1):
        for marker in _CORRECTIONS:
            after = words[start + len(marker) :]
            if tuple(words[start : start + len(marker)]) != marker or not after:
                continue
            before = words[:start]
            new = _class(after[0])
            places = [i for i, word in enumerate(before) if new and _class(word) == new]
            if not places:
                return words
            place = places[-1]
            tail = before[place + 1 :]
            overlap = 0  # "seven seconds" after "five seconds": the unit is not said twice
            while overlap < len(tail) and overlap + 1 < len(after) and tail[overlap] == after[overlap + 1]:
                overlap += 1
            return corrected([*before[:place], *after, *tail[overlap:]])
    return words


def _class(word: str) -> str:
    for name, group in (("number", NUMBERS), ("color", COLORS), ("name", NAMES), ("day", DAYS), ("month", MONTHS)):
        if word in group:
            return name
    return "word" if word in _KNOWN and word not in RESERVED else ""


def parse_request(words: list[str], *, longest: int = 4) -> Request | None:
    """What these words ask for, or None. Phrases of more than `longest` words are not requests of this world."""
    found = _parse(tuple(words), longest)
    return found[0] if found else None


def is_held_out(words: list[str]) -> bool:
    """Is this a request in a sentence that training must not see?"""
    found = _parse(tuple(words), 4)
    return found is not None and found[1]


@lru_cache(maxsize=1 << 14)
def _parse(words: tuple[str, ...], longest: int) -> tuple[Request, bool] | None:
    asked = [w for w in words if w != "please"]
    plain = [w for w in asked if w not in HESITATIONS]
    found = _match(asked, longest) or _match(plain, longest)
    if found is None and (better := corrected(plain)) != plain:
        found = _match(better, longest)
    return found


def _match(words: list[str], longest: int) -> tuple[Request, bool] | None:
    have, text, table = set(words), " ".join(words), _table()
    fits = [form for word in ("", *have) for form in table.get(word, ()) if form.literals <= have]
    for form in sorted(fits, key=lambda form: form.order):
        if match := form.pattern.match(text):
            request = _build(form.topic, {k: v for k, v in match.groupdict().items() if v}, longest)
            if request is not None:
                return request, form.held_out
    return None


def _build(topic: str, slot: dict[str, str], longest: int) -> Request | None:
    """The request that a form means with these words in its slots; None if it means nothing with them."""
    phrase = tuple((slot.get("p") or slot.get("w") or "").removeprefix("the word ").split())
    if ("p" in slot or "w" in slot) and not 1 <= len(phrase) <= longest:
        return None
    if {"no", "sorry"} & set(phrase):
        return None  # a correction that is still to be carried out
    n, m, x, y = slot.get("n", ""), slot.get("m", ""), slot.get("x", ""), slot.get("y", "")
    seconds, lasting = float(number_value(n) or 0), float(number_value(m) or 0)
    if n and not seconds and topic in _TIMED:
        return None  # every zero seconds
    match topic:
        case "hush":
            return Request(topic, seconds=seconds)
        case "stop" | "resume" | "withdraw" | "clock" | "switch" | "shadow" | "along" | "elapsed":
            return Request(topic)
        case "every" | "after" | "revise" | "minute" | "repeat":
            return Request(topic, phrase, seconds)
        case "lasting":
            return Request("every", phrase, seconds, lasting=lasting)
        case "after_half":
            return Request("after", phrase, 30.0)
        case "cancel":
            return None if {"timer", "clock", "stopwatch", "that"} & set(phrase) else Request(topic, phrase)
        case "cue":
            return Request(topic, phrase, cue=x)
        case "tell":
            return Request("cue", (x,), cue=x, topic=topic)
        case "filler":
            return Request(topic, ("filler",))
        case "count" | "how_many" | "since":
            return Request(topic, cue=x)
        case "drill":
            return Request(topic, (x,), cue=x) if x in CONFUSED else None
        case "to_spanish" | "to_english":
            return Request("translate", topic=topic)
        case "say":
            return Request(topic, phrase) if set(phrase) <= _SAYABLE else None
        case "persona":
            return Request(topic, (slot["name"],))
        case "who" | "greet":
            return Request(topic)
        case "remember":
            known = len(phrase) == 1 or y in ("number", "code")
            return Request(topic, phrase, cue=y) if known and set(phrase) <= set(FACTS.get(y, ())) else None
        case "recall":
            return Request(topic, cue=y) if y in FACTS else None
        case "timer":
            return Request("tool", ("timer", *n.split()), topic=topic)
        case "timer_minutes":
            return Request("tool", ("timer", *n.split(), "minutes"), topic=topic)
        case "timer_stop":
            return Request("tool", ("timer", "stop"), topic=topic)
        case "note":
            return Request("tool", ("note", *phrase), topic=topic)
        case "mark":
            return Request("tool", ("mark", slot["c"], slot["s"]), topic=topic)
        case "question":
            return Request("delegate", ("let", "me", "look"), cue=x, topic=topic)
        case "task":
            return Request("delegate", ("one", "moment"), cue=x, topic=topic)
    answer = _answer(topic, n, m, x)
    return Request("ask", answer, cue=x, topic=topic) if answer else None


def _answer(topic: str, n: str, m: str, x: str) -> tuple[str, ...] | None:
    match topic:
        case "sum":
            return facts.total(n, m, "plus")
        case "minus" | "times":
            return facts.total(n, m, topic)
        case "next" | "previous":
            return facts.neighbor(x, 1 if topic == "next" else -1)
        case "opposite":
            return facts.opposite(x)
        case "color":
            return facts.color_of(x)
        case "more":
            return facts.compare(n, m, True)
        case "count_to":
            return facts.count("one", m)
        case "count_from":
            return facts.count(n, m)
        case "story" | "describe" | "explain":
            return facts.tale(topic, x) if x in _KNOWN else None
    talk = facts.SMALL_TALK.get(topic.removeprefix("talk_"))
    return tuple(talk[1].split()) if talk else None


def phrase(rng: random.Random, avoid: frozenset[str] = frozenset(), breadth: float = 0.0) -> str:
    """Something to be said: mostly one word, sometimes a short phrase."""
    if rng.random() < 0.15:
        return rng.choice([p for p in rng.sample(PHRASES, 8) if not avoid & set(p.split())] or ["well done"])
    return rng.choice([w for w in (content(rng, breadth) for _ in range(6)) if w not in avoid] or ["hello"])


_FILL = {
    "next": (*NUMBERS, *DAYS, *MONTHS), "previous": (*NUMBERS, *DAYS, *MONTHS), "opposite": tuple(facts.OPPOSITES),
    "color": tuple(facts.COLOR_OF), "drill": tuple(CONFUSED), "story": CONTENT[:60], "describe": CONTENT[:60],
    "explain": CONTENT[:60],
}  # fmt: skip


def write_request(
    kind: str,
    rng: random.Random,
    *,
    seconds: tuple[str, ...],
    avoid: frozenset[str],
    held_out: bool = False,
    breadth: float = 0.0,
    word: str | None = None,
    looseness: float = 0.0,
) -> str:
    """A request in words. kind: a name in FORMS. Raises ValueError for any other.

    seconds: number words to choose times from; avoid: words it must not contain; held_out: in a sentence that
    training never sees; word: what to put into its one-word slot; looseness: how likely it is put together from
    loose parts, where its kind has some.
    """
    if kind not in FORMS:
        raise ValueError(f"no such request kind: {kind}")
    for _ in range(200):
        if looseness and not held_out and kind in loose.LOOSE and rng.random() < looseness:
            if (text := _loose(kind, rng, seconds, avoid, breadth, word)) is not None:
                return text
            continue
        form = rng.choice(FORMS[kind][held_out])
        text = _fill(form, _values(form, kind, rng, seconds, avoid, breadth, word))
        # A sum may leave the numbers that exist, a list may read as something else: draw again.
        if _parse(tuple(text.split()), 4) is not None:
            return text
    raise ValueError(f"no {kind} could be written without {sorted(avoid)}")


def _loose(
    kind: str, rng: random.Random, seconds: tuple[str, ...], avoid: frozenset[str], breadth: float, word: str | None
) -> str | None:
    """A request put together from loose parts; None if together they read as another one, or as a held-out sentence."""
    form = loose.draw(rng.choice(loose.LOOSE[kind]), rng)
    values = _values(form, kind, rng, seconds, avoid, breadth, word)
    text = _fill(form, values)
    found = _parse(tuple(text.split()), 4)
    phrase = tuple(values["p"].split()) if "{p}" in form else ()
    if found is None or found[1] or (found[0].kind, found[0].phrase) != (kind, phrase):
        return None
    return text


def _fill(form: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda slot: values[slot[1]], form)


def _values(
    form: str, kind: str, rng: random.Random, seconds: tuple[str, ...], avoid: frozenset[str], breadth: float,
    word: str | None,
) -> dict[str, str]:  # fmt: skip
    """What to put into the slots of a form of `kind`."""
    numbers = seconds if "seconds" in form else tuple(NUMBERS)[:20]
    n = rng.choice(numbers) if numbers else "two"
    m = rng.choice(tuple(NUMBERS)[:20])
    if kind == "lasting":
        n, m = _several(rng, seconds)
    x = word or rng.choice([w for w in (rng.choice(_FILL.get(kind, CONTENT)) for _ in range(8)) if w not in avoid])
    if word is None and kind not in _FILL and breadth:
        x = rng.choice([w for w in (content(rng, breadth) for _ in range(6)) if w not in avoid] or [x])
    y = content(rng, breadth)
    if kind in ("remember", "recall"):
        y = rng.choice(tuple(FACTS))
        x = word or rng.choice(FACTS[y])
    return {
        "p": phrase(rng, avoid | {x}, breadth), "x": x, "y": y, "n": n, "m": m,
        "a": rng.choice(("the", "an" if x[0] in "aeiou" else "a")),
        "w": x if kind == "remember" else " ".join(rng.choices(CONTENT, k=rng.choice((1, 2, 2, 3, 3, 4)))),
        "c": rng.choice(COLORS), "s": rng.choice(SHAPES), "name": word or rng.choice(NAMES),
    }  # fmt: skip


def _several(rng: random.Random, seconds: tuple[str, ...]) -> tuple[str, str]:
    """A period and a duration of two to five periods, both in `seconds` where possible."""
    usual = [(n, m) for n in seconds for m in NUMBERS if 2 <= NUMBERS[m] / NUMBERS[n] <= 5 and NUMBERS[m] <= 40]
    return rng.choice(usual or [("two", "ten")])
