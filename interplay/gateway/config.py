"""The gateway's one config file: providers, routes, limits and policy. `docs/gateway.md` shows it.

Everything is checked when the file is read, and an error names the line. A running gateway takes a changed file
over between two calls; a broken one is reported and the old settings stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from interplay.core.types import BadInput
from interplay.gateway.catalog import Catalog
from interplay.gateway.providers import WIRES, Provider, Providers, did_you_mean
from interplay.gateway.toml_lines import Located, Step, read

Strategy = Literal["order", "latency", "cost", "least-busy", "weighted", "sticky"]
STRATEGIES: tuple[Strategy, ...] = ("order", "latency", "cost", "least-busy", "weighted", "sticky")
MidStream = Literal["continue", "restart", "fail"]
MID_STREAM: tuple[MidStream, ...] = ("continue", "restart", "fail")
MODALITIES = ("text", "image", "audio", "video")

_SECRET = re.compile(r"key|token|secret|password|authorization", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one provider, to send calls to. inputs: modalities it takes. context: tokens, 0 = not known."""

    provider: str
    model: str
    weight: float = 1.0
    region: str = ""
    tags: tuple[str, ...] = ()
    data_policy: str = ""
    inputs: tuple[str, ...] = ("text", "image", "audio", "video")
    context: int = 0

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a target must be to be used. Empty fields ask for nothing. data_policy: any of these."""

    tags: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    data_policy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. deadline: whole call up to its first word, retries included. first: one attempt up to its first event.

    idle: between two events of a stream. whole: one attempt at an answer that is not streamed. total: all of a call.
    connect: TCP and TLS.
    """

    deadline: float = 60.0
    connect: float = 5.0
    first: float = 30.0
    idle: float = 30.0
    whole: float = 120.0
    total: float = 600.0


