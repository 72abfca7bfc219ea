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
from interplay.foreground.realtime.dialer import CONNECT_S, Connected, Dialer
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
REPLAY = 15  # micro-turns: so much of what a connection took with it is told again to the next
CHECK_S = 1.0
PAUSE = 10  # micro-turns of silence that end a line of the agent, where no provider says so
MARGIN_S = 1.0  # before the time at which a provider says that it will hang up
HISTORY_LINES = 200
HISTORY_CHARS = 24_000
RESUME = (
    "The line was interrupted while you were speaking. The user has heard you say: {said!r}. "
    "Go on from there without repeating it; say at most one short sentence about the interruption."
)
CORRECTION = "The user spoke up and did not hear the end of what you had said: {unsaid!r}."


class RealtimeChannel:
    """One live conversation. Steps never wait for the network: they take what is there."""

    def __init__(self, targets: Sequence[Target], *, instructions: str = "", meter: Meter | None = None) -> None:
        self._instructions, self._meter = instructions, meter
        self._dialer = Dialer(targets, meter)
        self._player = Player()
        self._out: deque[np.ndarray] = deque()  # the user's sound that no connection has taken yet
        self._taken: deque[np.ndarray] = deque(maxlen=REPLAY)  # ... that one has taken and not answered or understood
        self._texts: deque[tuple[str, bool]] = deque(maxlen=100)
        self._wake = asyncio.Event()
        self._heard: deque[str] = deque(maxlen=1000)
        self._heard_part, self._heard_whole = "", ""
        self._closed = ""  # what was heard of an utterance that was answered before its final text came
        self._actions: deque[Action] = deque(maxlen=100)
        self._history: deque[Line] = deque(maxlen=HISTORY_LINES)
        self._error: InterplayError | None = None
        self._began: float | None = None
        self._steps = 0
        self._quiet = 0  # micro-turns since the agent was heard
        self._speaking_turn = ""  # words of the present answer that became audible
        self._resume = False
        self._answering = False  # an answer has begun to come in and has not ended
        self._answer = self._done = ""  # the answer that came in last; the last one that was complete
        self._cut = False  # sound of an answer that the user interrupted may still be on its way
        self._inherited = False  # what is being played came from a connection that is gone
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the first connection. Raises InterplayError if no target can be reached."""
        try:
            opened = await self._dialer.connect(self._opening, patient=False)
        except BaseException:
            await self._settle()
            raise
        self._task = asyncio.create_task(self._keep(opened), name="realtime link")
        await asyncio.sleep(0)  # from here on the task owns the connection, whenever it is cancelled

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
        self._quiet = 0 if said or self._player.busy else self._quiet + 1
        # An answer that comes as slowly as it is heard pauses between words, and is one line all the same.
        if self._speaking_turn and self._quiet and (not self._answering or self._quiet >= PAUSE):
            self._note("agent", self._speaking_turn)
            self._speaking_turn, self._inherited = "", False
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
            await self._settle()

    async def _settle(self) -> None:
        if self._meter is not None:
            await self._meter.close()

    def _speaking(self) -> str:
        """The answer under way as the user will have heard it when a new connection speaks.

        A connection that goes leaves sound behind that is still played: 200 ms per micro-turn, while the next one is
        already being told the history. What has sound will be heard before anything new is.
        """
        return " ".join([*self._speaking_turn.split(), *self._player.coming])

    def _opening(self) -> Opening:
        return Opening(self._instructions, self.history(), CONNECT_S)

    def history(self) -> list[Line]:
        """The conversation as it was heard and said, oldest first, cut to what a new connection can take in."""
        lines = list(self._history)
        if speaking := self._speaking():
            lines.append(Line("agent", speaking))
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

    async def _keep(self, now: Connected) -> None:
        """Hold a connection until the conversation ends; replace it whenever it goes."""
        try:
            while True:
                reason, final = await self._live(now.link, now.metering)
                lost_at = time.monotonic()
                self._dialer.failed(now.target, final=final)
                self._resume, self._answering = self._answering or self._resume, False
                # Sound that is here is still heard to its end; words that have none never were said.
                self._player.cut_answer()
                self._inherited = self._player.busy
                self._out.extendleft(reversed(self._taken))
                self._taken.clear()
                self._tell("link_lost", target=now.target.name, reason=reason)
                now = await self._dialer.connect(self._opening, patient=True)
                gap = time.monotonic() - lost_at
                self._tell("link_restored", target=now.target.name, gap_s=round(gap, 3))
        except InterplayError as error:
            self._error = error
        except Exception as error:  # a bug must end the conversation, not freeze it
            self._error = InterplayError(f"the real-time connection failed: {type(error).__name__}: {error}")
            self._error.__cause__ = error

    async def _live(self, link: Link, metering: Metering | None) -> tuple[str, bool]:
        """Use one connection until it is gone; returns why, and whether for ever. Raises InterplayError for policy."""
        self._cut, final = False, False
        reason = "the connection ended"
        status, leave_at = "", 0.0
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._sender(link, metering))
                watch = group.create_task(self._watch(metering))
                async for event in link.events():
                    await self._take(link, event, metering)
                    if isinstance(event, Leaving):
                        leave_at = time.monotonic() + max(0.0, event.within_s - MARGIN_S)
                    # An answer under way may end; between two answers a change is not noticed.
                    if leave_at and (not self._answering or time.monotonic() >= leave_at):
                        reason = "the provider ends the session"
                        break
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
            final = isinstance(first, LinkLost) and first.final
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(0.5):
                    await link.close()
            if metering is not None:
                await metering.end(status)
        return reason, final

    async def _sender(self, link: Link, metering: Metering | None) -> None:
        said = self._speaking() or next((line.text for line in reversed(self._history) if line.who == "agent"), "")
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
                    self._taken.append(samples)
                if metering is not None:
                    metering.counted({"audio_in_ms": len(samples) * 1000 // INPUT_RATE})

    async def _watch(self, metering: Metering | None) -> None:
        """Time costs money whether anybody speaks or not: it is metered as it passes, and policy asked again."""
        while metering is not None:
            await asyncio.sleep(CHECK_S)
            await metering.check()

    async def _take(self, link: Link, event: LinkEvent, metering: Metering | None) -> None:
        match event:
            case Sound(samples, answer):
                if not self._stale(answer):
                    self._begin()
                    self._taken.clear()  # it answers: what it took has been understood
                    self._player.push(samples)
                if metering is not None:
                    metering.counted({"audio_out_ms": len(samples) // 24})
            case SaidText(text, answer, trails):
                if not self._stale(answer):
                    if not answer or answer != self._done:  # a transcript may come late, its answer long complete
                        self._begin()
                    self._player.text(text, trails=trails)
            case HeardText(text, whole):
                self._hear(text, whole=whole)
            case UserSpeaks() | CutOff():
                if self._player.busy:
                    played = self._player.played_ms
                    self._cut, self._answering = self._answering, False  # of a whole answer, nothing more will come
                    unsaid = self._interrupted("user speaks" if isinstance(event, UserSpeaks) else "interrupted")
                    await link.stop_speaking(played)
                    if self._inherited and unsaid:  # this connection was told that they would be heard
                        await link.send_text(CORRECTION.format(unsaid=unsaid), answer=False)
                    self._inherited = False
            case AnswerDone():
                self._cut = self._answering = False
                self._done = self._answer
                self._player.end_answer()
            case Spent(units, model):
                if metering is not None:
                    await metering.reported(units, model)
            case Leaving():
                pass  # `_live` sees to it

    def _begin(self) -> None:
        """The first of an answer is here, sound or words."""
        if not self._answering:
            self._answering = True
            self._player.begin_answer()
            if pending := f"{self._heard_whole} {self._heard_part}".strip():
                # Some providers never say that an utterance is complete: it is, once it is answered.
                self._hear("", whole=True)
                self._closed = pending

    def _stale(self, answer: str) -> bool:
        """Is this the rest of an answer that the user has cut off? Another answer's sound ends the cut."""
        if self._cut and answer and answer != self._answer:
            self._cut = False
        self._answer = answer
        return self._cut

    def _interrupted(self, reason: str) -> str:
        unsaid = " ".join(self._player.flush())
        if self._speaking_turn:
            self._note("agent", self._speaking_turn)
            self._speaking_turn = ""
        self._tell("stop", reason=reason, unsaid=unsaid)
        return unsaid

    def _hear(self, text: str, *, whole: bool) -> None:
        """Words as they come; the final text adds only what the pieces before it did not have.

        A final text that is empty ends an utterance as it was heard.
        """
        if not whole:
            self._heard_part += text
            *words, rest = self._heard_part.split(" ")
            done = " ".join(word for word in words if word)
            if done:
                self._heard.append(done)
                self._heard_whole = f"{self._heard_whole} {done}".strip()
            self._heard_part = rest
            return
        before, part = self._heard_whole, self._heard_part.strip()
        text = text.strip() or f"{before} {part}".strip()
        late = bool(self._closed) and not before and not part  # the text of an utterance that has been answered
        before = self._closed if late else before
        more = text[len(before) :].strip() if before and text.startswith(before) else text if not before else ""
        if more:
            self._heard.append(more)
        self._heard_part, self._heard_whole, self._closed = "", "", ""
        self._taken.clear()
        if not text:
            return
        for at in range(len(self._history) - 1, -1, -1) if late else ():
            if self._history[at] == Line("user", before):
                self._history[at] = Line("user", text)
                return
        self._note("user", text)
