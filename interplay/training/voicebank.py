"""`interplay voicebank`: make a data folder of neural speech with exact word times, for training.

The agent's own text-to-speech says requests and chatter of the closed world; pace and pitch are varied by speaking
faster or slower and by resampling (a shift of pitch and formants together, as another speaker would have). The model
of the voice knows when each phoneme starts, so the word ends in the index are not estimates.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from interplay.core.types import INPUT_RATE, OUTPUT_RATE
from interplay.training.clips import new_index
from interplay.training.language import NUMBERS, write_chatter, write_request
from interplay.voice.engine import HibariEngine

SPEEDS = (0.85, 0.95, 1.05, 1.15, 1.25)
KINDS = (
    *("every", "after", "cue", "cue", "chatter") * 4, *("stop", "clock", "elapsed", "count_to", "question") * 2,
    "repeat", "task", "sum", "story", "since", "to_spanish", "to_english", "hush", "resume", "withdraw", "tell",
)  # fmt: skip
COUNTED = tuple(word for word, n in NUMBERS.items() if n >= 2)


def sentence(rng: random.Random) -> str:
    """One line to speak."""
    kind = rng.choice(KINDS)
    if kind == "chatter":
        return write_chatter(rng, breadth=0.2)
    return write_request(kind, rng, seconds=COUNTED, avoid=frozenset(), breadth=0.1, looseness=0.6)


def make(out: Path, count: int, *, seed: int = 0, watch: Callable[[int], None] = lambda _: None) -> Path:
    """Write `count` clips (16 kHz FLAC) and `index.jsonl` into `out`. Raises BadInput if `out` holds one already."""
    index = new_index(out)
    rng = random.Random(seed)
    engines = {speed: HibariEngine(speed=speed, seed=seed, cache_mb=2) for speed in SPEEDS}
    with index.open("w") as rows:
        for number in range(count):
            text, speed, pitch = sentence(rng), rng.choice(SPEEDS), rng.uniform(0.78, 1.2)
            clip = engines[speed].render(text.split())
            # Played `pitch` times faster: pitch and formants move together, and all times shrink by it.
            audio = soxr.resample(clip.audio, OUTPUT_RATE * pitch, INPUT_RATE).astype(np.float32)
            length = len(clip.audio) / OUTPUT_RATE
            starts = [at / OUTPUT_RATE for _, at in clip.words] + [length]
            words = [
                [word, round(end / pitch, 3)] for (word, _), end in zip(clip.words, starts[1:], strict=True)
            ]  # fmt: skip
            if [word for word, _ in words] != text.split():
                continue  # a word without a sound of its own has no time to learn from
            name = f"{seed:02d}_{number:05d}.flac"
            pad = np.zeros(INPUT_RATE // 10, np.float32)
            soundfile.write(out / name, np.concatenate([audio, pad]), INPUT_RATE)
            row = {
                "file": name, "text": text, "voice": f"hibari-{engines[speed].name}", "speed": speed,
                "pitch": round(pitch, 3), "seconds": round(len(audio) / INPUT_RATE + 0.1, 2), "words": words,
            }  # fmt: skip
            rows.write(json.dumps(row) + "\n")
            watch(number + 1)
    return index
