"""The page protocol: every message between a page and a session, in one file. `docs/wire.md` is its prose.

One WebSocket, one session. JSON text frames carry what is worth reading, binary frames carry sound:
page to server 16-bit PCM at the rate that `hello` declared, server to page one 200 ms slice per micro-turn.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from interplay.core.audio import float_to_pcm16, pcm16_to_float
from interplay.core.types import MICRO_TURN_S, OUTPUT_RATE, in_time
from interplay.surfaces.browser import Cell, Gap, absolute

VERSION = 1
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_JSON_BYTES = 16_384
MAX_AUDIO_BYTES = 65_536
MAX_TEXT_CHARS = 2_000
MAX_JPEG_BYTES = 12_000  # 160 x 120 pixels take about 5 000

SLICE_HEADER = struct.Struct("<II")
SPEAKING, SILENT, AFTER_GAP = 1, 2, 4


class WireError(Exception):
    """Something a page sent that cannot be used. `fatal` errors end the session, the others are only reported."""

    def __init__(self, code: str, message: str, *, fatal: bool = True):
        super().__init__(message)
        self.code, self.message, self.fatal = code, message, fatal


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of a page. `rate`: samples per second of the binary frames that follow, mono, 16 bit."""

    rate: int


@dataclass(frozen=True, slots=True)
class Text:
    """A typed message, heard by the foreground as an event of the next micro-turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Ack:
    """The page has taken every slice up to and including this micro-turn: the credit that keeps sound flowing."""

    turn: int


@dataclass(frozen=True, slots=True)
class Bye:
    """The person pressed end."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of the person's camera, a whole JPEG file; the newest of a micro-turn is the one that counts."""

    jpeg: bytes


PageMessage = Hello | Text | Ack | Frame | Bye


def parse(raw: str) -> PageMessage:
    """One JSON text frame of a page. Raises WireError: nothing a page sends may become a traceback."""
    if len(raw.encode("utf-8", "replace")) > MAX_JSON_BYTES:
        raise WireError("too_large", f"a JSON message may have at most {MAX_JSON_BYTES} bytes")
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        raise WireError("bad_json", "a text frame must be one JSON object") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError("bad_json", "a text frame must be a JSON object with a string `type`")
    kind = message["type"]
    if kind == "hello":
        return Hello(rate=_hello_rate(message))
    if kind == "text":
        return Text(text=_text(message))
    if kind == "ack":
        return Ack(turn=_natural(message, "turn"))
    if kind == "frame":
        return Frame(jpeg=_jpeg(message))
    if kind == "bye":
        return Bye()
    raise WireError(
        "unknown_type", f"unknown message type {kind[:40]!r}; known: hello, text, ack, frame, bye", fatal=False
    )


def _hello_rate(message: dict[str, Any]) -> int:
    version = message.get("version", VERSION)
    if version != VERSION:
        raise WireError("bad_version", f"this server speaks version {VERSION} of the page protocol; reload the page")
    rate = message.get("rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not MIN_RATE <= rate <= MAX_RATE:
        raise WireError("bad_rate", f"`rate` must be a number from {MIN_RATE} to {MAX_RATE}")
    return round(rate)


def _text(message: dict[str, Any]) -> str:
    text = message.get("text")
    if not isinstance(text, str) or not text.strip():
        raise WireError("bad_text", "`text` must be a string that is not empty", fatal=False)
    if len(text) > MAX_TEXT_CHARS:
        raise WireError("text_too_long", f"a typed message may have at most {MAX_TEXT_CHARS} characters", fatal=False)
    return text.strip()


def _jpeg(message: dict[str, Any]) -> bytes:
    text = message.get("jpeg")
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(b"\xff\xd8\xff"):
        raise WireError("bad_frame", "`jpeg` must be a JPEG file in base64", fatal=False)
    if len(data) > MAX_JPEG_BYTES:
        raise WireError("frame_too_large", f"a picture may have at most {MAX_JPEG_BYTES} bytes", fatal=False)
    return data


def _natural(message: dict[str, Any], key: str) -> int:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise WireError("bad_field", f"`{key}` must be a whole number from 0 to 4294967295")
    return value


def pcm_in(data: bytes) -> np.ndarray:
    """A binary frame of the page: 16-bit little-endian mono. Returns float32 (samples,) in [-1, 1)."""
    if len(data) > MAX_AUDIO_BYTES:
        raise WireError("too_large", f"an audio frame may have at most {MAX_AUDIO_BYTES} bytes")
    if len(data) % 2:
        raise WireError("bad_audio", "an audio frame must have an even number of bytes (16-bit samples)")
    return pcm16_to_float(data)


def slice_out(turn: int, audio: np.ndarray, *, speaking: bool, after_gap: bool) -> bytes:
    """One micro-turn of the agent's voice: header (turn, flags), then 16-bit PCM at 24 kHz.

    A slice of digital silence is sent as its header alone, flag SILENT: most of a conversation is listening.
    """
    silent = not audio.any()
    flags = SPEAKING * speaking | SILENT * silent | AFTER_GAP * after_gap
    header = SLICE_HEADER.pack(turn & 0xFFFFFFFF, flags)
    return header if silent else header + float_to_pcm16(audio)


def ready(*, session: str, foreground: str, voice: str, sees: bool = False) -> dict[str, Any]:
    """The session has begun; its clock starts now. sees: pictures of a camera are of use."""
    return {
        "type": "ready",
        "version": VERSION,
        "session": session,
        "foreground": foreground,
        "voice": voice,
        "sees": sees,
        "turn_s": MICRO_TURN_S,
        "rate": OUTPUT_RATE,
    }


def turn(cell: Cell) -> dict[str, Any]:
    """One cell of the picture. The slice of sound that belongs to it follows as the next binary frame."""
    view = cell.view
    return {
        "type": "turn",
        "turn": view.turn,
        "t": in_time(view.turn),
        "heard": view.heard,
        "said": absolute(view),
        "speaking": view.speaking,
        "pending": len(view.pending),
        "stopped": view.stopped,
        "level_db": round(view.level_db, 1),
        "user_levels": cell.user_db,
        "agent_levels": cell.agent_db,
        "missing_ms": round(cell.missing_s * 1000),
        "skipped": view.skipped,
        "step_ms": round(view.step_s * 1000, 2),
        "lateness_ms": round(cell.late_s * 1000, 2),
    }


def gap(gap: Gap) -> dict[str, Any]:
    """Cells that the page missed because it could not take them. Words, no sound; live sound follows."""
    return {
        "type": "gap",
        "from": gap.first,
        "to": gap.last,
        "turns": gap.last - gap.first + 1,
        "heard": gap.heard,
        "said": gap.said,
    }


def warning(code: str, message: str) -> dict[str, Any]:
    """Something is wrong and the session goes on. Sent once per cause."""
    return {"type": "warning", "code": code, "message": message}


def error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}


def ended(reason: str, turns: int, seconds: float) -> dict[str, Any]:
    """The last message of a session."""
    return {"type": "ended", "reason": reason, "turns": turns, "seconds": round(seconds, 3)}


def dumps(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
