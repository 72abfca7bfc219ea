"""The calculator: arithmetic in signs or in words, exact, and no code is ever evaluated."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from interplay.agents.tools.tool import ToolError, tool
from interplay.background.numbers import read_number, speak_number

WORDS = {
    "plus": "+", "and": "+", "minus": "-", "less": "-", "times": "*", "x": "*", "multiplied by": "*", "divided by": "/",
    "over": "/", "to the power of": "^", "to the": "^", "modulo": "%", "mod": "%",
}  # fmt: skip
TOKEN = re.compile(r"\d+(?:\.\d+)?|[a-z]+|[-+*/^()%]|\*\*")
BEFORE = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}
MAX_TOKENS, MAX_BITS, MAX_EXPONENT = 100, 4_000, 200
FILLER = frozenset(
    """
    what is the of result answer to calculate compute work out how much equals please s
    """.split()  # noqa: SIM905
)


@tool
def calculator(expression: str) -> str:
    """Work out a sum such as "17 * 23", "seventeen times twenty three", "15 percent of 80", "square root of two"."""
    return speak_number(evaluate(expression))


def evaluate(expression: str) -> Fraction:
    """The exact value of an expression (a square root is as exact as a float). Raises ToolError if it is none."""
    tokens = _tokens(expression)
    if not any(isinstance(token, Fraction) for token in tokens):
        raise ToolError("I found no sum in that.")
    value, at = _sum(tokens, 0, 0)
    if at != len(tokens):
        raise ToolError("I could not make out that sum.")
    return value


def _tokens(expression: str) -> list[Fraction | str]:
    text = expression.lower().replace(",", "").replace("×", "*").replace("÷", "/").replace("**", "^")
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text).replace("-", " - ")  # twenty-three is one number
    text = re.sub(r"\b(the )?square root of\b", " root ", text)
    text = re.sub(r"\bsquared\b", " ^ 2 ", text)
    text = re.sub(r"\bcubed\b", " ^ 3 ", text)
    text = re.sub(r"\b(?:percent|per cent) of\b", " percentof ", text)
    text = re.sub(r"\bhalf of\b", " 0.5 * ", text)
    text = re.sub(r"(\d)\s*%\s*of\b", r"\1 percentof ", text)
    for words, sign in sorted(WORDS.items(), key=lambda item: -len(item[0])):
        if words != "and":
            text = re.sub(rf"\b{words}\b", f" {sign} ", text)
    words = TOKEN.findall(text)
    if len(words) > MAX_TOKENS:
        raise ToolError("That sum is too long for me.")
    tokens: list[Fraction | str] = []
    at = 0
    while at < len(words):
        number = read_number(words, at)
        if number is not None:
            tokens.append(number[0])
            at = number[1]
        elif words[at] in ("root", "percentof", "and") or words[at] in "+-*/^()%":
            tokens.append("+" if words[at] == "and" else words[at])
            at += 1
        elif words[at] == "percent":
            tokens += ["/", Fraction(100)]
            at += 1
        elif words[at] in FILLER:
            at += 1
        else:
            raise ToolError(f"I do not know {words[at]!r} in a sum.")
    return tokens


def _sum(tokens: list[Fraction | str], at: int, binding: int) -> tuple[Fraction, int]:
    """Precedence climbing from `tokens[at]`, operators that bind tighter than `binding`."""
    value, at = _atom(tokens, at)
    while at < len(tokens):
        sign = tokens[at]
        if sign == "percentof":
            right, at = _sum(tokens, at + 1, 2)
            value = value / 100 * right
            continue
        if not isinstance(sign, str) or BEFORE.get(sign, 0) <= binding:
            break
        right, at = _sum(tokens, at + 1, BEFORE[sign] - (sign == "^"))
        value = _apply(sign, value, right)
    return value, at


def _atom(tokens: list[Fraction | str], at: int) -> tuple[Fraction, int]:
    if at >= len(tokens):
        raise ToolError("That sum has no end.")
    token = tokens[at]
    if isinstance(token, Fraction):
        return token, at + 1
    if token == "-":
        value, at = _sum(tokens, at + 1, 2)
        return -value, at
    if token == "root":
        value, at = _atom(tokens, at + 1)
        if value < 0:
            raise ToolError("A negative number has no square root.")
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        exact = top * top == value.numerator and bottom * bottom == value.denominator
        return (Fraction(top, bottom) if exact else Fraction(math.sqrt(value))), at
    if token == "(":
        value, at = _sum(tokens, at + 1, 0)
        if at < len(tokens) and tokens[at] == ")":
            return value, at + 1
    raise ToolError("I could not make out that sum.")


def _apply(sign: str, left: Fraction, right: Fraction) -> Fraction:
    if sign in "/%" and right == 0:
        raise ToolError("Nothing can be divided by zero.")
    if sign == "^":
        if abs(right) > MAX_EXPONENT or (left == 0 and right < 0):
            raise ToolError("That power is too large for me.")
        if right.denominator != 1:
            if left < 0:
                raise ToolError("That power has no real value.")
            return Fraction(float(left) ** float(right))
        value = left ** int(right)
    else:
        value = {"+": left + right, "-": left - right, "*": left * right}[sign] if sign in "+-*" else (
            left / right if sign == "/" else left % right
        )  # fmt: skip
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise ToolError("That number is too large for me.")
    return value
