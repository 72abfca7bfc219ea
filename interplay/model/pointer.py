"""Two ways to look back at words: copy one of them, and recall what was said about the one just heard."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.model.config import ModelConfig


class Copy(nn.Module):
    """Say again what was heard: attention from now over the model's own transcript (See et al. 2017, arXiv 1704.04368).

    The key of a heard word is the model's state in the micro-turn that heard it, which knows what part the word plays
    in a request; the word itself is read from the transcript. `said` is then a mixture of copying and wording.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.width // config.heads
        self.query = nn.Linear(config.width, size)
        self.key = nn.Linear(config.width, size)
        self.gate = nn.Linear(config.width, 1)

    def mix(self, scores: Tensor, usable: Tensor, gate: Tensor, said: Tensor, transcript: Tensor) -> Tensor:
        """Log-probabilities of what to say, (batch, now, vocabulary).

        scores: (batch, now, words), how well each word of the transcript fits; usable: bool, same shape. gate (batch,
        now, 1) and said (batch, now, vocabulary) are logits. transcript: int64 (batch, words).
        """
        attention = scores.masked_fill(~usable, -1e9).softmax(-1) * usable
        if attention.shape[1] == 1:  # one micro-turn, live: no one-hot table of the whole window
            copied = torch.zeros_like(said).scatter_add(2, transcript[:, None], attention)
        else:
            copied = attention @ F.one_hot(transcript, said.shape[-1]).to(attention.dtype)
        share = gate.sigmoid() * usable.any(-1, keepdim=True)
        return (share * copied + (1 - share) * said.softmax(-1) + 1e-9).log()


class Recall(nn.Module):
    """What was said about the word that was just heard: an exact match of words instead of a learnt one.

    Reads the model's states of the earlier micro-turns (or prefix words) with the same word, so "you once told me to
    watch for this word" is one linear step away from deciding to speak. A small model finds such matches late or never.
    """

    SIZE = 64

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.value = nn.Linear(config.width, self.SIZE)
        self.up = nn.Linear(config.width + self.SIZE, config.width)
        self.down = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, last: Tensor, values: Tensor, same: Tensor) -> Tensor:
        """`last` (batch, now, width) with what is recalled; values (batch, words, 64) of the prefix and the window;
        same: bool (batch, now, words), those that hold the word that was just heard."""
        weight = same.to(values.dtype)
        found = (weight @ values) * torch.rsqrt(1 + weight.sum(-1, keepdim=True))
        return last + self.down(F.gelu(self.up(torch.cat([last, found], -1))))
