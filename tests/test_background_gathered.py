"""A provider's stream, gathered: nothing is lost, nothing changes places, and nothing waits longer than it may."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

import httpx2

from interplay.background.gathered import HOLD_S, MAX_HELD, Gatherer, gathering

SLACK_S = 1.5  # what a crowded machine may add
WORDS = [
    "It",
    " is",
    " 3",
    ".5",
    " meters",
    ".",
    " Näher",
    " 雪",
    "🙂",
    "!",
    "\n",
    " And",
    ' "so',
    '."',
    " on",
    "",
    "\\",
    "…",
]


def sse(data: Any, event: str = "", end: str = "\n") -> bytes:
    name = f"event: {event}{end}" if event else ""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"{name}data: {text}{end}{end}".encode()


def chat(delta: dict[str, Any], *, index: int = 0, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def block(kind: str, field: str, text: str, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}}


def output(text: str, number: int, kind: str = "output_text", item: str = "a") -> dict[str, Any]:
    head = {"type": f"response.{kind}.delta", "sequence_number": number, "item_id": item, "output_index": 0}
    return {**head, "content_index": 0, "delta": text, "logprobs": [], "obfuscation": "x" * (number % 7)}


def random_stream(dice: random.Random, end: str) -> bytes:
    """Events of all three protocols in runs, with what is not text in between."""
    out = b"\xef\xbb\xbf" if dice.random() < 0.2 else b""
    number = 0
    for _ in range(dice.randint(1, 12)):
        kind = dice.randrange(12)
        for _ in range(dice.randint(1, 9)):
            word, number = dice.choice(WORDS), number + 1
            if kind < 3:
                delta: dict[str, Any] = {dice.choice(["content"] * 4 + ["reasoning_content"]): word}
                delta |= {"role": "assistant"} if dice.random() < 0.3 else {}
                delta |= {"refusal": None} if dice.random() < 0.3 else {}
                delta |= {"content": ""} if "content" not in delta and dice.random() < 0.3 else {}
                out += sse(chat(delta, index=int(dice.random() < 0.1), obfuscation=word), end=end)
            elif kind < 5:
                out += sse(block("text_delta", "text", word, dice.choice([0, 0, 0, 1])), "content_block_delta", end)
            elif kind == 5:
                out += sse(block("thinking_delta", "thinking", word), "content_block_delta", end)
            elif kind < 8:
                item = dice.choice("aaab")
                out += sse(output(word, number, item=item), "response.output_text.delta", end)
            else:
                out += dice.choice([
                    sse(": a comment" + end + "data: " + json.dumps(chat({"content": word})), end=end),
                    f": keep-alive{end}{end}".encode(),
                    sse(chat({"tool_calls": [{"index": 0, "function": {"arguments": word}}]}), end=end),
                    sse(chat({"content": word}, reason="stop"), end=end),
                    sse(chat({"content": word}, usage={"total_tokens": 3}), end=end),
                    sse(chat({"content": word, "reasoning": "why"}), end=end),
                    sse({"choices": [{"delta": {"content": word}, "logprobs": {"content": [1]}}]}, end=end),
                    sse(block("input_json_delta", "partial_json", word), "content_block_delta", end),
                    sse('{"choices": [{"delta": {"content": "half', end=end),
                    sse(chat({"content": 7}), end=end),
                    sse("[DONE]", end=end),
                    sse('"delta"', end=end),
                    sse('[{"delta": 1}]', end=end),
                    f"id: 7{end}data: {json.dumps(chat({'content': word}))}{end}{end}".encode(),
                    f'data: {{"choices":{end}data: []}}{end}{end}'.encode(),
                    end.encode(),
                ])  # fmt: skip
    return out + (b"data: cut in the mid" if dice.random() < 0.3 else b"")


def events(stream: bytes) -> list[tuple[str, Any]]:
    """(event name, data) as a client reads them."""
    found = []
    for part in stream.decode().replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n\n"):
        lines = [line for line in part.split("\n") if line and not line.startswith(":")]
        name = "".join(line[6:].strip() for line in lines if line.startswith("event:"))
        data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
        if lines:
            try:
                found.append((name, json.loads(data)))
            except ValueError:
                found.append((name, data))
    return found


def joined(found: list[tuple[str, Any]]) -> list[Any]:
    """What a client takes from the events: runs of text of one part as one, all else as it is. Written on its own, from
    the protocols, to check the module against."""
    out: list[Any] = []
    for name, data in found:
        piece = _piece(data)
        if piece is None:
            out.append((name, data))
            continue
        part, text = (name, *piece[0]), piece[1]
        if not text:
            continue
        if out and isinstance(out[-1], list) and out[-1][0] == part:
            out[-1][1] += text
        else:
            out.append([part, text])
    return out


def _piece(data: Any) -> tuple[tuple[Any, ...], str] | None:
    if not isinstance(data, dict):
        return None
    if data.get("type") == "content_block_delta" and data["delta"]["type"] in ("text_delta", "thinking_delta"):
        field = data["delta"]["type"].removesuffix("_delta")
        return (data["index"], field), data["delta"][field]
    if str(data.get("type")).startswith("response."):
        return (data["type"], data["item_id"], data["output_index"], data["content_index"]), data["delta"]
    if "choices" in data and set(data) <= {"id", "object", "created", "model", "choices", "obfuscation"}:
        (choice,) = data["choices"] or [{}]
        texts = {k: v for k, v in choice.get("delta", {}).items() if k != "role" and v}
        whole = choice.get("finish_reason") is None and choice.get("logprobs") is None
        if whole and "index" in choice and all(isinstance(v, str) for v in texts.values()) and len(texts) < 2:
            field, text = next(iter(texts.items()), ("content", ""))
            return (choice["index"], field), text
    return None


def through(stream: bytes, dice: random.Random) -> bytes:
    """Fed in random cuts, and sometimes pushed in between, as time would."""
    gatherer, out, at = Gatherer(), b"", 0
    while at < len(stream):
        size = dice.choice([1, 2, 3, 7, 40, 300, 5_000])
        gatherer.feed(stream[at : at + size])
        at += size
        if dice.random() < 0.1:
            gatherer.push()
        if dice.random() < 0.7:
            out += gatherer.take()
    gatherer.finish()
    return out + gatherer.take()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_texts_are_the_same_and_everything_else_is_as_it_was_and_where_it_was(end: str) -> None:
    fewer = 0
    for seed in range(100):
        dice = random.Random(seed)
        stream = random_stream(dice, end)
        out = through(stream, dice)
        before, after = events(stream), events(out)
        assert joined(after) == joined(before), seed
        fewer += len(before) - len(after)
    assert fewer > 300, "and it did join something"


def test_words_of_a_sentence_become_one_event_with_all_that_was_around_them() -> None:
    gatherer = Gatherer()
    for k, word in enumerate(["The", " sky", " is", " blue", "."]):
        gatherer.feed(sse(chat({"role": "assistant", "content": word}, created=k, system_fingerprint="f")))
    assert not gatherer.ready, "nobody can be read half a sentence"
    gatherer.feed(sse(chat({"content": " Grass"}, system_fingerprint="f")))
    whole = chat({"role": "assistant", "content": "The sky is blue. Grass"}, created=0, system_fingerprint="f")
    assert events(gatherer.take()) == [("", whole)]
    gatherer.feed(sse(chat({"content": " is"}, system_fingerprint="other")))
    gatherer.feed(sse(chat({"content": " green"}, system_fingerprint="f")))
    assert events(gatherer.take())[0][1]["choices"][0]["delta"]["content"] == " is", "another answer's is not joined"
    alone = sse(chat({"content": "5"}, created=9), end="\r\n")
    gatherer.feed(sse("[DONE]") + alone)
    gatherer.finish()
    assert gatherer.take().endswith(alone), "what nothing was joined to is as it came"


def test_sequence_numbers_go_on() -> None:
    gatherer = Gatherer()
    gatherer.feed(b"".join(sse(output(f"{k} ", k), "response.output_text.delta") for k in range(4)))
    gatherer.finish()
    ((name, data),) = events(gatherer.take())
    assert (name, data["delta"], data["sequence_number"]) == ("response.output_text.delta", "0 1 2 3 ", 3)


def test_nothing_is_held_beyond_a_bound() -> None:
    gatherer, most, out = Gatherer(), 0, b""
    long = sse(chat({"tool_calls": "x" * 300_000}))
    stream = b"".join(sse(chat({"content": "word " * 20})) for _ in range(2_000)) + long + sse(chat({"content": "y"}))
    for at in range(0, len(stream), 1_000):
        gatherer.feed(stream[at : at + 1_000])
        most = max(most, gatherer.waiting + len(gatherer._part))
        out += gatherer.take()
    gatherer.finish()
    assert joined(events(out + gatherer.take())) == joined(events(stream)) and most < 2 * MAX_HELD


# over a socket


class Script:
    """A server on loopback that plays (seconds, bytes) to whoever asks, and then hangs up if it does not `end`.

    closed: set when the client has closed; at: the second of each part. asked: the head of the request."""

    def __init__(self, parts: list[tuple[float, bytes]], *, end: bool = True, headers: str = "") -> None:
        self.parts, self.end, self.headers = parts, end, headers
        self.closed, self.at, self.sent, self.asked = asyncio.Event(), list[float](), 0, ""

    async def __aenter__(self) -> Script:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked = (await reader.readuntil(b"\r\n\r\n")).decode()
            head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
            writer.write(f"{head}{self.headers}\r\n".encode())
            gone = asyncio.create_task(reader.read(1))
            for wait, data in self.parts:
                await asyncio.wait([gone], timeout=wait)
                if gone.done():
                    break
                self.at.append(time.monotonic())
                writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                await writer.drain()
                self.sent += len(data)
            if self.end and not gone.done():
                writer.write(b"0\r\n\r\n")
            elif not self.end and not gone.done():
                writer.transport.abort()
            await gone
        self.closed.set()
        writer.close()


@contextlib.asynccontextmanager
async def stream_of(script: Script) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.Response]]:
    async with script, gathering(httpx2.AsyncClient(timeout=30)) as client, client.stream("GET", script.url) as got:
        yield client, got


async def read(response: httpx2.Response) -> list[tuple[float, bytes]]:
    return [(time.monotonic(), data) async for data in response.aiter_bytes()]


def content(data: bytes) -> str:
    return "".join(d["choices"][0]["delta"].get("content", "") for _, d in events(data))


async def test_held_text_comes_although_the_server_says_nothing_more() -> None:
    words = [(0.0, sse(chat({"content": word}))) for word in ("one", " two", " three")]
    script = Script([*words, (3.0, sse(chat({"content": " four"}))), (0.0, sse("[DONE]"))])
    async with stream_of(script) as (_, response):
        came = await read(response)
    assert came[0][0] - script.at[0] <= HOLD_S + SLACK_S, "not with the next word, three seconds later"
    assert content(came[0][1]).startswith("one") and script.at[3] - came[0][0] > 3.0 - HOLD_S - SLACK_S
    assert content(b"".join(data for _, data in came).replace(sse("[DONE]"), b"")) == "one two three four"


async def test_a_quick_stream_becomes_a_few_events_a_second_and_not_at_the_same_moments() -> None:
    words = [(0.02, sse(chat({"content": f"{k} "}))) for k in range(100)]
    async with stream_of(Script(words)) as one, stream_of(Script(words)) as two:
        first, second = await asyncio.gather(read(one[1]), read(two[1]))
    for came in (first, second):
        took = came[-1][0] - came[0][0]
        assert content(b"".join(data for _, data in came)) == "".join(f"{k} " for k in range(100))
        assert len(came) <= took / HOLD_S + 3, f"{len(came)} pieces in {took:.1f} s"


async def test_a_stream_that_is_read_at_leisure_is_not_left_behind() -> None:
    """Thinking aloud, and with a sentence to be spoken already, 100 words a second for two seconds."""
    for first, field in (("", "reasoning_content"), ("This is so. And now ", "content")):
        words = [(0.01, sse(chat({field: f"{k} "}))) for k in range(200)]
        script = Script([(0.0, sse(chat({field: first}))), *words, (0.0, sse("[DONE]"))])
        async with stream_of(script) as (_, response), asyncio.timeout(60):
            came = await read(response)
        assert came[-1][1].endswith(sse("[DONE]")) and came[-1][0] - script.at[-1] <= 0.4 + SLACK_S, field
        assert len(came) < 60, f"{len(came)} pieces of 200 words"


async def test_what_a_failing_stream_said_comes_before_its_failure() -> None:
    script = Script([(0.0, sse(chat({"content": "so far"})) + b"data: and a ha")], end=False)
    data = b""
    async with stream_of(script) as (_, response):
        with pytest.raises(httpx2.TransportError):
            async for piece in response.aiter_bytes():
                data += piece
    assert data == sse(chat({"content": "so far"})) + b"data: and a ha"


async def test_closing_closes_the_providers_socket_at_once_while_text_is_held_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    for how in ("close", "cancel"):
        script = Script([(0.0, sse("first")), *[(0.05, sse(chat({"content": "word "})))] * 400])
        async with stream_of(script) as (_, response):
            taken = asyncio.create_task(read(response))
            async with asyncio.timeout(30):
                while script.sent < 400:
                    await asyncio.sleep(0.01)
            began = time.monotonic()
            if how == "close":
                await response.aclose()
            else:
                taken.cancel()
            async with asyncio.timeout(30):
                await script.closed.wait()
            assert time.monotonic() - began <= 0.4 + SLACK_S, how
            await asyncio.wait([taken])
            assert taken.cancelled() or isinstance(taken.exception(), httpx2.TransportError | httpx2.StreamError), how
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)


async def test_nobody_taking_it_stops_the_reading() -> None:
    piece = sse(chat({"content": "word " * 200}))
    script = Script([(0.0, piece)] * 20_000)  # over 20 MB, more than the sockets of a system keep
    async with stream_of(script) as (_, response):
        chunks = response.aiter_bytes()
        await anext(chunks)
        sent = -1
        async with asyncio.timeout(60):
            while sent != script.sent:
                sent = script.sent
                await asyncio.sleep(0.5)
        assert sent < 0.8 * 20_000 * len(piece)
        await chunks.aclose()


async def test_what_is_compressed_or_no_event_stream_is_left_alone() -> None:
    packed = gzip.compress(sse(chat({"content": "word"})))
    script = Script([(0.0, packed)], headers="content-encoding: gzip\r\n")
    async with stream_of(script) as (_, response):
        assert content(b"".join(data for _, data in await read(response))) == "word"
    assert "accept-encoding: identity" in script.asked.lower(), "it was not asked for"
    plain = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"delta": 1}))
    async with gathering(httpx2.AsyncClient(transport=plain)) as client:
        assert (await client.get("http://nowhere.invalid/")).json() == {"delta": 1}
