"""`interplay gateway`: what there is (models), who would be asked (route), and the server (serve).

The ledger's commands (spend, keys, audit) are in `ledger_cli`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interplay.core.types import BadInput, Missing
from interplay.gateway.ledger_cli import mount

if TYPE_CHECKING:
    from interplay.gateway.catalog import Model
    from interplay.gateway.config import Config, Route

app = typer.Typer(help="One seam to every provider: models, routes, spend, keys.", no_args_is_help=True)
mount(app)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Routes, providers and policy; see docs/gateway.md.")
]


@app.command()
def models(
    search: Annotated[str, typer.Argument(help="Part of a name, for example: gpt-4o")] = "",
    realtime: Annotated[bool, typer.Option("--realtime", help="Only models that hear and speak live.")] = False,
    max_price: Annotated[
        float | None, typer.Option("--max-price", help="US dollars per million output tokens; per hour for live ones.")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="Only this provider.")] = "",
    takes: Annotated[list[str] | None, typer.Option("--takes", help="image, audio or video; may be repeated.")] = None,
    context: Annotated[int, typer.Option("--context", help="Only models with at least so many tokens.")] = 0,
    ready: Annotated[bool, typer.Option("--ready", help="Only providers whose key is set.")] = False,
    providers: Annotated[bool, typer.Option("--providers", help="List the providers instead.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="At most so many lines; 0 shows all.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    config: ConfigFile = None,
) -> None:
    """Every model that is known, offline, with what it takes and what it costs."""
    from interplay.gateway.prices import table_name

    book = _config(config)
    if providers:
        _show_providers(book, ready, as_json)
        return
    for kind in takes or ():
        if kind not in ("image", "audio", "video"):
            raise BadInput(f"--takes {kind}: known are image, audio, video")
    if provider:
        book.providers.get(provider)
    rows = [
        model
        for model in book.catalog.models.values()
        if search.lower() in model.id.lower()
        and (not realtime or model.realtime)
        and (not provider or model.provider == provider)
        and all(kind in model.inputs for kind in takes or ())
        and model.context >= context
        and (max_price is None or ((price := _price(model)) is not None and price <= max_price))
        and (not ready or book.providers.get(model.provider).ready())
    ]
    if not rows and search:
        raise BadInput(book.catalog.unknown(search))
    if max_price is not None:
        rows.sort(key=lambda model: _price(model) or 0.0)
    shown = rows[:limit] if limit else rows
    if as_json:
        for model in shown:
            typer.echo(json.dumps({name: getattr(model, name) for name in model.__slots__} | {"id": model.id}))
        return
    _show_models(shown)
    more = f" ({len(rows) - len(shown)} more: --limit 0)" if len(shown) < len(rows) else ""
    typer.echo(f"{len(rows)} models{more}; prices: {table_name()}")


def _price(model: Model) -> float | None:
    return model.hour_usd if model.hour_usd is not None else model.output_usd or model.input_usd


def _show_models(rows: list[Model]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "kind", "takes", "gives", box=None, pad_edge=False)
    for name in ("context", "$/M in", "$/M out", "$/hour"):
        table.add_column(name, justify="right")
    for model in rows:
        prices = [f"{price:g}" if price is not None else "" for price in
                  (model.input_usd, model.output_usd, model.hour_usd)]  # fmt: skip
        table.add_row(model.id, model.kind, ",".join(model.inputs), ",".join(model.outputs),
                      f"{model.context:,}" if model.context else "", *prices)  # fmt: skip
    console = Console()
    Console(width=None if console.is_terminal else 160).print(table)


def _show_providers(book: Config, ready: bool, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = [provider for provider in book.providers if not ready or provider.ready()]
    if as_json:
        for one in rows:
            typer.echo(json.dumps({name: getattr(one, name) for name in one.__slots__} | {"ready": one.ready()}))
        return
    table = Table("provider", "name", "protocols", "supports", "key", "ready", box=None, pad_edge=False)
    for one in rows:
        how = ",".join(one.wires) or (f"pydantic-ai {one.library}" if one.library else "real-time only")
        keys = " or ".join(one.keys) or ("none" if one.keyless else "the cloud's own login")
        table.add_row(one.name, one.title, how, ",".join(one.supports), keys, "yes" if one.ready() else "")
    console = Console()
    Console(width=None if console.is_terminal else 180).print(table)
    typer.echo(f"{len(rows)} providers")


@app.command()
def route(
    name: Annotated[str, typer.Argument(help="A route of the config file, or a model.")] = "",
    takes: Annotated[list[str] | None, typer.Option("--takes", help="image, audio or video; may be repeated.")] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="Size of the prompt.")] = 1000,
    output: Annotated[int, typer.Option("--output", help="Tokens of the answer, for its price.")] = 500,
    session: Annotated[str, typer.Option("--session", help="For sticky routes.")] = "",
    config: ConfigFile = None,
) -> None:
    """Who would be asked, in which order, at which price, and who not and why. Asks nobody."""
    from interplay.gateway.contract import Usage
    from interplay.gateway.prices import PriceBook, table_name
    from interplay.gateway.routes import Board, fits

    book = _config(config)
    prices = PriceBook(book.sections.get("prices"))
    if not name:
        for one in book.routes.values():
            typer.echo(f"{one.name}: {one.strategy}: {', '.join(target.id for target in one.targets)}")
        if not book.routes:
            typer.echo("no routes: give --config FILE; any provider/model works without")
        return
    found: Route = book.routes.get(name) or _direct(book, name)
    usage = Usage(input_tokens=tokens, output_tokens=output, requests=1)
    board = Board(prices)
    use = [t for t in found.targets if not fits(t, found.filter, tuple(takes or ()), tokens)]
    typer.echo(f"{found.name or name}: {found.strategy}, mid-stream {found.mid_stream}, {found.retries} retries")
    for place, target in enumerate(board.order(found, use, session=session, usage=usage), 1):
        price = prices.price(target.provider, target.model)
        cost = f"${board.cost(target, usage) / 1e12:.6f}" if price.known else "price unknown"
        row = book.providers.get(target.provider)
        key = "" if row.ready() else f"  needs {' or '.join(row.keys) or 'its address'}"
        hint = f"  ({unlisted})" if (unlisted := book.catalog.unlisted(target.id)) else ""
        typer.echo(f"{place}. {target.id}  {cost}{key}{hint}")
    for target in found.targets:
        if why := fits(target, found.filter, tuple(takes or ()), tokens):
            typer.echo(f"-  {target.id}  {why}")
    typer.echo(f"prices for {tokens} tokens in, {output} out: {table_name()}")


def _direct(book: Config, name: str) -> Route:
    from interplay.gateway.config import Route, Target

    try:
        model = book.catalog.find(name)
    except BadInput:
        raise BadInput(book.catalog.unknown(name, tuple(book.routes))) from None
    return Route("", (Target(model.provider, model.name, context=model.context, inputs=model.inputs),))


@app.command()
def serve(
    config: ConfigFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8780,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name for callers without a key, beside localhost.")
    ] = None,
) -> None:
    """The gateway as a server: OpenAI's and Anthropic's protocols on one address."""
    try:
        from interplay.gateway.serve import run
    except ImportError as error:
        raise Missing(f'the gateway needs {error.name}; get it with: pip install "interplay[gateway]"') from error

    def ready(url: str) -> None:
        typer.echo(f"gateway: {url}/v1  (OpenAI)   {url}  (Anthropic)")

    run(config, host, port, tuple(allow_host or ()), ready)


def _config(path: Path | None) -> Config:
    from interplay.gateway.config import default_config, load

    if path is None:
        return default_config()
    from interplay.gateway.policy.config import check

    return load(path, check=check)
