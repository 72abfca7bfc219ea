"""Muon for the transformer's matrices, AdamW for everything else.

Muon (K. Jordan 2024, kellerjordan.github.io/posts/muon): momentum, then the nearest (semi-)orthogonal matrix by a
Newton-Schulz iteration; the update is scaled to the size AdamW's would have (Liu et al. 2025, arXiv 2502.16982). The
iteration runs in bf16 where training does, else in the weights' own precision: on CPUs without bf16 units, bf16
products are some 20 times slower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interplay.training.parallel import Share


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The orthogonal factor of `matrix` (rows, columns), singular values pushed into about [0.7, 1.2]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.shape[-2] > matrix.shape[-1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for 2-D parameters. The ranks of `share` divide the matrices among them."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
        share: Share | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.share, self.dtype = share or Share(), dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            updates = []
            for number, p in enumerate(params):
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"]
                m.lerp_(p.grad, 1 - group["momentum"])
                mine = number % self.share.count == self.share.rank
                if mine:
                    update = orthogonalise(p.grad.lerp(m, group["momentum"]).to(self.dtype)).to(p.dtype)
                updates.append(update if mine else torch.zeros_like(p))
            self.share.sum(updates)
            for p, update in zip(params, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape[-2:]) ** 0.5)


def build(
    model: nn.Module,
    lr: float,
    share: Share | None = None,
    beside: nn.Module | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """Muon (8 x `lr`) for the matrices of the blocks, the eyes and the word projections, AdamW (`lr`) for the rest and
    for what is trained `beside` the model. dtype: of Muon's iteration."""
    names = ("blocks.", "feed_", "heard.", "said.", "eyes.stem.linear", "eyes.merge")
    matrices = [
        p for n, p in model.named_parameters() if p.ndim >= 2 and n.startswith(names) and not n.startswith("feed_clock")
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen] + list(beside.parameters() if beside else ())
    return [
        Muon(matrices, lr=8 * lr, share=share, dtype=dtype),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
