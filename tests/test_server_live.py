"""The server over real sockets, in this process so that what it holds can be counted. A scripted mind, a real voice."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from interplay.core.timeline import read_timeline
from interplay.server import wire
from interplay.server.app import create_app
from interplay.server.house import House
from interplay.server.live import MAX_MESSAGE_BYTES, address, listen
from tests.live_app import EVERY, FIRST, HEARD, WORD, house

FRAME = np.zeros(320, "<i2").tobytes()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Serving:
    house: House
    url: str

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws") + "ws"

    async def get(self, path: str, host: str | None = None) -> Answer:
        """The path as it is written, which clients that tidy up `..` do not send."""
        return await asyncio.to_thread(self._get, path, host)

    def _get(self, path: str, host: str | None) -> Answer:
        netloc = self.url.split("/")[2]
        with contextlib.closing(http.client.HTTPConnection(netloc, timeout=10)) as client:
            client.request("GET", path, headers={"Host": host or netloc})
            got = client.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())

    @contextlib.asynccontextmanager
    async def talk(self, rate: int = 16_000, **options) -> AsyncIterator[ClientConnection]:
        async with connect(self.socket_url, **options) as page:
            await page.send(json.dumps({"type": "hello", "rate": rate}))
            assert json.loads(await page.recv())["type"] == "ready"
            yield page


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    shared = house(max_sessions=2, timeline_dir=tmp_path)
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(shared), log_config=None, lifespan="off", ws_max_size=MAX_MESSAGE_BYTES)
    running = uvicorn.Server(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(listener))
        task = asyncio.create_task(running.serve(sockets=[listener]))
        yield Serving(shared, address(listener))
        running.should_exit = True
        await task


async def receive(page: ClientConnection, *, until: float, ack: bool = True) -> tuple[list[dict], list[bytes]]:
    """Everything that comes within `until` seconds, acknowledged as a page does."""
    messages, slices = [], []
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        async with asyncio.timeout(until):
            async for data in page:
                if isinstance(data, str):
                    messages.append(json.loads(data))
                    continue
                slices.append(data)
                if ack:
                    turn, _ = wire.SLICE_HEADER.unpack(data[:8])
                    await page.send(json.dumps({"type": "ack", "turn": turn}))
    return messages, slices


async def speak(page: ClientConnection, rate: int = 16_000) -> None:
    """Silence at real-time pace, until cancelled."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await page.send(np.zeros(rate // 50, "<i2").tobytes())
            await asyncio.sleep(0.02)


async def freed(server: Serving, within: float = 2.0) -> bool:
    for _ in range(int(within / 0.05)):
        if server.house.seats.taken == 0:
            return True
        await asyncio.sleep(0.05)
    return False


