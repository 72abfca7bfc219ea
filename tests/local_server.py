"""A real OpenAI-compatible server with a real local model: llama.cpp and SmolLM2-135M in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

SERVE = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.cpuparams.n_threads = sys.argv[1], 4096, 1, False, 1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
time.sleep(3600)
"""


@asynccontextmanager
async def local_server() -> AsyncIterator[str]:
    """Its address, with /v1. Skips the test where the extra `local` or its weights are not installed."""
    from interplay.background.local import weights
    from interplay.core.types import Missing

    pytest.importorskip("xllamacpp")
    try:
        path = weights()
    except Missing as missing:
        pytest.skip(str(missing))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVE, str(path), stdout=-1, stderr=-3)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(300):
            address = (await process.stdout.readline()).decode().strip()
        yield f"{address}/v1"
    finally:
        process.kill()
        await process.wait()
