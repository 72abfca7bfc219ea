"""Models by name, offline: what each takes, how much fits, what it costs, and whether it is real-time.

Two sources are joined: `interplay/data/models.tsv` (context, modalities) and genai-prices (prices, more models).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
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
    """Every model that the tables know, by `provider/model`. What a lookup does not need is not computed."""

    def __init__(self, providers: Providers | None = None) -> None:
        self.providers = providers or Providers()
        self._found: dict[str, Model] = {}

    @cached_property
    def names(self) -> dict[str, str]:
        """`provider/model` of every model to its bare name."""
        listed = {key: row[0] for key, row in _rows().items() if key.partition("/")[0] in self.providers}
        owners = {provider.prices: provider.name for provider in reversed(list(self.providers)) if provider.prices}
        priced = {
            f"{owners[owner.id]}/{info.id}": info.id
            for owner in _price_providers()
            if owner.id in owners
            for info in owner.models
            if not info.deprecated
        }
        return {**listed, **priced}

    @cached_property
    def models(self) -> dict[str, Model]:
        """All of them, with prices: takes about a second."""
        return {key: self._model(key.partition("/")[0], name) for key, name in self.names.items()}

    def find(self, reference: str) -> Model:
        """A model by `provider/model`, `provider:model` or the bare name of a model that some provider has.

        A known provider may have models that no table lists: those are taken as they are, without price or limits.
        Raises BadInput with the nearest names.
        """
        if (found := self._found.get(reference)) is not None:
            return found
        provider, name = self.split(reference)
        if not provider:
            owners = [key.partition("/")[0] for key, bare in self.names.items() if bare == reference]
            if not owners:
                raise BadInput(self.unknown(reference))
            makers = ("openai", "anthropic", "google", "mistral", "xai", "deepseek", "cohere", "groq")
            rank = {maker: place for place, maker in enumerate(makers)}
            provider = min(owners, key=lambda owner: (rank.get(owner, len(rank)), owner))
        found = self._model(provider, name)
        if len(self._found) < 10_000:  # names come from callers
            self._found[reference] = found
        return found

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
        near = nearest(reference, [*others, *self.names])
        if name and provider not in self.providers and not near:
            return f"unknown provider {provider!r}{did_you_mean(provider, (p.name for p in self.providers))}"
        if not near:
            bare = {name: key for key, name in self.names.items()}
            near = [bare[found] for found in nearest(name or reference, bare)]
        hint = f"; did you mean {', '.join(near)}?" if near else "; `interplay gateway models` lists what there is"
        return f"unknown model {reference!r}{hint}"

    def unlisted(self, model: str) -> str:
        """A hint for `provider/model` that no table has, though its provider is in them; "" if there is none.

        Providers have models that no table lists yet, so this is no error.
        """
        provider, name = self.split(model)
        ours = {bare: key for key, bare in self.names.items() if key.startswith(f"{provider}/")} if provider else {}
        if not ours or name in ours or _priced(self.providers.get(provider).prices, name) is not None:
            return ""
        near = [ours[bare] for bare in nearest(name, ours)]
        return f"no table lists {model}" + (f"; did you mean {', '.join(near)}?" if near else "")

    def _model(self, provider: str, name: str) -> Model:
        """Everything that the tables say about one model of a known provider."""
        info = _priced(self.providers.get(provider).prices, name)
        row = _rows().get(f"{provider}/{name}")
        if row is None:
            return _only_priced(provider, name, info)
        _, kind, context, output, flags = row
        if kind == "embedding":
            outputs: tuple[str, ...] = ("vector",)
        else:
            outputs = ("text", "audio") if "A" in flags else ("text",)
        return Model(
            provider, name, kind, int(context) or _context_of(info), int(output),
            ("text", *(word for flag, word in _INPUTS.items() if flag in flags)), outputs,
            tuple(word for flag, word in _FLAGS.items() if flag in flags), *_usd(info), known_inputs=True,
        )  # fmt: skip


def _only_priced(provider: str, name: str, info: Any) -> Model:
    """A model that genai-prices has and our table has not; or that nobody has."""
    if info is None:
        return Model(provider, name)
    prices = info.get_prices(datetime.now(UTC))
    hears = getattr(prices, "input_audio_mtok", None) is not None
    sees = getattr(prices, "input_image_mtok", None) is not None
    speaks = getattr(prices, "output_audio_mtok", None) is not None
    kind = "embedding" if "embed" in name else "chat"
    if "transcribe" in name or "whisper" in name:
        kind = "transcription"
    elif (getattr(prices, "audio_hours", None) is not None and "live" in name) or (
        hears and speaks and "realtime" in name
    ):
        kind = "realtime"
    inputs = ("text", *(("image",) if sees else ()), *(("audio",) if hears else ()))
    outputs = ("text", "audio") if speaks else ("text",)
    return Model(provider, name, kind, _context_of(info), 0, inputs, outputs, (), *_usd(info))


@cache
def _rows() -> dict[str, tuple[str, ...]]:
    """The table: `provider/model` to name, kind, context, output, flags."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    parts = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {f"{row[0]}/{row[1]}": tuple(row[1:]) for row in parts}


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


def _usd(info: Any) -> tuple[float | None, float | None, float | None]:
    """Dollars per million tokens in and out at the base tier, and per hour."""
    if info is None:
        return None, None, None
    prices = info.get_prices(datetime.now(UTC))

    def base(name: str) -> float | None:
        price = getattr(prices, name, None)
        return None if price is None else float(getattr(price, "base", price))

    return base("input_mtok"), base("output_mtok"), base("audio_hours")
