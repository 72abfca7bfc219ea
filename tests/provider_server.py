"""A server on loopback that speaks OpenAI's streaming chat API as a script tells it to: a real socket, no model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any


class ProviderServer:
    """script(request, n) -> what to stream for the n-th request: text pieces, ("tool", name, arguments), seconds to
    wait, or None to hang up. requests: bodies, in order. closed: time.monotonic() at which the client
    closed a stream before its end. usage: (prompt, completion) tokens that it reports for each, if asked to.
    """

    def __init__(
        self, script: Callable[[dict[str, Any], int], list[Any]], usage: tuple[int, int] | None = None
    ) -> None:
        self.script, self.usage = script, usage
        self.requests: list[dict[str, Any]] = []
        self.closed: list[float] = []
        self.url = ""

    async def __aenter__(self) -> ProviderServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
                lines = head.decode().split("\r\n")
                size = next((int(x.split(":")[1]) for x in lines if x.lower().startswith("content-length")), 0)
                body = json.loads(await reader.readexactly(size)) if size else {}
                if lines[0].startswith("GET"):
                    payload = json.dumps({"object": "list", "data": [{"id": "loopback-1", "object": "model"}]}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                    writer.write(f"content-length: {len(payload)}\r\n\r\n".encode() + payload)
                    await writer.drain()
                    continue
                self.requests.append(body)
                await self._stream(body, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _stream(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        reason = "stop"
        for part in self.script(body, len(self.requests)):
            if isinstance(part, int | float):
                # The next byte or the end of the stream, whichever comes first: the client has nothing to send here.
                try:
                    async with asyncio.timeout(part):
                        await reader.read(1)
                except TimeoutError:
                    continue
                except ConnectionError:
                    pass  # with something of ours unread
                self.closed.append(time.monotonic())
                raise ConnectionError("closed by the client")
            if part is None:
                raise ConnectionError("hung up")
            delta: dict[str, Any] = {"role": "assistant"}
            if isinstance(part, str):
                delta["content"] = part
            else:
                reason = "tool_calls"
                function = {"name": part[1], "arguments": json.dumps(part[2])}
                delta["tool_calls"] = [
                    {"index": 0, "id": f"c{len(self.requests)}", "type": "function", "function": function}
                ]
            await self._event(writer, {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        await self._event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if self.usage is not None and body.get("stream_options", {}).get("include_usage"):
            prompt, completion = self.usage
            used = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            await self._event(writer, {"choices": [], "usage": used})
        data = b"data: [DONE]\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")
        await writer.drain()

    async def _event(self, writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
        event |= {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "loopback-1"}
        data = f"data: {json.dumps(event)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        try:
            await writer.drain()
        except ConnectionError:
            self.closed.append(time.monotonic())
            raise
