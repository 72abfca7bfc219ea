"""The `interplay` command. Every command imports what it needs when it runs, so that help is instant everywhere.

An error that a person can act on is one line on stderr and exit code 2; a traceback is for INTERPLAY_DEBUG=1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interplay import __version__
from interplay.agents.cli import app as agents_app
from interplay.core.types import BadInput, InterplayError, Missing
from interplay.gateway.cli import app as gateway_app

if TYPE_CHECKING:
    from interplay.agents.desk import AgentDesk
    from interplay.session import SessionReport
    from interplay.surfaces.file import FileSurface

BUG = "(a bug of ours; INTERPLAY_DEBUG=1 shows where)"

app = typer.Typer(
    name="interplay",
    help="AI that is with you instead of after you: it hears and speaks at the same time, on a 200 ms clock.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(agents_app, name="agents")
app.add_typer(gateway_app, name="gateway")

Agent = Annotated[
    str, typer.Option("--agent", help='Who answers: one of `interplay agents list`, or "default", who has no memory.')
]
User = Annotated[
    str | None, typer.Option("--user", help="Whose memory; default: INTERPLAY_USER, or the one of this machine.")
]
SomeMind = Annotated[
    str | None, typer.Option("--foreground", help='The mind: "native", "silent"; default: the agent\'s own.')
]
Mind = Annotated[
    str, typer.Option("--foreground", help='The mind: "native" (the model of this repository) or "silent".')
]
Checkpoint = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="Weights for the native model; default: the ones that ship."),
]
Traced = Annotated[
    Path | None, typer.Option("--trace", metavar="OUT.jsonl", help="Where the 200 ms of every micro-turn went.")
]
Seed = Annotated[int, typer.Option("--seed", help="Makes everything random in a run repeatable.")]


@app.command()
def live(
    agent: Agent = "default",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 8765,
    foreground: SomeMind = None,
    checkpoint: Checkpoint = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
    timelines: Annotated[
        Path | None,
        typer.Option("--timelines", help="Folder that keeps the timeline of every session."),
    ] = None,
    sessions: Annotated[int, typer.Option("--sessions", help="How many people at a time.")] = 4,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name under which the page may be reached, beside localhost."),
    ] = None,
    user: User = None,
    engine: Annotated[
        str | None, typer.Option(help='Compute on a "thread" or in a "process"; default: that, for more than 4 people.')
    ] = None,
    trace: Traced = None,
    seed: Seed = 0,
) -> None:
    """Talk to it now: serves the page, needs no keys."""
    try:
        from interplay.server.live import serve
    except ImportError as error:
        raise _missing(error, "the page", "live") from error
    serve(
        host,
        port,
        checkpoint,
        agent,
        foreground,
        open_browser,
        timeline_dir=timelines,
        max_sessions=sessions,
        allow_hosts=allow_host or (),
        seed=seed,
        user=user,
        engine=engine,
        trace=trace,
    )


@app.command()
def run(
    source: Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording: any rate and channel count.")],
    video: Annotated[Path | None, typer.Option(help="A video beside the sound, on the same clock.")] = None,
    agent: Agent = "default",
    foreground: SomeMind = None,
    checkpoint: Checkpoint = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="OUT.wav", help="The agent's voice alone, time-synchronous with IN.wav."),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option("--timeline", metavar="OUT.jsonl", help="The record of the session."),
    ] = None,
    user: User = None,
    trace: Traced = None,
    seed: Seed = 0,
) -> None:
    """Play a recording to the agent, as fast as the machine can, and write what it says and when."""
    from interplay.surfaces.file import FileSurface

    if timeline is not None:
        _check_timeline(timeline, source, out)
    if video is None:
        surface = FileSurface(source, out)
    else:
        from interplay.surfaces.video import FilmedSurface

        surface = FilmedSurface(source, video, out)
    report = asyncio.run(_run(surface, agent, user, foreground, checkpoint, timeline, seed, trace))
    if report.error is not None:
        raise report.error


async def _run(
    surface: FileSurface,
    agent: str,
    user: str | None,
    foreground: str | None,
    checkpoint: Path | None,
    timeline: Path | None,
    seed: int,
    trace: Path | None,
) -> SessionReport:
    """One session on a simulated clock, with a progress bar, and its summary on stdout."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from interplay.core.clock import SimulatedClock
    from interplay.core.timeline import Timeline
    from interplay.gateway.foreground import load_mind
    from interplay.session import Session, SessionOptions, TurnView
    from interplay.session.agent import room_of
    from interplay.session.trace import Trace
    from interplay.voice.engine import HibariEngine
    from interplay.voice.hibari import HibariVoice

    desk = _desk(agent, user)
    chosen = (await desk.agent("file")).spec if desk is not None else None
    name = foreground or (chosen.models.foreground if chosen else "native")
    mind = load_mind(name, checkpoint=checkpoint, agent=agent, user=user or "")
    if hasattr(surface, "video") and not mind.capabilities.sees:
        raise BadInput(f"--video: {mind.name} has no eyes; run without it, or choose another --checkpoint")
    speaker = {"voice": chosen.voice.name, "speed": chosen.voice.speed} if chosen else {}
    voice = None if mind.capabilities.speaks else HibariVoice(HibariEngine(**speaker, seed=seed), sync=True)
    heard: list[str] = []
    said: list[tuple[float, str]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    console = Console(stderr=True)
    async with contextlib.AsyncExitStack() as stack:
        record = stack.enter_context(Timeline(timeline))
        progress = stack.enter_context(
            Progress(
                *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
            )
        )
        tracing = stack.enter_context(contextlib.closing(Trace(trace))) if trace is not None else None
        if tracing is not None:
            await tracing.watch(mind)
        options, visit = SessionOptions(seed=seed, trace=tracing), None
        if desk is not None:
            stack.push_async_callback(desk.close)
            visit = await stack.enter_async_context(desk.attend(record, "file"))
            options = SessionOptions(seed, visit.options if visit else {}, tracing)
        room = await room_of(visit, mind.capabilities)
        task = progress.add_task(surface.info.path.name, total=surface.turns_estimate)

        def on_turn(view: TurnView) -> None:
            if view.heard:
                heard.append(view.heard)
            said.extend((view.elapsed_s + offset, word) for word, offset in view.said)
            progress.update(task, completed=view.turn + 1)

        surface.on_turn = on_turn
        report = await Session(
            mind, voice, surface, SimulatedClock(), record, options=options, background=room
        ).run()
    if record.error is not None:
        typer.echo(f"interplay: {record.error}", err=True)
    if report.error is None:
        _print_summary(surface, report, heard, said, timeline)
        if tracing is not None:
            typer.echo(tracing.table())
            if tracing.error is not None:
                typer.echo(f"interplay: {tracing.error}", err=True)
    return report


def _print_summary(
    surface: FileSurface, report: SessionReport, heard: list[str], said: list[tuple[float, str]], timeline: Path | None
) -> None:
    speed, step = report.session_s / max(report.wall_s, 1e-9), report.step.ms()
    typer.echo(
        f"{surface.info.path}: {surface.info.duration_s:.1f} s in {report.wall_s:.1f} s, {speed:.1f} x real time; "
        f"one micro-turn p50 {step['p50_ms']:.1f} ms, p99 {step['p99_ms']:.1f} ms"
    )
    typer.echo(f"heard: {' '.join(heard) or '(nothing)'}")
    typer.echo("said:  " + ("  ".join(f"{word} @{t:.2f}s" for t, word in said) or "(nothing)"))
    for path in (surface.out, timeline):
        if path is not None:
            typer.echo(f"wrote {path}")


@app.command()
def bench(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="For example: timespeak cuespeak")],
    foreground: Mind = "native",
    checkpoint: Checkpoint = None,
    n: Annotated[int, typer.Option("--n", help="Items per task.")] = 100,
    seed: Seed = 0,
    voices: Annotated[str, typer.Option(help='Whose voices ask: "held-out" were never trained on.')] = "held-out",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="Recordings that speak a column of their own; repeatable."),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", metavar="SPEAKER", help="Speakers of --data that count; default: the checkpoint's."),
    ] = None,
    phrasings: Annotated[
        str, typer.Option(help='How requests are worded: "known" from training, or "held-out" from it.')
    ] = "known",
    jobs: Annotated[int, typer.Option("--jobs", help="Processes.")] = 1,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option of a single task; repeatable."),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="OUT.json")] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="DIR")] = None,
) -> None:
    """Measure presence: does it speak at the right time, and keep silent otherwise?"""
    try:
        from interplay.bench.cli import bench_command
    except ImportError as error:
        raise _missing(error, "the bench", "train,voice") from error
    bench_command(
        tasks,
        foreground=foreground,
        checkpoint=checkpoint,
        n=n,
        seed=seed,
        voices=voices,
        data=data,
        held_out=held_out,
        phrasings=phrasings,
        jobs=jobs,
        options=option,
        json_path=json_path,
        report=report,
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="For example: runs/nano.toml")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: the best there is.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of recorded voices; may be given more than once."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where checkpoint, log and curves go.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--start-from", help="Begin with the weights of this checkpoint."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's number of steps.")] = None,
    dial: Annotated[float, typer.Option(help="Share of the recipe's compute to spend.")] = 1.0,
    processes: Annotated[int, typer.Option(min=1, help="CPU processes that share each batch.")] = 1,
) -> None:
    """Train a model by a recipe."""
    try:
        from interplay.training.cli import train_command
    except ImportError as error:
        raise _missing(error, "training", "train") from error
    train_command(
        recipe,
        device=device,
        resume=resume,
        data=data,
        out=out,
        start_from=start_from,
        steps=steps,
        dial=dial,
        processes=processes,
    )


