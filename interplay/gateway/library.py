"""Providers that are reached through pydantic-ai's own model classes, because they speak no protocol of ours.

A chat body goes in, the pieces of an answer come out, as with every other provider.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from interplay.core.types import Missing
from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault, from_exception, from_status
from interplay.gateway.providers import Provider
from interplay.gateway.wires.base import Json, Piece, ToolPiece, text_of
from interplay.gateway.wires.chat import completion

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters

_FINISH = {"stop": "stop", "length": "length", "content_filter": "content_filter", "tool_call": "tool_calls"}


async def answer(provider: Provider, model: str, body: Json, limit_s: float, entry: str = "") -> Json:
    """A whole answer, as a chat completion. entry: the ledger's, sent along. Raises Fault or Missing."""
    messages, settings, parameters = _request(body, entry)
    try:
        async with asyncio.timeout(limit_s):
            response = await _model(provider, model).request(messages, settings, parameters)
    except Exception as error:
        raise _fault(error) from None
    tools = [_call(part) for part in response.tool_calls]
    text = "".join(part.content for part in response.parts if part.part_kind == "text")
    thoughts = "".join(part.content for part in response.parts if part.part_kind == "thinking")
    whole = completion(model, text, tools, _finish(response, bool(tools)), _usage(response), thoughts)
    return {**whole, "id": response.provider_response_id or whole["id"]}


async def stream(
    provider: Provider, model: str, body: Json, first_s: float, idle_s: float, entry: str = ""
) -> AsyncGenerator[list[Piece], None]:
    """Pieces of an answer. first_s, idle_s: up to its first event, and between two. Raises Fault or Missing."""
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent

    messages, settings, parameters = _request(body, entry)
    calls: dict[int, int] = {}
    try:
        async with _model(provider, model).request_stream(messages, settings, parameters) as response:
            events = response.__aiter__()
            wait = first_s
            while True:
                try:
                    async with asyncio.timeout(wait):
                        event = await events.__anext__()
                except StopAsyncIteration:
                    break
                wait = idle_s
                piece = Piece()
                if isinstance(event, PartStartEvent):
                    _started(event.part, event.index, calls, piece)
                elif isinstance(event, PartDeltaEvent):
                    _grew(event.delta, event.index, calls, piece)
                if piece.speaks or piece.reasoning:
                    yield [piece]
            whole = response.get()
            event = {"id": whole.provider_response_id or ""}
            yield [Piece(finish=_finish(whole, bool(calls)), usage=_usage(whole), event=event)]
    except Fault:
        raise
    except Exception as error:
        raise _fault(error) from None


def _started(part: Any, index: int, calls: dict[int, int], piece: Piece) -> None:
    if part.part_kind == "text":
        piece.text = part.content
    elif part.part_kind == "thinking":
        piece.reasoning = part.content
    elif part.part_kind == "tool-call":
        number = calls.setdefault(index, len(calls))
        piece.tools = (ToolPiece(number, part.tool_call_id, part.tool_name, _json(part.args)),)


def _grew(delta: Any, index: int, calls: dict[int, int], piece: Piece) -> None:
    if delta.part_delta_kind == "text":
        piece.text = delta.content_delta
    elif delta.part_delta_kind == "thinking":
        piece.reasoning = delta.content_delta or ""
    elif delta.part_delta_kind == "tool_call":
        piece.tools = (ToolPiece(calls.setdefault(index, len(calls)), arguments=_json(delta.args_delta)),)


