"""Who speaks in the bench: synthetic voices, and people and neural voices from data folders, behind one interface.

A person is asked for a sentence of a family (`families.py`). A synthetic voice says whatever the family writes; a
recorded one can only say what was recorded, so the family recognises its sentences among the recordings instead.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from interplay.bench.families import (
    AFTER,
    CUE,
    EVERY,
    FACT,
    OPEN,
    REPEAT,
    STOP,
    SUM,
    Ask,
    Family,
    chatter,
    means_something,
)
from interplay.bench.mixing import level, spoken_part
from interplay.bench.synthesiser import synthesiser
from interplay.core.types import INPUT_RATE, BadInput
from interplay.model.vocabulary import tokens
from interplay.training.clips import read_records, speakers_of, word_ends
from interplay.training.espeak import SyntheticVoice, random_voice

# What a sentence of the hearing task is; None: chatter.
SENTENCES = (EVERY, AFTER, CUE, REPEAT, STOP, SUM, FACT, OPEN, None, None, None, None)
Accept = Callable[[Ask], bool]
TRIES = 200


class Unspoken(Exception):
    """Nobody in this column has a recording of such a sentence."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One sentence. audio: float32, 16 kHz, at the bench's level, starts with speech. words: (word, end in seconds)."""

    audio: np.ndarray
    words: tuple[tuple[str, float], ...]
    speaker: str

    @property
    def end(self) -> float:
        """Seconds at which the last word ends."""
        return self.words[-1][1]

    @property
    def seconds(self) -> float:
        return len(self.audio) / INPUT_RATE

    def paused(self, after: int, seconds: float) -> Utterance:
        """The same with `seconds` of silence after word number `after` (0 = the first)."""
        cut = self.words[after][1]
        at = int(cut * INPUT_RATE)
        audio = np.concatenate([self.audio[:at], np.zeros(int(seconds * INPUT_RATE), np.float32), self.audio[at:]])
        words = tuple((w, end + (seconds if i > after else 0.0)) for i, (w, end) in enumerate(self.words))
        return Utterance(audio, words, self.speaker)

    def at(self, gain_db: float) -> Utterance:
        """The same, louder or quieter."""
        return Utterance(self.audio * np.float32(10 ** (gain_db / 20)), self.words, self.speaker)


class Person(Protocol):
    """One speaker of one item."""

    name: str

    def ask(self, family: Family, rng: random.Random, accept: Accept = lambda ask: True) -> tuple[Utterance, Ask]:
        """A sentence of `family` with a meaning that `accept` likes. Raises Unspoken."""
        ...

    def chat(self, rng: random.Random, want: str | None = None, avoid: frozenset[str] = frozenset()) -> Utterance:
        """A sentence that asks for nothing, with `want` in it once and none of `avoid`. Raises Unspoken."""
        ...

    def sentence(self, rng: random.Random) -> Utterance:
        """Any sentence: a request or chatter."""
        ...


class Cast(Protocol):
    """All who may speak in one column of the results. name: "" for the first column, else the metrics' suffix."""

    name: str
    synthetic: bool

    def person(self, rng: random.Random, other_than: Person | None = None) -> Person: ...


class SyntheticPerson:
    def __init__(self, voice: SyntheticVoice) -> None:
        self.voice = voice
        self.name = f"{voice.accent}+{voice.variant}"

    def ask(self, family: Family, rng: random.Random, accept: Accept = lambda ask: True) -> tuple[Utterance, Ask]:
        for _ in range(TRIES):
            text, ask = family.write(rng)
            if accept(ask):
                return self.say(text), ask
        raise Unspoken(family.name)

    def chat(self, rng: random.Random, want: str | None = None, avoid: frozenset[str] = frozenset()) -> Utterance:
        for _ in range(TRIES):
            text = chatter(rng, want)
            words = text.split()
            if not avoid & set(words) - {want} and words.count(want or "") == (want is not None) and len(words) <= 16:
                return self.say(text)
        raise Unspoken(f"chatter with {want}")

    def sentence(self, rng: random.Random) -> Utterance:
        family = rng.choice(SENTENCES)
        return self.chat(rng) if family is None else self.ask(family, rng)[0]

    def say(self, text: str) -> Utterance:
        """Any text, lower case and without punctuation."""
        audio, words = synthesiser().speak(text, self.voice)
        return Utterance(level(audio), tuple(words), self.name)


