"""The words a model can hear and say: one list shared by both, which can grow without retraining from nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NONE, UNKNOWN = 0, 1
_SPECIAL = ("<none>", "<unk>")
START, MORE = "^", "+"  # marks of pieces: the first of a spelled word, and those that continue it
_CHUNKS = (
    "th", "he", "in", "er", "an", "re", "on", "at", "en", "nd", "ti", "es", "or", "te", "of", "ed", "is", "it", "al",
    "ar", "st", "to", "nt", "ng", "se", "ha", "as", "ou", "io", "le", "ve", "co", "me", "de", "hi", "ri", "ro", "ic",
    "ne", "ea", "ra", "ce", "li", "ch", "ll", "be", "ma", "si", "om", "ur", "ing", "ent", "ion", "ter", "ation",
)  # fmt: skip
PIECES = tuple(mark + chunk for mark in (START, MORE) for chunk in (*"abcdefghijklmnopqrstuvwxyz'", *_CHUNKS))


def tokens(text: str) -> list[str]:
    """Lower-case words of a text, punctuation dropped."""
    return re.findall(r"[a-z']+", text.lower())


class Vocabulary:
    """Word <-> id. Ids 0 and 1 are `<none>` (nothing in this micro-turn) and `<unk>` (a word outside the list)."""

    def __init__(self, words: Sequence[str]) -> None:
        """words: without the special ones, in id order from 2 on."""
        self.words = [*_SPECIAL, *words]
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a vocabulary lists each word once")

    @classmethod
    def from_list(cls, words: Sequence[str]) -> Vocabulary:
        """Inverse of `.words`."""
        if tuple(words[:2]) != _SPECIAL:
            raise ValueError(f"a saved vocabulary starts with {_SPECIAL}")
        return cls(words[2:])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        return self._ids.get(word, UNKNOWN)

    def spell(self, word: str) -> list[int]:
        """Ids that stand for a word: its own, else those of its pieces (longest first), else `<unk>`."""
        if word in self._ids:
            return [self._ids[word]]
        ids: list[int] = []
        at = 0
        while at < len(word):
            mark = MORE if at else START
            size = next((n for n in range(min(5, len(word) - at), 0, -1) if mark + word[at : at + n] in self._ids), 0)
            if not size:
                return [UNKNOWN]
            ids.append(self._ids[mark + word[at : at + size]])
            at += size
        return ids

    def text(self, number: int) -> str:
        """The word, or "" for `<none>` and `<unk>`: neither is something a person said."""
        return "" if number in (NONE, UNKNOWN) else self.words[number]

    def extended(self, words: Iterable[str]) -> Vocabulary:
        """The same ids plus new words at the end; words already known are skipped."""
        return Vocabulary([*self.words[2:], *(w for w in dict.fromkeys(words) if w not in self._ids)])


class Joiner:
    """Puts spelled words together again, from one token per micro-turn."""

    def __init__(self) -> None:
        self._open = ""

    def push(self, token: str) -> str:
        """The words that are complete now, separated by a space; token: a word, a piece, or "" for none.

        A spelled word is complete when the next micro-turn does not continue it.
        """
        if token.startswith(MORE) and self._open:
            self._open += token[1:]
            return ""
        done, self._open = self._open, ""
        if token.startswith(START):
            self._open = token[1:]
            return done
        return f"{done} {token.lstrip(MORE)}".strip()
