"""Anthropic messages: to and from the chat body in the middle."""

from __future__ import annotations

import json
import uuid
from typing import Any

from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault, from_event
from interplay.gateway.wires.base import FollowingWriter, Json, Piece, ToolPiece, parsed, sse, text_of, whole
from interplay.gateway.wires.chat import completion

PATH = "/messages"
VERSION = "2023-06-01"
MAX_TOKENS = 4096

_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
           "refusal": "content_filter", "pause_turn": "stop"}  # fmt: skip
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal",
         "function_call": "tool_use"}  # fmt: skip


def to_chat(body: Json) -> Json:
    """A messages request as a chat request. Raises Fault("bad_request")."""
    messages: list[Json] = []
    if system := text_of(body.get("system")):
        messages.append({"role": "system", "content": system})
    for message in _list(body.get("messages"), "messages"):
        messages += _turn(message)
    chat: Json = {"model": body.get("model", ""), "messages": messages}
    for theirs, ours in (("max_tokens", "max_tokens"), ("temperature", "temperature"), ("top_p", "top_p"),
                         ("stop_sequences", "stop"), ("stream", "stream")):  # fmt: skip
        if body.get(theirs) is not None:
            chat[ours] = body[theirs]
    if tools := body.get("tools"):
        chat["tools"] = [_tool_to_chat(tool) for tool in tools]
    if isinstance(choice := body.get("tool_choice"), dict):
        kind = choice.get("type")
        if kind == "tool":
            chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name", "")}}
        else:
            chat["tool_choice"] = {"any": "required", "none": "none"}.get(str(kind), "auto")
        if choice.get("disable_parallel_tool_use"):
            chat["parallel_tool_calls"] = False
    return chat


