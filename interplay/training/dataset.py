"""A stream of training batches, composed on the fly: scenes become tensors, nothing is stored."""

from __future__ import annotations

import copy
import random
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from interplay.model.config import DECISIONS, MARKS, PREFIX_WORDS, SPEAK
from interplay.model.dmel import CHANNELS, FRAMES, quantize
from interplay.model.transformer import Inputs
from interplay.model.vocabulary import Vocabulary
from interplay.training.clips import Bank
from interplay.training.parallel import Share
from interplay.training.scenes import Composer, Mix, Scene
from interplay.training.scenes.stage import Stage
from interplay.training.scenes.world import again

LIVES = 20  # of the processes that make scenes, in one run


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes as tensors, leading axes (batch, turns) unless said; None where no scene has any.

    bins: uint8 (..., 10, 80). heard, said, event: int64 word ids of each micro-turn, 0 for none; voiced: those of a
    delivered text that the session's voice reads, fed back like said ones but nothing to predict. decision: int64.
    marks: bool (..., 4). prefix: int64 (batch, 48). proactivity: float (batch,). frames: uint8 (..., 80, 80, 3). seen:
    float32 (..., labels), what is in them (`video/seen.py`). tempting: bool, where silence is easily broken. times:
    float32 (..., 3), see Scene. start: micro-turns of the session that came before.
    """

    bins: Tensor
    heard: Tensor
    said: Tensor
    decision: Tensor
    proactivity: Tensor
    event: Tensor | None = None
    voiced: Tensor | None = None
    marks: Tensor | None = None
    prefix: Tensor | None = None
    frames: Tensor | None = None
    seen: Tensor | None = None
    tempting: Tensor | None = None
    times: Tensor | None = None
    start: int = 0

    def inputs(self, heard_before: Tensor | None = None) -> Inputs:
        """What the model sees. heard_before: what it is fed back of its hearing; default: the truth, one later."""
        before = later(self.heard) if heard_before is None else heard_before
        said = self.said if self.voiced is None else self.said.where(self.said > 0, self.voiced)
        more = (self.event, self.marks, self.prefix, self.proactivity, self.frames)
        return Inputs(self.bins, before, later(said), self.heard, *more, self.start)

    def to(self, device: str) -> Batch:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in own.items() if isinstance(t, Tensor)})


def _start(scenes: list[Scene], rng: random.Random) -> int:
    """Micro-turns of a session that came before these scenes: up to two hours; whole minutes if one is waited for."""
    start = rng.randrange(36_000)
    minute = any(request.kind == "minute" for scene in scenes for _, request in scene.requests)
    return start - start % 300 if minute else start


def later(words: Tensor) -> Tensor:
    """One micro-turn later: what is fed back."""
    return torch.cat([torch.zeros_like(words[:, :1]), words[:, :-1]], 1)


def targets(events: list[tuple[int, str]], turns: int, vocabulary: Vocabulary) -> np.ndarray:
    """int64 (turns,): word ids at their micro-turns, 0 elsewhere. A word that is spelled in pieces takes one micro-turn
    for each; what comes after it waits, and what does not fit is left out."""
    ids = np.zeros(turns, np.int64)
    free = 0
    for due, word in events:
        for piece in vocabulary.spell(word):
            turn = max(due, free)
            if turn < turns:
                ids[turn] = piece
            free = turn + 1
    return ids


def collate(scenes: list[Scene], vocabulary: Vocabulary) -> Batch:
    """Scenes of equal length to tensors."""
    turns = len(scenes[0].power) // FRAMES
    bins = np.stack([quantize(scene.power).reshape(turns, FRAMES, CHANNELS) for scene in scenes])
    heard = np.stack([targets(scene.heard, turns, vocabulary) for scene in scenes])
    said = np.stack([targets(scene.said, turns, vocabulary) for scene in scenes])
    decision = (said > 0).astype(np.int64) * SPEAK
    marks = np.zeros((len(scenes), turns, len(MARKS)), bool)
    for i, scene in enumerate(scenes):
        for turn, name in scene.decisions.items():
            decision[i, turn] = DECISIONS.index(name)
        for number, name in enumerate(MARKS):
            marks[i, [turn for turn in getattr(scene, name) if turn < turns], number] = True
    batch = Batch(
        torch.from_numpy(bins),
        torch.from_numpy(heard),
        torch.from_numpy(said),
        torch.from_numpy(decision),
        torch.tensor([scene.proactivity for scene in scenes]),
    )
    if any(scene.events for scene in scenes):
        events = np.stack([targets(scene.events, turns, vocabulary) for scene in scenes])
        batch = replace(batch, event=torch.from_numpy(events))
    if any(scene.voiced for scene in scenes):
        voiced = np.stack([targets(scene.voiced, turns, vocabulary) for scene in scenes])
        batch = replace(batch, voiced=torch.from_numpy(voiced))
    if marks.any():
        batch = replace(batch, marks=torch.from_numpy(marks))
    if any(scene.prefix for scene in scenes):
        batch = replace(batch, prefix=torch.from_numpy(prefixes([s.prefix for s in scenes], vocabulary)))
    if any(scene.frames is not None for scene in scenes):
        blank = np.zeros((turns, 80, 80, 3), np.uint8)
        frames = np.stack([blank if scene.frames is None else scene.frames for scene in scenes])
        batch = replace(batch, frames=torch.from_numpy(frames))
    if any(scene.tempting for scene in scenes):
        tempting = np.zeros((len(scenes), turns), bool)
        for row, scene in zip(tempting, scenes, strict=True):
            row[list(scene.tempting)] = True
        batch = replace(batch, tempting=torch.from_numpy(tempting))
    times = [scene.times for scene in scenes if scene.times is not None]
    if len(times) == len(scenes):
        batch = replace(batch, times=torch.from_numpy(np.stack(times)))
    labels = [scene.seen for scene in scenes if scene.seen is not None]
    if len(labels) == len(scenes):
        batch = replace(batch, seen=torch.from_numpy(np.stack(labels)))
    return batch


def prefixes(words: Sequence[Sequence[str]], vocabulary: Vocabulary) -> np.ndarray:
    """int64 (batch, 48): ids of each prefix, 0 after its end; words beyond the room are left out."""
    ids = np.zeros((len(words), PREFIX_WORDS), np.int64)
    for row, prefix in zip(ids, words, strict=True):
        spelled = [piece for word in prefix for piece in vocabulary.spell(word)][:PREFIX_WORDS]
        row[: len(spelled)] = spelled
    return ids


class SceneStream(IterableDataset):
    """Batch `k` of run `seed` always has the same words and conditions: a resumed run continues the stream.

    Not to the sample: espeak-ng carries a little state from one sentence to the next (flutter, breath).

    lengths: [(turns, scenes per batch, weight), ...]; each batch draws one of them. Batches before `warmup` use the
    first only. video: share of batches whose scenes have pictures; they have half as many scenes. share: this process's
    part of every batch. takes: how many batches every scene is in, `APART` batches apart and each time with other
    voices, rooms and losses: composing a scene costs about as much as learning from it. Films come again as they are.
    near: from this batch on, speakers are nearer to their recordings (`NEAR` of the mix's variety).
    """

    APART = 24
    NEAR = 0.5

    def __init__(
        self,
        vocabulary: Vocabulary,
        folders: list[Path],
        *,
        seed: int | str,
        start: int,
        lengths: list[tuple[int, int, float]],
        warmup: int = 0,
        held_out: frozenset[str] = frozenset(),
        mix: Mix | None = None,
        video: float = 0.0,
        share: Share | None = None,
        takes: int = 1,
        near: int | None = None,
    ) -> None:
        self.share, self.video, self.takes = share or Share(), video, takes
        self._performed: dict[int, list[tuple[Stage | None, Scene]]] = {}
        self.vocabulary, self.folders, self.seed, self.start = vocabulary, folders, seed, start
        self.shapes = seed  # of batches: the same in all ranks, even where one has to go on with other scenes
        self.lengths, self.warmup, self.held_out, self.mix = lengths, warmup, held_out, mix or Mix()
        self.near = near

    def restarted(self, seed: str, start: int) -> SceneStream:
        """The same kind of scenes, others, from batch `start` on."""
        other = copy.copy(self)
        other.seed, other.start, other._performed = seed, start, {}
        return other

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
        """Batch number `step`; the same again whenever it is asked for."""
        lap, place = divmod(step, self.APART * self.takes)
        take, place = divmod(place, self.APART)
        number = lap * self.APART + place  # of what is performed
        performed = self._performed.pop(number, None) or self._perform(number, bank)
        if take + 1 < self.takes:
            self._performed[number] = performed
        rng = random.Random(f"{self.seed}/{step}/{self.share.rank}")
        scenes = [scene if stage is None else again(stage, scene, rng) for stage, scene in performed]
        return replace(collate(scenes, self.vocabulary), start=_start(scenes, rng))

    def _perform(self, number: int, bank: Bank | None) -> list[tuple[Stage | None, Scene]]:
        """The scenes of batch `number`, with their stages, which films have not."""
        rng = random.Random(f"{self.seed}/{number}/{self.share.rank}/performed")
        common = random.Random(f"{self.shapes}/{number}")  # all ranks draw the same shapes: they wait for each other
        mix, (lap, place) = self.mix, divmod(number, self.APART)
        first = lap * self.APART * self.takes + place  # batch that it is in
        if self.near is not None and first >= self.near:
            mix = replace(mix, variety=self.NEAR * mix.variety)
        if bank is not None:
            bank.variety = mix.variety
        turns, count, _ = self.lengths[0]
        if first >= self.warmup:
            turns, count, _ = common.choices(self.lengths, [weight for *_, weight in self.lengths])[0]
        if common.random() < self.video:
            from interplay.training.video.scenes import video_scene  # needs an image library; only eyes do

            count = max(1, count // 2 // self.share.count)
            return [(None, video_scene(rng, turns, bank=bank)) for _ in range(count)]
        return [Composer(rng, turns, bank, mix).perform() for _ in range(max(1, count // self.share.count))]


def stream(dataset: SceneStream, *, workers: int) -> Iterator[Batch]:
    """Batches made ahead of time by `workers` processes (at least one).

    espeak-ng crashes on a few sentences, the same ones every time. A run of hours outlives that: where a
    worker dies, new ones go on from the batch that was waited for, with other scenes. Raises RuntimeError when they
    have died `LIVES` times.
    """
    step, seed = dataset.start, dataset.seed
    for life in range(1, LIVES + 1):
        loader = DataLoader(
            dataset, batch_size=None, num_workers=workers, prefetch_factor=6, multiprocessing_context="spawn"
        )
        batches = iter(loader)
        # torch would raise wherever the training happens to be, in the middle of a step; waiting for a batch tells too.
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            try:
                batch = next(batches)
            except RuntimeError as error:
                if "exited unexpectedly" not in str(error) or life == LIVES:
                    raise
                del batches
                warnings.warn(f"a process that makes scenes died at batch {step}; other scenes from here", stacklevel=2)
                dataset = dataset.restarted(f"{seed}/{life}", step)
                break
            yield batch
            step += 1
