"""What can go wrong with one attempt at one provider, and what follows from it.

A `Fault` is one failed attempt. `Failed` is what the caller sees when no attempt is left; its words name every target
that was tried and why it failed, and never a key.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp

from interplay.core.types import InterplayError
from interplay.gateway.scrub import scrub


@dataclass(frozen=True, slots=True)
class Kind:
    """What follows from a fault. status, code: what the caller sees when it was the last one.

    next: another target may help. again: the same target may help a moment later. cools: counts against the target.
    shut: the target is not asked again before its cool-down is over. shown: the provider's words are for the caller.
    """

    status: int
    code: str
    words: str
    next: bool = True
    again: bool = False
    cools: bool = False
    shut: bool = False
    shown: bool = False


KINDS: dict[str, Kind] = {
    "rate_limit": Kind(429, "rate_limited", "rate limit", again=True, cools=True, shut=True),
    "quota": Kind(429, "quota_exhausted", "out of quota", cools=True, shut=True),
    "auth": Kind(502, "upstream_auth", "refused our key", cools=True, shut=True),
    "no_key": Kind(503, "missing_key", "no key"),
    "server": Kind(502, "upstream_error", "server error", again=True, cools=True),
    "overloaded": Kind(503, "upstream_overloaded", "overloaded", again=True, cools=True),
    "timeout": Kind(504, "upstream_timeout", "timed out", again=True, cools=True),
    "connect": Kind(502, "upstream_unreachable", "cannot be reached", again=True, cools=True),
    "tls": Kind(502, "upstream_tls", "TLS error", cools=True),
    "garbage": Kind(502, "upstream_garbage", "unreadable answer", again=True, cools=True),
    "truncated": Kind(502, "upstream_truncated", "answer broke off", again=True, cools=True),
    "context": Kind(400, "context_length_exceeded", "prompt too long", shown=True),
    "filter": Kind(400, "content_filter", "content filter", shown=True),
    "modality": Kind(400, "unsupported", "cannot take this request", shown=True),
    "not_found": Kind(404, "model_not_found", "no such model", shown=True),
    "bad_request": Kind(400, "invalid_request_error", "bad request", next=False, shown=True),
    "denied": Kind(403, "denied", "not allowed", shown=True),
}


class Fault(InterplayError):
    """One failed attempt. kind: a key of KINDS. retry_after_s: what the provider asked for, or None."""

    code = "fault"

    def __init__(self, kind: str, detail: str = "", *, status: int = 0, retry_after_s: float | None = None) -> None:
        self.kind, self.detail, self.status, self.retry_after_s = kind, one_line(detail), status, retry_after_s
        super().__init__(self.words)

    @property
    def then(self) -> Kind:
        return KINDS[self.kind]

    @property
    def words(self) -> str:
        shown = f" ({self.detail})" if self.detail else ""
        return f"{self.then.words}{f' {self.status}' if self.status else ''}{shown}"


class Failed(InterplayError):
    """The call could not be answered. attempts: (target, fault) in order. status, code: for the caller."""

    code = "upstream"

    def __init__(self, what: str, attempts: Sequence[tuple[str, Fault]], *, retry_after_s: float | None = None) -> None:
        last = _telling(attempts)
        self.attempts, self.status, self.reason = tuple(attempts), last.then.status, last.then.code
        self.retry_after_s = retry_after_s if retry_after_s is not None else last.retry_after_s
        self.kind = last.kind
        tried = "; ".join(f"{target}: {fault.words}" for target, fault in _folded(attempts))
        super().__init__(f"{what}: {tried}")


def _telling(attempts: Sequence[tuple[str, Fault]]) -> Fault:
    """The fault that says most to the caller: one about the request itself, else the last."""
    own = [fault for _, fault in attempts if fault.then.shown and fault.kind not in ("not_found", "modality")]
    return own[-1] if own else attempts[-1][1]


def _folded(attempts: Sequence[tuple[str, Fault]]) -> list[tuple[str, Fault]]:
    """Attempts without repetition: three time-outs of one target are said once."""
    seen: dict[tuple[str, str], tuple[str, Fault]] = {}
    for target, fault in attempts:
        seen[target, fault.kind] = (target, fault)
    return list(seen.values())


def one_line(text: str, limit: int = 300) -> str:
    """Somebody else's words on one line, without secrets."""
    return scrub(" ".join(text.split()))[:limit]


