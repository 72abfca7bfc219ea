"""Child processes of benches and tests: started with a block, ended with it whatever happens."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 10.0


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the end of the block; asked to end, and killed if it does not. options: of Popen."""
    process: subprocess.Popen[str] = subprocess.Popen(list(command), text=True, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and kill it after PATIENCE_S."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
