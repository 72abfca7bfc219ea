"""Messages between the compute process and its clients: a length, a JSON head, raw bytes behind it.

uint32 size of what follows | uint32 size of the head | head (JSON object) | body
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any

import numpy as np

from interplay.engine.core import NO_MARKS, Append, Chosen
from interplay.engine.errors import BY_CODE, EngineError
from interplay.model.dmel import CHANNELS, FRAMES

MAX_BYTES = 64 << 20  # a snapshot of a large model
_SIZES = struct.Struct("<II")
_BINS = FRAMES * CHANNELS
_FRAME = 80 * 80 * 3


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return _SIZES.pack(4 + len(text) + len(body), len(text)) + text + body


async def read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next message. Raises EngineError for what is none, IncompleteReadError at the end."""
    size, head = _SIZES.unpack(await reader.readexactly(_SIZES.size))
    if not 4 + head <= size <= MAX_BYTES:
        raise EngineError("not a message of this protocol")
    data = await reader.readexactly(size - 4)
    try:
        parsed = json.loads(data[:head])
    except ValueError as error:
        raise EngineError("not a message of this protocol") from error
    if not isinstance(parsed, dict):
        raise EngineError("not a message of this protocol")
    return parsed, data[head:]


def append_message(number: int, append: Append, simulated: bool = False) -> bytes:
    """simulated: the session is on no clock of the world; said every time, for a process that has just taken over."""
    head: dict[str, Any] = {"n": number, "op": "append", "session": append.session, "turn": append.turn}
    head["at"] = time.monotonic()  # a clock that the processes of one machine share
    if simulated:
        head["simulated"] = True
    if append.event:
        head["event"] = append.event
    if any(append.marks):
        head["marks"] = [bool(mark) for mark in append.marks]
    if append.said is not None:
        head["said"] = append.said
    frame = b"" if append.frame is None else np.ascontiguousarray(append.frame).tobytes()
    return pack(head, np.ascontiguousarray(append.bins).tobytes() + frame)


def read_append(head: dict[str, Any], body: bytes) -> Append:
    """Raises EngineError."""
    if len(body) not in (_BINS, _BINS + _FRAME):
        raise EngineError(f"an append carries {_BINS} bytes of levels, or {_FRAME} more with a frame")
    bins = np.frombuffer(body, np.uint8, _BINS).reshape(FRAMES, CHANNELS)
    frame = np.frombuffer(body, np.uint8, _FRAME, _BINS).reshape(80, 80, 3) if len(body) > _BINS else None
    try:
        marks = tuple(bool(mark) for mark in head.get("marks", NO_MARKS))
        said = head.get("said")
        said = None if said is None else int(said)
        session, turn, event = str(head["session"]), int(head["turn"]), int(head.get("event", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError("an append has a session and a turn, and numbers for words") from error
    if len(marks) != len(NO_MARKS):
        raise EngineError(f"an append has {len(NO_MARKS)} marks")
    return Append(session, turn, bins, event, marks, frame, said)


def chosen_head(number: int, chosen: Chosen) -> dict[str, Any]:
    return {
        "n": number,
        "turn": chosen.turn,
        "heard": chosen.heard,
        "said": chosen.said,
        "decision": chosen.decision,
        "odds": chosen.odds,
        "session": chosen.session,
    }


def read_chosen(head: dict[str, Any]) -> Chosen:
    return Chosen(head["session"], head["turn"], head["heard"], head["said"], head["decision"], tuple(head["odds"]))


def error_head(number: int, error: Exception) -> dict[str, Any]:
    return {"n": number, "error": getattr(error, "code", "error"), "text": str(error)}


def read_error(head: dict[str, Any]) -> EngineError:
    kind = BY_CODE.get(head["error"], EngineError)
    error = kind(head["text"])
    error.code = head["error"]
    return error
