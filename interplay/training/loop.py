"""The training loop: batches in, checkpoint out; resumes where it was, logs as it goes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.core.types import BadInput
from interplay.model import checkpoint
from interplay.model.blocks import Block
from interplay.model.config import BACKCHANNEL, LISTEN, ModelConfig
from interplay.model.experts import Experts
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import PIECES, Vocabulary
from interplay.training import evaluate, optimizer, precision
from interplay.training.clips import Bank, read_index
from interplay.training.dataset import Batch, SceneStream, later, stream
from interplay.training.language import base_vocabulary
from interplay.training.parallel import Share
from interplay.training.recipe import Recipe, TrainSettings
from interplay.training.scenes import Scene
from interplay.training.witness import Witness


@dataclass(slots=True)
class Progress:
    """What the loop tells whoever watches it, once per step."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    scores: dict[str, dict[str, float]] | None = None


def _ignore(_: Progress) -> None:
    return None


def loss_of(
    model: InteractionModel,
    batch: Batch,
    settings: TrainSettings,
    generator: torch.Generator,
    witness: Witness | None = None,
) -> Tensor:
    """Hearing + whether to speak + what to say, and what a witness asks beside.

    Micro-turns with speech weigh `speak_weight` times more, but for signs of listening: one too few is better than one
    too many. So do those in which it is tempting to speak."""
    before = _corrupt(later(batch.heard), settings, generator, len(model.words))
    batch, before = batch.to(str(model.words.device)), before.to(model.words.device)
    acts, words = batch.decision != LISTEN, batch.said > 0
    out = model(batch.inputs(before), words)
    weighty = acts & (batch.decision != BACKCHANNEL)
    if batch.tempting is not None:
        weighty = weighty | batch.tempting
    weight = 1 + (settings.speak_weight - 1) * weighty.float()
    hearing = F.cross_entropy(out.heard.flatten(0, 1).float(), batch.heard.flatten(), reduction="none")
    deciding = F.cross_entropy(out.decision.flatten(0, 1).float(), batch.decision.flatten(), reduction="none")
    # Where silence is right there is nothing to word: the decision head alone learns silence.
    wording = F.nll_loss(out.said.float(), batch.said[words], reduction="sum") / words.numel()
    hearing = (hearing * (1 + (settings.word_weight - 1) * (batch.heard.flatten() > 0))).mean()
    loss = hearing + (weight.flatten() * deciding).mean() + settings.speak_weight * wording
    if witness is not None:
        loss = loss + witness(out, batch, settings)
    return loss


def _corrupt(words: Tensor, settings: TrainSettings, generator: torch.Generator, size: int) -> Tensor:
    """Make fed-back heard words as unreliable as they will be live, and more.

    A few are replaced or dropped. In a share of scenes a third, in as many all of them are dropped: sentences of a
    small grammar are easy to guess from their beginning, and a model that may guess does not learn to listen.
    """
    shape = words.shape
    hit = torch.rand(shape, generator=generator) < settings.feedback_noise
    other = torch.randint(2, size, shape, generator=generator)
    other = torch.where(torch.rand(shape, generator=generator) < 0.5, other, 0)
    words = torch.where(hit & (words > 0), other, words)
    scene = torch.rand(shape[:1], generator=generator)[:, None]
    rate = torch.where(scene < settings.feedback_drop / 2, 1.0, torch.where(scene < settings.feedback_drop, 0.33, 0.0))
    return torch.where(torch.rand(shape, generator=generator) < rate, 0, words)


def schedule(step: int, settings: TrainSettings) -> float:
    """Learning-rate factor: warm-up, constant, linear decay to 2 %."""
    start = settings.decay_from * settings.steps
    decay = 1.0 if step < start else max(0.02, 1 - (step - start) / (settings.steps - start))
    return min(1.0, (step + 1) / settings.warmup) * decay


