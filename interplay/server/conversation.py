"""One page, one socket, one session: hello, then sound and cells both ways until one side has had enough.

    socket -> _receive -> BrowserSurface -> Session -> BrowserSurface -> _send -> socket

Nothing here grows with what a page does: input beyond real time is dropped, output that a page does not take is
folded into a gap, and a page that is gone ends its session within one micro-turn.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from datetime import UTC, datetime

from starlette.websockets import WebSocket, WebSocketDisconnect

from interplay.core.clock import RealClock
from interplay.core.timeline import Timeline
from interplay.core.types import InterplayError
from interplay.server import wire
from interplay.server.admission import Allowance
from interplay.server.house import House
from interplay.session.agent import room_of
from interplay.session.session import Session, SessionOptions, SessionReport
from interplay.surfaces.browser import BrowserSurface, Gap

log = logging.getLogger("interplay.server")

HELLO_S = 10.0
SPEEDUP = 1.5  # of real time: what a page may send for long
BURST_S = 2.0  # ... and at once, after a hiccup
FLOOD_S = 120.0  # sound dropped for speed before we stop listening to this page at all
MESSAGES_PER_S, MESSAGE_BURST = 50.0, 200.0
PICTURES_PER_S, PICTURE_BURST = 6.0, 10.0  # one for each micro-turn, and what a hiccup holds back
GOODBYE_S = 2.0

NORMAL, POLICY, TOO_BIG, FAILED, TRY_LATER = 1000, 1008, 1009, 1011, 1013
EXPECTED = (wire.WireError, WebSocketDisconnect, RuntimeError)  # RuntimeError: Starlette's word for a closed socket
CLOSE_CODES = {"overloaded": TRY_LATER, "too_large": TOO_BIG, "failed": FAILED}


async def converse(socket: WebSocket, house: House) -> None:
    """Handle one accepted socket to its end. Never raises for what a page sends or fails to send."""
    try:
        hello = await _hello(socket)
        if not house.seats.take():
            raise wire.WireError("overloaded", f"all {house.seats.limit} places are taken; try again in a minute")
    except wire.WireError as error:
        await _goodbye(socket, wire.error(error.code, error.message), CLOSE_CODES.get(error.code, POLICY))
        return
    except WebSocketDisconnect:
        return
    try:
        await _session(socket, house, hello)
    finally:
        house.seats.leave()


async def _hello(socket: WebSocket) -> wire.Hello:
    try:
        message = await asyncio.wait_for(socket.receive(), HELLO_S)
    except TimeoutError:
        raise wire.WireError("idle", f"no hello within {HELLO_S:.0f} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if message.get("text") is None:
        raise wire.WireError("no_hello", 'sound came before hello; send {"type": "hello", "rate": 48000} first')
    hello = wire.parse(message["text"])
    if not isinstance(hello, wire.Hello):
        raise wire.WireError("no_hello", 'the first message must be {"type": "hello", "rate": 48000}')
    return hello


async def _session(socket: WebSocket, house: House, hello: wire.Hello) -> None:
    """Open everything, run it, and let go of everything."""
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    clock = RealClock()
    surface = BrowserSurface(hello.rate, clock.now)
    voice = house.new_voice()
    path = house.timeline_dir / f"{name}.jsonl" if house.timeline_dir else None
    try:
        with Timeline(path, memory=house.timeline_records) as timeline:
            async with house.attend(timeline) as visit:
                options = SessionOptions(house.seed, visit.options if visit else {}, house.trace, name)
                mind = house.foreground
                room = await room_of(visit, mind.capabilities)
                session = Session(mind, voice, surface, clock, timeline, options=options, background=room)
                opening = wire.ready(session=name, foreground=mind.name, voice=voice.name, sees=mind.capabilities.sees)
                await socket.send_text(wire.dumps(opening))
                await _live(socket, house, session, surface, hello.rate)
    except (WebSocketDisconnect, RuntimeError) as error:
        log.debug("session %s: the page left while it was being opened (%s)", name, error)
    except InterplayError as error:
        await _goodbye(socket, wire.error("failed", str(error)), FAILED)
    finally:
        house.free_voice(voice)


async def _live(socket: WebSocket, house: House, session: Session, surface: BrowserSurface, rate: int) -> None:
    """Run the session, the reader and the writer; whichever ends first ends the others."""
    running = asyncio.create_task(session.run(), name="session")
    reader = asyncio.create_task(_receive(socket, house, surface, rate), name="reader")
    writer = asyncio.create_task(_send(socket, surface), name="writer")
    problem: wire.WireError | None = None
    try:
        await asyncio.wait({running, reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():  # let the writer bring out the last cells
            await asyncio.wait({writer}, timeout=GOODBYE_S)
        if reader.done() and not reader.cancelled() and isinstance(reader.exception(), wire.WireError):
            problem = reader.exception()  # type: ignore[assignment]
        surface.leave()
        await asyncio.wait({running}, timeout=GOODBYE_S)
    finally:
        for task in (reader, writer, running):
            task.cancel()
        results = await asyncio.gather(running, reader, writer, return_exceptions=True)
    for result in results[1:]:
        if isinstance(result, Exception) and not isinstance(result, EXPECTED):
            log.error("a page's socket failed", exc_info=result)
    await _conclude(socket, session.report, problem)


async def _conclude(socket: WebSocket, report: SessionReport, problem: wire.WireError | None) -> None:
    code = NORMAL
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        if problem is not None:
            code = CLOSE_CODES.get(problem.code, POLICY)
            await asyncio.wait_for(socket.send_text(wire.dumps(wire.error(problem.code, problem.message))), GOODBYE_S)
        elif report.error is not None:
            told = "overloaded" if report.error.code == "overloaded" else "failed"
            if told == "failed":
                log.error("a session failed: %s", report.error, exc_info=report.error.__cause__)
            code = CLOSE_CODES[told]
            await asyncio.wait_for(socket.send_text(wire.dumps(wire.error(told, str(report.error)))), GOODBYE_S)
    await _goodbye(socket, wire.ended(report.reason, report.turns, report.session_s), code)


async def _goodbye(socket: WebSocket, message: dict, code: int) -> None:
    """Last words, then close. A page that does not listen any more is not waited for."""
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        await asyncio.wait_for(socket.send_text(wire.dumps(message)), GOODBYE_S)
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        await asyncio.wait_for(socket.close(code), GOODBYE_S)


async def _receive(socket: WebSocket, house: House, surface: BrowserSurface, rate: int) -> None:
    """Everything the page sends. Returns when it leaves; raises WireError when it must."""
    sound = Allowance(rate * SPEEDUP, rate * BURST_S)
    messages = Allowance(MESSAGES_PER_S, MESSAGE_BURST)
    pictures = Allowance(PICTURES_PER_S, PICTURE_BURST) if house.foreground.capabilities.sees else None
    dropped = 0
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), house.idle_s)
        except TimeoutError:
            raise wire.WireError("idle", f"nothing came from the page for {house.idle_s:.0f} s") from None
        if message["type"] == "websocket.disconnect":
            return
        if (data := message.get("bytes")) is not None:
            samples = wire.pcm_in(data)
            if sound.spend(len(samples)):
                surface.hear(samples)
                continue
            if not dropped:
                text = "sound comes faster than it is spoken; what is too much is dropped"
                await socket.send_text(wire.dumps(wire.warning("too_fast", text)))
            dropped += len(samples)
            if dropped > FLOOD_S * rate:
                raise wire.WireError("too_fast", "sound keeps coming faster than it is spoken")
        elif not messages.spend(1):
            raise wire.WireError("too_many", f"more than {MESSAGES_PER_S:.0f} messages a second")
        elif not await _obey(socket, surface, message["text"], pictures):
            return


async def _obey(socket: WebSocket, surface: BrowserSurface, raw: str, pictures: Allowance | None) -> bool:
    """One JSON message of the page. False: it said goodbye. pictures: how many are decoded; None: nobody looks."""
    try:
        match wire.parse(raw):
            case wire.Text(text):
                surface.type(text)
            case wire.Ack(turn):
                surface.acknowledge(turn)
            case wire.Frame(jpeg):
                if pictures is not None and pictures.spend(1):  # one too many is as good as never taken
                    surface.see(jpeg)
            case wire.Bye():
                return False
            case wire.Hello():
                raise wire.WireError("second_hello", "hello is sent once, first", fatal=False)
    except wire.WireError as error:
        if error.fatal:
            raise
        await socket.send_text(wire.dumps(wire.error(error.code, error.message)))
    except InterplayError as error:
        await socket.send_text(wire.dumps(wire.error("bad_frame", str(error))))
    return True


async def _send(socket: WebSocket, surface: BrowserSurface) -> None:
    """Cells and their sound, as long as there are some and the page takes them."""
    after_gap = False
    while (item := await surface.next()) is not None:
        if isinstance(item, Gap):
            await socket.send_text(wire.dumps(wire.gap(item)))
            after_gap = True
            continue
        view = item.view
        await socket.send_text(wire.dumps(wire.turn(item)))
        await socket.send_bytes(
            wire.slice_out(view.turn, view.audio, speaking=view.speaking, after_gap=after_gap or bool(view.skipped))
        )
        after_gap = False
