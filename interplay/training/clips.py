"""Utterances as the scene composer sees them: mel power with word ends, synthetic or recorded."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from interplay.core.types import INPUT_RATE, BadInput
from interplay.model.dmel import CHANNELS, mel_power
from interplay.model.vocabulary import tokens
from interplay.training.espeak import SyntheticVoice, engine
from interplay.training.language import Request, is_held_out, parse_request, spanish
from interplay.training.language.words import BACKCHANNELS, CONTENT, NUMBERS
from interplay.training.speakers import FRAMES_PER_S, PITCHES, Build, random_build, recolour, respeak

INDEX = "index.jsonl"
Made = TypeVar("Made")
_LN10 = np.float32(np.log(10))
_CONTENT, _SMALL = frozenset(CONTENT), frozenset(tuple(NUMBERS)[1:12])
_BACKCHANNELS = frozenset(BACKCHANNELS)
_LONGEST_WORD_S = 0.8  # what precedes a word by more is a pause before it


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance. power: float32 (frames, 80) at 50 frames/s. words: (word, end in seconds), ends ascending."""

    power: np.ndarray
    words: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        return len(self.power) / FRAMES_PER_S

    def text(self) -> list[str]:
        return [word for word, _ in self.words]


def synthesise(text: str, voice: SyntheticVoice) -> Clip:
    """Speak `text` with espeak-ng. Spanish words come in plain letters and are spelled for the voice."""
    spelled = [spanish.SPELLED.get(word, word) for word in text.split()]
    audio, words = engine().speak(" ".join(spelled), voice)
    power = mel_power(audio) if voice.build is None else recolour(mel_power(audio), voice.build)
    return Clip(power, tuple(zip(text.split(), (end for _, end in words), strict=True)))


@lru_cache(maxsize=4096)
def synthesise_word(word: str, voice: SyntheticVoice) -> Clip:
    """One word of a voice that says many: the agent's own. Cached; do not change its power in place."""
    return synthesise(word, voice)


def join(clips: list[Clip], gap_s: float) -> Clip:
    """Several clips as one utterance, with `gap_s` of silence between."""
    silence = np.zeros((int(gap_s * FRAMES_PER_S), CHANNELS), np.float32)
    parts: list[np.ndarray] = []
    words: list[tuple[str, float]] = []
    at = 0.0
    for clip in clips:
        words += [(word, at + end) for word, end in clip.words]
        last = min(len(clip.power), int((clip.words[-1][1] + 0.02) * FRAMES_PER_S))
        parts += [clip.power[:last], silence]
        at += (last + len(silence)) / FRAMES_PER_S
    return Clip(np.concatenate(parts[:-1]), tuple(words))


