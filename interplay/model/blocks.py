"""The transformer's parts: rotary time, attention with a pinned prefix, feed-forward."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.model.config import PREFIX_WORDS, ModelConfig
from interplay.model.experts import Experts


def _angles(steps: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    half = config.width // config.heads // 2
    inverse = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = steps.double()[:, None] * inverse
    return angles.cos().float(), angles.sin().float()


def rotary(turns: Tensor, config: ModelConfig, glances: int = 0) -> tuple[Tensor, Tensor]:
    """cos, sin (turns x positions, head width / 2) for micro-turn indices `turns` (int64).

    Positions of sound divide the micro-turn's time; those of its video frame, `glances` of them before the sound, all
    stand at its beginning. Angles are taken in float64: after hours of session a float32 product would blur
    neighbouring positions.
    """
    within = torch.cat([torch.zeros(glances, dtype=torch.int64), torch.arange(config.positions)])
    return _angles((turns.double()[:, None] * config.positions + within).flatten(), config)


def clock(turns: Tensor, config: ModelConfig) -> Tensor:
    """The time of micro-turns `turns` (int64) as an input, float32 (turns, head width): the hands of a clock, whose
    periods are those of `rotary`, from half a second to hours. Attention sees how far away something is only by how
    well it fits; what it brings along from there can carry the hands of then, to be compared with those of now."""
    return torch.cat(_angles(turns * config.positions, config), -1)


def prefix_rotary(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos, sin (48, head width / 2) of the prefix: its words keep their order and stand at the same distance from every
    micro-turn, whose queries see them unrotated. So hour two reads its instructions as minute one did."""
    return _angles(torch.arange(PREFIX_WORDS) - PREFIX_WORDS, config)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary angles. x: (batch, heads, positions, head width)."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Pinned(NamedTuple):
    """What one layer keeps of the prefix: keys (rotated to their place) and values (batch, heads, words, head width);
    seen: bool (batch, words), False where a scene's prefix is shorter. rows: int64, the scenes of the batch that these
    are, where not all of them have a prefix."""

    keys: Tensor
    values: Tensor
    seen: Tensor
    rows: Tensor | None = None


class Block(nn.Module):
    """Pre-norm attention (normalised queries and keys) and a SwiGLU feed-forward or a mixture of them."""

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
        self.experts = Experts(config) if config.experts else None

    def look(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, the same rotated, rotated keys (all normalised), values: (batch, heads, positions, head width)."""
        batch, positions, width = x.shape
        h = self.norm_attention(x)

        def split(t: Tensor) -> Tensor:
            return t.view(batch, positions, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = self.norm_query(split(self.query(h))), self.norm_key(split(self.key(h))), split(self.value(h))
        found = (q, rotate(q, cos, sin), rotate(k, cos, sin), v)
        kind = x.device.type
        if kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind):  # attention would do it, but not fused
            q, turned, keys, v = (t.to(torch.get_autocast_dtype(kind)) for t in found)
            return q, turned, keys, v
        return found

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found (batch, heads, positions, head width) and the feed-forward to `x`."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        h = self.norm_feedforward(x)
        gate, value = self.up(h).chunk(2, -1)
        more = self.down(F.silu(gate) * value)
        return x + more if self.experts is None else x + more + self.experts(h)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, pinned: Pinned | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over whole scenes. mask: bool (positions, positions), None for plain causal.

        Returns the positions, and their rotated keys and values.
        """
        q, turned, keys, v = self.look(x, cos, sin)
        rows = None if pinned is None else pinned.rows
        if pinned is not None and rows is None:
            return self.finish(x, _attend(q, turned, keys, v, mask, pinned)), keys, v
        attended = _attention(turned, keys, v, mask)
        if pinned is not None and rows is not None:
            some = _attend(q[rows], turned[rows], keys[rows], v[rows], mask, pinned)
            attended = attended.index_copy(0, rows, some)
        return self.finish(x, attended), keys, v


def _attend(q: Tensor, turned: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, pinned: Pinned) -> Tensor:
    """Attention over prefix and window at once: the rotated half of a query meets the window, the plain half the
    prefix; each key is zero in the other half."""
    positions = q.shape[2]
    if mask is None:
        mask = torch.ones(positions, positions, dtype=torch.bool, device=q.device).tril()
    seen = pinned.seen[:, None, None].expand(-1, 1, positions, -1)
    mask = torch.cat([seen, mask.expand(len(q), 1, -1, -1)], -1)
    query = torch.cat([turned, q], -1)
    before = torch.cat([torch.zeros_like(pinned.keys), pinned.keys], -1)
    now = torch.cat([keys, torch.zeros_like(keys)], -1)
    key, value = torch.cat([before, now], 2), torch.cat([pinned.values, values], 2)
    return _attention(query, key, value, mask, scale=q.shape[-1] ** -0.5)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """Scaled dot-product attention; mask: bool, broadcastable to (batch, heads, positions, keys), None for causal.

    In bf16 on a CPU as plain products: PyTorch's fused kernel does not use the bf16 units on its way back, and takes
    twice as long.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    batch, heads, positions, width = q.shape
    if mask is None:
        mask = torch.ones(positions, k.shape[2], dtype=torch.bool).tril()
    barred = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, -1e4)
    if barred.dim() == 4:
        barred = barred.expand(batch, heads, -1, -1).flatten(0, 1)
    with torch.autocast("cpu", enabled=False):
        scores = torch.baddbmm(
            barred.expand(batch * heads, -1, -1), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2),
            alpha=width**-0.5 if scale is None else scale,
        )  # fmt: skip
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(batch, heads, positions, -1)


def window_mask(turns: int, per_turn: int, window: int) -> Tensor:
    """bool (positions, positions): causal, reaching back over the last `window` micro-turns of `per_turn` positions."""
    index = torch.arange(turns * per_turn)
    turn = index // per_turn
    return (index[:, None] >= index[None]) & (turn[:, None] - turn[None] < window)
