"""Real-time foregrounds under the gateway's ledger and policy: the meter that their connections report to."""

from __future__ import annotations

import time
from collections.abc import Mapping

from interplay.foreground.realtime.link import LinkLost, Target
from interplay.gateway.contract import CHECK_S, Ask, Caller, Entry, Grant, Ledger, Policy, Usage


class LedgerMeter:
    """A Meter of the real-time foregrounds: one ledger entry and one grant per connection.

    Seconds and sound are metered by us as they pass, in windows; tokens are the provider's own count. What a call
    costs is known while it lasts, and policy is asked again at least every CHECK_S seconds.
    """

    def __init__(self, ledger: Ledger, policy: Policy, caller: Caller, *, route: str = "") -> None:
        self._ledger, self._policy, self._caller, self._route = ledger, policy, caller, route

    async def begin(self, target: Target) -> EntryMetering:
        """Raises Denied if this caller may not talk in real time at all, LinkLost if not to this target."""
        ask = Ask("realtime", route=self._route, model=f"{target.provider}/{target.model}", modalities=("audio",))
        grant = await self._policy.admit(self._caller, ask)
        try:
            if (denied := grant.forbids(target.provider, target.model)) is not None:
                raise LinkLost(str(denied), final=True)  # the next target may be allowed
            entry = await self._ledger.begin(
                self._caller,
                route=self._route,
                provider=target.provider,
                model=target.model,
                kind="realtime",
                log=grant.log,
            )
        except BaseException:
            await grant.close()
            raise
        return EntryMetering(entry, grant)


class EntryMetering:
    """One connection's entry. Counts of ours and of the provider are different units and are kept side by side."""

    def __init__(self, entry: Entry, grant: Grant) -> None:
        self._entry, self._grant = entry, grant
        self._ours = Usage()
        self._theirs = Usage()
        self._checked = time.monotonic()

    def counted(self, units: Mapping[str, int]) -> None:
        self._ours += Usage(**units)
        self._entry.usage(Usage(**units))

    def reported(self, units: Mapping[str, int]) -> None:
        self._theirs = Usage(**units)
        self._entry.reported(self._ours + self._theirs)

    async def check(self) -> None:
        """Raises Denied."""
        if time.monotonic() - self._checked >= min(CHECK_S, 5.0) - 0.5:
            self._checked = time.monotonic()
            await self._grant.check()

    async def end(self, error: str = "") -> None:
        try:
            await self._entry.end("error" if error else "ok", error=error)
        finally:
            await self._grant.close()
