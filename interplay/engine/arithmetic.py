"""The model's products in an order that does not depend on who else is in the batch.

Matrix products of a CPU library may round differently for one row than for many. Measured for fp32 on processors of
AMD (Zen 3) and Intel (Sapphire Rapids); the engine measures it again when it starts, see `selftest.py`: from four rows
on, a row's result no longer depends on how many others there are, on Intel only where the weights lie by columns
(`across`) and, with thousands of them to a sum, below two hundred rows. So every product here has weights by columns,
none runs on fewer than `ROWS` rows, pictures go through their stem `FRAMES` at a time, no activation whose vector tail
is approximated differently is used (sigmoid is written with exp), and an output of one column is never asked for.
Sessions, chunks and whole training scenes all go through these functions; that is why they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from interplay.model.blocks import Block
from interplay.model.experts import Experts
from interplay.model.transformer import InteractionModel

ROWS = 4  # fewest rows of a product
FRAMES = 32  # most pictures at a time
GATE = 32  # columns that the copy gate's product is padded to


Mixture = Callable[["Layer", Tensor], Tensor]
# Adds (rows, n) to columns of (rows, vocabulary), see `Weights.pile`.
Pile = Callable[[Tensor, Tensor, Tensor], Tensor]


class Layer(NamedTuple):
    """A block's weights: queries, keys and values in one product; gains of norms, the root of their width that `unit`
    leaves out, and the score's scale folded in."""

    qkv: Tensor
    gains: Tensor  # of query and key norms, (2, 1, 1, 1, head width)
    out: Tensor
    up: Tensor
    down: Tensor
    experts: Experts | None
    router: Tensor | None  # the experts' own, by columns
    gain: Tensor  # of the norm before the feed-forward, for the experts


def fuse(block: Block) -> Layer:
    root = block.norm_attention.weight.shape[0] ** 0.5
    qkv = torch.cat([block.query.weight, block.key.weight, block.value.weight]) * (block.norm_attention.weight * root)
    gain = block.norm_feedforward.weight * root
    head_root = block.norm_query.weight.shape[0] ** 0.5  # of a query it is also the inverse of the score's scale
    gains = torch.stack([block.norm_query.weight, block.norm_key.weight * head_root])[:, None, None, None]
    return Layer(
        across(qkv),
        gains,
        across(block.out.weight),
        across(block.up.weight * gain),
        across(block.down.weight),
        block.experts,
        across(block.experts.router.weight) if block.experts is not None else None,
        gain,
    )


def fill(x: Tensor, rows: int) -> Tensor:
    """`x` with its first axis filled up to `rows` by copies of its first row; as it is if there are enough."""
    have = len(x)
    if have >= rows:
        return x
    if have == 1:
        return x.repeat(rows, *(1,) * (x.dim() - 1))
    return torch.cat([x, x[:1].expand(rows - have, *x.shape[1:])])


def rows4(x: Tensor) -> Tensor:
    """`x` with at least `ROWS` rows."""
    return fill(x, ROWS)


def across(weight: Tensor) -> Tensor:
    """The same matrix, laid out by columns: a product of few rows reads it in order (10 to 25 % faster)."""
    return weight.t().contiguous().t()


def unit(x: Tensor) -> Tensor:
    """The last axis brought to length one: RMS normalisation but for the root of the width, which the weights hold."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-4)


def logistic(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary angles, broadcast over `x` (..., head width)."""
    half = cos.shape[-1]
    return x * torch.cat([cos, cos], -1) + x.roll(half, -1) * torch.cat([-sin, sin], -1)


def pile(table: Tensor, columns: Tensor, more: Tensor) -> Tensor:
    """`table` (rows, columns) with `more` (rows, n) added in `columns`, one after the other."""
    return table.scatter_add(1, columns, more)


def pile_sorted(table: Tensor, columns: Tensor, more: Tensor) -> Tensor:
    """As `pile`, where that one adds in whatever order threads arrive (CUDA): sorted first, so that the order of a sum
    is always the same."""
    rows, width = table.shape
    at = torch.arange(rows, device=table.device)[:, None] * width + columns
    return table.flatten().index_put((at.flatten(),), more.flatten(), accumulate=True).view(rows, width)


