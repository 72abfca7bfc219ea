"""`interplay bench gateway`: what the gateway costs, beside a direct call and beside LiteLLM, in the same run.

Calls of all kinds take turns, so that whatever else the machine does falls on all of them. The provider is a process
on loopback that streams 22 chunks 3 ms apart. CPU is that of the process in the middle, from the kernel's books.

At the end the ledger is held against the truth (`ledger_error_cents`): `truth` calls of a metering process that is
killed over and over, compared with what a provider served.

Options: litellm=PYTHON (the Python of an environment that has `litellm[proxy]`; without it LiteLLM is left out),
streams=200 (how many at a time), round=5 (calls of one kind before the next kind has its turn), truth=N (calls against
the truth; default: as many as n, 0 leaves it out).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interplay.bench.children import child
from interplay.bench.gateway_peer import PROMPT, WORDS
from interplay.bench.task import Result, Setup
from interplay.core.types import BadInput, InterplayError, Missing

PEER = Path(__file__).with_name("gateway_peer.py")
START_S = 600.0  # LiteLLM takes its time, on a busy machine all the more
TEXT = "".join(WORDS)
QUIET: dict[str, Any] = {"stderr": subprocess.DEVNULL}
HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass
class Kind:
    """One way to make the call. cpu: seconds of the process in the middle, or of the client where there is none."""

    name: str
    call: Callable[[int], Any]
    pid: int = 0
    first: list[float] = field(default_factory=list)
    cpu: float = 0.0
    calls: int = 0
    bad: int = 0


def run(setup: Setup) -> Result:
    """n: calls of each kind. Raises Missing where there is no /proc to read CPU and memory from."""
    if not Path("/proc/self/stat").exists():
        raise Missing("this bench reads CPU and memory from /proc: it runs on Linux only")
    return asyncio.run(_run(setup))


async def _run(setup: Setup) -> Result:
    client = _http_client()
    each = max(1, int(setup.number("round", 5, least=1)))
    streams = int(setup.number("streams", 200, least=1))
    python = setup.options.get("litellm", "")
    if python and shutil.which(python) is None:
        raise BadInput(f"--option litellm={python}: no such Python")
    notes: dict[str, Any] = {"load_average": os.getloadavg()[0], "cores": os.cpu_count(), "chunks": len(WORDS)}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interplay-bench-")))
        peer = stack.enter_context(child([sys.executable, str(PEER), "upstream"], stdout=subprocess.PIPE, **QUIET))
        up = f"http://127.0.0.1:{int(_line(peer))}/v1"
        url, ours = await _our_gateway(stack, folder, up)
        http = await stack.enter_async_context(client)
        kinds = [
            Kind("direct", lambda n: _posts(http, up, "bench", n), os.getpid()),
            Kind("gateway", lambda n: _posts(http, url, "bench", n), ours.pid),
        ]
        native = await stack.enter_async_context(_native(folder, up))
        kinds.append(Kind("native", native, os.getpid()))
        if python:
            proxy_url, proxy = await _litellm_proxy(stack, folder, python, up)
            kinds.append(Kind("litellm_proxy", lambda n: _posts(http, proxy_url, "bench", n), proxy.pid))
            sdk = stack.enter_context(
                child([python, str(PEER), "litellm-sdk", up], stdout=subprocess.PIPE, stdin=subprocess.PIPE, **QUIET)
            )
            if await asyncio.to_thread(_line, sdk) != "ready":
                raise InterplayError("LiteLLM's SDK did not start")
            kinds.append(Kind("litellm_sdk", lambda n: _ask(sdk, n)))
        setup.advance(0, total=setup.n * len(kinds))
        for kind in kinds:  # the first calls load and connect
            await kind.call(2)
        await _rounds(kinds, setup, each)
        many = await _many(http, url, ours.pid, streams)
    if truth := int(setup.number("truth", setup.n)):
        many |= await _truth(truth, setup.seed, notes)
    return _result(kinds, many, notes, setup.n, streams)


async def _truth(calls: int, seed: int, notes: dict[str, Any]) -> dict[str, float]:
    """The ledger after that many calls and the kills among them, against what was served; see `ledger/truth.py`."""
    from interplay.gateway.ledger.truth import measure

    found = await measure(calls, seed, every=min(500, 2 * calls))
    notes["truth"] = {name: found[name] for name in ("calls", "kills", "recovered", "served_usd", "recorded_usd")}
    names = ("missing_calls", "doubled_calls", "wrong_whole_calls", "uncertain_cents", "unread_cents")
    told = {f"ledger.{name}": float(found[name]) for name in names}
    return {"ledger_error_cents": found["ledger_error_cents"], **told}


async def _rounds(kinds: list[Kind], setup: Setup, each: int) -> None:
    order = random.Random(setup.seed)
    left = setup.n
    while left > 0:
        n = min(each, left)
        left -= n
        for kind in order.sample(kinds, len(kinds)):
            before = _cpu(kind.pid) if kind.pid else 0.0
            found = await kind.call(n)
            kind.cpu += found["cpu"] if "cpu" in found else _cpu(kind.pid) - before
            kind.first += found["first"]
            kind.bad += found["bad"]
            kind.calls += n
            setup.advance(n)


def _result(kinds: list[Kind], many: dict[str, float], notes: dict[str, Any], n: int, streams: int) -> Result:
    by = {kind.name: kind for kind in kinds}
    metrics: dict[str, float] = {}
    for kind in kinds:
        firsts = sorted(kind.first)
        metrics[f"{kind.name}.ttft_ms"] = 1000 * statistics.median(firsts)
        metrics[f"{kind.name}.ttft_p99_ms"] = 1000 * firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))]
        metrics[f"{kind.name}.cpu_ms"] = 1000 * kind.cpu / kind.calls
        metrics[f"{kind.name}.bad"] = float(kind.bad)
    metrics["added_ttft_ms"] = metrics["gateway.ttft_ms"] - metrics["direct.ttft_ms"]
    metrics["added_ttft_p99_ms"] = metrics["gateway.ttft_p99_ms"] - metrics["direct.ttft_p99_ms"]
    if "litellm_proxy" in by:
        metrics["cpu_ratio_litellm"] = metrics["gateway.cpu_ms"] / metrics["litellm_proxy.cpu_ms"]
        metrics["cpu_ratio_litellm_sdk"] = metrics["native.cpu_ms"] / metrics["litellm_sdk.cpu_ms"]
        metrics["litellm_added_ttft_ms"] = metrics["litellm_proxy.ttft_ms"] - metrics["direct.ttft_ms"]
    else:
        notes["litellm"] = "left out: give --option litellm=PYTHON of an environment with litellm[proxy]"
    low, high = _interval(by["gateway"].first, by["direct"].first)
    return Result(n, {**metrics, **many}, {"added_ttft_ms": (low, high)}, notes={**notes, "streams": streams})


def _interval(ours: list[float], direct: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the difference of medians, in ms."""
    dice = random.Random(0)
    found = sorted(
        1000
        * (statistics.median(dice.choices(ours, k=len(ours))) - statistics.median(dice.choices(direct, k=len(direct))))
        for _ in range(400)
    )
    return found[10], found[389]


