"""What the machine at hand can do: whether bf16 pays (measured, since many CPUs only emulate it), whether a compiler
is there."""

from __future__ import annotations

import os
import shutil
import sysconfig
import time
from functools import cache
from pathlib import Path

import torch

SIDE, TRIES = 768, 5


@cache
def pays(device: str) -> bool:
    """Are products in bf16 clearly faster than in float32 there? device: as PyTorch names it; every GPU's are."""
    if not device.startswith("cpu"):
        return True
    return 1.5 * _seconds(torch.bfloat16) < _seconds(torch.float32)


def can_compile() -> bool:
    """Is there what torch.compile needs on a CPU: a C++ compiler and Python's headers?"""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(os.environ.get("CXX", "g++")) is not None and headers.is_file()


def _seconds(kind: torch.dtype) -> float:
    """The fastest of a few products: whatever else runs here makes them slower, never faster."""
    a = torch.randn(SIDE, SIDE).to(kind)
    torch.mm(a, a)
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        torch.mm(a, a)
        times.append(time.perf_counter() - began)
    return min(times)
