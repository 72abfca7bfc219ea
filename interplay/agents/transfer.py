"""An agent in one file: its spec, its identity, and on request everything it remembers of one user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from interplay.agents import files
from interplay.agents.checks import Problem, SpecError
from interplay.agents.memory import Memory
from interplay.agents.scope import Scoped
from interplay.agents.spec import AgentSpec
from interplay.agents.store import Agent, AgentStore
from interplay.agents.tables import BLOCKS, items, lines, sessions
from interplay.core.types import BadInput

FORMAT = 1
MAX_FILE = 64_000_000
MAX_ROWS = 1_000_000


async def export_agent(store: AgentStore, name: str, *, user: str | None = None) -> str:
    """The agent as YAML that `import_agent` reads. user: with what it remembers of them."""
    agent = await store.get(name)
    data: dict[str, Any] = {"interplay": FORMAT, "id": agent.id, "version": agent.version, "spec": agent.spec.to_dict()}
    if user is not None:
        memory = Memory(store, await store.relationship(name, user))
        data["memory"] = await dump_memory(memory)
    return files.dump_yaml(data)


async def import_agent(
    store: AgentStore,
    text: str,
    *,
    source: str = "the agent file",
    replace: bool = False,
    user: str | None = None,
    allow: Callable[[AgentSpec, AgentSpec | None], None] = lambda spec, current: None,
) -> Agent:
    """Take in an exported agent, or a bare spec. The identity in the file is kept.

    replace: an agent of the same identity or name gets a new version instead of an error. user: whose memory the one
    in the file becomes. allow: called in a thread with the spec and the one it replaces, raises what speaks against it.
    Raises BadInput (SpecError with line numbers) for what cannot be used. What is refused changes nothing.
    """
    data, places = files.parse_yaml(text, source=source)
    if not isinstance(data, dict) or "spec" not in data:
        spec, id, remembered = files.spec_from(data, places, source=source), None, None
    else:
        spec = files.spec_from(data["spec"], places, source=source, at=("spec",))
        id, remembered = data.get("id"), data.get("memory")
        _known_format(data, places, source)
    known = await store.find(id) if id is not None else None
    if known is not None and not replace:
        raise BadInput(f"this agent is in the store already, as {known.name!r}; import it with --replace")
    if known is None and replace and spec.name in {agent.name for agent in await store.list()}:
        known = await store.get(spec.name)
    rows = _memory_rows(remembered, places, source) if remembered and user is not None else None
    await asyncio.to_thread(allow, spec, known.spec if known is not None else None)
    if rows is not None and user is not None and known is not None:
        async with Memory(store, await store.relationship(known.name, user)).scope.read() as scoped:
            await _empty(scoped)
    expect = known.version if known is not None else None
    agent = await (store.update(known.name, spec, expect=expect) if known is not None else store.create(spec, id=id))
    if rows is not None and user is not None:
        await load_memory(Memory(store, await store.relationship(agent.name, user)), rows)
    return agent


async def dump_memory(memory: Memory) -> dict[str, list[dict[str, Any]]]:
    """All rows of one relationship as plain data."""
    async with memory.scope.read() as scoped:
        told = await scoped.select(sessions, order=(sessions.c.started,))
        noted = await scoped.select(items, order=(items.c.created,))
        spoken = await scoped.select(lines, order=(lines.c.id,))
    return {
        "sessions": [_row(row, "id", "agent_version", "started", "seconds", "summary") for row in told],
        "items": [
            _row(row, "block", "key", "text", "due", "every_s", "status", "source", "session_id", "at_s", "end_s",
                 "created", "updated")
            for row in noted
        ],
        "lines": [_row(row, "session_id", "who", "at_s", "at", "text") for row in spoken],
    }  # fmt: skip


async def load_memory(memory: Memory, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Put dumped rows into an empty relationship. Raises BadInput if something is remembered there already."""
    import secrets

    renamed = {row["id"]: secrets.token_hex(8) for row in rows["sessions"]}
    async with memory.scope.write() as scoped:
        await _empty(scoped)
        await scoped.insert(
            sessions,
            [{**row, "id": renamed[row["id"]], "seen": row["started"], "closed": True} for row in rows["sessions"]],
        )
        await scoped.insert(
            items,
            [
                {**row, "id": secrets.token_hex(4), "session_id": renamed.get(row["session_id"])}
                for row in rows["items"]
            ],
        )
        await scoped.insert(lines, [{**row, "session_id": renamed[row["session_id"]]} for row in rows["lines"]])


