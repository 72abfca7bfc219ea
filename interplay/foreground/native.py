"""The native foreground: our own interaction model, one forward pass per micro-turn."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from interplay.core.types import BadInput, MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.model import checkpoint as checkpoints
from interplay.model.dmel import DMelStream
from interplay.model.stepping import Stepper, StepState
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import Vocabulary, tokens

SPEAK_THRESHOLD = 0.5
TYPED_WORDS = 200  # waiting typed words; older ones give way


class NativeForeground:
    """A loaded checkpoint that any number of sessions share; what differs between them lives in their channels.

    vocabulary: the words it can say, for a voice to prepare.
    """

    capabilities = Capabilities(speaks=False, sees=False)

    def __init__(self, model: InteractionModel, vocabulary: Vocabulary, note: dict[str, object]) -> None:
        torch.set_num_threads(1)  # a micro-turn is too small to share, and a second thread only adds jitter
        self.name = f"native/{note.get('recipe', 'model')}"
        self.note = note
        self.words = vocabulary
        self.vocabulary = vocabulary.words[2:]
        self.stepper = Stepper(model)
        # One worker: steps of all sessions queue here and the event loop stays free for sockets.
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="native")

    @classmethod
    def load(cls, checkpoint: Path | None = None) -> NativeForeground:
        """Read a checkpoint (default: the one that ships). Raises Missing or BadInput."""
        return cls(*checkpoints.load(checkpoint or checkpoints.default_checkpoint()))

    async def open(self, spec: ForegroundSpec) -> NativeChannel:
        """A new conversation. Options: `threshold`, how sure it must be to speak (0-1, default 0.5)."""
        threshold = spec.options.get("threshold", SPEAK_THRESHOLD)
        if not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise BadInput(f"threshold is a probability between 0 and 1, not {threshold!r}")
        return NativeChannel(self, float(threshold))


class NativeChannel:
    """One live conversation: the dMel of its sound, the model's state, nothing else."""

    def __init__(self, foreground: NativeForeground, threshold: float) -> None:
        self._foreground = foreground
        self._threshold = threshold
        self._sound = DMelStream()
        self._typed: deque[int] = deque(maxlen=TYPED_WORDS)
        self._state = StepState.empty(foreground.stepper.config)

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        """Hear 200 ms, and say what is due. Micro-turns that were skipped pass as silence: the clock keeps time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._foreground.worker, self._step, turn)

    def _step(self, turn: MicroTurnIn) -> MicroTurnOut:
        state, words = self._state, self._foreground.words
        # Rotary time follows the session's clock, also over micro-turns that never ran.
        state.turn = max(state.turn, turn.turn)
        bins = torch.from_numpy(self._sound.push(turn.audio))[None]
        out = self._foreground.stepper.step(state, bins)
        state.heard = out.heard.argmax(-1)
        heard = words.text(int(state.heard))
        for event in turn.events:
            if event.kind == "text":
                self._typed.extend(words.id(word) for word in tokens(str(event.data.get("text", ""))))
        if self._typed and not heard:
            # Typed words go in where heard words do, one per micro-turn, while nobody is talking.
            state.heard = torch.tensor([self._typed.popleft()])
        wants = bool(out.decision.softmax(-1)[0, 1] > self._threshold)
        out.said[:, :2] = float("-inf")  # having decided to speak, it says a word
        state.said = out.said.argmax(-1) if wants else torch.zeros_like(state.said)
        said = words.text(int(state.said))
        return MicroTurnOut(turn.turn, None, heard, said)

    async def close(self) -> None:
        """Nothing outlives a channel but the memory Python frees."""
