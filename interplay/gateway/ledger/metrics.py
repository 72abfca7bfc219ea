"""Prometheus counters of what was spent. No user, session or key is a label: numbers, not people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interplay.gateway.contract import PICO
from interplay.gateway.prices import UNITS

if TYPE_CHECKING:
    from interplay.gateway.ledger.entry import LiveEntry

LABELS = ("agent", "route", "provider", "model", "kind")
MAX_SERIES = 2000  # names come from requests; a flood of them must not become a flood of series


class Metrics:
    """Counters in a registry of their own, advanced when a row reaches the database; none without prometheus-client."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, ...], tuple[str, ...]] = {}
        try:
            from prometheus_client import CollectorRegistry, Counter
        except ImportError:
            self.registry: Any = None
            return
        self.registry = CollectorRegistry()
        self._usd = Counter("interplay_gateway_spend_usd", "US dollars spent", LABELS, registry=self.registry)
        self._units = Counter(
            "interplay_gateway_units", "Tokens, milliseconds, images and calls", (*LABELS, "unit"),
            registry=self.registry,
        )  # fmt: skip
        self._entries = Counter(
            "interplay_gateway_attempts", "Attempts at providers that ended", (*LABELS, "status"),
            registry=self.registry,
        )  # fmt: skip
        self._unpriced = Counter(
            "interplay_gateway_unpriced", "Attempts whose price nobody knows, counted as free", LABELS,
            registry=self.registry,
        )  # fmt: skip

    def add(self, entry: LiveEntry, cost: int, units: tuple[int, ...], *, final: bool) -> None:
        """Count what is new in an entry. `cost`, `units`: as just committed."""
        if self.registry is None:
            entry.committed_units = units
            return
        labels = self._labels(entry)
        more = cost - entry.counted_pico
        entry.counted_pico = cost
        if more > 0:  # a provider's lower count cannot take a counter back: the database is the truth
            self._usd.labels(*labels).inc(more / PICO)
        for name, now, before in zip(UNITS, units, entry.committed_units, strict=True):
            if now > before:
                self._units.labels(*labels, name).inc(now - before)
        entry.committed_units = units
        if final:
            self._entries.labels(*labels, entry.status).inc()
            if not entry.price.known:
                self._unpriced.labels(*labels).inc()

    def text(self) -> bytes:
        """The exposition format of Prometheus; empty if prometheus-client is not installed."""
        if self.registry is None:
            return b""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def _labels(self, entry: LiveEntry) -> tuple[str, ...]:
        labels = tuple(str(entry.meta[name]) for name in LABELS)
        if labels not in self._series and len(self._series) >= MAX_SERIES:
            labels = ("other", "other", entry.meta["provider"], "other", entry.meta["kind"])
        return self._series.setdefault(labels, labels)
