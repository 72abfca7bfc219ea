"""The model one micro-turn at a time: explicit state in, outputs and the next state out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.model.blocks import Block, Pinned, prefix_rotary, rotary, rotate
from interplay.model.config import MARKS, PREFIX_WORDS, ModelConfig
from interplay.model.experts import Experts
from interplay.model.pointer import Recall
from interplay.model.transformer import InteractionModel, Outputs


@dataclass(slots=True)
class StepState:
    """Keys and values of the last `window` micro-turns of a batch of sessions, and the feedback of the last one.

    heard, said: int64 (batch,), word ids of the last micro-turn. event: int64 (batch,), marks: bool (batch, 4), frame:
    uint8 (batch, 80, 80, 3), proactivity: float (batch,): input of the next one, beside its sound.
    keys, values: float32 (layers, batch, heads, window x positions, head width), a ring: micro-turn `t` lives in slot
    `t mod window`. Keys carry their own rotary time, so their order in the ring does not matter.
    used: which ring slots hold a micro-turn, bool (window,); a skipped one leaves none.
    transcript: int64 (batch, window), the words heard or read. copy_keys, recall_values: float32 (batch, window, ...),
    what the model knew when it heard them.
    """

    keys: Tensor
    values: Tensor
    heard: Tensor
    said: Tensor
    used: Tensor
    transcript: Tensor
    copy_keys: Tensor
    recall_values: Tensor
    event: Tensor
    marks: Tensor
    proactivity: Tensor
    frame: Tensor | None = None
    previous: Tensor | None = None
    prefix: PrefixState | None = None
    turn: int = 0
    last: int = -1

    @classmethod
    def empty(cls, config: ModelConfig, batch: int = 1, *, video: bool = False) -> StepState:
        """A session's state before its first micro-turn. video: with room for the positions of frames."""
        per_turn = config.positions + (config.glances if video else 0)
        shape = (config.layers, batch, config.heads, config.window * per_turn, config.width // config.heads)
        none = torch.zeros(batch, dtype=torch.int64)
        used = torch.zeros(config.window, dtype=torch.bool)
        transcript = torch.zeros(batch, config.window, dtype=torch.int64)
        keys, values = (torch.zeros(batch, config.window, size) for size in (shape[-1], Recall.SIZE))
        state = cls(
            torch.zeros(shape), torch.zeros(shape), none, none.clone(), used, transcript, keys, values,
            none.clone(), torch.zeros(batch, len(MARKS), dtype=torch.bool), torch.full((batch,), 0.5),
        )  # fmt: skip
        if video:
            state.frame = torch.zeros(batch, 80, 80, 3, dtype=torch.uint8)
        return state


class PrefixState(NamedTuple):
    """What a prefix leaves behind: words int64 (batch, 48), each layer's keys and values, copy keys (batch, 48, head
    width) rotated to their place, recall values (batch, 48, 64)."""

    words: Tensor
    layers: list[Pinned]
    copy_keys: Tensor
    recall_values: Tensor


class _Fused(NamedTuple):
    """A block's weights arranged for small steps: queries, keys and values in one product, norm gains folded in."""

    qkv: Tensor
    gains: Tensor  # of query and key norms, (2, 1, head width)
    out: Tensor
    up: Tensor
    down: Tensor
    experts: Experts | None
    gain: Tensor  # of the norm before the feed-forward, for the experts


def _fuse(block: Block) -> _Fused:
    qkv = torch.cat([block.query.weight, block.key.weight, block.value.weight])
    return _Fused(
        (qkv * block.norm_attention.weight).detach(),
        torch.stack([block.norm_query.weight, block.norm_key.weight])[:, None].detach(),
        block.out.weight.detach(),
        (block.up.weight * block.norm_feedforward.weight).detach(),
        block.down.weight.detach(),
        block.experts,
        block.norm_feedforward.weight.detach(),
    )


def _unit(x: Tensor) -> Tensor:
    """RMS-normalise the last axis. A handful of plain products: several times faster than the composite on 2 rows."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True).add_(torch.finfo(x.dtype).eps))


def _attend(q: Tensor, plain: Tensor, keys: Tensor, values: Tensor, mask: Tensor, pinned: Pinned) -> Tensor:
    """Attention of a micro-turn's positions over the prefix (plain queries) and the window (rotated ones)."""
    before = (plain @ pinned.keys.transpose(-1, -2)).masked_fill(~pinned.seen[:, None, None], float("-inf"))
    scores = torch.cat([before, q @ keys.transpose(-1, -2)], -1) * q.shape[-1] ** -0.5
    scores[..., before.shape[-1] :] += mask
    return scores.softmax(-1) @ torch.cat([pinned.values, values], 2)


class Stepper:
    """Runs a trained model one micro-turn at a time. Holds weights only; every session brings its own StepState."""

    def __init__(self, model: InteractionModel) -> None:
        self.model = model.eval()
        self.config = model.config
        self._blocks = [_fuse(block) for block in model.blocks if isinstance(block, Block)]
        # The bag of embeddings as a gather: row (channel, level) of the table, summed over channels.
        self._levels = (torch.arange(model.audio.table.shape[0] // 16) * 16)[None, None]

    @torch.no_grad()
    def read_prefix(self, state: StepState, prefix: Tensor) -> None:
        """Set the words before the session. prefix: int64 (batch, up to 48)."""
        model = self.model
        words = F.pad(prefix, (0, PREFIX_WORDS - prefix.shape[1]))
        layers, last = model.read_prefix(words)
        cos, sin = prefix_rotary(self.config)
        state.prefix = PrefixState(words, layers, rotate(model.copy.key(last), cos, sin), model.recall.value(last))

    @torch.no_grad()
    def step(self, state: StepState, bins: Tensor) -> Outputs:
        """One micro-turn. bins: uint8 (batch, 10, 80). Returns logits (batch, ...) and advances `state` in place.

        The caller decides what was heard and said and puts it into `state.heard` and `state.said` before the next
        step, together with that step's `event`, `marks` and `frame`. `state.turn` may jump ahead (micro-turns that
        never ran): time passes, nothing was seen in it.
        """
        config = self.config
        glances = 0 if state.frame is None else config.glances
        p = config.positions + glances
        x = self._embed(state, bins)
        cos, sin = rotary(torch.tensor([state.turn]), config, glances)
        mask = self._advance(state, p)
        filled = mask.shape[1]
        first = state.turn % config.window * p
        batch = x.shape[0]
        for layer, block in enumerate(self._blocks):
            qkv = F.linear(_unit(x), block.qkv).view(batch, p, 3, config.heads, -1).permute(2, 0, 3, 1, 4)
            plain = _unit(qkv[:2]) * block.gains[:, None, None]
            q, k = rotate(plain, cos, sin)
            keys, values = state.keys[layer], state.values[layer]
            keys[:, :, first : first + p] = k
            values[:, :, first : first + p] = qkv[2]
            keys, values = keys[:, :, :filled], values[:, :, :filled]
            if state.prefix is None:
                attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            else:
                attended = _attend(q, plain[0], keys, values, mask, state.prefix.layers[layer])
            x = x + F.linear(attended.transpose(1, 2).flatten(2), block.out)
            h = _unit(x)
            gate, value = F.linear(h, block.up).chunk(2, -1)
            more = F.linear(F.silu(gate) * value, block.down)
            x = x + more if block.experts is None else x + more + block.experts(h * block.gain)
        out = self._read(state, self.model.norm(x[:, -1:]), cos[-1:], sin[-1:])
        state.last = state.turn
        state.turn += 1
        return out

    def _read(self, state: StepState, last: Tensor, cos: Tensor, sin: Tensor) -> Outputs:
        """Outputs from the last position (batch, 1, width), the transcript of the window and the prefix."""
        model, window, own = self.model, self.config.window, state.turn % self.config.window
        if state.last >= 0:
            at = state.transcript[:, state.last % window]
            at.copy_(at.where(at > 0, state.heard))  # a word of a text event keeps its place
        state.transcript[:, own] = state.event  # what was heard is not known yet: the caller decides
        state.copy_keys[:, own] = rotate(model.copy.key(last[:, 0]), cos, sin)
        state.recall_values[:, own] = model.recall.value(last[:, 0])
        just = torch.zeros_like(state.heard)
        if state.last >= 0 and state.turn - state.last == 1:
            just = state.transcript[:, state.last % window]
        just = just[:, None]
        same = (just > 1) & (just == state.transcript) & state.used
        same[:, own] = False
        if state.last >= 0:
            same[:, state.last % window] = False
        usable = (state.used & (torch.arange(window) != own)) & (state.transcript > 1)
        table, heard = model.words.t(), model.heard(last[:, 0])
        known, values = state.transcript, state.recall_values
        prefix = state.prefix
        if prefix is not None:
            known, values = torch.cat([prefix.words, known], 1), torch.cat([prefix.recall_values, values], 1)
            same = torch.cat([(just > 1) & (just == prefix.words), same], 1)
        now = model.recall(last, values, same[:, None])
        query = model.copy.query(now)
        scores = rotate(query, cos, sin) @ state.copy_keys.transpose(1, 2)
        if prefix is not None:
            scores = torch.cat([query @ prefix.copy_keys.transpose(1, 2), scores], 2)
            usable = torch.cat([prefix.words > 1, usable], 1)
        scores = scores / query.shape[-1] ** 0.5
        said = model.copy.mix(scores, usable[:, None], model.copy.gate(now), model.said(now) @ table, known)
        return Outputs(model.decision(now[:, 0]), heard @ table, said[:, 0])

    def _embed(self, state: StepState, bins: Tensor) -> Tensor:
        model = self.model
        rows = F.embedding_bag((bins.long() + self._levels).flatten(0, 1), model.audio.table, mode="sum")
        merged = rows.view(bins.shape[0], self.config.positions, -1)
        x = model.audio.narrow(F.gelu(model.audio.wide(merged)))
        now = torch.tensor([state.turn])
        more = model.feedback(state.heard, state.said, state.event, state.marks, state.proactivity, now)
        parts = [x[:, :1] + more[:, None], x[:, 1:]]
        if state.frame is not None:
            assert model.eyes is not None, "this model has no eyes"
            previous = state.frame if state.previous is None else state.previous
            parts.insert(0, model.eyes(state.frame, previous))
            state.previous = state.frame
        return torch.cat(parts, 1)

    def _advance(self, state: StepState, p: int) -> Tensor:
        """Free the ring slots that this micro-turn's window no longer covers; the additive mask (positions, slots)."""
        window, turn = self.config.window, state.turn
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
