"""Personal data out of what a provider sees, and back into what the caller sees.

Found by kept libraries: `phonenumbers` (Google's libphonenumber) and `python-stdnum` (check digits of cards, IBANs,
US social security numbers). Both are small, pure Python and offline. Names of people are found only if they are
listed: guessing them takes a language model of its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from interplay.core.types import Missing
from interplay.gateway import scrub

KINDS = ("secret", "email", "iban", "card", "ssn", "ip", "name", "phone")
"""The most certain first: where two findings overlap, it wins."""


_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-]|\.\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_IP4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)")
_IP6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_IP_MARK = re.compile(r"\d\.\d|[0-9A-Fa-f]:|::")
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_PHONE = re.compile(r"(?<![\w.,:/-])(?:\+|\(\+?|00)?\d(?:[ ()./-]{0,3}\d){6,16}(?![\w/]|[.,:]\d)")
_DATE = re.compile(r"(?:19|20)\d\d([./-])\d\d?\1\d\d?|\d\d?([./-])\d\d?\2(?:19|20)?\d\d(?!\d)")
_DIGITS = re.compile(r"\d(?:\D{0,3}\d){6}")

_TOKEN = re.compile(r"\[(?:EMAIL|PHONE|CARD|IBAN|IP|SSN|SECRET|NAME)_\d{1,6}\]")
_TOKEN_START = re.compile(r"\[(?:[A-Z]{0,6}|[A-Z]{2,6}_\d{0,6})$")

_STRUCTURE = {
    *("id", "role", "type", "name", "model", "url", "image_url", "data", "file_data", "file_id", "b64_json"),
    *("signature", "encrypted_content", "tool_call_id", "call_id", "tool_use_id", "format", "status", "object"),
    *("finish_reason", "tools", "tool_choice", "response_format", "metadata", "previous_response_id", "media_type"),
    *("mime_type", "detail", "cache_control", "index"),
}
_CONTENT = frozenset({"input", "arguments", "args", "output", "result"})

Span = tuple[int, int, str]


class Redactor:
    """Finds personal data. Make one per policy: it is shared and keeps nothing of what it saw.

    kinds: of KINDS. names: words to treat as names. regions: countries whose national phone numbers are known.
    Raises Missing if a library is not installed.
    """

    def __init__(
        self, kinds: Iterable[str], *, names: Sequence[str] = (), regions: Sequence[str] = ("US", "GB", "DE", "FR")
    ) -> None:
        self.kinds = tuple(kind for kind in KINDS if kind in set(kinds))
        self._regions = tuple(regions)
        self._clean: dict[int, None] = {}
        self._names = (
            re.compile(
                r"(?<!\w)(?:" + "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) + r")(?!\w)",
                re.IGNORECASE,
            )
            if names
            else None
        )
        if {"phone", "card", "iban", "ssn"} & set(self.kinds):
            try:
                import phonenumbers  # noqa: F401
                import stdnum  # noqa: F401
            except ImportError as error:
                raise Missing(f'redaction needs {error.name}; get it with: pip install "interplay[gateway]"') from error

    def find(self, text: str) -> list[Span]:
        """Spans (start, end, kind) in order, without overlaps: of two kinds the one earlier in KINDS stays."""
        mark = hash(text)
        if mark in self._clean:
            return []
        kept: list[Span] = []
        for kind in self.kinds:
            for span in _FINDERS[kind](self, text):
                if all(span[1] <= other[0] or span[0] >= other[1] for other in kept):
                    kept.append(span)
        if not kept:
            # A history is sent again with every call; only hashes of texts with nothing in them are remembered.
            self._clean[mark] = None
            if len(self._clean) > 10_000:
                self._clean.pop(next(iter(self._clean)))
        return sorted(kept)

    def _email(self, text: str) -> Iterator[Span]:
        if "@" in text:
            yield from ((*m.span(), "email") for m in _EMAIL.finditer(text))

    def _phone(self, text: str) -> Iterator[Span]:
        # Candidates by shape, then Google's rules per country; its own matcher takes seconds on a page of figures.
        import phonenumbers

        for match in _PHONE.finditer(text):
            found = match.group()
            if not 7 <= sum(map(str.isdigit, found)) <= 15 or _DATE.match(found):
                continue
            for region in ("ZZ",) if found.startswith("+") else self._regions:
                try:
                    number = phonenumbers.parse(found, region)
                except phonenumbers.NumberParseException:
                    continue
                if phonenumbers.is_valid_number(number):
                    yield *match.span(), "phone"
                    break

    def _card(self, text: str) -> Iterator[Span]:
        from stdnum import luhn

        if not _DIGITS.search(text):
            return
        for match in _CARD.finditer(text):
            if luhn.is_valid(re.sub(r"[ -]", "", match.group())):
                yield *match.span(), "card"

    def _iban(self, text: str) -> Iterator[Span]:
        from stdnum import iban

        if not _DIGITS.search(text):
            return
        for match in _IBAN.finditer(text):
            # The run may have swallowed a capitalised word that follows: try the shorter ones too.
            end = match.end()
            while end - match.start() >= 15:
                if iban.is_valid(text[match.start() : end]):
                    yield match.start(), end, "iban"
                    break
                end = text.rfind(" ", match.start(), end)

    def _ip(self, text: str) -> Iterator[Span]:
        if not _IP_MARK.search(text):
            return
        for match in (*_IP4.finditer(text), *_IP6.finditer(text)):
            if not any(map(str.isdigit, match.group())):
                continue  # a::b is an address as well, and more often something else
            try:
                ipaddress.ip_address(match.group())
            except ValueError:
                continue
            yield *match.span(), "ip"

    def _ssn(self, text: str) -> Iterator[Span]:
        from stdnum.us import ssn

        yield from ((*m.span(), "ssn") for m in _SSN.finditer(text) if ssn.is_valid(m.group()))

    def _secret(self, text: str) -> Iterator[Span]:
        yield from ((start, end, "secret") for start, end in scrub.spans(text))

    def _name(self, text: str) -> Iterator[Span]:
        if self._names is not None:
            yield from ((*m.span(), "name") for m in self._names.finditer(text))


_FINDERS: dict[str, Callable[[Redactor, str], Iterator[Span]]] = {kind: getattr(Redactor, f"_{kind}") for kind in KINDS}


class Redaction:
    """One call's redaction: what became which token. Tokens are numbered by first occurrence, so that a history that
    is sent again gets the same ones."""

    def __init__(self, redactor: Redactor, *, restore: bool = True) -> None:
        self._redactor, self._restore = redactor, restore
        self._tokens: dict[tuple[str, str], str] = {}
        self._originals: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._held = ""

    def hide(self, text: str) -> str:
        """The text with a token such as [EMAIL_1] in place of each finding."""
        spans = self._redactor.find(text)
        if not spans:
            return text
        parts, at = [], 0
        for start, end, kind in spans:
            parts += [text[at:start], self._token(kind, text[start:end])]
            at = end
        return "".join((*parts, text[at:]))

    def hide_body(self, body: Any) -> Any:
        """A copy of a JSON body with all its content hidden; structure, ids, media and tool definitions stay."""
        return walk(body, self.hide)

    def show(self, text: str) -> str:
        """The text with the originals in place of their tokens."""
        if not self._restore or not self._originals:
            return text
        return _TOKEN.sub(lambda m: self._originals.get(m.group(), m.group()), text)

    def show_body(self, body: Any) -> Any:
        """A copy of a JSON body with every string shown."""
        return walk(body, self.show, everything=True)

    def stream(self, delta: str) -> str:
        """The next piece of a text, shown; the beginning of a token at its end is held back."""
        if not self._restore or not self._originals:
            return delta
        text = self._held + delta
        start = _TOKEN_START.search(text)
        self._held = text[start.start() :] if start else ""
        return self.show(text[: start.start()] if start else text)

    def finish(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return self.show(held)

    def _token(self, kind: str, original: str) -> str:
        token = self._tokens.get((kind, original))
        if token is None:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            token = self._tokens[kind, original] = f"[{kind.upper()}_{number}]"
            self._originals[token] = original
        return token


def walk(body: Any, change: Callable[[str], str], *, everything: bool = False) -> Any:
    """A copy of JSON with `change` applied to strings that are content, or to all of them."""
    if isinstance(body, str):
        return body if not everything and body.startswith("data:") else change(body)
    if isinstance(body, list | tuple):
        return [walk(item, change, everything=everything) for item in body]
    if isinstance(body, dict):
        changed = {}
        for key, value in body.items():
            if not everything and key in _STRUCTURE:
                changed[key] = value
            else:
                # Inside a tool's arguments, keys such as "name" are the user's, not the protocol's.
                inside = everything or (key in _CONTENT and isinstance(value, dict))
                changed[key] = walk(value, change, everything=inside)
        return changed
    return body


def texts(body: Any) -> list[str]:
    """The content of a JSON body, string by string."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    walk(body, note)
    return found
