"""What an agent remembers of one user: core blocks that every session begins with, and an archive to search.

Everything here is bound to one relationship by `Scope`; there is no call that names another one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import sqlalchemy as sa

from interplay.agents.plain import MAX_ITEM_CHARS, Extraction, Note, Open, PlainWriter, slug
from interplay.agents.prefix import MAX_WORDS, STALE, background_text, foreground_words
from interplay.agents.scope import Scope, Scoped
from interplay.agents.store import AgentStore, Relationship
from interplay.agents.tables import BLOCKS, items, lines, sessions
from interplay.agents.transcript import Line, Transcript
from interplay.agents.when import LocalZone, shifted
from interplay.agents.writer import MemoryWriter
from interplay.core.timeline import Record, Timeline
from interplay.core.types import BadInput, InterplayError

log = logging.getLogger("interplay.agents")

CORE_ITEMS = 48  # of each block: more than any prefix holds; the rest is there to be searched and listed
PREFIX_ITEMS = 16  # no more than that have room in 48 words
SUMMARIES = 3
MODEL_S = 60.0
CRASHED_S = 30.0
RECOVERED = 8  # at a time: opening a session must not take long
MAX_QUERY_WORDS = 16
OPEN, DONE = "open", "done"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing remembered. block: user (a fact), promise or reminder. due: aware, UTC. every_s: for repeated ones.

    source: plain, model, user (told on purpose) or tool. session: where it comes from, if from a session.
    """

    id: str
    block: str
    key: str
    text: str
    due: datetime | None
    every_s: float | None
    status: str
    source: str
    session: str | None
    updated: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """One line of the archive that a search found. score: higher is better."""

    session: str
    who: str
    at: datetime
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is gone. purged: False if the database was busy, so that its files are cleaned with the next forgetting."""

    items: int = 0
    lines: int = 0
    sessions: int = 0
    purged: bool = True


class Memory:
    """The memory of one relationship. zone: the user's time zone, for "tomorrow at nine"; default: this machine's."""

    def __init__(self, store: AgentStore, relationship: Relationship, *, zone: tzinfo | None = None) -> None:
        self.relationship = relationship
        self.zone = zone or LocalZone()
        self._database = store.database
        self.scope = Scope(store.database, relationship.id)

    # what a session begins with

    async def core(self, limit: int = CORE_ITEMS, *, now: datetime | None = None) -> list[Item]:
        """What a session begins with, at most `limit` of a kind: facts and promises newest first, reminders soonest
        first. Reminders that nobody took up for a week are left out; `list` has them."""
        return [_item(row) for row in await self.scope.core(limit, (now or datetime.now(UTC)) - STALE)]

    async def prefix(self, *, now: datetime | None = None, limit: int = MAX_WORDS) -> tuple[str, ...]:
        """The foreground's prefix: at most `limit` words of instructions, facts, reminders and promises."""
        instructions = self.relationship.agent.spec.instructions.foreground
        return foreground_words(instructions, await self.core(PREFIX_ITEMS, now=now), self._local(now), limit)

    async def background_context(self, *, now: datetime | None = None) -> str:
        """The same for the background: all core items with their dates, and what the last sessions were about."""
        core = await self.core(now=now)
        async with self.scope.read() as scoped:
            recent = await scoped.select(
                sessions, sessions.c.summary != "", order=(sessions.c.started.desc(),), limit=SUMMARIES
            )
        return background_text(core, [(row.started, row.summary) for row in recent], self._local(now))

    # what a person or a tool may do

    async def list(self, block: str | None = None, *, done: bool = False, limit: int = 1_000) -> list[Item]:
        """Items, newest first. done: the settled ones too. Raises BadInput for a block that does not exist."""
        where = [items.c.block == _block(block)] if block is not None else []
        if not done:
            where.append(items.c.status == OPEN)
        async with self.scope.read() as scoped:
            rows = await scoped.select(items, *where, order=(items.c.updated.desc(), items.c.id), limit=limit)
        return [_item(row) for row in rows]

    async def search(self, text: str, *, limit: int = 8) -> list[Hit]:
        """Lines of earlier sessions with the words of `text`, best first. Any text is a query, none is an error."""
        query = _query(text)
        if not query:
            return []
        async with self.scope.read() as scoped:
            found = await scoped.match(query, max(1, min(limit, 100)))
            rows = await scoped.lines([id for id, _ in found])
        return [
            Hit(rows[id].session_id, rows[id].who, rows[id].at, rows[id].text, -score)
            for id, score in found if id in rows
        ]  # fmt: skip

    async def recall(self, text: str) -> list[str]:
        """`search` as dated lines of text, for a background's tool: "2030-01-31 user: my name is anna"."""
        return [f"{hit.at.astimezone(self.zone):%Y-%m-%d} {hit.who}: {hit.text}" for hit in await self.search(text)]

    async def remember(
        self,
        block: str,
        text: str,
        *,
        key: str | None = None,
        due: datetime | None = None,
        every_s: float | None = None,
        source: str = "user",
    ) -> Item:
        """Note something; what has the same block and key is replaced. Raises BadInput for what cannot be kept."""
        note = Note(_block(block), slug(key or text), _text(text), _aware(due), every_s)
        if not note.key:
            raise BadInput("there are no words in what is to be remembered")
        async with self.scope.write() as scoped:
            await _put(scoped, note, source, None)
            row = (await scoped.select(items, items.c.block == note.block, items.c.key == note.key))[0]
        return _item(row)

    async def correct(self, id: str, text: str | None = None, *, due: datetime | None = None) -> Item:
        """Change an item for good: the old words are gone. Raises BadInput if there is no such item."""
        values = {"updated": datetime.now(UTC), "source": "user"}
        values |= {"text": _text(text)} if text is not None else {}
        values |= {"due": _aware(due)} if due is not None else {}
        async with self.scope.write() as scoped:
            if not await scoped.update(items, values, items.c.id == id):
                raise BadInput(f"there is no item {id[:40]!r} here; list the memory to see what there is")
            row = (await scoped.select(items, items.c.id == id))[0]
        await self._database.purge()
        return _item(row)

    async def done(self, id: str) -> None:
        """A reminder was given, a promise kept: it is not brought up any more. Raises BadInput for no such item."""
        async with self.scope.write() as scoped:
            if not await self._settle(scoped, [id], datetime.now(UTC)):
                raise BadInput(f"there is no item {id[:40]!r} here; list the memory to see what there is")

    async def forget(
        self, id: str | None = None, *, text: str | None = None, session: str | None = None, everything: bool = False
    ) -> Forgotten:
        """Delete for good: from tables, full-text index and the database's files. Exactly one way to say what.

        id: an item, with the line it was taken from. text: all items, lines and summaries that hold every word of it.
        session: all of a session, and what was noted from it. everything: all of this relationship.
        """
        if sum((id is not None, text is not None, session is not None, everything)) != 1:
            raise BadInput("say what to forget: an item, a text, a session, or everything")
        async with self.scope.write() as scoped:
            if id is not None:
                gone = await _forget_item(scoped, id)
            elif text is not None:
                gone = await _forget_text(scoped, text)
            elif session is not None:
                gone = await _forget_session(scoped, session)
            else:
                gone = (await scoped.delete(items), await scoped.delete(lines), await scoped.delete(sessions))
        if not any(gone):
            raise BadInput("there is nothing like that here to forget")
        return Forgotten(*gone, purged=await self._database.purge())

    # what a session leaves behind

    async def open_session(self, started: datetime | None = None) -> str:
        """Begin to record a session; returns its id."""
        id, at = secrets.token_hex(8), started or datetime.now(UTC)
        row = {"id": id, "agent_version": self.relationship.agent.version, "started": at, "seen": datetime.now(UTC),
               "closed": False, "seconds": 0.0, "summary": ""}  # fmt: skip
        async with self.scope.write() as scoped:
            await scoped.insert(sessions, [row])
        return id

    async def add_lines(self, session: str, started: datetime, new: Sequence[Line]) -> None:
        """Put lines into the archive, and note that the session is alive."""
        rows = [
            {"session_id": session, "who": line.who, "at_s": line.t, "at": shifted(started, line.t), "text": line.text}
            for line in new
        ]
        async with self.scope.write() as scoped:
            if await scoped.update(sessions, {"seen": datetime.now(UTC)}, sessions.c.id == session):
                await scoped.insert(lines, rows)  # a session that was forgotten meanwhile stays forgotten

    async def recover(self, *, silent_s: float = CRASHED_S) -> int:
        """Write the memory of sessions that ended without being closed (a crash, a power cut), from their lines.

        Returns how many. A session that gave a sign of life within `silent_s` seconds is still running.
        """
        horizon = datetime.now(UTC) - timedelta(seconds=silent_s)
        where = (sessions.c.closed.is_(False), sessions.c.seen < horizon)
        async with self.scope.read() as scoped:
            left = await scoped.select(sessions, *where, order=(sessions.c.started,), limit=RECOVERED)
        for row in left:
            async with self.scope.read() as scoped:
                rows = await scoped.select(lines, lines.c.session_id == row.id, order=(lines.c.at_s,))
            transcript = Transcript([Line(line.who, line.at_s, line.at_s, line.text) for line in rows])
            transcript.seconds = max((line.at_s for line in rows), default=0.0)
            await self.conclude(row.id, transcript, row.started)
        return len(left)

    async def close_session(
        self,
        timeline: Timeline | Iterable[Record],
        *,
        started: datetime | None = None,
        writer: MemoryWriter | None = None,
    ) -> str:
        """Turn a whole timeline into memory; returns the session's id. For a live session there is `Visit`.

        started: when the session began; default: what its timeline says, otherwise now.
        """
        transcript = Transcript.of(timeline.records if isinstance(timeline, Timeline) else timeline)
        began = started or transcript.started or datetime.now(UTC)
        session = await self.open_session(began)
        await self.add_lines(session, began, transcript.lines)
        await self.conclude(session, transcript, began)
        if writer is not None:
            await self.refine(session, transcript, began, writer)
        return session

    async def conclude(self, session: str, transcript: Transcript, started: datetime) -> None:
        """Write the memory of a session whose lines are in the archive, by pattern; takes milliseconds."""
        local, owed = started.astimezone(self.zone), [text for _, text in transcript.owed.values()]
        waiting = [Open(item.id, item.block, item.text, item.due) for item in await self.core(now=started)]
        found = await asyncio.to_thread(asyncio.run, PlainWriter().write(transcript.ordered, local, owed, waiting))
        await self._apply(session, found, "plain", transcript.seconds, local)

    async def refine(self, session: str, transcript: Transcript, started: datetime, writer: MemoryWriter) -> None:
        """Write the memory of a concluded session again, better. Takes as long as a model does, a minute at most.

        A writer that fails costs nothing but its notes: those by pattern stay.
        """
        if not transcript.lines:
            return
        local, owed = started.astimezone(self.zone), [text for _, text in transcript.owed.values()]
        waiting = [Open(item.id, item.block, item.text, item.due) for item in await self.core(now=started)]
        try:
            better = await asyncio.wait_for(writer.write(transcript.ordered, local, owed, waiting), MODEL_S)
        except (InterplayError, TimeoutError) as error:
            log.warning("memory was written by pattern only: %s", str(error) or "the model took too long")
            return
        await self._apply(session, better, writer.name, transcript.seconds, local)

    async def _apply(self, session: str, found: Extraction, source: str, seconds: float, started: datetime) -> None:
        values = {"closed": True, "seconds": seconds, "seen": datetime.now(UTC)}
        values |= {"summary": found.summary} if found.summary else {}
        async with self.scope.write() as scoped:
            if not await scoped.update(sessions, values, sessions.c.id == session):
                return  # forgotten while it was being written
            await self._settle(scoped, list(found.done), shifted(started, seconds))
            for note in found.notes:
                await _put(scoped, note, source, session)

    async def _settle(self, scoped: Scoped, ids: Sequence[str], now: datetime) -> int:
        """What repeats is due again; everything else is done."""
        rows = await scoped.select(items, items.c.id.in_(ids)) if ids else []
        for row in rows:
            values: dict[str, object] = {"status": DONE}
            if row.every_s and row.due is not None:
                missed = max(0.0, (now - row.due).total_seconds()) // row.every_s + 1
                values = {"due": shifted(row.due, missed * row.every_s)}
            await scoped.update(items, {**values, "updated": datetime.now(UTC)}, items.c.id == row.id)
        return len(rows)

    def _local(self, now: datetime | None) -> datetime:
        return (now or datetime.now(UTC)).astimezone(self.zone)


