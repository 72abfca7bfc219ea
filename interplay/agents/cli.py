"""`interplay agents ...`: who there is, what they are, and what they remember of you."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from interplay.core.types import BadInput

app = typer.Typer(no_args_is_help=True, help="Agents with identity and memory.")
memory_app = typer.Typer(no_args_is_help=True, help="What an agent remembers of you: look, search, correct, add.")
app.add_typer(memory_app, name="memory")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent.")]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="A file, or postgresql://...; default: INTERPLAY_STORE, or your own."),
]
User = Annotated[
    str | None, typer.Option("--user", help="Whose memory; default: INTERPLAY_USER, or the one of this machine.")
]
Due = Annotated[str | None, typer.Option("--due", metavar="TIME", help='Like 2030-01-31T09:00, or "tomorrow at nine".')]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_agents(store: Store = None) -> None:
    """Who there is."""

    async def work(desk: Any) -> None:
        agents = await (await desk.store()).list()
        for agent in agents:
            typer.echo(f"{agent.name:<20} version {agent.version:<4} {agent.spec.description}".rstrip())
        if not agents:
            typer.echo("no agents yet; make one: interplay agents create ada.yaml")

    _with_desk(work, store)


@app.command()
def show(
    name: Name,
    version: Annotated[int | None, typer.Option("--version", help="An older version.")] = None,
    store: Store = None,
) -> None:
    """The spec of an agent, as YAML."""

    async def work(desk: Any) -> None:
        from interplay.agents.files import dump_spec

        held = await desk.store()
        agent = await held.get(name, version)
        versions = len(await held.versions(name))
        typer.echo(f"# {agent.id}, version {agent.version} of {versions}, {agent.created:%Y-%m-%d %H:%M} UTC")
        typer.echo(dump_spec(agent.spec), nl=False)

    _with_desk(work, store)


@app.command()
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ada.yaml, or ada.py with `agent = AgentSpec(...)`.")],
    store: Store = None,
) -> None:
    """A new agent from a spec."""
    spec = _load(file)

    async def work(desk: Any) -> None:
        agent = await (await desk.store()).create(spec)
        typer.echo(f"created {agent.name} ({agent.id}); talk to it: interplay live --agent {agent.name}")

    _with_desk(work, store)


@app.command()
def edit(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The changed spec; `show` prints the present one.")],
    expect: Annotated[
        int | None, typer.Option("--expect", metavar="VERSION", help="Refuse if somebody else changed it meanwhile.")
    ] = None,
    store: Store = None,
) -> None:
    """A new version of an agent. Its identity and its memories stay."""
    spec = _load(file)

    async def work(desk: Any) -> None:
        agent = await (await desk.store()).update(name, spec, expect=expect)
        typer.echo(f"{agent.name} is at version {agent.version}")

    _with_desk(work, store)


@app.command()
def export(
    name: Name,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: to the terminal.")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="With everything it remembers of you.")] = False,
    user: User = None,
    store: Store = None,
) -> None:
    """An agent as one file."""

    async def work(desk: Any) -> None:
        from interplay.agents.transfer import export_agent

        text = await export_agent(await desk.store(), name, user=desk.user if memory else None)
        if out is None:
            typer.echo(text, nl=False)
            return
        try:
            out.touch(mode=0o600)
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadInput(f"cannot write {out}: {error.strerror or error}") from error
        typer.echo(f"wrote {out}")

    _with_desk(work, store, user)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote, or a spec.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make it a new version of the one that is there.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Take over the memory in the file, as yours.")] = False,
    user: User = None,
    store: Store = None,
) -> None:
    """Take in an agent with its identity."""

    async def work(desk: Any) -> None:
        from interplay.agents.transfer import import_agent, read_file

        text, whose = read_file(file), desk.user if memory else None
        agent = await import_agent(
            await desk.store(),
            text,
            source=str(file),
            replace=replace,
            user=whose,
            allow=lambda spec, _: _check(spec),
        )
        typer.echo(f"imported {agent.name} ({agent.id}), version {agent.version}")
        for tool in agent.spec.tools:
            if tool.runs_code:
                typer.echo(f"note: its tool {tool.name!r} runs {tool.python or ' '.join(tool.command)} on this machine")

    _with_desk(work, store, user)


@app.command()
def delete(name: Name, yes: Yes = False, store: Store = None) -> None:
    """Delete an agent, and everything it remembers of anybody."""
    if not yes:
        typer.confirm(f"Delete {name} and all its memories for good?", abort=True)

    async def work(desk: Any) -> None:
        ended = await (await desk.store()).delete(name)
        typer.echo(f"deleted {name}, and its memories of {ended} {'user' if ended == 1 else 'users'}")

    _with_desk(work, store)


@app.command()
def forget(
    name: Name,
    item: Annotated[str | None, typer.Argument(metavar="[ITEM]", help="The id that `memory list` shows.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Everything that holds all of these words.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="All of one session.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All that it remembers of you.")] = False,
    yes: Yes = False,
    user: User = None,
    store: Store = None,
) -> None:
    """Make an agent forget, for good: from its memory, the index, and the files of the database."""
    if everything and not yes:
        typer.confirm(f"Make {name} forget everything about you for good?", abort=True)

    async def work(desk: Any) -> None:
        memory = await desk.memory(name)
        gone = await memory.forget(item, text=text, session=session, everything=everything)
        parts = ((gone.items, "item"), (gone.lines, "line"), (gone.sessions, "session"))
        counted = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in parts if count]
        typer.echo(f"forgot {' and '.join(counted)}")
        if not gone.purged:
            typer.echo("note: the store is in use; its files are cleaned with the next forgetting", err=True)

    _with_desk(work, store, user)


@memory_app.command("list")
def list_memory(
    name: Name,
    done: Annotated[bool, typer.Option("--all", help="Settled reminders and promises too.")] = False,
    user: User = None,
    store: Store = None,
) -> None:
    """What it knows of you, what it owes you, what it will remind you of."""

    async def work(desk: Any) -> None:
        items = await (await desk.memory(name)).list(done=done)
        for item in items:
            typer.echo(_line(item))
        if not items:
            typer.echo(f"{name} remembers nothing about {desk.user} yet")

    _with_desk(work, store, user)


@memory_app.command("search")
def search_memory(
    name: Name,
    words: Annotated[list[str], typer.Argument(metavar="WORDS...")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 8,
    user: User = None,
    store: Store = None,
) -> None:
    """Search what was said in earlier sessions."""

    async def work(desk: Any) -> None:
        hits = await (await desk.memory(name)).search(" ".join(words), limit=limit)
        for hit in hits:
            typer.echo(f"{hit.at.astimezone():%Y-%m-%d %H:%M}  {hit.session}  {hit.who + ':':<6} {hit.text}")
        if not hits:
            typer.echo("nothing found")

    _with_desk(work, store, user)


@memory_app.command()
def correct(
    name: Name,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The id that `memory list` shows.")],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What is right.")] = None,
    due: Due = None,
    user: User = None,
    store: Store = None,
) -> None:
    """Put an item right. The old words are gone for good."""
    if text is None and due is None:
        raise BadInput("say what is right: a TEXT, or --due")

    async def work(desk: Any) -> None:
        at = _due(due) if due is not None else None
        typer.echo(_line(await (await desk.memory(name)).correct(item, text, due=at)))

    _with_desk(work, store, user)


@memory_app.command()
def add(
    name: Name,
    text: Annotated[str, typer.Argument(metavar="TEXT")],
    block: Annotated[str, typer.Option("--block", help="user (a fact), promise or reminder.")] = "user",
    key: Annotated[str | None, typer.Option("--key", help="What it replaces, such as name or home.")] = None,
    due: Due = None,
    user: User = None,
    store: Store = None,
) -> None:
    """Tell it something without talking."""

    async def work(desk: Any) -> None:
        at = _due(due) if due is not None else None
        typer.echo(_line(await (await desk.memory(name)).remember(block, text, key=key, due=at)))

    _with_desk(work, store, user)


def _with_desk(work: Callable[[Any], Awaitable[None]], url: str | None, user: str | None = None) -> None:
    """Run one command on an open store, and close it whatever happens."""
    from interplay.agents.desk import AgentDesk

    async def run() -> None:
        desk = AgentDesk(user=user, url=url)
        try:
            await work(desk)
        finally:
            await desk.close()

    asyncio.run(run())


def _load(file: Path) -> Any:
    from interplay.agents.database import Database  # noqa: F401  # says what to install, before yaml is missed
    from interplay.agents.files import load_spec

    spec = load_spec(file)
    _check(spec)
    return spec


def _check(spec: Any) -> None:
    """What can be told of its tools and of what it may spend, before it is taken in. Raises BadInput."""
    from interplay.agents import allowance
    from interplay.agents.tools.load import check

    check(spec.tools)
    allowance.check(spec)


def _due(text: str) -> datetime:
    """An ISO time (without offset: of this machine) or a phrase. Raises BadInput."""
    from interplay.agents.when import LocalZone, find

    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is not None else at.replace(tzinfo=LocalZone())
    except ValueError:
        at = find(text, datetime.now(LocalZone())).due
    if at is None:
        raise BadInput(f"{text[:60]!r} is no time I understand; write it like 2030-01-31T09:00")
    return at


def _line(item: Any) -> str:
    due = f"  due {item.due.astimezone():%Y-%m-%d %H:%M}" if item.due is not None else ""
    every = f"  every {item.every_s:g} s" if item.every_s is not None else ""
    status = "" if item.status == "open" else f"  ({item.status})"
    return f"{item.id}  {item.block:<9} {item.text}{due}{every}{status}"
