"""hibari renders words into clips: the model, the word times, and the cache that puts a word on its cue."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interplay.core.types import OUTPUT_RATE, InterplayError, Missing
from interplay.voice.clip import Clip, finish

if TYPE_CHECKING:
    from hibari import Hibari

CACHE_MB = 96.0  # a word takes 40 kB, a sentence up to 1 MB
_GROUPS = 20_000  # words whose phoneme groups are remembered
DURATIONS = "/CumSum_output_0"  # in hibari's graph: the frame at which each phoneme ends, int64 (phonemes,)
INSTALL = 'the voice is not installed; get it with: pip install "interplay[voice]"'


def key_of(words: Iterable[str]) -> str:
    """What makes two requests the same sound: the words without case. Punctuation stays: it is prosody."""
    return " ".join(words).lower()


class HibariEngine:
    """Loads the hibari model once and renders phrases; shared by all voices of a process, safe from any thread.

    voice: a hibari voice name; "heart" comes with the package. speed: 1.0 is hibari's own pace. seed: fixes the noise
    part, so the same words give the same samples. cache_mb: of rendered clips that are kept, the newest one always.
    Raises Missing if hibari is not installed.
    """

    def __init__(self, voice: str = "heart", *, speed: float = 1.0, seed: int = 0, cache_mb: float = CACHE_MB) -> None:
        self.name, self.speed, self.seed = voice, speed, seed
        self._hibari, self._timed = _load(voice)
        self._lock = threading.Lock()  # one render at a time: hibari's text part is not written for threads
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._held = 0  # bytes of the clips
        self._limit = int(1e6 * cache_mb)
        self._groups: dict[str, int] = {}
        self.render(("hello",))  # loads the pronouncing dictionaries, 0.7 s that no live word should wait for

    @property
    def held_mb(self) -> float:
        """Of clips, in the cache."""
        return self._held / 1e6

    def cached(self, words: Iterable[str]) -> Clip | None:
        """The clip of these words if it is ready, else None. Never waits for a render."""
        key = key_of(words)
        clip = self._clips.get(key)
        if clip is not None:
            # A render in another thread may be evicting; losing this touch only ages the entry.
            with contextlib.suppress(KeyError):
                self._clips.move_to_end(key)
        return clip

    def render(self, words: Iterable[str]) -> Clip:
        """The clip of these words as one utterance; 17 ms of work for a word, 75 ms for twelve, unless cached.

        Raises InterplayError if the engine fails on them.
        """
        words = tuple(words)
        clip = self.cached(words)
        if clip is not None:
            return _as_spelled(clip, words)
        with self._lock:
            clip = self.cached(words)
            if clip is not None:
                return _as_spelled(clip, words)
            try:
                audio, starts = self._synthesize(words)
            except Exception as error:
                raise InterplayError(f"the voice cannot render {' '.join(words)!r}: {error}") from error
            clip = finish(audio, starts)
            self._clips[key_of(words)] = clip
            self._held += clip.audio.nbytes
            while self._held > self._limit and len(self._clips) > 1:
                self._held -= self._clips.popitem(last=False)[1].audio.nbytes
        return clip

    def prepare(self, words: Iterable[str]) -> int:
        """Render single words ahead, so that they sound in the micro-turn that says them. Returns how many were new.

        Blocks; run it in a thread. The lock is taken per word, so a live render waits for one word at most.
        """
        new = 0
        for word in words:
            if word.strip() and self.cached((word,)) is None:
                self.render((word,))
                new += 1
        return new

    def _synthesize(self, words: tuple[str, ...]) -> tuple[np.ndarray, list[tuple[str, float]]]:
        """Raw audio and, for each word that sounds, the second at which its first phoneme starts."""
        rng = np.random.default_rng(self.seed)
        parts: list[np.ndarray] = []
        groups: list[float] = []  # start of each space-separated phoneme group
        offset = 0.0
        for phonemes in self._hibari.phonemize(" ".join(words)):
            if not any(symbol.isalpha() for symbol in phonemes):
                continue  # of signs alone the model would make a breath
            audio, ends = self._run(phonemes, rng)
            groups += [offset + second for second in _group_starts(self._hibari, phonemes, ends, len(audio))]
            parts.append(audio)
            offset += len(audio) / OUTPUT_RATE
        audio = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return audio, self._word_starts(words, groups)

    def _run(self, phonemes: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """One model run: float32 (n,) and the cumulative phoneme durations, int64 (ids,), or None."""
        from hibari import dsp

        ids = self._hibari.ids(phonemes)
        if len(ids) < 3:
            return np.zeros(0, np.float32), None
        feed = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([self.speed], np.float32)}
        outputs: Any = self._hibari.sess.run(None, feed)
        lh, theta, ln, lr, phi, f0 = (output[0] for output in outputs[:6])
        return dsp.synth(lh, theta, ln, lr, phi, f0, rng), (outputs[6].reshape(-1) if self._timed else None)

    def _word_starts(self, words: tuple[str, ...], groups: list[float]) -> list[tuple[str, float]]:
        """Assign phoneme groups to words: "25" is one word of ours and two groups ("twenty five").

        If the groups of the phrase are not the sum of its words' groups (a price, a date: read differently together),
        groups are shared out in proportion. Words without a sound (a lone dash, an emoji) are left out.
        """
        if not groups:
            return []
        counts = [self._group_count(word) for word in words] if len(words) > 1 else [len(groups)]
        total = sum(counts) or 1
        starts, seen = [], 0
        for word, count in zip(words, counts, strict=True):
            if not count:
                continue
            index = seen if total == len(groups) else seen * len(groups) // total
            starts.append((word, groups[min(index, len(groups) - 1)]))
            seen += count
        return starts

    def _group_count(self, word: str) -> int:
        key = word.lower()
        if key not in self._groups:
            if len(self._groups) > _GROUPS:
                self._groups.clear()
            self._groups[key] = sum(
                any(symbol.isalpha() for symbol in group)
                for phonemes in self._hibari.phonemize(word)
                for group in phonemes.split()
            )
        return self._groups[key]


def _as_spelled(clip: Clip, words: tuple[str, ...]) -> Clip:
    """The cache ignores case; the timeline shows the words as they were said."""
    if len(clip.words) != len(words):
        return clip
    return Clip(clip.audio, tuple((word, at) for word, (_, at) in zip(words, clip.words, strict=True)))


def _group_starts(hibari: Any, phonemes: str, ends: np.ndarray | None, samples: int) -> list[float]:
    """Seconds at which each space-separated phoneme group starts in the audio of one model run.

    With the model's durations these are its own alignment (25 ms steps); without, the groups are spread by their
    share of the phonemes.
    """
    known = [symbol for symbol in phonemes if symbol in hibari.vocab]
    positions, fresh = [], True
    for index, symbol in enumerate(known):
        if symbol == " ":
            fresh = True
        elif fresh and symbol.isalpha():  # IPA letters and stress marks, not punctuation
            positions.append(index)
            fresh = False
    if ends is None or len(ends) != len(known) + 2 or not ends[-1]:
        return [samples / OUTPUT_RATE * position / max(1, len(known)) for position in positions]
    # ids carry one pad in front, so ends[i] is where known[i] starts.
    return [float(ends[position]) / float(ends[-1]) * samples / OUTPUT_RATE for position in positions]


def _load(voice: str) -> tuple[Hibari, bool]:
    """The model, and whether it also returns its phoneme durations."""
    try:
        from hibari import Hibari
        from hibari.voices import VOICES, voice_path
    except ImportError as error:
        raise Missing(INSTALL) from error
    if voice not in VOICES:
        raise Missing(f"hibari has no voice {voice!r}; it has: {', '.join(sorted(VOICES))}")
    try:
        model = Path(voice_path(voice)).read_bytes()
    except Exception as error:  # a voice other than "heart" is downloaded on first use
        raise Missing(f"the hibari voice {voice!r} cannot be had: {error}") from error
    try:
        return Hibari(voice=voice, model=model + _extra_output(DURATIONS), threads=1), True
    except Exception:
        # Another export of the model: word times are then estimated.
        return Hibari(voice=voice, threads=1), False


def _extra_output(name: str) -> bytes:
    """Bytes that, appended to a serialized ONNX model, make one inner tensor an output as well.

    Protobuf merges what is concatenated: this is ModelProto{graph{output{name, type int64}}}. It needs no onnx package.
    """

    def field(number: int, payload: bytes) -> bytes:
        size, length = len(payload), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + payload

    int64_tensor = field(1, b"\x08\x07")
    return field(7, field(12, field(1, name.encode()) + field(2, int64_tensor)))