def threads_held() -> int:
    """Threads alive but for the event loop's own pool (it looks names up), which keeps up to six once it had them."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


def code_of(messages: list[dict]) -> list[str]:
    return [message["code"] for message in messages if message["type"] == "error"]


async def test_words_and_sound_come_on_their_turns(server: Serving, tmp_path: Path):
    async with server.talk(48_000) as page:
        speaking = asyncio.create_task(speak(page, 48_000))
        messages, slices = await receive(page, until=3.2)
        await page.send(json.dumps({"type": "bye"}))
        rest, _ = await receive(page, until=2)
        speaking.cancel()
    cells = [message for message in messages if message["type"] == "turn"]
    assert [cell["turn"] for cell in cells] == list(range(len(cells)))
    assert {cell["turn"]: cell["heard"] for cell in cells if cell["heard"]} == HEARD
    [(word, t)] = [said for cell in cells for said in cell["said"]]
    assert word == WORD
    assert (FIRST + 1) * 0.2 <= t < (FIRST + 2) * 0.2
    loud = {wire.SLICE_HEADER.unpack(data[:8])[0] for data in slices if len(data) > 8}
    assert FIRST in loud
    assert min(loud) == FIRST
    assert all(len(data) in (8, 8 + 9600) for data in slices)
    assert rest[-1]["type"] == "ended"
    assert rest[-1]["turns"] >= 15
    [path] = tmp_path.glob("*.jsonl")
    records = read_timeline(path)
    assert [r["text"] for r in records if (r["lane"], r["kind"]) == ("agent", "said")] == [WORD]
    assert records[-1]["kind"] == "closed"


async def test_what_a_page_must_not_do_has_a_typed_error(server: Serving):
    async def answer(*sent: str | bytes) -> list[str]:
        async with connect(server.socket_url) as page:
            for message in sent:
                await page.send(message)
            messages, _ = await receive(page, until=1.5)
            return code_of(messages)

    hello = json.dumps({"type": "hello", "rate": 16_000})
    assert await answer("not json") == ["bad_json"]
    assert await answer(FRAME) == ["no_hello"]
    assert await answer('{"type": "ack", "turn": 1}') == ["no_hello"]
    assert await answer('{"type": "hello", "rate": 4000}') == ["bad_rate"]
    assert await answer(hello, b"\x00" * 70_000) == ["too_large"]
    assert await answer(hello, b"\x00" * 3) == ["bad_audio"]
    assert await answer(hello, "{") == ["bad_json"]
    # these are reported, and the session goes on
    assert await answer(hello, hello, json.dumps({"type": "text", "text": "x" * 2001}), '{"type": "no"}') == [
        "second_hello",
        "text_too_long",
        "unknown_type",
    ]
    assert await freed(server)


async def test_a_third_page_is_told_at_once(server: Serving):
    async with server.talk(), server.talk():
        async with connect(server.socket_url) as third:
            await third.send(json.dumps({"type": "hello", "rate": 16_000}))
            messages, _ = await receive(third, until=1)
        assert code_of(messages) == ["overloaded"]
        assert third.close_code == 1013
    assert await freed(server)
    async with server.talk():
        pass


async def test_foreign_pages_and_names_are_refused(server: Serving):
    with pytest.raises(InvalidStatus) as caught:
        await connect(server.socket_url, additional_headers={"Origin": "https://evil.example"})
    assert caught.value.response.status_code == 403
    assert (await server.get("/", host="evil.example")).status == 400
    page = await server.get("/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    origin = server.url.rstrip("/")
    async with connect(server.socket_url, additional_headers={"Origin": origin}):
        pass


async def test_health_and_examples(server: Serving):
    assert json.loads((await server.get("/health")).body)["sessions"] == {"taken": 0, "limit": 2}
    listed = json.loads((await server.get("/examples")).body)
    assert len(listed) >= 4
    for entry in listed:
        sound = await server.get(f"/examples/{entry['file']}")
        assert sound.headers["content-type"] == "audio/flac"
        assert sound.body[:4] == b"fLaC"
    for wrong in ("/examples/make.py", "/examples/..%2Fpyproject.toml", "/static/../wire.py", "/static/%2e%2e/wire.py"):
        assert (await server.get(wrong)).status == 404


async def test_a_socket_closed_mid_word_frees_everything(server: Serving):
    tasks, threads = len(asyncio.all_tasks()), threads_held()
    for _ in range(3):
        async with server.talk() as page:
            await page.send(json.dumps({"type": "text", "text": "a long sentence that takes a while to be said aloud"}))
            async for data in page:
                if isinstance(data, bytes) and len(data) > 8:
                    break
            page.transport.abort()
        assert await freed(server)
    until = asyncio.get_running_loop().time() + 10.0
    while (len(asyncio.all_tasks()) > tasks or threads_held() > threads) and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= tasks
    assert threads_held() <= threads


async def test_two_pages_at_once_are_two_conversations(server: Serving):
    async with server.talk() as one, server.talk() as two:
        await one.send(json.dumps({"type": "text", "text": "red"}))
        await two.send(json.dumps({"type": "text", "text": "blue"}))
        (of_one, _), (of_two, _) = await asyncio.gather(receive(one, until=1.2), receive(two, until=1.2))

    def said(messages: list[dict]) -> list[str]:
        return [word for message in messages if message["type"] == "turn" for word, _ in message["said"]]

    assert (said(of_one), said(of_two)) == (["red"], ["blue"])


@pytest.mark.slow
async def test_a_page_that_stalls_gets_a_gap_and_then_now(server: Serving):
    async with server.talk() as page:
        speaking = asyncio.create_task(speak(page))
        before, _ = await receive(page, until=1.0)
        await asyncio.sleep(10)  # nothing is read, nothing acknowledged
        after, slices = await receive(page, until=2.0)
        speaking.cancel()
    cells = [message["turn"] for message in before + after if message["type"] == "turn"]
    [gap] = [message for message in after if message["type"] == "gap"]
    missed = list(range(gap["from"], gap["to"] + 1))
    assert sorted(cells + missed) == list(range(max(cells) + 1))
    assert len(missed) > 30
    due = [turn for turn in range(FIRST, max(cells) + 1, EVERY)]
    said = [word for message in before + after for word, _ in message.get("said", [])]
    assert said == [WORD] * len(due)
    flagged = [wire.SLICE_HEADER.unpack(data[:8]) for data in slices]
    assert [turn for turn, flags in flagged if flags & wire.AFTER_GAP] == [gap["to"] + 1]
    lags = [message["lateness_ms"] for message in after if message["type"] == "turn"]
    assert max(lags) < 200


async def test_too_fast_is_said_once_and_dropped(server: Serving):
    async with server.talk() as page:
        for _ in range(400):  # 16 s of sound at once
            await page.send(FRAME * 2)
        messages, _ = await receive(page, until=1.0)
    assert [m["code"] for m in messages if m["type"] == "warning"] == ["too_fast"]
    assert [m["turn"] for m in messages if m["type"] == "turn"][:3] == [0, 1, 2]


async def test_a_flood_is_cut_off(server: Serving):
    async with server.talk() as page:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                await page.send(b"\x00" * 60_000)  # 1.9 s each
        messages, _ = await receive(page, until=2.0)
    assert code_of(messages) == ["too_fast"]
    assert await freed(server)


async def test_a_page_that_falls_silent_is_let_go(server: Serving):
    server.house.idle_s = 0.5
    async with server.talk() as page:
        messages, _ = await receive(page, until=2.0, ack=False)
    assert code_of(messages) == ["idle"]
    assert await freed(server)


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "interplay.cli", "live", "--port", str(port), "--foreground", "silent"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "CI": "true"})
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(port) in done.stderr
