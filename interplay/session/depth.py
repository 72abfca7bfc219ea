"""Presence in front, depth behind: what ties the background to one live session.

Twice per micro-turn: `before` the foreground's step it turns what came in from the background into events; `after` it
carries out what was decided, by the foreground itself or, where that cannot, by the delegator. It never waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from interplay.background.delegation import Delegation
from interplay.background.delegator import Decision, Delegator, Moment
from interplay.background.direct import DirectCall
from interplay.background.judge import judge, preface, relation
from interplay.background.package import ContextPackage, Conversation, Recent
from interplay.background.room import BackgroundRoom, Report
from interplay.background.utterance import Kind, classify, normal, plain
from interplay.core.timeline import Record
from interplay.core.types import Event, MicroTurnIn, MicroTurnOut
from interplay.session.floor import Floor
from interplay.session.mouth import AT_ONCE, Mouth

AGAIN_S = 2.0  # of quiet: what was cut off by mere talk goes on
KEEP_S = 30.0  # the rest of what was stopped can be asked for so long
HEAR_S = 60.0  # of wall time, where session time waits
OVERDUE_S = 15.0  # a foreground that has not delivered by then has forgotten
UTTERANCE_S = 20.0  # how far back the question of a delegation reaches
WATCHED = ("withdraw", "steer", "answer")  # heard for every foreground; the rest only for one that does not delegate


@dataclass(slots=True)
class Held:
    """The unread rest of a result. whole: with what was read of it. stopped: the person said so, rather than just
    talking over it. asked: something else was asked since, so that it has to begin again."""

    text: str
    whole: str
    since_s: float
    stopped: bool
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """Why the reading fell silent, and the words of it that nobody will hear."""

    reason: str
    unsaid: tuple[str, ...]


class Depth:
    """The background of one session. delegates: the foreground decides; see `Capabilities`."""

    def __init__(self, room: BackgroundRoom, mouth: Mouth | None, *, delegates: bool, realtime: bool) -> None:
        self.room, self.mouth, self.delegates, self.realtime = room, mouth, delegates, realtime
        if not realtime:
            room.hear_s = HEAR_S  # a file run waits for its words, so that it is the same every time
        self.floor = Floor()
        self.conversation = Conversation()
        self.delegator = Delegator()
        self._recent = Recent()
        self._held: dict[str, Held] = {}
        self._came: dict[str, float] = {}  # when the oldest unspoken piece of a delegation came
        self._asides: list[tuple[str, str, float]] = []  # (owner, text, since): questions and progress to be spoken
        self._prefaced: set[str] = set()
        self._reads: dict[str, str] = {}  # what is being read, without its preface
        self._spoken: list[str] = []
        self._words_cut: list[str] = []
        self._last_delegated_s = 0.0
        self._now = 0.0

    @property
    def waiting(self) -> bool:
        """Something is worked on, or waits to be spoken."""
        return bool(self.room.working or self._came or self._asides or (self.mouth and self.mouth.reading))

    def remember(self, record: Record) -> None:
        """Words that were heard and said, as they go onto the timeline."""
        self.conversation.add(record)

    def before(self, turn: int, now: float) -> tuple[Event, ...]:
        """What the foreground is told in this micro-turn."""
        self._now = now
        events = [event for report in self.room.at(turn) for event in self._came_in(report)]
        for reminder in self.room.due(now):
            text = str(getattr(reminder, "text", reminder))
            self.room.note("background", "reminder", text=text)
            self._asides.append(("reminder", f"You wanted to be reminded: {text.rstrip('.')}.", now))
            events.append(Event("result", {"id": "reminder", "text": text, "use": "speak"}))
        if self._spoken:
            events.append(Event("said", {"text": " ".join(self._spoken)}))
            self._spoken = []
        if self._came or self._asides:
            events.append(Event("pending", {"ids": [*self._came]}))
        if self.mouth is not None and self.mouth.reading:
            events.append(Event("busy", {"ids": [*self.mouth.reading]}))
        return tuple(events)

    def after(self, seen: MicroTurnIn, out: MicroTurnOut) -> Cut | None:
        """Carry out what was decided in this micro-turn. Returns what was cut off by it, if anything was."""
        self._recent.add(seen.audio, seen.frame)
        typed = tuple(str(e.data.get("text", "")) for e in seen.events if e.kind == "text")
        self.floor.update(seen.audio, out.heard)
        decision = self.delegator.step(seen.turn, out.heard, typed, self._moment())
        if self.delegates:
            decision = Decision(tuple(a for a in decision.actions if a.kind in WATCHED))
        own = [a for a in out.actions if a.kind in ("delegate", "deliver", "yield", "tool")] if self.delegates else []
        self._words_cut = []
        reasons = [self._obey(action.kind, action.data) for action in (*decision.actions, *own)]
        if decision.say and self.mouth is not None:
            self.mouth.read(AT_ONCE, decision.say)
        self._openings()
        reason = next(filter(None, reasons), "")
        return Cut(reason, tuple(self._words_cut)) if reason else None

    def audible(self, words: tuple[tuple[str, float, str], ...], finished: tuple[str, ...]) -> None:
        """What of the results was heard in this micro-turn, and whose reading came to its end."""
        for word, _, owner in words:
            if owner in self.room.delegations:
                self.room.delegations[owner].said.append(word)
                self._spoken.append(word)
        for owner in finished:
            id, _, what = owner.partition(":")
            if what == "ask":
                self.room.put(id)
            delegation = self.room.delegations.get(owner)
            if delegation is not None:
                self._settle(delegation)

    async def close(self) -> None:
        """The session is over: what was held back and never heard is on the record as unsaid."""
        for id in [*self._held]:
            self._drop_held(id, "session closed")
        for delegation in self.room.live:
            if self.mouth is not None and delegation.id in self.mouth.reading:
                delegation.unsaid = " ".join(self.mouth.stop(delegation.id).get(delegation.id, []))
        await self.room.close()

    # what came in

    def _came_in(self, report: Report) -> list[Event]:
        delegation = report.delegation
        if report.kind == "finished":
            self._settle(delegation)
            return []
        if report.kind in ("ask", "aloud"):
            self._asides.append((f"{delegation.id}:{report.kind}", report.text, self._now))
        elif report.kind == "piece":
            self._came.setdefault(delegation.id, self._now)
        use = {"piece": "speak", "aloud": "progress"}.get(report.kind, report.kind)
        return [Event("result", {"id": delegation.id, "text": report.text, "use": use})]

    def _settle(self, delegation: Delegation) -> None:
        """Delivered, once the work is over and nothing of it waits or is being read."""
        reading = self.mouth is not None and delegation.id in self.mouth.reading
        if (
            delegation.live
            and delegation.finished
            and not (delegation.waiting or reading or delegation.id in self._held)
        ):
            self._came.pop(delegation.id, None)
            self.room.deliver(delegation.id)

    # what was decided

    def _moment(self) -> Moment:
        return Moment(
            working=tuple(d.question for d in self.room.working),
            asking=self.room.asking is not None,
            reading=bool(self.mouth and self.mouth.reading),
            rest=bool(self._held or self._came),
            silent=self.floor.silent,
        )

    def _obey(self, kind: str, data: Mapping[str, Any]) -> str:
        if kind == "yield":
            reason = str(data.get("reason", "yield"))
            return reason if self._cut(reason) else ""
        if kind == "delegate":
            self._delegate(str(data.get("text", "")), str(data.get("revises", "")))
        elif kind == "deliver":
            self._deliver_next()
        elif kind == "withdraw":
            return self._withdraw(everything=data.get("which") == "all")
        elif kind == "steer":
            self.room.steer(str(data["text"]), [self.room.working[-1].id] if self.room.working else [])
        elif kind == "answer":
            self.room.answer(str(data["text"]))
        elif kind == "status":
            self._status()
        elif kind == "resume":
            self._resume(stopped=True)
        elif kind == "tool":
            self._tool(data)
        return ""

    def _delegate(self, text: str, revises: str) -> None:
        """Hand the conversation so far to the background, and let what the question replaces go."""
        question = text or self._question()
        if not question:
            return
        match classify(question):
            case Kind.WITHDRAW if self.room.live:
                self._withdraw(everything=False)
                return
            case Kind.PROGRESS if self.room.live:
                self._status()
                return
        replaced = []
        for old in self.room.live:
            how = "replaces" if revises and normal(old.question) == revises else relation(question, old.question)
            if how == "repeats":
                if old.working or old.waiting:
                    return  # the answer is on its way: one question, one answer
                how = "replaces"
            if how == "replaces":
                replaced.append(old)
        for held in self._held.values():
            held.asked = True  # what was only talked over is still owed, after this
        fresh = self.room.delegate(self._package(question))
        self._last_delegated_s = self._now
        for old in replaced:
            self._forget(old.id)
            self.room.supersede(old.id, fresh.id)

    def _question(self) -> str:
        """What the person said since the last delegation: a foreground that delegates does not repeat it."""
        since = max(self._last_delegated_s, self._now - UTTERANCE_S)
        lines = [line.text for line in self.conversation.since(since) if line.who == "user"]
        return " ".join(lines[-2:])

    def _package(self, question: str) -> ContextPackage:
        return ContextPackage(
            question=question,
            asked_s=self._now,
            lines=self.conversation.lines(),
            audio=self._recent.audio() if self.room.takes_sound else None,
            frames=self._recent.frames() if self.room.takes_pictures else (),
            memory=self.room.memory,
            instructions=self.room.instructions,
            others=tuple(d.question for d in self.room.working),
            wall=datetime.now().astimezone() if self.realtime else None,
        )

    def _withdraw(self, *, everything: bool) -> str:
        """Give up the newest question, or all of them, and be silent about them. Returns "withdrawn" if it was cut."""
        live = self.room.live
        cut = False
        for delegation in live if everything else live[-1:]:
            cut |= self.mouth is not None and delegation.id in self.mouth.reading
            self._forget(delegation.id)
            self.room.drop(delegation.id, "withdrawn")
        return "withdrawn" if cut else ""

    def _forget(self, id: str) -> None:
        """Nothing more of a delegation is to be spoken."""
        self._came.pop(id, None)
        self._held.pop(id, None)
        self._asides = [aside for aside in self._asides if not aside[0].startswith(f"{id}:")]
        if self.mouth is not None:
            for owner in (id, f"{id}:ask", f"{id}:aloud"):
                unsaid = self.mouth.stop(owner).get(owner) if owner in self.mouth.reading else None
                self._words_cut += unsaid or []
                if unsaid and owner == id:
                    self.room.delegations[id].unsaid = " ".join(unsaid)

    def _status(self) -> None:
        """How far it is, from what is known and never from what might be: a pending answer is not invented."""
        working, ready = self.room.working, [d for d in self.room.live if d.waiting]
        if ready:
            self._deliver_next()
            return
        if not working:
            text = "I am not looking for anything right now."
        elif len(working) == 1:
            detail = f" {working[0].progress[:1].upper()}{working[0].progress[1:]}." if working[0].progress else ""
            text = f"Still on it.{detail}"
        else:
            text = f"Still on {len(working)} things: " + ", and ".join(plain(d.asked) for d in working) + "."
        if self.mouth is not None:
            self.mouth.read(AT_ONCE, text)

    def _tool(self, data: Mapping[str, Any]) -> None:
        """A call the foreground put together itself: it runs beside the conversation like everything else."""
        name, arguments = str(data.get("name", "")), data.get("args", ())
        if isinstance(arguments, str):
            arguments = arguments.split()
        package = self._package(f"{name} {' '.join(map(str, arguments))}".strip())
        self.room.delegate(package, DirectCall(name, arguments))

    # what is spoken, and when

    def _openings(self) -> None:
        """Speak what waits, if there is an opening. A foreground that delegates says itself when, unless it forgets."""
        if self.mouth is None:
            self._hand_over()
            return
        for id, held in list(self._held.items()):
            if held.stopped and self._now - held.since_s > KEEP_S:
                self._drop_held(id, "stopped")
        if self.mouth.reading or self.mouth.own or self.mouth.voice.speaking:
            return
        since = min([*self._came.values(), *(since for *_, since in self._asides)], default=None)
        if since is not None:
            waited = self._now - since
            if self.floor.open(waited) and (not self.delegates or self._asides or waited >= OVERDUE_S):
                self._deliver_next()
        elif self._held and self.floor.open(0.0):
            self._resume(stopped=False)

    def _deliver_next(self) -> None:
        """Read what waits longest: first what a task asks, then a result."""
        if self.mouth is None:
            return
        for aside in list(self._asides):
            owner, text, _ = aside
            id, _, what = owner.partition(":")
            open_ = self.room.delegations[id].asking == text if what == "ask" else True
            if open_ and what == "ask" and self.room.asking is not None:
                continue  # one question at a time: a yes is a yes to that one
            self._asides.remove(aside)
            if open_:  # otherwise nobody waits for the answer any more
                self.mouth.read(owner, text)
                return
        for id in sorted(self._came, key=lambda id: self._came[id]):
            delegation = self.room.delegations[id]
            text = " ".join(delegation.waiting)
            delegation.waiting.clear()
            del self._came[id]
            if text and self._speak(delegation, text):
                return

    def _speak(self, delegation: Delegation, text: str) -> bool:
        """Judge a result that is to be spoken, and read it if it is still worth that."""
        assert self.mouth is not None
        others = sum(d.id != delegation.id and (d.working or bool(d.waiting)) for d in self.room.live)
        since = self.conversation.since(delegation.asked_s)
        verdict = judge(delegation, text, self._now, since, others)
        if verdict.use == "context":
            delegation.context.append(text)
            self.room.note("background", "context", id=delegation.id, text=text, reason=verdict.why)
            self._settle(delegation)
            return False
        if verdict.use == "drop":
            return False
        first = delegation.id not in self._prefaced
        self._prefaced.add(delegation.id)
        self._read(delegation.id, f"{verdict.preface} {text}" if verdict.preface and first else text, text)
        return True

    def _read(self, id: str, text: str, whole: str) -> None:
        assert self.mouth is not None
        self._reads[id] = whole
        self.mouth.read(id, text)

    def _cut(self, reason: str) -> bool:
        """Stop reading now. What was not audible yet is kept for a while, and is not history."""
        if self.mouth is None or not self.mouth.reading:
            for held in self._held.values():
                held.stopped |= reason != "interrupted"
            if reason != "interrupted":
                for id in list(self._came):  # "stop" before it was spoken: it is not wanted
                    delegation = self.room.delegations[id]
                    whole = " ".join(delegation.waiting)
                    self._held[id] = Held(whole, whole, self._now, True)
                    delegation.waiting.clear()
                    del self._came[id]
            return False
        for owner in self.mouth.reading:
            unsaid = self.mouth.stop(owner).get(owner, [])
            self._words_cut += unsaid
            id, _, what = owner.partition(":")
            if what == "ask" and not unsaid:
                self.room.put(id)  # its last word had begun
            elif what == "ask" and reason == "interrupted" and self.room.delegations[id].asking:
                self._asides.append((owner, self.room.delegations[id].asking, self._now))  # half a question is none
            if owner in self.room.delegations and not unsaid:
                self._settle(self.room.delegations[owner])  # its last word had begun: it was said
            elif owner in self.room.delegations:
                self._held[owner] = Held(
                    " ".join(unsaid), self._reads.get(owner, ""), self._now, reason != "interrupted"
                )
                self.room.delegations[owner].unsaid = " ".join(unsaid)
        return True

    def _resume(self, *, stopped: bool) -> None:
        """Go on with what was cut off: when asked to, or when the talk that cut it off is over."""
        for id, held in list(self._held.items()):
            if self.mouth is not None and (stopped or (not held.stopped and self._now - held.since_s >= AGAIN_S)):
                del self._held[id]
                self.room.delegations[id].unsaid = ""
                again = f"{preface(self.room.delegations[id].asked, held.whole)} {held.whole}"
                self._read(id, again if held.asked else held.text, held.whole)

    def _drop_held(self, id: str, reason: str) -> None:
        held = self._held.pop(id)
        self.room.delegations[id].waiting.clear()
        self.room.delegations[id].unsaid = held.text
        self.room.drop(id, reason)

    def _hand_over(self) -> None:
        """A foreground with a voice of its own was given every piece as an event, and speaks it itself."""
        for id in list(self._came):
            delegation = self.room.delegations[id]
            delegation.waiting.clear()
            del self._came[id]
            self._settle(delegation)
        for owner, *_ in self._asides:
            id, _, what = owner.partition(":")
            if what == "ask":
                self.room.put(id)
        self._asides.clear()
