"""The seam inside the gateway: what the routing half and the ledger-and-policy half know of each other.

One call, in the order in which it is used:

    caller = await policy.identify(secret, agent=..., user=..., session=...)
    async with await policy.admit(caller, Ask("chat", route="voice")) as grant:      # or raises Denied
        body = await grant.outgoing(messages)                     # guardrails before, redaction
        candidates = [t for t in targets if grant.forbids(t.provider, t.model, t.region) is None]
        entry = await ledger.begin(caller, route="voice", provider="groq", model="llama-3.3-70b", kind="chat")
        entry.usage(Usage(input_tokens=812), estimated=True)      # just before the request leaves
        async for delta in upstream:
            entry.usage(Usage(output_tokens=3), estimated=True)   # before the words are handed on: write-ahead
            yield await grant.incoming(delta)                     # guardrails after, redaction undone
            await grant.check()                                   # any time; at least every CHECK_S seconds
        yield await grant.finish()
        entry.reported(Usage(input_tokens=815, output_tokens=240), provider_id="chatcmpl-1")
        await entry.end("ok")

One entry is one attempt at one provider: a retry or a fallback begins another, and the failed one ends as "error"
with whatever was spent on it. Money is whole picodollars (1e-12 USD), so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from interplay.core.types import InterplayError

CHECK_S = 30.0
"""A stream asks `Grant.check` at least this often: the window in which an exhausted budget may still be spent."""

PICO = 10**12
"""Picodollars per US dollar."""

Kind = Literal["chat", "responses", "messages", "embeddings", "realtime", "tool"]
Status = Literal["ok", "error", "cancelled"]
LogLevel = Literal["none", "metadata", "full"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who spends. key_id: the public id of a virtual key, or "" for local trust (native calls, loopback)."""

    agent: str = "default"
    user: str = ""
    session: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller wants, before a target is chosen. Tokens are estimates and may be 0 for "do not know".

    price_pico: the worst that this call may cost, if known; it is held against the budget until the grant closes.
    """

    kind: Kind
    route: str = ""
    model: str = ""
    modalities: tuple[str, ...] = ("text",)
    input_tokens: int = 0
    max_output_tokens: int = 0
    price_pico: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider did for us, in the units that are priced.

    input_tokens includes the cached ones and the audio ones, as all providers count; output_tokens includes audio.
    seconds: wall seconds of a session that is billed by time. audio_*_ms: sound, for those billed by its length.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    output_audio_tokens: int = 0
    audio_in_ms: int = 0
    audio_out_ms: int = 0
    session_ms: int = 0
    images: int = 0
    requests: int = 0
    tool_calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)))


class Denied(InterplayError):
    """Policy says no. rule: which one, for example "budget" or "models". how: how to ask for more.

    status: the HTTP status that says it. retry_after_s: when asking again makes sense, None for never by waiting.
    """

    code = "denied"

    def __init__(
        self, rule: str, message: str, how: str, *, status: int = 403, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{message} (rule: {rule}). {how}")
        self.rule, self.message, self.how = rule, message, how
        self.status, self.retry_after_s = status, retry_after_s


class Entry(Protocol):
    """One attempt at one provider, as the ledger sees it. `id` is unique for ever."""

    id: str

    def usage(self, more: Usage, *, estimated: bool = False, provider_id: str = "") -> None:
        """Add what was just spent. Costs microseconds, and survives `kill -9` from the moment it returns.

        estimated: counted by us rather than by the provider; `reported` replaces it.
        provider_id: the provider's id of the response, as soon as it is known. `id` itself should travel to the
        provider as X-Client-Request-Id: either can match a line of its bill.
        """
        ...

    def reported(self, total: Usage, *, provider_id: str = "") -> None:
        """The provider's own count of this whole attempt: it replaces what was counted so far, which is kept beside.

        May be called repeatedly; `usage` adds to the last report.
        """
        ...

    def content(self, *, request: Any = None, response: Any = None) -> None:
        """Keep what was said, if and only if this entry is logged in full; a no-op at any other level."""
        ...

    @property
    def cost_pico(self) -> int:
        """What this attempt costs so far."""
        ...

    async def end(self, status: Status = "ok", *, error: str = "") -> int:
        """Close the entry; returns its cost in picodollars. Safe to call twice: the first call counts."""
        ...


class Ledger(Protocol):
    """Everything spent. Raises LedgerFull (a Denied) from `begin` when it could not record: then nothing is spent."""

    async def begin(
        self,
        caller: Caller,
        *,
        route: str,
        provider: str,
        model: str,
        kind: Kind,
        log: LogLevel = "metadata",
        labels: Mapping[str, str] | None = None,
    ) -> Entry: ...

    async def close(self) -> None: ...


class Grant(Protocol):
    """An admitted call: a place under rate and concurrency limits, held until `close` or the end of `async with`."""

    caller: Caller
    log: LogLevel

    def forbids(self, provider: str, model: str, region: str = "") -> Denied | None:
        """Why this target may not be used, or None if it may."""
        ...

    async def check(self) -> None:
        """Still allowed? Raises Denied if a budget ran out or the key was revoked meanwhile. Cheap to call often."""
        ...

    async def outgoing(self, messages: Any) -> Any:
        """A copy of a JSON body or message list as the provider may see it: guards have passed it, names are tokens.

        Strings that are content are redacted wherever they are nested; ids, roles, types and media stay.
        Raises Denied if a guardrail refuses.
        """
        ...

    async def incoming(self, delta: str) -> str:
        """The next piece of the answer as the caller may see it. May hold back a few characters: see `finish`.

        Raises Denied if a guardrail refuses; what was handed on before stays handed on.
        """
        ...

    async def finish(self) -> str:
        """What `incoming` still held back at the end of a text. The same grant may then take another text."""
        ...

    def hidden(self, body: Any) -> Any:
        """A copy of a JSON body with personal data hidden, for records; as `outgoing`, without guardrails."""
        ...

    def restore(self, body: Any) -> Any:
        """A whole JSON body with redaction undone, for tool arguments and answers that were not streamed."""
        ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Policy(Protocol):
    """Who may do what. Every decision is in the audit log."""

    async def identify(self, secret: str | None, *, agent: str = "", user: str = "", session: str = "") -> Caller:
        """Whose call this is. secret: a virtual key; None is local trust. Raises Denied ("key") if it is not known.

        What a key fixes (its agent or user) wins over what the request claims.
        """
        ...

    async def admit(self, caller: Caller, ask: Ask) -> Grant:
        """Let the call in, or raise Denied. Close the grant in every case."""
        ...

    def reload(self, section: Mapping[str, Any]) -> None:
        """Take a new `[policy]` section. Raises BadInput and keeps the old one if it is not valid."""
        ...


@dataclass(frozen=True, slots=True)
class BadField:
    """One mistake in a config section: `path` from the top of the file, so that a loader can point at its line."""

    path: tuple[str | int, ...] = field(default=())
    message: str = ""
