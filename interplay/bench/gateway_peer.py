"""The other processes of `interplay bench gateway`: a provider that streams, and clients under any Python.

Run by path, not as part of the package, because LiteLLM lives in an environment of its own:

    python gateway_peer.py upstream                    prints its port; streams CHUNKS chunks, PAUSE_S apart
    python gateway_peer.py litellm-sdk URL             prints `ready`; for each line on stdin makes that many calls

A client prints one JSON line per request of its parent: {"first": [seconds, ...], "cpu": seconds, "bad": n}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

CHUNKS = 22
PAUSE_S = 0.003
PROMPT = [
    {"role": "user" if turn % 2 == 0 else "assistant", "content": f"Turn {turn}: " + "some words of a talk. " * 6}
    for turn in range(21)
]
WORDS = [f"word{number} " for number in range(CHUNKS)]


def frame(delta: dict, finish: str | None = None, **more: object) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "bench",
             "choices": choices, **more}  # fmt: skip
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


async def upstream() -> None:
    frames = [frame({"role": "assistant", "content": ""})] + [frame({"content": word}) for word in WORDS]
    usage = {"prompt_tokens": 700, "completion_tokens": CHUNKS, "total_tokens": 700 + CHUNKS}
    tail = frame({}, "stop") + frame({}, None, choices=[], usage=usage) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        await reader.readexactly(int(line.split(b":")[1]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for one in frames:
                    writer.write(one)
                    await writer.drain()
                    await asyncio.sleep(PAUSE_S)
                writer.write(tail)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def litellm_sdk(url: str) -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # pyright: ignore[reportMissingImports]

    litellm.telemetry = False
    print("ready", flush=True)
    for line in sys.stdin:
        first, bad = [], 0
        cpu = time.process_time()
        for _ in range(int(line)):
            began, got, text = time.perf_counter(), None, ""
            stream = await litellm.acompletion(
                model="openai/bench", messages=PROMPT, api_base=url, api_key="none", stream=True
            )
            async for chunk in stream:
                if words := chunk.choices[0].delta.content:
                    got = got or time.perf_counter() - began
                    text += words
            first.append(got or 0.0)
            bad += text != "".join(WORDS)
        print(json.dumps({"first": first, "cpu": time.process_time() - cpu, "bad": bad}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        asyncio.run(upstream())
    else:
        asyncio.run(litellm_sdk(sys.argv[2]))
