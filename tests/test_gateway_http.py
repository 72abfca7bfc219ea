"""What the gateway's server does not let through: from clients, from web pages, through image URLs, and out of logs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interplay.core.types import BadInput
from interplay.gateway import serve
from interplay.gateway.faults import Fault
from interplay.gateway.gateway import Gateway
from interplay.gateway.http import GatewayApp
from interplay.gateway.images import Pictures, in_house, public
from tests.gateway_house import SECRET, asked, config

ASK = {"model": "a/words", "messages": [{"role": "user", "content": "hi"}]}
LIMITS = "[limits]\nbody_bytes = 20000\nbody_s = 0.5\nimage_bytes = 5000\n"


@pytest.fixture
async def port(up: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The real app under the real server, in this process so that its logs can be seen."""
    monkeypatch.setenv("UP_KEY", SECRET)
    monkeypatch.setenv("INTERPLAY_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setattr(serve, "HEAD_S", 1.0)
    async with await Gateway.open(config(tmp_path / "g.toml", up, "", LIMITS), watch=False) as gateway:
        server = serve.server_of(GatewayApp(gateway))
        sock = socket.create_server(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve([sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield sock.getsockname()[1]
        server.should_exit = True
        await task


async def raw(port: int, data: bytes, *, pause: float = 0.0) -> bytes:
    """Everything that comes back for these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in [data] if not pause else [data[i : i + 1] for i in range(len(data))]:
            writer.write(part)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(body: object, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json",
             f"content-length: {len(data)}", "connection: close", *headers]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", "connection: close", *headers, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def test_it_works_at_all(port: int) -> None:
    answer = await raw(port, post(ASK))
    assert status(answer) == 200 and b"ferry" in answer
    assert b"server:" not in answer.lower().split(b"\r\n\r\n")[0]


async def test_metrics_and_health(port: int) -> None:
    await raw(port, post(ASK))
    async with asyncio.timeout(60):
        while b'interplay_gateway_attempts_total{agent="default"' not in (await raw(port, get("/metrics"))):
            await asyncio.sleep(0.1)
    assert b'"status":"ok"' in await raw(port, get("/health"))
    assert status(await raw(port, get("/metrics", "x-forwarded-for: 1.2.3.4"))) == 401
    assert status(await raw(port, get("/v1/nothing"))) == 404


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (["content-length: 5"], 400),
        (["transfer-encoding: chunked"], 400),
        (["authorization: Bearer a", "authorization: Bearer b"], 400),
        (["x-api-key: a", "x-api-key: b"], 400),
        (["origin: https://evil.example"], 401),
        (["sec-fetch-site: cross-site", "origin: http://localhost"], 401),
        (["x-forwarded-for: 1.2.3.4"], 401),
        (["authorization: Bearer ipk_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbb"], 401),
        (["content-encoding: gzip"], 415),
    ],
)
async def test_headers_that_are_refused(port: int, up: str, headers: list[str], wanted: int) -> None:
    asked(up)
    assert status(await raw(port, post(ASK, *headers))) == wanted
    assert asked(up) == []


async def test_a_name_that_was_bound_to_loopback_is_not_local(port: int) -> None:
    assert status(await raw(port, post(ASK).replace(b"host: localhost", b"host: rebound.example"))) == 401
    assert status(await raw(port, post(ASK).replace(b"host: localhost", b"host: 127.0.0.1:1"))) == 200
    assert status(await raw(port, post(ASK).replace(b"application/json", b"text/plain"))) == 415


async def test_bodies_that_are_refused(port: int) -> None:
    big = {**ASK, "messages": [{"role": "user", "content": "x" * 30_000}]}
    assert status(await raw(port, post(big))) == 413
    chunked = post(big).replace(b"content-length", b"x-length")
    head, _, data = chunked.partition(b"\r\n\r\n")
    head += b"\r\ntransfer-encoding: chunked"
    assert status(await raw(port, head + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))) == 413
    for body in ([], "x", {"model": 3}, {"model": "a/words"}, {"model": "a/words", "messages": [1]},
                 {**ASK, "stream": True, "n": 2}):  # fmt: skip
        answer = await raw(port, post(body))
        assert status(answer) == 400 and b'"message"' in answer
    deep = post("[" * 8998)  # one quote less on each side, and it is 9,000 brackets deep
    assert status(await raw(port, deep.replace(b'"', b"["))) == 400


async def test_heads_are_bounded_however_they_come(port: int, up: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "HEAD_S", 60.0)
    asked(up)
    assert status(await raw(port, post(ASK, "x: " + "y" * 60_000))) == 200
    assert len(asked(up)) == 1
    assert status(await raw(port, post(ASK, "x: " + "y" * 70_000))) == 400
    assert status(await raw(port, post(ASK, *(f"x-{number}: y" for number in range(8_000))))) == 400
    endless = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 4_000_000
    assert await raw(port, endless) == b""  # hung up on, long before its time is over
    assert asked(up) == []


async def test_trailers_are_no_headers(port: int, up: str) -> None:
    data = json.dumps(ASK).encode()
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: localhost", "content-type: application/json",
                        "transfer-encoding: chunked", "connection: close", "", ""]).encode()  # fmt: skip
    trailers = b"x-interplay-agent: boss\r\nx-forwarded-for: 1.2.3.4\r\nauthorization: Bearer ipk_a_b\r\n"
    assert status(await raw(port, head + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(data), data, trailers))) == 200
    async with asyncio.timeout(60):
        while b"interplay_gateway_attempts_total{" not in (metrics := await raw(port, get("/metrics"))):
            await asyncio.sleep(0.1)
    assert b'agent="default"' in metrics and b"boss" not in metrics


@pytest.mark.parametrize("old, new", [
    (b"host: localhost\r\n", b""),
    (b"POST /v1", b"POST http://localhost/v1"),
    (b"connection: close", b"transfer-encoding: identity, chunked"),
    (b"connection: close", b"transfer-encoding : chunked"),
    (b"connection: close", b"x: y\r\n z: folded"),
    (b"connection: close", b"x: a\rtransfer-encoding: chunked"),
    (b"connection: close", b"x: a\0b"),
])  # fmt: skip
async def test_requests_that_two_servers_read_differently(port: int, up: str, old: bytes, new: bytes) -> None:
    asked(up)
    data = post(ASK).replace(old, new)
    if b"identity" in new:
        data = data.replace(b"content-length", b"x-length")
    assert status(await raw(port, data)) == 400 and asked(up) == []


async def test_slow_heads_and_slow_bodies_are_cut_off(port: int) -> None:
    assert await raw(port, b"POST / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 60, pause=0.05) == b""
    assert status(await raw(port, post(ASK)[:-5])) == 408


async def test_a_second_request_on_a_connection_has_no_more_time_than_the_first(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b"200" in await reader.readline()
    writer.write(b"GET /health HTTP/1.1\r\nx: ")
    async with asyncio.timeout(20):
        while await reader.read(4096):
            pass
    writer.close()


PRIVATE = ["http://127.0.0.1:9/x.png", "https://127.0.0.1/x.png", "https://localhost/x.png", "https://[::1]/x.png",
           "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/a", "https://192.168.1.1/a",
           "https://0x7f000001/a", "https://2130706433/a", "https://[::ffff:127.0.0.1]/a", "https://[64:ff9b::7f00:1]/a",
           "https://100.64.0.1/a", "https://user:pw@example.com/a", "file:///etc/passwd", "ftp://example.com/a",
           "https://exa mple.com/", "https://0.0.0.0/a", "data:text/html;base64,aGk="]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
async def test_image_urls_that_lead_inside_are_refused(port: int, up: str, url: str) -> None:
    asked(up)
    part = {"type": "image_url", "image_url": {"url": url}}
    answer = await raw(port, post({**ASK, "messages": [{"role": "user", "content": [part]}]}))
    assert status(answer) == 400 and b"image" in answer, answer
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    assert status(await raw(port, post({"model": "a/words", "input": [item]}, path="/v1/responses"))) == 400
    assert asked(up) == []


INSIDE = "https://169.254.169.254/latest"
PARTS = [
    {"type": "video_url", "video_url": {"url": INSIDE}},
    {"type": "audio_url", "audio_url": {"url": INSIDE}},
    {"type": "file", "file": {"file_data": INSIDE}},
    {"type": "document", "source": {"type": "url", "url": INSIDE}},
    {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": INSIDE}}]},
    {"type": "document", "source": {"type": "content", "content": [{"source": {"type": "url", "url": INSIDE}}]}},
]


@pytest.mark.parametrize("part", PARTS)
async def test_other_media_lead_nowhere_inside_either(port: int, up: str, part: dict) -> None:
    asked(up)
    answer = await raw(port, post({**ASK, "messages": [{"role": "user", "content": [part]}]}))
    assert status(answer) == 400 and b"does not lead to a public address" in answer
    assert asked(up) == []


async def test_media_of_responses(port: int, up: str) -> None:
    asked(up)
    shot = {"type": "computer_screenshot", "image_url": INSIDE}
    for item in ({"type": "computer_call_output", "call_id": "c", "output": shot},
                 {"role": "user", "content": [{"type": "input_file", "file_url": INSIDE}]}):  # fmt: skip
        answer = await raw(port, post({"model": "a/words", "input": [item]}, path="/v1/responses"))
        assert status(answer) == 400 and b"public address" in answer
    assert asked(up) == []


async def test_a_provider_inside_the_house_is_sent_no_urls(port: int, up: str) -> None:
    asked(up)
    part = {"type": "video_url", "video_url": {"url": "https://1.1.1.1/film.mp4"}}
    answer = await raw(port, post({**ASK, "messages": [{"role": "user", "content": [part]}]}))
    assert status(answer) == 400 and b"send its bytes" in answer and asked(up) == []
    data = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    part = {"type": "document", "source": data}
    body = {"model": "claude/words", "max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}
    answer = await raw(port, post(body, path="/v1/messages"))
    assert status(answer) == 200 and asked(up)[0]["body"]["messages"][0]["content"] == [part]
    for url in ("http://model.example.com/v1", "https://vllm/v1", "https://a.internal/v1", "https://10.1.2.3/v1"):
        assert in_house(url), url
    assert not in_house("https://api.openai.com/v1") and not in_house("https://8.8.8.8/v1")


async def test_pictures_of_allowed_hosts_are_fetched_within_limits(up: str) -> None:
    host = up.removeprefix("http://")
    pictures = Pictures((host,), 5000)
    assert (await pictures.fetch(f"{up}/cat.png"))[0] == "image/png"
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"{up}/cat.png"}}]}]}
    await pictures.inline(body)
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")  # type: ignore[index]
    with pytest.raises(Fault, match="302"):
        await pictures.fetch(f"{up}/away.png")  # a redirect could lead anywhere
    with pytest.raises(Fault, match="more than 50 bytes"):
        await Pictures((host,), 50).fetch(f"{up}/cat.png")
    with pytest.raises(Fault, match="more than 50 bytes"):
        url = "data:image/png;base64," + "A" * 100
        await Pictures((), 50).check({"messages": [{"content": [{"image_url": {"url": url}}]}]})


def test_public_addresses() -> None:
    assert public("8.8.8.8") and public("2606:4700::1111")
    for inside in ("127.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "224.0.0.1", "2002:7f00:1::", "x"):
        assert not public(inside), inside


async def test_a_key_never_shows(port: int, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    seen = b""
    for model in ("status-401", "status-500", "error-3", "garbage-3", "cut-3", "hang"):
        for stream in (False, True):
            seen += await raw(port, post({**ASK, "model": f"a/{model}", "stream": stream}))
    assert b"sk-" not in seen and SECRET.encode() not in seen
    assert SECRET not in caplog.text and "sk-live" not in caplog.text
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


async def test_hanging_up_frees_the_place(port: int, up: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post({**ASK, "model": "a/words-50ms", "stream": True}))
    await reader.readuntil(b"data: ")
    writer.close()
    assert status(await raw(port, post(ASK))) == 200


async def test_a_config_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        await Gateway.open(tmp_path / "none.toml")
