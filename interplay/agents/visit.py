"""One live session of one relationship: what it begins with, what is kept while it runs, what it leaves behind.

The session's clock waits for none of it: records come through a subscription, and the database is written beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from interplay.agents.memory import Item, Memory
from interplay.agents.plain import reminders
from interplay.agents.prefix import STALE
from interplay.agents.spec import AgentSpec
from interplay.agents.store import AgentStore
from interplay.agents.transcript import Transcript
from interplay.agents.writer import MemoryWriter
from interplay.core.timeline import Subscription, Timeline
from interplay.core.types import InterplayError

log = logging.getLogger("interplay.agents")

SAVE_S = 2.0  # wall seconds between writes to the archive: what a power cut may cost
QUEUE = 4_096
RECENT_LINES = 12


@dataclass(frozen=True, slots=True)
class Reminder:
    """Something to bring up at a point in time. id: of its item in memory, "" if it was asked for in this session."""

    key: str
    text: str
    due: datetime
    id: str = ""


class Visit:
    """`visit = await Visit.open(store, "ada", "local")`, `visit.follow(timeline)`, run, `await visit.close()`.

    options: for `SessionOptions.foreground`: `prefix` (at most 48 words), `proactivity`, `instructions` (the whole text
    for foregrounds that read more than a prefix), and for whom it is: `agent`, `user`, `session`.
    background: what the background is told of the person; the agent's instructions for it are in the spec.
    """

    def __init__(self, memory: Memory, session: str, started: datetime, writer: MemoryWriter | None) -> None:
        self.memory, self.session, self.started, self.writer = memory, session, started, writer
        self.options: dict[str, Any] = {}
        self.background = ""
        self.error: InterplayError | None = None
        self.transcript = Transcript()
        self._saved = 0
        self._due: dict[tuple[str, str], tuple[float, Reminder]] = {}
        self._given: set[tuple[str, str]] = set()
        self._closing = asyncio.Event()
        self._timeline: Timeline | None = None
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def spec(self) -> AgentSpec:
        return self.memory.relationship.agent.spec

    @classmethod
    async def open(
        cls,
        store: AgentStore,
        agent: str,
        user: str = "local",
        *,
        now: datetime | None = None,
        zone: tzinfo | None = None,
        writer: MemoryWriter | None = None,
    ) -> Visit:
        """Load agent and memory, and take up what a crashed session left. now: for replays; default: the present.

        Raises BadInput if there is no such agent.
        """
        memory = Memory(store, await store.relationship(agent, user), zone=zone)
        await memory.recover()
        started = now or datetime.now(UTC)
        visit = cls(memory, await memory.open_session(started), started, writer)
        spec = memory.relationship.agent.spec
        prefix, context = await memory.prefix(now=started), await memory.background_context(now=started)
        told = "\n\n".join(part for part in (spec.instructions.foreground, context) if part)
        visit.options = {"prefix": prefix, "proactivity": float(spec.proactivity), "instructions": told}
        visit.options |= {"agent": agent, "user": user, "session": visit.session}  # for whom providers are paid
        visit._await_due(await memory.list("reminder"))
        visit.background = context
        return visit

    def follow(self, timeline: Timeline) -> None:
        """Take part in what `timeline` records from now on. Call it before the session runs."""
        self._timeline, self._subscription = timeline, timeline.subscribe(QUEUE)
        self._tasks = [
            asyncio.create_task(self._listen(self._subscription), name="memory-listen"),
            asyncio.create_task(self._save_often(), name="memory-save"),
        ]

    def take_due(self, session_s: float) -> list[Reminder]:
        """Reminders whose time has come by this second of the session, each once. Looks only into memory: never waits.

        Those noted in earlier sessions are among them, and those asked for in this one.
        """
        due = sorted((at, key) for key, (at, _) in self._due.items() if at <= session_s and key not in self._given)
        self._given |= {key for _, key in due}
        return [self._due[key][1] for _, key in due]

    async def close(self) -> None:
        """Write what the session leaves in memory. Never raises for the store: `error` says what was lost."""
        if self._subscription is not None and self._timeline is not None:
            self._timeline.unsubscribe(self._subscription)  # ends the listener after what still waits
        self._closing.set()
        for task in self._tasks:
            await task
        self.transcript.finish()
        try:
            await self._save()
            await self.memory.conclude(self.session, self.transcript, self.started)
        except InterplayError as error:
            self._lose(error)

    async def refine(self) -> None:
        """After `close`: let the writer, if there is one, write it better. May take a minute; never raises for it."""
        if self.writer is None or self.error is not None:
            return
        try:
            await self.memory.refine(self.session, self.transcript, self.started, self.writer)
        except InterplayError as error:
            self._lose(error)

    async def _listen(self, subscription: Subscription) -> None:
        async for record in subscription:
            self.transcript.add(record)
        if subscription.dropped:
            self._lose(InterplayError(f"{subscription.dropped} records of this session did not reach its memory"))

    async def _save_often(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # a write is never cut off in the middle
                await asyncio.wait_for(self._closing.wait(), SAVE_S)
                return
            self.transcript.settle(self.transcript.seconds)
            self._notice()
            try:
                await self._save()
            except InterplayError as error:
                self._lose(error)

    async def _save(self) -> None:
        new = self.transcript.lines[self._saved :]
        await self.memory.add_lines(self.session, self.started, new)
        self._saved += len(new)

    def _notice(self) -> None:
        """Reminders asked for a moment ago may be due before the session is over."""
        if len(self.transcript.lines) > self._saved:
            recent = self.transcript.ordered[-RECENT_LINES:]
            for note in reminders(recent, self.started.astimezone(self.memory.zone)):
                if note.due is not None and note.every_s is None:
                    self._wait_for(Reminder(note.key, note.text, note.due))

    def _await_due(self, items: list[Item]) -> None:
        for item in items:
            if item.due is not None and item.every_s is None and self.started - item.due < STALE:
                self._wait_for(Reminder(item.key, item.text, item.due, item.id))

    def _wait_for(self, reminder: Reminder) -> None:
        at = (reminder.due - self.started).total_seconds()
        self._due.setdefault((reminder.key, reminder.due.isoformat()), (at, reminder))

    def _lose(self, error: InterplayError) -> None:
        if self.error is None:
            log.warning("memory: %s", error)
        self.error = error
