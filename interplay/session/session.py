"""The live loop: one foreground, one voice and one surface on one clock, and a timeline of what happened.

surface -> read -> channel.step -> voice -> write -> surface, once per 200 ms; everything -> timeline
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import Any

import numpy as np

from interplay import __version__
from interplay.background.room import BackgroundRoom
from interplay.core.audio import clean, level_db
from interplay.core.clock import Clock, Tick
from interplay.core.histogram import Histogram
from interplay.core.timeline import Record, Timeline
from interplay.core.types import (
    INPUT_SAMPLES,
    MICRO_TURN_S,
    OUTPUT_SAMPLES,
    Event,
    InterplayError,
    MicroTurnIn,
    MicroTurnOut,
    in_time,
    out_time,
)
from interplay.foreground.base import Channel, Foreground, ForegroundSpec
from interplay.session.depth import Depth
from interplay.session.mouth import OWN, Mouth, MouthTurn
from interplay.session.surface import Surface, SurfaceClosed, SurfaceIn, TurnView
from interplay.session.trace import Trace
from interplay.voice.base import Voice, VoiceTurn

METRICS_TURNS = 50  # 10 s
SETTLE_S = 0.1  # of the 0.2 s of a micro-turn, what a word that is not rendered yet may take; output is due anyway


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """seed: makes everything that is random in a session repeatable. foreground: options for the channel. trace: who
    is told where the time of every micro-turn went, and under which name."""

    seed: int = 0
    foreground: Mapping[str, Any] = field(default_factory=dict)
    trace: Trace | None = None
    name: str = ""


@dataclass(slots=True)
class SessionReport:
    """How a session went. reason: why it ended. error: set if it was not the user or the end of input.

    turns: micro-turns run. skipped: micro-turns lost because the machine was too slow. session_s: session seconds.
    wall_s: wall seconds. step: seconds of the foreground per micro-turn. late: seconds behind the clock per tick.
    """

    reason: str = "ended"
    error: InterplayError | None = None
    turns: int = 0
    skipped: int = 0
    heard_words: int = 0
    said_words: int = 0
    session_s: float = 0.0
    wall_s: float = 0.0
    step: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)


class Session:
    """One live conversation. `run` it once; it owns nothing but the loop: the caller closes the timeline.

    voice may be None only if the foreground speaks for itself. background: what slower work is handed to; the session
    opens and closes it.
    """

    def __init__(
        self,
        foreground: Foreground,
        voice: Voice | None,
        surface: Surface,
        clock: Clock,
        timeline: Timeline,
        *,
        options: SessionOptions | None = None,
        background: BackgroundRoom | None = None,
    ) -> None:
        if voice is None and not foreground.capabilities.speaks:
            raise InterplayError(f"the foreground {foreground.name!r} has no voice of its own: give the session one")
        self.foreground, self.voice, self.surface = foreground, voice, surface
        self.clock, self.timeline = clock, timeline
        self.options = options or SessionOptions()
        self.report = SessionReport()
        own = foreground.capabilities.speaks or voice is None
        self.mouth = None if own or voice is None else Mouth(voice)
        self.depth = (
            Depth(background, self.mouth, delegates=foreground.capabilities.delegates, realtime=clock.realtime)
            if background is not None
            else None
        )
        self._turn = 0
        self._thought = (0.0, 0.0)  # when the foreground was asked, and had answered
        self._stop_reason = ""
        self._unsaid: tuple[str, ...] = ()  # told to the foreground on its next micro-turn
        self._missing: dict[str, Any] | None = None  # a run of incomplete slices, one record for all

    def stop(self, reason: str = "stopped") -> None:
        """Ask the session to end after the micro-turn it is in."""
        self._stop_reason = reason

    async def run(self) -> SessionReport:
        """Live until the surface ends, `stop` is called, the task is cancelled, or something breaks.

        Never raises for what breaks in here: the report, the timeline (`system/error`) and `surface.close` carry the
        error. Cancellation cleans up in the same way and is then passed on.
        """
        report, began = self.report, perf_counter()
        channel: Channel | None = None
        try:
            spec = ForegroundSpec(self.options.seed, self.options.foreground, self.clock.realtime)
            channel = await self.foreground.open(spec)
            self._record_opened()
            if self.depth is not None:
                self.depth.room.open(self.timeline, self.clock.now)
            self.clock.start()
            report.reason = await self._loop(channel)
        except asyncio.CancelledError:
            report.reason = "cancelled"
            raise
        except Exception as error:
            report.error = _as_interplay(error)
        finally:
            report.wall_s = perf_counter() - began
            report.session_s = in_time(self._turn)
            await self._close(channel)
        return report

    async def _loop(self, channel: Channel) -> str:
        """Micro-turns, in order, until there is a reason to end."""
        while True:
            tick = await self.clock.tick(self._turn)
            if tick.skipped:
                self._record_skip(tick)
            self._turn = tick.turn
            self.report.late.add(tick.lateness_s)
            try:
                came = monotonic()
                captured = await self.surface.read(tick.turn)
                if captured is None:
                    return "ended"
                read = monotonic()
                view = await self._micro_turn(channel, tick, captured)
                spoken = monotonic()
                await self.surface.write(view)
            except SurfaceClosed as closed:
                return str(closed) or "surface closed"
            if (trace := self.options.trace) is not None:
                marks = (came, read, *self._thought, spoken, monotonic())
                trace.note(self.options.name, tick.turn, tick.lateness_s, marks, getattr(channel, "times", None))
            self._turn += 1
            self.report.turns += 1
            if self.clock.realtime and self.report.turns % METRICS_TURNS == 0:
                self._record_metrics()
            self.timeline.flush()
            if self._stop_reason:
                return self._stop_reason

    async def _micro_turn(self, channel: Channel, tick: Tick, captured: SurfaceIn) -> TurnView:
        turn, now = tick.turn, out_time(tick.turn)
        if self.depth is not None and not self.clock.realtime:
            await self.depth.room.settle(MICRO_TURN_S)
        seen = self._input(tick, captured)
        began, asked = perf_counter(), monotonic()
        out = await channel.step(seen)
        step_s = perf_counter() - began
        self._thought = (asked, monotonic())
        self.report.step.add(step_s)
        if out.heard:
            self.report.heard_words += len(out.heard.split())
            self._remember(self.timeline.record("user", "heard", t=now, turn=turn, text=out.heard))
        stopped = next((str(a.data.get("reason", "yield")) for a in out.actions if a.kind == "stop"), "")
        unsaid = self._stop(turn, stopped) if stopped else ()
        for action in out.actions:
            if action.kind != "stop":
                data = dict(action.data)
                self.timeline.record("agent", "action", t=now, turn=turn, name=action.kind, data=data)
        if self.depth is not None and (cut := self.depth.after(seen, out)):
            stopped = stopped or cut.reason
            unsaid = (*unsaid, *self._stopped(turn, cut.reason, cut.unsaid))
        spoken = await self._speak(out, began)
        speech = spoken.speech
        for word, offset, owner in spoken.audible:
            whose = {"of": owner} if owner != OWN else {}
            self._remember(self.timeline.record("agent", "said", t=now + offset, turn=turn, text=word, **whose))
        if self.depth is not None:
            self.depth.audible(spoken.audible, spoken.finished)
        self.report.said_words += len(speech.audible)
        return TurnView(
            turn=turn,
            elapsed_s=now,
            audio=speech.audio,
            heard=out.heard,
            said=speech.audible,
            speaking=bool(speech.audible) or (self.mouth is not None and self.mouth.speaking),
            pending=() if self.mouth is None else self.mouth.pending,
            level_db=level_db(seen.audio),
            missing=INPUT_SAMPLES - min(len(captured.audio), INPUT_SAMPLES),
            stopped=stopped,
            unsaid=unsaid,
            skipped=tick.skipped,
            actions=out.actions,
            step_s=step_s,
            working=self.depth is not None and self.depth.waiting,
        )

    def _input(self, tick: Tick, captured: SurfaceIn) -> MicroTurnIn:
        """The captured slice as the model sees it: always 3200 samples, what never came marked as missing."""
        turn = tick.turn
        audio = clean(captured.audio[:INPUT_SAMPLES])
        missing = INPUT_SAMPLES - len(audio)
        events = list(captured.events)
        for event in captured.events:
            if event.kind == "text":
                text = str(event.data.get("text", ""))
                self._remember(self.timeline.record("user", "text", t=out_time(turn), turn=turn, text=text))
        if tick.skipped:
            events.append(Event("skipped", {"turns": tick.skipped}))
        if missing:
            audio = np.concatenate([audio, np.zeros(missing, np.float32)])
            events.append(Event("missing", {"samples": missing}))
        self._count_missing(turn, missing)
        if self._unsaid:
            events.append(Event("unsaid", {"text": " ".join(self._unsaid)}))
            self._unsaid = ()
        if self.depth is not None:
            events += self.depth.before(turn, out_time(turn))
        return MicroTurnIn(turn, audio, captured.frame, tuple(events))

    async def _speak(self, out: MicroTurnOut, began: float) -> MouthTurn:
        """The sound of this micro-turn and the words that start in it."""
        if self.mouth is None:
            audio = clean(out.audio) if out.audio is not None else np.zeros(OUTPUT_SAMPLES, np.float32)
            words = out.said.split()
            return MouthTurn(VoiceTurn(audio), tuple((word, 0.0, OWN) for word in words))
        if out.said:
            self.mouth.say(out.said)
        if self.clock.realtime:
            await self.mouth.settle(max(0.0, SETTLE_S - (perf_counter() - began)))
        return self.mouth.step()

    def _remember(self, record: Record) -> None:
        if self.depth is not None:
            self.depth.remember(record)

    def _stop(self, turn: int, reason: str) -> tuple[str, ...]:
        """Fall silent now. What was not audible yet never enters the record as said."""
        dropped = self.mouth.stop() if self.mouth is not None else {}
        return self._stopped(turn, reason, tuple(word for words in dropped.values() for word in words))

    def _stopped(self, turn: int, reason: str, unsaid: tuple[str, ...] = ()) -> tuple[str, ...]:
        self._unsaid = unsaid
        fields = {"unsaid": " ".join(self._unsaid)} if self._unsaid else {}
        self.timeline.record("agent", "stopped", t=out_time(turn), turn=turn, reason=reason, **fields)
        return self._unsaid

    def _count_missing(self, turn: int, samples: int) -> None:
        """One `system/missing` record per run of incomplete slices: a page that stalls must not flood the timeline."""
        if samples:
            if self._missing is None:
                self._missing = {"t": in_time(turn), "turn": turn, "samples": 0}
            self._missing["samples"] += samples
        elif self._missing is not None:
            self.timeline.record("system", "missing", **self._missing)
            self._missing = None

    def _record_skip(self, tick: Tick) -> None:
        first = tick.turn - tick.skipped
        self.report.skipped += tick.skipped
        self.timeline.record(
            "system", "skipped", t=in_time(first), turn=first, turns=tick.skipped, seconds=tick.skipped * MICRO_TURN_S
        )

    def _record_opened(self) -> None:
        # Only a live session has a date: the record of a file run is the same every time.
        live = {"started": datetime.now(UTC).isoformat(timespec="seconds")} if self.clock.realtime else {}
        voice = self.foreground.name if self.foreground.capabilities.speaks or self.voice is None else self.voice.name
        self.timeline.record(
            "system",
            "opened",
            t=0.0,
            turn=0,
            version=__version__,
            foreground=self.foreground.name,
            voice=voice,
            surface=self.surface.name,
            realtime=self.clock.realtime,
            seed=self.options.seed,
            **live,
        )

    def _record_metrics(self) -> None:
        """What was measured so far. Wall times belong to live sessions only; a simulated one repeats bit by bit."""
        report = self.report
        wall = {"step": report.step.ms(), "late": report.late.ms()} if self.clock.realtime else {}
        self.timeline.record(
            "system",
            "metrics",
            t=in_time(self._turn),
            turn=self._turn,
            turns=report.turns,
            skipped=report.skipped,
            heard_words=report.heard_words,
            said_words=report.said_words,
            **wall,
        )

    async def _close(self, channel: Channel | None) -> None:
        """Leave nothing running and nothing unwritten, whatever happened before or happens in here."""
        report = self.report
        told = report.error
        for close in (channel.close() if channel is not None else None, self.surface.close(told)):
            try:
                if close is not None:
                    await close
            except Exception as error:  # for example the last block of OUT.wav on a full disk
                report.error = report.error or _as_interplay(error)
        if report.error is not None:
            report.reason = "error"
            self._record_end("error", code=report.error.code, text=str(report.error))
        self._count_missing(self._turn, 0)
        if self.depth is not None:
            await self.depth.close()
        unsaid = [word for words in self.mouth.stop().values() for word in words] if self.mouth is not None else []
        self._record_metrics()
        self._record_end("closed", reason=report.reason, **({"unsaid": " ".join(unsaid)} if unsaid else {}))
        self.timeline.flush()

    def _record_end(self, kind: str, **fields: Any) -> None:
        self.timeline.record("system", kind, t=in_time(self._turn), turn=self._turn, **fields)


def _as_interplay(error: Exception) -> InterplayError:
    """What a person is told about an exception that nobody expected; the original stays as its cause."""
    if isinstance(error, InterplayError):
        return error
    told = InterplayError(f"{type(error).__name__}: {error}")
    told.__cause__ = error
    return told
