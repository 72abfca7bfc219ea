"""OpenAI responses: to and from the chat body in the middle.

Where the provider speaks it too, requests and events pass as they are. Where it does not, what only OpenAI's servers
can do (stored conversations, hosted tools) is refused rather than forgotten.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault, from_event
from interplay.gateway.wires.base import FollowingWriter, Json, Piece, ToolPiece, details, parsed, sse, text_of, whole

PATH = "/responses"
_LOCAL = ("previous_response_id", "conversation", "prompt", "background")


def to_chat(body: Json) -> Json:
    """A responses request as a chat request. Raises Fault("modality") for what only OpenAI's servers can do."""
    for name in _LOCAL:
        if body.get(name):
            raise Fault("modality", f"`{name}` needs a provider that stores responses")
    messages: list[Json] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif isinstance(given, list):
        for item in given:
            _item(item, messages)
    else:
        raise Fault("bad_request", "`input` must be a string or a list")
    chat: Json = {"model": body.get("model", ""), "messages": messages}
    for theirs, ours in (("max_output_tokens", "max_completion_tokens"), ("temperature", "temperature"),
                         ("top_p", "top_p"), ("stream", "stream"), ("parallel_tool_calls", "parallel_tool_calls"),
                         ("user", "user")):  # fmt: skip
        if body.get(theirs) is not None:
            chat[ours] = body[theirs]
    if effort := details(body, "reasoning").get("effort"):
        chat["reasoning_effort"] = effort
    if tools := body.get("tools"):
        chat["tools"] = [_tool(tool) for tool in tools]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name", "")}}
    elif choice is not None and tools:
        chat["tool_choice"] = choice
    form = details(body, "text").get("format")
    if isinstance(form, dict) and form.get("type", "text") != "text":
        if form["type"] == "json_schema":
            names = ("name", "schema", "strict", "description")
            schema = {key: form[key] for key in names if form.get(key) is not None}
            chat["response_format"] = {"type": "json_schema", "json_schema": schema}
        else:
            chat["response_format"] = {"type": form["type"]}
    return chat


def _tool(tool: Any) -> Json:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise Fault("modality", f"a hosted tool ({tool.get('type') if isinstance(tool, dict) else tool!r})")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in names if tool.get(key) is not None}}


def _item(item: Any, messages: list[Json]) -> None:
    if not isinstance(item, dict):
        raise Fault("bad_request", "an item of `input` must be an object")
    kind = item.get("type", "message")
    if kind == "message":
        role = item.get("role", "user")
        content = item.get("content")
        if role == "assistant" or isinstance(content, str):
            messages.append({"role": role, "content": text_of(content)})
        else:
            messages.append({"role": role, "content": [_part(part) for part in content or ()]})
    elif kind == "function_call":
        call = {"id": item.get("call_id"), "type": "function",
                "function": {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}}  # fmt: skip
        if messages and messages[-1]["role"] == "assistant":
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        output = item.get("output")
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text_of(output)})
    elif kind != "reasoning":
        raise Fault("modality", f"an input item of type {kind!r}")


def _part(part: Any) -> Json:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part.get("text", "")}
    if kind == "input_image" and part.get("image_url"):
        image = {"url": part["image_url"]}
        if part.get("detail"):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise Fault("modality", f"a content part of type {kind!r}")


def usage_of(body: Any) -> Usage | None:
    used = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(used, dict):
        return None
    return Usage(
        input_tokens=whole(used.get("input_tokens")),
        cached_tokens=whole(details(used, "input_tokens_details").get("cached_tokens")),
        output_tokens=whole(used.get("output_tokens")),
    )


def usage_json(used: Usage) -> Json:
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def _response(model: str, output: list[Json], status: str, used: Usage | None, identity: str = "") -> Json:
    return {
        "id": identity or f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": usage_json(used) if used is not None else None,
    }


def _message(identity: str, text: str, status: str = "completed") -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": identity, "type": "message", "role": "assistant", "status": status, "content": [part]}


