"""Between a session and the interaction model: events become words and marks, choices become words and actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from interplay.core.types import Action, Event
from interplay.model.config import DECISIONS, MARKS
from interplay.model.vocabulary import Joiner, Vocabulary, tokens

WAITING_WORDS = 200  # of text events; older ones give way
CALL_WORDS = 24  # a tool call longer than this is dropped
CALL_END = "over"


class Intake:
    """Events of a session as the model reads them: one word per micro-turn, and marks that hold in it.

    `text {text}` and `tool_result {text}` queue words; `missing`, `pending` and `busy` are marks of this micro-turn.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._waiting: deque[int] = deque(maxlen=WAITING_WORDS)

    def take(self, events: Iterable[Event]) -> tuple[int, list[bool]]:
        """The id of this micro-turn's event word (0 for none) and its marks, in the order of MARKS."""
        kinds = set()
        for event in events:
            kinds.add(event.kind)
            if event.kind in ("text", "tool_result"):
                for word in tokens(str(event.data.get("text", ""))):
                    self._waiting.extend(self._vocabulary.spell(word))
        return (self._waiting.popleft() if self._waiting else 0), [mark in kinds for mark in MARKS]


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