async def _put(scoped: Scoped, note: Note, source: str, session: str | None) -> None:
    """Insert or replace by (block, key). A model's guess does not replace what the user corrected by hand."""
    same = (items.c.block == note.block, items.c.key == note.key)
    if note.gone:
        await scoped.delete(items, *same)
        return
    now = datetime.now(UTC)
    values = {"text": note.text, "due": note.due, "every_s": note.every_s, "status": OPEN, "source": source,
              "session_id": session, "at_s": note.t, "end_s": note.t_end, "updated": now}  # fmt: skip
    kept = (items.c.source != "user",) if source == "model" else ()
    if not await scoped.update(items, values, *same, *kept) and not await scoped.count(items, *same):
        row = {"id": secrets.token_hex(4), "block": note.block, "key": note.key, "created": now, **values}
        await scoped.insert(items, [row])


async def _forget_item(scoped: Scoped, id: str) -> tuple[int, int, int]:
    rows = await scoped.select(items, items.c.id == id)
    gone = 0
    for row in rows:
        if row.session_id is not None and row.at_s is not None:
            spoken = lines.c.at_s.between(row.at_s, row.at_s if row.end_s is None else row.end_s)
            gone += await scoped.delete(lines, lines.c.session_id == row.session_id, spoken)
            await scoped.update(sessions, {"summary": ""}, sessions.c.id == row.session_id)
        # The same may have been said in other sessions, which is why the item alone is not enough.
        gone += await _forget_lines(scoped, {word for word in _words(row.text) if len(word) > 2 and word != "user"})
    return await scoped.delete(items, items.c.id == id), gone, 0


