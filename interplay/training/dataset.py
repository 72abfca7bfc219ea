"""A stream of training batches, composed on the fly: scenes become tensors, nothing is stored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from interplay.model.dmel import CHANNELS, FRAMES, quantize
from interplay.model.vocabulary import Vocabulary
from interplay.training.clips import Bank
from interplay.training.parallel import Share
from interplay.training.scenes import Composer, Mix, Scene


@dataclass(frozen=True, slots=True)
class Batch:
    """bins: uint8 (batch, turns, 10, 80). heard, said: int64 (batch, turns), what is due in each micro-turn."""

    bins: Tensor
    heard: Tensor
    said: Tensor

    def feedback(self) -> tuple[Tensor, Tensor]:
        """What the model is fed back: the due words, one micro-turn later."""
        return _later(self.heard), _later(self.said)


def _later(words: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(words[:, :1]), words[:, :-1]], 1)


def targets(events: list[tuple[int, str]], turns: int, vocabulary: Vocabulary) -> np.ndarray:
    """int64 (turns,): word ids at their micro-turns, 0 elsewhere."""
    ids = np.zeros(turns, np.int64)
    for turn, word in events:
        ids[turn] = vocabulary.id(word)
    return ids


def collate(scenes: list[Scene], vocabulary: Vocabulary) -> Batch:
    """Scenes of equal length to tensors."""
    turns = len(scenes[0].power) // FRAMES
    bins = np.stack([quantize(scene.power).reshape(turns, FRAMES, CHANNELS) for scene in scenes])
    heard = np.stack([targets(scene.heard, turns, vocabulary) for scene in scenes])
    said = np.stack([targets(scene.said, turns, vocabulary) for scene in scenes])
    return Batch(torch.from_numpy(bins), torch.from_numpy(heard), torch.from_numpy(said))


class SceneStream(IterableDataset):
    """Batch `k` of run `seed` always has the same words and conditions: a resumed run continues the stream.

    Not to the sample: espeak-ng carries a little state from one sentence to the next (flutter, breath).

    lengths: [(turns, scenes per batch, weight), ...]; each batch draws one of them. Batches before `warmup` use the
    first only. share: this process's part of every batch.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        folders: list[Path],
        *,
        seed: int,
        start: int,
        lengths: list[tuple[int, int, float]],
        warmup: int = 0,
        held_out: frozenset[str] = frozenset(),
        mix: Mix | None = None,
        share: Share | None = None,
    ) -> None:
        self.share = share or Share()
        self.vocabulary, self.folders, self.seed, self.start = vocabulary, folders, seed, start
        self.lengths, self.warmup, self.held_out, self.mix = lengths, warmup, held_out, mix or Mix()

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        torch.set_num_threads(1)
        bank = Bank(self.folders, held_out=self.held_out) if self.folders else None
        step = self.start + worker
        while True:
            yield self.batch(step, bank)
            step += workers

    def batch(self, step: int, bank: Bank | None) -> Batch:
        turns, count, _ = self.lengths[0]
        if step >= self.warmup:  # all ranks draw the same length: they wait for each other
            common = random.Random(f"{self.seed}/{step}")
            turns, count, _ = common.choices(self.lengths, [weight for *_, weight in self.lengths])[0]
        rng = random.Random(f"{self.seed}/{step}/{self.share.rank}")
        count = max(1, count // self.share.count)
        return collate([Composer(rng, turns, bank, self.mix).compose() for _ in range(count)], self.vocabulary)


def stream(dataset: SceneStream, *, workers: int) -> DataLoader[Batch]:
    """Batches made ahead of time by `workers` processes (at least one)."""
    return DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=6, multiprocessing_context="spawn")
