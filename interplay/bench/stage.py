"""The bench's surface: a person who listens. Plays an item, reacts to the agent's voice, and can impair the line."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from interplay.bench.item import Item
from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, MICRO_TURN_S, OUTPUT_SAMPLES, Event, InterplayError
from interplay.session import SurfaceIn, TurnView

TAIL_TURNS = 15
ENVELOPE_S = 0.01
_TAPS = np.hanning(27)[1:-1] * np.sinc((np.arange(25) - 12) * 0.6) * 0.6  # low-pass at 7.2 kHz for 24 kHz sound
_TAPS = (_TAPS / _TAPS.sum()).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Echo:
    """The agent's voice leaks into the microphone, `delay_s` (at least 0.02) late and `down_db` quieter."""

    delay_s: float
    down_db: float = 10.0


@dataclass(frozen=True, slots=True)
class Loss:
    """This share of the person's slices never comes."""

    share: float
    seed: int


class Stage:
    """Surface of one item.

    After a run: `reacted_s` is the session second at which the reaction began (None if the agent never gave occasion),
    `envelope` the RMS of the agent's voice in steps of 10 ms from session second 0.
    """

    name = "stage"

    def __init__(self, item: Item, echo: Echo | None = None, loss: Loss | None = None) -> None:
        self._item, self._echo = item, echo
        turns = -(-len(item.audio) // INPUT_SAMPLES) + TAIL_TURNS
        self._audio = np.zeros(turns * INPUT_SAMPLES, np.float32)
        self._audio[: len(item.audio)] = item.audio
        self._deadline = item.reaction.deadline_s if item.reaction is not None else 0.0
        self._lost = random.Random(loss.seed) if loss else None
        self._share = loss.share if loss else 0.0
        self._carry = np.zeros(len(_TAPS) - 1, np.float32)
        self._loud: list[np.ndarray] = [np.zeros(20, np.float32)]  # nothing is audible in the first 200 ms
        self.reacted_s: float | None = None

    @property
    def envelope(self) -> np.ndarray:
        return np.concatenate(self._loud)

    async def read(self, turn: int) -> SurfaceIn | None:
        waiting = self._item.reaction is not None and self.reacted_s is None
        if (turn + 1) * INPUT_SAMPLES > len(self._audio) or (waiting and turn * MICRO_TURN_S > self._deadline):
            return None
        typed = (text for t, text in self._item.typed if turn == int(t / MICRO_TURN_S))
        events = tuple(Event("text", {"text": text}) for text in typed)
        if self._lost is not None and self._lost.random() < self._share:
            return SurfaceIn(np.zeros(0, np.float32), None, events)
        return SurfaceIn(self._audio[turn * INPUT_SAMPLES : (turn + 1) * INPUT_SAMPLES], None, events)

    async def write(self, view: TurnView) -> None:
        self._loud.append(np.sqrt(np.mean(np.square(view.audio.reshape(20, -1)), axis=1)))
        reaction = self._item.reaction
        if reaction is not None and self.reacted_s is None:
            first = next((view.elapsed_s + t for _, t in view.said if view.elapsed_s + t > reaction.since_s), None)
            if first is not None:
                self._react(first + reaction.delay_s)
        if self._echo is not None:
            self._leak(view, self._echo)

    async def close(self, error: InterplayError | None) -> None:
        return None

    def _react(self, start: float) -> None:
        """Put the reaction on the tape, and let the session end a while after it."""
        reaction = self._item.reaction
        assert reaction is not None
        self.reacted_s = start
        at = int(start * INPUT_RATE)
        end = at + len(reaction.audio) + int(reaction.after_s * INPUT_RATE)
        audio = np.zeros(-(-end // INPUT_SAMPLES) * INPUT_SAMPLES, np.float32)
        kept = self._audio[: len(audio)]
        audio[: len(kept)] = kept
        audio[at : at + len(reaction.audio)] += reaction.audio
        self._audio = np.clip(audio, -1, 1)

    def _leak(self, view: TurnView, echo: Echo) -> None:
        """Mix the session's output of this micro-turn into what the microphone will capture."""
        assert len(view.audio) == OUTPUT_SAMPLES
        sound = np.convolve(np.concatenate([self._carry, view.audio]), _TAPS, "valid")
        self._carry = view.audio[-len(self._carry) :]
        quiet = np.interp(np.arange(INPUT_SAMPLES) * 1.5, np.arange(OUTPUT_SAMPLES), sound)
        at = int((view.elapsed_s + echo.delay_s) * INPUT_RATE)
        part = quiet[: max(len(self._audio) - at, 0)] * 10 ** (-echo.down_db / 20)
        self._audio[at : at + len(part)] = np.clip(self._audio[at : at + len(part)] + part, -1, 1)
