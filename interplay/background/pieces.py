"""From a model's stream of text to sentences that can be spoken one by one."""

from __future__ import annotations

import re
from collections import deque

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
SHORTEST = 12  # characters: "No. 5" is not two sentences
MARKS = re.compile(r"\*\*|__|`+|^#+\s*|^\s*[-*•]\s+|\[(\d+)\]", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
TIMES = 3  # so often in a row something that goes round in circles says the same
SHORT, LONGEST = 4, 60  # words of one round


def speakable(text: str) -> str:
    """Without what is written for the eye: emphasis, headings, bullets, link targets, footnote numbers."""
    return " ".join(MARKS.sub("", LINK.sub(r"\1", text)).split())


class Sentences:
    """Feed text as it comes, take whole sentences as soon as the next one begins."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def waiting(self) -> int:
        """Characters of the sentence that has no end yet."""
        return len(self._text)

    def feed(self, text: str) -> list[str]:
        self._text += text
        out, start = [], 0
        for match in END.finditer(self._text):
            if match.end() < len(self._text) and match.start() - start >= SHORTEST:
                out.append(self._text[start : match.start()])
                start = match.end()
        self._text = self._text[start:]
        return [sentence for sentence in map(speakable, out) if sentence]

    def rest(self) -> list[str]:
        """What is left at the end."""
        text, self._text = speakable(self._text), ""
        return [text] if text else []


class Loop:
    """Feed text as it comes; says when it goes round in circles: the same words for the third time without a break.

    A list whose lines begin alike is no circle: something in it goes on.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._words: deque[str] = deque(maxlen=TIMES * LONGEST)

    def feed(self, text: str) -> bool:
        *words, self._rest = re.split(r"\s+", self._rest + text.lower())  # the last may be half a word
        return any([self._again(word) for word in words if word])

    def _again(self, word: str) -> bool:
        self._words.append(word)
        newest = list(reversed(self._words))
        for size in range(SHORT, len(newest) // TIMES + 1):
            if newest[:size] == newest[size : 2 * size] == newest[2 * size : 3 * size]:
                return True
        return False
