"""The interaction model: every micro-turn is the same few positions and exactly one forward pass.

Input of a micro-turn: two positions of 100 ms of dMel each; the words that the previous micro-turn heard and said are
added to the first of them. Output, read in parallel from the last position: whether to speak, the word heard, the
word to say. Positions count time: a rotary angle is a fixed function of the micro-turn index.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.model.config import DECISIONS, ModelConfig
from interplay.model.dmel import CHANNELS, FRAMES, LEVELS


class Outputs(NamedTuple):
    """Of micro-turns: logits of decision (..., 2) and heard (..., vocabulary), log-probabilities of said."""

    decision: Tensor
    heard: Tensor
    said: Tensor


class BagOfEmbeddings(nn.Module):
    """A frame of dMel as the sum of one learned vector per (channel, level), then a light merge of five frames."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frames = FRAMES // config.positions
        self.table = nn.Parameter(torch.randn(CHANNELS * LEVELS, config.frame_width) * 0.05)
        self.wide = nn.Linear(self.frames * config.frame_width, 2 * config.width)
        self.narrow = nn.Linear(2 * config.width, config.width)

    def forward(self, bins: Tensor) -> Tensor:
        """bins: uint8 (..., turns, 10, 80) -> float (..., turns x positions, width)."""
        # One-hot times table is the bag as a matrix product: its backward is a product too, not a scatter.
        hot = F.one_hot(bins.long(), LEVELS).to(self.table.dtype).flatten(-2)
        frames = hot @ self.table
        merged = frames.reshape(*bins.shape[:-3], -1, self.frames * self.table.shape[1])
        return self.narrow(F.gelu(self.wide(merged)))


