"""One tool call that the foreground asked for itself, as a piece of background work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from interplay.background.base import Abilities, Piece, ToolOffer, Work
from interplay.background.numbers import read_number


class DirectCall:
    """A Background that calls one tool. What comes out is context for the foreground, which put the call there; what
    went wrong is told to the person."""

    abilities = Abilities(instant=True)

    def __init__(self, name: str, arguments: Mapping[str, Any] | Sequence[str]) -> None:
        self.name, self._arguments = name, arguments

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        arguments = self._arguments
        if not isinstance(arguments, Mapping):
            offer = next((o for o in work.tools.offers() if o.name == self.name), None)
            arguments = spread(arguments, offer)
        answer = await work.tools.call(self.name, arguments, work)
        yield Piece(answer.text or "done", "context") if answer.ok else Piece(answer.sentence)

    async def close(self) -> None:
        return None


def spread(words: Sequence[str], offer: ToolOffer | None) -> dict[str, Any]:
    """Words in order as the arguments of a tool: one word each, the last one takes the rest, numbers where numbers go.

    A foreground of single words calls `mark red circle`; the tool's schema says what that means.
    """
    properties: Mapping[str, Any] = dict((offer.parameters if offer else {}).get("properties", {}))
    names, rest, out = list(properties), list(words), {}
    for index, name in enumerate(names):
        if not rest:
            break
        if properties[name].get("type") in ("number", "integer"):
            number = read_number(rest)
            if number is not None:
                out[name] = int(number[0]) if number[0].denominator == 1 else float(number[0])
                rest = rest[number[1] :]
                continue
        last = index == len(names) - 1
        out[name], rest = (" ".join(rest), []) if last else (rest[0], rest[1:])
    return out
