"""What all sessions of a server share: one foreground with its weights, one voice engine with its ready words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from interplay.foreground.base import Foreground
from interplay.server.admission import Seats
from interplay.voice.base import Voice

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(slots=True)
class House:
    """Shared by every session of one server; whatever belongs to one conversation is made by `new_voice` and co.

    timeline_dir: where every session leaves its timeline, or None. idle_s: a page that sends nothing for this long is
    gone. hosts: names beside localhost and addresses under which this server may be reached.
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

    def free_voice(self, voice: Voice) -> None:
        """End what a voice runs beside the session, such as its render thread."""
        close = getattr(voice, "close", None)
        if close is not None:
            close()