def _json(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _call(part: Any) -> Json:
    function = {"name": part.tool_name, "arguments": _json(part.args) or "{}"}
    return {"id": part.tool_call_id, "type": "function", "function": function}


def _finish(response: ModelResponse, tools: bool) -> str:
    return _FINISH.get(str(response.finish_reason), "tool_calls" if tools else "stop")


def _usage(response: ModelResponse) -> Usage:
    used = response.usage
    return Usage(
        input_tokens=used.input_tokens,
        cached_tokens=used.cache_read_tokens,
        cache_write_tokens=used.cache_write_tokens,
        output_tokens=used.output_tokens,
        input_audio_tokens=used.input_audio_tokens,
        output_audio_tokens=used.output_audio_tokens,
    )


def _model(provider: Provider, model: str) -> Model:
    try:
        from pydantic_ai.exceptions import UserError
        from pydantic_ai.models import infer_model
    except ImportError as error:
        raise Missing('this provider needs pydantic-ai; get it with: pip install "interplay[gateway]"') from error
    try:
        return infer_model(f"{provider.library}:{model}")
    except ImportError as error:
        raise Missing(f"{provider.name} needs {error.name or 'a package'}: {error}") from error
    except UserError as error:
        raise Missing(f"{provider.name}: {error}") from error


def _request(body: Json, entry: str = "") -> tuple[list[ModelMessage], Any, ModelRequestParameters]:
    """A chat body as pydantic-ai's messages, settings and parameters. Raises Fault."""
    from pydantic_ai.messages import ModelRequest, SystemPromptPart, ToolReturnPart, UserPromptPart
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import ToolDefinition

    messages: list[ModelMessage] = []
    names: dict[str, str] = {}

    def ask(part: Any) -> None:
        if messages and isinstance(messages[-1], ModelRequest):
            messages[-1].parts = [*messages[-1].parts, part]
        else:
            messages.append(ModelRequest(parts=[part]))

    for message in body.get("messages") or ():
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            ask(SystemPromptPart(text_of(content)))
        elif role == "user":
            ask(UserPromptPart(_content(content)))
        elif role == "tool":
            call = str(message.get("tool_call_id"))
            ask(ToolReturnPart(names.get(call, "tool"), text_of(content), tool_call_id=call))
        elif role == "assistant":
            messages.append(_said(message, names))
        else:
            raise Fault("bad_request", f"a message of role {role!r}")
    settings = ModelSettings(max_retries=0)  # retrying is ours: we know who else could answer
    if entry:
        settings["extra_headers"] = {"x-client-request-id": entry}
    for theirs, ours in (("temperature", "temperature"), ("top_p", "top_p"), ("max_tokens", "max_tokens"),
                         ("max_completion_tokens", "max_tokens"), ("seed", "seed"), ("stop", "stop_sequences"),
                         ("presence_penalty", "presence_penalty"), ("frequency_penalty", "frequency_penalty"),
                         ("parallel_tool_calls", "parallel_tool_calls")):  # fmt: skip
        if (value := body.get(theirs)) is not None:
            settings[ours] = [value] if ours == "stop_sequences" and isinstance(value, str) else value
    if (body.get("response_format") or {}).get("type", "text") != "text":
        raise Fault("modality", "response_format through pydantic-ai; use a tool for structured output")
    choice = body.get("tool_choice")
    if choice in ("required", "none", "auto"):
        settings["tool_choice"] = choice  # pyright: ignore[reportGeneralTypeIssues]
    elif isinstance(choice, dict):
        settings["tool_choice"] = [(choice.get("function") or {}).get("name", "")]  # pyright: ignore[reportGeneralTypeIssues]
    tools = []
    for tool in body.get("tools") or ():
        function = tool.get("function") or {}
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        tools.append(
            ToolDefinition(
                name=function.get("name", ""), parameters_json_schema=schema, description=function.get("description")
            )
        )
    return messages, settings, ModelRequestParameters(function_tools=tools)


def _said(message: Json, names: dict[str, str]) -> ModelMessage:
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

    parts: list[Any] = []
    if words := text_of(message.get("content")):
        parts.append(TextPart(words))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        names[str(call.get("id"))] = str(function.get("name"))
        name, arguments = str(function.get("name")), function.get("arguments")
        parts.append(ToolCallPart(tool_name=name, args=arguments, tool_call_id=str(call.get("id"))))
    return ModelResponse(parts=parts)


def _content(content: Any) -> Any:
    from pydantic_ai.messages import BinaryContent, ImageUrl

    if isinstance(content, str):
        return content
    parts: list[Any] = []
    for part in content or ():
        if part.get("type") == "text":
            parts.append(part.get("text", ""))
        elif part.get("type") == "image_url":
            url = (part.get("image_url") or {}).get("url", "")
            if url.startswith("data:"):
                head, _, data = url[5:].partition(",")
                parts.append(BinaryContent(base64.b64decode(data), media_type=head.split(";")[0]))
            else:
                parts.append(ImageUrl(url))
        else:
            raise Fault("modality", f"a content part of type {part.get('type')!r}")
    return parts


def _fault(error: Exception) -> Exception:
    from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UserError

    if isinstance(error, Missing | Fault):
        return error
    if isinstance(error, ModelHTTPError):
        return from_status(error.status_code, {}, json.dumps({"error": error.body}, default=str).encode())
    if isinstance(error, TimeoutError):
        return Fault("timeout")
    if isinstance(error, UserError):
        return Fault("modality", str(error))
    if isinstance(error, ModelAPIError):
        return Fault("connect", str(error))
    try:
        return from_exception(error)
    except Exception:
        return Fault("garbage", type(error).__name__)
