"""The native foreground: our own interaction model, one forward pass per micro-turn, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from interplay.core.types import BadInput, MicroTurnIn, MicroTurnOut
from interplay.engine import device as devices
from interplay.engine.core import Append, Chosen, Opening
from interplay.engine.local import LocalEngine
from interplay.engine.selftest import assemble
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.foreground.interpret import Intake, Narrator
from interplay.model import checkpoint as checkpoints
from interplay.model.config import DELEGATE, PREFIX_WORDS
from interplay.model.decode import SURE
from interplay.model.dmel import DMelStream
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import Vocabulary, tokens

FLOOR = 4  # people at a time that a small machine serves even when it is busy with something else
SLOTS, VIDEO_SLOTS = 32, 8
TOGETHER = 16  # a batch of so many costs four single steps; more gains little
NEVER = -11.0  # bias of a decision that a checkpoint of the first format never learnt to take


class Sessions(Protocol):
    """What a foreground needs of an engine, in this process or another."""

    async def open(self, opening: Opening | None = None, *, realtime: bool = True) -> str: ...

    async def append(self, append: Append) -> Chosen: ...

    async def close(self, session: str) -> None: ...

    async def health(self) -> dict[str, Any]: ...

    async def metrics(self) -> bytes: ...

    async def trace(self, tell: Callable[[dict[str, Any]], None] | None) -> None: ...

    async def shut_down(self) -> None: ...


class NativeForeground:
    """A loaded checkpoint that any number of sessions share; the micro-turns of all of them run in common steps.

    vocabulary: the words it can say, for a voice to prepare. engine: where the sessions live.
    """

    def __init__(
        self,
        model: InteractionModel,
        vocabulary: Vocabulary,
        note: dict[str, object],
        *,
        slots: int = SLOTS,
        engine: Sessions | None = None,
        device: str | None = None,
    ) -> None:
        torch.set_num_threads(1)  # a micro-turn is too small to share, and a second thread only adds jitter
        self.name = f"native/{note.get('recipe', 'model')}"
        self.note = note
        self.words = vocabulary
        self.vocabulary = vocabulary.words[2:]
        self.eyes = model.config.glances > 0
        delegates = float(model.decision.bias[DELEGATE].detach()) > NEVER
        self.capabilities = Capabilities(False, self.eyes, delegates, together=min(TOGETHER, slots))
        if engine is None:
            video_slots = VIDEO_SLOTS if self.eyes else 0
            clocked = assemble(model, slots=slots, video_slots=video_slots, floor=FLOOR, device=device)
            engine = LocalEngine(clocked)
        self.engine = engine
        self.times: dict[tuple[str, int], dict[str, Any]] | None = None

    @classmethod
    def load(
        cls, checkpoint: Path | None = None, *, process: bool = False, slots: int = SLOTS, device: str | None = None
    ) -> NativeForeground:
        """Read a checkpoint (default: the one that ships). process: compute in a process of its own, with `slots`
        places, on a CPU only. device: cpu, cuda, cuda:N or auto; default: INTERPLAY_DEVICE, else the CPU. Raises
        Missing or BadInput."""
        if process and devices.choose(device).type != "cpu":
            raise BadInput(devices.NOT_ALONE)
        path = checkpoint or checkpoints.default_checkpoint()
        model, vocabulary, note = checkpoints.load(path)
        if not process:
            return cls(model, vocabulary, note, slots=slots, device=device)
        from interplay.engine.housed import HousedEngine

        video_slots = min(slots, VIDEO_SLOTS) if model.config.glances else 0
        engine = HousedEngine(path, slots=slots, video_slots=video_slots, floor=FLOOR)
        return cls(model, vocabulary, note, engine=engine)

    async def open(self, spec: ForegroundSpec) -> NativeChannel:
        """A new conversation. Options: `threshold`, how sure it must be to do more than listen (0-1, default 0.65);
        `prefix`, words to bear in mind all the time; `proactivity`, 0-1. Raises BadInput, or Overloaded."""
        threshold = spec.options.get("threshold", SURE)
        if not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise BadInput(f"threshold is a probability between 0 and 1, not {threshold!r}")
        proactivity = spec.options.get("proactivity", 0.5)
        if not isinstance(proactivity, int | float) or not 0 <= proactivity <= 1:
            raise BadInput(f"proactivity is between 0 and 1, not {proactivity!r}")
        prefix = spec.options.get("prefix", ())
        words = tokens(prefix) if isinstance(prefix, str) else [str(word) for word in prefix]
        ids = tuple(number for word in words for number in self.words.spell(word))[:PREFIX_WORDS]
        channel = NativeChannel(self, Opening(ids, float(proactivity), float(threshold)), spec)
        if not self.eyes:
            await channel.begin(video=False)
        return channel

    async def health(self) -> dict[str, Any]:
        """What is true of the engine now: `status`, `problems`, places, step times."""
        return await self.engine.health()

    async def metrics(self) -> bytes:
        """The engine's figures as Prometheus text. Raises Missing where prometheus_client is not installed."""
        return await self.engine.metrics()

    async def begin_tracing(self) -> None:
        """From now on, `NativeChannel.times` tells where the time of its last micro-turn went."""
        self.times = {}
        await self.engine.trace(self._note)

    def _note(self, times: dict[str, Any]) -> None:
        if self.times is not None:
            self.times[times["session"], times["turn"]] = times

    async def shut_down(self) -> None:
        """End what the engine runs beside us."""
        await self.engine.shut_down()


