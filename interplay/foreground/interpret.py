"""Between a session and the interaction model: events become words and marks, choices become words and actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from interplay.core.types import INPUT_SAMPLES, Action, Event
from interplay.model.config import DECISIONS, MARKS
from interplay.model.vocabulary import Joiner, Vocabulary, tokens

WAITING_WORDS = 200  # of text events; older ones give way
CALL_WORDS = 24  # a tool call longer than this is dropped
CALL_END = "over"


class Reading(NamedTuple):
    """Of one micro-turn. event: id of a word of a text event, 0 for none. marks: in the order of MARKS. said: id of the
    word that the session's voice made audible (a delivered text), None if it only said what the model put out."""

    event: int
    marks: tuple[bool, ...]
    said: int | None


class Intake:
    """Events of a session as the model reads them: one word per micro-turn, and marks that hold in it.

    `text {text}` and `tool_result {text}` queue words; `said {text}` tells what the voice read; `missing {samples}`,
    `pending` and `busy` are marks. A slice counts as missing if at least half of it never came.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._waiting: deque[int] = deque(maxlen=WAITING_WORDS)

    def take(self, events: Iterable[Event], *, delegated: bool = False) -> Reading:
        """What this micro-turn's events amount to. delegated: the model's decision before."""
        marks = dict.fromkeys(MARKS, False) | {"delegated": delegated}
        said: int | None = None
        for event in events:
            words = tokens(str(event.data.get("text", "")))
            if event.kind in ("text", "tool_result"):
                for word in words:
                    self._waiting.extend(self._vocabulary.spell(word))
            elif event.kind == "said" and words:
                said = self._vocabulary.id(words[-1])  # one word fits; the voice brings about one per micro-turn
            elif event.kind == "missing":
                marks["missing"] = int(event.data.get("samples", INPUT_SAMPLES)) >= INPUT_SAMPLES // 2
            elif event.kind in ("pending", "busy"):
                marks[event.kind] = True
        return Reading(self._waiting.popleft() if self._waiting else 0, tuple(marks.values()), said)


class Narrator:
    """What the model chose, as words and actions. Spelled words come out when they are complete, calls likewise."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._heard, self._said, self._tool = Joiner(), Joiner(), Joiner()
        self._call: list[str] = []

    def tell(self, decision: int, heard: int, said: int) -> tuple[str, str, tuple[Action, ...]]:
        """Decision and word ids of one micro-turn -> text heard, text said, actions.

        Actions: `yield`, `delegate`, `deliver`; `backchannel` beside the word said; `tool {name, args}` once a call
        has been spelled to its end.
        """
        name, word = DECISIONS[decision], self._vocabulary.text(said)
        spoken = name in ("speak", "backchannel")
        actions = [Action(name)] if name in ("backchannel", "yield", "delegate", "deliver") else []
        for part in self._tool.push(word if name == "tool" else "").split():
            actions += self._spelled(part)
        return self._heard.push(self._vocabulary.text(heard)), self._said.push(word if spoken else ""), tuple(actions)

    def _spelled(self, word: str) -> Sequence[Action]:
        if word != CALL_END:
            self._call = [*self._call, word][-CALL_WORDS - 1 :]
            return ()
        call, self._call = self._call, []
        return (Action("tool", {"name": call[0], "args": call[1:]}),) if 0 < len(call) <= CALL_WORDS else ()
