"""What an agent spec may contain, as checks over plain data. Every problem names its place, as `tools[1].scopes`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from interplay.core.types import BadInput

Path = tuple[str | int, ...]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
TOOL = re.compile(r"[a-z][a-z0-9_]{0,63}")
SCOPE = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,127}")
PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
ENV = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
SECRET = re.compile(r"(secret|token|password|passwd|api_?key|credential)", re.IGNORECASE)
AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(day|month|total)")
SURFACES = ("browser", "phone", "meeting", "canvas", "robot", "browsing", "file")
RESERVED = ("default",)
MAX_TEXT, MAX_TOOLS, MAX_OPTIONS, MAX_DEPTH = 16_000, 64, 64, 4


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. line: 1-based line of the file it came from, 0 where there is no file."""

    path: Path
    message: str
    line: int = 0

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")
        return f"{f'line {self.line}: ' if self.line else ''}{f'{where}: ' if where else ''}{self.message}"


class SpecError(BadInput):
    """A spec that cannot be used. `problems` has all of them, `str` is one line with every place named."""

    def __init__(self, problems: list[Problem], source: str = "the agent spec"):
        self.problems, self.source = tuple(problems), source
        shown = "; ".join(str(problem) for problem in problems[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        super().__init__(f"{source}: {shown}{more}")


Check = Callable[[Any, Path], Iterator[Problem]]


def _text(limit: int = MAX_TEXT, *, empty: bool = True) -> Check:
    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield Problem(path, f"must be text, not {_kind(value)}")
        elif len(value) > limit:
            yield Problem(path, f"has {len(value)} characters; at most {limit} fit")
        elif not empty and not value.strip():
            yield Problem(path, "must not be empty")
        elif "\x00" in value:
            yield Problem(path, "holds a NUL character")

    return check


def _pattern(pattern: re.Pattern[str], what: str, *, empty: bool = False) -> Check:
    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield Problem(path, f"must be {what}, not {_kind(value)}")
        elif not (empty and not value) and not pattern.fullmatch(value):
            yield Problem(path, f"{value[:60]!r} is not {what}")

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any, path: Path) -> Iterator[Problem]:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            yield Problem(path, f"must be a number from {low:g} to {high:g}, not {str(value)[:40]!r}")

    return check


def _flag(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, bool):
        yield Problem(path, f"must be true or false, not {_kind(value)}")


def _list(item: Check, limit: int = MAX_TOOLS) -> Check:
    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, list | tuple):
            yield Problem(path, f"must be a list, not {_kind(value)}")
            return
        if len(value) > limit:
            yield Problem(path, f"has {len(value)} entries; at most {limit} are allowed")
        for index, entry in enumerate(value[:limit]):
            yield from item(entry, (*path, index))

    return check


