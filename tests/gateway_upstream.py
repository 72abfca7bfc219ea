"""A scripted provider as a process of its own: the model's name says how it behaves, down to the socket.

    python -m tests.gateway_upstream        prints its port, serves until killed

Model names: `words` answers well; `words-3ms` with a pause between words; `status-429` refuses; `cut-5`, `clean-5`,
`half-5`, `reset-5`, `stall-5`, `trickle-5`, `garbage-5`, `error-5` break after five words; `tool`, `toolcut-1`,
`echo`, `picture`, `hang`, `html`, `filtered`, `empty`. A suffix after `@` is a name only: `words@b` is another model
that does the same. Where a request asks to continue, `words` goes on exactly, `repeats` says the last words again,
`over` begins again, `other` begins again and then says something else.

GET /log gives what was asked so far, with headers, and empties it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys

TEXT = (
    "The ferry leaves at nine from the north quay and it takes forty minutes to reach the island where lunch is served."
)
USAGE = {"prompt_tokens": 11, "completion_tokens": 21, "total_tokens": 32}
LOG: list[dict] = []
FLAKY: dict[str, int] = {}


class Talk:
    """One request and the connection it came on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: dict) -> None:
        self.reader, self.writer, self.path, self.body = reader, writer, path, body
        self.model = str(body.get("model", "")).partition("@")[0]
        self.name, _, number = self.model.rpartition("-")
        if not self.name or not number.removesuffix("ms").isdigit():
            self.name, number = self.model, ""
        self.n = int(number.removesuffix("ms")) if number else 0
        self.wire = path.rpartition("/v1/")[2]

    async def head(self, status: int = 200, kind: str = "text/event-stream", **more: str) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", f"content-type: {kind}", "transfer-encoding: chunked"]
        lines += [f"{key.replace('_', '-')}: {value}" for key, value in more.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def put(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def done(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def json(self, status: int, body: dict, **headers: str) -> None:
        data = json.dumps(body).encode()
        more = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
        head = (
            f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{more}content-length: {len(data)}\r\n\r\n"
        )
        self.writer.write(head.encode() + data)
        await self.writer.drain()

    async def event(self, data: dict) -> None:
        name = f"event: {data['type']}\n" if "type" in data else ""
        await self.put(f"{name}data: {json.dumps(data)}\n\n".encode())


def answer_words(talk: Talk) -> list[str]:
    """The words to say, with their blanks; what a request for a continuation leaves of them."""
    turns = talk.body.get("messages") or []
    whole = [word + " " for word in TEXT.split()]
    whole[-1] = whole[-1].strip()
    if len(turns) >= 2 and turns[-2].get("role") == "assistant" and "cut off" in str(turns[-1].get("content")):
        content = turns[-2]["content"]
        said = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        if talk.name == "over":
            return whole
        if talk.name == "other":
            return [TEXT[:60], " but", " the", " bridge", " is", " closed."]
        back = said[-12:] if talk.name == "repeats" else ""
        rest = back + TEXT[len(said) :]
        return [rest[i : i + 7] for i in range(0, len(rest), 7)]
    return whole


async def chat(talk: Talk) -> None:
    if not talk.body.get("stream"):
        message: dict = {"role": "assistant", "content": "".join(answer_words(talk))}
        if talk.name == "echo":
            message["content"] = json.dumps(talk.body["messages"])
        if talk.name == "picture":
            message["content"] = "image_url" if "image_url" in json.dumps(talk.body) else "none"
        finish = "stop"
        if talk.name == "tool":
            call = {"name": "weather", "arguments": '{"city": "Oslo"}'}
            message = {"role": "assistant", "content": None,
                       "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}  # fmt: skip
            finish = "tool_calls"
        if talk.name == "filtered":
            message["content"], finish = None, "content_filter"
        await talk.json(200, {"id": "chatcmpl-s", "object": "chat.completion", "created": 1, "model": talk.model,
                              "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                              "usage": USAGE})  # fmt: skip
        return
    await talk.head()

    def chunk(delta: dict, finish: str | None = None) -> dict:
        return {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1, "model": talk.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}  # fmt: skip

    await talk.event(chunk({"role": "assistant", "content": ""}))
    if talk.name in ("tool", "toolcut"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        await talk.event(chunk({"tool_calls": [call]}))
        for part in ('{"city"', ': "Os', 'lo"}'):
            await talk.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
            if talk.name == "toolcut":
                talk.writer.close()
                return
        await talk.event(chunk({}, "tool_calls"))
    elif talk.name == "filtered":
        await talk.event(chunk({}, "content_filter"))
    elif talk.name == "echo":
        await talk.event(chunk({"content": json.dumps(talk.body["messages"])}))
        await talk.event(chunk({}, "stop"))
    else:
        for number, word in enumerate(answer_words(talk)):
            if number == talk.n and await broken(talk, chunk):
                return
            if talk.model.endswith("ms"):
                await asyncio.sleep(talk.n / 1000)
            await talk.event(chunk({"content": word}))
        await talk.event(chunk({}, "stop"))
    if (talk.body.get("stream_options") or {}).get("include_usage"):
        await talk.event({**chunk({}), "choices": [], "usage": USAGE})
    await talk.put(b"data: [DONE]\n\n")
    await talk.done()


async def broken(talk: Talk, chunk) -> bool:
    """Break here, in the way the model's name says; False if it says none."""
    if talk.name == "cut":
        talk.writer.close()
    elif talk.name == "clean":
        await talk.done()
    elif talk.name == "half":
        talk.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await asyncio.sleep(60)
    elif talk.name == "reset":
        sock = talk.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        talk.writer.transport.abort()
    elif talk.name == "stall":
        await asyncio.sleep(60)
    elif talk.name == "trickle":
        for byte in b'data: {"choices":' + b" " * 400:
            await talk.put(bytes([byte]))
            await asyncio.sleep(0.02)
    elif talk.name == "garbage":
        await talk.put(b"data: {this is no JSON\n\n")
        await asyncio.sleep(0.2)
        talk.writer.close()
    elif talk.name == "error":
        await talk.put(b'data: {"error": {"message": "Overloaded sk-abcdef123456", "type": "overloaded_error"}}\n\n')
        await talk.done()
    else:
        return False
    return True


async def messages(talk: Talk) -> None:
    words = answer_words(talk)
    used = {"input_tokens": 11, "output_tokens": 21}
    if not talk.body.get("stream"):
        content: list[dict] = [{"type": "text", "text": "".join(words)}]
        if talk.name == "echo":
            content = [{"type": "text", "text": json.dumps(talk.body)}]
        if talk.name == "tool":
            content = [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}]
        stop = "tool_use" if talk.name == "tool" else "end_turn"
        await talk.json(200, {"id": "msg_s", "type": "message", "role": "assistant", "model": talk.model,
                              "content": content, "stop_reason": stop, "stop_sequence": None,
                              "usage": used})  # fmt: skip
        return
    await talk.head()
    message = {"id": "msg_s", "type": "message", "role": "assistant", "model": talk.model, "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": {**used, "output_tokens": 1}}  # fmt: skip
    await talk.event({"type": "message_start", "message": message})
    block: dict = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": word} for word in words]
    if talk.name == "tool":
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ('{"city"', ': "Oslo"}')]
    await talk.event({"type": "content_block_start", "index": 0, "content_block": block})
    await talk.event({"type": "ping"})
    for number, delta in enumerate(deltas):
        if number == talk.n and await broken(talk, None):
            return
        await talk.event({"type": "content_block_delta", "index": 0, "delta": delta})
    await talk.event({"type": "content_block_stop", "index": 0})
    stop = "tool_use" if talk.name == "tool" else "end_turn"
    await talk.event({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None},
                      "usage": {"output_tokens": 21}})  # fmt: skip
    await talk.event({"type": "message_stop"})
    await talk.done()


async def responses(talk: Talk) -> None:
    item = {"id": "msg_s", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}  # fmt: skip
    used = {"input_tokens": 11, "output_tokens": 21, "total_tokens": 32,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    base = {"id": "resp_s", "object": "response", "created_at": 1, "model": talk.model, "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "metadata": {}, "error": None, "incomplete_details": None,
            "instructions": None, "temperature": 1, "top_p": 1}  # fmt: skip
    whole = {**base, "status": "completed", "output": [item], "usage": used}
    if not talk.body.get("stream"):
        await talk.json(200, whole)
        return
    await talk.head()
    sequence = 0

    async def event(kind: str, **fields) -> None:
        nonlocal sequence
        await talk.event({"type": kind, "sequence_number": sequence, **fields})
        sequence += 1

    where = {"item_id": "msg_s", "output_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    await event("response.created", response={**base, "status": "in_progress", "output": [], "usage": None})
    await event("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []})
    await event("response.content_part.added", **where, content_index=0, part=part)
    for number, word in enumerate(answer_words(talk)):
        if number == talk.n and await broken(talk, None):
            return
        await event("response.output_text.delta", **where, content_index=0, delta=word, logprobs=[])
    await event("response.output_text.done", **where, content_index=0, text=TEXT, logprobs=[])
    await event("response.content_part.done", **where, content_index=0, part={**part, "text": TEXT})
    await event("response.output_item.done", output_index=0, item=item)
    await event("response.completed", response=whole)
    await talk.done()


async def answer(talk: Talk) -> None:
    if talk.name == "status":
        words = {429: "Rate limit reached", 401: "Incorrect API key provided: sk-live-1234567890", 500: "Oh",
                 402: "Insufficient credit balance", 400: "messages: wrong"}.get(talk.n, "no")  # fmt: skip
        await talk.json(talk.n, {"error": {"message": words, "type": "x", "code": None}})
    elif talk.name == "wait":
        await talk.json(429, {"error": {"message": "slow down"}}, retry_after=str(talk.n))
    elif talk.name == "flaky":  # flaky-2 fails twice, then works
        FLAKY[talk.body["model"]] = FLAKY.get(talk.body["model"], 0) + 1
        if FLAKY[talk.body["model"]] <= talk.n:
            await talk.json(500, {"error": {"message": "not yet"}})
        else:
            talk.n = -1
            await chat(talk)
    elif talk.name in ("quota", "context", "filter", "blind"):
        status, code, words = {
            "quota": (429, "insufficient_quota", "You exceeded your current quota"),
            "context": (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens"),
            "filter": (400, "content_policy_violation", "rejected by our content filter"),
            "blind": (400, "invalid", "image input is not supported by this model"),
        }[talk.name]
        await talk.json(status, {"error": {"message": words, "type": "invalid_request_error", "code": code}})
    elif talk.name == "hang":
        await asyncio.sleep(60)
    elif talk.name == "html":
        await talk.head(kind="text/html")
        await talk.put(b"<html>It works!</html>")
        await talk.done()
    elif talk.name == "empty":
        talk.writer.close()
    elif talk.wire == "embeddings":
        given = talk.body["input"]
        rows = [{"object": "embedding", "index": i, "embedding": [float(len(text)), 0.5]}
                for i, text in enumerate([given] if isinstance(given, str) else given)]  # fmt: skip
        await talk.json(200, {"object": "list", "data": rows, "model": talk.model,
                              "usage": {"prompt_tokens": 7, "total_tokens": 7}})  # fmt: skip
    else:
        await {"chat/completions": chat, "messages": messages, "responses": responses}[talk.wire](talk)


async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            _, path, _ = head[0].split(" ")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            size = int(headers.get("content-length", 0))
            body = json.loads(await reader.readexactly(size)) if size else {}
            talk = Talk(reader, writer, path, body)
            if path == "/log":
                await talk.json(200, {"log": LOG})
                LOG.clear()
                continue
            if path == "/cat.png":
                data = b"\x89PNG\r\n\x1a\n" + bytes(64)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(data) + data
                )
                continue
            if path == "/away.png":
                writer.write(b"HTTP/1.1 302 Found\r\nlocation: /cat.png\r\ncontent-length: 0\r\n\r\n")
                continue
            LOG.append({"path": path, "headers": headers, "body": body})
            await answer(talk)
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(connection, "127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
