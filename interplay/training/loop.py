"""The training loop: batches in, checkpoint out; resumes where it was, logs as it goes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.model import checkpoint
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import Vocabulary
from interplay.training import evaluate, optimizer
from interplay.training.clips import Bank, read_index
from interplay.training.dataset import Batch, SceneStream, stream
from interplay.training.language import base_vocabulary
from interplay.training.recipe import Recipe, TrainSettings
from interplay.training.scenes import Scene


@dataclass(slots=True)
class Progress:
    """What the loop tells whoever watches it, once per step."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    scores: dict[str, dict[str, float]] | None = None


def loss_of(model: InteractionModel, batch: Batch, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Hearing + whether to speak + what to say. Micro-turns with speech weigh `speak_weight` times more."""
    heard_before, said_before = (_corrupt(t, settings, generator, len(model.words)) for t in batch.feedback())
    device = model.words.device
    bins, heard, said = batch.bins.to(device), batch.heard.to(device), batch.said.to(device)
    out = model(bins, heard_before.to(device), said_before.to(device))
    speak = said > 0
    weight = 1 + (settings.speak_weight - 1) * speak.float()
    hearing = F.cross_entropy(out.heard.flatten(0, 1).float(), heard.flatten())
    deciding = F.cross_entropy(out.decision.flatten(0, 1).float(), speak.long().flatten(), reduction="none")
    wording = F.cross_entropy(out.said.flatten(0, 1).float(), said.flatten(), reduction="none")
    # Where silence is right there is nothing to word: the decision head alone learns silence.
    return hearing + (weight.flatten() * deciding).mean() + settings.speak_weight * (wording * speak.flatten()).mean()


def _corrupt(words: Tensor, settings: TrainSettings, generator: torch.Generator, size: int) -> Tensor:
    """Live, the model is fed its own mistakes: a few fed-back words are dropped or replaced."""
    hit = torch.rand(words.shape, generator=generator) < settings.feedback_noise
    other = torch.randint(2, size, words.shape, generator=generator)
    other = torch.where(torch.rand(words.shape, generator=generator) < 0.5, other, 0)
    return torch.where(hit & (words > 0), other, words)


def schedule(step: int, settings: TrainSettings) -> float:
    """Learning-rate factor: warm-up, constant, linear decay to 2 %."""
    start = settings.decay_from * settings.steps
    decay = 1.0 if step < start else max(0.02, 1 - (step - start) / (settings.steps - start))
    return min(1.0, (step + 1) / settings.warmup) * decay


def vocabulary_for(recipe: Recipe, folders: list[Path]) -> Vocabulary:
    """The words of the templates plus the frequent words of the recordings, sorted."""
    counts = Counter(word for folder in folders for row in read_index(folder) for word, _ in row.words)
    frequent = {word for word, count in counts.items() if count >= recipe.data.min_count}
    return Vocabulary(sorted(frequent | set(base_vocabulary())))


def train(
    recipe: Recipe,
    out: Path,
    folders: list[Path],
    *,
    device: str = "cpu",
    resume: bool = False,
    start_from: Path | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train `recipe` into `out`: `model.safetensors`, `state.pt` (to resume), `log.jsonl`. Returns the checkpoint.

    start_from: weights of an earlier checkpoint of the same shape; its vocabulary is kept and extended.
    """
    torch.manual_seed(recipe.seed)
    settings = recipe.train
    out.mkdir(parents=True, exist_ok=True)
    held_out = frozenset(recipe.data.held_out)
    state_path, log_path = out / "state.pt", out / "log.jsonl"
    saved = torch.load(state_path, weights_only=True) if resume and state_path.is_file() else None
    if saved:
        vocabulary = Vocabulary.from_list(saved["vocabulary"])
        model = InteractionModel(recipe.model, len(vocabulary))
        model.load_state_dict(saved["model"])
    elif start_from:
        model, vocabulary = _grown(start_from, vocabulary_for(recipe, folders))
    else:
        vocabulary = vocabulary_for(recipe, folders)
        model = InteractionModel(recipe.model, len(vocabulary))
    model.to(device).train()
    optimizers = optimizer.build(model, settings.lr)
    first = 0
    if saved:
        first = saved["step"]
        for each, state in zip(optimizers, saved["optimizers"], strict=True):
            each.load_state_dict(state)
    rates = [[group["lr"] for group in each.param_groups] for each in optimizers]
    if saved:
        rates = saved["rates"]
    tests = _tests(folders, held_out)
    dataset = SceneStream(
        vocabulary, folders, seed=recipe.seed, start=first, lengths=list(settings.lengths),
        warmup=settings.long_after, held_out=held_out,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(recipe.seed + first)
    autocast = device.startswith("cuda")  # bf16 pays where the hardware has it; many CPUs only emulate it
    began = time.perf_counter()
    with log_path.open("a") as log:
        for step, batch in zip(range(first, settings.steps), stream(dataset, workers=settings.workers), strict=False):
            factor = schedule(step, settings)
            for each, base in zip(optimizers, rates, strict=True):
                for group, rate in zip(each.param_groups, base, strict=True):
                    group["lr"] = rate * factor
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=autocast):
                loss = loss_of(model, batch, settings, generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for each in optimizers:
                each.step()
                each.zero_grad()
            done = step + 1
            progress = Progress(done, settings.steps, loss.item(), (time.perf_counter() - began) / (done - first))
            if not done % settings.evaluate_every or done == settings.steps:
                # Saved before it is tested: whatever happens in the test, the work is kept.
                torch.save(
                    {
                        "step": done,
                        "model": model.state_dict(),
                        "vocabulary": vocabulary.words,
                        "rates": rates,
                        "optimizers": [each.state_dict() for each in optimizers],
                    },
                    state_path,
                )
                progress.scores = scores(model, vocabulary, tests)
                note = {"recipe": recipe.name, "step": done, "scores": progress.scores}
                checkpoint.save(out / "model.safetensors", model, vocabulary, note=note)
            _write(log, progress)
            watch(progress)
    return out / "model.safetensors"


def _grown(path: Path, wanted: Vocabulary) -> tuple[InteractionModel, Vocabulary]:
    """An earlier model with its vocabulary extended to `wanted`: new words start as small random vectors."""
    old, known, _ = checkpoint.load(path)
    vocabulary = known.extended(wanted.words[2:])
    model = InteractionModel(old.config, len(vocabulary))
    weights = old.state_dict()
    fresh = model.words.detach()[len(known) :]
    weights["words"] = torch.cat([weights["words"], fresh])
    model.load_state_dict(weights)
    return model, vocabulary


def _tests(folders: list[Path], held_out: frozenset[str]) -> dict[str, list[Scene]]:
    tests = evaluate.held_out_scenes(24)
    if folders and held_out:
        bank = Bank(folders, held_out=held_out, keep_only=True)
        if len(bank):
            tests["natural"] = evaluate.natural_scenes(bank, 32)
    return tests


def scores(
    model: InteractionModel, vocabulary: Vocabulary, tests: dict[str, list[Scene]]
) -> dict[str, dict[str, float]]:
    """Closed-loop scores of each group of test scenes."""
    model.eval()
    found = {
        name: evaluate.score(scenes, *evaluate.listen(model, vocabulary, scenes)) for name, scenes in tests.items()
    }
    model.train()
    return found


def _write(log, progress: Progress) -> None:
    row: dict[str, object] = {"step": progress.step, "loss": round(progress.loss, 4)}
    row["s_per_step"] = round(progress.seconds_per_step, 3)
    if progress.scores:
        row["scores"] = {
            name: {key: round(value, 4) for key, value in group.items()} for name, group in progress.scores.items()
        }
    log.write(json.dumps(row) + "\n")
    log.flush()
