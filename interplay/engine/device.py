"""Which device an engine computes on, and what has to be set there before bits mean anything."""

from __future__ import annotations

import os

import torch

from interplay.core.types import BadInput

VARIABLE = "INTERPLAY_DEVICE"
NOT_ALONE = (
    "a process of its own keeps its sessions in this machine's memory, not a GPU's: run the engine on a thread "
    "(--engine thread), or on the CPU (INTERPLAY_DEVICE=cpu)"
)


def choose(name: str | torch.device | None = None) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`, or `auto` for CUDA where there is some. None: what INTERPLAY_DEVICE says, else the CPU.

    Raises BadInput for anything else, and for CUDA where there is none.
    """
    asked = str(name or os.environ.get(VARIABLE) or "cpu").strip().lower()
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise BadInput(f"an engine computes on cpu, cuda, cuda:N or auto, not {asked!r}")
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise BadInput(f"there is no {asked} here (torch {torch.__version__} sees {count}): use cpu, or auto")
    return torch.device("cuda", device.index or 0)


def prepare(device: torch.device) -> None:
    """Settings of this process that an engine on CUDA relies on: full float32 products, and one fixed workspace for
    them, without which cuBLAS may sum in another order from call to call. Nothing on a CPU."""
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