def vocabulary_for(recipe: Recipe, folders: Iterable[Path]) -> Vocabulary:
    """The words of the closed world, of what is asked of the eyes if there are any, and the frequent words of the
    recordings, sorted; then the pieces to spell all others with."""
    counts = Counter(word for folder in folders for row in read_index(folder) for word, _ in row.words)
    words = {word for word, count in counts.items() if count >= recipe.data.min_count} | set(base_vocabulary())
    if recipe.data.video:
        from interplay.training.video import asking  # needs an image library

        words |= set(asking.words())
    return Vocabulary([*sorted(words), *PIECES])


@dataclass(frozen=True, slots=True)
class Run:
    """What to train, into which folder, from what. start_from: weights of an earlier checkpoint of the same shape;
    its vocabulary is kept and extended."""

    recipe: Recipe
    out: Path
    folders: tuple[Path, ...] = ()
    device: str = "cpu"
    resume: bool = False
    start_from: Path | None = None

    @property
    def checkpoint(self) -> Path:
        return self.out / "model.safetensors"

    @property
    def state(self) -> Path:
        return self.out / "state.pt"

    @property
    def log(self) -> Path:
        return self.out / "log.jsonl"


def train(run: Run, watch: Callable[[Progress], None] = _ignore, share: Share | None = None) -> None:
    """Train into `run.out`: `model.safetensors`, `state.pt` (to resume), `log.jsonl`. One rank of `share`."""
    share = share or Share()
    recipe, settings = run.recipe, run.recipe.train
    torch.manual_seed(recipe.seed)
    run.out.mkdir(parents=True, exist_ok=True)
    saved = torch.load(run.state, weights_only=True) if run.resume and run.state.is_file() else None
    model, vocabulary = _model(run, saved)
    model.to(run.device).train()
    witness = Witness(recipe.model, video=bool(recipe.data.video)).to(run.device)
    pupils = nn.ModuleList([model, witness])
    half = precision.pays(run.device)
    kind = torch.bfloat16 if half and not run.device.startswith("cuda") else torch.float32
    optimizers = optimizer.build(model, settings.lr, share, witness, kind)
    rates = [[group["lr"] for group in each.param_groups] for each in optimizers]
    first = 0
    if saved:
        first, rates = saved["step"], saved["rates"]
        if _shapes(witness.state_dict()) != _shapes(saved.get("witness", {})):
            raise BadInput(
                f"{run.state}: [data] video was turned on or off since, or its witness was asked for less; "
                f"begin anew from its weights: --start-from {run.checkpoint}"
            )
        witness.load_state_dict(saved["witness"])
        for each, state in zip(optimizers, saved["optimizers"], strict=True):
            each.load_state_dict(state)
    held_out = frozenset(recipe.data.held_out)
    tests = _tests(run, held_out) if share.leads else {}
    dataset = SceneStream(
        vocabulary,
        list(run.folders),
        seed=recipe.seed,
        start=first,
        lengths=list(settings.lengths),
        warmup=settings.long_after,
        held_out=held_out,
        mix=recipe.mix(),
        video=recipe.data.video,
        share=share,
        takes=settings.takes,
        near=round(settings.near_from * settings.steps),
    )
    generator = torch.Generator().manual_seed(1000 * (recipe.seed + first) + share.rank)
    forward = _compiled(model, run.device) if settings.compile else model
    began = time.perf_counter()
    with run.log.open("a") as log:
        for step, batch in zip(range(first, settings.steps), stream(dataset, workers=settings.workers), strict=False):
            factor = schedule(step, settings)
            for each, base in zip(optimizers, rates, strict=True):
                for group, rate in zip(each.param_groups, base, strict=True):
                    group["lr"] = rate * factor
            with torch.autocast(run.device.split(":")[0], torch.bfloat16, enabled=half):
                loss = loss_of(forward, batch, settings, generator, witness)
            loss.backward()
            share.mean(_gradients(pupils, share))
            torch.nn.utils.clip_grad_norm_(pupils.parameters(), 1.0)
            for each in optimizers:
                each.step()
                each.zero_grad()
            _balance(model, share)
            done = step + 1
            if not share.leads:
                continue
            progress = Progress(done, settings.steps, loss.item(), (time.perf_counter() - began) / (done - first))
            if not done % settings.evaluate_every or done == settings.steps:
                # Saved before it is tested: whatever happens in the test, the work is kept.
                states = [each.state_dict() for each in optimizers]
                kept = {"step": done, "model": model.state_dict(), "witness": witness.state_dict()}
                kept |= {"vocabulary": vocabulary.words, "rates": rates, "optimizers": states}
                torch.save(kept, run.state)
                progress.scores = scores(model, vocabulary, tests)
                note = {"recipe": recipe.name, "step": done, "held_out": sorted(held_out), "scores": progress.scores}
                checkpoint.save(run.checkpoint, model, vocabulary, note=note)
            _write(log, progress)
            watch(progress)


