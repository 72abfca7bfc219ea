"""No secret leaves the process by accident: one function that every log line, error and record goes through.

Two nets: the exact values that were ever handed to `remember` (provider keys, virtual keys), and the shapes that keys
of known providers have. The first catches keys without a shape, the second keys that nobody remembered.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import quote

HIDDEN = "[secret]"
_MIN_CHARS = 8  # shorter values would blot out ordinary words

_known: dict[str, None] = {}
_MAX_KNOWN = 4096

# What each shape must contain: searching for a few words is a hundred times quicker than trying shapes at every letter.
_MARKS = re.compile(
    r"ipk_|sk[-_]|[rp]k-|gsk|xai|pplx|hf_|r8_|fw_|csk|nvapi|tgp|AIza|AKIA|ghp_|eyJ|earer |[Aa][Pp][Ii]-?_?[Kk][Ee][Yy]|"
    r"[?&]key=|access_token="
)
_SHAPES = re.compile(
    r"""(?x)
    \bipk_[0-9a-z]{6,}_[0-9A-Za-z_-]{8,}                       # ours
  | \b(?:sk|rk|pk)-[A-Za-z0-9*._-]{6,}                         # OpenAI, Anthropic, OpenRouter, DeepSeek, ...
  | \b(?:gsk|xai|pplx|hf|r8|fw|csk|nvapi|tgp|sk)[_-][A-Za-z0-9_-]{12,}
  | \bAIza[0-9A-Za-z_-]{20,}                                   # Google
  | \bAKIA[0-9A-Z]{12,} | \bghp_[A-Za-z0-9]{20,}
  | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{6,}   # JSON web tokens
  | (?<=earer\ )[^\s"',;]{6,}
  | (?i:(?<=api-key:\ )|(?<=api-key=)|(?<=api_key=)|(?<=apikey=)|(?<=[?&]key=)|(?<=access_token=))[^\s&"',;]{6,}
    """
)
_USERINFO = re.compile(r"(?<=://)[^/\s@:]+:[^/\s@]+(?=@)")


def remember(secret: str | None) -> None:
    """From now on this value is hidden wherever `scrub` looks, also when it is quoted for a URL."""
    if not secret or len(secret) < _MIN_CHARS:
        return
    while len(_known) >= _MAX_KNOWN:
        _known.pop(next(iter(_known)))
    _known[secret] = None
    if (quoted := quote(secret, safe="")) != secret:
        _known[quoted] = None


def scrub(text: object) -> str:
    """The text without secrets. Never raises."""
    told = str(text)
    for secret in tuple(_known):
        if secret in told:
            told = told.replace(secret, HIDDEN)
    if _MARKS.search(told):
        told = _SHAPES.sub(HIDDEN, told)
    return _USERINFO.sub(HIDDEN, told) if "://" in told else told


def spans(text: str) -> list[tuple[int, int]]:
    """Where secrets stand in a text: those that are remembered, and whatever looks like one."""
    found = [match.span() for match in _SHAPES.finditer(text)] if _MARKS.search(text) else []
    for secret in tuple(_known):
        at = text.find(secret)
        while at >= 0:
            found.append((at, at + len(secret)))
            at = text.find(secret, at + 1)
    return found


def guard_logging() -> None:
    """From now on no log record of this process carries a secret, whatever handlers there are or will be.

    Records are cleaned where they are made; those without a secret are left alone. Safe to call twice.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "scrubs", False):
        return

    def scrubbed(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            told = record.getMessage()
        except Exception:  # a log call of somebody who counted wrong: logging itself will say so
            return record
        if (clean := scrub(told)) != told:
            record.msg, record.args = clean, None
        if record.exc_info:
            told = logging.Formatter().formatException(record.exc_info)  # pyright: ignore[reportArgumentType]
            if (clean := scrub(told)) != told:
                record.exc_text, record.exc_info = clean, None
        if record.stack_info:
            record.stack_info = scrub(record.stack_info)
        return record

    scrubbed.scrubs = True  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(scrubbed)
