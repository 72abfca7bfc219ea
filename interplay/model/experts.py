"""A mixture of experts: each position goes to a few of many feed-forwards (Shazeer et al. 2017, arXiv 1701.06538).

The dense feed-forward of the block stays as the shared expert (Dai et al. 2024, arXiv 2401.06066). Load is balanced
without an auxiliary loss: a bias that only the choice sees moves against each expert's load (Wang et al. 2024, arXiv
2408.15664). Two paths compute the same: `grouped` sorts many positions by expert, `gathered` fetches the chosen
weights for the handful of positions of a live micro-turn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.model.config import ModelConfig

FEW = 16  # (position, expert) pairs up to which fetching weights beats sorting positions
BALANCE_RATE = 0.001


class Experts(nn.Module):
    """`config.experts` SwiGLU feed-forwards of `config.expert_width`, `config.active` of them per position."""

    bias: Tensor
    load: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.expert_width
        self.active = config.active
        self.router = nn.Linear(width, config.experts, bias=False)
        self.up = nn.Parameter(torch.randn(config.experts, width, 2 * hidden) * width**-0.5)
        self.down = nn.Parameter(torch.zeros(config.experts, hidden, width))
        self.register_buffer("bias", torch.zeros(config.experts))
        self.register_buffer("load", torch.zeros(config.experts), persistent=False)

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (rows, width) -> weights (rows, active), which sum to 1, and experts int64 (rows, active)."""
        scores = self.router(x).sigmoid()
        chosen = (scores + self.bias).topk(self.active, -1).indices
        weights = scores.gather(-1, chosen)
        return weights / weights.sum(-1, keepdim=True), chosen

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width) normalised positions -> what the experts add, same shape."""
        rows = x.flatten(0, -2)
        weights, chosen = self.route(rows)
        if self.training:
            with torch.no_grad():
                self.load += torch.bincount(chosen.flatten(), minlength=len(self.bias))
        few = chosen.numel() <= FEW and not self.training
        return (self.gathered if few else self.grouped)(rows, weights, chosen).view_as(x)

    def gathered(self, rows: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Fetch each pair's expert and multiply it with its one row: batched matrix-vector products."""
        pairs = rows.repeat_interleave(self.active, 0)[:, None]
        gate, value = torch.bmm(pairs, self.up[chosen.flatten()]).chunk(2, -1)
        out = torch.bmm(F.silu(gate) * value, self.down[chosen.flatten()])
        return (out.view(len(rows), self.active, -1) * weights[..., None]).sum(1)

    def grouped(self, rows: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Sort the pairs by expert; each expert sees all its rows in one product."""
        expert = chosen.flatten()
        order = expert.argsort(stable=True)
        row = order // self.active
        counts = torch.bincount(expert, minlength=len(self.up)).tolist()
        parts = []
        for e, part in enumerate(rows[row].split(counts)):
            if len(part):
                gate, value = (part @ self.up[e]).chunk(2, -1)
                parts.append((F.silu(gate) * value) @ self.down[e])
        out = torch.cat(parts) * weights.flatten()[order, None]
        return torch.zeros_like(rows).index_add(0, row, out.to(rows.dtype))

    @torch.no_grad()
    def balance(self) -> None:
        """After a training step: make crowded experts less likely to be chosen. `load` starts anew."""
        self.bias += BALANCE_RATE * (self.load.mean() - self.load).sign()
        self.load.zero_()
