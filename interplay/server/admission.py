"""Who may open a session: same-site pages only, a few at a time, at a rate a microphone can have."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from urllib.parse import urlsplit


def host_name(host_header: str) -> str:
    """`localhost:8765` -> `localhost`, `[::1]:8765` -> `::1`, anything unreadable -> ""."""
    try:
        return (urlsplit(f"//{host_header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def host_allowed(host_header: str, extra: frozenset[str] = frozenset()) -> bool:
    """True for `localhost`, for addresses, and for names the operator listed.

    Any other name in the Host header means that a foreign page had its own name point at this machine (DNS
    rebinding): such a page would be same-origin with us and could listen to the person through their agent.
    """
    name = host_name(host_header)
    if name == "localhost" or name.endswith(".localhost") or name in extra:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def origin_allowed(origin: str | None, host_header: str) -> bool:
    """True where the page came from this very server. No Origin means no browser: nothing to protect a person from."""
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host_header.lower()


class Seats:
    """A bounded number of sessions at a time. `take` says no at once: waiting in a queue is no conversation."""

    def __init__(self, limit: int):
        self.limit, self.taken = limit, 0

    def take(self) -> bool:
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def leave(self) -> None:
        self.taken -= 1


class Allowance:
    """Token bucket: `per_second` units on average, bursts of at most `burst`."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self.per_second, self.burst, self.clock = per_second, burst, clock
        self.left, self.at = burst, clock()

    def spend(self, units: float) -> bool:
        now = self.clock()
        self.left = min(self.burst, self.left + (now - self.at) * self.per_second)
        self.at = now
        if units > self.left:
            return False
        self.left -= units
        return True
