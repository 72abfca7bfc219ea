"""A provider on loopback for the background bench, in a process of its own: `python -m interplay.bench.loopback`.

It speaks OpenAI's streaming chat API, thinks 20 words a second for as long as it is listened to, and prints its port
first, then one line with the second of the system's monotonic clock at which a client closed a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

WORD_S = 0.05


def _event(word: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "reasoning_content": word}, "finish_reason": None}
    event = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "loopback", "choices": [choice]}
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _end(reader: asyncio.StreamReader) -> None:
    """Until the client closes; a reset is one more way to do it."""
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length")), 0)
        await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        closed = asyncio.create_task(_end(reader))
        while not closed.done():
            # A model that thinks aloud for ever: nobody is read anything, and only the person makes it end.
            writer.write(_event("word "))
            await writer.drain()
            await asyncio.wait([closed], timeout=WORD_S)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        print(f"closed {time.monotonic()}", flush=True)
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
