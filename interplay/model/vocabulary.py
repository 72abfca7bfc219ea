"""The words a model can hear and say: one list shared by both, which can grow without retraining from nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NONE, UNKNOWN = 0, 1
_SPECIAL = ("<none>", "<unk>")


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

    def text(self, number: int) -> str:
        """The word, or "" for `<none>` and `<unk>`: neither is something a person said."""
        return "" if number in (NONE, UNKNOWN) else self.words[number]

    def extended(self, words: Iterable[str]) -> Vocabulary:
        """The same ids plus new words at the end; words already known are skipped."""
        return Vocabulary([*self.words[2:], *(w for w in dict.fromkeys(words) if w not in self._ids)])
