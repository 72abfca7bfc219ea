"""The ledger against the truth: a provider that counts what it serves, and a gateway that is killed over and over.

`python -m interplay.gateway.ledger.truth --calls 10000` starts a provider and a metering worker as processes of their
own, connected by HTTP, kills the worker with SIGKILL at random moments, starts it again, and compares what the ledger
recorded with what was served: after the provider's bill was taken in, to the picodollar; and before. Before the bill,
a call that was under way when the process died is uncertain: the provider may have refused it, which the gateway did
not live to see, or have sent more than was read. Such calls are recorded as recovered; all others must be exact.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from interplay.gateway.contract import Caller, Usage
from interplay.gateway.ledger.book import Book
from interplay.gateway.ledger.reconcile import BillLine, reconcile
from interplay.gateway.prices import PICO, PriceBook, values_of

MODELS = (
    ("openai", "gpt-5-mini"),
    ("anthropic", "claude-haiku-4-5"),
    ("openai", "gpt-realtime"),
    ("openai", "gpt-live-1"),
)
PARALLEL = 16
CHUNK_BYTES = 70
STUCK_S = 120.0


async def provider(port_file: Path, log_path: Path, seed: int) -> None:
    """Serve random answers as HTTP event streams, and write down every unit before it leaves."""
    rng = random.Random(seed)
    served = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def count(call: str, model: int, usage: dict[str, int]) -> None:
        os.write(served, (json.dumps([call, model, usage]) + "\n").encode())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                model, call = int(fields["X-Model"]), fields["X-Client-Request-Id"]
                if rng.random() < 0.05:
                    writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
                    continue
                first = json.loads(fields["X-Input"])
                count(call, model, first)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for _ in range(rng.randrange(1, 12)):
                    chunk = _chunk(rng, model)
                    count(call, model, chunk)
                    _send(writer, {"delta": chunk})
                    await writer.drain()
                    await asyncio.sleep(rng.choice((0.0, 0.0005, 0.002)))
                _send(writer, {"done": True})
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    draft = port_file.with_suffix(".draft")
    draft.write_text(str(server.sockets[0].getsockname()[1]))
    draft.rename(port_file)
    await server.serve_forever()


async def worker(port: int, ledger: str, delivered: str, seed: int) -> None:
    """What a gateway does around each call, as fast as it can, until it is killed or told to end (end of stdin)."""
    rng = random.Random(seed)
    book = await Book.open(ledger)
    callers = _reopened(Path(delivered))  # what reaches them outlives us, too
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stop.set)

    async def one_by_one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not stop.is_set():
            number = rng.randrange(len(MODELS))
            service, model = MODELS[number]
            entry = await book.begin(
                Caller(f"agent-{rng.randrange(5)}", f"user-{rng.randrange(50)}"),
                route="truth", provider=service, model=model, kind="chat",
            )  # fmt: skip
            first = {"input_tokens": rng.randrange(1, 2000), "requests": 1} if number < 3 else {"requests": 1}
            if number < 2:
                first["cached_tokens"] = rng.randrange(first["input_tokens"])
            head = f"X-Model: {number}\r\nX-Client-Request-Id: {entry.id}\r\nX-Input: {json.dumps(first)}\r\n\r\n"
            entry.usage(Usage(**first))
            writer.write(b"POST /call HTTP/1.1\r\nContent-Length: 0\r\n" + head.encode())
            if b" 429 " in await reader.readuntil(b"\r\n\r\n"):
                entry.reported(Usage())  # a refusal is free
                await entry.end("error", error="429")
                continue
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                event = json.loads((await reader.readexactly(size + 2))[6:])
                if delta := event.get("delta"):
                    entry.usage(Usage(**delta), provider_id=f"r-{entry.id}")
                    os.write(callers, (json.dumps([entry.id, number, delta]) + "\n").encode())
            await reader.readexactly(2)
            await entry.end("ok")
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(one_by_one())
    await book.close()


def _reopened(path: Path) -> int:
    """A descriptor to append records to `path`; what a killed writer left of one stands on a line of its own."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
    return file


async def measure(calls: int, seed: int = 0, *, every: int = 500, folder: Path | None = None) -> dict[str, Any]:
    """Run it. Returns counts and US cents.

    `missing_calls`: served and not in the ledger. `doubled_calls`: rows of a call that has one already, or that cost
    something though nothing was served. `wrong_whole_calls`: calls that no kill cut off and whose cost is not exact.
    `ledger_error_cents`: |recorded - served| after the bill. `uncertain_cents`: the same before it, all of it in calls
    that a kill cut off; `unread_cents`: what the provider had sent and a killed gateway never read.

    every: chunks between two kills, on average.
    """
    with contextlib.ExitStack() as stack:
        at = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="truth-")))
        return await _measure(calls, seed, every, at)


