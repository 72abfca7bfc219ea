"""What all sessions of a server share: one foreground with its weights, one voice engine with its ready words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from interplay.core.timeline import Timeline
from interplay.foreground.base import Foreground
from interplay.server.admission import Seats
from interplay.session.trace import Trace
from interplay.voice.base import Voice

if TYPE_CHECKING:
    from interplay.agents.desk import AgentDesk
    from interplay.agents.visit import Visit

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(slots=True)
class House:
    """Shared by every session of one server; whatever belongs to one conversation is made by `new_voice` and co.

    timeline_dir: where every session leaves its timeline, or None. idle_s: a page that sends nothing for this long is
    gone. hosts: names beside localhost and addresses under which this server may be reached. agents: who is served
    to whom, and their store; None without the extra `agents`. trace: notes where the time of every micro-turn goes.
    """

    foreground: Foreground
    new_voice: Callable[[], Voice]
    seats: Seats = field(default_factory=lambda: Seats(4))
    timeline_dir: Path | None = None
    timeline_records: int = 5_000
    idle_s: float = 30.0
    seed: int = 0
    hosts: frozenset[str] = frozenset()
    examples: Path = EXAMPLES
    agents: AgentDesk | None = None
    trace: Trace | None = None

    def attend(self, timeline: Timeline) -> AbstractAsyncContextManager[Visit | None]:
        """The agent's part of one session: what it remembers before, what it keeps afterwards."""
        return nullcontext() if self.agents is None else self.agents.attend(timeline, "browser")

    def free_voice(self, voice: Voice) -> None:
        """End what a voice runs beside the session, such as its render thread."""
        close = getattr(voice, "close", None)
        if close is not None:
            close()
