"""A conversation with real-time providers on the 200 ms clock, which outlives any one of their connections.

step: the user's slice goes out, the next 200 ms of the agent's voice come in. Beside it one task keeps a connection:
when it drops, is refused, or reaches its limit, the next target is connected with the history of the conversation,
the user's sound of the gap is sent after it, and an answer that was cut off in the middle is taken up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from interplay.core.types import INPUT_RATE, MICRO_TURN_S, Action, InterplayError, MicroTurnIn, MicroTurnOut
from interplay.foreground.realtime.link import (
    AnswerDone,
    CutOff,
    HeardText,
    Leaving,
    Line,
    Link,
    LinkEvent,
    LinkLost,
    Meter,
    Metering,
    Opening,
    SaidText,
    Sound,
    Spent,
    Target,
    UserSpeaks,
)
from interplay.foreground.realtime.player import Player

GAP_S = 4.0  # of the user's sound, kept while there is no connection
HEDGE_S = 0.5  # a connection that takes longer gets a rival
AVOIDED_S = 4.0  # ... and if the rival has just failed itself, later
AVOID_S = 10.0
CONNECT_S = 8.0
GIVE_UP_S = 20.0
CHECK_S = 5.0
HISTORY_LINES = 200
HISTORY_CHARS = 24_000
RESUME = (
    "The line was interrupted while you were speaking. The user has heard you say: {said!r}. "
    "Go on from there without repeating it; say at most one short sentence about the interruption."
)


class RealtimeChannel:
    """One live conversation. Steps never wait for the network: they take what is there."""

    def __init__(self, targets: Sequence[Target], *, instructions: str = "", meter: Meter | None = None) -> None:
        self._targets, self._instructions, self._meter = list(targets), instructions, meter
        self._player = Player()
        self._out: deque[np.ndarray] = deque()  # the user's sound that no connection has taken yet
        self._texts: deque[tuple[str, bool]] = deque(maxlen=100)
        self._wake = asyncio.Event()
        self._heard: deque[str] = deque(maxlen=1000)
        self._heard_part, self._heard_whole = "", ""
        self._actions: deque[Action] = deque(maxlen=100)
        self._history: deque[Line] = deque(maxlen=HISTORY_LINES)
        self._error: InterplayError | None = None
        self._began: float | None = None
        self._steps = 0
        self._speaking_turn = ""  # words of the present answer that became audible
        self._resume = False
        self._answering = False  # an answer has begun to come in and has not ended
        self._answer = ""
        self._cut = False  # sound of an answer that the user interrupted may still be on its way
        self._avoid: dict[str, float] = {}
        self._dead: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.connections = 0

    async def start(self) -> None:
        """Make the first connection. Raises InterplayError if no target can be reached."""
        opened = await self._connect()
        self._task = asyncio.create_task(self._keep(*opened), name="realtime link")

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        """One micro-turn, no faster than wall time: providers live in it, also when the session's clock does not.

        Raises InterplayError when the conversation cannot go on.
        """
        await self._pace()
        if self._error is not None:
            raise self._error
        self._send(turn)
        audio, said = self._player.take()
        if said:
            self._speaking_turn = f"{self._speaking_turn} {said}".strip()
        if self._speaking_turn and not self._player.busy:
            self._note("agent", self._speaking_turn)
            self._speaking_turn = ""
        heard = " ".join(self._heard)
        self._heard.clear()
        actions = tuple(self._actions)
        self._actions.clear()
        return MicroTurnOut(turn.turn, audio, heard, said, actions)

    async def close(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
            self._task = None

    def history(self) -> list[Line]:
        """The conversation as it was heard and said, oldest first, cut to what a new connection can take in."""
        lines = list(self._history)
        if self._speaking_turn:
            lines.append(Line("agent", self._speaking_turn))
        kept: list[Line] = []
        size = 0
        for line in reversed(lines):
            size += len(line.text)
            if size > HISTORY_CHARS:
                break
            kept.append(line)
        return kept[::-1]

    async def _pace(self) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        due = self._began + self._steps * MICRO_TURN_S
        if now < due - MICRO_TURN_S / 2:  # a live clock ticks by itself; only a simulated one is held back
            await asyncio.sleep(due - now)
        elif now > due + 5 * MICRO_TURN_S:
            self._began += now - due  # the machine was late: there is nothing to catch up with
        self._steps += 1

    def _send(self, turn: MicroTurnIn) -> None:
        self._out.append(turn.audio)
        while len(self._out) > GAP_S / MICRO_TURN_S:
            self._out.popleft()
        for event in turn.events:
            text = str(event.data.get("text", ""))
            if event.kind == "text" and text:
                self._note("user", text)
                self._texts.append((text, True))
            elif event.kind == "result" and text:
                self._texts.append((f"A result for the user has come in; tell them when it fits: {text}", True))
        self._wake.set()

    def _note(self, who: str, text: str) -> None:
        self._history.append(Line(who, text))

    def _tell(self, kind: str, **data: object) -> None:
        self._actions.append(Action(kind, data))

    async def _keep(self, link: Link, target: Target, metering: Metering | None) -> None:
        """Hold a connection until the conversation ends; replace it whenever it goes."""
        try:
            while True:
                reason = await self._live(link, target, metering)
                lost_at = time.monotonic()
                self._avoid[target.name] = lost_at + AVOID_S
                self._resume, self._answering = self._answering or self._resume, False
                self._player.end_answer()
                self._tell("link_lost", target=target.name, reason=reason)
                # What was already sent is still heard to its end: only what never came is missing.
                link, target, metering = await self._connect()
                gap = time.monotonic() - lost_at
                self._tell("link_restored", target=target.name, gap_s=round(gap, 3))
        except InterplayError as error:
            self._error = error
        except Exception as error:  # a bug must end the conversation, not freeze it
            self._error = InterplayError(f"the real-time connection failed: {type(error).__name__}: {error}")
            self._error.__cause__ = error

    async def _live(self, link: Link, target: Target, metering: Metering | None) -> str:
        """Use one connection until it is gone; returns why. Raises InterplayError if policy ends it."""
        self._cut = False
        reason = "the connection ended"
        status = ""
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._sender(link, metering))
                watch = group.create_task(self._watch(metering))
                async for event in link.events():
                    if isinstance(event, Leaving):
                        reason = "the provider ends the session"
                        break
                    await self._take(link, event, metering)
                sender.cancel()
                watch.cancel()
        except BaseExceptionGroup as group:
            lost, others = group.split(LinkLost)
            if others is not None:
                status = type(others.exceptions[0]).__name__
                raise others.exceptions[0] from None  # policy, or a bug: not for another provider to mend
            assert lost is not None
            first = lost.exceptions[0]
            reason = status = str(first)
            if isinstance(first, LinkLost) and first.final:
                self._dead.add(target.name)
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(0.5):
                    await link.close()
            if metering is not None:
                await metering.end(status)
        return reason

    async def _sender(self, link: Link, metering: Metering | None) -> None:
        said = self._speaking_turn or next((line.text for line in reversed(self._history) if line.who == "agent"), "")
        if self._resume and said:
            await link.send_text(RESUME.format(said=said[-600:]))
        self._resume = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._texts:
                await link.send_text(self._texts[0][0], answer=self._texts[0][1])
                self._texts.popleft()
            while self._out:
                samples = self._out[0]
                await link.send_audio(samples)
                # Taken off only now: what a dying connection did not take goes to the next one.
                if self._out and self._out[0] is samples:
                    self._out.popleft()
                if metering is not None:
                    ms = len(samples) * 1000 // INPUT_RATE
                    metering.counted({"audio_in_ms": ms, "session_ms": ms})

    async def _watch(self, metering: Metering | None) -> None:
        while metering is not None:
            await asyncio.sleep(CHECK_S)
            await metering.check()

    async def _take(self, link: Link, event: LinkEvent, metering: Metering | None) -> None:
        match event:
            case Sound(samples, answer):
                if not self._stale(answer):
                    self._answering = True
                    self._player.new_answer()
                    self._player.push(samples)
                if metering is not None:
                    metering.counted({"audio_out_ms": len(samples) // 24})
            case SaidText(text, answer):
                if not self._stale(answer):
                    self._player.text(text)
            case HeardText(text, whole):
                self._hear(text, whole=whole)
            case UserSpeaks() | CutOff():
                if self._player.busy:
                    played = self._player.played_ms
                    self._cut, self._answering = self._answering, False  # of a whole answer, nothing more will come
                    self._interrupted("user speaks" if isinstance(event, UserSpeaks) else "interrupted")
                    await link.stop_speaking(played)
            case AnswerDone():
                self._cut = self._answering = False
                self._player.end_answer()
            case Spent(units):
                if metering is not None:
                    metering.reported(units)
            case Leaving():
                pass

    def _stale(self, answer: str) -> bool:
        """Is this the rest of an answer that the user has cut off? Another answer's sound ends the cut."""
        if self._cut and answer and answer != self._answer:
            self._cut = False
        self._answer = answer
        return self._cut

    def _interrupted(self, reason: str) -> None:
        unsaid = self._player.flush()
        if self._speaking_turn:
            self._note("agent", self._speaking_turn)
            self._speaking_turn = ""
        self._tell("stop", reason=reason, unsaid=" ".join(unsaid))

    def _hear(self, text: str, *, whole: bool) -> None:
        """Words as they come; the final text adds only what the pieces before it did not have."""
        if not whole:
            self._heard_part += text
            *words, rest = self._heard_part.split(" ")
            done = " ".join(word for word in words if word)
            if done:
                self._heard.append(done)
                self._heard_whole = f"{self._heard_whole} {done}".strip()
            self._heard_part = rest
            return
        before = self._heard_whole
        text = text.strip()
        more = text[len(before) :].strip() if before and text.startswith(before) else text if not before else ""
        if more:
            self._heard.append(more)
        self._heard_part, self._heard_whole = "", ""
        if text:
            self._note("user", text)

    async def _connect(self) -> tuple[Link, Target, Metering | None]:
        """The first target that answers; slow ones get a rival after HEDGE_S. Raises InterplayError after GIVE_UP_S."""
        deadline = time.monotonic() + GIVE_UP_S
        last: Exception | None = None
        delay = 0.1
        while True:
            alive = [target for target in self._targets if target.name not in self._dead]
            if not alive:
                break
            now = time.monotonic()
            # A target that has just failed is tried again only after the others.
            alive.sort(key=lambda target: self._avoid.get(target.name, 0.0) > now)
            won, last = await self._race(alive, last)
            if won is not None:
                self.connections += 1
                return won
            if time.monotonic() + delay > deadline or (self.connections == 0 and self._began is None):
                break
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)
        why = f": {last}" if last is not None else ""
        names = ", ".join(target.name for target in self._targets)
        raise InterplayError(f"no connection to {names}{why}")

    async def _race(
        self, targets: Sequence[Target], last: Exception | None
    ) -> tuple[tuple[Link, Target, Metering | None] | None, Exception | None]:
        running: dict[asyncio.Task[tuple[Link, Metering | None]], Target] = {}
        waiting = list(targets)
        try:
            while waiting or running:
                if waiting:
                    target = waiting.pop(0)
                    running[asyncio.create_task(self._open(target))] = target
                done, _ = await asyncio.wait(
                    running, timeout=self._patience(waiting), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    target = running.pop(task)
                    error = task.exception()
                    if error is None:
                        link, metering = task.result()
                        return (link, target, metering), last
                    if not isinstance(error, InterplayError):
                        raise error
                    last = error
                    if isinstance(error, LinkLost):
                        self._avoid[target.name] = time.monotonic() + AVOID_S
                        if error.final:
                            self._dead.add(target.name)
                    else:
                        raise error  # policy: another target would be refused as well
            return None, last
        finally:
            for task in running:
                task.cancel()
            for task in running:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    link, metering = await task
                    await link.close()  # it won after all, and too late
                    if metering is not None:
                        await metering.end("another connection was quicker")

    def _patience(self, waiting: Sequence[Target]) -> float | None:
        """Seconds until the next target in line may try as well: one that has just failed comes late."""
        if not waiting:
            return None
        return AVOIDED_S if self._avoid.get(waiting[0].name, 0.0) > time.monotonic() else HEDGE_S

    async def _open(self, target: Target) -> tuple[Link, Metering | None]:
        metering = await self._meter.begin(target) if self._meter is not None else None
        try:
            async with asyncio.timeout(CONNECT_S):
                link = await target.connect(Opening(self._instructions, self.history(), CONNECT_S))
        except BaseException as error:
            if metering is not None:
                await metering.end(str(error) or type(error).__name__)
            if isinstance(error, TimeoutError):
                raise LinkLost(f"{target.name} did not answer within {CONNECT_S:.0f} s") from None
            raise
        return link, metering
