"""TOML with line numbers: `tomllib` gives values, this gives the line on which each of them stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interplay.core.types import BadInput

Step = str | int
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_PATH})\s*\]\]?")
_ASSIGN = re.compile(rf"^\s*({_PATH})\s*=(.*)$")
_PART = re.compile(_KEY)
_SYNTAX = re.compile(r"^(.*) \(at line (\d+), column (\d+)\)$")


class Located:
    """The values of a TOML text and where they stand. Raises BadInput with the line on a syntax error."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            if match := _SYNTAX.match(str(error)):
                raise BadInput(f"{name}:{match[2]}: {match[1]} (column {match[3]})") from None
            raise BadInput(f"{name}: {error}") from None
        self._lines = _scan(text)

    def line(self, path: Sequence[Step]) -> int:
        """The line of a value, or of the nearest thing around it that has one."""
        steps = tuple(path)
        while steps and steps not in self._lines:
            steps = steps[:-1]
        return self._lines.get(steps, 1)

    def error(self, path: Sequence[Step], message: str) -> BadInput:
        return BadInput(f"{self.name}:{self.line(path)}: {_dotted(path)}{message}")


def read(path: Path) -> Located:
    """Raises BadInput if the file cannot be read or is not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error
    return Located(text, str(path))


def _dotted(path: Sequence[Step]) -> str:
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return f"{shown}: " if shown else ""


def _scan(text: str) -> dict[tuple[Step, ...], int]:
    """Paths of tables and keys to 1-based lines. The text is known to be valid TOML."""
    lines: dict[tuple[Step, ...], int] = {}
    table: tuple[Step, ...] = ()
    counts: dict[tuple[Step, ...], int] = {}
    until = ""  # inside a multi-line string that ends with this
    depth = 0  # of brackets, inside a value that goes over several lines
    for number, line in enumerate(text.splitlines(), 1):
        if until:
            if until not in line:
                continue
            line, until = line.split(until, 1)[1], ""
        elif depth == 0 and (header := _HEADER.match(line)):
            table = _resolve(_parts(header[2]), counts)
            if header[1] == "[[":
                index = counts.get(table, -1) + 1
                counts[table] = index
                lines.setdefault(table, number)
                table = (*table, index)
            lines.setdefault(table, number)
            continue
        elif depth == 0 and (assign := _ASSIGN.match(line)):
            parts = _parts(assign[1])
            for end in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:end]), number)
            line = assign[2]
        depth, until = _open(line, depth)
    return lines


def _resolve(parts: tuple[str, ...], counts: dict[tuple[Step, ...], int]) -> tuple[Step, ...]:
    """A header's path with the indices of the arrays of tables it goes through."""
    path: tuple[Step, ...] = ()
    for position, part in enumerate(parts):
        path = (*path, part)
        if path in counts and position < len(parts) - 1:
            path = (*path, counts[path])
    return path


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _PART.findall(path))


def _open(line: str, depth: int) -> tuple[int, str]:
    """Bracket depth after this line, and the quotes that a multi-line string still waits for."""
    position = 0
    while position < len(line):
        char = line[position]
        if char == "#":
            break
        if char in "\"'":
            triple = char * 3
            if line.startswith(triple, position):
                end = line.find(triple, position + 3)
                if end < 0:
                    return depth, triple
                position = end + 3
                continue
            position += 1
            while position < len(line) and line[position] != char:
                position += 2 if line[position] == "\\" and char == '"' else 1
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        position += 1
    return depth, ""
