"""Two judgements: how a new question stands to those under way, and what a result is still worth when it comes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from interplay.background.delegation import Delegation
from interplay.background.numbers import NUMBER_WORDS
from interplay.background.package import Line
from interplay.background.utterance import Kind, classify, content_words, is_question, is_sum, normal, plain, sentences

Relation = Literal["beside", "replaces", "repeats"]
STALE_S = 90.0  # after this, and with the talk elsewhere, a result is only context
ELSEWHERE_WORDS = 12  # of the person since the question: then the result says what it answers
SAME = 0.5  # share of common words from which two questions are about the same thing
BESIDE = ("and ", "also ", "and also ", "another question", "one more")


def relation(new: str, old: str) -> Relation:
    """How a new question stands to one that is still under way.

    repeats: the same again, so nothing is asked twice. replaces: a correction, or the same thing with other values.
    beside: a question of its own.
    """
    mine, theirs = content_words(new), content_words(old)
    words, before = normal(new), normal(old)
    if words == before or (mine and mine == theirs and _numbers(words) == _numbers(before)):
        return "repeats"
    if before and words.startswith(before) and not words[len(before) :].startswith(" and "):
        return "replaces"  # the person has gone on: "... twenty" was "twenty three"
    if classify(new) is Kind.CORRECTION:
        return "replaces"
    if words.startswith(BESIDE):
        return "beside"
    if is_sum(words) and is_sum(before):
        return "beside" if not _numbers(words) & _numbers(before) else "replaces"
    kind = {w for w in mine if w not in NUMBER_WORDS} | ({"#"} if _numbers(words) else set())
    other = {w for w in theirs if w not in NUMBER_WORDS} | ({"#"} if _numbers(before) else set())
    if not kind or not other:
        return "beside"
    return "replaces" if len(kind & other) / len(kind | other) > SAME and len(kind ^ other) <= 1 else "beside"


@dataclass(frozen=True, slots=True)
class Verdict:
    """use: speak, context or drop. preface: words before the result, so that it is clear what it answers. why: for
    the record."""

    use: Literal["speak", "context", "drop"]
    preface: str = ""
    why: str = ""


def judge(delegation: Delegation, text: str, now: float, since: Iterable[Line], others: int = 0) -> Verdict:
    """What a result is worth now. since: what both sides said after the question. others: delegations under way.

    A result that somebody has said meanwhile is not said again; one that comes long after the talk has moved on stays
    silent context; one that comes late or beside another says what it is about.
    """
    if not delegation.live:
        return Verdict("drop", why=delegation.state.value)
    since = [line for line in since if line.end_s > delegation.asked_s]
    key = _key(text, f"{delegation.question} {delegation.meant}")
    for line in since:
        # A question that holds the words is not an answer that was given.
        told = " ".join(s for s in sentences(line.text) if not s.endswith("?"))
        if key and key <= content_words(told) and not is_question(told):
            return Verdict("context", why=f"the {line.who} said it at {line.t:.1f} s")
    words = sum(len(line.text.split()) for line in since if line.who == "user")
    elsewhere = words >= ELSEWHERE_WORDS
    if now - delegation.asked_s > STALE_S and elsewhere:
        return Verdict("context", why="the talk has moved on")
    return Verdict("speak", preface(delegation.asked, text) if others or elsewhere else "")


def preface(question: str, text: str) -> str:
    """Words that say what an answer answers; "" if it says so itself."""
    return "" if content_words(question) <= content_words(text) else f"You asked: {plain(question)}."


def _key(text: str, question: str) -> frozenset[str]:
    """The words of a short answer that the question did not have; of a long one there is no such thing."""
    new = content_words(text) - content_words(question)
    return new if 0 < len(new) <= 4 else frozenset()


def _numbers(words: str) -> frozenset[str]:
    return frozenset(w for w in words.split() if w in NUMBER_WORDS or any(c.isdigit() for c in w))
