"""`interplay gateway spend | keys | audit`: the ledger and the policy from the command line.

The commands open the same database that a running gateway uses; both may run at the same time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from interplay.core.types import BadInput, Missing

T = TypeVar("T")

LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger", help="The database: a file or postgresql://...; default: INTERPLAY_LEDGER, or our own file."
    ),
]

keys_app = typer.Typer(help="Virtual keys: what clients carry instead of a provider's key.", no_args_is_help=True)
audit_app = typer.Typer(help="The log of every decision, chained so that it cannot be rewritten.", no_args_is_help=True)


def mount(app: typer.Typer) -> None:
    """Add our commands to `interplay gateway`."""
    app.command("spend")(spend_command)
    app.command("reconcile")(reconcile_command)
    app.command("calls")(calls_command)
    app.add_typer(keys_app, name="keys")
    app.add_typer(audit_app, name="audit")


def spend_command(
    by: Annotated[
        str, typer.Option("--by", help="agent, user, session, key, route, provider, model, kind, status, day")
    ] = "agent",
    since: Annotated[str, typer.Option("--since", help="7d, 24h, 2w, all, or a date.")] = "7d",
    csv_path: Annotated[Path | None, typer.Option("--csv", metavar="OUT.csv", help='"-" writes to stdout.')] = None,
    plot_path: Annotated[Path | None, typer.Option("--plot", metavar="OUT.png")] = None,
    ledger: LedgerUrl = None,
) -> None:
    """What was spent."""
    from interplay.gateway.ledger.spend import plot, since_time, spend, write_csv
    from interplay.gateway.prices import table_name, usd

    start = since_time(since)
    lines = _read(ledger, lambda database: spend(database, by, start))
    if csv_path is not None and str(csv_path) == "-":
        write_csv(lines, by, sys.stdout)
        return
    _table(lines, by, since)
    typer.echo(f"total ${usd(sum(line.cost_pico for line in lines)):.6f} since {since}; prices: {table_name()}")
    if unpriced := sum(line.unpriced for line in lines):
        typer.echo(f"{unpriced} attempts at models of unknown price are counted as $0; name their prices in [prices]")
    if csv_path is not None:
        try:
            with csv_path.open("w", newline="", encoding="utf-8") as file:
                write_csv(lines, by, file)
        except OSError as error:
            raise BadInput(f"cannot write {csv_path}: {error.strerror or error}") from error
        typer.echo(f"wrote {csv_path}")
    if plot_path is not None:
        plot(lines, by, f"spend by {by} since {since}", plot_path)
        typer.echo(f"wrote {plot_path}")


def calls_command(
    since: Annotated[str, typer.Option("--since", help="7d, 24h, 2w, all, or a date.")] = "24h",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")] = 20,
    ledger: LedgerUrl = None,
) -> None:
    """The last attempts at providers, one JSON object per line; with what was said, where `log = "full"` kept it."""
    from interplay.gateway.ledger.spend import since_time
    from interplay.gateway.ledger.store import COLUMNS

    names = [*COLUMNS, "request", "response"]
    sql = (
        f"SELECT {', '.join(f'entries.{name}' for name in COLUMNS)}, content.request, content.response FROM entries "
        "LEFT JOIN content ON content.id = entries.id WHERE started >= ? ORDER BY started DESC LIMIT ?"
    )
    start = since_time(since)
    rows = _read(ledger, lambda database: database.query(sql, (start, limit)))
    for row in reversed(rows):
        told = {name: value for name, value in zip(names, row, strict=True) if value not in (None, "", 0)}
        typer.echo(json.dumps(told, ensure_ascii=False))


def reconcile_command(
    provider: Annotated[str, typer.Argument(help="As the ledger names it, for example openai.")],
    bill: Annotated[Path, typer.Argument(metavar="BILL.csv", help="Columns id and usd: one line per request.")],
    since: Annotated[str, typer.Option("--since", help="The period of the bill: 30d, or a date.")] = "31d",
    ledger: LedgerUrl = None,
) -> None:
    """Take a provider's bill as what its calls cost, and show where it differs from our count."""
    from interplay.gateway.ledger.reconcile import read_bill, reconcile
    from interplay.gateway.ledger.spend import since_time
    from interplay.gateway.prices import usd

    lines, start = read_bill(bill), since_time(since)
    until = datetime.now(UTC).timestamp()
    done = _write(
        ledger, "reconciled", lambda database: reconcile(database, provider, start, until, lines),
        provider=provider, lines=len(lines),
    )  # fmt: skip
    typer.echo(f"{done.matched} calls matched, {done.differing} at another cost; {done.unbilled} are not on the bill")
    if done.unknown:
        typer.echo(f"{done.unknown} lines of the bill (${usd(done.unknown_pico):.6f}) match no call of this ledger")
    typer.echo(f"recorded ${usd(done.recorded_pico):.6f}, after the bill ${usd(done.billed_pico):.6f}")


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    agent: Annotated[str, typer.Option(help="The agent that it stands for.")] = "",
    user: Annotated[str, typer.Option(help="The user that it stands for.")] = "",
    budget: Annotated[
        list[str] | None, typer.Option("--budget", metavar="USD/PERIOD", help="For example 5/day, 100/month, 20/total.")
    ] = None,
    models: Annotated[list[str] | None, typer.Option("--model", help='Allowed models: "openai/*".')] = None,
    routes: Annotated[list[str] | None, typer.Option("--route", help="Allowed routes.")] = None,
    regions: Annotated[list[str] | None, typer.Option("--region", help="Allowed regions.")] = None,
    rpm: Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option("--tpm", min=1, help="Tokens a minute.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls at the same time.")] = None,
    days: Annotated[float | None, typer.Option("--days", min=0, help="Valid for so many days.")] = None,
    ledger: LedgerUrl = None,
) -> None:
    """Make a key. Its secret is shown once, on stdout."""
    from interplay.gateway.policy.config import KeySection, Limits

    limits = Limits(
        budgets=tuple(_budget(one) for one in budget or ()), models=tuple(models or ()), routes=tuple(routes or ()),
        regions=tuple(regions or ()), requests_per_minute=rpm, tokens_per_minute=tpm, concurrency=concurrency,
    )  # fmt: skip
    expires = None if days is None else datetime.now(UTC).timestamp() + days * 86400
    section = KeySection(agent=agent, user=user, expires=expires, limits=limits)

    async def create(keys: Any) -> tuple[Any, str]:
        return await keys.create(name, section)

    key, secret = _with_keys(ledger, "key_created", create, name=name, agent=agent, user=user)
    typer.echo(f"key {key.id} ({key.name}); its secret is shown only now:", err=True)
    typer.echo(secret)