def mixture(layer: Layer, x: Tensor) -> Tensor:
    """What a layer's mixture of experts adds: sorted by expert as in training, none on fewer than `ROWS` rows."""
    rows = x.flatten(0, -2)
    experts, weights, chosen = _route(layer, rows)
    expert = chosen.flatten()
    order = expert.argsort(stable=True)
    counts = torch.bincount(expert, minlength=len(experts.up)).tolist()
    parts = []
    for e, part in enumerate(rows[order // experts.active].split(counts)):
        if len(part):
            gate, value = (rows4(part) @ experts.up[e]).chunk(2, -1)
            parts.append(((F.silu(gate) * value) @ experts.down[e])[: len(part)])
    out = torch.cat(parts)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return _add_up(out[back].view(len(rows), experts.active, -1) * weights[..., None]).view_as(x)


def mixture_whole(layer: Layer, x: Tensor) -> Tensor:
    """The same with every expert on all rows, so that no shape depends on who chose what."""
    rows = x.flatten(0, -2)
    experts, weights, chosen = _route(layer, rows)
    enough, parts = rows4(rows), []
    for up, down in zip(experts.up, experts.down, strict=True):
        gate, value = (enough @ up).chunk(2, -1)
        parts.append((F.silu(gate) * value) @ down)
    each = torch.arange(len(rows), device=x.device)[:, None]
    return _add_up(torch.stack(parts)[chosen, each] * weights[..., None]).view_as(x)


def _route(layer: Layer, rows: Tensor) -> tuple[Experts, Tensor, Tensor]:
    """The layer's experts, weights (rows, active), which sum to 1, and int64 (rows, active): who was chosen."""
    experts, router = layer.experts, layer.router
    assert experts is not None and router is not None
    scores = logistic(F.linear(rows4(rows), router))[: len(rows)]
    chosen = (scores + experts.bias).topk(experts.active, -1).indices
    weights = scores.gather(-1, chosen)
    return experts, weights / weights.sum(-1, keepdim=True), chosen


def _add_up(pairs: Tensor) -> Tensor:
    """(rows, active, width) -> (rows, width), one after the other."""
    total = pairs[:, 0]
    for i in range(1, pairs.shape[1]):
        total = total + pairs[:, i]
    return total


class Weights:
    """A model's parameters arranged for the engine; with gradients if the caller records them.

    Differentiable: everything is computed from the model's parameters when this is made, so a training step makes it
    anew (`Weights(model)`), and serving makes it once under `torch.no_grad()`.
    """

    def __init__(self, model: InteractionModel) -> None:
        self.model, self.config = model, model.config
        self.layers = [fuse(block) for block in model.blocks if isinstance(block, Block)]
        self.final = model.norm.weight * self.config.width**0.5
        audio, recall = model.audio, model.recall
        self.wide, self.narrow = across(audio.wide.weight), across(audio.narrow.weight)
        self.up, self.down = across(recall.up.weight), across(recall.down.weight)
        self.feeds = [across(feed.weight) for feed in (model.feed_heard, model.feed_said, model.feed_event)]
        self.decision = across(model.decision.weight)
        if model.eyes is not None:
            self.merge = across(model.eyes.merge.weight)
            self.stem = {name: across(p) if p.dim() == 2 else p for name, p in model.eyes.stem.named_parameters()}
        self.hands = None if model.feed_clock is None else across(model.feed_clock.weight)
        # Words out: the projection and the table are one matrix, so a row costs one product.
        self.heard = across(model.words @ model.heard.weight)
        self.said = across(model.words @ model.said.weight)
        copy, pad = model.copy, GATE - 1
        scale = copy.query.weight.shape[0] ** -0.5
        self.point = across(torch.cat([copy.query.weight * scale, F.pad(copy.gate.weight, (0, 0, 0, pad))]))
        self.point_bias = torch.cat([copy.query.bias * scale, F.pad(copy.gate.bias, (0, pad))])
        # What a micro-turn leaves for later ones to look back at: its copy key and its recall value.
        self.leave = across(torch.cat([copy.key.weight, model.recall.value.weight]))
        self.leave_bias = torch.cat([copy.key.bias, model.recall.value.bias])
        device = model.words.device
        self.pile: Pile = pile if device.type == "cpu" else pile_sorted
        self.levels = (torch.arange(model.audio.table.shape[0] // 16, device=device) * 16)[None, None]
        half = self.config.width // self.config.heads // 2
        inverse = self.config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        self.inverse = inverse.to(device)
        p = self.config.positions
        self.within = {
            glances: torch.tensor([0] * glances + list(range(p)), dtype=torch.float64, device=device)
            for glances in {0, self.config.glances}
        }

    def rotary(self, turns: Tensor, glances: int) -> tuple[Tensor, Tensor]:
        """cos, sin (turns, positions, head width / 2); the same numbers as `blocks.rotary`."""
        steps = turns.double()[:, None] * self.config.positions + self.within[glances]
        angles = steps[..., None] * self.inverse
        return angles.cos().float(), angles.sin().float()

    def clock(self, turns: Tensor, x: Tensor) -> Tensor:
        """`x` (rows, width) with what the clock adds in micro-turns `turns` (rows,); see `blocks.clock`."""
        if self.hands is None:
            return x
        hands = torch.cat([part[:, 0] for part in self.rotary(turns, 0)], -1)  # of the first position
        return x + F.linear(rows4(hands), self.hands)[: len(x)]

    def look_up(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.model.words) * (self.config.width**0.5 * (ids > 0)).unsqueeze(-1)

    def feedback(
        self, heard: Tensor, said: Tensor, event: Tensor, marks: Tensor, proactivity: Tensor, turns: Tensor
    ) -> Tensor:
        """What words, marks, manners and the clock add to the first position of sound. Leading axis (rows,).

        A kind of word that nobody has is left out: it would add zero.
        """
        model = self.model
        x = self.clock(turns, (proactivity - 0.5).unsqueeze(-1) * model.manner)
        for ids, feed in zip((heard, said, event), self.feeds, strict=True):
            if ids.any():
                x = x + F.linear(rows4(self.look_up(ids)), feed)[: len(x)]
        if marks.any():
            for i in range(marks.shape[-1]):
                x = x + marks[:, i : i + 1].to(x.dtype) * model.marks[i]
        return x

    def sound(self, bins: Tensor) -> Tensor:
        """uint8 (rows, 10, 80) -> float (rows, positions, width)."""
        audio, p = self.model.audio, self.config.positions
        bags = F.embedding_bag((bins.long() + self.levels).flatten(0, 1), audio.table, mode="sum")
        merged = bags.view(bins.shape[0] * p, -1)
        h = F.gelu(F.linear(merged, self.wide, audio.wide.bias))
        return F.linear(h, self.narrow, audio.narrow.bias).view(bins.shape[0], p, -1)

    def glance(self, frames: Tensor, previous: Tensor) -> Tensor:
        """uint8 (rows, 80, 80, 3) twice -> float (rows, glances, width)."""
        eyes = self.model.eyes
        assert eyes is not None, "this model has no eyes"
        pairs = zip(frames.split(FRAMES), previous.split(FRAMES), strict=True)
        stemmed = [functional_call(eyes.stem, self.stem, pair) for pair in pairs]
        patches = torch.cat(stemmed).unflatten(-2, (eyes.glances, -1)).flatten(-2)
        merged = F.linear(rows4(patches.flatten(0, 1)), self.merge, eyes.merge.bias)
        return merged[: patches.shape[0] * eyes.glances].view(*patches.shape[:2], -1) + eyes.place

    def project(self, layer: Layer, x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """x (at least `rows`, positions, width) -> of the first `rows`: normalised queries and keys (2, rows, heads,
        positions, head width), scaled and not rotated; values (rows, heads, positions, head width)."""
        qkv = F.linear(unit(x), layer.qkv)
        if rows < len(qkv):
            qkv = qkv[:rows]
        qkv = qkv.view(rows, x.shape[1], 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        return unit(qkv[:2]) * layer.gains, qkv[2]

    def finish(self, layer: Layer, x: Tensor, attended: Tensor, mixture: Mixture = mixture) -> Tensor:
        """Add what attention found, (rows, positions, width), and the feed-forward to `x`."""
        x = x + F.linear(attended, layer.out)
        h = unit(x)
        gate, value = F.linear(h, layer.up).chunk(2, -1)
        more = F.linear(F.silu(gate) * value, layer.down)
        return x + more if layer.experts is None else x + more + mixture(layer, h * layer.gain)

    def recall(self, last: Tensor, found: Tensor) -> Tensor:
        """`last` (rows, width) with what is recalled (rows, 64)."""
        recall = self.model.recall
        h = F.linear(torch.cat([last, found], -1), self.up, recall.up.bias)
        return last + F.linear(F.gelu(h), self.down, recall.down.bias)

    def wording(self, now: Tensor) -> Tensor:
        """Probabilities of the next word without copying, (rows, vocabulary)."""
        return F.linear(now, self.said).softmax(-1)
