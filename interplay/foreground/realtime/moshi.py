"""Links to Moshi and PersonaPlex servers: one WebSocket, binary messages, the first byte says which kind.

0 handshake, 1 Ogg-Opus at 24 kHz in 80 ms frames, 2 a piece of text in UTF-8, 3 control, 4 metadata, 5 error, 6 ping.
These models are full duplex and hear for themselves: there is no turn, nothing to commit, and no history to hand over
(PersonaPlex takes a text prompt, which is given the conversation so far).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import numpy as np

from interplay.core.audio import Resampler
from interplay.core.types import INPUT_RATE, OUTPUT_RATE, Missing
from interplay.foreground.realtime.link import LinkEvent, LinkLost, Opening, SaidText, Sound
from interplay.foreground.realtime.socket import Socket, dial

HANDSHAKE, AUDIO, TEXT, ERROR = 0, 1, 2, 5
FRAME = 1920  # samples of 80 ms at 24 kHz


class MoshiLink:
    """One connection. Opus is coded by `sphn`, kyutai's own binding."""

    def __init__(self, socket: Socket, name: str) -> None:
        sphn = _sphn()
        self._socket, self._name = socket, name
        self._writer, self._reader = sphn.OpusStreamWriter(OUTPUT_RATE), sphn.OpusStreamReader(OUTPUT_RATE)
        self._up = Resampler(INPUT_RATE, OUTPUT_RATE)
        self._rest = np.zeros(0, np.float32)

    async def send_audio(self, samples: np.ndarray) -> None:
        pcm = np.concatenate([self._rest, self._up.feed(samples)])
        whole = len(pcm) // FRAME * FRAME
        self._rest = pcm[whole:]
        pages = b"".join(self._writer.append_pcm(pcm[at : at + FRAME]) for at in range(0, whole, FRAME))
        if pages:
            await self._socket.send(bytes([AUDIO]) + pages)

    async def send_text(self, text: str, *, answer: bool = True) -> None:
        """Moshi has no ears for text; it is left out, as its protocol has no message for it."""

    async def stop_speaking(self, played_ms: int) -> None:
        """Full duplex: the model hears the interruption itself."""

    async def events(self) -> AsyncIterator[LinkEvent]:
        async for message in self._socket.messages():
            if not isinstance(message, bytes) or not message:
                continue
            kind, body = message[0], message[1:]
            if kind == AUDIO:
                pcm = self._reader.append_bytes(body)
                if len(pcm):
                    yield Sound(np.asarray(pcm, np.float32))
            elif kind == TEXT:
                yield SaidText(body.decode("utf-8", "replace"))
            elif kind == ERROR:
                raise LinkLost(f"{self._name} reports an error and ends the conversation")

    async def close(self) -> None:
        await self._socket.close()


async def connect(url: str, name: str, opening: Opening, options: dict[str, str]) -> MoshiLink:
    """Open a conversation; waits for the handshake byte. Raises LinkLost, Missing."""
    _sphn()
    query = {key: value for key, value in options.items() if value}
    prompt = opening.instructions
    if opening.history:
        told = "\n".join(f"{line.who}: {line.text}" for line in opening.history)[-2000:]
        prompt = f"{prompt}\nThe conversation so far:\n{told}".strip()
    if prompt:
        query["text_prompt"] = prompt[-4000:]
    socket = await dial(
        f"{url}{'&' if '?' in url else '?'}{urlencode(query)}" if query else url, name, opening.timeout_s
    )
    async for message in socket.messages():
        if isinstance(message, bytes) and message[:1] == bytes([HANDSHAKE]):
            return MoshiLink(socket, name)
    raise LinkLost(f"{name} closed the connection before its handshake")


def _sphn() -> Any:
    try:
        import sphn
    except ImportError as error:
        raise Missing('Moshi speaks Opus, which needs sphn; get it with: pip install "interplay[realtime]"') from error
    return sphn
