"""Links to OpenAI Realtime, OpenAI Live, Gemini Live, xAI, Azure and ElevenLabs, through pydantic-ai's codec layer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from interplay.core.audio import Resampler, float_to_pcm16, pcm16_to_float
from interplay.core.types import INPUT_RATE, OUTPUT_RATE
from interplay.foreground.realtime.link import (
    AnswerDone,
    CutOff,
    HeardText,
    Leaving,
    Line,
    Link,
    LinkEvent,
    LinkLost,
    Opening,
    SaidText,
    Sound,
    Spent,
    UserSpeaks,
)

FINAL_STATUS = frozenset({400, 401, 403, 404})
TRAILS = "transcript_trails"
"""A setting of ours: this provider's transcript follows its sound, where others' goes with it or ahead of it."""
MAX_PIECE = 4_000_000  # bytes of one piece of sound: 80 s; more is no conversation


class ProviderLink:
    """One pydantic-ai realtime connection. Its own reconnecting is off: the channel does that, across providers."""

    def __init__(
        self, name: str, stack: contextlib.AsyncExitStack, connection: Any, profile: Any, settings: dict[str, Any]
    ) -> None:
        self._name, self._stack, self._connection = name, stack, connection
        self._to_provider = Resampler(INPUT_RATE, int(profile.get("audio_input_sample_rate", OUTPUT_RATE)))
        self._from_provider = Resampler(int(profile.get("audio_output_sample_rate", OUTPUT_RATE)), OUTPUT_RATE)
        self._truncates = bool(profile.get("supports_output_truncation"))
        self._cancels = bool(profile.get("supports_interruption"))
        self._trails = bool(settings.get(TRAILS))
        self._units: dict[str, dict[str, int]] = {}
        self._hears_with = str(settings.get("input_transcription_model", ""))
        self._going: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        _notice_goodbyes(connection, self._going)

    async def send_audio(self, samples: np.ndarray) -> None:
        from pydantic_ai.messages import BinaryAudio

        pcm = float_to_pcm16(self._to_provider.feed(samples))
        if pcm:
            await self._send(BinaryAudio(data=pcm, media_type="audio/pcm"))

    async def send_text(self, text: str, *, answer: bool = True) -> None:
        from pydantic_ai.realtime.codec import TextContext

        await self._send(text if answer else TextContext(text))

    async def stop_speaking(self, played_ms: int) -> None:
        from pydantic_ai.realtime.codec import CancelResponse, TruncateOutput

        if self._cancels and not self._connection.interrupts_response_on_speech:
            await self._send(CancelResponse())
        if self._truncates:
            await self._send(TruncateOutput(played_ms))

    async def events(self) -> AsyncIterator[LinkEvent]:
        """What the provider does. Raises LinkLost when the connection breaks, ends when it is closed in order."""
        try:
            async for event in self._arriving():
                if isinstance(event, Leaving):
                    yield event
                    continue
                for told in self._told(event):
                    yield told
        except LinkLost:
            raise
        except Exception as error:
            raise _lost(self._name, error) from error

    async def close(self) -> None:
        await self._stack.aclose()

    async def _arriving(self) -> AsyncIterator[Any]:
        """The connection's events, and among them its announcement that it will go."""
        events = aiter(self._connection)
        coming: asyncio.Future[Any] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(events))
                going = () if self._going.cancelled() else (self._going,)
                await asyncio.wait((coming, *going), return_when=asyncio.FIRST_COMPLETED)
                if going and self._going.done():
                    within_s, self._going = self._going.result(), _never()
                    yield Leaving(within_s)
                if coming.done():
                    try:
                        event = coming.result()
                    except StopAsyncIteration:
                        return
                    coming = None
                    yield event
        finally:
            if coming is not None:
                coming.cancel()

    async def _send(self, content: Any) -> None:
        try:
            await self._connection.send(content)
        except Exception as error:
            raise _lost(self._name, error) from error

    def _told(self, event: Any) -> list[LinkEvent]:
        from pydantic_ai import messages, realtime
        from pydantic_ai.realtime import codec

        match event:
            case codec.AudioDelta():
                samples = pcm16_to_float(event.data[: min(MAX_PIECE, len(event.data) // 2 * 2)])
                return [Sound(self._from_provider.feed(samples), event.response_id or event.item_id or "")]
            case codec.OutputTranscript():
                answer = event.response_id or event.item_id or ""
                return [] if event.is_final else [SaidText(event.text, answer, self._trails)]
            case codec.InputTranscript():
                if event.cumulative and not event.is_final:
                    return []  # it may still be revised; the final one comes
                return [HeardText(event.text, whole=event.is_final)]
            case realtime.RealtimeInputSpeechStartEvent():
                return [UserSpeaks()]
            case realtime.RealtimeResponseInterruptedEvent():
                return [CutOff()]
            case codec.ResponseDone():
                return [AnswerDone()]
            case codec.SessionUsage():
                model = str((event.provider_details or {}).get("delegated_model") or "")
                if not event.response_scoped and not model:
                    model = self._hears_with  # GPT-Live's own seconds are run-level too; those we meter ourselves
                counts = self._add(event.usage, model)
                return [Spent(counts, model)] if any(counts.values()) else []
            case messages.RealtimeSessionErrorEvent() if not event.recoverable:
                raise LinkLost(f"{self._name} ended the session: {event.message}")
            case messages.RealtimeSessionErrorEvent() if (event.code or "") in ("session_expired", "session_limit"):
                raise LinkLost(f"{self._name}: the session has reached its limit")
        return []

    def _add(self, usage: Any, model: str) -> dict[str, int]:
        units = self._units.setdefault(model, {})
        counts = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "input_audio_tokens": usage.input_audio_tokens,
            "cached_audio_tokens": usage.cache_audio_read_tokens,
            "output_audio_tokens": getattr(usage, "output_audio_tokens", 0),
        }
        for name, count in counts.items():
            units[name] = units.get(name, 0) + int(count or 0)
        return dict(units)


def _never() -> asyncio.Future[float]:
    never: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    never.cancel()
    return never


def _notice_goodbyes(connection: Any, going: asyncio.Future[float]) -> None:
    """Gemini says `go_away` before it hangs up, which pydantic-ai 2.68 does not pass on: look at its messages.

    Where its inside is another one some day, the close itself is still noticed.
    """
    read = getattr(connection, "_map_message", None)
    if read is None:
        return

    def reading(message: Any) -> Any:
        goodbye = getattr(message, "go_away", None)
        if goodbye is not None and not going.done():
            text = str(getattr(goodbye, "time_left", None) or "0").removesuffix("s")
            going.set_result(float(text) if text.replace(".", "", 1).isdigit() else 0.0)
        return read(message)

    connection._map_message = reading


async def connect(model: Any, name: str, opening: Opening, settings: dict[str, Any]) -> Link:
    """Open a connection of a pydantic-ai RealtimeModel. Raises LinkLost."""
    from pydantic_ai.models import ModelRequestParameters

    profile = model.profile
    seeds = bool(profile.get("supports_session_seeding"))
    instructions = opening.instructions
    if opening.history and not seeds:
        instructions = f"{instructions}\n\nThe conversation so far:\n{_told_so_far(opening.history)}".strip()
    theirs = {key: value for key, value in settings.items() if key != TRAILS}
    if "openai_live_instructions" in theirs:  # how to speak; the others are for the model that it delegates to
        theirs["openai_live_instructions"] = instructions
    stack = contextlib.AsyncExitStack()
    try:
        connection = await stack.enter_async_context(
            model.connect(
                messages=_messages(instructions, opening.history if seeds else ()),
                model_settings={"handshake_timeout": opening.timeout_s, **theirs},
                model_request_parameters=ModelRequestParameters(),
            )
        )
    except asyncio.CancelledError:
        await stack.aclose()
        raise
    except Exception as error:
        await stack.aclose()
        raise _lost(name, error) from error
    return ProviderLink(name, stack, connection, profile, settings)


def _messages(instructions: str, history: Any) -> list[Any]:
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    messages: list[Any] = []
    for line in history:
        if line.who == "user":
            messages.append(ModelRequest(parts=[UserPromptPart(line.text)]))
        else:
            messages.append(ModelResponse(parts=[TextPart(line.text)]))
    return [*messages, ModelRequest(parts=[], instructions=instructions or None)]


def _told_so_far(history: Any) -> str:
    lines: list[Line] = list(history)
    return "\n".join(f"{'User' if line.who == 'user' else 'You'}: {line.text}" for line in lines)


def _lost(name: str, error: Exception) -> LinkLost:
    """What a person is told; never the provider's own words about a key, which may quote it."""
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return LinkLost(f"{name} refuses the key (HTTP {status}); check it", final=True)
    if status is not None:
        return LinkLost(f"{name} refused the connection (HTTP {status})", final=status in FINAL_STATUS)
    kind = type(error).__name__
    if kind == "UserError":
        return LinkLost(f"{name} cannot be used this way: {error}", final=True)
    cause = type(error.__cause__).__name__ if error.__cause__ is not None else ""
    return LinkLost(f"{name}: the connection was lost ({kind}{f', {cause}' if cause else ''})")