def from_exception(error: BaseException) -> Fault:
    """A fault for what the network layer raised."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        reason = getattr(getattr(error, "os_error", None) or getattr(error, "certificate_error", None), "reason", "")
        return Fault("tls", str(reason or "handshake failed"))
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError | asyncio.TimeoutError):
        return Fault("timeout", "connecting" if isinstance(error, aiohttp.ConnectionTimeoutError) else "")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Fault("connect", getattr(error.os_error, "strerror", "") or "connection failed")
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return Fault("connect", "closed the connection")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Fault("truncated")
    if isinstance(error, aiohttp.ClientError | ValueError):
        return Fault("garbage", type(error).__name__)
    raise error


_CONTEXT = re.compile(r"context.{0,12}(length|window|size)|maximum context|too many tokens|prompt is too long", re.I)
_FILTER = re.compile(r"content.{0,3}(filter|policy|management)|safety system|responsible ?ai", re.I)
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing|credit balance|payment", re.I)
_MODALITY = re.compile(
    r"(image|audio|video|vision|modality|multimodal).{0,60}(not support|unsupported|invalid|cannot|can't|not allowed)|"
    r"(not support|unsupported|cannot|does not accept).{0,60}(image|audio|video|vision|modality|multimodal)", re.I
)  # fmt: skip


def from_status(status: int, headers: Any, body: bytes) -> Fault:
    """A fault for an HTTP error of a provider. The provider's own words are kept only where they help the caller."""
    code, message = _said(body)
    text = f"{code} {message}"
    wait = _retry_after(headers)
    if status == 429 or status == 402:
        return Fault("quota" if status == 402 or _QUOTA.search(text) else "rate_limit", status=status,
                     retry_after_s=wait)  # fmt: skip
    if status in (401, 403):
        if status == 403 and _FILTER.search(text):
            return Fault("filter", message, status=status)
        return Fault("quota" if _QUOTA.search(text) else "auth", status=status)
    if status in (408, 504, 524):
        return Fault("timeout", "upstream", status=status)
    if status in (503, 529):
        return Fault("overloaded", status=status, retry_after_s=wait)
    if status >= 500:
        return Fault("server", status=status, retry_after_s=wait)
    if 300 <= status < 400:
        return Fault("garbage", "redirect", status=status)
    if status == 413 or _CONTEXT.search(text):
        return Fault("context", message, status=status)
    if _FILTER.search(text):
        return Fault("filter", message, status=status)
    if _QUOTA.search(text):
        return Fault("quota", status=status)
    if status == 404:
        return Fault("not_found", message, status=status)
    if _MODALITY.search(text):
        return Fault("modality", message, status=status)
    return Fault("bad_request", message or f"status {status}", status=status)


def from_event(error: Any) -> Fault:
    """A fault for an error object inside a stream that began well."""
    error = error if isinstance(error, dict) else {"message": str(error)}
    code = error.get("code")
    status = code if isinstance(code, int) else error.get("status") if isinstance(error.get("status"), int) else 0
    kind = str(error.get("type") or code or "")
    for word, known in (("rate", 429), ("overloaded", 529), ("quota", 402), ("auth", 401), ("timeout", 504)):
        if word in kind:
            status = known
    if status < 400:
        status = 400 if "invalid" in kind else 500
    return from_status(status, {}, json.dumps({"error": error}).encode())


def _said(body: bytes) -> tuple[str, str]:
    """The error code and the words in a provider's error body, whatever its form."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if isinstance(data, list) and data:
        data = data[0]
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    code = " ".join(str(error.get(key) or "") for key in ("code", "type"))
    message = error.get("message") or error.get("detail") or ""
    return code, message if isinstance(message, str) else json.dumps(message)


def _retry_after(headers: Any) -> float | None:
    """Seconds of a Retry-After header (number or date), capped at an hour."""
    if milli := headers.get("retry-after-ms"):
        try:
            return min(3600.0, max(0.0, float(milli) / 1000))
        except ValueError:
            pass
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return min(3600.0, max(0.0, float(value)))
    except ValueError:
        pass
    try:
        return min(3600.0, max(0.0, parsedate_to_datetime(value).timestamp() - time()))
    except (TypeError, ValueError):
        return None
