"""Models by name, offline: what each takes, how much fits, what it costs, and whether it is real-time.

Two sources are joined: `interplay/data/models.tsv` (context, modalities) and genai-prices (prices, more models).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from interplay.core.types import BadInput, Missing
from interplay.gateway.providers import Providers, did_you_mean, nearest

TABLE = Path(__file__).parent.parent / "data" / "models.tsv"
_FLAGS = {"t": "tools", "r": "reasoning", "j": "json"}
_INPUTS = {"i": "image", "a": "audio", "v": "video"}


@dataclass(frozen=True, slots=True)
class Model:
    """One model of one provider. kind: chat, responses, embedding or realtime. context, output: tokens, 0 = not known.

    input_usd, output_usd: US dollars per million tokens at the base tier, hour_usd: per hour of a session billed by
    time; None where no table has a price.
    """

    provider: str
    name: str
    kind: str = "chat"
    context: int = 0
    output: int = 0
    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ("text",)
    can: tuple[str, ...] = ()
    input_usd: float | None = None
    output_usd: float | None = None
    hour_usd: float | None = None
    known_inputs: bool = False

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.name}"

    @property
    def realtime(self) -> bool:
        return self.kind == "realtime"


class Catalog:
    """Every model that the tables know, by `provider/model`."""

    def __init__(self, providers: Providers | None = None) -> None:
        self.providers = providers or Providers()

    @cached_property
    def models(self) -> dict[str, Model]:
        return {model.id: model for model in self._load()}

    def find(self, reference: str) -> Model:
        """A model by `provider/model`, `provider:model` or the bare name of a model that some provider has.

        A known provider may have models that no table lists: those are taken as they are, without price or limits.
        Raises BadInput with the nearest names.
        """
        provider, name = self.split(reference)
        if provider:
            found = self.models.get(f"{provider}/{name}")
            return found or Model(provider, name, context=_context(self._price_id(provider), name))
        owners = [model for model in self.models.values() if model.name == name]
        if owners:
            makers = ("openai", "anthropic", "google", "mistral", "xai", "deepseek", "cohere", "groq")
            rank = {maker: place for place, maker in enumerate(makers)}
            return min(owners, key=lambda model: (rank.get(model.provider, len(rank)), model.provider))
        raise BadInput(self.unknown(reference))

    def split(self, reference: str) -> tuple[str, str]:
        """`provider/model` into its halves; provider is "" if the first part names none."""
        for mark in ("/", ":"):
            provider, found, name = reference.partition(mark)
            if found and name and provider in self.providers:
                return provider, name
        return "", reference

    def unknown(self, reference: str, others: tuple[str, ...] = ()) -> str:
        """The error line for a model that nobody knows, with the nearest names."""
        provider, _, name = reference.partition("/")
        near = nearest(reference, [*others, *self.models])
        if name and provider not in self.providers and not near:
            return f"unknown provider {provider!r}{did_you_mean(provider, (p.name for p in self.providers))}"
        if not near:
            names = {model.name: model.id for model in self.models.values()}
            near = [names[found] for found in nearest(name or reference, names)]
        hint = f"; did you mean {', '.join(near)}?" if near else "; `interplay gateway models` lists what there is"
        return f"unknown model {reference!r}{hint}"

    def _price_id(self, provider: str) -> str:
        return self.providers.get(provider).prices if provider in self.providers else ""

    def _load(self) -> Iterator[Model]:
        seen: set[str] = set()
        for line in TABLE.read_text(encoding="utf-8").splitlines():
            if not line or line.startswith("#"):
                continue
            provider, name, kind, context, output, flags = line.split("\t")
            if provider not in self.providers:
                continue
            info = _priced(self._price_id(provider), name)
            inputs = ("text", *(word for flag, word in _INPUTS.items() if flag in flags))
            if kind == "embedding":
                outputs: tuple[str, ...] = ("vector",)
            else:
                outputs = ("text", "audio") if "A" in flags else ("text",)
            can = tuple(word for flag, word in _FLAGS.items() if flag in flags)
            seen.add(f"{provider}/{name}")
            yield Model(
                provider, name, kind, int(context) or _context_of(info), int(output), inputs, outputs, can,
                *_usd(info), known_inputs=True,
            )  # fmt: skip
        yield from self._only_priced(seen)

    def _only_priced(self, seen: set[str]) -> Iterator[Model]:
        """Models that genai-prices has and the table has not."""
        owners = {provider.prices: provider.name for provider in reversed(list(self.providers)) if provider.prices}
        for owner in _price_providers():
            if (provider := owners.get(owner.id)) is None:
                continue
            for info in owner.models:
                if f"{provider}/{info.id}" in seen or info.deprecated:
                    continue
                prices = info.get_prices(datetime.now(UTC))
                hears = getattr(prices, "input_audio_mtok", None) is not None
                sees = getattr(prices, "input_image_mtok", None) is not None
                speaks = getattr(prices, "output_audio_mtok", None) is not None
                kind = "embedding" if "embed" in info.id else "chat"
                if "transcribe" in info.id or "whisper" in info.id:
                    kind = "transcription"
                elif (getattr(prices, "audio_hours", None) is not None and "live" in info.id) or (
                    hears and speaks and "realtime" in info.id
                ):
                    kind = "realtime"
                inputs = ("text", *(("image",) if sees else ()), *(("audio",) if hears else ()))
                yield Model(
                    provider, info.id, kind, _context_of(info), 0, inputs, ("text", "audio") if speaks else ("text",),
                    (), *_usd(info),
                )  # fmt: skip


def _price_providers() -> list[Any]:
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError as error:
        raise Missing('the catalog needs genai-prices; get it with: pip install "interplay[gateway]"') from error
    return list(get_snapshot().providers)


def _priced(provider: str, name: str) -> Any:
    if not provider:
        return None
    return next((p.find_model(name) for p in _price_providers() if p.id == provider), None)


def _context_of(info: Any) -> int:
    return (info.context_window or 0) if info is not None else 0


def _context(provider: str, name: str) -> int:
    return _context_of(_priced(provider, name))


def _usd(info: Any) -> tuple[float | None, float | None, float | None]:
    """Dollars per million tokens in and out at the base tier, and per hour."""
    if info is None:
        return None, None, None
    prices = info.get_prices(datetime.now(UTC))

    def base(name: str) -> float | None:
        price = getattr(prices, name, None)
        return None if price is None else float(getattr(price, "base", price))

    return base("input_mtok"), base("output_mtok"), base("audio_hours")