@keys_app.command("list")
def keys_list(ledger: LedgerUrl = None) -> None:
    """Every key, without its secret."""
    from rich.console import Console
    from rich.table import Table

    async def every(keys: Any) -> list[Any]:
        return await keys.all()

    table = Table("id", "name", "agent", "user", "limits", "state")
    now = datetime.now(UTC).timestamp()
    for key in _with_keys(ledger, None, every):
        limits = json.dumps(key.section.limits.model_dump(exclude_defaults=True, mode="json"))
        table.add_row(
            key.id, key.name, key.section.agent or "-", key.section.user or "-",
            "-" if limits == "{}" else limits, key.dead(now) or "in use",
        )  # fmt: skip
    Console().print(table)


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="Name or id.")],
    ledger: LedgerUrl = None,
) -> None:
    """End a key: calls under way end within seconds, new ones are refused."""

    async def revoke(keys: Any) -> Any:
        return await keys.revoke(key)

    done = _with_keys(ledger, "key_revoked", revoke, key=key)
    typer.echo(f"revoked {done.id} ({done.name})")


@audit_app.command("verify")
def audit_verify(
    expect: Annotated[str, typer.Option("--expect", metavar="SEQ:MAC", help="A head noted earlier.")] = "",
    ledger: LedgerUrl = None,
) -> None:
    """Check every record of the audit log. Exit code 1 if one was changed, removed or put in."""
    from interplay.gateway.policy.audit import audit_anchor, verify

    key, anchor = _audit_key(ledger), audit_anchor(_url(ledger))
    verdict = _read(ledger, lambda database: verify(database, key, expect, anchor.head))
    if not verdict.ok:
        typer.echo(f"NOT INTACT: {verdict.why}; {verdict.records} records before it are intact")
        raise typer.Exit(1)
    typer.echo(f"intact: {verdict.records} records; head {verdict.head}")