async def _measure(calls: int, seed: int, every: int, at: Path) -> dict[str, Any]:
    rng = random.Random(seed)
    log_path, port_file, ledger = at / "sent.jsonl", at / "port", str(at / "ledger.sqlite")
    handed = at / "delivered.jsonl"
    serving = await _start("provider", str(port_file), str(log_path), str(seed))
    kills = 0
    begun = _Calls(log_path)
    try:
        while not port_file.exists():
            await asyncio.sleep(0.01)
        port = port_file.read_text()
        while True:
            process = await _start("worker", port, ledger, str(handed), str(rng.randrange(2**31)))
            last = kills > 0 and begun.count() >= calls
            # Death comes after a number of chunks rather than after a time: a slow machine is killed as often.
            death = _bytes(handed) + (1 if last else rng.randrange(1, 2 * every * CHUNK_BYTES))
            deadline = time.monotonic() + STUCK_S
            while _bytes(handed) < death:
                if process.returncode is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the worker does not get on (exit code {process.returncode})")
                await asyncio.sleep(0.002)
            if last:
                assert process.stdin is not None
                process.stdin.write(b"\n")  # the last one may end in peace
                await process.wait()
                break
            process.send_signal(signal.SIGKILL)
            await process.wait()
            kills += 1
        return {"kills": kills, **await _compare(ledger, _served(log_path), _served(handed))}
    finally:
        with contextlib.suppress(ProcessLookupError):
            serving.kill()
        await serving.wait()


async def _compare(
    ledger: str, sent: dict[str, tuple[int, Usage]], handed: dict[str, tuple[int, Usage]]
) -> dict[str, Any]:
    prices = PriceBook()

    def cost(model: int, usage: Usage) -> int:
        return prices.price(*MODELS[model]).cost(values_of(usage))

    truth = {call: cost(model, usage) for call, (model, usage) in sent.items()}
    served = {
        call: cost(model, _taken(usage) + handed.get(call, (model, Usage()))[1])
        for call, (model, usage) in sent.items()
    }
    book = await Book.open(ledger)  # recovers what the last kill left, if the last one did not
    try:
        rows = await book.writer.ask(lambda database: database.query("SELECT id, cost_pico, recovered FROM entries"))
        recorded = {row[0]: int(row[1]) for row in rows}
        cut = {row[0] for row in rows if row[2]}
        before = sum(recorded.values()) - sum(served.values())
        whole = sum(recorded.get(call, 0) != cost for call, cost in truth.items() if call not in cut)
        extra = sum(cost > 0 for call, cost in recorded.items() if call not in truth and call not in cut)
        lines = [BillLine(call, cost) for call, cost in truth.items()]
        for service in {service for service, _ in MODELS}:
            ours = [line for line in lines if MODELS[sent[line.id][0]][0] == service]
            await book.writer.ask(lambda database, s=service, b=ours: reconcile(database, s, 0, time.time() + 1, b))
        billed = await book.spent("all", "", 0.0)
    finally:
        await book.close()
    return {
        "calls": len(truth),
        "recovered": len(cut),
        "missing_calls": len(truth.keys() - recorded.keys()),
        "doubled_calls": len(rows) - len(recorded) + extra,
        "wrong_whole_calls": whole,
        "served_usd": sum(served.values()) / PICO,
        "recorded_usd": sum(recorded.values()) / PICO,
        "unread_cents": (sum(truth.values()) - sum(served.values())) / PICO * 100,
        "uncertain_cents": before / PICO * 100,
        "ledger_error_cents": abs(billed - sum(truth.values())) / PICO * 100,
    }


def _taken(usage: Usage) -> Usage:
    """The part of a call's usage that the provider counts when the request arrives."""
    return Usage(input_tokens=usage.input_tokens, cached_tokens=usage.cached_tokens, requests=usage.requests)


def _chunk(rng: random.Random, model: int) -> dict[str, int]:
    if model < 2:
        return {"output_tokens": rng.randrange(1, 40), "tool_calls": int(rng.random() < 0.05)}
    if model == 2:
        tokens = rng.randrange(1, 30)
        return {"output_tokens": tokens, "output_audio_tokens": tokens, "audio_out_ms": tokens * 50}
    return {"session_ms": 200}


def _send(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    raw = f"data: {json.dumps(event)}\n\n".encode()
    writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")


class _Calls:
    """How many different calls a growing log has; reads only what is new in it."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._seen: set[str] = set()

    def count(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                whole = file.read().rpartition(b"\n")[0]
            self._at += len(whole) + 1 if whole else 0
            self._seen.update(json.loads(line)[0] for line in whole.splitlines())
        return len(self._seen)


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _served(path: Path) -> dict[str, tuple[int, Usage]]:
    """Model and units of each call in a log. A record that a kill cut off was not delivered."""
    calls: dict[str, tuple[int, Usage]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            call, model, usage = json.loads(line)
        except ValueError:
            continue
        calls[call] = (model, calls.get(call, (model, Usage()))[1] + Usage(**usage))
    return calls


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "interplay.gateway.ledger.truth", *arguments, stdin=asyncio.subprocess.PIPE
    )


def measure_and_print(measure: Callable[..., Coroutine[Any, Any, dict[str, Any]]], about: str, *, every: int) -> None:
    """The command line of a run against the truth. measure: (calls, seed, every=), `every`: its default here."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=every, help="chunks between kills, on average")
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(measure(chosen.calls, chosen.seed, every=chosen.every)), indent=1))


def main() -> None:
    match sys.argv[1:]:
        case ["provider", port_file, log, seed]:
            asyncio.run(provider(Path(port_file), Path(log), int(seed)))
        case ["worker", port, ledger, delivered, seed]:
            asyncio.run(worker(int(port), ledger, delivered, int(seed)))
        case _:
            measure_and_print(measure, __doc__ or "", every=500)


if __name__ == "__main__":
    main()