async def _empty(scoped: Scoped) -> None:
    if await scoped.count(items) or await scoped.count(lines):
        raise BadInput("this user and this agent have memories already; forget them first, or import as another user")


def read_file(path: Path) -> str:
    """An exported file, which with its memory may be long."""
    return files.read_text(path, MAX_FILE)


def _known_format(data: dict[str, Any], places: dict[Any, int], source: str) -> None:
    found = []
    if data.get("interplay") != FORMAT:
        found.append(Problem(("interplay",), f"must be {FORMAT}", files.line_of(("interplay",), places)))
    id = data.get("id")
    if not isinstance(id, str) or len(id) != 32 or set(id) - set("0123456789abcdef"):
        found.append(Problem(("id",), "must be 32 hexadecimal digits", files.line_of(("id",), places)))
    if found:
        raise SpecError(found, source)


_TIMES = ("started", "due", "created", "updated", "at")
_KINDS: dict[str, dict[str, tuple[type, ...]]] = {
    "sessions": {"id": (str,), "agent_version": (int,), "started": (str,), "seconds": (int, float), "summary": (str,)},
    "items": {
        "block": (str,), "key": (str,), "text": (str,), "due": (str, type(None)), "every_s": (int, float, type(None)),
        "status": (str,), "source": (str,), "session_id": (str, type(None)), "at_s": (int, float, type(None)),
        "end_s": (int, float, type(None)), "created": (str,), "updated": (str,),
    },
    "lines": {"session_id": (str,), "who": (str,), "at_s": (int, float), "at": (str,), "text": (str,)},
}  # fmt: skip


def _memory_rows(data: Any, places: dict[Any, int], source: str) -> dict[str, list[dict[str, Any]]]:
    """The memory of a file, every field of the right type. Raises SpecError with the line of the first that is not."""
    out: dict[str, list[dict[str, Any]]] = {}
    for table, kinds in _KINDS.items():
        entries = data.get(table) if isinstance(data, dict) else None
        if not isinstance(entries, list) or len(entries) > MAX_ROWS:
            raise SpecError(
                [Problem(("memory",), f"must have a list of {table}", files.line_of(("memory",), places))], source
            )
        out[table] = []
        for index, entry in enumerate(entries):
            place = ("memory", table, index)
            problem = _bad(entry, kinds)
            if problem:
                raise SpecError([Problem(place, problem, files.line_of(place, places))], source)
            out[table].append({key: _moment(entry[key]) if key in _TIMES else entry[key] for key in kinds})
    known = {row["id"] for row in out["sessions"]}
    if any(row["session_id"] not in known for row in out["lines"]):
        raise SpecError([Problem(("memory", "lines"), "a line belongs to no session")], source)
    return out


def _bad(entry: Any, kinds: dict[str, tuple[type, ...]]) -> str:
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        return f"must have {', '.join(kinds)}"
    for key, allowed in kinds.items():
        if not isinstance(entry[key], allowed) or isinstance(entry[key], bool):
            return f"`{key}` is of the wrong type"
        if key in _TIMES and entry[key] is not None and _moment(entry[key]) is None:
            return f"`{key}` is no time with a zone"
    if entry.get("block", BLOCKS[0]) not in BLOCKS or entry.get("who", "user") not in ("user", "agent"):
        return "names a block or a speaker that does not exist"
    return ""


def _row(row: Any, *keys: str) -> dict[str, Any]:
    values = {key: getattr(row, key) for key in keys}
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text is not None else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
