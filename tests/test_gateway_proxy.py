"""The way out through a proxy that the environment names, seen from the proxy's side, and no way for a .netrc."""

import asyncio

import pytest

pytest.importorskip("aiohttp")

from interplay.gateway.config import Times
from interplay.gateway.providers import Provider
from interplay.gateway.upstream import Shot, Upstream

ANSWER = b'{"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}'


@pytest.mark.parametrize("bypassed", [False, True])
async def test_the_environments_proxy_is_asked_unless_it_is_bypassed(monkeypatch, tmp_path, bypassed):
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER))
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (tmp_path / "netrc").write_text("default login somebody password in-the-netrc\n")
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{1 if bypassed else port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1" if bypassed else "")
    host = f"127.0.0.1:{port}" if bypassed else "models.invalid"
    upstream = Upstream()
    provider = Provider("p", base_url=f"http://{host}/v1", keyless=True, wires=("chat",))
    async with server:
        body = await upstream.answer(Shot(provider, "chat", {"model": "m", "messages": []}, Times(), 5.0))
        await upstream.close()
    assert body["choices"][0]["message"]["content"] == "hi"
    asked = b"/v1/chat/completions" if bypassed else b"http://models.invalid/v1/chat/completions"
    assert heads[0].startswith(b"POST " + asked + b" HTTP/1.1\r\n")
    assert b"authorization" not in heads[0].lower()
