"""Synthetic voices with exact word times: espeak-ng, loaded in-process through ctypes.

The engine comes from the `espeakng-loader` wheel (GPL-3; a training-time tool, never a runtime dependency). Its word
events say where each word starts, so every scene's targets are exact.
"""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import soxr

from interplay.core.types import INPUT_RATE, Missing
from interplay.training.speakers import Build, random_build

ACCENTS = ("en-us", "gmw/en", "gmw/en-GB-scotland", "gmw/en-029", "gmw/en-GB-x-rp", "gmw/en-US-nyc")
SPANISH_ACCENTS = ("roa/es", "roa/es-419")
# Variants are espeak-ng's own voice shapes. The held-out ones are used by the bench and never by training.
HELD_OUT_VARIANTS = ("m3", "f2", "Andrea", "Jacky", "klatt5", "steph2", "grandpa", "boris")
TRAINING_VARIANTS = (
    *("m1", "m2", "m4", "m5", "m6", "m7", "m8", "f1", "f3", "f4", "f5"),
    *("Alex", "Alicia", "Andy", "Annie", "Denis", "Gene", "Gene2", "Hugo", "Lee", "Marco", "Mario", "Michael", "Mike"),
    *("Diogo", "Henrique", "Nguyen", "Reed", "adam", "anika", "announcer", "antonio", "aunty", "belinda", "benjamin"),
    *("caleb", "david", "ed", "edward", "edward2", "grandma", "gustave", "ian", "iven", "iven2", "john", "klatt"),
    *("klatt2", "klatt3", "klatt4", "klatt6", "linda", "marcelo", "max", "michel", "miguel", "mike2", "norbert"),
    *("pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph3", "travis"),
    *("victor", "zac"),
)

_WORD_EVENT = 1
_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_int64),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class SyntheticVoice:
    """One way of speaking: accent + variant, words per minute, pitch and pitch range (0-100).

    build: what makes this speaker another one than the variant; its vocal tract and timbre are used, not its pace.
    """

    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int
    build: Build | None = None


def random_voice(rng: random.Random, *, held_out: bool = False, variety: float = 1.0) -> SyntheticVoice:
    """Draw a voice; held-out variants and training variants never mix. Those of training are often of another build,
    the oftener and the more so the larger `variety` is: who knows eighty voices by heart need not understand the next
    one. Held-out ones are what they are."""
    variants = HELD_OUT_VARIANTS if held_out else TRAINING_VARIANTS
    voice = SyntheticVoice(
        rng.choice(ACCENTS), rng.choice(variants), rng.randint(130, 210), rng.randint(20, 80), rng.randint(25, 80)
    )
    if held_out or rng.random() >= min(variety, 0.15 + 0.5 * variety):
        return voice
    return replace(voice, build=random_build(rng, variety))


def spanish_voice(like: SyntheticVoice, rng: random.Random) -> SyntheticVoice:
    """The same speaker, speaking Spanish."""
    return replace(like, accent=rng.choice(SPANISH_ACCENTS))


def agent_voices() -> tuple[SyntheticVoice, ...]:
    """Voices that stand in for the agent's own where it leaks back into the microphone."""
    variants = ("f1", "Annie", "linda", "m1", "Alex", "michel")
    return tuple(
        SyntheticVoice(ACCENTS[i % 2], variant, 150 + 8 * i, 35 + 6 * i, 50) for i, variant in enumerate(variants)
    )


class Espeak:
    """The engine. One per process: the library keeps global state."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise Missing('synthetic voices need espeak-ng: pip install "interplay[train]"') from error
        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        if self._rate <= 0:
            raise Missing("espeak-ng could not be initialised: reinstall espeakng-loader")
        # The breath of some voices is noise, seeded with the time of day unless told otherwise.
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._samples: list[np.ndarray] = []
        self._events: list[tuple[int, float]] = []
        self._callback = _Callback(self._collect)  # keep a reference: C holds only the pointer
        self._lib.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, count, events) -> int:
        if count > 0:
            # Not through ctypeslib.as_array: it makes, and ctypes keeps for ever, a type for every length there is.
            self._samples.append(np.frombuffer(ctypes.string_at(samples, 2 * count), np.int16))
        i = 0
        while events[i].type != 0:
            if events[i].type == _WORD_EVENT:
                self._events.append((events[i].text_position - 1, events[i].audio_position / 1000))
            i += 1
        return 0

    def speak(self, text: str, voice: SyntheticVoice) -> tuple[np.ndarray, list[tuple[str, float]]]:
        """Speak `text` (lower-case words separated by single spaces).

        Returns float32 audio at 16 kHz and [(word, end in seconds), ...]. Words the engine reported no start for
        get times interpolated over their letters.
        """
        self._samples.clear()
        self._events.clear()
        if self._lib.espeak_SetVoiceByName(f"{voice.accent}+{voice.variant}".encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.accent}+{voice.variant}")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        raw = text.encode()
        self._lib.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        self._lib.espeak_Synchronize()
        audio = np.concatenate(self._samples).astype(np.float32) / 32768 if self._samples else np.zeros(1, np.float32)
        words = _word_ends(text.split(), self._events, len(audio) / self._rate)
        return soxr.resample(audio, self._rate, INPUT_RATE, quality="QQ").astype(np.float32), words


def _word_ends(words: list[str], events: list[tuple[int, float]], seconds: float) -> list[tuple[str, float]]:
    letters = np.cumsum([0, *(len(w) + 1 for w in words)])
    known: dict[int, float] = {0: 0.0}
    for position, start in events:
        known.setdefault(int(np.searchsorted(letters, position, "right")) - 1, start)
    known[len(words)] = max(seconds - 0.05, 0.0)
    index = sorted(known)
    starts = np.interp(letters, letters[index], [known[i] for i in index])
    return [(word, float(end)) for word, end in zip(words, starts[1:], strict=True)]


@cache
def engine() -> Espeak:
    """The process-wide engine."""
    return Espeak()
