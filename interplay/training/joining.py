"""`interplay voicebank --join FOLDER`: recordings of single words become utterances of several, with word ends.

Collections of people who say one word at a time (Free Spoken Digit Dataset, Speech Commands) name the word and the
speaker of each file and no times. The silence around a word is cut, what is left is brought to one level, and one to
five words of one speaker are put one after the other with short gaps.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import soundfile

from interplay.core.audio import load_audio
from interplay.core.types import INPUT_RATE, BadInput
from interplay.model.vocabulary import tokens
from interplay.training.clips import new_index, read_records

LEVEL = 0.06  # RMS of a word, about what the other data folders have
GAPS_S = (0.05, 0.1, 0.2, 0.4)
COUNTS = (1, 1, 2, 3, 4, 5)  # words of an utterance
TAIL_S = 0.15
SILENT = 0.003  # of a recording's peak power
MARGIN = INPUT_RATE // 100
SMOOTH = INPUT_RATE // 50


def join(
    source: Path, out: Path, count: int, *, speakers: Collection[str] = (), seed: int = 0,
    watch: Callable[[int], None] = lambda _: None,
) -> Path:  # fmt: skip
    """Write `count` utterances (16 kHz FLAC) and `index.jsonl` into `out`. source: a folder with an `index.jsonl` of
    `file`, `text` of one word, `speaker`. speakers: whom to take, default: all, in equal parts.

    Raises BadInput if `out` holds a data folder already, or `source` has no such recordings.
    """
    rows = _single_words(source, speakers)
    missing = set(speakers) - set(rows)
    if missing or not rows:
        raise BadInput(f"{source}: no recordings of single words by {', '.join(sorted(missing)) or 'anybody'}")
    index = new_index(out)
    rng, cut = random.Random(seed), {}
    names = sorted(rows)
    with index.open("w") as lines:
        for number in range(count):
            speaker = names[number % len(names)]
            chosen = [rng.choice(rows[speaker]) for _ in range(rng.choice(COUNTS))]
            parts, words, at = [], [], 0
            for path, word in chosen:
                if path not in cut:
                    cut[path] = _word(path)
                gap = TAIL_S if len(words) == len(chosen) - 1 else rng.choice(GAPS_S)
                parts += [cut[path], np.zeros(int(gap * INPUT_RATE), np.float32)]
                words.append([word, round((at + len(cut[path]) - MARGIN) / INPUT_RATE, 3)])
                at += len(parts[-2]) + len(parts[-1])
            name = f"{seed:02d}_{number:05d}.flac"
            soundfile.write(out / name, np.clip(np.concatenate(parts), -1, 1), INPUT_RATE)
            row = {
                "file": name, "text": " ".join(word for word, _ in words), "speaker": speaker,
                "seconds": round(at / INPUT_RATE, 2), "words": words,
            }  # fmt: skip
            lines.write(json.dumps(row) + "\n")
            watch(number + 1)
    return index


def _single_words(source: Path, speakers: Collection[str]) -> dict[str, list[tuple[Path, str]]]:
    """speaker -> (file, word) of each recording of one word."""
    rows: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for path, words, speaker in read_records(
        source, lambda record: (source / record["file"], tokens(record["text"]), str(record.get("speaker", "")))
    ):
        if len(words) == 1 and (not speakers or speaker in speakers):
            rows[speaker].append((path, words[0]))
    return rows


def _word(path: Path) -> np.ndarray:
    """The word in a recording at `LEVEL`, float32 at 16 kHz, with 10 ms around it. Raises BadInput if unreadable."""
    mono = load_audio(path)
    power = np.convolve(mono**2, np.ones(SMOOTH) / SMOOTH, "same")
    loud = np.flatnonzero(power > power.max(initial=0) * SILENT)
    if not len(loud):
        raise BadInput(f"{path}: there is nothing to be heard in it")
    word = mono[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN]
    return (word * (LEVEL / np.sqrt((word**2).mean()))).astype(np.float32)
