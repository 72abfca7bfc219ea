"""From logits to what happens: one decision, one heard word, one output word per micro-turn, the likeliest each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from interplay.model.config import LISTEN, WORDED
from interplay.model.transformer import Outputs

SURE = 0.65  # how likely acting must be; on a coin toss it says a third more that nobody asked for (docs/LOG.md)


class Chosen(NamedTuple):
    """int64 (batch,) each; said is 0 where the decision puts out no word."""

    decision: Tensor
    heard: Tensor
    said: Tensor


def decide(odds: Tensor, threshold: float | Tensor = SURE) -> Tensor:
    """odds: of the decisions, (batch, 7). Listen, unless acting is likelier than `threshold`, one for all or float
    (batch,); then the likeliest of the rest. Returns int64 (batch,)."""
    rest = odds.clone()
    rest[:, LISTEN] = -1
    return rest.argmax(-1).where(1 - odds[:, LISTEN] > threshold, LISTEN)


def choose(out: Outputs, threshold: float = SURE) -> Chosen:
    """out: Outputs of one micro-turn, (batch, ...). Having decided to put out a word, it puts out a word."""
    decision = decide(out.decision.softmax(-1), threshold)
    worded = torch.zeros_like(decision, dtype=torch.bool)
    for number in WORDED:
        worded |= decision == number
    word = out.said[:, 2:].argmax(-1) + 2
    return Chosen(decision, out.heard.argmax(-1), torch.where(worded, word, 0))
