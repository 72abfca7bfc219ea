"""Processes for the gateway tests: scripted upstreams and a running gateway, started for real and cleaned up."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from interplay.bench.children import child

ROOT = Path(__file__).parent.parent
SECRET = "sk-upstream-" + "s3cr3t" * 4


def process(*command: str, env: dict[str, str] | None = None) -> AbstractContextManager[subprocess.Popen[str]]:
    """A child process under this Python that is ended with the block."""
    return child(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
    )  # fmt: skip


@contextlib.contextmanager
def upstream() -> Iterator[str]:
    """A scripted provider; gives its address."""
    with process("-m", "tests.gateway_upstream") as provider:
        assert provider.stdout is not None
        yield f"http://127.0.0.1:{int(provider.stdout.readline())}"


@contextlib.contextmanager
def gateway(config: Path, home: Path, **env: str) -> Iterator[str]:
    """`interplay gateway serve` with this config; gives its address. home: where its ledger goes."""
    port = free_port()
    more = {"INTERPLAY_LEDGER": str(home / "ledger.db"), "UP_KEY": SECRET, **env}
    with process(
        "-m", "interplay.cli", "gateway", "serve", "--config", str(config), "--port", str(port), env=more
    ) as c:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).read()
                break
            except OSError:
                if c.poll() is not None:
                    raise AssertionError(f"the gateway ended: {c.stderr.read() if c.stderr else ''}") from None
                assert time.monotonic() < deadline, "the gateway did not start"
                time.sleep(0.05)
        yield url


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def asked(url: str) -> list[dict]:
    """What a scripted upstream was asked since the last look."""
    return json.loads(urllib.request.urlopen(f"{url}/log").read())["log"]


def config(path: Path, up: str, routes: str = "", more: str = "") -> Path:
    """A config file with two providers that are the same upstream, `a` and `b`, and an Anthropic-like one, `claude`."""
    path.write_text(
        f"""
[providers.a]
base_url = "{up}/v1"
keys = ["UP_KEY"]
wires = ["chat", "responses", "embeddings"]

[providers.b]
base_url = "{up}/v1"
keys = ["UP_KEY"]
wires = ["chat", "embeddings"]

[providers.claude]
base_url = "{up}/v1"
keys = ["UP_KEY"]
wires = ["messages"]

[times]
connect_s = 1
first_s = 3
idle_s = 1
whole_s = 3
deadline_s = 20
{routes}
{more}
"""
    )
    return path
