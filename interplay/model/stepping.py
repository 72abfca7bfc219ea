"""The model one micro-turn at a time: explicit state in, outputs and the next state out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.model.config import ModelConfig
from interplay.model.transformer import Block, InteractionModel, Outputs, Recall, rotary, rotate


@dataclass(slots=True)
class StepState:
    """Keys and values of the last `window` micro-turns of a batch of sessions, and the feedback of the last one.

    heard, said: int64 (batch,), word ids. keys, values: float32 (layers, batch, heads, window x positions, head
    width), a ring: micro-turn `t` lives in slot `t mod window`. Keys carry their own rotary time, so their order in
    the ring does not matter. `used`: which ring slots hold a micro-turn, bool (window,); a skipped one leaves none.
    transcript: int64 (batch, window), the words heard; copy_keys and recall_values: float32 (batch, window, ...), what
    the model knew when it heard them.
    """

    keys: Tensor
    values: Tensor
    heard: Tensor
    said: Tensor
    used: Tensor
    transcript: Tensor
    copy_keys: Tensor
    recall_values: Tensor
    turn: int = 0
    last: int = -1

    @classmethod
    def empty(cls, config: ModelConfig, batch: int = 1) -> StepState:
        shape = (config.layers, batch, config.heads, config.window * config.positions, config.width // config.heads)
        none = torch.zeros(batch, dtype=torch.int64)
        used = torch.zeros(config.window, dtype=torch.bool)
        transcript = torch.zeros(batch, config.window, dtype=torch.int64)
        keys, values = (torch.zeros(batch, config.window, size) for size in (shape[-1], Recall.SIZE))
        return cls(torch.zeros(shape), torch.zeros(shape), none, none.clone(), used, transcript, keys, values)


class _Fused(NamedTuple):
    """A block's weights arranged for small steps: queries, keys and values in one product, norm gains folded in."""

    qkv: Tensor
    gains: Tensor  # of query and key norms, (2, 1, head width)
    out: Tensor
    up: Tensor
    down: Tensor


def _fuse(block: Block) -> _Fused:
    qkv = torch.cat([block.query.weight, block.key.weight, block.value.weight])
    return _Fused(
        (qkv * block.norm_attention.weight).detach(),
        torch.stack([block.norm_query.weight, block.norm_key.weight])[:, None].detach(),
        block.out.weight.detach(),
        (block.up.weight * block.norm_feedforward.weight).detach(),
        block.down.weight.detach(),
    )


def _unit(x: Tensor) -> Tensor:
    """RMS-normalise the last axis. A handful of plain products: several times faster than the composite on 2 rows."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True).add_(torch.finfo(x.dtype).eps))


class Stepper:
    """Runs a trained model one micro-turn at a time. Holds weights only; every session brings its own StepState."""

    def __init__(self, model: InteractionModel) -> None:
        self.model = model.eval()
        self.config = model.config
        self._blocks = [_fuse(block) for block in model.blocks if isinstance(block, Block)]
        # The bag of embeddings as a gather: row (channel, level) of the table, summed over channels.
        self._levels = (torch.arange(model.audio.table.shape[0] // 16) * 16)[None, None]

    @torch.no_grad()
    def step(self, state: StepState, bins: Tensor) -> Outputs:
        """One micro-turn. bins: uint8 (batch, 10, 80). Returns logits (batch, ...) and advances `state` in place.

        The caller decides what was heard and said and puts it into `state.heard` and `state.said` before the next
        step. `state.turn` may jump ahead (micro-turns that never ran): time passes, nothing was seen in it.
        """
        config, p = self.config, self.config.positions
        x = self._embed(state, bins)
        cos, sin = rotary(torch.tensor([state.turn]), config)
        mask = self._advance(state)
        filled = mask.shape[1]
        first = state.turn % config.window * p
        batch = x.shape[0]
        for layer, block in enumerate(self._blocks):
            qkv = F.linear(_unit(x), block.qkv).view(batch, p, 3, config.heads, -1).permute(2, 0, 3, 1, 4)
            q, k = rotate(_unit(qkv[:2]) * block.gains[:, None, None], cos, sin)
            keys, values = state.keys[layer], state.values[layer]
            keys[:, :, first : first + p] = k
            values[:, :, first : first + p] = qkv[2]
            attended = F.scaled_dot_product_attention(q, keys[:, :, :filled], values[:, :, :filled], attn_mask=mask)
            x = x + F.linear(attended.transpose(1, 2).flatten(2), block.out)
            gate, value = F.linear(_unit(x), block.up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * value, block.down)
        out = self._read(state, self.model.last(x), cos[-1:], sin[-1:])
        state.last = state.turn
        state.turn += 1
        return out

    def _read(self, state: StepState, last: Tensor, cos: Tensor, sin: Tensor) -> Outputs:
        """Outputs from the last position (batch, 1, width) and from the transcript of the window."""
        model, window, own = self.model, self.config.window, state.turn % self.config.window
        if state.last >= 0:
            state.transcript[:, state.last % window] = state.heard
        state.transcript[:, own] = 0  # not known yet: the caller decides what was heard
        state.copy_keys[:, own] = rotate(model.copy.key(last[:, 0]), cos, sin)
        state.recall_values[:, own] = model.recall.value(last[:, 0])
        just = state.heard[:, None] * (state.turn - state.last == 1)
        same = (just > 1) & (just == state.transcript) & state.used
        if state.last >= 0:
            same[:, state.last % window] = False
        table, heard = model.words.t(), model.heard(last[:, 0])
        last = model.recall(last, state.recall_values, same[:, None])
        query = rotate(model.copy.query(last), cos, sin)
        wording = model.said(last) @ table
        said = model.copy(query, state.copy_keys, model.copy.gate(last), wording, state.transcript, state.used[None])
        return Outputs(model.decision(last[:, 0]), heard @ table, said[:, 0])

    def _embed(self, state: StepState, bins: Tensor) -> Tensor:
        model = self.model
        rows = F.embedding_bag((bins.long() + self._levels).flatten(0, 1), model.audio.table, mode="sum")
        merged = rows.view(bins.shape[0], self.config.positions, -1)
        x = model.audio.narrow(F.gelu(model.audio.wide(merged)))
        feedback = model.feedback(state.heard, state.said)
        return torch.cat([x[:, :1] + feedback[:, None], x[:, 1:]], 1)

    def _advance(self, state: StepState) -> Tensor:
        """Free the ring slots that this micro-turn's window no longer covers; the additive mask (positions, slots)."""
        window, p, turn = self.config.window, self.config.positions, state.turn
        if turn - state.last > 1:
            gone = range(state.last + 1, turn) if turn - state.last <= window else range(window)
            state.used[[t % window for t in gone]] = False
        state.used[turn % window] = True
        slots = min(turn + 1, window)
        mask = torch.zeros(p, slots, p)
        if turn - state.last > 1 or not bool(state.used[:slots].all()):
            mask[:, ~state.used[:slots]] = float("-inf")
        own = turn % window
        for row in range(p):
            mask[row, own, row + 1 :] = float("-inf")
        return mask.flatten(1)
