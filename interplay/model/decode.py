"""From logits to what happens: one decision, one heard word, one output word per micro-turn, the likeliest each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from interplay.model.config import LISTEN, WORDED
from interplay.model.transformer import Outputs

SURE = 0.5  # how likely acting must be


class Chosen(NamedTuple):
    """int64 (batch,) each; said is 0 where the decision puts out no word."""

    decision: Tensor
    heard: Tensor
    said: Tensor


def choose(out: Outputs, threshold: float = SURE) -> Chosen:
    """out: Outputs of one micro-turn, (batch, ...). It acts if acting is likelier than `threshold`, in the way that is
    likeliest; having decided to put out a word, it puts out a word."""
    odds = out.decision.softmax(-1)
    act = odds[:, LISTEN] < 1 - threshold
    odds[:, LISTEN] = 0
    decision = torch.where(act, odds.argmax(-1), LISTEN)
    worded = torch.zeros_like(act)
    for number in WORDED:
        worded |= decision == number
    word = out.said[:, 2:].argmax(-1) + 2
    return Chosen(decision, out.heard.argmax(-1), torch.where(worded, word, 0))