@dataclass(frozen=True, slots=True)
class Route:
    """A named slot. percentile: of the time to the first word, for "latency". retries: more rounds over the targets."""

    name: str
    targets: tuple[Target, ...]
    strategy: Strategy = "order"
    percentile: float = 0.5
    filter: Filter = field(default_factory=Filter)
    retries: int = 2
    mid_stream: MidStream = "continue"
    times: Times = field(default_factory=Times)
    fails: int = 3
    cool_down: float = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request from outside may take. Bytes and seconds."""

    body_bytes: int = 32 * 2**20
    body_s: float = 30.0
    image_bytes: int = 20 * 2**20
    event_bytes: int = 2**20
    answer_bytes: int = 64 * 2**20
    write_s: float = 60.0
    concurrency: int = 1024


@dataclass(frozen=True, slots=True)
class Config:
    """A checked config file. sections: whole tables that other parts of the gateway read (policy, ledger, prices)."""

    providers: Providers
    catalog: Catalog
    routes: Mapping[str, Route] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    times: Times = field(default_factory=Times)
    image_hosts: tuple[str, ...] = ()
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def default_config() -> Config:
    """No file: every provider of the table by `provider/model`, no routes."""
    providers = Providers()
    return Config(providers, Catalog(providers))


def load(path: str | Path, *, check: Callable[[Located], None] | None = None) -> Config:
    """Read and check a config file. check: further checks of sections that others own.

    Raises BadInput `FILE:LINE: what: why`.
    """
    source = read(Path(path))
    config = _Reader(source).config()
    if check is not None:
        check(source)
    return config


class _Reader:
    """One pass over a config file. Every complaint goes through `self.source.error`, which knows the lines."""

    def __init__(self, source: Located) -> None:
        self.source = source

    def config(self) -> Config:
        top = self.source.values
        known = ("providers", "routes", "limits", "times", "images", "policy", "ledger", "prices", "keys")
        self._known((), top, known)
        for name, section in top.items():
            if not isinstance(section, dict):
                raise self.source.error((name,), "must be a table")
        providers = self._providers(top.get("providers", {}))
        catalog = Catalog(providers)
        times = self._numbers(Times, ("times",), top.get("times", {}), Times())
        routes = {name: self._route(name, row, catalog, times) for name, row in top.get("routes", {}).items()}
        images = top.get("images", {})
        self._known(("images",), images, ("allow_hosts",))
        return Config(
            providers,
            catalog,
            routes,
            self._numbers(Limits, ("limits",), top.get("limits", {}), Limits()),
            times,
            self._words(("images", "allow_hosts"), images.get("allow_hosts", [])),
            {name: top[name] for name in ("policy", "ledger", "prices", "keys") if name in top},
        )

    def _providers(self, rows: Mapping[str, Any]) -> Providers:
        names = [f.name for f in fields(Provider) if f.name not in ("name", "source")]
        for name, row in rows.items():
            at: tuple[Step, ...] = ("providers", name)
            if not _NAME.match(name) or name in ("route",):
                raise self.source.error(at, "a provider's name has letters, digits, dots and dashes only")
            if not isinstance(row, dict):
                raise self.source.error(at, "must be a table")
            for key in row:
                if key not in names and _SECRET.search(key):
                    raise self.source.error(
                        (*at, key), 'secrets do not belong in this file; name a variable: keys = ["MY_PROVIDER_KEY"]'
                    )
            self._known(at, row, names)
            self._provider_row(at, row)
        return Providers(rows)

    def _provider_row(self, at: tuple[Step, ...], row: Mapping[str, Any]) -> None:
        for key, value in row.items():
            here = (*at, key)
            if key in ("keys", "wires", "supports", "regions", "tags"):
                words = self._words(here, value)
                if key == "wires" and (bad := [word for word in words if word not in WIRES]):
                    raise self.source.error(here, f"unknown protocol {bad[0]!r}; known: {', '.join(WIRES)}")
                if key == "keys" and (bad := [word for word in words if not re.fullmatch(r"[A-Z][A-Z0-9_]*", word)]):
                    raise self.source.error(here, "holds names of environment variables, not keys")
            elif key in ("keyless", "inline_images"):
                if not isinstance(value, bool):
                    raise self.source.error(here, "must be true or false")
            elif key == "headers":
                if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
                    raise self.source.error(here, "must be a table of strings")
                for name in value:
                    if _SECRET.search(name):
                        raise self.source.error((*here, name), "secrets do not belong in this file; use `keys`")
            elif not isinstance(value, str):
                raise self.source.error(here, "must be a string")
        url = row.get("base_url", "https://")
        if not re.match(r"^(https?://|\$\{)", url) or "@" in url:
            raise self.source.error((*at, "base_url"), "must be an http or https address without user and password")

    def _route(self, name: str, row: Any, catalog: Catalog, times: Times) -> Route:
        at: tuple[Step, ...] = ("routes", name)
        if not _NAME.match(name):
            raise self.source.error(at, "a route's name has letters, digits, dots and dashes only")
        if not isinstance(row, dict):
            raise self.source.error(at, "must be a table")
        spans = {f"{f.name}_s": f.name for f in fields(Times)}
        self._known(at, row, ("strategy", "percentile", "filter", "retries", "mid_stream", "fails", "cool_down_s",
                              "targets", *spans))  # fmt: skip
        rows = row.get("targets")
        if not isinstance(rows, list) or not rows:
            raise self.source.error((*at, "targets"), 'needs at least one target, such as "openai/gpt-4o-mini"')
        own = {spans[key]: row[key] for key in row if key in spans}
        for key, short in spans.items():
            if short in own:
                self._number((*at, key), own[short])
        return Route(
            name,
            tuple(self._target((*at, "targets", index), target, catalog) for index, target in enumerate(rows)),
            self._choice((*at, "strategy"), row.get("strategy", "order"), STRATEGIES),
            self._number((*at, "percentile"), row.get("percentile", 0.5), top=1),
            self._filter((*at, "filter"), row.get("filter", {})),
            int(self._number((*at, "retries"), row.get("retries", 2), top=20)),
            self._choice((*at, "mid_stream"), row.get("mid_stream", "continue"), MID_STREAM),
            Times(**{f.name: float(own.get(f.name, getattr(times, f.name))) for f in fields(Times)}),
            int(self._number((*at, "fails"), row.get("fails", 3), top=1000)) or 1,
            self._number((*at, "cool_down_s"), row.get("cool_down_s", 10.0)),
        )

    def _target(self, at: tuple[Step, ...], row: Any, catalog: Catalog) -> Target:
        if isinstance(row, str):
            row = {"model": row}
        if not isinstance(row, dict):
            raise self.source.error(at, 'a target is "provider/model" or a table')
        self._known(at, row, ("model", "weight", "region", "tags", "data_policy", "inputs", "context"))
        reference = row.get("model")
        if not isinstance(reference, str):
            raise self.source.error(at, 'needs model = "provider/model"')
        try:
            model = catalog.find(reference)
        except BadInput as error:
            raise self.source.error((*at, "model") if "model" in row else at, str(error)) from None
        provider = catalog.providers.get(model.provider)
        known = model.inputs if model.known_inputs else MODALITIES
        region = row.get("region", provider.regions[0] if len(provider.regions) == 1 else "")
        for key in ("region", "data_policy"):
            if not isinstance(row.get(key, ""), str):
                raise self.source.error((*at, key), "must be a string")
        return Target(
            model.provider,
            model.name,
            self._number((*at, "weight"), row.get("weight", 1.0)),
            region,
            (*provider.tags, *self._words((*at, "tags"), row.get("tags", []))),
            row.get("data_policy", provider.data_policy),
            self._words((*at, "inputs"), row["inputs"], MODALITIES) if "inputs" in row else known,
            int(self._number((*at, "context"), row.get("context", model.context))),
        )

    def _filter(self, at: tuple[Step, ...], row: Any) -> Filter:
        if not isinstance(row, dict):
            raise self.source.error(at, "must be a table")
        names = [f.name for f in fields(Filter)]
        self._known(at, row, names)
        return Filter(
            **{
                name: self._words((*at, name), row.get(name, []), MODALITIES if name == "inputs" else None)
                for name in names
            }
        )

    def _known(self, at: tuple[Step, ...], row: Mapping[str, Any], known: Any) -> None:
        for key in row:
            if key not in known:
                raise self.source.error((*at, key), f"unknown setting{did_you_mean(key, known) or _list(known)}")

    def _numbers(self, kind: Any, at: tuple[Step, ...], row: Mapping[str, Any], default: Any) -> Any:
        short = {(f"{f.name}_s" if kind is Times else f.name): f.name for f in fields(kind)}
        self._known(at, row, list(short))
        values = {short[key]: self._number((*at, key), value) for key, value in row.items()}
        whole = {f.name for f in fields(kind) if isinstance(getattr(default, f.name), int)}
        return kind(**{name: int(value) if name in whole else value for name, value in values.items()})

    def _number(self, at: tuple[Step, ...], value: Any, top: float = 1e12) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= top:
            raise self.source.error(at, f"must be a number from 0 to {top:g}")
        return float(value)

    def _words(self, at: tuple[Step, ...], value: Any, known: tuple[str, ...] | None = None) -> tuple[str, ...]:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
            raise self.source.error(at, "must be a list of strings")
        if known is not None and (bad := [word for word in words if word not in known]):
            raise self.source.error(at, f"unknown value {bad[0]!r}{did_you_mean(bad[0], known) or _list(known)}")
        return tuple(words)

    def _choice(self, at: tuple[Step, ...], value: Any, known: tuple[Any, ...]) -> Any:
        if value not in known:
            raise self.source.error(at, f"unknown value {value!r}{did_you_mean(str(value), known) or _list(known)}")
        return value


def _list(known: Any) -> str:
    return f"; known: {', '.join(known)}"