async def _posts(http: Any, base: str, model: str, n: int) -> dict[str, Any]:
    """n calls one after the other over HTTP; time to the first words."""
    first, bad = [], 0
    for _ in range(n):
        at, text = await _post(http, base, model)
        first.append(at)
        bad += text != TEXT
    return {"first": first, "bad": bad}


async def _post(http: Any, base: str, model: str) -> tuple[float, str]:
    began, at, text, rest = time.perf_counter(), 0.0, [], b""
    body = {"model": model, "messages": PROMPT, "stream": True}
    async with http.stream("POST", f"{base}/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise InterplayError(f"{base}: status {response.status_code}: {(await response.aread())[:300]!r}")
        async for data in response.aiter_raw():
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                if b'"content":' not in block:
                    continue
                choices = json.loads(block[block.index(b"{") :])["choices"]
                if choices and (words := choices[0]["delta"].get("content")):
                    at = at or time.perf_counter() - began
                    text.append(words)
    return at, "".join(text)


async def _many(http: Any, url: str, pid: int, streams: int) -> dict[str, float]:
    """So many streams at a time through the gateway: all complete, and what they cost in memory."""
    before = _memory(pid, "VmRSS")
    began = time.perf_counter()
    found = await asyncio.gather(*(_post(http, url, "bench") for _ in range(streams)))
    wall = time.perf_counter() - began
    peak = _memory(pid, "VmHWM")
    await asyncio.gather(*(_post(http, url, "bench") for _ in range(streams)))
    return {
        "streams.bad": float(sum(text != TEXT for _, text in found)),
        "streams.wall_s": wall,
        "streams.ttft_ms": 1000 * statistics.median(at for at, _ in found),
        "streams.rss_before_mb": before,
        "streams.rss_peak_mb": peak,
        "streams.rss_again_mb": _memory(pid, "VmHWM"),
        "streams.kb_each": 1024 * max(0.0, peak - before) / streams,
    }


def _http_client() -> Any:
    """The client of the direct call and of the calls through proxies: httpx, or httpx2 where that is installed."""
    try:
        import httpx as http
    except ImportError:
        try:
            import httpx2 as http  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise Missing('this bench needs httpx; get it with: pip install "interplay[dev]"') from error
    limits = http.Limits(max_connections=None)
    return http.AsyncClient(timeout=60.0, trust_env=False, limits=limits)  # pyright: ignore[reportArgumentType]


async def _our_gateway(stack: Any, folder: Path, up: str) -> tuple[str, subprocess.Popen[str]]:
    port = _free_port()
    config = _config(folder, up)
    command = [sys.executable, "-m", "interplay.cli", "gateway", "serve", "--config", str(config), "--port", str(port)]
    env = {**os.environ, "INTERPLAY_LEDGER": str(folder / "served.db")}
    served = stack.enter_context(child(command, env=env, stdout=subprocess.DEVNULL, **QUIET))
    await _listening(served, port, "the gateway")
    return f"http://127.0.0.1:{port}/v1", served


def _config(folder: Path, up: str) -> Path:
    """One priced route over one provider: ledger, policy and routing all take part."""
    path = folder / "gateway.toml"
    path.write_text(
        f'[providers.peer]\nbase_url = "{up}"\nwires = ["chat"]\n[routes.bench]\ntargets = ["peer/bench"]\n'
        '[prices."peer/*"]\ninput_tokens = 1.0\noutput_tokens = 2.0\n'
    )
    return path


@contextlib.asynccontextmanager
async def _native(folder: Path, up: str) -> AsyncIterator[Callable[[int], Any]]:
    """Calls from Python without HTTP in between."""
    from interplay.gateway.gateway import Gateway

    os.environ.setdefault("INTERPLAY_LEDGER", str(folder / "native.db"))
    async with await Gateway.open(_config(folder, up), watch=False) as gateway:

        async def calls(n: int) -> dict[str, Any]:
            first, bad = [], 0
            for _ in range(n):
                began, at, text = time.perf_counter(), 0.0, []
                async for words in gateway.talk("bench", PROMPT):
                    at = at or time.perf_counter() - began
                    text.append(words)
                first.append(at)
                bad += "".join(text) != TEXT
            return {"first": first, "bad": bad}

        yield calls


async def _litellm_proxy(stack: Any, folder: Path, python: str, up: str) -> tuple[str, subprocess.Popen[str]]:
    port = _free_port()
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n      api_base: {up}\n"
        "      api_key: none\nlitellm_settings:\n  telemetry: false\n"
    )
    program = Path(python).with_name("litellm")
    if not program.exists():
        raise Missing(f"{program} is not there: that environment needs litellm[proxy]")
    # No key, no price map from the network: as bare as it gets, so that it is not measured for what we do not do.
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
           "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # fmt: skip
    command = [str(program), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    proxy = stack.enter_context(child(command, env=env, stdout=subprocess.DEVNULL, **QUIET))
    await _listening(proxy, port, "LiteLLM's proxy")
    return f"http://127.0.0.1:{port}/v1", proxy


async def _ask(process: subprocess.Popen[str], n: int) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(f"{n}\n")
    process.stdin.flush()
    return json.loads(await asyncio.to_thread(_line, process))


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise InterplayError(f"{' '.join(map(str, process.args[:3]))} ended early")  # pyright: ignore[reportIndexIssue, reportArgumentType]
    return line


async def _listening(process: subprocess.Popen[str], port: int, what: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InterplayError(f"{what} ended with code {process.returncode} before it listened")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise InterplayError(f"{what} did not listen within {START_S:g} s")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _cpu(pid: int) -> float:
    """CPU seconds of a process and of its children, so far."""
    if pid == os.getpid():
        return time.process_time()
    total = _ticks(pid)
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += _ticks(int(child))
    return total / HZ


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _memory(pid: int, name: str) -> float:
    """MB of a process: VmRSS now, VmHWM at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0
