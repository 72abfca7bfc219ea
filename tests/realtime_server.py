"""Scripted real-time providers, each in a process of its own: `python -m tests.realtime_server PROTOCOL SCRIPT LOG`.

PROTOCOL: openai, gemini, moshi, minicpmo. SCRIPT: answer, drop (mid-word, without goodbye), limit (session limit, or
go_away), refuse (HTTP 503), key (HTTP 401), hang (never answers). Prints its port; writes what it was sent to LOG.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

WORDS = ["one", "two", "three", "four", "five", "six"]
WORD_S = 0.3


def tone(seconds: float, rate: int = 24_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def pcm(samples: np.ndarray) -> str:
    return base64.b64encode((samples * 32767).astype("<i2").tobytes()).decode()


class Script:
    def __init__(self, script: str, log: Path) -> None:
        self.script, self.log = script, log
        self.answering: asyncio.Task[None] | None = None
        self.response = ""

    def note(self, **fields: Any) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        self.note(kind="request", path=request.path)
        if self.script in ("refuse", "key"):
            status = 503 if self.script == "refuse" else 401
            return connection.respond(status, "no: " + str(request.headers.get("Authorization", "")))
        return None

    async def openai(self, socket: ServerConnection) -> None:
        number = 0

        async def say(kind: str, **fields: Any) -> None:
            nonlocal number
            number += 1
            await socket.send(json.dumps({"type": kind, "event_id": f"event_{number}", **fields}))

        if self.script == "hang":
            await asyncio.sleep(3600)
        session = {"id": "sess_1", "object": "realtime.session", "type": "realtime", "model": "gpt-realtime"}
        await say("session.created", session=session)
        heard, answered = 0, False
        async for raw in socket:
            event = json.loads(raw)
            if event["type"] == "session.update":
                self.note(kind="session", instructions=event["session"].get("instructions", ""))
                await say("session.updated", session={**session, **event["session"]})
            elif event["type"] == "conversation.item.create":
                self.note(kind="item", role=event["item"].get("role"), text=str(event["item"].get("content")))
                await say("conversation.item.added", previous_item_id=None, item=event["item"])
                await say("conversation.item.done", previous_item_id=None, item=event["item"])
            elif event["type"] == "response.create":
                self.answering = asyncio.create_task(self.openai_answer(socket, say, f"resp_t{number}"))
            elif event["type"] == "input_audio_buffer.append":
                heard += len(base64.b64decode(event["audio"])) // 2
                if heard > 24_000 and not answered:
                    answered = True
                    self.note(kind="audio", samples=heard)
                    await say("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
                    if self.answering is not None and not self.answering.done():
                        self.answering.cancel()  # as the real one does: speech ends the answer under way
                        over = {"id": self.response, "object": "realtime.response", "status": "cancelled", "output": []}
                        await say("response.done", response=over)
                    await say("input_audio_buffer.speech_stopped", item_id="item_u", audio_end_ms=900)
                    await say("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
                    item = {"id": "item_u", "type": "message", "role": "user", "status": "completed", "content": []}
                    await say("conversation.item.added", previous_item_id=None, item=item)
                    await say(
                        "conversation.item.input_audio_transcription.completed", item_id="item_u", content_index=0,
                        transcript="count to six please", usage={"type": "duration", "seconds": 1},
                    )  # fmt: skip
                    self.answering = asyncio.create_task(self.openai_answer(socket, say, "resp_1"))
            elif event["type"] in ("conversation.item.truncate", "response.cancel"):
                self.note(kind=event["type"], audio_end_ms=event.get("audio_end_ms"))

    async def openai_answer(self, socket: ServerConnection, say: Any, response: str) -> None:
        item = {
            "id": f"item_{response}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        whole = {"id": response, "object": "realtime.response", "status": "in_progress", "output": []}
        await say("response.created", response=whole)
        await say("response.output_item.added", response_id=response, output_index=0, item=item)
        await say("conversation.item.added", previous_item_id=None, item=item)
        where = {"response_id": response, "item_id": item["id"], "output_index": 0, "content_index": 0}
        for index, word in enumerate(WORDS):
            await say("response.output_audio_transcript.delta", **where, delta=word + " ")
            sound = tone(WORD_S)
            if index == 2 and self.script == "drop":
                await say("response.output_audio.delta", **where, delta=pcm(sound[: len(sound) // 3]))
                socket.transport.abort()  # mid-word, without a goodbye
                return
            await say("response.output_audio.delta", **where, delta=pcm(sound))
            if index == 2 and self.script == "barge":
                self.script = "answer"
                await say("input_audio_buffer.speech_started", item_id="item_v", audio_start_ms=2000)
            if index == 2 and self.script == "limit":
                error = {"type": "invalid_request_error", "code": "session_expired", "message": "maximum duration"}
                await say("error", error=error)
                await socket.close(1001, "session limit")
                return
            await asyncio.sleep(WORD_S / 2)
        await say("response.output_audio_transcript.done", **where, transcript=" ".join(WORDS))
        await say("response.output_audio.done", **where)
        done = {**item, "status": "completed", "content": [{"type": "output_audio", "transcript": " ".join(WORDS)}]}
        await say("response.output_item.done", response_id=response, output_index=0, item=done)
        usage = {
            "total_tokens": 150, "input_tokens": 100, "output_tokens": 50,
            "input_token_details": {"text_tokens": 20, "audio_tokens": 80, "cached_tokens": 0},
            "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
        }  # fmt: skip
        await say("response.done", response={**whole, "status": "completed", "output": [done], "usage": usage})

    async def gemini(self, socket: ServerConnection) -> None:
        heard = 0
        async for raw in socket:
            event = json.loads(raw)
            if "setup" in event:
                self.note(kind="setup", setup=event["setup"])
                await socket.send(json.dumps({"setupComplete": {}}))
            elif "clientContent" in event or "client_content" in event:
                self.note(kind="item", text=json.dumps(event))
            elif audio := event.get("realtimeInput", event.get("realtime_input", {})).get("audio"):
                before, heard = heard, heard + len(base64.b64decode(audio["data"])) // 2
                if before <= 16_000 < heard:
                    asyncio.get_running_loop().create_task(self.gemini_answer(socket))

    async def gemini_answer(self, socket: ServerConnection) -> None:
        async def say(**content: Any) -> None:
            await socket.send(json.dumps({"serverContent": content}))

        await say(inputTranscription={"text": "count to six please"})
        for index, word in enumerate(WORDS):
            part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": pcm(tone(WORD_S))}}
            await say(modelTurn={"parts": [part]}, outputTranscription={"text": word + " "})
            if index == 2 and self.script == "limit":
                await socket.send(json.dumps({"goAway": {"timeLeft": "0.2s"}}))
                await asyncio.sleep(0.2)
                await socket.close(1001, "going away")
                return
            await asyncio.sleep(WORD_S / 2)
        await say(generationComplete=True)
        await say(turnComplete=True)

    async def moshi(self, socket: ServerConnection) -> None:
        import sphn

        reader, writer = sphn.OpusStreamReader(24_000), sphn.OpusStreamWriter(24_000)
        await socket.send(b"\x00")
        heard, said = 0, 0
        async for raw in socket:
            assert isinstance(raw, bytes) and raw[0] == 1
            heard += len(reader.append_bytes(raw[1:]))
            while said < min(len(WORDS), heard // 12_000):
                await socket.send(b"\x02" + f" {WORDS[said]}".encode())
                sound = tone(0.32)
                for at in range(0, len(sound), 1920):
                    await socket.send(b"\x01" + writer.append_pcm(sound[at : at + 1920]))
                said += 1
                if said == 3 and self.script == "drop":
                    socket.transport.abort()
                    return

    async def minicpmo(self, socket: ServerConnection) -> None:
        heard, said = 0, 0
        async for raw in socket:
            event = json.loads(raw)
            if event["type"] == "prepare":
                self.note(kind="prepare", prompt=event["system_prompt"])
                await socket.send(json.dumps({"type": "prepared"}))
            elif event["type"] == "audio_chunk":
                heard += len(base64.b64decode(event["audio_base64"])) // 4
                while said < len(WORDS) and heard >= 8_000 * (said + 1):
                    sound = base64.b64encode(tone(WORD_S).tobytes()).decode()
                    await socket.send(json.dumps({"type": "result", "is_listen": False, "text": WORDS[said] + " ",
                                                  "audio_data": sound, "end_of_turn": said == 5}))  # fmt: skip
                    said += 1
            elif event["type"] == "stop":
                self.note(kind="stop")
                return


async def main(protocol: str, script: str, log: str) -> None:
    play = Script(script, Path(log))
    async with serve(getattr(play, protocol), "127.0.0.1", 0, process_request=play.refuse, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
