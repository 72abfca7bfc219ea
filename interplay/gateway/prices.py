"""What things cost: genai-prices compiled into whole numbers, so that every chunk of a stream can be priced.

A price is linear in the units of `Usage` between two tier thresholds, so each price of the table becomes one vector
of exact weights per tier. The weights are measured on genai-prices' own calculation, one unit at a time, rather than
read from its tables: what it means by "cached audio tokens" is then what we mean, and one call costs a microsecond
instead of most of a millisecond.
"""

from __future__ import annotations

import importlib.metadata
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from math import lcm
from operator import attrgetter, mul
from typing import Any

from interplay.core.types import BadInput, Missing
from interplay.gateway.contract import PICO, Usage
from interplay.gateway.providers import price_id

UNITS = tuple(f.name for f in fields(Usage))
values_of = attrgetter(*UNITS)
"""The numbers of a Usage, in the order of UNITS."""

_AT = {name: index for index, name in enumerate(UNITS)}
_ALIASES = {"xai": "x-ai", "gemini": "google", "google-gla": "google", "google-vertex": "google", "bedrock": "aws"}
_PRICED_UNITS = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "input_audio_tokens"),
    *("cache_audio_read_tokens", "output_audio_tokens", "input_text_tokens", "output_text_tokens", "audio_seconds"),
    *("input_audio_seconds", "output_audio_seconds", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("cache_text_read_tokens", "cache_text_write_tokens", "cache_audio_write_tokens", "input_image_tokens"),
    *("cache_image_read_tokens", "output_image_tokens", "output_reasoning_tokens"),
)
FREE_PROVIDERS = frozenset({
    "local", "native", "ollama", "vllm", "sglang", "llamacpp", "lmstudio", "lm-studio", "llamafile", "lemonade",
    "docker-model-runner", "moshi", "minicpmo",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model at one time.

    starts: input tokens above which a tier applies, ascending, without the first 0. weights[tier][unit]: numerators
    over `scale`, in picodollars per unit. known: False if nobody knows what this costs, and it is counted as 0.
    """

    weights: tuple[tuple[int, ...], ...]
    scale: int = 1
    starts: tuple[int, ...] = ()
    known: bool = True
    table: str = ""

    def cost(self, used: tuple[int, ...] | list[int]) -> int:
        """Picodollars for these units (in the order of UNITS), rounded to the nearest."""
        tier = bisect_left(self.starts, used[0]) if self.starts else 0
        total = sum(map(mul, self.weights[tier], used))
        if used[_AT["session_ms"]] and (audio := self.weights[tier][_AT["audio_in_ms"]]):
            # One clock is billed once: a session that is paid by its length does not pay for its sound as well.
            total -= audio * used[_AT["audio_in_ms"]]
            total -= self.weights[tier][_AT["audio_out_ms"]] * used[_AT["audio_out_ms"]]
        return max(0, (2 * total + self.scale) // (2 * self.scale))


UNKNOWN = Price(((0,) * len(UNITS),), known=False, table="none")
FREE = Price(((0,) * len(UNITS),), table="free")


class PriceBook:
    """Prices by provider and model: own overrides first, then the offline table of genai-prices.

    overrides: "provider/model" (or "provider/*") to US dollars per million of a token unit, per hour of a `*_ms` unit,
    or per piece of `images`, `requests`, `tool_calls`; the keys are the names of Usage's fields. Raises BadInput.
    """

    def __init__(self, overrides: Mapping[str, Mapping[str, float | str]] | None = None) -> None:
        self._own = {name.lower(): _override(name, units) for name, units in (overrides or {}).items()}
        self.table = table_name()

    def price(self, provider: str, model: str, at: datetime | None = None) -> Price:
        """The price of a model now (or `at`); UNKNOWN if no table has it. Never raises."""
        provider = provider.lower()
        for name in (f"{provider}/{model.lower()}", f"{provider}/*"):
            if name in self._own:
                return self._own[name]
        if provider in FREE_PROVIDERS:
            return FREE
        found = _find(_ALIASES.get(provider) or price_id(provider), model)
        if found is None:
            return UNKNOWN
        info, owner = found
        return _compiled(_Key(info.get_prices(at or datetime.now(UTC)), owner, info), self.table)


@cache
def table_name() -> str:
    """Which price table this is: version, and the date of the newest price change that it knows and that is past."""
    try:
        version = importlib.metadata.version("genai-prices")
    except importlib.metadata.PackageNotFoundError:
        return "none (genai-prices is not installed)"
    return f"genai-prices {version} (changes to {newest_change() or 'unknown'})"


@cache
def newest_change() -> date | None:
    """The date of the newest price change in the offline table that is not in the future."""
    from genai_prices.types import ConditionalPrice, StartDateConstraint

    dates = [
        price.constraint.start_date
        for provider in _snapshot().providers
        for model in provider.models
        for price in (model.prices if isinstance(model.prices, list) else ())
        if isinstance(price, ConditionalPrice) and isinstance(price.constraint, StartDateConstraint)
    ]
    return max((day for day in dates if day <= datetime.now(UTC).date()), default=None)


def usd(pico: int) -> Decimal:
    """Picodollars as dollars, exactly."""
    return Decimal(pico) / PICO


def pico(dollars: Decimal | float | str) -> int:
    """Dollars as picodollars, rounded to the nearest. Floats are read as they are written: 0.1 is a tenth."""
    return int((Decimal(str(dollars)) * PICO).to_integral_value())


def _snapshot() -> Any:
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError as error:
        raise Missing('prices need genai-prices; get it with: pip install "interplay[gateway]"') from error
    return get_snapshot()


@lru_cache(4096)
def _find(provider: str, model: str) -> tuple[Any, Any] | None:
    try:
        owner, info = _snapshot().find_provider_model(model, None, provider, None)
    except (LookupError, Missing):
        return None
    return info, owner


class _Key:
    """A model's price by identity: the objects live as long as the table does."""

    __slots__ = ("info", "owner", "prices")

    def __init__(self, prices: Any, owner: Any, info: Any) -> None:
        self.prices, self.owner, self.info = prices, owner, info

    def __hash__(self) -> int:
        return id(self.prices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.prices is self.prices


@lru_cache(4096)
def _compiled(key: _Key, table: str) -> Price:
    from genai_prices.types import TieredPrices

    starts = sorted(
        {tier.start for price in vars(key.prices).values() if isinstance(price, TieredPrices) for tier in price.tiers}
    )
    exact = [_weights(key.prices, start + 1 if start else 0) for start in (0, *starts)]
    scale = lcm(*(weight.denominator for tier in exact for weight in tier))
    return Price(
        tuple(tuple(int(weight * scale) for weight in tier) for tier in exact), scale, tuple(starts), table=table
    )


def _weights(prices: Any, floor: int) -> list[Fraction]:
    """Picodollars per unit in the tier that `floor` input tokens are in."""
    from genai_prices import Usage as Priced

    def total(**counts: int) -> Fraction:
        # Every unit is named, also those that are 0: genai-prices refuses to guess what was not reported.
        usage = Priced(**{name: counts.get(name, 0) for name in _PRICED_UNITS})
        return Fraction(prices.calc_price(usage)["total_price"]) * PICO

    i, o, n = "input_tokens", "output_tokens", floor + 8  # room for a token that is several things at once
    one = total(**{i: n})
    slope = one - total(**{i: n - 1})
    audio = {i: n, "input_audio_tokens": 2}
    cached = {i: n, "cache_read_tokens": 2}
    both = total(**audio, cache_read_tokens=2)
    words = total(**{i: n, o: 1})
    per_ms = Fraction(1, 3_600_000)
    weights = {
        "input_tokens": slope,
        "cached_tokens": (total(**cached) - one) / 2,
        "cache_write_tokens": total(**{i: n, "cache_write_tokens": 1}) - one,
        "output_tokens": words - one,
        "input_audio_tokens": (total(**audio) - one) / 2,
        "cached_audio_tokens": total(**audio, cache_read_tokens=2, cache_audio_read_tokens=1) - both,
        "output_audio_tokens": total(**{i: n, o: 1, "output_audio_tokens": 1}) - words,
        "session_ms": (total(**{i: n, "audio_seconds": 3600}) - one) * per_ms,
        "audio_in_ms": (total(**{i: n, "audio_seconds": 3600, "input_audio_seconds": 3600}) - one) * per_ms,
        "audio_out_ms": (total(**{i: n, "audio_seconds": 3600, "output_audio_seconds": 3600}) - one) * per_ms,
        "requests": one - slope * n,
    }
    return [Fraction(weights.get(unit, 0)) for unit in UNITS]


def _override(name: str, units: Mapping[str, float | str]) -> Price:
    if "/" not in name:
        raise BadInput(f'the price of {name!r}: name it "provider/model" or "provider/*"')
    weights = [Fraction(0)] * len(UNITS)
    for unit, dollars in units.items():
        if unit not in _AT:
            raise BadInput(f"the price of {name!r}: unknown unit {unit!r}; known: {', '.join(UNITS)}")
        try:
            amount = Fraction(str(dollars))
        except ValueError as error:
            raise BadInput(f"the price of {name!r}: {unit} = {dollars!r} is not a number of dollars") from error
        if amount < 0:
            raise BadInput(f"the price of {name!r}: {unit} = {dollars!r} is negative")
        per = 1_000_000 if unit.endswith("_tokens") else 3_600_000 if unit.endswith("_ms") else 1
        weights[_AT[unit]] = amount * PICO / per
    # Units that are part of another are priced instead of it, not on top of it.
    for part, whole in (
        ("cached_tokens", "input_tokens"),
        ("cache_write_tokens", "input_tokens"),
        ("input_audio_tokens", "input_tokens"),
        ("cached_audio_tokens", "input_audio_tokens"),
        ("output_audio_tokens", "output_tokens"),
    ):
        if part in units:
            weights[_AT[part]] -= Fraction(str(units.get(whole, 0))) * PICO / 1_000_000
    scale = lcm(*(weight.denominator for weight in weights))
    return Price((tuple(int(weight * scale) for weight in weights),), scale, table="own")