@app.command()
def average(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A checkpoint.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="One that was trained on from it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the model between them goes.")],
    share: Annotated[float, typer.Option(help="How much of FIRST.")] = 0.4,
) -> None:
    """Average the weights of two checkpoints of one run."""
    try:
        from interplay.training import averaging
    except ImportError as error:
        raise _missing(error, "averaging", "train") from error
    averaging.average(first, second, out, share)


@app.command()
def voicebank(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new data folder for `interplay train --data`.")],
    count: Annotated[int, typer.Option("--count", help="How many sentences.")] = 1000,
    single: Annotated[
        Path | None,
        typer.Option("--join", metavar="FOLDER", help="Instead: utterances joined from recordings of single words."),
    ] = None,
    speakers: Annotated[
        list[str] | None, typer.Option("--speaker", help="With --join: whom to take; repeatable, default: all.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make training speech: requests and chatter by the agent's own voice, with exact word times."""
    try:
        from interplay.training.joining import join
        from interplay.training.voicebank import make
    except ImportError as error:
        raise _missing(error, "the voicebank", "train,voice") from error
    from rich.progress import Progress

    if count < 1:
        raise BadInput(f"--count {count}: at least one sentence")
    if speakers and single is None:
        raise BadInput("--speaker says whom to take from --join FOLDER; there is none")
    with Progress(transient=True) as progress:
        task = progress.add_task("speaking", total=count)

        def watch(done: int) -> None:
            progress.update(task, completed=done)

        if single is None:
            index = make(out, count, seed=seed, watch=watch)
        else:
            index = join(single, out, count, speakers=speakers or (), seed=seed, watch=watch)
    typer.echo(f"wrote {index}")


@app.command()
def replay(
    timeline: Annotated[Path, typer.Argument(metavar="TIMELINE.jsonl")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PNG", help="The picture; default: beside the timeline."),
    ] = None,
) -> None:
    """A picture of a session, and its metrics."""
    from interplay.core.timeline import read_timeline
    from interplay.session.replay import describe, draw

    records = read_timeline(timeline)
    if not records:
        raise BadInput(f"{timeline} holds no records")
    for line in describe(records):
        typer.echo(line)
    picture = out or timeline.with_suffix(".png")
    if picture == timeline:
        raise BadInput(f"{picture} is the timeline; draw into another file")
    draw(records, picture)
    typer.echo(f"wrote {picture}")


@app.command()
def doctor() -> None:
    """What is installed, what works, what is missing and how to get it. Exit code 1 if `interplay live` cannot work."""
    from interplay.doctor import examine

    healthy = True
    for check in examine():
        mark = "ok     " if check.ok else ("MISSING" if check.needed else "-      ")
        typer.echo(f"{mark}  {check.name:<12} {check.detail}")
        healthy &= check.ok or not check.needed
    typer.echo("ready: interplay live" if healthy else "not ready for interplay live: see MISSING above")
    if not healthy:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"interplay {__version__}")
        raise typer.Exit


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits 0 on success, 2 on an error of use, 130 when interrupted, 1 on a bug of ours."""
    try:
        app(args=argv)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `interplay run ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("INTERPLAY_DEBUG"):
            raise
        text = " ".join(str(error).split())
        if isinstance(error, InterplayError):
            typer.echo(f"interplay: {text}", err=True)
            sys.exit(2)
        typer.echo(f"interplay: {type(error).__name__}: {text} {BUG}", err=True)
        sys.exit(1)


def _desk(agent: str, user: str | None) -> AgentDesk | None:
    """Where this agent and its memory come from; None for the default agent, who needs nothing installed."""
    if agent == "default":
        return None
    from interplay.agents.desk import AgentDesk

    return AgentDesk(agent, user)


def _check_timeline(timeline: Path, source: Path, out: Path | None) -> None:
    """Nothing may be overwritten that the run reads or writes itself."""
    if not timeline.parent.exists():
        raise BadInput(f"cannot write {timeline}: the folder {timeline.parent} does not exist")
    for other in (source, out):
        if other is not None and timeline.resolve() == other.resolve():
            raise BadInput(f"{timeline} is named twice; give the timeline a file of its own")


def _missing(error: ImportError, what: str, extra: str) -> InterplayError:
    """An import that failed for a part that is not installed; one of our own modules missing is a bug, and shown."""
    name = (error.name or "").split(".")[0]
    if name in ("", "interplay"):
        return InterplayError(f"{what} cannot be loaded: {error}")
    return Missing(f'{what} needs {name}, which is not installed; get it with: pip install "interplay[{extra}]"')


if __name__ == "__main__":
    main()