def rotary(turns: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos, sin (turns x positions, head width / 2) for micro-turn indices `turns` (int64).

    Angles are taken in float64: after hours of session a float32 product would blur neighbouring positions.
    """
    half = config.width // config.heads // 2
    steps = (turns.double()[:, None] * config.positions + torch.arange(config.positions)).flatten()
    inverse = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = steps[:, None] * inverse
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary angles. x: (batch, heads, positions, head width)."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Block(nn.Module):
    """Pre-norm attention (normalised queries and keys) and a SwiGLU feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm_attention = nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_query = nn.RMSNorm(width // config.heads)
        self.norm_key = nn.RMSNorm(width // config.heads)
        self.norm_feedforward = nn.RMSNorm(width)
        self.up = nn.Linear(width, 2 * config.feedforward, bias=False)
        self.down = nn.Linear(config.feedforward, width, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values (batch, heads, positions, head width), rotated to their time."""
        batch, positions, width = x.shape
        h = self.norm_attention(x)

        def split(t: Tensor) -> Tensor:
            return t.view(batch, positions, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = split(self.query(h)), split(self.key(h)), split(self.value(h))
        return rotate(self.norm_query(q), cos, sin), rotate(self.norm_key(k), cos, sin), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found (batch, heads, positions, head width) and the feed-forward to `x`."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, value = self.up(self.norm_feedforward(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)


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

    def forward(
        self, query: Tensor, key: Tensor, gate: Tensor, said: Tensor, transcript: Tensor, seen: Tensor
    ) -> Tensor:
        """Log-probabilities of what to say, (batch, now, vocabulary).

        query (batch, now, size) and key (batch, turns, size) are rotated to their time; gate (batch, now, 1) and said
        (batch, now, vocabulary) are logits. transcript: int64 (batch, turns), the word heard in each micro-turn, 0 for
        none. seen: bool (now, turns), which micro-turns lie before now and within the window.
        """
        usable = seen & (transcript > 1)[:, None]
        scores = (query @ key.transpose(1, 2)) / key.shape[-1] ** 0.5
        attention = scores.masked_fill(~usable, -1e9).softmax(-1) * usable
        if attention.shape[1] == 1:  # one micro-turn, live: no one-hot table of the whole window
            copied = torch.zeros_like(said).scatter_add(2, transcript[:, None], attention)
        else:
            copied = attention @ F.one_hot(transcript, said.shape[-1]).to(attention.dtype)
        share = gate.sigmoid() * usable.any(-1, keepdim=True)
        return (share * copied + (1 - share) * said.softmax(-1) + 1e-9).log()


class Recall(nn.Module):
    """What was said about the word that was just heard: an exact match of words instead of a learnt one.

    Reads the model's states of the earlier micro-turns that heard the same word, so "you once told me to watch for
    this word" is one linear step away from deciding to speak. A small model finds such matches late or never.
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
        """`last` (batch, now, width) with what is recalled; values (batch, turns, 64) of the window's micro-turns;
        same: bool (batch, now, turns), the micro-turns that heard the word that was just heard."""
        weight = same.to(values.dtype)
        found = (weight @ values) * torch.rsqrt(1 + weight.sum(-1, keepdim=True))
        return last + self.down(F.gelu(self.up(torch.cat([last, found], -1))))


class InteractionModel(nn.Module):
    """The transformer with its input stems and output heads."""

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.audio = BagOfEmbeddings(config)
        # One table for words heard and said, in and out: repeating a word is then copying a direction.
        self.words = nn.Parameter(torch.randn(vocabulary_size, width) * 0.02)
        self.feed_heard = nn.Linear(width, width, bias=False)
        self.feed_said = nn.Linear(width, width, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width)
        self.decision = nn.Linear(width, len(DECISIONS))
        self.heard = nn.Linear(width, width, bias=False)
        self.said = nn.Linear(width, width, bias=False)
        self.copy = Copy(config)
        self.recall = Recall(config)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    def embed(self, bins: Tensor, heard: Tensor, said: Tensor) -> Tensor:
        """Input of micro-turns as positions.

        bins: uint8 (batch, turns, 10, 80). heard, said: int64 (batch, turns), the word ids of the *previous*
        micro-turn. Returns float (batch, turns x positions, width).
        """
        x = self.audio(bins).unflatten(1, (-1, self.config.positions))
        x = torch.cat([x[:, :, :1] + self.feedback(heard, said).unsqueeze(2), x[:, :, 1:]], 2)
        return x.flatten(1, 2)

    def feedback(self, heard: Tensor, said: Tensor) -> Tensor:
        """What the words of the previous micro-turn add to the input: int64 (...) ids -> float (..., width).

        `<none>` feeds back nothing.
        """
        scale = self.config.width**0.5

        def look_up(ids: Tensor) -> Tensor:
            return F.embedding(ids, self.words) * (scale * (ids > 0)).unsqueeze(-1)

        return self.feed_heard(look_up(heard)) + self.feed_said(look_up(said))

    def last(self, x: Tensor) -> Tensor:
        """What outputs are read from: the last position of each micro-turn, normalised, (batch, turns, width)."""
        return self.norm(x[:, self.config.positions - 1 :: self.config.positions])

    def forward(self, bins: Tensor, heard: Tensor, said: Tensor, transcript: Tensor) -> Outputs:
        """Whole scenes at once (training). bins, heard, said as in `embed`; transcript: int64 (batch, turns), the word
        heard *in* each micro-turn, which later ones may copy. Outputs are (batch, turns, ...)."""
        config, turns = self.config, bins.shape[1]
        x = self.embed(bins, heard, said)
        cos, sin = rotary(torch.arange(turns), config)
        cos, sin = cos.to(x.device), sin.to(x.device)
        mask = None if turns <= config.window else window_mask(turns, config).to(x.device)
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, v = block.project(x, cos, sin)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            x = block.finish(x, attended)
        last, table = self.last(x), self.words.t()
        cos, sin = cos[config.positions - 1 :: config.positions], sin[config.positions - 1 :: config.positions]
        index = torch.arange(turns, device=x.device)
        ago = index[:, None] - index[None]
        just = F.pad(transcript, (1, 0))[:, :-1, None]  # what the micro-turn before heard
        same = (just > 1) & (just == transcript[:, None]) & (ago > 1) & (ago < config.window)
        last, heard_from = self.recall(last, self.recall.value(last), same), last
        words = self.copy(
            rotate(self.copy.query(last), cos, sin),
            rotate(self.copy.key(heard_from), cos, sin),
            self.copy.gate(last),
            self.said(last) @ table,
            transcript,
            (ago > 0) & (ago < config.window),
        )
        return Outputs(self.decision(last), self.heard(heard_from) @ table, words)


def window_mask(turns: int, config: ModelConfig) -> Tensor:
    """bool (positions, positions): causal, reaching back over the last `config.window` micro-turns."""
    index = torch.arange(turns * config.positions)
    turn = index // config.positions
    return (index[:, None] >= index[None]) & (turn[:, None] - turn[None] < config.window)
