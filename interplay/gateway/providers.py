"""Providers by name: where each one is, which protocol it speaks, where its key is read from.

The table is `interplay/data/providers.toml`; a config file may add rows or change them. A key is read from the
environment at the moment of a call and is kept nowhere else.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from interplay.core.types import BadInput, Missing

Wire = Literal["chat", "responses", "messages", "embeddings"]
WIRES: tuple[Wire, ...] = ("chat", "responses", "messages", "embeddings")

TABLE = Path(__file__).parent.parent / "data" / "providers.toml"
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. wires: protocols spoken at `base_url`. library: pydantic-ai's name, where there is no base URL.

    supports: what at least one of its models does, as far as `source` says. prices: its id in genai-prices.
    """

    name: str
    title: str = ""
    base_url: str = ""
    keys: tuple[str, ...] = ()
    keyless: bool = False
    wires: tuple[Wire, ...] = ()
    library: str = ""
    supports: tuple[str, ...] = ()
    prices: str = ""
    source: str = ""
    regions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    data_policy: str = ""
    inline_images: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def url(self) -> str:
        """The base URL with environment variables filled in. Raises Missing if one is not set."""

        def fill(match: re.Match[str]) -> str:
            value = os.environ.get(match[1]) or match[2]
            if not value:
                raise Missing(f"{self.name} needs the environment variable {match[1]}: it is part of its address")
            return value.rstrip("/")

        return _VARIABLE.sub(fill, self.base_url).rstrip("/")

    def key(self) -> str:
        """The secret, or "" for a provider that works without. Raises Missing, which names the variable to set."""
        for name in self.keys:
            if value := os.environ.get(name, "").strip():
                return value
        if self.keyless or not self.keys:
            return ""
        raise Missing(f"{self.name} needs a key: set the environment variable {' or '.join(self.keys)}")

    def ready(self) -> bool:
        """Whether key and address are there; false where a cloud's own login decides, which cannot be seen here."""
        if not self.keys and not self.keyless:
            return False
        try:
            self.key()
            self.url()
        except Missing:
            return False
        return True


@cache
def shipped() -> Mapping[str, Provider]:
    """The table that comes with the package."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {name: _row(Provider(name), row) for name, row in rows.items()}


def _row(base: Provider, row: Mapping[str, Any]) -> Provider:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if isinstance(headers := values.get("headers"), Mapping):
        values["headers"] = tuple(headers.items())
    return replace(base, **values)


class Providers:
    """All providers that a gateway knows: the shipped table, changed by `[providers.NAME]` of a config file."""

    def __init__(self, own: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._rows = dict(shipped())
        for name, row in (own or {}).items():
            base = self._rows.get(name, Provider(name, wires=("chat",), keyless="keys" not in row, source="config"))
            self._rows[name] = _row(base, row)

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def get(self, name: str) -> Provider:
        """Raises BadInput, with the nearest names, for a provider that nobody has."""
        if (found := self._rows.get(name)) is None:
            raise BadInput(f"unknown provider {name!r}{did_you_mean(name, self._rows)}")
        return found


def did_you_mean(name: str, known: Iterable[str], n: int = 3) -> str:
    """The end of an error line: `; did you mean a, b?`, or "" if nothing is near."""
    near = nearest(name, known, n)
    return f"; did you mean {', '.join(near)}?" if near else ""


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The names that look most like `name`, best first. Names that contain it count as near."""
    lower = {entry.lower(): entry for entry in known}
    want = name.lower()
    close = difflib.get_close_matches(want, lower, n=n, cutoff=0.6)
    inside = [entry for entry in lower if want in entry and entry not in close] if len(want) > 2 else []
    inside.sort(key=len)
    return [lower[entry] for entry in [*close, *inside][:n]]


def price_id(name: str) -> str:
    """The id under which genai-prices knows a provider of the shipped table, or the name itself."""
    row = shipped().get(name)
    return (row.prices or name) if row else name
