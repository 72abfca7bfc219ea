"""The nouns of a micro-turn, shared by every room of the house.

A micro-turn is one 200 ms slice of session time. Its input is what the surface captured in that slice; its output is
computed once the slice is complete and becomes audible in the slice that follows. So the output of micro-turn `k`
is heard from `out_time(k)` = (k + 1) x 0.2 s on: nothing here pretends to answer before it has listened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MICRO_TURN_S = 0.2
INPUT_RATE = 16_000
INPUT_SAMPLES = 3_200
OUTPUT_RATE = 24_000
OUTPUT_SAMPLES = 4_800


def in_time(turn: int) -> float:
    """Session seconds at which the input slice of micro-turn `turn` begins."""
    return round(turn * MICRO_TURN_S, 6)


def out_time(turn: int) -> float:
    """Session seconds at which the output slice of micro-turn `turn` begins to be audible."""
    return round((turn + 1) * MICRO_TURN_S, 6)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that reached the session beside sound and pictures, for example typed text or a lost slice.

    Kinds used so far: `text {text}` (typed message), `missing {samples}` (this many samples of the slice never came:
    the zeros that stand in for them are not silence).
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Action:
    """Something the foreground asks the session to do beside speaking, for example `stop {reason}`."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MicroTurnIn:
    """Input of one micro-turn. `audio`: float32 (3200,), 16 kHz mono in [-1, 1]. `frame`: uint8 (H, W, 3) or None."""

    turn: int
    audio: np.ndarray
    frame: np.ndarray | None = None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class MicroTurnOut:
    """Output of one micro-turn.

    audio: float32 (4800,), 24 kHz mono, audible from `out_time(turn)`; None where the foreground has no voice of its
        own and the session's `Voice` makes the sound.
    heard: words of the user understood in this micro-turn, separated by spaces, or "".
    said: words the foreground decided to say in this micro-turn, or "".
    """

    turn: int
    audio: np.ndarray | None
    heard: str = ""
    said: str = ""
    actions: tuple[Action, ...] = ()


class InterplayError(Exception):
    """An error a person can act on. `str(error)` is one clear line: what is wrong and what to do."""

    code = "error"


class BadInput(InterplayError):
    """The user gave something unusable (a broken file, a wrong option). Command line: exit code 2."""

    code = "bad_input"


class Missing(InterplayError):
    """Something that has to be installed or configured first is not there."""

    code = "missing"