async def _forget_text(scoped: Scoped, text: str) -> tuple[int, int, int]:
    words = _words(text)
    if not words:
        raise BadInput("there are no words in what is to be forgotten")
    ids = [row.id for row in await scoped.select(items) if words <= _words(f"{row.key} {row.text}")]
    told = [row.id for row in await scoped.select(sessions, sessions.c.summary != "") if words <= _words(row.summary)]
    gone = await _forget_lines(scoped, words)
    for id in told:
        await scoped.update(sessions, {"summary": ""}, sessions.c.id == id)
    return (await scoped.delete(items, items.c.id.in_(ids)) if ids else 0), gone, len(told)


async def _forget_lines(scoped: Scoped, words: set[str]) -> int:
    """Lines of the archive that hold every one of these words, in whatever form."""
    found = [id for id, _ in await scoped.match(sorted(words), 1 << 31, every=True)] if words else []
    gone = 0
    for start in range(0, len(found), 500):  # SQLite's bound on parameters
        gone += await scoped.delete(lines, lines.c.id.in_(found[start : start + 500]))
    return gone


async def _forget_session(scoped: Scoped, id: str) -> tuple[int, int, int]:
    noted = await scoped.delete(items, items.c.session_id == id)
    gone = await scoped.delete(lines, lines.c.session_id == id)
    return noted, gone, await scoped.delete(sessions, sessions.c.id == id)


def _item(row: sa.Row) -> Item:
    return Item(row.id, row.block, row.key, row.text, row.due, row.every_s, row.status, row.source, row.session_id,
                row.updated)  # fmt: skip


def _block(block: str) -> str:
    if block not in BLOCKS:
        raise BadInput(f"memory has no block {block[:40]!r}; there are {', '.join(BLOCKS)}")
    return block


def _text(text: str) -> str:
    text = " ".join(text.replace("\x00", " ").split())
    if not text or len(text) > MAX_ITEM_CHARS:
        raise BadInput(f"an item of memory has 1 to {MAX_ITEM_CHARS} characters, this has {len(text)}")
    return text


def _aware(due: datetime | None) -> datetime | None:
    if due is not None and due.tzinfo is None:
        raise BadInput(f"{due} has no time zone; write it with an offset, like 2030-01-31T09:00+01:00")
    return due


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


def _query(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"[^\W_]+", text.lower())))[:MAX_QUERY_WORDS]
