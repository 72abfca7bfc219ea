"""An ideal listener for the bench's own tests: it does what the item's script says, and hears nothing."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from interplay.bench.item import Item
from interplay.bench.pool import ItemTask
from interplay.core.types import MICRO_TURN_S, Action, MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.voice.base import SilentVoice, VoiceTurn

ITEM_TASKS = {
    "timespeak": "speaking:TIMESPEAK",
    "cuespeak": "speaking:CUESPEAK",
    "elapsed": "elapsed:TASK",
    "turn_taking": "turns:TURN_TAKING",
    "pauses": "turns:PAUSES_TASK",
    "interruption": "floor:INTERRUPTION",
    "backchannel": "floor:BACKCHANNEL_TASK",
    "noise": "floor:NOISE",
    "side_talk": "floor:SIDE_TALK",
    "translation": "translation:TASK",
    "echo": "robust:ECHO",
    "missing": "robust:MISSING",
    "delegation": "delegation:TASK",
}


def item_task(name: str) -> ItemTask:
    module, _, attribute = ITEM_TASKS[name].partition(":")
    return getattr(import_module(f"interplay.bench.{module}"), attribute)


class Tone(SilentVoice):
    """A voice that costs nothing: every word sounds for one micro-turn, a tone of RMS 0.1."""

    def step(self) -> VoiceTurn:
        turn = super().step()
        if turn.audible:
            turn.audio[:] = 0.1 * np.sqrt(2) * np.sin(np.arange(len(turn.audio)) * 2 * np.pi * 500 / 24_000)
        return turn


class Oracle:
    """Foreground and channel in one. A beat at t is put out in the micro-turn whose sound begins nearest to t."""

    name, capabilities = "oracle", Capabilities()

    def __init__(self, item: Item) -> None:
        self.words: dict[int, str] = {}
        self.actions: dict[int, str] = {}
        for beat in item.script:
            turn = round(beat.t / MICRO_TURN_S) - 1
            if beat.action:
                self.actions[turn] = beat.action
                continue
            while turn in self.words:
                turn += 1
            self.words[turn] = beat.word

    async def open(self, spec: ForegroundSpec) -> Oracle:
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        action = self.actions.get(turn.turn)
        actions = (Action(action),) if action else ()
        return MicroTurnOut(turn.turn, None, "", self.words.get(turn.turn, ""), actions)

    async def close(self) -> None:
        return None