class SyntheticCast:
    """espeak-ng voices: the held-out ones, or those of training."""

    synthetic = True

    def __init__(self, name: str = "", *, held_out: bool = True) -> None:
        self.name, self.held_out = name, held_out

    def person(self, rng: random.Random, other_than: Person | None = None) -> Person:
        while True:
            person = SyntheticPerson(random_voice(rng, held_out=self.held_out))
            if other_than is None or person.voice.variant != other_than.name.partition("+")[2]:
                return person


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of an index, not loaded yet. speakers: those that take part in it, none where nobody is named.

    ends: seconds at which the words of `text` end; () where the index does not say.
    """

    path: Path
    speakers: frozenset[str]
    text: tuple[str, ...]
    ends: tuple[float, ...]


class RecordedPerson:
    def __init__(self, name: str, cast: RecordedCast) -> None:
        self.name, self._cast = name, cast

    def ask(self, family: Family, rng: random.Random, accept: Accept = lambda ask: True) -> tuple[Utterance, Ask]:
        return self._cast.ask(self.name, family, rng, accept)

    def chat(self, rng: random.Random, want: str | None = None, avoid: frozenset[str] = frozenset()) -> Utterance:
        return self._cast.chat(self.name, rng, want, avoid)

    def sentence(self, rng: random.Random) -> Utterance:
        return self._cast.sentence(self.name, rng)


class RecordedCast:
    """The speakers of data folders with an `index.jsonl`.

    Sentences are looked for among the person's own first, then among everybody's: a request is always one whole
    recording by one speaker.
    """

    synthetic = False

    def __init__(self, name: str, recordings: Iterable[Recording]) -> None:
        self.name = name
        self._by: dict[str, list[Recording]] = defaultdict(list)
        for recording in recordings:
            for speaker in recording.speakers or {""}:
                self._by[speaker].append(recording)
        if not self._by:
            raise BadInput(f"no recordings for the column {name or 'of --voices'}")
        self.speakers = tuple(sorted(self._by))
        self._asks: dict[tuple[str, str], list[tuple[Recording, Ask]]] = {}

    def person(self, rng: random.Random, other_than: Person | None = None) -> Person:
        names = [n for n in self.speakers if other_than is None or n != other_than.name] or list(self.speakers)
        return RecordedPerson(rng.choice(names), self)

    def ask(self, speaker: str, family: Family, rng: random.Random, accept: Accept) -> tuple[Utterance, Ask]:
        for name in (speaker, *self.speakers):
            fits = [(r, ask) for r, ask in self._of(name, family) if accept(ask)]
            if fits:
                recording, ask = rng.choice(fits)
                return _load(recording), ask
        raise Unspoken(f"no recording of {family.name}, for example: {family.write(random.Random(0))[0]}")

    def chat(self, speaker: str, rng: random.Random, want: str | None, avoid: frozenset[str]) -> Utterance:
        for name in (speaker, *self.speakers):
            fits = [
                recording
                for recording, _ in self._of(name, CHATTER)
                if not avoid & set(recording.text) - {want}
                and (want is None or recording.text.count(want) == 1)
                and len(recording.text) <= 20
            ]
            if fits:
                return _load(rng.choice(fits))
        raise Unspoken(f"no recorded chatter with {want}")

    def sentence(self, speaker: str, rng: random.Random) -> Utterance:
        return _load(rng.choice(self._by[speaker]))

    def _of(self, speaker: str, family: Family) -> list[tuple[Recording, Ask]]:
        """What this speaker recorded of this family, found once."""
        key = (speaker, family.name)
        if key not in self._asks:
            parsed = ((recording, family.parse(recording.text)) for recording in self._by[speaker])
            self._asks[key] = [(recording, ask) for recording, ask in parsed if ask is not None]
        return self._asks[key]


def _not_a_request(words: tuple[str, ...]) -> Ask | None:
    return None if means_something(words) or len(words) < 3 else Ask("chatter")


CHATTER = Family("chatter", lambda rng: (chatter(rng), Ask("chatter")), _not_a_request)


@lru_cache(maxsize=512)
def _load(recording: Recording) -> Utterance:
    """Read a recording: mono, 16 kHz, without the silence around it, at the bench's level."""
    import soundfile
    import soxr

    try:
        audio, rate = soundfile.read(recording.path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise BadInput(f"{recording.path}: cannot be read ({error})") from error
    mono = audio.mean(1)
    if rate != INPUT_RATE:
        mono = soxr.resample(mono, rate, INPUT_RATE).astype(np.float32)
    first, last = spoken_part(mono)
    start = first / INPUT_RATE
    ends = [max(end - start, 0.05) for end in recording.ends]
    if not ends:  # spread over the sounding part by letters: where the last word ends is right at least
        letters = np.cumsum([len(word) + 1 for word in recording.text])
        ends = [float(part) * (last - first) / INPUT_RATE for part in letters / letters[-1]]
    words = tuple(zip(recording.text, ends, strict=True))
    return Utterance(level(mono[first:last]), words, "+".join(sorted(recording.speakers)))


def load_casts(
    folders: Iterable[Path], held_out: frozenset[str] | None, *, name: str | None = None
) -> tuple[list[RecordedCast], list[str]]:
    """One cast per kind of folder: `natural` (rows name a `voice`) and `human` (they do not), or all as `name`.

    held_out: if a folder has any of these speakers, only their clips are taken. Returns the casts and what a reader of
    the results should know about them. Raises BadInput.
    """
    kinds: dict[str, list[Recording]] = defaultdict(list)
    notes = []
    for folder in folders:
        found = read_recordings(folder)
        kind = name if name is not None else ("natural" if is_neural(folder) else "human")
        known = frozenset().union(*(r.speakers for r in found))
        chosen = held_out & known if held_out else frozenset()
        if chosen:
            found = [replace(r, speakers=r.speakers & chosen) for r in found if r.speakers & chosen]
            notes.append(f"{folder.name}: {len(found)} clips of {', '.join(sorted(chosen))} only")
        else:
            notes.append(f"{folder.name}: all {len(found)} clips; no speaker of it is named as held out of training")
        kinds[kind] += found
    return [RecordedCast(kind, found) for kind, found in kinds.items()], notes


def read_recordings(folder: Path) -> list[Recording]:
    """The clips that a folder's `index.jsonl` lists: file, text, voice or speaker, words with ends where there are
    some. Raises BadInput naming the line that is wrong."""

    def recording(record: dict[str, Any]) -> Recording | None:
        timed = word_ends(record)
        text = tuple(word for word, _ in timed) or tuple(tokens(record["text"]))
        speakers = speakers_of(str(record.get("voice") or record.get("speaker") or ""))
        return Recording(folder / record["file"], speakers, text, tuple(end for _, end in timed)) if text else None

    return [found for found in read_records(folder, recording) if found is not None]


def is_neural(folder: Path) -> bool:
    """Do the rows of this folder name a `voice` (an engine's) rather than a speaker?"""
    with (folder / "index.jsonl").open() as index:
        try:
            return "voice" in json.loads(index.readline() or "{}")
        except ValueError:
            return False
