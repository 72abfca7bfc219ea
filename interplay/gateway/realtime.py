"""Real-time foregrounds under the gateway's ledger and policy: what they cost is metered while they talk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

from interplay.core.types import InterplayError
from interplay.foreground.realtime.link import LinkLost, Target
from interplay.gateway.contract import CHECK_S, Ask, Caller, Entry, Grant, Ledger, Policy, Usage

RECHECK_S = min(5.0, CHECK_S)
"""Policy is asked again this often while a connection lasts."""


class LedgerMeter:
    """A Meter of one conversation: one grant for all of it, one ledger entry per connection.

    regions: of targets, by name, where policy asks for one. left: called once the conversation is over and written.
    Time and sound are metered by us as they pass; tokens are the provider's own count.
    """

    def __init__(
        self,
        ledger: Ledger,
        policy: Policy,
        caller: Caller,
        *,
        route: str = "",
        regions: Mapping[str, str] | None = None,
        left: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._ledger, self._policy, self._caller, self._route = ledger, policy, caller, route
        self._regions, self._left = regions or {}, left
        self._grant: Grant | None = None
        self._admitting = asyncio.Lock()  # two targets may be dialled at a time: still one conversation

    async def begin(self, target: Target) -> EntryMetering:
        """Raises Denied if this caller may not talk in real time at all, LinkLost if not to this target."""
        async with self._admitting:
            if self._grant is None:
                ask = Ask("realtime", self._route, f"{target.provider}/{target.model}", modalities=("audio",))
                self._grant = await self._policy.admit(self._caller, ask)
        region = self._regions.get(target.name, "")
        if (denied := self._grant.forbids(target.provider, target.model, region)) is not None:
            raise LinkLost(str(denied), final=True)  # the next target may be allowed
        entry = await self._entry(target, target.model)
        return EntryMetering(entry, self._grant, lambda model: self._entry(target, model))

    async def _entry(self, target: Target, model: str) -> Entry:
        log = self._grant.log if self._grant is not None else "metadata"
        return await self._ledger.begin(
            self._caller, route=self._route, provider=target.provider, model=model, kind="realtime", log=log
        )

    async def close(self) -> None:
        """The conversation is over. Safe to call twice."""
        grant, self._grant = self._grant, None
        left, self._left = self._left, None
        if grant is not None:
            await grant.close()
        if left is not None:
            with contextlib.suppress(InterplayError):  # the database is away: the write-ahead slots have it all
                await left()


class EntryMetering:
    """One connection's entry. Counts of ours and of the provider are different units and are kept side by side."""

    def __init__(self, entry: Entry, grant: Grant, other: Callable[[str], Awaitable[Entry]]) -> None:
        self._entry, self._grant, self._other = entry, grant, other
        self._others: dict[str, Entry] = {}  # of models that the live one hands work on to
        self._ours = Usage()
        self._theirs = Usage()
        self._clock = self._checked = time.monotonic()
        self._over = False

    def counted(self, units: Mapping[str, int]) -> None:
        """What passed, and the time up to now."""
        more = Usage(**units, session_ms=self._passed_ms())
        self._ours += more
        self._entry.usage(more)

    async def reported(self, units: Mapping[str, int], model: str = "") -> None:
        if model:
            if model not in self._others:
                self._others[model] = await self._other(model)
            self._others[model].reported(Usage(**units))
            return
        self._theirs = Usage(**units)
        self._entry.reported(self._ours + self._theirs)

    async def check(self) -> None:
        """Meters the time; every RECHECK_S asks policy. Raises Denied."""
        self.counted({})
        if time.monotonic() - self._checked >= RECHECK_S:
            self._checked = time.monotonic()
            await self._grant.check()

    async def end(self, error: str = "") -> None:
        if not self._over:
            self._over = True
            self.counted({})
            for entry in (self._entry, *self._others.values()):
                await entry.end("error" if error else "ok", error=error)

    def _passed_ms(self) -> int:
        """Whole milliseconds since the last time, the rest is kept for the next."""
        ms = int((time.monotonic() - self._clock) * 1000)
        self._clock += ms / 1000
        return ms
