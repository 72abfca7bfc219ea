"""Real-time foregrounds: providers that hear and speak by themselves, behind the same interface as our own model.

`--foreground KIND/MODEL`, or several separated by commas: the first is used, the others take over when it fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interplay.core.types import BadInput, Missing
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.foreground.realtime.channel import RealtimeChannel
from interplay.foreground.realtime.link import Link, Meter, Opening, Target

EXTRA = 'pip install "interplay[realtime]"'


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of targets. provider: as in bills. model: the default. needs: variables that must all be set."""

    provider: str
    model: str
    needs: tuple[str, ...]
    make: Callable[[str, str], Any]
    what: str


class RealtimeForeground:
    """A foreground made of one or more targets, in order of preference. Nobody is told what its conversations cost:
    `interplay.gateway.foreground.load_mind` gives one that is metered.

    Options of a channel: `instructions` (text for the provider).
    """

    capabilities = Capabilities(speaks=True, sees=False)

    def __init__(self, targets: list[Target], *, instructions: str = "") -> None:
        if not targets:
            raise BadInput("a real-time foreground needs at least one target")
        self.name = ",".join(target.name for target in targets)
        self.targets, self.instructions = targets, instructions

    async def open(self, spec: ForegroundSpec) -> RealtimeChannel:
        """Connect. Raises InterplayError if no target can be reached."""
        return await self.converse(spec, self.targets, None)

    async def converse(self, spec: ForegroundSpec, targets: list[Target], meter: Meter | None) -> RealtimeChannel:
        """As `open`, with targets in this order. meter: told of every connection and its costs; closed at the end."""
        instructions = str(spec.options.get("instructions") or self.instructions)
        channel = RealtimeChannel(targets, instructions=instructions, meter=meter)
        await channel.start()
        return channel


def load_realtime(name: str) -> RealtimeForeground:
    """The foreground of a name such as "openai-realtime/gpt-realtime,gemini-live".

    Raises BadInput for an unknown kind, Missing for a key, an address or a package that is not there.
    """
    return RealtimeForeground([make_target(one.strip()) for one in name.split(",") if one.strip()])


def make_target(name: str) -> Target:
    """One target by name. Raises as `load_realtime` does."""
    label, _, model = name.partition("/")
    kind = KINDS.get(label)
    if kind is None:
        raise BadInput(f"unknown real-time foreground {label!r}; known: {', '.join(sorted(KINDS))}")
    if missing := [variable for variable in kind.needs if not os.environ.get(variable)]:
        raise Missing(
            f"{name} is {kind.what} and needs {' and '.join(missing)}: set the environment variable, then again"
        )
    model = model or kind.model
    full = f"{label}/{model}" if model else label
    return Target(full, kind.provider, model, kind.make(full, model))


def _pydantic(build: Callable[[str], Any], **settings: Any) -> Callable[[str, str], Any]:
    """Targets whose connections pydantic-ai makes. The model object is built at once, so that mistakes show early."""

    def make(name: str, model: str) -> Any:
        try:
            import pydantic_ai.realtime  # noqa: F401

            from interplay.foreground.realtime.providers import connect

            built = build(model)
        except ImportError as error:
            raise Missing(
                f"{name} needs {error.name or 'a package'}, which is not installed; get it with: {EXTRA}"
            ) from error
        except Exception as error:
            raise BadInput(
                f"{name} cannot be used: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from None

        async def open_link(opening: Opening) -> Link:
            return await connect(built, name, opening, settings)

        return open_link

    return make


def _openai(model: str) -> Any:
    from pydantic_ai.realtime.openai import OpenAIRealtimeModel

    return OpenAIRealtimeModel(model)


def _openai_live(model: str) -> Any:
    from pydantic_ai.realtime.openai_live import OpenAILiveModel

    return OpenAILiveModel(model)


def _gemini(model: str) -> Any:
    from pydantic_ai.realtime.google import GoogleRealtimeModel

    return GoogleRealtimeModel(model)


def _xai(model: str) -> Any:
    from pydantic_ai.realtime.xai import XaiRealtimeModel

    return XaiRealtimeModel(model)


def _azure(model: str) -> Any:
    from pydantic_ai.realtime.azure import AzureRealtimeModel

    return AzureRealtimeModel(model)


def _elevenlabs(model: str) -> Any:
    from pydantic_ai.providers.elevenlabs import ElevenLabsProvider
    from pydantic_ai.realtime.elevenlabs import ElevenLabsRealtimeModel

    url = os.environ.get("ELEVENLABS_BASE_URL")  # data residency
    return ElevenLabsRealtimeModel(model, provider=ElevenLabsProvider(base_url=url)) if url else (
        ElevenLabsRealtimeModel(model)
    )


def _moshi(name: str, model: str) -> Any:
    async def open_link(opening: Opening) -> Link:
        from interplay.foreground.realtime.moshi import connect

        voice = os.environ.get("MOSHI_VOICE_PROMPT", "")
        return await connect(os.environ["MOSHI_URL"], name, opening, {"voice_prompt": voice})

    return open_link


def _minicpmo(name: str, model: str) -> Any:
    async def open_link(opening: Opening) -> Link:
        from interplay.foreground.realtime.minicpmo import connect

        return await connect(os.environ["MINICPMO_URL"], name, opening)

    return open_link


_HEAR = {"input_transcription_model": "gpt-4o-transcribe"}  # named, for it has a price of its own
_TRAILS = {"transcript_trails": True}
KINDS: dict[str, Kind] = {
    "openai-realtime": Kind(
        "openai", "gpt-realtime", ("OPENAI_API_KEY",), _pydantic(_openai, **_HEAR), "OpenAI's Realtime API"
    ),
    "openai-live": Kind(
        "openai", "gpt-live-1", ("OPENAI_API_KEY",), _pydantic(_openai_live, openai_live_instructions=""),
        "OpenAI's Live API",
    ),
    "gemini-live": Kind(
        "google", "gemini-3.8-live", ("GOOGLE_API_KEY",), _pydantic(_gemini, **_TRAILS), "Google's Live API"
    ),
    "xai": Kind("xai", "grok-voice-latest", ("XAI_API_KEY",), _pydantic(_xai), "xAI's voice API"),
    "azure-realtime": Kind(
        "azure", "gpt-realtime", ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"), _pydantic(_azure, **_HEAR),
        "Azure OpenAI's Realtime API",
    ),
    "elevenlabs": Kind(
        "elevenlabs", "eleven_realtime_v1_max", ("ELEVENLABS_API_KEY",), _pydantic(_elevenlabs),
        "ElevenLabs' Realtime API",
    ),
    "moshi": Kind("moshi", "", ("MOSHI_URL",), _moshi, "a Moshi or PersonaPlex server (ws://host:8998/api/chat)"),
    "minicpmo": Kind("minicpmo", "", ("MINICPMO_URL",), _minicpmo, "a MiniCPM-o server (wss://host:8006/ws/duplex)"),
}  # fmt: skip
