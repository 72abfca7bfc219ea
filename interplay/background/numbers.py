"""Numbers as people say them: "seventeen times twenty three", "three point five", "a hundred and five"."""

from __future__ import annotations

import re
from fractions import Fraction

UNITS = {
    "zero": 0, "oh": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
FRACTIONS = {"half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4)}
DIGITS = re.compile(r"\d+(?:\.\d+)?")
NUMBER_WORDS = frozenset({*UNITS, *TENS, *SCALES, *FRACTIONS}) - {"oh"}


def is_number(word: str) -> bool:
    """True for a word that is a number by itself."""
    return word in NUMBER_WORDS or DIGITS.fullmatch(word) is not None


def read_number(words: list[str], at: int = 0) -> tuple[Fraction, int] | None:
    """The number that starts at `words[at]` and the index after it, or None.

    words: lower case, without commas. "twenty three" is 23, "one hundred and five" is 105; "five seven" is 5, then 7.
    """
    if at < len(words) and words[at] in ("minus", "negative"):
        inner = read_number(words, at + 1)
        return (-inner[0], inner[1]) if inner else None
    if at + 1 < len(words) and words[at] in ("a", "an") and words[at + 1] in (*SCALES, *FRACTIONS):
        at += 1
    if at >= len(words):
        return None
    if DIGITS.fullmatch(words[at]):
        value, at = Fraction(words[at]), at + 1
        while at < len(words) and words[at] in SCALES:
            value, at = value * SCALES[words[at]], at + 1
        return _decimals(words, value, at)
    if words[at] in FRACTIONS:
        return FRACTIONS[words[at]], at + 1
    whole = _whole(words, at)
    return _decimals(words, Fraction(whole[0]), whole[1]) if whole else None


def _whole(words: list[str], at: int) -> tuple[int, int] | None:
    total, part, seen, room = 0, 0, False, 100
    while at < len(words):
        word = words[at]
        if word in TENS and room >= 100:
            part, room = part + TENS[word], 10
        elif (
            word in UNITS
            and (room > UNITS[word] if room == 10 else room >= 100)
            and not (room == 10 and word == "zero")
        ):
            part, room = part + UNITS[word], 1
        elif word == "hundred":
            part, room = max(part, 1) * 100, 100
        elif word in SCALES:
            total, part, room = total + max(part, 1) * SCALES[word], 0, 100
        elif not (word == "and" and seen and room == 100 and _follows(words, at)):
            break
        seen = True
        at += 1
    return (total + part, at) if seen else None


def _follows(words: list[str], at: int) -> bool:
    """ "and" belongs to a number only after a hundred or a thousand and before a smaller number."""
    return words[at - 1] in SCALES and at + 1 < len(words) and words[at + 1] in (*UNITS, *TENS)


def _decimals(words: list[str], value: Fraction, at: int) -> tuple[Fraction, int]:
    """ "point five" and "and a half" after a whole number."""
    if at + 1 < len(words) and words[at] == "point":
        digits, end = "", at + 1
        while end < len(words) and (
            (words[end] in UNITS and UNITS[words[end]] < 10) or re.fullmatch(r"\d", words[end])
        ):
            digits += str(UNITS.get(words[end], words[end]))
            end += 1
        if digits:
            return value + Fraction(int(digits), 10 ** len(digits)), end
    if words[at : at + 2] == ["and", "a"] and at + 2 < len(words) and words[at + 2] in FRACTIONS:
        return value + FRACTIONS[words[at + 2]], at + 3
    return value, at


def speak_number(value: Fraction | float, places: int = 4) -> str:
    """A number as it is written for a voice: at most `places` decimals, no trailing zeros, "about" if rounded."""
    exact = Fraction(value)
    if exact.denominator == 1:
        return str(exact.numerator)
    rounded = round(exact, places)
    if rounded == 0:
        return f"about {float(exact):.2g}"
    text = f"{float(rounded):.{places}f}".rstrip("0").rstrip(".")
    return text if rounded == exact else f"about {text}"