def cut(clip: Clip, words: int) -> tuple[Clip, Clip]:
    """The first `words` words, and the rest: the same breath, with time for a pause between them."""
    at = int((clip.words[words - 1][1] + 0.03) * FRAMES_PER_S)
    rest = tuple((word, end - at / FRAMES_PER_S) for word, end in clip.words[words:])
    return Clip(clip.power[:at], clip.words[:words]), Clip(clip.power[at:], rest)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an index.jsonl. speakers: the voices in it (two for a mixture). words: (word, end in seconds)."""

    path: Path
    speakers: frozenset[str]
    words: tuple[tuple[str, float], ...]


def read_records(folder: Path, make: Callable[[dict[str, Any]], Made]) -> list[Made]:
    """What `make` gets out of each record of a data folder's index. Raises BadInput naming the line that is wrong."""
    index = folder / INDEX
    if not index.is_file():
        raise BadInput(f"{folder}: no {INDEX} there; a data folder lists its clips in one")
    made = []
    for number, line in enumerate(index.read_text().splitlines(), 1):
        try:
            made.append(make(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{index}:{number}: not a clip record ({error})") from error
    return made


def new_index(folder: Path) -> Path:
    """Where a new data folder lists its clips. Raises BadInput if there is one already."""
    index = folder / INDEX
    if index.exists():
        raise BadInput(f"{index} exists already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return index


def word_ends(record: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """(word, end in seconds) of a record, () if it has none."""
    return tuple((tokens(word)[0], float(end)) for word, end in record.get("words") or () if tokens(word))


def speakers_of(name: str) -> frozenset[str]:
    """`a*0.4+b*0.6` is a mixture of two voices; holding out either holds out the mixture."""
    return frozenset(part.split("*")[0] for part in name.split("+") if part)


def read_index(folder: Path) -> list[Row]:
    """The clips that a data folder lists. Raises BadInput naming the line that is wrong."""

    def row(record: dict[str, Any]) -> Row:
        speakers = speakers_of(record.get("voice") or record.get("speaker") or "")
        return Row(folder / record["file"], speakers, word_ends(record))

    return read_records(folder, row)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody whose recordings are heard through a scene. names: whose they are (two for a mixture of voices). build:
    what makes this speaker another one, None for what was recorded."""

    names: frozenset[str]
    build: Build | None = None


def _exchangeable(text: list[str]) -> list[int]:
    """Places of the words that another of its class can stand for: content words, and small numbers that are alone."""
    beside = [{*text[max(0, i - 1) : i], *text[i + 1 : i + 2]} for i in range(len(text))]
    small = [word in _SMALL and not near & NUMBERS.keys() for word, near in zip(text, beside, strict=True)]
    return [i for i, word in enumerate(text) if word in _CONTENT or small[i]]


def _between(frames: np.ndarray, begin_s: float, end_s: float | None) -> np.ndarray:
    return frames[int(begin_s * FRAMES_PER_S) : None if end_s is None else int(end_s * FRAMES_PER_S)]


class Bank:
    """Recorded or rendered utterances from folders with an `index.jsonl` (file, text, words=[[word, end], ...]).

    Kept as float16 log10 power, each at three pitches (`speakers.PITCHES`), so that an hour takes 90 MB. `held_out`
    names voices or speakers whose clips are left out (or, with `keep_only=True`, the only ones taken, as they are).
    """

    def __init__(self, folders: list[Path], *, held_out: frozenset[str] = frozenset(), keep_only: bool = False) -> None:
        self._log: list[np.ndarray] = []
        self.varied = not keep_only
        self.variety = 1.0  # how far other speakers are from those recorded, see speakers.random_build
        self._words: list[tuple[tuple[str, float], ...]] = []
        self._speakers: list[frozenset[str]] = []
        self._places: list[list[int]] = []  # of a clip's words that can be exchanged
        self._spoken: dict[tuple[frozenset[str], bool], list[tuple[int, int]]] = defaultdict(list)
        self._occurrences: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._talk: dict[frozenset[str], list[int]] = defaultdict(list)
        self._chatter: dict[str, list[int]] = defaultdict(list)  # of each name
        self.requests: dict[str, list[tuple[int, Request]]] = defaultdict(list)
        self.chatter: list[int] = []
        self.with_word: dict[str, list[int]] = defaultdict(list)
        for folder in folders:
            self._load(folder, held_out, keep_only)

    def __len__(self) -> int:
        return len(self._log)

    @property
    def seconds(self) -> float:
        return sum(map(len, self._log)) / FRAMES_PER_S

    def clip(self, index: int) -> Clip:
        return Clip(self._power(index), self._words[index])

    def _power(self, index: int, begin_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
        return np.exp(_between(self._log[index], begin_s, end_s).astype(np.float32) * _LN10)

    def _load(self, folder: Path, held_out: frozenset[str], keep_only: bool) -> None:
        import soundfile
        import soxr

        for row in read_index(folder):
            if not row.words or bool(row.speakers & held_out) != keep_only:
                continue
            audio, rate = soundfile.read(row.path, dtype="float32", always_2d=True)
            mono = audio.mean(1)
            if rate != INPUT_RATE:
                mono = soxr.resample(mono, rate, INPUT_RATE)
            self._add(mel_power(mono), row.words, row.speakers)
            for pitch in PITCHES if self.varied else ():
                # Words are exchanged within a speaker, so a voice at another pitch is a speaker of its own.
                speakers = frozenset(f"{speaker}@{pitch}" for speaker in row.speakers)
                higher = soxr.resample(mono, INPUT_RATE * pitch, INPUT_RATE, quality="LQ")
                self._add(mel_power(higher), tuple((w, end / pitch) for w, end in row.words), speakers)

    def _add(self, power: np.ndarray, words: tuple[tuple[str, float], ...], speakers: frozenset[str]) -> None:
        text = [w for w, _ in words]
        request = parse_request(text)
        if request is not None and is_held_out(text):
            return  # a phrasing that only tests may use
        number = len(self._log)
        self._log.append(np.log10(power + 1e-8).astype(np.float16))
        self._words.append(words)
        self._speakers.append(speakers)
        self._places.append(_exchangeable(text))
        for place in self._places[number]:
            self._spoken[speakers, text[place] in _CONTENT].append((number, place))
            self._occurrences[text[place]].append((number, place))
        if request is not None:
            for name in {request.kind, request.topic} - {""}:
                self.requests[name].append((number, request))
            return
        if set(text) <= _BACKCHANNELS:
            self.requests["backchannel"].append((number, Request("backchannel")))
        self.chatter.append(number)
        for name in speakers:
            self._chatter[name].append(number)
        for word, _ in words:
            self.with_word[word].append(number)
        if self._places[number]:
            self._talk[speakers].append(number)

    def _others(self, speakers: frozenset[str], content: bool) -> list[tuple[int, int]]:
        """(clip, place) of words that could stand in for one of these speakers: a mixture of two voices has few clips
        of its own, and borrows from either."""
        own = self._spoken[speakers, content]
        if len(speakers) == 1:
            return own
        return [*own, *(word for one in sorted(speakers) for word in self._spoken[frozenset((one,)), content])]

    def reworded(self, rng: random.Random, number: int) -> Clip:
        """The clip with some content words and small numbers exchanged for others that the same speaker said elsewhere:
        a bank has few sentences, and who knows them need not listen. As it was, if it would mean something else."""
        exchanged = {}
        for place in self._places[number]:
            others = self._others(self._speakers[number], self._words[number][place][0] in _CONTENT)
            if len(others) > 3 and rng.random() < 0.7:
                exchanged[place] = rng.choice(others)
        return self._spliced(number, exchanged)

    def _spliced(self, number: int, exchanged: dict[int, tuple[int, int]]) -> Clip:
        """The clip with (clip, place) of another word in some places. As it was, if it would mean something else."""
        clip = self.clip(number)
        parts, ends, text, at = [], [], clip.text(), 0.0
        for place, (_, end) in enumerate(clip.words):
            piece = _between(clip.power, clip.words[place - 1][1] if place else 0.0, end)
            if place in exchanged:
                other, there = exchanged[place]
                words = self._words[other]
                begin = max(words[there - 1][1] if there else 0.0, words[there][1] - _LONGEST_WORD_S)
                piece, text[place] = self._power(other, begin, words[there][1]), words[there][0]
            parts.append(piece)
            at += len(piece) / FRAMES_PER_S
            ends.append(at)
        before, after = parse_request(clip.text()), parse_request(text)
        if (before and before.kind) != (after and after.kind):
            return clip
        parts.append(_between(clip.power, clip.words[-1][1], None))
        return Clip(np.concatenate(parts), tuple(zip(text, ends, strict=True)))

    def speaker(self, rng: random.Random, other_than: Speaker | None = None) -> Speaker:
        """Somebody of this bank, mostly of another build; another one than `other_than` where there is one."""
        for _ in range(8):
            names = self._speakers[rng.randrange(len(self))]
            if other_than is None or not names & other_than.names:
                break
        return Speaker(names, self._build(rng))

    def of(self, numbers: list[int], speaker: Speaker | None) -> list[int]:
        """Which of these clips are by one of the speaker's names."""
        return [] if speaker is None else [n for n in numbers if self._speakers[n] & speaker.names]

    def saying(self, rng: random.Random, word: str, speaker: Speaker | None = None) -> Clip | None:
        """Talk with `word` in it: a clip that has it, or one into which the same speaker's `word` is put; None if
        nobody says it. By `speaker` where they say it."""
        numbers, spoken = self.with_word.get(word, []), self._occurrences.get(word, [])
        own = set(self.of([*numbers, *(number for number, _ in spoken)], speaker))
        if own:
            numbers, spoken = [n for n in numbers if n in own], [there for there in spoken if there[0] in own]
        if spoken and self.varied and (not numbers or rng.random() < 0.6):
            there = rng.choice(spoken)
            talk = self._talk[self._speakers[there[0]]]
            if talk:
                number = rng.choice(talk)
                clip = self._spliced(number, {rng.choice(self._places[number]): there})
                if word in clip.text():
                    return self._heard_as(rng, clip, speaker)
        return self._heard_as(rng, self.clip(rng.choice(numbers)), speaker) if numbers else None

    def talk(self, rng: random.Random, speaker: Speaker | None = None) -> Clip | None:
        """Recorded talk that asks for nothing, by `speaker` where there is some of theirs; None if there is none."""
        own = [n for name in sorted(speaker.names) for n in self._chatter[name]] if speaker else []
        return self.pick(rng, own or self.chatter, speaker)

    def pick(self, rng: random.Random, numbers: list[int], speaker: Speaker | None = None) -> Clip | None:
        """One of these clips, of the speaker's where there are some, often with other words in it, mostly as somebody
        else than was recorded would have said it; None if there are none."""
        numbers = self.of(numbers, speaker) or numbers
        if not numbers:
            return None
        number = rng.choice(numbers)
        clip = self.reworded(rng, number) if self.varied and rng.random() < 0.5 else self.clip(number)
        return self._heard_as(rng, clip, speaker)

    def _heard_as(self, rng: random.Random, clip: Clip, speaker: Speaker | None) -> Clip:
        """The clip by a speaker of this build; where nobody is named, of any."""
        build = speaker.build if speaker else self._build(rng)
        return clip if build is None else Clip(*respeak(clip.power, clip.words, build, rng))

    def _build(self, rng: random.Random) -> Build | None:
        """Of what build somebody is; None for what was recorded."""
        changes = self.varied and rng.random() < min(self.variety, 0.45 + 0.4 * self.variety)
        return random_build(rng, self.variety) if changes else None