@audit_app.command("head")
def audit_head(ledger: LedgerUrl = None) -> None:
    """The newest record's number and seal: keep it elsewhere, and later give it to `verify --expect`."""
    rows = _read(
        ledger, lambda database: database.query("SELECT seq, mac FROM audit WHERE seq > 0 ORDER BY seq DESC LIMIT 1")
    )
    if not rows:
        raise BadInput("the audit log is empty")
    typer.echo(f"{rows[0][0]}:{rows[0][1]}")


@audit_app.command("show")
def audit_show(
    last: Annotated[int, typer.Option("--last", min=1, help="How many.")] = 20,
    ledger: LedgerUrl = None,
) -> None:
    """The newest decisions."""
    rows = _read(
        ledger,
        lambda database: database.query(
            "SELECT seq, at, kind, data FROM audit WHERE seq > 0 ORDER BY seq DESC LIMIT ?", (last,)
        ),
    )
    for seq, at, kind, data in reversed(rows):
        typer.echo(f"{seq:>6}  {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}  {kind:<14} {data}")


def _table(lines: list[Any], by: str, since: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from interplay.gateway.prices import usd

    table = Table(by, *("USD", "attempts", "in", "cached", "out", "audio s", "tools"), title=f"spend since {since}")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        numbers = (line.attempts, line.input_tokens, line.cached_tokens, line.output_tokens, round(line.audio_s))
        table.add_row(line.name, f"{usd(line.cost_pico):.6f}", *(f"{n:,}" for n in (*numbers, line.tool_calls)))
    Console().print(table)


def _budget(text: str) -> Any:
    from pydantic import ValidationError

    from interplay.gateway.policy.config import Budget

    amount, _, per = text.partition("/")
    try:
        return Budget.model_validate({"usd": float(amount), "per": per or "month"})
    except (ValueError, ValidationError):
        raise BadInput(f"--budget {text!r}: use dollars and day, month or total, for example 5/day") from None


def _url(ledger: str | None) -> str:
    from interplay.gateway.ledger.book import default_url

    return ledger or default_url()


def _audit_key(ledger: str | None) -> bytes:
    from interplay.gateway.policy.audit import audit_folder, audit_key

    return audit_key(audit_folder(_url(ledger)))


def _read(ledger: str | None, ask: Callable[[Any], T]) -> T:
    """Ask a database that exists already."""
    from interplay.gateway.ledger.store import Database, is_postgres, sqlite_path

    url = _url(ledger)
    if not is_postgres(url) and not sqlite_path(url).exists():
        raise BadInput(
            f"there is no ledger at {sqlite_path(url)} yet; a running gateway makes one, or name it: --ledger"
        )
    database = Database(url)
    try:
        database.create()
        return ask(database)
    finally:
        database.close()


def _write(ledger: str | None, audit: str, run: Callable[[Any], T], **data: Any) -> T:
    async def work(writer: Any) -> T:
        return await writer.ask(run)

    return _with_writer(ledger, audit, work, **data)


def _with_keys(ledger: str | None, audit: str | None, run: Callable[[Any], Any], **data: Any) -> Any:
    try:
        from interplay.gateway.policy.keys import Keys
    except ImportError as error:
        raise Missing(f'keys need {error.name}; get it with: pip install "interplay[gateway]"') from error

    async def work(writer: Any) -> Any:
        return await run(Keys(writer))

    return _with_writer(ledger, audit, work, **data)


def _with_writer(ledger: str | None, audit: str | None, work: Callable[[Any], Any], **data: Any) -> Any:
    from interplay.gateway.ledger.writer import Writer
    from interplay.gateway.policy.audit import audit_of

    async def run() -> Any:
        writer = Writer(_url(ledger))
        await writer.open()
        try:
            log = audit_of(writer) if audit else None
            answer = await work(writer)
            if log is not None and audit is not None:
                log.record(audit, by="command line", **data)
                await writer.ask(lambda database: None)
                log.seal()
            return answer
        finally:
            await writer.close()

    return asyncio.run(run())
