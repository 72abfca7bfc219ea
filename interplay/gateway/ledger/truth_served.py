"""The same truth through the whole gateway: `interplay gateway serve` as it runs for users, killed over and over.

`python -m interplay.gateway.ledger.truth_served --calls 10000` starts a provider that counts what it serves (OpenAI's
and Anthropic's protocol; it refuses, fails and breaks off at random), the gateway in front of it, and callers, some of
which hang up. The gateway is killed with SIGKILL at random moments and started again. At the end the provider's bill is
taken in as `interplay gateway reconcile` does, matched by nothing but the id that the gateway sends with each request.

`truth.py` measures the ledger alone, with the units that providers report as they go. Here providers report at the end
of an answer, as they do, so what a kill, a hang-up or a broken answer cut off is an estimate until the bill comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from interplay.gateway.contract import Usage
from interplay.gateway.ledger.book import Book
from interplay.gateway.ledger.reconcile import read_bill, reconcile
from interplay.gateway.ledger.truth import measure_and_print
from interplay.gateway.prices import PICO, PriceBook, usd, values_of

MODELS = {"gpt-5-mini": "openai", "claude-haiku-4-5": "anthropic"}
CALLERS = 16
REFUSES, FAILS, BREAKS, HANGS_UP, WHOLE = 0.05, 0.02, 0.04, 0.03, 0.2  # shares of calls; whole: not streamed
STUCK_S = 240.0

CONFIG = """
[providers.openai]
base_url = "http://127.0.0.1:{port}/v1"
wires = ["chat"]
[providers.anthropic]
base_url = "http://127.0.0.1:{port}/v1"
[routes.mix]
strategy = "weighted"
fails = 1000
cool_down_s = 0
targets = ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]
"""


def text_of(seed: int) -> str:
    """The one right answer to a question: words that tell where they belong."""
    return " ".join(f"{seed}.{place}" for place in range(random.Random(seed).randrange(2, 25)))


async def provider(port_file: Path, log_path: Path, seed: int) -> None:
    """Serve, and write down every unit before it leaves."""
    rng = random.Random(seed)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:])}
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                if not await answer(_Answer(writer, body, fields["x-client-request-id"], rng, log)):
                    break
        writer.close()

    async def answer(one: _Answer) -> bool:
        fate = rng.random()
        if fate < REFUSES + FAILS:
            status = b"429 Slow Down" if fate < REFUSES else b"500 Oh"
            one.writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
            return True
        one.count(input_tokens=rng.randrange(5, 3000))
        words = one.words()
        if not one.body.get("stream"):
            one.count(output_tokens=len(words) * 2)
            await one.whole(words)
            return True
        end = rng.randrange(len(words)) if fate < REFUSES + FAILS + BREAKS and words else -1
        await one.begin()
        for place, word in enumerate(words):
            if place == end:
                return False
            one.count(output_tokens=rng.randrange(1, 6))
            await one.word(word)
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.004)))
        await one.finish()
        return True

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    draft = port_file.with_suffix(".draft")
    draft.write_text(str(server.sockets[0].getsockname()[1]))
    draft.rename(port_file)
    await server.serve_forever()


class _Answer:
    """One answer of the provider, in the protocol that its model speaks."""

    def __init__(self, writer: asyncio.StreamWriter, body: Any, entry: str, rng: random.Random, log: int) -> None:
        self.writer, self.body, self.entry = writer, body, entry
        self._log, self._used = log, {"input_tokens": 0, "output_tokens": 0}
        self._claude = MODELS[body["model"]] == "anthropic"

    def count(self, **units: int) -> None:
        for name, more in units.items():
            self._used[name] += more
        os.write(self._log, (json.dumps([self.entry, self.body["model"], units]) + "\n").encode())

    def words(self) -> list[str]:
        """What is to be said: the answer, or what is left of it where another broke off."""
        turns = [(turn["role"], _plain(turn["content"])) for turn in self.body["messages"]]
        text = text_of(int(next(said for role, said in turns if role == "user").rpartition(" ")[2]))
        said = turns[-2][1] if len(turns) > 2 and turns[-2][0] == "assistant" else ""
        return re.findall(r"\S*\s|\S+$", text[len(said) :])

    async def whole(self, words: list[str]) -> None:
        data = json.dumps(self._message("".join(words)) if self._claude else self._completion("".join(words))).encode()
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        self.writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        await self.writer.drain()

    async def begin(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if self._claude:
            await self._event({"type": "message_start", "message": self._message("")})
            block = {"type": "text", "text": ""}
            await self._event({"type": "content_block_start", "index": 0, "content_block": block})

    async def word(self, word: str) -> None:
        delta = {"type": "text_delta", "text": word}
        await self._event(
            {"type": "content_block_delta", "index": 0, "delta": delta} if self._claude else self._chunk(word)
        )

    async def finish(self) -> None:
        if self._claude:
            await self._event({"type": "content_block_stop", "index": 0})
            used = {"output_tokens": self._used["output_tokens"]}
            await self._event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": used})
            await self._event({"type": "message_stop"})
        else:
            await self._event(self._chunk("", "stop"))
            await self._event({**self._chunk(""), "choices": [], "usage": self._usage()})
            await self._put(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def _usage(self) -> dict[str, int]:
        given, made = self._used["input_tokens"], self._used["output_tokens"]
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}

    def _chunk(self, word: str, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": finish}
        return {"id": f"r-{self.entry}", "object": "chat.completion.chunk", "created": 1,
                "model": self.body["model"], "choices": [choice]}  # fmt: skip

    def _completion(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"id": f"r-{self.entry}", "object": "chat.completion", "created": 1, "model": self.body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": self._usage()}  # fmt: skip

    def _message(self, text: str) -> dict[str, Any]:
        return {"id": f"r-{self.entry}", "type": "message", "role": "assistant", "model": self.body["model"],
                "content": [{"type": "text", "text": text}] if text else [],
                "stop_reason": "end_turn" if text else None, "usage": dict(self._used)}  # fmt: skip

    async def _event(self, event: dict[str, Any]) -> None:
        name = f"event: {event['type']}\n" if "type" in event else ""
        await self._put(f"{name}data: {json.dumps(event)}\n\n".encode())

    async def _put(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()


class Callers:
    """Those who call the gateway until there were enough calls. `alive` says whether it runs."""

    def __init__(self, url: str, calls: int, seed: int) -> None:
        self.url, self.calls = url, calls
        self.alive = asyncio.Event()
        self.begun = self.chunks = 0
        self.told: dict[str, int] = {"whole": 0, "wrong_text": 0, "refused": 0, "hung_up": 0, "cut_by_kill": 0}
        self._rng = random.Random(seed)

    async def run(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(force_close=True)  # a kept connection would die with the gateway, unused
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._one_by_one(session))

    async def _one_by_one(self, session: Any) -> None:
        import aiohttp

        while self.begun < self.calls:
            await self.alive.wait()
            self.begun += 1
            try:
                self.told[await self._call(session, self.begun)] += 1
            except (aiohttp.ClientError, OSError, TimeoutError):
                self.told["cut_by_kill"] += 1
                await asyncio.sleep(0.01)

    async def _call(self, session: Any, seed: int) -> str:
        stream, patience = self._rng.random() >= WHOLE, 10**9
        if stream and self._rng.random() < HANGS_UP:
            patience = self._rng.randrange(5)
        body = {"model": "mix", "stream": stream, "messages": [{"role": "user", "content": f"Question {seed}"}]}
        headers = {"x-interplay-agent": f"agent-{seed % 5}"}
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
            if response.status != 200:
                return "refused"
            text, ended = "", False
            if not stream:
                self.chunks += 1
                text, ended = (await response.json())["choices"][0]["message"]["content"], True
            else:
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        ended = ended or line.startswith(b"data: [DONE]")
                        continue
                    event = json.loads(line[6:])
                    if "error" in event:
                        return "refused"
                    text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                    self.chunks += 1
                    patience -= 1
                    if patience < 0:
                        return "hung_up"
        if not ended:
            return "cut_by_kill"
        return "whole" if text == text_of(seed) else "wrong_text"


async def measure(calls: int, seed: int = 0, *, every: int = 2000, folder: Path | None = None) -> dict[str, Any]:
    """Run it. every: chunks between two kills, on average. Returns counts and US cents, see `_compare`."""
    with contextlib.ExitStack() as stack:
        at = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="truth-")))
        return await _measure(calls, seed, every, at)


async def _measure(calls: int, seed: int, every: int, at: Path) -> dict[str, Any]:
    rng, kills = random.Random(seed), 0
    log, port_file, ledger = at / "sent.jsonl", at / "port", at / "ledger.sqlite"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving = await _start(["-m", __name__ if __name__ != "__main__" else "interplay.gateway.ledger.truth_served",
                            "provider", str(port_file), str(log), str(seed)])  # fmt: skip
    callers = Callers(f"http://127.0.0.1:{port}", calls, seed)
    work = asyncio.create_task(callers.run())
    try:
        while not port_file.exists():
            await asyncio.sleep(0.01)
        config = at / "gateway.toml"
        config.write_text(CONFIG.format(port=port_file.read_text()))
        while not work.done():
            async with _gateway(config, ledger, port) as running:
                callers.alive.set()
                # Death comes after a number of chunks rather than after a time: a slow machine is killed as often.
                death, deadline = callers.chunks + rng.randrange(1, 2 * every), time.monotonic() + STUCK_S
                while not work.done() and callers.chunks < death:
                    if running.returncode is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"the gateway does not get on (exit code {running.returncode})")
                    await asyncio.sleep(0.002)
                callers.alive.clear()
                if not work.done():
                    running.send_signal(signal.SIGKILL)
                    kills += 1
        await work
    finally:
        work.cancel()
        with contextlib.suppress(ProcessLookupError):
            serving.kill()
        await serving.wait()
    return {"begun": callers.begun, "kills": kills, **callers.told, **await _compare(str(ledger), log, at)}


@contextlib.asynccontextmanager
async def _gateway(config: Path, ledger: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """`interplay gateway serve`, ready; asked to end with the block if nobody killed it."""
    keys = {"OPENAI_API_KEY": "sk-truth-openai", "ANTHROPIC_API_KEY": "sk-truth-anthropic"}
    env = {**os.environ, **keys, "INTERPLAY_LEDGER": str(ledger), "INTERPLAY_HOME": str(ledger.parent)}
    command = ["-m", "interplay.cli", "gateway", "serve", "--config", str(config), "--port", str(port)]
    process = await _start(command, env=env, stdout=asyncio.subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            if process.returncode is not None:
                raise RuntimeError(f"the gateway does not start (exit code {process.returncode})")
            await asyncio.sleep(0.02)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _compare(ledger: str, log: Path, at: Path) -> dict[str, Any]:
    """The ledger against the provider's own count, before and after its bill.

    served: requests that the provider took, with what they cost. missing: of those, not in the ledger. inexact: whole
    answers that nothing cut off, and whose cost is not the served one to the picodollar, before any bill.
    uncertain_cents: recorded less served before the bill. unbilled_cents: recorded for requests that never arrived.
    """
    truth = _served(log)
    book = await Book.open(ledger)  # recovers what the last kill left, if no later start did
    try:
        sql = "SELECT id, provider, cost_pico, status, recovered, estimated FROM entries"
        rows = await book.writer.ask(lambda database: database.query(sql))
        recorded = {row[0]: int(row[2]) for row in rows}
        whole = [row for row in rows if row[3] == "ok" and not row[4] and not row[5]]
        until = time.time() + 1
        for service in set(MODELS.values()):
            bill = at / f"{service}.csv"
            with bill.open("w", newline="") as file:
                out = csv.writer(file)
                out.writerow(["id", "usd"])
                out.writerows([entry, usd(cost)] for entry, (owner, cost) in truth.items() if owner == service)
            lines = read_bill(bill)
            await book.writer.ask(lambda database, s=service, b=lines: reconcile(database, s, 0, until, b))
        billed = await book.spent("all", "", 0.0)
        sql = "SELECT COALESCE(SUM(billed_pico), 0), COUNT(*) FROM entries WHERE billed_pico = 0 AND cost_pico > 0"
        free = await book.writer.ask(lambda database: database.query(sql))
    finally:
        await book.close()
    served = sum(cost for _, cost in truth.values())
    return {
        "attempts": len(rows),
        "served": len(truth),
        "exact": sum(row[0] in truth and int(row[2]) == truth[row[0]][1] for row in whole),
        "inexact": sum(row[0] not in truth or int(row[2]) != truth[row[0]][1] for row in whole),
        "recovered": sum(int(row[4]) for row in rows),
        "never_arrived": int(free[0][1]),
        "missing": len(truth.keys() - recorded.keys()),
        "served_usd": served / PICO,
        "recorded_usd": sum(recorded.values()) / PICO,
        "uncertain_cents": (sum(recorded.values()) - served) / PICO * 100,
        "ledger_error_cents": abs(billed - served) / PICO * 100,
    }


def _served(log: Path) -> dict[str, tuple[str, int]]:
    """Provider and picodollars of every request that was taken."""
    prices, used = PriceBook(), {}
    for line in log.read_text().splitlines():
        entry, model, units = json.loads(line)
        used[entry] = (model, used.get(entry, (model, Usage()))[1] + Usage(**units))
    return {
        entry: (MODELS[model], prices.price(MODELS[model], model).cost(values_of(usage)))
        for entry, (model, usage) in used.items()
    }


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def _start(arguments: list[str], **options: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, **options)


def main() -> None:
    if sys.argv[1:2] == ["provider"]:
        port_file, log, seed = sys.argv[2:]
        asyncio.run(provider(Path(port_file), Path(log), int(seed)))
        return
    measure_and_print(measure, __doc__ or "", every=2000)


if __name__ == "__main__":
    main()
