"""Hearing: word error rate of the model's own `heard` stream."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np

from interplay.bench.runner import play
from interplay.bench.task import Result, Setup
from interplay.core.types import INPUT_RATE, BadInput
from interplay.foreground.base import Foreground
from interplay.model.vocabulary import tokens
from interplay.training.espeak import engine, random_voice
from interplay.training.evaluate import edit_distance
from interplay.training.language import write_chatter, write_request
from interplay.voice.base import SilentVoice

KINDS = ("every", "after", "cue", "repeat", "stop", "chatter", "chatter", "chatter")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def run(setup: Setup) -> Result:
    n, seed = setup.n, setup.seed
    if setup.voices not in ("held-out", "training"):
        folder, _, only = setup.voices.partition(":")
        chosen = frozenset(filter(None, only.split(",")))
        return Result(n, {"wer_recorded": recorded_error_rate(setup.mind, Path(folder), n, seed, chosen)})
    held_out = setup.voices == "held-out"
    rates = {
        f"wer_{name}": word_error_rate(setup.mind, n, seed, snr, held_out=held_out)
        for name, snr in (("clean", None), ("15db", 15.0), ("10db", 10.0))
    }
    return Result(n, rates)


def sentence(rng: random.Random) -> str:
    """A request or chatter of the closed world."""
    kind = rng.choice(KINDS)
    return write_chatter(rng) if kind == "chatter" else write_request(kind, rng, seconds=NUMBERS, avoid=frozenset())


def noisy(audio: np.ndarray, snr_db: float | None, seed: int) -> np.ndarray:
    """Speech at an RMS of 0.06 with white noise `snr_db` below it, 0.4 s of it before and 1 s after."""
    level = np.float32(0.06 / max(float(np.sqrt((audio**2).mean())), 1e-6))
    padded = np.concatenate([np.zeros(INPUT_RATE * 2 // 5), audio * level, np.zeros(INPUT_RATE)]).astype(np.float32)
    if snr_db is None:
        return padded
    noise = np.random.default_rng(seed).standard_normal(len(padded)).astype(np.float32)
    return padded + noise * np.float32(0.06 * 10 ** (-snr_db / 20))


def word_error_rate(foreground: Foreground, n: int, seed: int, snr_db: float | None, *, held_out: bool) -> float:
    """Percent, over `n` sentences by synthetic voices, each its own session, nothing known about the speaker."""
    errors = words = 0
    for i in range(n):
        rng = random.Random(f"hearing/{seed}/{i}")
        text = sentence(rng)
        audio, _ = engine().speak(text, random_voice(rng, held_out=held_out))
        run = asyncio.run(play(foreground, SilentVoice(), noisy(audio, snr_db, i)))
        errors += edit_distance(text.split(), list(run.heard))
        words += len(text.split())
    return 100 * errors / words


def recorded_error_rate(foreground: Foreground, folder: Path, n: int, seed: int, only: frozenset[str]) -> float:
    """Percent, over `n` clips of a data folder (index.jsonl), as recorded. only: take these voices alone."""
    import json

    import soundfile
    import soxr

    try:
        rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: no usable index.jsonl ({error})") from error
    if only:
        rows = [r for r in rows if {part.split("*")[0] for part in str(r.get("voice", "")).split("+")} & only]
    if not rows:
        raise BadInput(f"{folder}: no clips by {', '.join(sorted(only)) or 'anyone'}")
    random.Random(seed).shuffle(rows)
    errors = words = 0
    for i, row in enumerate(rows[:n]):
        audio, rate = soundfile.read(folder / row["file"], dtype="float32", always_2d=True)
        mono = soxr.resample(audio.mean(1), rate, INPUT_RATE).astype(np.float32)
        run = asyncio.run(play(foreground, SilentVoice(), noisy(mono, None, i)))
        reference = tokens(row["text"])
        errors += edit_distance(reference, list(run.heard))
        words += len(reference)
    return 100 * errors / words
