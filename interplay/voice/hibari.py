"""The agent's voice: said words become 24 kHz speech on the session's clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from interplay.core.types import OUTPUT_RATE, OUTPUT_SAMPLES
from interplay.voice.base import VoiceTurn
from interplay.voice.clip import Clip
from interplay.voice.engine import HibariEngine

PHRASE_WORDS = 12
STOP_FADE_S = 0.008
CUT_S = 0.08
PHRASE_ENDS = (".", "!", "?", ",", ";", ":")


class HibariVoice:
    """One speaker of one session on a shared engine.

    Words that wait together are spoken as one phrase (up to 12 words, ending at punctuation) for natural prosody;
    a word that comes alone is spoken alone, from the cache if it was prepared. Words that come one after another are
    trimmed so that they follow each other within about 60 ms.

    sync: render within `step` (files, tests: deterministic). Otherwise one worker thread renders, and the slice goes
    out as silence until it is done; `settle` gives it the time that is left in the micro-turn.
    """

    def __init__(self, engine: HibariEngine | None = None, *, sync: bool = False) -> None:
        self.engine = engine or HibariEngine()
        self.name = f"hibari/{self.engine.name}"
        self.sync = sync
        self._waiting: deque[str] = deque()
        self._clip: Clip | None = None
        self._at = 0
        self._fade: np.ndarray | None = None
        self._render: tuple[tuple[str, ...], Future[Clip]] | None = None
        self._worker: ThreadPoolExecutor | None = None

    def prepare(self, words: Iterable[str]) -> int:
        """Render common words ahead; see `HibariEngine.prepare`."""
        return self.engine.prepare(words)

    @property
    def pending(self) -> tuple[str, ...]:
        inside = [word for word, at in self._clip.words if at >= self._at] if self._clip else []
        return (*inside, *self._waiting)

    @property
    def speaking(self) -> bool:
        return self._clip is not None or bool(self._waiting)

    def say(self, text: str) -> None:
        self._waiting.extend(text.split())
        if not self.sync:
            self._begin_render()

    async def settle(self, timeout_s: float) -> None:
        if self._clip is not None and len(self._clip.audio) - self._at >= OUTPUT_SAMPLES:
            return  # the next slice is full anyway
        if self._render is not None and not self._render[1].done() and timeout_s > 0:
            future = asyncio.wrap_future(self._render[1])
            # A failed render is raised by `step`; asyncio need not also report that nobody looked at this view of it.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([future], timeout=timeout_s)

    def step(self) -> VoiceTurn:
        audio = np.zeros(OUTPUT_SAMPLES, np.float32)
        audible: list[tuple[str, float]] = []
        pos = 0
        if self._fade is not None:
            pos = len(self._fade)
            audio[:pos], self._fade = self._fade, None
        while pos < OUTPUT_SAMPLES:
            if self._clip is None:
                self._clip, self._at = self._next_clip(), 0
                if self._clip is None:
                    break
            n = min(OUTPUT_SAMPLES - pos, len(self._clip.audio) - self._at)
            audio[pos : pos + n] = self._clip.audio[self._at : self._at + n]
            for word, at in self._clip.words:
                if self._at <= at < self._at + n:
                    audible.append((word, round((pos + at - self._at) / OUTPUT_RATE, 4)))
            pos, self._at = pos + n, self._at + n
            if self._at >= len(self._clip.audio):
                self._clip = None
        if self._waiting and not self.sync:
            self._begin_render()
        return VoiceTurn(audio, tuple(audible))

    def stop(self) -> list[str]:
        dropped = list(self.pending)
        if self._clip is not None:
            # Sound that is cut at full level clicks; 8 ms of fade do not.
            rest = self._clip.audio[self._at : self._at + int(STOP_FADE_S * OUTPUT_RATE)]
            if self._at:
                self._fade = rest * np.linspace(1.0, 0.0, len(rest), dtype=np.float32)
        self._clip, self._at = None, 0
        self._waiting.clear()
        self._cancel_render()
        return dropped

    def pause(self) -> list[str]:
        """As `stop`; a word is cut in its middle if more than 80 ms of its sound would still have come."""
        cut: list[str] = []
        if self._clip is not None:
            starts = [at for _, at in self._clip.words]
            for (word, at), end in zip(self._clip.words, [*starts[1:], len(self._clip.audio)], strict=True):
                if at < self._at < end - CUT_S * OUTPUT_RATE:
                    cut = [word]
        return cut + self.stop()

    def reset(self) -> None:
        self.stop()
        self._fade = None

    def close(self) -> None:
        """Forget everything and end the render thread. Safe to call twice."""
        self.reset()
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)
            self._worker = None

    def _phrase(self) -> tuple[str, ...]:
        """The waiting words that are spoken together next: up to punctuation, at most 12."""
        words: list[str] = []
        for word in self._waiting:
            words.append(word)
            if len(words) == PHRASE_WORDS or word.endswith(PHRASE_ENDS):
                break
        return tuple(words)

    def _next_clip(self) -> Clip | None:
        """Take the next phrase from the queue if its sound is ready; None if nothing waits or nothing is ready."""
        while self._waiting:
            phrase = self._phrase()
            if self.sync:
                clip, taken = self.engine.render(phrase), len(phrase)
            else:
                clip, taken = self._ready(phrase)
                if clip is None:
                    return None
            for _ in range(taken):
                self._waiting.popleft()
            if len(clip.audio):
                return clip
            # Nothing in it makes a sound (a lone dash, an emoji): nothing was said.
        return None

    def _ready(self, phrase: tuple[str, ...]) -> tuple[Clip | None, int]:
        """The longest beginning of the phrase that is rendered. Raises what the render raised."""
        if self._render is not None and self._render[1].done():
            (_, future), self._render = self._render, None
            future.result()
        for n in range(len(phrase), 0, -1):
            if self.engine.cached(phrase[:n]) is not None:
                return self.engine.render(phrase[:n]), n
        return None, 0

    def _begin_render(self) -> None:
        """Have the worker render the next phrase, unless it is cached or already being rendered."""
        phrase = self._phrase()
        if not phrase or (self._render is not None and self._render[0] == phrase) or self.engine.cached(phrase):
            return
        self._cancel_render()
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="voice")
        self._render = (phrase, self._worker.submit(self.engine.render, phrase))

    def _cancel_render(self) -> None:
        if self._render is not None:
            self._render[1].cancel()
            self._render = None