def _tool_to_chat(tool: Any) -> Json:
    if not isinstance(tool, dict) or "input_schema" not in tool:
        raise Fault("modality", "the tool " + str(tool.get("type") if isinstance(tool, dict) else tool)
                    + " runs at Anthropic only")  # fmt: skip
    function = {"name": tool.get("name", ""), "parameters": tool["input_schema"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _turn(message: Any) -> list[Json]:
    """One message; tool results become messages of their own."""
    role, content = message.get("role"), message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    turns: list[Json] = []
    parts: list[Json] = []
    calls: list[Json] = []
    for block in _list(content, "content"):
        kind = block.get("type")
        if kind == "text":
            parts.append({"type": "text", "text": block.get("text", "")})
        elif kind == "image":
            parts.append({"type": "image_url", "image_url": {"url": _image_url(block.get("source") or {})}})
        elif kind == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            calls.append({"id": block.get("id"), "type": "function",
                          "function": {"name": block.get("name"), "arguments": arguments}})  # fmt: skip
        elif kind == "tool_result":
            turns.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": _result(block)})
        elif kind not in ("thinking", "redacted_thinking"):
            raise Fault("modality", f"a content block of type {kind!r}")
    if role == "assistant":
        turn: Json = {"role": "assistant", "content": text_of(parts) or None}
        if calls:
            turn["tool_calls"] = calls
        return [turn]
    if parts:
        turns.append({"role": role, "content": text_of(parts) if all(p["type"] == "text" for p in parts) else parts})
    return turns


def _result(block: Json) -> str:
    words = text_of(block.get("content"))
    return f"Error: {words}" if block.get("is_error") else words


def _image_url(source: Json) -> str:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
    if source.get("type") == "url":
        return str(source.get("url", ""))
    raise Fault("modality", f"an image source of type {source.get('type')!r}")


def from_chat(body: Json, max_tokens: int = 0) -> Json:
    """A chat request as a messages request. max_tokens: if the caller gave none. Raises Fault("modality")."""
    system: list[str] = []
    messages: list[Json] = []

    def add(role: str, blocks: list[Json]) -> None:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": role, "content": blocks})

    for message in _list(body.get("messages"), "messages"):
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            system.append(text_of(content))
        elif role == "tool":
            block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": text_of(content)}
            add("user", [block])
        elif role == "assistant":
            words = text_of(content)
            add("assistant", ([{"type": "text", "text": words}] if words else []) + _uses(message))
        else:
            add("user", _blocks(content))
    made: Json = {"model": body.get("model", ""), "messages": messages}
    made["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens or MAX_TOKENS
    if system:
        made["system"] = "\n\n".join(system)
    for name in ("temperature", "top_p", "stream"):
        if body.get(name) is not None:
            made[name] = body[name]
    if (stop := body.get("stop")) is not None:
        made["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if tools := body.get("tools"):
        made["tools"] = [_tool_from_chat(tool) for tool in tools]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        made["tool_choice"] = {"type": "tool", "name": (choice.get("function") or {}).get("name", "")}
    elif choice is not None and tools:
        made["tool_choice"] = {"type": {"required": "any", "none": "none"}.get(choice, "auto")}
    if (body.get("response_format") or {}).get("type", "text") != "text":
        raise Fault("modality", "response_format with an Anthropic model; use a tool for structured output")
    if body.get("n", 1) not in (1, None):
        raise Fault("modality", "n > 1 with an Anthropic model")
    return made


def _tool_from_chat(tool: Any) -> Json:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise Fault("modality", "a tool that is not a function")
    made = {"name": function.get("name", ""), "input_schema": function.get("parameters") or {"type": "object"}}
    if function.get("description"):
        made["description"] = function["description"]
    return made


def _uses(message: Json) -> list[Json]:
    uses = []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except ValueError:
            raise Fault("bad_request", "tool call arguments that are not JSON") from None
        uses.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments})
    return uses


def _blocks(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks: list[Json] = []
    for part in _list(content, "content"):
        if part.get("type") == "text":
            blocks.append({"type": "text", "text": part.get("text", "")})
        elif part.get("type") == "image_url":
            image = part.get("image_url")
            blocks.append({"type": "image", "source": _source(image.get("url", "") if isinstance(image, dict) else "")})
        else:
            raise Fault("modality", f"a content part of type {part.get('type')!r} with an Anthropic model")
    return blocks


def _source(url: str) -> Json:
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        return {"type": "base64", "media_type": head.split(";")[0], "data": data}
    return {"type": "url", "url": url}


def usage_of(body: Any) -> Usage | None:
    """A `usage` object of a message. Anthropic counts cached tokens beside the others; we count them among them."""
    used = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(used, dict):
        return None
    read, made = whole(used.get("cache_read_input_tokens")), whole(used.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=whole(used.get("input_tokens")) + read + made,
        cached_tokens=read,
        cache_write_tokens=made,
        output_tokens=whole(used.get("output_tokens")),
    )


def usage_json(used: Usage) -> Json:
    return {
        "input_tokens": max(0, used.input_tokens - used.cached_tokens - used.cache_write_tokens),
        "cache_read_input_tokens": used.cached_tokens,
        "cache_creation_input_tokens": used.cache_write_tokens,
        "output_tokens": used.output_tokens,
    }


def answer_to_chat(body: Json) -> Json:
    """A whole message as a chat completion."""
    text = reasoning = ""
    tools: list[Json] = []
    for block in _list(body.get("content"), "content", Fault("garbage", "a message without content")):
        if block.get("type") == "text":
            text += block.get("text", "")
        elif block.get("type") == "thinking":
            reasoning += block.get("thinking", "")
        elif block.get("type") == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            tools.append({"id": block.get("id"), "type": "function",
                          "function": {"name": block.get("name"), "arguments": arguments}})  # fmt: skip
    finish = _FINISH.get(str(body.get("stop_reason")), "stop")
    return completion(str(body.get("model", "")), text, tools, finish, usage_of(body), reasoning)


def answer_from_chat(body: Json, used: Usage | None) -> Json:
    """A whole chat completion as a message."""
    choice = (body.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    content: list[Json] = []
    if words := text_of(message.get("content")):
        content.append({"type": "text", "text": words})
    content += _uses(message)
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": content,
        "stop_reason": _STOP.get(str(choice.get("finish_reason")), "end_turn"),
        "stop_sequence": None,
        "usage": usage_json(used or Usage()),
    }


class MessagesReader:
    """Reads Anthropic's events. ended: `message_stop` or a stop reason was seen."""

    def __init__(self) -> None:
        self.ended = False
        self._start = Usage()
        self._calls: dict[int, int] = {}

    def read(self, name: str, data: bytes) -> Piece | None:
        event = parsed(data)
        kind = event.get("type") or name
        piece = Piece(raw=data, event=event)
        if kind == "content_block_delta":
            delta = event.get("delta") or {}
            if delta.get("type") == "text_delta":
                piece.text = delta.get("text") or ""
            elif delta.get("type") == "input_json_delta":
                call = self._calls.get(whole(event.get("index")), 0)
                piece.tools = (ToolPiece(call, arguments=delta.get("partial_json") or ""),)
            elif delta.get("type") == "thinking_delta":
                piece.reasoning = delta.get("thinking") or ""
        elif kind == "content_block_start":
            block = event.get("content_block") or {}
            if block.get("type") == "tool_use":
                call = self._calls.setdefault(whole(event.get("index")), len(self._calls))
                piece.tools = (ToolPiece(call, block.get("id") or "", block.get("name") or ""),)
            elif block.get("type") == "text":
                piece.text = block.get("text") or ""
        elif kind == "message_start":
            self._start = usage_of(event.get("message")) or Usage()
            piece.usage = self._start
        elif kind == "message_delta":
            if reason := (event.get("delta") or {}).get("stop_reason"):
                piece.finish = _FINISH.get(str(reason), "stop")
                self.ended = True
            if (used := usage_of(event)) is not None:
                first = self._start
                piece.usage = Usage(
                    input_tokens=used.input_tokens or first.input_tokens,
                    cached_tokens=used.cached_tokens or first.cached_tokens,
                    cache_write_tokens=used.cache_write_tokens or first.cache_write_tokens,
                    output_tokens=used.output_tokens,
                )
        elif kind == "message_stop":
            self.ended = True
        elif kind == "error":
            raise from_event(event.get("error"))
        elif kind == "content_block_stop":
            piece.boundary = True
        elif kind != "ping":
            raise Fault("garbage", "an unknown event")
        return piece


class MessagesWriter(FollowingWriter):
    """Writes Anthropic's events, and follows those that are handed on so that it can go on after them."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._started = self._stopped = self._told = False
        self._block = -1  # index of the newest content block
        self._open = ""  # its type while it is open
        self._call = -1  # the tool call that it holds
        self._finish = ""

    def _made(self, piece: Piece) -> bytes:
        out = b""
        if not self._started:
            out += self._start()
        if piece.reasoning:
            out += self._into("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._delta({"type": "thinking_delta", "thinking": piece.reasoning})
        if piece.text:
            out += self._into("text", {"type": "text", "text": ""})
            out += self._delta({"type": "text_delta", "text": piece.text})
        for tool in piece.tools:
            if tool.index != self._call or self._open != "tool_use":
                self._call = tool.index
                block = {"type": "tool_use", "id": tool.id or f"toolu_{uuid.uuid4().hex[:24]}", "name": tool.name,
                         "input": {}}  # fmt: skip
                out += self._close() + self._into("tool_use", block)
            if tool.arguments:
                out += self._delta({"type": "input_json_delta", "partial_json": tool.arguments})
        self._finish = piece.finish or self._finish
        return out

    def end(self) -> bytes:
        if self._stopped:
            return b""
        out = b"" if self._started else self._start()
        out += self._close()
        if self._told:
            return out + sse({"type": "message_stop"}, "message_stop")
        delta = {"stop_reason": _STOP.get(self._finish, "end_turn"), "stop_sequence": None}
        used = usage_json(self._used or Usage())
        out += sse({"type": "message_delta", "delta": delta, "usage": used}, "message_delta")
        return out + sse({"type": "message_stop"}, "message_stop")

    def error(self, code: str, message: str, status: int) -> bytes:
        return sse(error_json(code, message, status), "error")

    def _start(self) -> bytes:
        self._started = True
        message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": self._model,
                   "content": [], "stop_reason": None, "stop_sequence": None,
                   "usage": {**usage_json(self._used or Usage()), "output_tokens": 0}}  # fmt: skip
        return sse({"type": "message_start", "message": message}, "message_start")

    def _into(self, kind: str, block: Json) -> bytes:
        if self._open == kind:
            return b""
        out = self._close()
        self._block, self._open = self._block + 1, kind
        event = {"type": "content_block_start", "index": self._block, "content_block": block}
        return out + sse(event, "content_block_start")

    def _delta(self, delta: Json) -> bytes:
        return sse({"type": "content_block_delta", "index": self._block, "delta": delta}, "content_block_delta")

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return sse({"type": "content_block_stop", "index": self._block}, "content_block_stop")

    def _follow(self, event: Json) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._started = True
        elif kind == "content_block_start":
            self._block, self._open = whole(event.get("index")), str((event.get("content_block") or {}).get("type"))
            self._call += self._open == "tool_use"
        elif kind == "content_block_stop":
            self._open = ""
        elif kind == "message_delta":
            self._told = True
        elif kind == "message_stop":
            self._stopped = True


def error_json(code: str, message: str, status: int) -> Json:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
             404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
             504: "timeout_error"}  # fmt: skip
    return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": f"{message} [{code}]"}}


def _list(value: Any, what: str, fault: Fault | None = None) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise fault or Fault("bad_request", f"`{what}` must be a list of objects")
    return value