def answer_from_chat(body: Json, used: Usage | None) -> Json:
    """A whole chat completion as a response."""
    choice = (body.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    output: list[Json] = []
    if words := text_of(message.get("content")):
        output.append(_message(f"msg_{uuid.uuid4().hex}", words))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        output.append({"id": f"fc_{uuid.uuid4().hex}", "type": "function_call", "status": "completed",
                       "call_id": call.get("id"), "name": function.get("name"),
                       "arguments": function.get("arguments") or ""})  # fmt: skip
    status = "incomplete" if choice.get("finish_reason") == "length" else "completed"
    return _response(str(body.get("model", "")), output, status, used)


class ResponsesReader:
    """Reads a provider's response events. ended: a closing event was seen."""

    def __init__(self) -> None:
        self.ended = False
        self._calls: dict[str, int] = {}

    def read(self, name: str, data: bytes) -> Piece | None:
        if data == b"[DONE]":
            return None
        event = parsed(data)
        kind = str(event.get("type") or name)
        piece = Piece(raw=data, event=event)
        if kind == "response.output_text.delta":
            piece.text = event.get("delta") or ""
        elif kind == "response.function_call_arguments.delta":
            call = self._calls.get(str(event.get("item_id")), 0)
            piece.tools = (ToolPiece(call, arguments=event.get("delta") or ""),)
        elif kind == "response.output_item.added":
            item = event.get("item") or {}
            if item.get("type") == "function_call":
                call = self._calls.setdefault(str(item.get("id")), len(self._calls))
                piece.tools = (ToolPiece(call, item.get("call_id") or "", item.get("name") or ""),)
        elif kind in ("response.completed", "response.incomplete"):
            self.ended = True
            piece.finish = "length" if kind.endswith("incomplete") else "tool_calls" if self._calls else "stop"
            piece.usage = usage_of(event.get("response"))
        elif kind == "response.output_text.done":
            piece.boundary = True
        elif kind == "response.failed":
            raise from_event(details(event, "response").get("error") or {"message": "failed"})
        elif kind == "error":
            raise from_event(event.get("error") or event)
        elif not kind.startswith("response."):
            raise Fault("garbage", "an unknown event")
        return piece


class ResponsesWriter(FollowingWriter):
    """Writes response events, and follows those that are handed on so that it can go on after them."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model, self._id = model, ""
        self._sequence = 0
        self._output: list[Json] = []
        self._item: Json | None = None  # the item that is open
        self._text = ""
        self._call = -1
        self._finish, self._ended = "", False

    def _made(self, piece: Piece) -> bytes:
        out = self._start()
        if piece.text:
            out += self._into_message()
            self._text += piece.text
            out += self._event("response.output_text.delta", **self._where(), content_index=0, delta=piece.text,
                               logprobs=[])  # fmt: skip
        for tool in piece.tools:
            if tool.index != self._call:
                out += self._close() + self._into_call(tool)
            if tool.arguments:
                self._text += tool.arguments
                out += self._event("response.function_call_arguments.delta", **self._where(), delta=tool.arguments)
        self._finish = piece.finish or self._finish
        return out

    def end(self) -> bytes:
        if self._ended:
            return b""
        out = self._start() + self._close()
        status = "incomplete" if self._finish == "length" else "completed"
        response = _response(self._model, self._output, status, self._used or Usage(), self._id)
        return out + self._event(f"response.{status}", response=response)

    def error(self, code: str, message: str, status: int) -> bytes:
        response = _response(self._model, self._output, "failed", None, self._id)
        response["error"] = {"code": "rate_limit_exceeded" if status == 429 else "server_error", "message": message}
        return self._event("error", code=code, message=message, param=None) + self._event(
            "response.failed", response=response
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return sse({"type": kind, "sequence_number": self._sequence - 1, **fields}, kind)

    def _start(self) -> bytes:
        if self._id:
            return b""
        self._id = f"resp_{uuid.uuid4().hex}"
        response = _response(self._model, [], "in_progress", None, self._id)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _where(self) -> Json:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": len(self._output)}

    def _into_message(self) -> bytes:
        if self._item is not None and self._item["type"] == "message":
            return b""
        out = self._close()
        self._item = {**_message(f"msg_{uuid.uuid4().hex}", "", "in_progress"), "content": []}
        out += self._event("response.output_item.added", output_index=len(self._output), item=self._item)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return out + self._event("response.content_part.added", **self._where(), content_index=0, part=part)

    def _into_call(self, tool: ToolPiece) -> bytes:
        self._call = tool.index
        self._item = {"id": f"fc_{uuid.uuid4().hex}", "type": "function_call", "status": "in_progress",
                      "call_id": tool.id or f"call_{uuid.uuid4().hex[:24]}", "name": tool.name,
                      "arguments": ""}  # fmt: skip
        return self._event("response.output_item.added", output_index=len(self._output), item=self._item)

    def _close(self) -> bytes:
        if (item := self._item) is None:
            return b""
        where, text = self._where(), self._text
        if item["type"] == "message":
            done = _message(item["id"], text)
            part = done["content"][0]
            out = self._event("response.output_text.done", **where, content_index=0, text=text, logprobs=[])
            out += self._event("response.content_part.done", **where, content_index=0, part=part)
        else:
            done = {**item, "status": "completed", "arguments": text}
            out = self._event("response.function_call_arguments.done", **where, name=item["name"], arguments=text)
        out += self._event("response.output_item.done", output_index=where["output_index"], item=done)
        self._output.append(done)
        self._item, self._text = None, ""
        return out

    def _follow(self, event: Json) -> None:
        """Keep up with an event of the provider that goes to the caller as it is."""
        kind = str(event.get("type"))
        if isinstance(number := event.get("sequence_number"), int):
            self._sequence = number + 1
        if kind == "response.created":
            response = details(event, "response")
            self._id, self._model = str(response.get("id") or ""), str(response.get("model") or self._model)
        elif kind == "response.output_item.added":
            self._item, self._text = dict(details(event, "item")), ""
            if self._item.get("type") == "function_call":
                self._call += 1
        elif kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
            self._text += event.get("delta") or ""
        elif kind == "response.output_item.done":
            self._output.append(dict(details(event, "item")))
            self._item, self._text = None, ""
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._ended = True
