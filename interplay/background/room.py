"""The delegations of one session: started, kept apart, steered, withdrawn, and closed.

The session calls `at` once per micro-turn and takes what came in; nothing in here makes it wait. All state is owned by
the event loop that the session runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from interplay.background.base import Background, NoTools, Refused, Toolset
from interplay.background.delegation import Delegation, State
from interplay.background.ears import Ears, Recogniser
from interplay.background.package import ContextPackage
from interplay.background.running import Running
from interplay.core.timeline import Timeline
from interplay.core.types import InterplayError

MAX_RUNNING = 16
KEEP = 200  # finished delegations that stay known
SPINS = 50  # of the event loop, before settling begins to sleep
SETTLE_S = 5.0  # of wall time that a simulated micro-turn gives to work in this process
CLOSE_S = 2.0
HEAR_S = 4.0  # a second recogniser that takes longer is not waited for
AROUND_S = 20.0  # of what it understood, so much goes on the record
MAX_PIECE = 4_000

ReportKind = Literal["piece", "context", "ask", "aloud", "finished"]


@dataclass(frozen=True, slots=True)
class Report:
    """Something that came from the background since the last micro-turn."""

    kind: ReportKind
    delegation: Delegation
    text: str = ""


class BackgroundRoom:
    """What one session has in the background. `open` it on the session's timeline, `close` it at the end.

    memory: what is known of the person, as text for the package. instructions: the agent's, for its background.
    due: session second -> what is to be said by now because it was promised before, each once; never waits.
    recogniser: gives the words of what the person said to a background that takes no sound. hear_s: wall seconds that
    a delegation waits for them. vision: works on delegations that carry pictures, instead of `background`.
    """

    def __init__(
        self,
        background: Background,
        tools: Toolset | None = None,
        *,
        memory: str = "",
        instructions: str = "",
        due: Callable[[float], Sequence[Any]] | None = None,
        recogniser: Recogniser | None = None,
        vision: Background | None = None,
        hear_s: float = HEAR_S,
        max_running: int = MAX_RUNNING,
    ) -> None:
        self.background, self.vision, self.tools = background, vision, tools or NoTools()
        self._minds = (background,) if vision is None else (background, vision)
        self.memory, self.instructions = memory, instructions
        self.due = due or (lambda now: ())
        deaf = not all(mind.abilities.audio for mind in self._minds)
        self.ears = Ears(recogniser) if recogniser is not None and deaf else None
        self.hear_s = hear_s
        self.max_running = max_running
        self.tainted = False  # something that others wrote came into the conversation: see `ToolBox` for what follows
        self.delegations: dict[str, Delegation] = {}
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports: list[Report] = []
        self._timeline: Timeline | None = None
        self._now: Callable[[], float] = lambda: 0.0
        self._turn = 0
        self._count = 0

    def open(self, timeline: Timeline, now: Callable[[], float]) -> None:
        """Begin a session. now: session seconds."""
        self._timeline, self._now = timeline, now
        for name, why in self.tools.unavailable.items():
            self.note("tool", "unavailable", name=name, text=why)

    @property
    def takes_sound(self) -> bool:
        """Whether a package is to hold the person's sound: for the background itself, or for the recogniser."""
        return self.ears is not None or any(mind.abilities.audio for mind in self._minds)

    @property
    def takes_pictures(self) -> bool:
        """Whether a package is to hold what a camera shows."""
        return any(mind.abilities.images for mind in self._minds)

    @property
    def live(self) -> list[Delegation]:
        """Delegations that are neither delivered nor given up, oldest first."""
        return [d for d in self.delegations.values() if d.live]

    @property
    def working(self) -> list[Delegation]:
        """Those whose work is still going on, oldest first."""
        return [d for d in self.delegations.values() if d.working]

    @property
    def asking(self) -> Delegation | None:
        """Whom an answer of the person belongs to: of those that ask, the one whose question was heard last.

        One whose question nobody has heard yet is not among them: a yes to something else is not a yes to it.
        """
        put = [d for d in self.delegations.values() if d.working and d.asking and d.put_s is not None]
        return max(put, key=lambda d: d.put_s or 0.0, default=None)

    def at(self, turn: int) -> list[Report]:
        """Session time has come to micro-turn `turn`. Returns what came in since the last call, in order."""
        self._turn = turn
        for running in list(self._running.values()):
            running.wake(self._now())
        reports, self._reports = self._reports, []
        return [r for r in reports if r.delegation.live or r.kind == "finished"]

    def delegate(self, package: ContextPackage, background: Background | None = None) -> Delegation:
        """Start work on a question. Never waits. With too many under way the oldest gives way."""
        mind = background or (self.vision if package.frames else None) or self.background
        while len(self.working) >= self.max_running:
            self.drop(self.working[0].id, "too many at a time")
        self._count += 1
        delegation = Delegation(f"d{self._count}", package.question, package.asked_s)
        self.delegations[delegation.id] = delegation
        self._forget()
        self.note("background", "delegated", id=delegation.id, text=package.question, background=mind.name)
        running = Running(delegation, package, self)
        self._running[delegation.id] = running
        delegation.move(State.RUNNING)
        running.task = asyncio.create_task(self._work(running, mind), name=f"background {delegation.id}")
        self._tasks.add(running.task)
        running.task.add_done_callback(self._tasks.discard)
        return delegation

    def supersede(self, id: str, by: str) -> None:
        """A newer question takes the place of this one: its work ends and nothing of it is spoken any more."""
        self._end(id, State.SUPERSEDED, by=by)

    def drop(self, id: str, reason: str) -> None:
        """Give a delegation up: its work ends, its provider's stream is closed."""
        self._end(id, State.DROPPED, reason=reason)

    def deliver(self, id: str) -> None:
        """All of it has become audible (or was handed over as silent context)."""
        delegation = self.delegations[id]
        if delegation.move(State.DELIVERED):
            self.note("background", "delivered", id=id, text=" ".join(delegation.said))

    def steer(self, text: str, ids: Iterable[str] | None = None) -> list[str]:
        """Let running work know what the person just said. Returns who was told."""
        wanted = set(ids) if ids is not None else {d.id for d in self.working}
        told = []
        for id, running in self._running.items():
            if id in wanted and running.delegation.working:
                running.hear(text)
                told.append(id)
                self.note("background", "steered", id=id, text=text)
        return told

    def put(self, id: str) -> None:
        """The person has heard the question of this delegation to its end."""
        running = self._running.get(id)
        if running is not None and running.delegation.asking:
            running.put()

    def answer(self, text: str) -> bool:
        """The person's answer to what a task asked. False if none is asking."""
        asking = self.asking
        if asking is None:
            return False
        self.note("background", "answered", id=asking.id, text=text)
        self._running[asking.id].answer(text)
        return True

    async def settle(self, wall_s: float) -> None:
        """On a simulated clock: give work its time. In-process work is waited for until it rests (it sleeps in session
        time, asks, or is over); for anything else session time keeps to wall time, `wall_s` per micro-turn."""
        if all(mind.abilities.instant for mind in self._minds):
            until = time.monotonic() + SETTLE_S
            spins = 0
            while any(r.busy for r in self._running.values()) and time.monotonic() < until:
                await asyncio.sleep(0 if spins < SPINS else 0.001)
                spins += 1
        elif self._running:
            tasks = [r.task for r in self._running.values() if r.task is not None]
            await asyncio.wait(tasks, timeout=wall_s, return_when=asyncio.ALL_COMPLETED)

    async def close(self) -> None:
        """End everything that still runs; what nobody has heard is dropped, and the record says what it was."""
        for delegation in self.live:
            self.drop(delegation.id, "session closed")
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CLOSE_S)
        for part in (self.tools, *self._minds):
            with contextlib.suppress(Exception):  # closing is not worth an error: nothing is asked of it any more
                await part.close()

    def note(self, lane: str, kind: str, **fields: Any) -> None:
        """A record on the timeline, at the present session second."""
        if self._timeline is not None:
            self._timeline.record(lane, kind, t=self._now(), turn=self._turn, **fields)

    def report(self, kind: ReportKind, delegation: Delegation, text: str = "") -> None:
        self._reports.append(Report(kind, delegation, text))

    def now(self) -> float:
        return self._now()

    async def _work(self, running: Running, mind: Background) -> None:
        """One delegation from its first to its last piece. What breaks in it costs one clear sentence."""
        delegation = running.delegation
        stream = mind.work(running)
        try:
            await self._hear(running, mind)
            async for piece in stream:
                self._take(delegation, piece.text[:MAX_PIECE].strip(), piece.kind)
        except asyncio.CancelledError:
            return  # `_end` has said why
        except Refused as error:
            self._fail(delegation, str(error), error.sentence)
        except InterplayError as error:
            self._fail(delegation, str(error), "That did not work.")
        except Exception as error:
            self._fail(delegation, f"{type(error).__name__}: {error}", "Something went wrong while I was looking.")
        finally:
            with contextlib.suppress(Exception):
                await stream.aclose()  # type: ignore[attr-defined]  # closes the provider's stream with it
            self._running.pop(delegation.id, None)
            running.over()
            delegation.finished, delegation.asking = True, ""
            delegation.finished_s = self._now()
            self.report("finished", delegation)

    async def _hear(self, running: Running, mind: Background) -> None:
        """Before the work begins: what the person said, by a recogniser that knows all words, if there is one."""
        if self.ears is None or mind not in self._minds or mind.abilities.audio:
            return
        delegation = running.delegation
        try:
            running.package = await self.ears.listen(running.package, self.hear_s)
        except (InterplayError, TimeoutError) as error:  # it is worked on with what the foreground understood
            running.package = replace(running.package, audio=None)
            self.note("background", "unrecognised", id=delegation.id, text=str(error) or "the recogniser was too slow")
            return
        if running.package.recognised:
            newest = [line.text for line in running.package.recognised if line.end_s > delegation.asked_s - AROUND_S]
            text = " ".join(newest)[:MAX_PIECE]
            delegation.meant = running.package.meant
            self.note("background", "recognised", id=delegation.id, text=text, question=delegation.meant)

    def _take(self, delegation: Delegation, text: str, kind: str) -> None:
        if not text or not delegation.live:
            return
        delegation.results += 1
        running = self._running.get(delegation.id)
        self.tainted |= running is not None and running.tainted
        self.note("background", "result", id=delegation.id, text=text, part=delegation.results, use=kind)
        if kind == "context":
            delegation.context.append(text)
            self.report("context", delegation, text)
        else:
            delegation.waiting.append(text)
            self.report("piece", delegation, text)

    def _fail(self, delegation: Delegation, detail: str, sentence: str) -> None:
        self.note("background", "failed", id=delegation.id, text=" ".join(detail.split())[:300])
        self._take(delegation, sentence, "speak")

    def _end(self, id: str, state: State, **fields: Any) -> None:
        delegation = self.delegations[id]
        unspoken = " ".join(filter(None, [delegation.unsaid, *delegation.waiting]))
        if not delegation.move(state):
            return
        delegation.waiting.clear()
        if unspoken:
            fields["unsaid"] = unspoken
        self.note("background", state.value, id=id, **fields)
        running = self._running.get(id)
        if running is not None and running.task is not None:
            running.task.cancel()

    def _forget(self) -> None:
        """A session of hours keeps its newest delegations in mind."""
        for id in [id for id, d in self.delegations.items() if d.state.final and d.finished][: -KEEP or None]:
            del self.delegations[id]