def _fields(known: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    def check(value: Any, path: Path) -> Iterator[Problem]:
        if not isinstance(value, Mapping):
            yield Problem(path, f"must be a mapping with {', '.join(known)}, not {_kind(value)}")
            return
        for key, entry in value.items():
            if key not in known:
                yield Problem((*path, str(key)), f"is not known here; known: {', '.join(known)}")
            else:
                yield from known[key](entry, (*path, key))
        for key in required:
            if key not in value:
                yield Problem(path, f"`{key}` is missing")

    return check


def _surface(value: Any, path: Path) -> Iterator[Problem]:
    if value not in SURFACES:
        yield Problem(path, f"{str(value)[:40]!r} is not a surface; known: {', '.join(SURFACES)}")


def _url(value: Any, path: Path) -> Iterator[Problem]:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        yield Problem(path, "must be an http or https address")
    elif parts.username or parts.password:
        yield Problem(path, "must not hold a password; name an environment variable in `token_env`")


def _options(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(path, f"must be a mapping, not {_kind(value)}")
        return
    if len(value) > MAX_OPTIONS:
        yield Problem(path, f"has {len(value)} entries; at most {MAX_OPTIONS} are allowed")
    for key, entry in value.items():
        if not isinstance(key, str) or SECRET.search(key):
            yield Problem((*path, str(key)), "secrets do not belong into a spec; name an environment variable in `env`")
        yield from _plain(entry, (*path, str(key)), 1)


def _plain(value: Any, path: Path, depth: int) -> Iterator[Problem]:
    """JSON-like data of bounded depth and size."""
    if depth > MAX_DEPTH:
        yield Problem(path, "is nested too deeply")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _plain(entry, (*path, str(key)), depth + 1)
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _plain(entry, (*path, index), depth + 1)
    elif not isinstance(value, str | int | float | bool | None):
        yield Problem(path, f"must be text, a number, a list or a mapping, not {_kind(value)}")
    elif isinstance(value, str) and len(value) > MAX_TEXT:
        yield Problem(path, f"has {len(value)} characters; at most {MAX_TEXT} fit")


_TOOL_FIELDS = _fields(
    {
        "name": _pattern(TOOL, "a tool name (lower-case letters, digits, _)"),
        "scopes": _list(_pattern(SCOPE, "a scope (like files.read)")),
        "approve": _flag,
        "python": _pattern(PYTHON, "a function, written module:name"),
        "command": _list(_text(1_000, empty=False)),
        "url": _url,
        "env": _list(_pattern(ENV, "the name of an environment variable")),
        "token_env": _pattern(ENV, "the name of an environment variable"),
        "options": _options,
    },
    required=("name",),
)


def _tool(value: Any, path: Path) -> Iterator[Problem]:
    """A tool's bare name, or a mapping of which at most one of python, command and url is given."""
    if isinstance(value, str):
        yield from _pattern(TOOL, "a tool name (lower-case letters, digits, _)")(value, path)
        return
    yield from _TOOL_FIELDS(value, path)
    if isinstance(value, Mapping) and sum(bool(value.get(key)) for key in ("python", "command", "url")) > 1:
        yield Problem(path, "is either `python`, `command` or `url`, not several of them")


def _tools(value: Any, path: Path) -> Iterator[Problem]:
    yield from _list(_tool)(value, path)
    seen: set[Any] = set()
    for index, entry in enumerate(value if isinstance(value, list | tuple) else ()):
        name = entry.get("name") if isinstance(entry, Mapping) else entry
        if isinstance(name, str) and name in seen:
            yield Problem((*path, index), f"the tool {name!r} is listed twice")
        elif isinstance(name, str):
            seen.add(name)


def _name(value: Any, path: Path) -> Iterator[Problem]:
    yield from _pattern(NAME, "a name (lower-case letters, digits, - and _, at most 64)")(value, path)
    if value in RESERVED:
        yield Problem(path, f"{value!r} is the agent that needs no store; choose another name")


_GIVEN = _pattern(REFERENCE, "a name")
_REFERENCE = _pattern(REFERENCE, "a name", empty=True)


def _budget(value: Any, path: Path) -> Iterator[Problem]:
    """US dollars per period, or the name of a virtual key of the gateway."""
    yield from _pattern(REFERENCE, "a name, or an amount such as 5/day", empty=True)(value, path)
    if isinstance(value, str) and "/" in value and not AMOUNT.fullmatch(value):
        yield Problem(path, f"{value[:60]!r} is no amount: dollars and day, month or total, such as 5/day")


def _vision(value: Any, path: Path) -> Iterator[Problem]:
    yield from _REFERENCE(value, path)
    if value in ("embedded", "local", "off"):
        yield Problem(path, f"{value!r} takes no pictures; name a provider:model or route/NAME that does, or none")


AGENT = _fields(
    {
        "name": _name,
        "description": _text(1_000),
        "instructions": _fields({"foreground": _text(), "background": _text()}),
        "voice": _fields({"name": _GIVEN, "speed": _number(0.5, 2.0)}),
        "proactivity": _number(0.0, 1.0),
        "tools": _tools,
        "surface": _list(_surface),
        "models": _fields({"foreground": _GIVEN, "background": _GIVEN, "vision": _vision, "summary": _REFERENCE}),
        "budget": _budget,
        "policy": _REFERENCE,
    },
    required=("name",),
)


def problems(data: Any) -> list[Problem]:
    """Everything that is wrong with a spec as plain data; empty if it can be used."""
    return list(AGENT(data, ()))


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", tuple: "a list"}
    if value is None:
        return "nothing"
    return "a mapping" if isinstance(value, Mapping) else names.get(type(value), type(value).__name__)
