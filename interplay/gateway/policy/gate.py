"""The policy: who may do what, for how much, and what a provider may see of it. Every decision is audited."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from interplay.gateway.contract import Ask, Caller, Denied, LogLevel
from interplay.gateway.ledger.book import Book
from interplay.gateway.ledger.entry import LiveEntry, short
from interplay.gateway.policy.audit import Audit, audit_of
from interplay.gateway.policy.config import Budget, Limits, Sections, parse
from interplay.gateway.policy.grant import Admitted
from interplay.gateway.policy.guardrails import Guard, build
from interplay.gateway.policy.keys import Key, Keys
from interplay.gateway.policy.limits import Scope, Use, Uses
from interplay.gateway.policy.redact import KINDS, Redactor
from interplay.gateway.prices import UNITS, pico, usd

log = logging.getLogger("interplay.gateway.policy")

_LOG_ORDER: tuple[LogLevel, ...] = ("none", "metadata", "full")
_TOKEN_UNITS = tuple(UNITS.index(name) for name in ("input_tokens", "output_tokens"))


@dataclass(frozen=True, slots=True)
class Layer:
    """Limits and whom they count for. name: as a denial calls them, for example `key "kiosk"`."""

    name: str
    scope: Scope
    limits: Limits
    use: Use


class Gate:
    """The Policy of one process. Made by `Gate.open` beside an open Book, on its event loop."""

    def __init__(self, book: Book, audit: Audit, sections: Sections) -> None:
        self.book, self.audit = book, audit
        self.keys = Keys(book.writer)
        self.uses = Uses()
        self._take(sections)
        book.listeners.append(self._spent)

    @classmethod
    async def open(cls, book: Book, sections: Mapping[str, Any] | None = None, audit: Audit | None = None) -> Gate:
        """A policy from the sections of a config file, with the book's audit log. Raises BadInput or Missing."""
        audit = audit or audit_of(book.writer)
        gate = cls(book, audit, parse(sections or {}))
        audit.record("opened", recovered_entries=book.recovered, price_table=book.prices.table)
        return gate

    def reload(self, section: Mapping[str, Any]) -> None:
        """Take new sections (`policy`, `keys`). Raises BadInput and keeps the old ones if they are not valid."""
        self._take(parse(section))
        self.audit.record("reloaded")

    async def identify(self, secret: str | None, *, agent: str = "", user: str = "", session: str = "") -> Caller:
        """Whose call this is. Raises Denied ("key")."""
        claimed = Caller(short(agent) or "default", short(user), short(session))
        if secret is None:
            if not self.policy.local:
                raise self.deny(claimed, "key", "a virtual key is needed", status=401)
            return claimed
        key = await self.keys.find(secret)
        if key is None:
            raise self.deny(claimed, "key", "this key is not known here", status=401)
        self._alive(key, claimed)
        return Caller(key.section.agent or claimed.agent, key.section.user or claimed.user, claimed.session, key.id)

    async def admit(self, caller: Caller, ask: Ask) -> Admitted:
        """Let the call in, or raise Denied. Close what is returned in every case."""
        layers = await self._layers(caller)
        for layer in layers:
            self._fits(caller, ask, layer)
        await self._sums(layers)
        # From here on nothing waits: what is checked is what is taken.
        for layer in layers:
            self._affordable(caller, layer, ask.price_pico)
        now = self.uses.now()
        tokens = ask.input_tokens
        for layer in layers:
            self._room(caller, layer, tokens, now)
        for layer in layers:
            layer.use.running += 1
            layer.use.held_pico += ask.price_pico
            if rate := layer.limits.requests_per_minute:
                self.uses.bucket(layer.use, "requests", rate).take(1, now)
            if rate := layer.limits.tokens_per_minute:
                self.uses.bucket(layer.use, "tokens", rate).take(tokens, now)
        self.audit.record("admitted", **_who(caller), what=ask.kind, route=short(ask.route), model=short(ask.model))
        return Admitted(
            self, caller, ask, layers, self._log_level(layers), self._redactor(layers), self._guards,
            restore=self.policy.restore,
        )  # fmt: skip

    def forbids(self, grant: Admitted, provider: str, model: str, region: str) -> Denied | None:
        """Why a target may not be used; not audited, because the router asks about every candidate."""
        name = f"{provider}/{model}"
        for layer in grant.layers:
            limits = layer.limits
            if limits.models and not any(fnmatchcase(name, pattern) for pattern in limits.models):
                return self._denied("models", f"{layer.name} may not use {name}; it may use {_list(limits.models)}")
            if limits.regions and region not in limits.regions:
                where = f"is in {region!r}" if region else "has no known region"
                return self._denied("regions", f"{name} {where}; {layer.name} may use {_list(limits.regions)}")
            unpriced = limits.unpriced if limits.unpriced is not None else not limits.budgets
            if not unpriced and not self.book.prices.price(provider, model).known:
                return self._denied(
                    "unpriced", f"nobody knows what {name} costs, and {layer.name} has a budget; add it to [prices]"
                )
        return None

    async def check(self, grant: Admitted) -> None:
        """Raises Denied if an open call must end."""
        if grant.caller.key_id:
            key = await self.keys.get(grant.caller.key_id)
            if key is None:
                raise self.deny(grant.caller, "key", "the key is gone", status=401)
            self._alive(key, grant.caller)
        await self._sums(grant.layers)
        for layer in grant.layers:
            self._affordable(grant.caller, layer, 0, within=True)

    def release(self, grant: Admitted) -> None:
        """A call is over: its place is free, and its estimate gives way to what was really used."""
        now = self.uses.now()
        for layer in grant.layers:
            layer.use.running -= 1
            layer.use.held_pico -= grant.ask.price_pico
            if layer.use.tokens is not None and grant.ask.input_tokens:
                layer.use.tokens.take(-grant.ask.input_tokens, now)

    def deny(
        self, caller: Caller, rule: str, message: str, *, status: int = 403, retry_after_s: float | None = None
    ) -> Denied:
        """A denial, audited."""
        self.audit.record("denied", **_who(caller), rule=rule, message=message)
        return self._denied(rule, message, status=status, retry_after_s=retry_after_s)

    def _denied(self, rule: str, message: str, *, status: int = 403, retry_after_s: float | None = None) -> Denied:
        return Denied(rule, message, self.policy.ask, status=status, retry_after_s=retry_after_s)

    def _take(self, sections: Sections) -> None:
        # Everything that can fail comes first: a reload changes all or nothing.
        guards: list[Guard] = [build(section) for section in sections.policy.guardrails]
        redactors: dict[tuple[str, ...], Redactor] = {}
        wanted = [sections.policy.redact, *(key.limits.redact for key in sections.keys.values())]
        wanted += [limits.redact for limits in (sections.policy.users, *sections.policy.agents.values())]
        for kinds in {tuple(kinds) for kinds in wanted if kinds}:
            redactors[kinds] = self._make_redactor(sections, kinds)
        self.sections, self.policy = sections, sections.policy
        self._guards, self._redactors = guards, redactors
        self.keys.configure(sections.keys)

    @staticmethod
    def _make_redactor(sections: Sections, kinds: tuple[str, ...]) -> Redactor:
        return Redactor(kinds, names=sections.policy.names, regions=sections.policy.phone_regions)

    async def _layers(self, caller: Caller) -> list[Layer]:
        """Everything that limits this caller, the most general first."""
        found: list[tuple[str, Scope, Limits]] = [("this gateway", ("all", ""), self.policy.limits)]
        if (agent := self.policy.agents.get(caller.agent)) is not None:
            found.append((f"the agent {caller.agent!r}", ("agent", caller.agent), agent))
        if caller.user:
            found.append((f"the user {caller.user!r}", ("user_id", caller.user), self.policy.users))
        if caller.key_id:
            key = await self.keys.get(caller.key_id)
            if key is None:
                raise self.deny(caller, "key", "the key is gone", status=401)
            self._alive(key, caller)
            found.append((f"the key {key.name!r}", ("key_id", key.id), key.section.limits))
        return [Layer(name, scope, limits, self.uses.of(scope)) for name, scope, limits in found]

    def _alive(self, key: Key, caller: Caller) -> None:
        if why := key.dead(time.time()):
            raise self.deny(caller, "key", f"the key {key.name!r} {why}", status=401)

    def _fits(self, caller: Caller, ask: Ask, layer: Layer) -> None:
        limits = layer.limits
        if limits.kinds and ask.kind not in limits.kinds:
            raise self.deny(caller, "kinds", f"{layer.name} may not make {ask.kind} calls; only {_list(limits.kinds)}")
        if limits.routes and not any(fnmatchcase(ask.route, pattern) for pattern in limits.routes):
            asked = f"the route {ask.route!r}" if ask.route else "models outside of routes"
            raise self.deny(caller, "routes", f"{layer.name} may not use {asked}; only {_list(limits.routes)}")

    async def _sums(self, layers: list[Layer]) -> None:
        """Make sure that what was spent in every budget's period is known."""
        for layer in layers:
            for budget in layer.limits.budgets:
                await self.book.spent(*layer.scope, period(budget)[0])

    def _affordable(self, caller: Caller, layer: Layer, price: int, *, within: bool = False) -> None:
        for budget in layer.limits.budgets:
            since, ends = period(budget)
            limit = pico(budget.usd)
            spent = self.book.spent_now(*layer.scope, since) or 0
            share = spent / limit if limit else 1.0
            if share >= budget.warn and (budget.per, since) not in layer.use.warned:
                layer.use.warned = {(budget.per, since), *(one for one in layer.use.warned if one[0] != budget.per)}
                told = f"{layer.name} has spent ${usd(spent):.2f} of ${budget.usd:g} {_per(budget)}"
                self.audit.record("budget_warning", **_who(caller), message=told)
                log.warning("%s", told)
            held = 0 if within else layer.use.held_pico
            if spent >= limit or (not within and spent + held + price > limit):
                told = f"{layer.name} has spent ${usd(spent):.2f} of its ${budget.usd:g} {_per(budget)}"
                if spent < limit:
                    told += f", and this call with those under way may cost ${usd(held + price):.4f} more"
                raise self.deny(
                    caller, "budget", told, status=402, retry_after_s=None if ends is None else ends - time.time()
                )

    def _room(self, caller: Caller, layer: Layer, tokens: int, now: float) -> None:
        limits, use = layer.limits, layer.use
        if limits.concurrency and use.running >= limits.concurrency:
            told = f"{layer.name} has {use.running} calls under way, and may have {limits.concurrency}"
            raise self.deny(caller, "concurrency", told, status=429, retry_after_s=1.0)
        for name, rate, amount in (
            ("requests", limits.requests_per_minute, 1),
            ("tokens", limits.tokens_per_minute, max(1, tokens)),
        ):
            if rate and (wait := self.uses.bucket(use, name, rate).wait(amount, now)):
                told = f"{layer.name} may use {rate} {name} a minute; try again in {wait:.1f} s"
                raise self.deny(caller, f"{name}_per_minute", told, status=429, retry_after_s=wait)

    def _log_level(self, layers: list[Layer]) -> LogLevel:
        """The most specific setting; nothing more specific than the gateway's own may log more than it."""
        level: LogLevel = self.policy.log
        for layer in layers:
            if layer.limits.log is not None:
                level = _LOG_ORDER[min(_LOG_ORDER.index(level), _LOG_ORDER.index(layer.limits.log))]
        return level

    def _redactor(self, layers: list[Layer]) -> Redactor | None:
        """All kinds that any layer wants hidden."""
        wanted = set(self.policy.redact).union(*(layer.limits.redact or () for layer in layers))
        kinds = tuple(kind for kind in KINDS if kind in wanted)
        if not kinds:
            return None
        if kinds not in self._redactors:
            self._redactors[kinds] = self._make_redactor(self.sections, kinds)
        return self._redactors[kinds]

    def _spent(self, entry: LiveEntry, units: list[int]) -> None:
        """What the ledger just booked counts against tokens per minute."""
        tokens = sum(units[index] for index in _TOKEN_UNITS)
        if tokens:
            now = self.uses.now()
            for scope in entry.scope.items():
                use = self.uses.peek(scope)
                if use is not None and use.tokens is not None:
                    use.tokens.take(tokens, now)


def period(budget: Budget) -> tuple[float, float | None]:
    """When the budget's period began, and when the next begins (None: never), in Unix seconds; calendar, UTC."""
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if budget.per == "day":
        return now.timestamp(), (now + timedelta(days=1)).timestamp()
    if budget.per == "month":
        first = now.replace(day=1)
        return first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()
    return 0.0, None


def _per(budget: Budget) -> str:
    return "in all" if budget.per == "total" else f"this {budget.per}"


def _who(caller: Caller) -> dict[str, str]:
    named = {"agent": caller.agent, "user": caller.user, "session": caller.session, "key": caller.key_id}
    return {name: short(value) for name, value in named.items() if value}


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
