"""Links to MiniCPM-o duplex servers: JSON over one WebSocket, float32 sound in base64.

To the server `prepare {system_prompt}`, then `audio_chunk {audio_base64}` at 16 kHz; from it `prepared`, then
`result {is_listen}` or `result {text, audio_data, end_of_turn}` at 24 kHz, `error`, `timeout`, `stopped`.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from interplay.foreground.realtime.link import AnswerDone, LinkEvent, LinkLost, Opening, SaidText, Sound
from interplay.foreground.realtime.socket import Socket, dial


class MiniCpmLink:
    """One connection. The model decides itself, about once a second, whether it listens or speaks."""

    def __init__(self, socket: Socket, name: str) -> None:
        self._socket, self._name = socket, name
        self._speaking = False

    async def send_audio(self, samples: np.ndarray) -> None:
        sound = base64.b64encode(np.ascontiguousarray(samples, "<f4").tobytes()).decode()
        await self._socket.send(json.dumps({"type": "audio_chunk", "audio_base64": sound}))

    async def send_text(self, text: str, *, answer: bool = True) -> None:
        """The duplex protocol has no message for text; it is left out."""

    async def stop_speaking(self, played_ms: int) -> None:
        """Full duplex: the model hears the interruption itself."""

    async def events(self) -> AsyncIterator[LinkEvent]:
        async for message in self._socket.messages():
            said = _parse(message)
            kind = said.get("type")
            if kind in ("error", "timeout", "stopped"):
                raise LinkLost(f"{self._name} ended the conversation ({kind})")
            if kind != "result":
                continue
            if not said.get("is_listen", True):
                self._speaking = True
                if isinstance(text := said.get("text"), str) and text:
                    yield SaidText(text)
                if isinstance(data := said.get("audio_data"), str) and data:
                    yield Sound(_samples(data))
            if self._speaking and (said.get("is_listen", True) or said.get("end_of_turn")):
                self._speaking = False
                yield AnswerDone()

    async def close(self) -> None:
        await self._socket.send(json.dumps({"type": "stop"}))
        await self._socket.close()


async def connect(url: str, name: str, opening: Opening) -> MiniCpmLink:
    """Open a conversation at `url` (.../ws/duplex, an id is appended); waits until it is prepared. Raises LinkLost."""
    socket = await dial(f"{url.rstrip('/')}/adx_{secrets.token_hex(6)}", name, opening.timeout_s)
    prompt = opening.instructions
    if opening.history:
        prompt += "\nThe conversation so far:\n" + "\n".join(f"{line.who}: {line.text}" for line in opening.history)
    await socket.send(json.dumps({"type": "prepare", "system_prompt": prompt.strip()}))
    async for message in socket.messages():
        kind = _parse(message).get("type")
        if kind == "prepared":
            return MiniCpmLink(socket, name)
        if kind in ("error", "timeout"):
            break
    raise LinkLost(f"{name} could not prepare a conversation")


def _parse(message: str | bytes) -> dict[str, Any]:
    try:
        said = json.loads(message)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _samples(data: str) -> np.ndarray:
    try:
        raw = base64.b64decode(data, validate=True)
    except binascii.Error:
        return np.zeros(0, np.float32)
    return np.frombuffer(raw[: len(raw) // 4 * 4], "<f4").astype(np.float32)
