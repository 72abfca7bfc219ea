"""`interplay live`: one process, one address, one line that says where to go."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvicorn

from interplay.core.types import INPUT_SAMPLES, BadInput, MicroTurnIn, Missing
from interplay.foreground.base import Foreground, ForegroundSpec
from interplay.gateway.foreground import load_mind
from interplay.server.admission import Seats
from interplay.server.app import create_app
from interplay.server.house import House
from interplay.session.trace import Trace
from interplay.voice.engine import HibariEngine
from interplay.voice.hibari import HibariVoice

if TYPE_CHECKING:
    from interplay.agents.desk import AgentDesk
    from interplay.agents.spec import AgentSpec

PORT = 8765
MAX_MESSAGE_BYTES = 1 << 20  # above our own limit, so that a page hears our error and not just a closed socket
SHUTDOWN_S = 3
FEW = 4  # people at a time for whom a thread is enough, and starts sooner


def serve(
    host: str = "127.0.0.1",
    port: int = PORT,
    checkpoint: str | Path | None = None,
    agent: str | None = None,
    foreground: str | None = None,
    open_browser: bool = False,
    *,
    timeline_dir: str | Path | None = None,
    max_sessions: int = 4,
    allow_hosts: Iterable[str] = (),
    seed: int = 0,
    user: str | None = None,
    engine: str | None = None,
    trace: str | Path | None = None,
) -> None:
    """Load everything once, open the port, print the address when ready, serve until interrupted.

    port: 0 takes a free one. agent: a name in the store of agents, None or "default" for the one without a memory.
    user: whose memory. foreground: default: the agent's own. engine: where the native model computes, on a "thread" of
    this process or in a "process" of its own; default: the latter for more than four people. trace: a file for where
    the time of every micro-turn went.
    Raises BadInput for a port that is taken and whatever else the caller can put right, before anything is served.
    """
    desk, chosen = _desk(agent or "default", user)
    folder = Path(timeline_dir) if timeline_dir else None
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot create the timeline folder {folder}: {error.strerror or error}") from error
    listener = listen(host, port)
    try:
        name = foreground or (chosen.models.foreground if chosen else "native")
        engine = engine or ("process" if max_sessions > FEW else "thread")
        if engine not in ("process", "thread"):
            raise BadInput(f"--engine {engine}: thread or process")
        if engine == "process" and name == "native":
            mind = housed(checkpoint, max_sessions)
        else:
            mind = load_mind(name, checkpoint=checkpoint, agent=agent or "default", user=user or "")
        speaker = HibariEngine(chosen.voice.name, speed=chosen.voice.speed) if chosen else HibariEngine()
        prepare(speaker, mind)
        house = House(
            foreground=mind,
            new_voice=lambda: HibariVoice(speaker),
            seats=Seats(max_sessions),
            timeline_dir=folder,
            seed=seed,
            hosts=frozenset(name.lower() for name in allow_hosts),
            agents=desk,
            trace=Trace(Path(trace)) if trace else None,
        )
        run(house, listener, open_browser=open_browser)
    finally:
        listener.close()


def housed(checkpoint: str | Path | None, sessions: int) -> Foreground:
    """The native model, computing in a process of its own with room for so many. Raises Missing or BadInput."""
    try:
        from interplay.foreground.native import NativeForeground
    except ImportError as error:
        raise Missing('the native model needs torch; get it with: pip install "interplay[native]"') from error
    return NativeForeground.load(Path(checkpoint) if checkpoint else None, process=True, slots=sessions)


def _desk(agent: str, user: str | None) -> tuple[AgentDesk | None, AgentSpec | None]:
    """The agents of this server, and the spec of the one it serves. Raises BadInput if there is no such agent."""
    try:
        from interplay.agents.desk import AgentDesk, look_up
    except Missing:
        if agent == "default":
            return None, None
        raise
    return AgentDesk(agent, user), look_up(agent, "browser", user=user).spec if agent != "default" else None


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises BadInput, in one line, if there can be none."""
    if not 0 <= port <= 65_535:
        raise BadInput(f"{port} is not a port; use 1 to 65535, or 0 for any free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if os.name == "nt":
            return socket.create_server((host, port), family=family)
        return socket.create_server((host, port), family=family, reuse_port=False)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(f"port {port} is taken; end what runs there or choose another: --port {port + 1}") from error
        raise BadInput(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def prepare(engine: HibariEngine, foreground: Foreground) -> threading.Thread:
    """Render the words that this mind can say, beside the first conversation rather than before it."""
    words = tuple(getattr(foreground, "vocabulary", ()))
    thread = threading.Thread(target=engine.prepare, args=(words,), name="prepare-voice", daemon=True)
    thread.start()
    return thread


async def warm(foreground: Foreground, turns: int = 3) -> None:
    """Live through a few silent micro-turns: the first ones of a process are slow, and nobody should be in them."""
    channel = await foreground.open(ForegroundSpec())
    try:
        for turn in range(turns):
            await channel.step(MicroTurnIn(turn, np.zeros(INPUT_SAMPLES, np.float32)))
    finally:
        await channel.close()


def address(listener: socket.socket) -> str:
    """The URL to open here; a server on all interfaces is shown at the loopback one."""
    bound, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, str(bound))
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def run(house: House, listener: socket.socket, *, open_browser: bool = False) -> None:
    """Serve `house` on `listener` until interrupted."""
    url = address(listener)
    if listener.getsockname()[0] in ("0.0.0.0", "::"):
        print("note: open to the network, with no password; other machines need https for a microphone", flush=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        create_app(house),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    _Announced(config, url, open_browser, house).run(sockets=[listener])


class _Announced(uvicorn.Server):
    """Says where it is once it really answers."""

    def __init__(self, config: uvicorn.Config, url: str, open_browser: bool, house: House):
        super().__init__(config)
        self.url, self.open_browser, self.house = url, open_browser, house

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await warm(self.house.foreground)
        if self.house.trace is not None:
            await self.house.trace.watch(self.house.foreground)
        await super().startup(sockets)
        print(f"interplay is listening: {self.url}", flush=True)
        if self.open_browser:
            threading.Thread(target=webbrowser.open, args=(self.url,), daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if (trace := self.house.trace) is not None:
            trace.close()
            print(trace.error or trace.table() or "no micro-turn was traced", flush=True)
        if (shut_down := getattr(self.house.foreground, "shut_down", None)) is not None:
            await shut_down()
        if self.house.agents is not None:
            await self.house.agents.close()
