"""The engine's counters as Prometheus reads them. Needs prometheus_client (extra `engine`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from interplay.core.histogram import LOWEST_S, STEP, Histogram
from interplay.core.types import Missing
from interplay.engine.clocked import Clocked

if TYPE_CHECKING:
    from prometheus_client.core import Metric

EDGES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


class EngineCollector:
    """Registers with a prometheus_client registry; reads the engine when it is scraped, stores nothing."""

    def __init__(self, clocked: Clocked) -> None:
        self.clocked = clocked

    def collect(self) -> Iterable[Metric]:
        try:
            from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
        except ImportError as error:
            raise Missing('metrics need prometheus_client: pip install "interplay[engine]"') from error
        stats, engine = self.clocked.stats, self.clocked.engine
        for name, text, value in (
            ("sessions", "Sessions that are open", len(engine.seats)),
            ("free_slots", "Places for further sessions", 0 if self.clocked.draining else engine.free()),
            ("healthy", "1 if outputs have content and are on time", int(self.clocked.health()["status"] == "ok")),
        ):
            yield GaugeMetricFamily(f"interplay_engine_{name}", text, value)
        for name, text, value in (
            ("turns", "Micro-turns run", stats.turns),
            ("steps", "Batched steps run", stats.steps),
            ("late_turns", "Micro-turns delivered after their deadline", stats.late),
            ("dropped_turns", "Micro-turns dropped because their session was too far behind", stats.dropped),
            ("shed_frames", "Video frames left out to keep sound on time", stats.shed_frames),
            ("refused_sessions", "Sessions refused because the clock would not have held", stats.refused),
            ("broken_outputs", "Outputs that were not numbers", self.clocked.watch.broken),
        ):
            yield CounterMetricFamily(f"interplay_engine_{name}", text, value)
        for name, text, histogram in (
            ("wait", "From arrival of a micro-turn to its step", stats.wait),
            ("step", "One batched step", stats.step),
            ("turnaround", "From arrival of a micro-turn to its result", stats.turnaround),
            ("jitter", "How far ticks are from their period", stats.jitter),
        ):
            family = HistogramMetricFamily(f"interplay_engine_{name}_seconds", text)
            family.add_metric([], buckets(histogram), histogram.total)
            yield family


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts at `EDGES_S`, from the finer counters (exact to one of their buckets)."""
    found, seen, at = [], 0, 0
    for edge in EDGES_S:
        while at < len(histogram.counts) and LOWEST_S * STEP ** (at + 1) <= edge * 1.0001:
            seen += histogram.counts[at]
            at += 1
        found.append((str(edge), float(seen)))
    return [*found, ("+Inf", float(histogram.n))]


def exposition(clocked: Clocked) -> bytes:
    """The text that a /metrics answers with. Raises Missing without prometheus_client."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise Missing('metrics need prometheus_client: pip install "interplay[engine]"') from error
    registry = CollectorRegistry()
    registry.register(EngineCollector(clocked))
    return generate_latest(registry)
