"""What is to be seen in every micro-turn, as numbers: what the eyes are taught beside the few words that are due.

Words about something seen are rare, so a model that learns from them alone learns nothing for a long time. Hearing has
the same cure: the words heard are supervision of every micro-turn. Here it is colours, shapes and movements present,
where in its cycle a movement is, and whether a repetition has just ended. See `training/witness.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.core.types import MICRO_TURN_S
from interplay.training.video.asking import NOUNS
from interplay.training.video.rhythm import Rhythm
from interplay.training.video.sprites import COLOURS, SHAPES, Stay

MOVES = tuple(NOUNS)
_FIRST_SHAPE, _FIRST_MOVE = len(COLOURS), len(COLOURS) + len(SHAPES)
ENDED = _FIRST_MOVE + len(MOVES)  # then cosine and sine of the phase
WIDTH = ENDED + 3
ENDED_WEIGHT = 4.0  # of a repetition's end: it is what a count waits for


def of_things(stays: Iterable[tuple[Stay, str, str]], turns: int) -> np.ndarray:
    """Labels of things (thing, its colour, its shape) that come and go.

    float32 (turns, WIDTH), NaN where nobody knows.
    """
    seen = np.zeros((turns, WIDTH), np.float32)
    seen[:, ENDED + 1 :] = np.nan
    times = (np.arange(turns) + 1) * MICRO_TURN_S
    for stay, colour, shape in stays:
        there = (stay.enter <= times) & (times < stay.leave)
        seen[there, COLOURS.index(colour)] = 1
        seen[there, _FIRST_SHAPE + SHAPES.index(shape)] = 1
    return seen


def of_movements(parts: Iterable[tuple[str, Rhythm]], turns: int) -> np.ndarray:
    """Labels of somebody's movements, each in its rhythm; what else is in the picture nobody has written down.
    float32 (turns, WIDTH), NaN where nobody knows."""
    seen = np.full((turns, WIDTH), np.nan, np.float32)
    seen[:, _FIRST_MOVE : ENDED + 1] = 0
    for turn in range(turns):
        time = (turn + 1) * MICRO_TURN_S
        for movement, rhythm in parts:
            phase = rhythm.phase(time)
            if phase > 0:
                seen[turn, _FIRST_MOVE + MOVES.index(movement)] = 1
                seen[turn, ENDED + 1 :] = math.cos(2 * math.pi * phase), math.sin(2 * math.pi * phase)
            if any(time - MICRO_TURN_S < end <= time for end in rhythm.ends):
                seen[turn, ENDED] = 1
    return seen


class Sight(nn.Module):
    """Reads the labels off what the eyes give (all positions of a frame) and off what the model makes of it."""

    def __init__(self, width: int, glances: int) -> None:
        super().__init__()
        self.eyes = nn.Sequential(nn.Linear(glances * width, width), nn.GELU(), nn.Linear(width, WIDTH))
        self.state = nn.Linear(width, WIDTH)

    def forward(self, glances: Tensor, state: Tensor, seen: Tensor) -> Tensor:
        """glances: float (batch, turns, glances, width). state: float (batch, turns, width), of each micro-turn's last
        position. seen: float (batch, turns, WIDTH), NaN where unknown. Returns the loss, a scalar."""
        return _loss(self.eyes(glances.flatten(2)), seen) + _loss(self.state(state), seen)


def _loss(guess: Tensor, seen: Tensor) -> Tensor:
    known = ~seen.isnan()
    seen = seen.nan_to_num()
    binary = F.binary_cross_entropy_with_logits(guess[..., : ENDED + 1], seen[..., : ENDED + 1], reduction="none")
    binary = binary * torch.where(torch.arange(ENDED + 1, device=seen.device) == ENDED, ENDED_WEIGHT, 1.0)
    phase = (guess[..., ENDED + 1 :] - seen[..., ENDED + 1 :]).square()
    both = torch.cat([binary, phase], -1)
    # Summed over the labels of a micro-turn: things that are there weigh more than the many that are not.
    return (both * known * (1 + 2 * (seen > 0))).sum(-1).mean()
