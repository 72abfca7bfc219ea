"""From logits to what happens: one decision, one heard word, one output word per micro-turn, the likeliest each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from interplay.model.config import DELEGATE, LISTEN, WORDED
from interplay.model.transformer import Outputs

SURE = 0.65  # how likely acting must be; on a coin toss it says a third more that nobody asked for (docs/LOG.md)

# A delegation takes so much of that. It is one moment, and no later input says whether it came: unsure between two
# micro-turns, the model takes it for done in the second, and announces an answer that nobody looks for.
HAND_OVER = 0.5


class Chosen(NamedTuple):
    """int64 (batch,) each; said is 0 where the decision puts out no word."""

    decision: Tensor
    heard: Tensor
    said: Tensor


def decide(odds: Tensor, threshold: float | Tensor = SURE) -> Tensor:
    """odds: of the decisions, (batch, 7). Listen, unless acting is likelier than `threshold`, one for all or float
    (batch,), or delegating, the likeliest act, than `HAND_OVER` of it; then the likeliest act. Returns int64
    (batch,)."""
    rest = odds.clone()
    rest[:, LISTEN] = -1
    act = rest.argmax(-1)
    handing = (act == DELEGATE) & (odds[:, DELEGATE] > HAND_OVER * threshold)
    return act.where((1 - odds[:, LISTEN] > threshold) | handing, LISTEN)


def choose(out: Outputs, threshold: float = SURE) -> Chosen:
    """out: Outputs of one micro-turn, (batch, ...). Having decided to put out a word, it puts out a word."""
    decision = decide(out.decision.softmax(-1), threshold)
    worded = torch.zeros_like(decision, dtype=torch.bool)
    for number in WORDED:
        worded |= decision == number
    word = out.said[:, 2:].argmax(-1) + 2
    return Chosen(decision, out.heard.argmax(-1), torch.where(worded, word, 0))
