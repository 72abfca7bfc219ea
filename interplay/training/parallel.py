"""Data parallelism between processes of one machine: every rank has the model, a share of each batch, one thread.

Two processes with one thread each, not one process with two: on small shared machines OpenMP threads that wait for each
other lose more than they bring.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Share:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Rank 0 logs, tests and saves."""
        return self.rank == 0

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace the tensors by their mean over all ranks, in place, in one message."""
        self._reduce(tensors, 1 / self.count)

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace the tensors by their sum over all ranks, in place, in one message."""
        self._reduce(tensors, 1.0)

    def _reduce(self, tensors: list[Tensor], scale: float) -> None:
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat *= scale
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def run(work: Callable[..., None], count: int, *, others: Callable[..., None]) -> None:
    """Run `work(share=...)` here as rank 0 and `others(share=...)` in `count` - 1 children. Returns when all are done.

    `others` has to be picklable. If one rank fails, the others end with it.
    """
    if count == 1:
        work(share=Share())
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    children = [context.Process(target=_child, args=(others, rank, count, port)) for rank in range(1, count)]
    for child in children:
        child.start()
    try:
        _join(0, count, port)
        work(share=Share(0, count))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for child in children:
            child.join(timeout=10)
            if child.is_alive():
                child.terminate()


def _child(work: Callable[..., None], rank: int, count: int, port: int) -> None:
    torch.set_num_threads(1)
    _join(rank, count, port)
    work(share=Share(rank, count))


def _join(rank: int, count: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
