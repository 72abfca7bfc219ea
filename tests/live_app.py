"""A server with a scripted mind for the page's tests: `python -m tests.live_app [--max-sessions N] [--timeline-dir D]`.

The script: at fixed micro-turns it hears and says fixed words, whatever comes in; a typed message is repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from interplay.core.types import MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, Channel, ForegroundSpec
from interplay.server.admission import Seats
from interplay.server.house import House
from interplay.server.live import listen, run
from interplay.voice.engine import HibariEngine
from interplay.voice.hibari import HibariVoice

HEARD = {3: "say", 4: "hello", 5: "every three", 6: "seconds"}
FIRST, EVERY, WORD = 10, 15, "hello"  # 2.2 s, then every 3 s


class Scripted:
    """A mind without a mind: proves the path of sound and words, not of thought."""

    name = "scripted"
    capabilities = Capabilities()

    async def open(self, spec: ForegroundSpec) -> Channel:
        return _Channel()


class _Channel:
    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        typed = " ".join(str(event.data["text"]) for event in turn.events if event.kind == "text")
        due = turn.turn >= FIRST and (turn.turn - FIRST) % EVERY == 0
        return MicroTurnOut(turn.turn, None, HEARD.get(turn.turn, ""), typed or (WORD if due else ""))

    async def close(self) -> None:
        return None


def house(max_sessions: int = 4, timeline_dir: Path | None = None) -> House:
    engine = HibariEngine()
    engine.prepare([WORD])
    return House(Scripted(), lambda: HibariVoice(engine), Seats(max_sessions), timeline_dir)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--max-sessions", type=int, default=4)
    options.add_argument("--timeline-dir", type=Path)
    options.add_argument("--port", type=int, default=0)
    chosen = options.parse_args()
    listener = listen("127.0.0.1", chosen.port)
    run(house(chosen.max_sessions, chosen.timeline_dir), listener)


if __name__ == "__main__":
    main()
