"""One piece of work handed to the background, and the only ways its state may change."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """created -> running -> delivered, or superseded or dropped at any time before. The last three are final."""

    CREATED = "created"
    RUNNING = "running"
    SUPERSEDED = "superseded"
    DELIVERED = "delivered"
    DROPPED = "dropped"

    @property
    def final(self) -> bool:
        return self not in (State.CREATED, State.RUNNING)


ALLOWED = {
    State.CREATED: {State.RUNNING, State.SUPERSEDED, State.DROPPED},
    State.RUNNING: {State.DELIVERED, State.SUPERSEDED, State.DROPPED},
}


@dataclass(slots=True)
class Delegation:
    """A question of the person on its way.

    id: unique in its session. asked_s: session second of the question. waiting: pieces that are to be spoken and were
    not yet handed to the voice. context: pieces that came as silent context. said: the words of it that became audible.
    progress: the newest thing the work said about itself. finished: the work is over, whatever became of its result.
    asking: the question the work wants to have answered. put_s: session second at which the person had heard that
    question to its end, None before: nothing said earlier can be the answer. meant: the question as a second
    recogniser understood it, or "".
    """

    id: str
    question: str
    asked_s: float
    state: State = State.CREATED
    waiting: deque[str] = field(default_factory=deque)
    context: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    results: int = 0
    progress: str = ""
    asking: str = ""
    put_s: float | None = None
    finished: bool = False
    finished_s: float | None = None
    unsaid: str = ""
    meant: str = ""

    @property
    def asked(self) -> str:
        """The question in the words that are to be said about it."""
        return self.meant or self.question

    @property
    def live(self) -> bool:
        """Neither delivered nor given up."""
        return not self.state.final

    @property
    def working(self) -> bool:
        return self.live and not self.finished

    def move(self, state: State) -> bool:
        """Enter `state`; False (and nothing happens) if that is no longer possible.

        A late completion must not revive what was withdrawn, and a late withdrawal must not unsay what was delivered.
        """
        if state not in ALLOWED.get(self.state, ()):
            return False
        self.state = state
        return True
