"""Hearing: word error rate of the model's own `heard` stream, clean and under noise."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from interplay.bench.item import Item
from interplay.bench.mixing import mix
from interplay.bench.people import Cast, is_neural
from interplay.bench.pool import ItemTask, Row, Summary
from interplay.bench.pool import run as run_items
from interplay.bench.runner import Player
from interplay.bench.stats import bootstrap
from interplay.bench.task import Result, Setup
from interplay.training.evaluate import edit_distance
from interplay.voice.base import SilentVoice

LEVELS: dict[str, float | None] = {"clean": None, "15db": 15.0, "10db": 10.0}
BEFORE_S, AFTER_S = 0.4, 1.0


def make(category: str, rng: random.Random, cast: Cast) -> Item:
    """One sentence, nothing known about its speaker."""
    utterance = cast.person(rng).sentence(rng)
    words = tuple((word, BEFORE_S + end) for word, end in utterance.words)
    facts = {"speech": utterance.audio, "seed": rng.randrange(1 << 31), "speaker": utterance.speaker}
    seconds = BEFORE_S + utterance.seconds + AFTER_S
    return Item("hearing", category, np.zeros(int(seconds * 16_000), np.float32), words, facts=facts)


def perform(item: Item, player: Player) -> Row:
    """The same sentence in a session of its own at every level; without a voice: only what is heard counts."""
    deaf = Player(player.mind, None if player.mind.capabilities.speaks else SilentVoice())
    reference = [word for word, _ in item.words]
    row: Row = {"category": item.category, "words": len(reference), "speaker": item.facts["speaker"]}
    for name, snr in LEVELS.items():
        parts = [(BEFORE_S, item.facts["speech"])]
        audio = mix(parts, item.seconds, snr_db=snr, seed=item.facts["seed"])
        heard = deaf.play(Item("hearing", item.category, audio, item.words)).heard
        row[f"errors_{name}"] = edit_distance(reference, list(heard))
        if name == "clean":
            row |= {"reference": " ".join(reference), "heard": " ".join(heard)}
    row["right"] = row["errors_clean"] == 0
    return row


def summarise(rows: list[Row]) -> Summary:
    """Errors per reference word in percent; the interval resamples whole sentences."""
    metrics, intervals = {}, {}
    words = np.array([row["words"] for row in rows], float)
    for name in LEVELS:
        errors = np.array([row[f"errors_{name}"] for row in rows], float)
        metrics[f"wer_{name}"] = 100 * errors.sum() / max(words.sum(), 1)
        both = np.stack([errors, words], axis=1)
        intervals[f"wer_{name}"] = bootstrap(both, lambda x: 100 * x[..., 0].sum(1) / np.maximum(x[..., 1].sum(1), 1))
    return metrics, intervals


TASK = ItemTask("hearing", ("sentences",), make, perform, summarise)


def run(setup: Setup) -> Result:
    """wer_human is the error rate of the column of people, under the name that reports rely on."""
    result = run_items("interplay.bench.hearing:TASK", setup)
    result.notes["snr_db"] = "none, 15, 10"
    folder = Path(setup.voices.partition(":")[0])
    people = folder.is_dir() and not is_neural(folder)
    source = "wer_clean_human" if "wer_clean_human" in result.metrics else "wer_clean" if people else ""
    if source in result.metrics:
        result.metrics["wer_human"] = result.metrics[source]
        result.interval["wer_human"] = result.interval[source]
    return result
