"""Foregrounds by name, those of providers under the ledger and the policy: what `--foreground NAME` goes through.

`openai-realtime/gpt-realtime` and its like are metered; `route/voice` takes the targets, the strategy and the filters
of a route in the gateway's config file, which INTERPLAY_GATEWAY names. Our own models cost nothing and pass untouched.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from interplay.core.types import BadInput
from interplay.foreground.base import Foreground, ForegroundSpec
from interplay.foreground.registry import load_foreground

if TYPE_CHECKING:
    from interplay.foreground.realtime import RealtimeForeground
    from interplay.foreground.realtime.channel import RealtimeChannel
    from interplay.foreground.realtime.link import Target
    from interplay.gateway.config import Config
    from interplay.gateway.config import Target as RouteTarget
    from interplay.gateway.ledger.book import Book
    from interplay.gateway.routes import Board

CONFIG, KEY = "INTERPLAY_GATEWAY", "INTERPLAY_KEY"
ROUTE = "route/"
KINDS_OF = {
    "openai": "openai-realtime", "google": "gemini-live", "xai": "xai", "azure": "azure-realtime",
    "elevenlabs": "elevenlabs", "moshi": "moshi", "minicpmo": "minicpmo",
}  # fmt: skip
"""Providers of routes to kinds of real-time foregrounds; GPT-Live models are told by their names."""


def load_mind(name: str, *, checkpoint: str | Path | None = None, agent: str = "", user: str = "") -> Foreground:
    """The foreground of this name. agent, user: whom its costs are put down to, unless the session says so itself.

    Raises BadInput for a name that is not known, Missing for parts or keys that are not there.
    """
    from interplay.foreground.realtime import RealtimeForeground, load_realtime

    config = Path(path) if (path := os.environ.get(CONFIG)) else None
    if name.startswith(ROUTE):
        route, targets = _targets_of(name.removeprefix(ROUTE), config)
        mind: Foreground = load_realtime(",".join(targets))
        regions = {f.name: t.region for f, t in zip(mind.targets, targets.values(), strict=True)}
        return Metered(name, mind, Account(config), agent, user, route=route, regions=regions)
    mind = load_foreground(name, checkpoint=checkpoint)
    if not isinstance(mind, RealtimeForeground):
        return mind
    return Metered(mind.name, mind, Account(config), agent, user)


class Metered:
    """A real-time foreground whose conversations are admitted by policy and written into the ledger.

    Options of a channel: `agent`, `user`, `session` (for whom), `instructions`.
    """

    def __init__(
        self, name: str, mind: RealtimeForeground, account: Account, agent: str, user: str, *, route: str = "",
        regions: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        from interplay.gateway.scrub import guard_logging, remember

        self.name, self.capabilities = name, mind.capabilities
        self._mind, self._account, self._for = mind, account, (agent, user)
        self._route, self._regions = route, regions or {}
        guard_logging()
        for variable in _secrets(mind.targets):
            remember(os.environ.get(variable, ""))

    async def open(self, spec: ForegroundSpec) -> RealtimeChannel:
        """Admit and connect. Raises Denied, or InterplayError if no target can be reached."""
        from interplay.gateway.realtime import LedgerMeter

        agent, user = self._for
        options = spec.options
        open_account = await self._account.enter()
        try:
            caller = await open_account.gate.identify(
                os.environ.get(KEY) or None,
                agent=str(options.get("agent") or agent),
                user=str(options.get("user") or user),
                session=str(options.get("session") or f"live-{uuid4().hex[:12]}"),
            )
            targets = open_account.order(self._route, self._mind.targets, caller.session)
        except BaseException:
            await self._account.leave()
            raise
        meter = LedgerMeter(
            open_account.book, open_account.gate, caller, route=self._route, regions=self._regions,
            left=self._account.leave,
        )  # fmt: skip
        return await self._mind.converse(spec, targets, meter)


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """The ledger and the policy while somebody talks."""

    config: Config
    book: Book
    gate: Any  # a Gate
    board: Board

    def order(self, route: str, targets: list[Target], session: str) -> list[Target]:
        """Targets in the order in which the route would ask them now; as they are without a route."""
        found = self.config.routes.get(route)
        if found is None:
            return targets
        named = {_kind(target): target for target in found.targets}
        by_name = {target.name: target for target in targets}
        use = [target for name, target in named.items() if name in by_name]
        return [by_name[_kind(target)] for target in self.board.order(found, use, session=session)]


class Account:
    """Ledger and policy of this process's conversations: opened by the first, closed after the last.

    Between conversations nothing is open, so that a conversation may live on another event loop than the one before.
    Rates per minute are remembered all the same.
    """

    def __init__(self, config: Path | None) -> None:
        self._path = config
        self._open: OpenAccount | None = None
        self._talking = 0
        self._uses: Any = None
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    async def enter(self) -> OpenAccount:
        """One more conversation. Raises BadInput for a bad config, InterplayError if the ledger cannot be used."""
        with self._count(1):
            async with self._lock():
                if self._open is None:
                    self._open = await self._begin()
            return self._open

    async def leave(self) -> None:
        """A conversation is over: what it cost is in the database when this returns."""
        with self._count(-1):
            pass
        async with self._lock():
            if self._open is None:
                return
            await self._open.book.flush()
            if not self._talking:
                self._uses, now = self._open.gate.uses, self._open
                self._open = None
                await now.book.close()
                now.gate.audit.seal()

    async def _begin(self) -> OpenAccount:
        from interplay.gateway.config import default_config, load
        from interplay.gateway.ledger.book import Book
        from interplay.gateway.policy.config import check, ledger_place, parse
        from interplay.gateway.policy.gate import Gate
        from interplay.gateway.prices import PriceBook
        from interplay.gateway.routes import Board

        config = load(self._path, check=check) if self._path is not None else default_config()
        sections = parse(config.sections)
        url, folder = ledger_place(sections.ledger)
        book = await Book.open(url, folder=folder, prices=PriceBook(sections.prices))
        try:
            gate = await Gate.open(book, config.sections)
        except BaseException:
            await book.close()
            raise
        gate.uses = self._uses or gate.uses
        return OpenAccount(config, book, gate, Board(book.prices))

    @contextmanager
    def _count(self, more: int) -> Iterator[None]:
        self._talking += more
        try:
            yield
        except BaseException:
            self._talking -= more
            raise

    def _lock(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def _targets_of(route: str, config: Path | None) -> tuple[str, dict[str, RouteTarget]]:
    """A route's name, and its targets by the names of real-time foregrounds. Raises BadInput."""
    from interplay.gateway.config import load
    from interplay.gateway.policy.config import check
    from interplay.gateway.providers import did_you_mean
    from interplay.gateway.routes import fits

    if config is None:
        raise BadInput(f"--foreground {ROUTE}{route}: set {CONFIG} to the gateway's config file, where routes are")
    book = load(config, check=check)
    found = book.routes.get(route)
    if found is None:
        raise BadInput(f"{config} has no route {route!r}{did_you_mean(route, book.routes)}")
    why = {target.id: fits(target, found.filter, ("audio",), 0) for target in found.targets}
    fit = {_kind(target): target for target in found.targets if not why[target.id]}
    if not fit:
        told = "; ".join(f"{name} {reason}" for name, reason in why.items())
        raise BadInput(f"route {route!r} has no target that can hold a conversation: {told}")
    return route, fit


def _kind(target: RouteTarget) -> str:
    """The name of a target as a real-time foreground. Raises BadInput for providers that are not live."""
    kind = KINDS_OF.get(target.provider)
    if kind is None:
        raise BadInput(f"{target.id} is not live; real-time providers: {', '.join(sorted(KINDS_OF))}")
    return f"{'openai-live' if target.model.startswith('gpt-live') else kind}/{target.model}"


def _secrets(targets: list[Target]) -> set[str]:
    from interplay.foreground.realtime import KINDS

    return {KEY} | {name for target in targets for name in KINDS[target.name.partition("/")[0]].needs if "KEY" in name}
