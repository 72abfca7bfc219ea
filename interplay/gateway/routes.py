"""Which target next: strategies over what is known of each target's health, speed, price and load."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from interplay.gateway.config import Filter, Route, Target
from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault
from interplay.gateway.prices import PriceBook, values_of

WINDOW = 64  # times to the first word that are remembered per target
FRESH_S = 600.0  # and for how long: a target that was slow gets another chance after that
LONGEST_COOL_S = 300.0
SHUT_S = 60.0  # cool-down of a target that refuses our key or our quota and does not say for how long


@dataclass(slots=True)
class Health:
    """What a gateway has seen of one target. Times are of `time.monotonic`."""

    busy: int = 0
    fails: int = 0
    trips: int = 0
    cools_until: float = 0.0
    shut: bool = False
    probing: bool = False
    firsts: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    calls: int = 0
    faults: int = 0

    def state(self, now: float) -> str:
        """closed (works), open (cooling down) or half-open (one probe may pass)."""
        if not self.cools_until:
            return "closed"
        return "open" if now < self.cools_until else "half-open"

    def first_s(self, percentile: float, now: float) -> float | None:
        """The percentile of recent times to the first word, or None if nothing recent is known."""
        recent = sorted(value for at, value in self.firsts if now - at < FRESH_S)
        if not recent:
            return None
        return recent[min(len(recent) - 1, math.ceil(percentile * len(recent)) - 1 if percentile else 0)]

    def worked(self, first_s: float | None, now: float) -> None:
        self.fails = self.trips = 0
        self.cools_until, self.shut, self.probing = 0.0, False, False
        self.calls += 1
        if first_s is not None:
            self.firsts.append((now, first_s))

    def failed(self, fault: Fault, limit: int, cool_s: float, now: float) -> None:
        """Count a fault; open the circuit after `limit` in a row, at once for a refusal, and at once while probing."""
        self.calls += 1
        self.faults += 1
        probing, self.probing = self.probing, False
        if not fault.then.cools:
            return
        self.fails += 1
        if not (fault.then.shut or probing or self.fails >= limit):
            return
        self.trips += 1
        if fault.retry_after_s is not None:
            span = fault.retry_after_s
        elif fault.kind in ("auth", "quota"):
            span = max(cool_s, SHUT_S)
        else:
            # doubles each time it trips, with jitter so that many gateways do not probe in step
            span = min(LONGEST_COOL_S, cool_s * 2 ** min(self.trips - 1, 8)) * random.uniform(0.8, 1.2)
        self.shut = fault.then.shut
        self.cools_until = max(self.cools_until, now + span)


class Board:
    """The health of every target of a gateway, and the order in which a route would use them now."""

    def __init__(self, prices: PriceBook, clock: Callable[[], float] = time.monotonic) -> None:
        self.prices, self.clock = prices, clock
        self._health: dict[str, Health] = {}

    def health(self, target: Target) -> Health:
        if (found := self._health.get(target.id)) is None:
            found = self._health[target.id] = Health()
        return found

    def order(
        self, route: Route, targets: Sequence[Target], *, session: str = "", usage: Usage | None = None
    ) -> list[Target]:
        """Targets, best first: those that work by strategy, then those that cool down, the first to be due first.

        A half-open target goes to the front for exactly one call, its probe.
        """
        now = self.clock()
        ranked = self._ranked(route, targets, session, usage or Usage(input_tokens=1000, output_tokens=500), now)
        states = {target.id: self.health(target).state(now) for target in ranked}
        works = [t for t in ranked if states[t.id] == "closed"]
        probes = [t for t in ranked if states[t.id] == "half-open" and not self.health(t).probing]
        rest = [t for t in ranked if t not in works and t not in probes]
        rest.sort(key=lambda target: self.health(target).cools_until)
        if probes and (not works or ranked.index(probes[0]) < ranked.index(works[0])):
            return [probes[0], *works, *probes[1:], *rest]
        return [*works, *probes, *rest]

    def _ranked(self, route: Route, targets: Sequence[Target], session: str, usage: Usage, now: float) -> list[Target]:
        if route.strategy == "latency":
            return sorted(targets, key=lambda t: self.health(t).first_s(route.percentile, now) or 0.0)
        if route.strategy == "cost":
            return sorted(targets, key=lambda t: self.cost(t, usage))
        if route.strategy == "least-busy":
            return sorted(targets, key=lambda t: self.health(t).busy)
        if route.strategy == "weighted":
            return _drawn(targets, random.random)
        if route.strategy == "sticky":
            # Rendezvous hashing: a session keeps its target while that works, and when targets come or go, only
            # the sessions of those move.
            return _drawn(targets, lambda target: _share(f"{session}|{target.id}"))
        return list(targets)

    def cost(self, target: Target, usage: Usage) -> float:
        """Picodollars for this usage; a price that nobody knows sorts last."""
        price = self.prices.price(target.provider, target.model)
        return price.cost(values_of(usage)) if price.known else math.inf


def _drawn(targets: Sequence[Target], share: Callable[..., float]) -> list[Target]:
    """A weighted order without replacement (Efraimidis and Spirakis, 2006): key u^(1/w), largest first."""
    takes = share is not random.random

    def key(target: Target) -> float:
        u = share(target) if takes else share()
        return math.log(max(u, 1e-300)) / target.weight if target.weight > 0 else -math.inf

    return sorted(targets, key=key, reverse=True)


def _share(text: str) -> float:
    """A number in (0, 1) that depends on the text alone."""
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) + 0.5) / 2**64


def fits(target: Target, wanted: Filter, inputs: Iterable[str], tokens: int) -> str:
    """Why a target cannot be used for a call, or "" if it can. tokens: estimate of the prompt, 0 = not known."""
    if missing := [tag for tag in wanted.tags if tag not in target.tags]:
        return f"has no tag {missing[0]!r}"
    if wanted.regions and target.region not in wanted.regions:
        return f"is in region {target.region or 'unknown'!r}, not in {', '.join(wanted.regions)}"
    if wanted.data_policy and target.data_policy not in wanted.data_policy:
        return f"has data policy {target.data_policy or 'unknown'!r}, not {' or '.join(wanted.data_policy)}"
    if missing := [kind for kind in (*wanted.inputs, *inputs) if kind not in target.inputs]:
        return f"takes no {missing[0]}"
    if target.context and tokens > target.context * 1.25:  # an estimate: only a clear overflow rules a target out
        return f"has a context of {target.context} tokens, the prompt about {tokens}"
    return ""
