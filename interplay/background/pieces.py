"""From a model's stream of text to sentences that can be spoken one by one."""

from __future__ import annotations

import re

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
SHORTEST = 12  # characters: "No. 5" is not two sentences
MARKS = re.compile(r"\*\*|__|`+|^#+\s*|^\s*[-*•]\s+|\[(\d+)\]", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


def speakable(text: str) -> str:
    """Without what is written for the eye: emphasis, headings, bullets, link targets, footnote numbers."""
    return " ".join(MARKS.sub("", LINK.sub(r"\1", text)).split())


class Sentences:
    """Feed text as it comes, take whole sentences as soon as the next one begins."""

    def __init__(self) -> None:
        self._text = ""

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
