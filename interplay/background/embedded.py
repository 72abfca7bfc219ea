"""The embedded default: a small planner over tools, without a key, a network or a model.

It reads a question by plain rules, calls the tool that fits, and makes a sentence of the answer. What no tool answers
goes to a local language model where there is one; otherwise it says that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from interplay.background.base import Abilities, Piece, ToolAnswer, Work
from interplay.background.numbers import read_number
from interplay.background.utterance import content_words, is_question, is_sum, normal

DONT_KNOW = "I do not know that, and I found nothing about it."
NOTHING = "nothing found"
STEER_ROUNDS = 3
_LEADING = re.compile(
    r"^(?:(?:no|nope|wait|sorry|actually|instead|i mean|i meant|okay|ok|so|and|well|hey|please|um|uh|also|then|"
    r"but)\s+)+"
)
_PLAIN = re.compile(
    r"^(?:(?:can|could|would|will) you (?:please )?|please )?(?:tell me|calculate|compute|work out|what's|whats|"
    r"what is|what are|how much is|convert|do you know)\s+"
)
_CONVERT = (
    re.compile(r"how (?:many|much) (?P<to>.+?) (?:is|are|in|make|has|have|equals?)(?: there in| in)? (?P<from>.+)$"),
    re.compile(r"(?:convert |what is |how much is |what's )?(?P<from>.+?) (?:to|in|into) (?P<to>[a-z ]+)$"),
)
_TIME = re.compile(r"\bwhat(?:'s| is)? (?:the )?(?:current )?time|what time is it|do you have the time")
_DATE = re.compile(r"\bwhat(?:'s| is)? (?:the )?date|what day (?:is|was|will)|which day|what date|what weekday")
_MEMORY = re.compile(
    r"\b(?:do you remember|did i (?:tell|say|ask|mention|promise)|have i (?:told|said)|my name|who am i|"
    r"last time|what do you know about me|did we (?:talk|speak|say)|i promised?)\b"
)
_SPLIT = re.compile(r"\s+and (?=(?:what|who|where|when|why|how|which)\b)")

Fallback = Callable[[Work, str], AsyncIterator[Piece]]


class EmbeddedBackground:
    """Tools behind a planner. fallback: asked for what no tool answers, for example a local language model."""

    abilities = Abilities(instant=True)

    def __init__(self, fallback: Fallback | None = None, *, name: str = "embedded", instant: bool = True) -> None:
        self.name, self._fallback = name, fallback
        self.abilities = Abilities(instant=instant)

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        """Answer each part of the question; then what the person added meanwhile."""
        question = work.package.question
        # As the second recogniser understood it, if there is one; the foreground knows fewer words, but its own well.
        for reading in filter(None, (work.package.meant, question)):
            first, *others = _SPLIT.split(normal(reading))
            answer = await self._tools(first, work)
            if answer is None and reading != question:
                continue
            async for piece in self._told(answer, work.package.meant or first, work):
                yield piece
            for part in others:
                async for piece in self._part(part, work):
                    yield piece
            question = reading
            break
        for _ in range(STEER_ROUNDS):
            added = " ".join(work.heard())
            if not added:
                return
            merged = refine(question, added)
            async for piece in self._part(merged, work):
                yield piece
            question = merged

    async def _part(self, text: str, work: Work) -> AsyncIterator[Piece]:
        async for piece in self._told(await self._tools(text, work), text, work):
            yield piece

    async def _tools(self, text: str, work: Work) -> str | None:
        """What a tool answers; None if none can."""
        words = _LEADING.sub("", normal(text))
        for plan in (self._units, self._sum, self._clock, self._memory, self._documents):
            answer = await plan(words, work)
            if answer is not None:
                return answer
        return None

    async def _told(self, answer: str | None, text: str, work: Work) -> AsyncIterator[Piece]:
        if answer is not None:
            yield Piece(answer)
        elif self._fallback is not None:
            async for piece in self._fallback(work, _LEADING.sub("", normal(text))):
                yield piece
        else:
            yield Piece(DONT_KNOW)

    async def _sum(self, words: str, work: Work) -> str | None:
        if not is_sum(words):
            return None
        expression = _PLAIN.sub("", words)
        answer = await self._call("calculator", {"expression": expression}, work)
        if answer is None:
            return None
        return f"{expression[0].upper()}{expression[1:]} is {answer.text}." if answer.ok else answer.sentence

    async def _units(self, words: str, work: Work) -> str | None:
        for pattern in _CONVERT:
            match = pattern.match(words)
            if match is None:
                continue
            given = match["from"].split()
            number = read_number(given)
            amount, rest = (number[0], given[number[1] :]) if number else (None, given)
            if amount is None and rest[:1] in (["a"], ["an"]):
                amount, rest = 1, rest[1:]
            if amount is None or not rest:
                continue
            values = {"value": float(amount), "from_unit": " ".join(rest), "to_unit": match["to"]}
            answer = await self._call("units", values, work)
            if answer is None:
                return None
            if answer.ok or "cannot be turned" in answer.text:
                return answer.text if answer.ok else answer.sentence
        return None

    async def _clock(self, words: str, work: Work) -> str | None:
        when = next((day for day in ("tomorrow", "yesterday") if day in words.split()), "today")
        place = words.rpartition(" in ")[2] if " in " in words else ""
        if _TIME.search(words):
            values = {"what": "time", "place": place}
        elif _DATE.search(words):
            values = {"what": "weekday" if "week" in words or "what day" in words else "date", "day": when}
        else:
            return None
        answer = await self._call("clock", values, work)
        return None if answer is None else answer.text if answer.ok else answer.sentence

    async def _memory(self, words: str, work: Work) -> str | None:
        """What is known of the person: first in the memory that came with the conversation, then in the archive."""
        if not _MEMORY.search(words):
            return None
        if "name" in words.split() or "who am i" in words:
            found = re.search(r"(?:name is|name:|called|user is)\s+(\w+)", work.package.memory, re.IGNORECASE)
            if found:
                return f"Your name is {found[1].capitalize()}."
        best = best_line(words, work.package.memory.splitlines())
        if best:
            return f"You told me: {best}."
        answer = await self._call("recall", {"query": words}, work)
        if answer is None or not answer.ok or not answer.text or answer.text == NOTHING:
            return "I do not remember that." if answer is None or answer.ok else answer.sentence
        return f"I remember this: {answer.text.splitlines()[0]}"

    async def _documents(self, words: str, work: Work) -> str | None:
        answer = await self._call("documents", {"query": words}, work)
        if answer is None or answer.text == NOTHING:
            return None
        return answer.text.splitlines()[0] if answer.ok else answer.sentence

    async def _call(self, name: str, arguments: dict[str, Any], work: Work) -> ToolAnswer | None:
        """None where the session has no such tool."""
        if not any(offer.name == name for offer in work.tools.offers()):
            return None
        work.progress(f"asking {name}")
        return await work.tools.call(name, arguments, work)

    async def close(self) -> None:
        return None


def refine(question: str, added: str) -> str:
    """A question with what was said to it afterwards: a whole new question stands alone, a bit of one is added."""
    words = _LEADING.sub("", normal(added))
    if is_question(words):
        return words
    return f"{normal(question)} {words}"


def best_line(question: str, lines: list[str]) -> str:
    """The line that shares most words with the question, "" if none shares half of them."""
    wanted = content_words(question) - {
        "remember",
        "tell",
        "told",
        "said",
        "say",
        "last",
        "time",
        "talk",
        "promise",
        "promised",
    }
    best, most = "", 0.0
    for line in lines:
        shared = len(wanted & content_words(line)) / max(1, len(wanted))
        if shared > most:
            best, most = line.strip(" -.*"), shared
    return best if most >= 0.5 else ""
