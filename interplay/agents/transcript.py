"""A timeline as what was really exchanged: lines of words that were heard and words that became audible.

Nothing else is history: what was generated and cut off, or computed in the background and never spoken, is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from interplay.core.timeline import Record

GAP_S = 2.0  # a pause this long begins a new line
MAX_CHARS = 600
SETTLED = ("delivered", "dropped", "superseded")
CUT_OFF = "session closed"  # why the background drops what was still under way: nobody took that question back


@dataclass(frozen=True, slots=True)
class Line:
    """What one side said without a long pause. who: "user" or "agent". t, end: session seconds of first, last word."""

    who: str
    t: float
    end: float
    text: str


@dataclass(slots=True)
class _Open:
    t: float
    end: float
    words: list[str]
    turns: list[int]
    size: int = 0


@dataclass(slots=True)
class Transcript:
    """Feed it records as they come (`add`), or a whole timeline (`of`). Keeps text, not records."""

    lines: list[Line] = field(default_factory=list)
    started: datetime | None = None
    seconds: float = 0.0
    owed: dict[str, tuple[float, str]] = field(default_factory=dict)
    _open: dict[str, _Open] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Transcript:
        transcript = cls()
        for record in records:
            transcript.add(record)
        transcript.finish()
        return transcript

    def add(self, record: Record) -> None:
        """Take one record of the timeline, in the order they were written."""
        what, t, turn = f"{record['lane']}/{record['kind']}", float(record["t"]), int(record["turn"])
        self.seconds = max(self.seconds, t)
        if what in ("user/heard", "user/text"):
            self._word("user", t, turn, record)
        elif what == "agent/said":
            self._word("agent", t, turn, record)
        elif what == "system/opened" and isinstance(record.get("started"), str):
            self.started = _moment(record["started"])
        elif what == "system/closed":
            self._unplay(turn)
        elif record["lane"] == "background" and "id" in record:
            self._background(str(record["id"]), t, record)

    def settle(self, now: float) -> None:
        """Complete the lines that nobody has continued for a while. now: session seconds."""
        for who in list(self._open):
            if now - self._open[who].end > GAP_S:
                self._complete(who)

    def finish(self) -> None:
        """Complete every line."""
        for who in list(self._open):
            self._complete(who)

    @property
    def ordered(self) -> list[Line]:
        """The complete lines by the time they began. (`lines` is in the order of completion and only ever grows.)"""
        return sorted(self.lines, key=lambda line: line.t)

    def _word(self, who: str, t: float, turn: int, record: Record) -> None:
        text = " ".join(str(record.get("text", "")).split())
        if not text:
            return
        current = self._open.get(who)
        typed = record["kind"] == "text"
        if current is not None and (typed or t - current.end > GAP_S or current.size + len(text) > MAX_CHARS):
            self._complete(who)
            current = None
        if current is None:
            current = self._open[who] = _Open(t, t, [], [])
        current.words.append(text)
        current.turns.append(turn)
        current.end, current.size = max(current.end, t), current.size + len(text) + 1
        if typed:
            self._complete(who)

    def _complete(self, who: str) -> None:
        line = self._open.pop(who)
        if line.words:
            self.lines.append(Line(who, line.t, line.end, " ".join(line.words)[: 4 * MAX_CHARS]))

    def _unplay(self, turn: int) -> None:
        """The words of a micro-turn that could not be handed to the surface any more were never heard.

        A session that ends in order has counted on after its last micro-turn; one whose surface broke has not.
        """
        line = self._open.get("agent")
        while line is not None and line.turns and line.turns[-1] >= turn:
            line.turns.pop()
            line.words.pop()

    def _background(self, id: str, t: float, record: Record) -> None:
        """What was asked of the background and has not been spoken is still owed."""
        if record["kind"] == "delegated":
            self.owed[id] = (t, str(record.get("text") or "") or self._last_asked())
        elif record["kind"] in SETTLED and not (record["kind"] == "dropped" and record.get("reason") == CUT_OFF):
            self.owed.pop(id, None)

    def _last_asked(self) -> str:
        if "user" in self._open:
            return " ".join(self._open["user"].words)
        return next((line.text for line in reversed(self.lines) if line.who == "user"), "")


def _moment(text: str) -> datetime | None:
    try:
        moment: Any = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
