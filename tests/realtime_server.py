"""Scripted real-time providers, each in a process of its own.

`python -m tests.realtime_server PROTOCOL SCRIPT LOG [CERTIFICATE]`: PROTOCOL: openai, its dialects azure, xai and
elevenlabs, live, gemini, moshi, minicpmo. SCRIPT: answer, drop (mid-word, without goodbye), limit (session limit, or
go_away), leave (go_away, well ahead), refuse (HTTP 503), key (HTTP 401), hang (never answers). Prints its port; writes
what it was sent to LOG, with a CERTIFICATE (PEM, key included) over TLS.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
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
        self.dialect = "openai"

    def note(self, **fields: Any) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        auth = {name: request.headers.get(name, "") for name in ("authorization", "api-key", "xi-api-key")}
        key = request.headers.get("x-goog-api-key", "")
        self.note(kind="request", path=request.path.partition("key=")[0], auth=[name for name in auth if auth[name]],
                  google=bool(key) or "key=" in request.path)  # fmt: skip
        if self.script in ("refuse", "key"):
            status = 503 if self.script == "refuse" else 401
            return connection.respond(status, "no: " + str(request.headers.get("Authorization", "")))
        return None

    async def azure(self, socket: ServerConnection) -> None:
        self.dialect = "azure"
        await self.openai(socket)

    async def xai(self, socket: ServerConnection) -> None:
        self.dialect = "xai"
        await self.openai(socket)

    async def elevenlabs(self, socket: ServerConnection) -> None:
        self.dialect = "elevenlabs"
        await self.openai(socket)

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
        if self.dialect == "xai":
            await say("conversation.created", conversation={"id": "conv_1", "object": "realtime.conversation"})
        heard, answered = 0, False
        async for raw in socket:
            event = json.loads(raw)
            if event["type"] == "session.update":
                self.note(kind="session", instructions=event["session"].get("instructions", ""),
                          model=event["session"].get("model", ""))  # fmt: skip
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
                    if self.dialect == "xai":  # it corrects itself, always from the beginning
                        for so_far in ("count too", "count to six"):
                            await say("conversation.item.input_audio_transcription.updated", item_id="item_u",
                                      transcript=so_far)  # fmt: skip
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
        used = {} if self.dialect == "elevenlabs" else {"usage": usage}  # that one does not say
        await say("response.done", response={**whole, "status": "completed", "output": [done], **used})

    async def live(self, socket: ServerConnection) -> None:
        """OpenAI Live: sound all the time, 100 ms a frame, zeros between; words with their times."""
        number, heard, task = 0, 0, None

        async def say(kind: str, **fields: Any) -> None:
            nonlocal number
            number += 1
            await socket.send(json.dumps({"type": kind, "event_id": f"event_{number}", **fields}))

        async for raw in socket:
            event = json.loads(raw)
            if event["type"] == "session.start":
                session = event["session"]
                self.note(kind="session", session=session)
                await say("session.started", session={"id": "live_1", "model": session.get("model", "gpt-live-1")})
            elif event["type"] == "session.input_audio.append":
                before, heard = heard, heard + len(base64.b64decode(event["audio"])) // 2
                if before <= 24_000 < heard:
                    task = asyncio.create_task(self.live_answer(socket, say))
            else:
                self.note(kind=event["type"], text=json.dumps(event))
        if task is not None:
            task.cancel()

    async def live_answer(self, socket: ServerConnection, say: Any) -> None:
        at = 1000
        for piece in ("count", " to", " six", " please"):
            await say("session.input_transcript.delta", delta=piece, start_ms=at, end_ms=at + 200)
            at += 200
        for index, word in enumerate(WORDS):
            await say("session.output_transcript.delta", delta=f" {word}", start_ms=at, end_ms=at + 300)
            at += 300
            for frame in range(3):
                await say("session.output_audio.delta", delta=pcm(tone(0.1)))
                await asyncio.sleep(0.1)
                if index == 2 and frame == 1 and self.script == "drop":
                    socket.transport.abort()
                    return
            if index == 2 and self.script == "limit":
                await say("session.closed", reason="expired", session={"id": "live_1"}, usage={"seconds": 3.0})
                await socket.close(1000)
                return
        await say("session.usage.updated", usage={"seconds": 4.0})
        for _ in range(40):
            await say("session.output_audio.delta", delta=pcm(np.zeros(2400, np.float32)))
            await asyncio.sleep(0.1)

    async def gemini(self, socket: ServerConnection) -> None:
        heard = 0
        async for raw in socket:
            event = json.loads(raw)
            if "setup" in event:
                self.note(kind="setup", setup=event["setup"])
                if self.script == "hang":
                    await asyncio.sleep(3600)
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

        for piece in ("count to", " six please"):
            await say(inputTranscription={"text": piece})
        for index, word in enumerate(WORDS):
            part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": pcm(tone(WORD_S))}}
            await say(modelTurn={"parts": [part]}, outputTranscription={"text": word + " "})
            if index == 2 and self.script == "drop":
                socket.transport.abort()
                return
            if index == 2 and self.script == "leave":
                await socket.send(json.dumps({"goAway": {"timeLeft": "9.5s"}}))
            if index == 2 and self.script == "limit":
                await socket.send(json.dumps({"goAway": {"timeLeft": "0.2s"}}))
                await asyncio.sleep(0.2)
                await socket.close(1001, "going away")
                return
            await asyncio.sleep(WORD_S / 2)
        await say(generationComplete=True)
        usage = {"promptTokenCount": 100, "responseTokenCount": 50, "totalTokenCount": 150,
                 "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 80}],
                 "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}]}  # fmt: skip
        await socket.send(json.dumps({"serverContent": {"turnComplete": True}, "usageMetadata": usage}))

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


async def main(protocol: str, script: str, log: str, certificate: str = "") -> None:
    play = Script(script, Path(log))
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    async with serve(
        getattr(play, protocol), "127.0.0.1", 0, process_request=play.refuse, max_size=None, ssl=tls
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