def _compiled(model: InteractionModel, device: str) -> InteractionModel:
    """On a GPU the whole model. On a CPU what is around the products of a block, for any number of positions at once
    (the same code for all blocks: it compiles in seconds), and the stem of the eyes: that is where the time goes. As it
    is, where nothing can be compiled: slower, and the same."""
    if device.startswith("cuda"):
        return cast(InteractionModel, torch.compile(model))
    if not precision.can_compile():
        return model
    for block in model.blocks:
        assert isinstance(block, Block)
        block.look = torch.compile(block.look, dynamic=True)
        block.finish = torch.compile(block.finish, dynamic=True)
    if model.eyes is not None:
        model.eyes.stem.forward = torch.compile(model.eyes.stem.forward, dynamic=True)
    return model


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _gradients(model: nn.Module, share: Share) -> list[Tensor]:
    """All gradients, in the same order on every rank: where only another rank's scenes used a part, zeros."""
    if share.count > 1:
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    return [p.grad for p in model.parameters() if p.grad is not None]


def _balance(model: InteractionModel, share: Share) -> None:
    """Let every mixture of experts react to the load of all ranks."""
    mixtures = [module for module in model.modules() if isinstance(module, Experts)]
    share.sum([mixture.load for mixture in mixtures])
    for mixture in mixtures:
        mixture.balance()


def _model(run: Run, saved: dict | None) -> tuple[InteractionModel, Vocabulary]:
    if saved:
        vocabulary = Vocabulary.from_list(saved["vocabulary"])
        model = InteractionModel(run.recipe.model, len(vocabulary))
        model.load_state_dict(saved["model"])
        return model, vocabulary
    wanted = vocabulary_for(run.recipe, run.folders)
    if run.start_from:
        return _grown(run.start_from, run.recipe.model, wanted)
    return InteractionModel(run.recipe.model, len(wanted)), wanted


def _grown(path: Path, config: ModelConfig, wanted: Vocabulary) -> tuple[InteractionModel, Vocabulary]:
    """An earlier model with its vocabulary extended to `wanted` and with the parts that `config` adds, which start
    fresh. Raises BadInput where the sizes of what they share differ."""
    old, known, _ = checkpoint.load(path)
    vocabulary = known.extended(wanted.words[2:])
    model = InteractionModel(config, len(vocabulary))
    weights, fresh = old.state_dict(), model.state_dict()
    if old.config.width == config.width:
        weights["words"] = torch.cat([weights["words"], fresh["words"][len(known) :]])
    other = [name for name, t in weights.items() if name not in fresh or fresh[name].shape != t.shape]
    if other:
        raise BadInput(f"{path}: a model of another shape than the recipe's (first difference: {other[0]})")
    model.load_state_dict({**fresh, **weights})
    return model, vocabulary


def _tests(run: Run, held_out: frozenset[str]) -> dict[str, list[Scene]]:
    data = run.recipe.data
    tests = evaluate.held_out_scenes(data.tests, families=data.scenes == "everything")
    if run.folders and held_out:
        bank = Bank(list(run.folders), held_out=held_out, keep_only=True)
        if len(bank):
            tests["natural"] = evaluate.natural_scenes(bank, data.tests)
    if data.video:
        tests["eyes"] = evaluate.seen_scenes(data.tests)
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