class NativeChannel:
    """One live conversation: the dMel of its sound, words that wait to be read, and its session in the engine."""

    def __init__(self, foreground: NativeForeground, opening: Opening, spec: ForegroundSpec) -> None:
        self._foreground, self._opening = foreground, opening
        self._realtime = spec.realtime
        self._sound = DMelStream()
        self._intake, self._narrator = Intake(foreground.words), Narrator(foreground.words)
        self._session = ""
        self._turn = -1
        self._delegated = False  # in the last micro-turn
        self.times: dict[str, Any] | None = None  # of the last micro-turn, when asked for

    async def begin(self, *, video: bool) -> None:
        """Take a place in the engine. A model with eyes waits for the first micro-turn to see whether there is video.
        Raises Overloaded."""
        opening = self._opening
        if video:
            opening = Opening(opening.prefix, opening.proactivity, opening.threshold, True)
        self._opening = opening
        self._session = await self._foreground.engine.open(opening, realtime=self._realtime)

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        """Hear 200 ms, and say what is due. Micro-turns that were skipped pass as silence: the clock keeps time."""
        if not self._session:
            await self.begin(video=turn.frame is not None)
        self._turn = max(self._turn + 1, turn.turn)
        chosen = await self._foreground.engine.append(self._append(turn))
        if (times := self._foreground.times) is not None:
            self.times = times.pop((self._session, self._turn), None)
        self._delegated = chosen.decision == DELEGATE
        heard, said, actions = self._narrator.tell(chosen.decision, chosen.heard, chosen.said)
        return MicroTurnOut(turn.turn, None, heard, said, actions)

    def _append(self, turn: MicroTurnIn) -> Append:
        """A micro-turn as the model takes it: levels, one word of what there is to read, marks, a frame."""
        frame = None
        if turn.frame is not None and self._opening.video:
            from interplay.model.patches import fit

            frame = fit(turn.frame)
        read = self._intake.take(turn.events, delegated=self._delegated)
        bins = self._sound.push(turn.audio)
        return Append(self._session, self._turn, bins, read.event, read.marks, frame, read.said)

    async def close(self) -> None:
        """Give the place back."""
        if self._session:
            await self._foreground.engine.close(self._session)
            self._session = ""
