"""Where one model's broken-off answer and another's continuation meet: no word twice, none lost.

A continuation may begin in three ways: where the first one stopped, with some of its last words again, or from the
very beginning. The first characters are held back until it is clear which of them it is.
"""

from __future__ import annotations

LEAST = 8  # characters that must agree before an overlap is taken for a repetition
CHANCE = 48  # characters in common with the beginning that may be by chance
HOLD = 200  # characters that are held back at most


class Seam:
    """Takes the continuation piece by piece and gives back what is new in it. said: what the caller already has.

    restart: the other model answers from the beginning (it was given the same request), so the repetition is expected
    and any length of it is swallowed. `diverged` is True if it turned out to say something else.
    """

    def __init__(self, said: str, *, restart: bool = False) -> None:
        self._said, self._restart = said, restart
        self._held = ""
        self._open = bool(said)
        self.diverged = False

    def take(self, text: str) -> str:
        """The next piece of the continuation; returns what is new and certain."""
        if not self._open:
            return "" if self.diverged else text
        self._held += text
        if self._restart or self._repeats():
            return self._swallow()
        if len(self._held) < min(HOLD, len(self._said)) and self._may_overlap():
            return ""
        return self._join()

    def finish(self) -> str:
        """What was held back, at the end of the continuation."""
        if not self._open:
            return ""
        if self._restart or self._repeats():
            self._open = False
            self.diverged = self._restart and not self._said.startswith(self._held)
            return ""
        return self._join()

    def _repeats(self) -> bool:
        """Whether it looks as if the answer was begun again from its start."""
        held = self._held.lstrip()
        return len(held) >= LEAST and self._begins(held)

    def _begins(self, held: str) -> bool:
        said = self._said.lstrip()
        return said.startswith(held) or held.startswith(said)

    def _swallow(self) -> str:
        held, said = (self._held, self._said) if self._restart else (self._held.lstrip(), self._said.lstrip())
        if len(held) <= len(said):
            if not said.startswith(held):
                return self._off()
            return ""
        if not held.startswith(said):
            return self._off()
        self._open = False
        return held[len(said) :]

    def _off(self) -> str:
        """It began like the first answer and then went another way.

        After a few words in common that is no repetition but a continuation that happens to begin like the answer.
        """
        if not self._restart and len(self._held) < CHANCE:
            return self._join()
        self.diverged = True
        self._open = False
        return ""

    def _may_overlap(self) -> bool:
        """Whether what is held could still be the beginning of a repetition of the last words or of the first."""
        held = self._held.strip()
        return not held or held in self._said or self._overlap() > 0

    def _overlap(self) -> int:
        """The longest end of what was said with which the continuation begins."""
        for size in range(min(len(self._said), len(self._held)), 0, -1):
            if self._said.endswith(self._held[:size]):
                return size
        return 0

    def _join(self) -> str:
        self._open = False
        text = self._held
        size = self._overlap()
        if size >= LEAST or (size >= 2 and size == len(self._said)):
            return text[size:]
        stripped = text.lstrip()
        if len(stripped) < len(text):
            held, self._held = self._held, stripped
            size = self._overlap()
            self._held = held
            if size >= LEAST:
                return stripped[size:]
        return _spaced(self._said, text)


def _spaced(said: str, text: str) -> str:
    """No double blank where the two meet; none is added, for nobody knows whether a word was broken in two."""
    if said[-1:].isspace():
        return text.lstrip(" ")
    return text
