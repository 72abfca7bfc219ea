"""The model one micro-turn at a time: explicit state in, outputs and the next state out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.model.config import ModelConfig
from interplay.model.transformer import Block, InteractionModel, Outputs, rotary


@dataclass(slots=True)
class StepState:
    """Keys and values of the last `window` micro-turns of a batch of sessions, and the feedback of the last one.

    heard, said: int64 (batch,), word ids. keys, values: float32 (layers, batch, heads, window x positions, head width), a ring: micro-turn `t` lives in slot
    `t mod window`. Keys carry their own rotary time, so their order in the ring does not matter.
    """

    keys: Tensor
    values: Tensor
    heard: Tensor
    said: Tensor
    turn: int = 0

    @classmethod
    def empty(cls, config: ModelConfig, batch: int = 1) -> StepState:
        shape = (config.layers, batch, config.heads, config.window * config.positions, config.width // config.heads)
        none = torch.zeros(batch, dtype=torch.int64)
        return cls(torch.zeros(shape), torch.zeros(shape), none, none.clone())


@torch.inference_mode()
def step(model: InteractionModel, state: StepState, bins: Tensor) -> Outputs:
    """One micro-turn. bins: uint8 (batch, 10, 80). Returns logits (batch, ...) and advances `state` in place.

    The caller decides what was heard and said and puts it into `state.heard` / `state.said` before the next step.
    """
    config = model.config
    x = model.embed(bins[:, None], state.heard[:, None], state.said[:, None])
    cos, sin = rotary(torch.tensor([state.turn]), config)
    first = state.turn % config.window * config.positions
    filled = min(state.turn + 1, config.window) * config.positions
    # Positions of one micro-turn see each other causally; everything older is visible to all of them.
    mask = torch.zeros(config.positions, filled)
    for row in range(config.positions):
        mask[row, first + row + 1 : first + config.positions] = float("-inf")
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        q, k, v = block.project(x, cos, sin)
        keys, values = state.keys[layer], state.values[layer]
        keys[:, :, first : first + config.positions] = k
        values[:, :, first : first + config.positions] = v
        attended = F.scaled_dot_product_attention(q, keys[:, :, :filled], values[:, :, :filled], attn_mask=mask)
        x = block.finish(x, attended)
    state.turn += 1
    decision, heard, said = model.read(x)
    return Outputs(decision[:, 0], heard[:, 0], said[:, 0])
