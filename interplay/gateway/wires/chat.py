"""OpenAI chat completions: the protocol in the middle, and the one that most providers speak."""

from __future__ import annotations

import time
import uuid
from typing import Any

from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault, from_event
from interplay.gateway.wires.base import Json, Piece, ToolPiece, details, dumps, parsed, sse, whole

PATH = "/chat/completions"


def usage_of(body: Any) -> Usage | None:
    """A `usage` object of a chat completion, or None if there is none."""
    used = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(used, dict) or not ("prompt_tokens" in used or "total_tokens" in used):
        return None
    given, made = details(used, "prompt_tokens_details"), details(used, "completion_tokens_details")
    return Usage(
        input_tokens=whole(used.get("prompt_tokens")),
        cached_tokens=whole(given.get("cached_tokens")) or whole(used.get("prompt_cache_hit_tokens")),
        input_audio_tokens=whole(given.get("audio_tokens")),
        output_tokens=whole(used.get("completion_tokens")),
        output_audio_tokens=whole(made.get("audio_tokens")),
    )


class ChatReader:
    """Reads a stream of `chat.completion.chunk`. ended: `[DONE]` or a finish reason was seen."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def read(self, name: str, data: bytes) -> Piece | None:
        if data == b"[DONE]":
            self.ended = True
            return None
        event = parsed(data)
        choices = event.get("choices")
        if choices:
            try:
                choice = choices[0]
                delta = choice.get("delta") or {}
                text = delta.get("content")
                finish = choice.get("finish_reason") or ""
                calls = delta.get("tool_calls")
                reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            except (AttributeError, TypeError, KeyError, IndexError):
                raise Fault("garbage", "a chunk that is not one") from None
            piece = Piece(text if isinstance(text, str) else "", raw=data, event=event)
            if isinstance(reasoning, str):
                piece.reasoning = reasoning
            if calls:
                piece.tools = _tools(calls)
            if finish:
                piece.finish = str(finish)
                self.ended = True
            if event.get("usage"):
                piece.usage = usage_of(event)
            return piece
        if "error" in event:
            raise from_event(event["error"])
        if "choices" not in event and "usage" not in event:
            raise Fault("garbage", "an event that is no chunk")
        return Piece(usage=usage_of(event), raw=data, event=event)


def _tools(calls: Any) -> tuple[ToolPiece, ...]:
    pieces = []
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, dict):
            raise Fault("garbage", "a tool call that is not one")
        function = call.get("function") or {}
        pieces.append(
            ToolPiece(
                whole(call.get("index")),
                call.get("id") or "",
                function.get("name") or "",
                function.get("arguments") or "",
            )
        )
    return tuple(pieces)


class ChatWriter:
    """Writes a stream of `chat.completion.chunk`. The id, time and model of the first chunk stay for all of them."""

    def __init__(self, model: str, *, usage: bool) -> None:
        self._base: Json = {}
        self._model, self._usage = model, usage
        self._asked_usage: Usage | None = None
        self._opened = False

    def write(self, piece: Piece) -> bytes:
        if piece.raw and piece.event is not None:
            event = piece.event
            if not self._base:
                self._base = {key: event[key] for key in ("id", "created", "model", "system_fingerprint")
                              if event.get(key) is not None}  # fmt: skip
            if piece.usage is not None and not event.get("choices"):
                self._asked_usage = piece.usage
                return b""
            self._opened = True
            return b"data: " + (piece.raw if b"\n" not in piece.raw else dumps(event)) + b"\n\n"
        return self._made(piece)

    def _made(self, piece: Piece) -> bytes:
        out = b""
        if piece.usage is not None:
            self._asked_usage = piece.usage
        delta: Json = {}
        if piece.text:
            delta["content"] = piece.text
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.tools:
            delta["tool_calls"] = [_call(tool) for tool in piece.tools]
        if delta or piece.finish:
            if not self._opened:
                self._opened = True
                delta = {"role": "assistant", **delta}
            out = self._chunk([{"index": 0, "delta": delta, "finish_reason": piece.finish or None}])
        return out

    def end(self) -> bytes:
        out = b""
        if self._usage and self._asked_usage is not None:
            out = self._chunk([], usage=usage_json(self._asked_usage))
        return out + b"data: [DONE]\n\n"

    def error(self, code: str, message: str, status: int) -> bytes:
        return sse(error_json(code, message, status))

    def _chunk(self, choices: list[Json], **more: Any) -> bytes:
        if not self._base:
            self._base = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self._model}
        return sse({"object": "chat.completion.chunk", **self._base, "choices": choices, **more})


def _call(tool: ToolPiece) -> Json:
    call: Json = {"index": tool.index, "function": {"arguments": tool.arguments}}
    if tool.id or tool.name:
        call["id"], call["type"] = tool.id or f"call_{uuid.uuid4().hex[:24]}", "function"
        call["function"]["name"] = tool.name
    return call


def usage_json(used: Usage) -> Json:
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens, "audio_tokens": used.input_audio_tokens},
        "completion_tokens_details": {"audio_tokens": used.output_audio_tokens},
    }


def error_json(code: str, message: str, status: int) -> Json:
    kind = "invalid_request_error" if 400 <= status < 500 and status != 429 else "server_error"
    return {"error": {"message": message, "type": "rate_limit_error" if status == 429 else kind, "code": code,
                      "param": None}}  # fmt: skip


def completion(model: str, text: str, tools: list[Json], finish: str, used: Usage | None, reasoning: str = "") -> Json:
    """A whole chat completion."""
    message: Json = {"role": "assistant", "content": text or None, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if tools:
        message["tool_calls"] = tools
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish or "stop"}],
        **({"usage": usage_json(used)} if used is not None else {}),
    }


def continuation(body: Json, said: str) -> Json:
    """The request that asks another model to go on where `said` broke off."""
    ask = (
        "Your last message was cut off by a network failure. Go on with it at the exact character where it stops. "
        "Do not repeat any of it, do not apologise, do not comment."
    )
    turns = [{"role": "assistant", "content": said}, {"role": "user", "content": ask}]
    return {**body, "messages": [*body["messages"], *turns]}
