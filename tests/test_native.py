"""The native foreground between a session and the engine: what it passes on of its own decisions."""

import asyncio
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from interplay.core.types import INPUT_SAMPLES, MicroTurnIn  # noqa: E402
from interplay.engine.core import Chosen  # noqa: E402
from interplay.foreground.base import ForegroundSpec  # noqa: E402
from interplay.foreground.native import NativeForeground  # noqa: E402
from interplay.model.config import DECISIONS, MARKS  # noqa: E402
from interplay.model.vocabulary import Vocabulary  # noqa: E402
from tests.test_engine_core import WORDS, build  # noqa: E402


class Scripted:
    """An engine that decides what it is told to, and keeps what it was given."""

    def __init__(self, *decisions):
        self.decisions, self.given = list(decisions), []

    async def open(self, opening=None, *, realtime=True):
        return "one"

    async def append(self, append):
        self.given.append(append)
        return Chosen("one", append.turn, 0, 0, DECISIONS.index(self.decisions.pop(0)), (0.0,) * len(DECISIONS))

    async def close(self, session):
        pass


def test_a_delegation_is_told_once_in_the_micro_turn_after_it():
    engine: Any = Scripted("listen", "delegate", "listen", "delegate", "listen", "listen")
    mind = NativeForeground(build(), Vocabulary([f"w{i}" for i in range(WORDS - 2)]), {}, engine=engine)

    async def talk():
        channel = await mind.open(ForegroundSpec())
        for turn in (0, 1, 2, 3, 7, 8):  # skipped micro-turns forget nothing
            await channel.step(MicroTurnIn(turn, np.zeros(INPUT_SAMPLES, np.float32)))
        await channel.close()

    asyncio.run(talk())
    told = [append.marks[MARKS.index("delegated")] for append in engine.given]
    assert told == [False, False, True, False, True, False]
