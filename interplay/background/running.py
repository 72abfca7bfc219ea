"""One delegation while it is worked on: what `Work` promises, on the session's time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from interplay.background.base import Toolset
from interplay.background.delegation import Delegation
from interplay.background.package import ContextPackage

if TYPE_CHECKING:
    from interplay.background.room import BackgroundRoom

ASK_S = 30.0  # session seconds that a person has for an answer once they have heard the question
UNHEARD_S = 120.0  # and so long it may wait to be put to them
MAX_HEARD = 50


class Running:
    """The `Work` of one delegation."""

    def __init__(self, delegation: Delegation, package: ContextPackage, room: BackgroundRoom) -> None:
        self.delegation, self.package, self.id = delegation, package, delegation.id
        # What was read to this person before is part of the conversation it gets, and so is what a camera shows.
        self.tainted = room.tainted or bool(package.frames)
        self.task: asyncio.Task[None] | None = None
        self._room = room
        self._heard: deque[str] = deque(maxlen=MAX_HEARD)
        self._news = asyncio.Event()
        self._listening = False
        self._timers: list[tuple[float, asyncio.Future[None]]] = []
        self._answer: asyncio.Future[str] | None = None
        self._late: asyncio.Future[None] | None = None
        self._asking = asyncio.Lock()
        self._resting = asyncio.Event()
        self._parked = 0
        self._over = False

    # what the work may do

    @property
    def tools(self) -> Toolset:
        return self._room.tools

    def progress(self, text: str, *, aloud: bool = False) -> None:
        text = " ".join(text.split())[:300]
        if text and self.delegation.live:
            self.delegation.progress = text
            self._room.tainted |= self.tainted  # it may be told to the person, and then stands in the transcript
            self._room.note("background", "progress", id=self.id, text=text)
            if aloud:
                self._room.report("aloud", self.delegation, text)

    def heard(self) -> list[str]:
        said, self._heard = list(self._heard), deque(maxlen=MAX_HEARD)
        self._news.clear()
        return said

    async def wait_heard(self) -> list[str]:
        if not self._heard:
            self._listening = True
            try:
                with self._park():
                    await self._news.wait()
            finally:
                self._listening = False
        return self.heard()

    async def ask(self, question: str) -> str:
        question = " ".join(question.split())[:300]
        async with self._asking:  # one question at a time
            loop = asyncio.get_running_loop()
            self._answer = loop.create_future()
            self._late = late = loop.create_future()
            self._timers.append((self._room.now() + UNHEARD_S, late))
            self.delegation.asking, self.delegation.put_s = question, None
            self._room.tainted |= self.tainted
            self._room.note("background", "asked", id=self.id, text=question)
            self._room.report("ask", self.delegation, question)
            try:
                with self._park():
                    await asyncio.wait([self._answer, late], return_when=asyncio.FIRST_COMPLETED)
                return self._answer.result() if self._answer.done() else ""
            finally:
                self._answer, self._late, self.delegation.asking, self.delegation.put_s = None, None, "", None
                self._timers = [timer for timer in self._timers if timer[1] is not late]

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timers.append((self._room.now() + seconds, future))
        with self._park():
            await future

    def note(self, lane: str, kind: str, **fields: Any) -> None:
        self._room.note(lane, kind, delegation=self.id, **fields)

    # what the room does with it

    def wake(self, now: float) -> None:
        """Session time is `now`: end the sleeps that are over."""
        due = [future for at, future in self._timers if at <= now + 1e-9]
        self._timers = [(at, future) for at, future in self._timers if at > now + 1e-9]
        for future in due:
            if not future.done():
                future.set_result(None)
                self._resting.clear()

    def hear(self, text: str) -> None:
        self._heard.append(text)
        self._news.set()
        if self._listening:
            self._resting.clear()

    def put(self) -> None:
        """The person has heard what is asked: from now on there is time to answer."""
        now = self.delegation.put_s = self._room.now()
        self._timers = [(now + ASK_S if future is self._late else at, future) for at, future in self._timers]

    def answer(self, text: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(text)
            self._resting.clear()

    @property
    def busy(self) -> bool:
        """It is doing something, rather than waiting for session time or for the person."""
        return not self._over and not self._resting.is_set()

    def over(self) -> None:
        self._over = True
        self._resting.set()

    @contextlib.contextmanager
    def _park(self) -> Iterator[None]:
        self._parked += 1
        self._resting.set()
        try:
            yield
        finally:
            self._parked -= 1
            if not self._parked:
                self._resting.clear()
