"""A mind that listens and never speaks: the baseline for every task whose right answer is sometimes silence."""

from __future__ import annotations

from interplay.core.types import MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, Channel, ForegroundSpec


class SilentForeground:
    """Foreground without a model. It shows what the session itself costs."""

    name = "silent"
    capabilities = Capabilities()

    async def open(self, spec: ForegroundSpec) -> Channel:
        return _SilentChannel()


class _SilentChannel:
    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        return MicroTurnOut(turn.turn, None)

    async def close(self) -> None:
        return None
