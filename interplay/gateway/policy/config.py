"""The sections `[policy]`, `[keys]`, `[ledger]` and `[prices]` of the gateway's config file, checked field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from interplay.core.types import BadInput
from interplay.gateway.contract import BadField, Kind, LogLevel
from interplay.gateway.prices import PriceBook

Period = Literal["day", "month", "total"]
Personal = Literal["email", "phone", "card", "iban", "ip", "ssn", "secret", "name"]
When = Literal["before", "after"]

DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
SECTIONS = ("policy", "keys", "ledger", "prices")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(_Section):
    """US dollars per calendar day or month (UTC), or for ever. warn: the share after which a warning is recorded."""

    usd: float = Field(ge=0)
    per: Period = "month"
    warn: float = Field(default=0.8, gt=0, le=1)


class Limits(_Section):
    """What a key, an agent, a user or everybody may do; empty means no limit.

    models, routes: patterns such as "openai/*" and "voice". regions: where a target may be. unpriced: may models be
    used whose price nobody knows? By default only where no budget counts on prices.
    """

    budgets: tuple[Budget, ...] = ()
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    models: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    unpriced: bool | None = None
    log: LogLevel | None = None
    redact: tuple[Personal, ...] | None = None


class GuardSection(_Section):
    """One guardrail. Exactly one of: words (none of them may occur), pattern (a regular expression that may not match),
    max_chars, use ("package.module:function", see guardrails.py)."""

    name: str = Field(min_length=1, max_length=64)
    when: tuple[When, ...] = ("before",)
    words: tuple[str, ...] = ()
    pattern: str | None = None
    max_chars: int | None = Field(default=None, ge=1)
    use: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _one(self) -> GuardSection:
        if sum(bool(given) for given in (self.words, self.pattern, self.max_chars, self.use)) != 1:
            raise ValueError("needs exactly one of words, pattern, max_chars, use")
        return self


class PolicySection(_Section):
    """`[policy]`. local: may calls without a key in? (Loopback and Python only; the server decides what is local.)

    limits: everybody together. users: each user for itself. agents: by name. names: words to redact as "name".
    phone_regions: countries whose national phone numbers are known. restore: undo redaction in answers.
    ask: whom or how to ask for more; part of every denial.
    """

    local: bool = True
    ask: str = Field(default="Ask the operator of this gateway.", max_length=300)
    log: LogLevel = "metadata"
    redact: tuple[Personal, ...] = ()
    restore: bool = True
    names: tuple[str, ...] = ()
    phone_regions: tuple[str, ...] = ("US", "GB", "DE", "FR")
    guardrails: tuple[GuardSection, ...] = ()
    limits: Limits = Limits()
    users: Limits = Limits()
    agents: dict[str, Limits] = Field(default_factory=dict)

    @field_validator("phone_regions")
    @classmethod
    def _countries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [name for name in value if not re.fullmatch(r"[A-Z]{2}", name)]:
            raise ValueError(f"{bad[0]!r} is not a country code of two capital letters")
        return value


class KeySection(_Section):
    """One virtual key: who it stands for and what it may do. agent, user: fixed by the key if given."""

    agent: str = Field(default="", max_length=120)
    user: str = Field(default="", max_length=120)
    expires: float | None = None
    limits: Limits = Limits()


class ConfigKey(KeySection):
    """A key in the config file: its digest, never its secret. `interplay gateway keys create --print-digest`."""

    digest: str

    @field_validator("digest")
    @classmethod
    def _digest(cls, value: str) -> str:
        if not DIGEST.match(value):
            raise ValueError('must be "sha256:" and 64 hexadecimal digits; a secret does not belong here')
        return value


class LedgerSection(_Section):
    """`[ledger]`. url: a path or postgresql:// URL without a password (put that into INTERPLAY_LEDGER)."""

    url: str = ""
    slots: str = ""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if re.search(r"://[^/\s]*:[^/\s]*@", value):
            raise ValueError("secrets do not belong in this file; put the URL into INTERPLAY_LEDGER")
        return value


class Sections(_Section):
    """All sections that ledger and policy read."""

    policy: PolicySection = PolicySection()
    keys: dict[str, ConfigKey] = Field(default_factory=dict)
    ledger: LedgerSection = LedgerSection()
    prices: dict[str, dict[str, float]] = Field(default_factory=dict)

    @field_validator("prices")
    @classmethod
    def _prices(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        try:
            PriceBook(value)
        except BadInput as error:
            raise ValueError(str(error)) from None
        return value


def parse(sections: Mapping[str, Any]) -> Sections:
    """Check the sections. Raises BadInput with the first mistake and where it is."""
    try:
        return Sections.model_validate({name: sections[name] for name in SECTIONS if name in sections})
    except ValidationError as error:
        first = problems_of(error)[0]
        raise BadInput(f"{'.'.join(map(str, first.path))}: {first.message}") from None


def problems(sections: Mapping[str, Any]) -> list[BadField]:
    """Every mistake in these sections; empty if there is none."""
    try:
        parse_quietly(sections)
    except ValidationError as error:
        return problems_of(error)
    return []


def parse_quietly(sections: Mapping[str, Any]) -> Sections:
    """As `parse`, with pydantic's own error."""
    return Sections.model_validate({name: sections[name] for name in SECTIONS if name in sections})


def problems_of(error: ValidationError) -> list[BadField]:
    """Where and what, without the values: one of them could be a secret in the wrong place."""
    return [
        BadField(tuple(one["loc"]), one["msg"].removeprefix("Value error, "))
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]


class Source(Protocol):
    """What the loader hands to a check: the values of a file, and an error that names the line of a path."""

    values: dict[str, Any]

    def error(self, path: tuple[str | int, ...], message: str) -> Exception: ...


def check(source: Source) -> None:
    """For `config.load(path, check=check)`: raises the loader's error for the first mistake in our sections."""
    for problem in problems(source.values):
        raise source.error(problem.path, problem.message)


def ledger_place(section: LedgerSection) -> tuple[str | None, Path | None]:
    """URL and slots folder as `Book.open` takes them."""
    return section.url or None, Path(section.slots).expanduser() if section.slots else None
