"""How good is a model on scenes it has never met: closed loop, fed with its own words, as it will run."""

from __future__ import annotations

import random
from collections import defaultdict

import torch

from interplay.core.types import MICRO_TURN_S
from interplay.model.stepping import Stepper, StepState
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import Vocabulary
from interplay.training.clips import Bank
from interplay.training.dataset import collate
from interplay.training.scenes import Composer, Mix, Scene

Words = list[tuple[int, str]]  # (micro-turn, word)
EARLY_TURNS, LATE_TURNS = 2, 3  # a said word counts as right this far around its due micro-turn


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Substitutions + insertions + deletions between two word lists."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def listen(
    model: InteractionModel, vocabulary: Vocabulary, scenes: list[Scene], threshold: float = 0.5
) -> tuple[list[Words], list[Words]]:
    """Run scenes of equal length through the model, batched. Returns per scene the (turn, word) heard and said."""
    batch = collate(scenes, vocabulary)
    stepper, state = Stepper(model), StepState.empty(model.config, len(scenes))
    heard: list[Words] = [[] for _ in scenes]
    said: list[Words] = [[] for _ in scenes]
    for turn in range(batch.bins.shape[1]):
        out = stepper.step(state, batch.bins[:, turn])
        speak = out.decision.softmax(-1)[:, 1] > threshold
        state.heard = out.heard.argmax(-1)
        out.said[:, :2] = float("-inf")
        state.said = torch.where(speak, out.said.argmax(-1), 0)
        for i in range(len(scenes)):
            if state.heard[i]:
                heard[i].append((turn, vocabulary.words[int(state.heard[i])]))
            if speak[i]:
                said[i].append((turn, vocabulary.words[int(state.said[i])]))
    return heard, said


def score(
    scenes: list[Scene], heard: list[list[tuple[int, str]]], said: list[list[tuple[int, str]]]
) -> dict[str, float]:
    """Word error rate of what was heard; of what was said: recall, false words per minute, share of perfect scenes."""
    errors = words = hits = due = false = perfect = 0
    lag: list[int] = []
    for scene, h, s in zip(scenes, heard, said, strict=True):
        reference = [w for _, w in scene.heard]
        errors += edit_distance(reference, [w for _, w in h])
        words += len(reference)
        open_ = list(s)
        found = 0
        for turn, word in scene.said:
            match = next((x for x in open_ if x[1] == word and -EARLY_TURNS <= x[0] - turn <= LATE_TURNS), None)
            if match:
                open_.remove(match)
                found += 1
                lag.append(match[0] - turn)
        hits += found
        due += len(scene.said)
        false += len(open_)
        perfect += found == len(scene.said) and not open_
    minutes = sum(len(s.power) for s in scenes) / 50 / 60
    return {
        "wer": errors / max(words, 1),
        "said_recall": hits / max(due, 1),
        "false_per_min": false / max(minutes, 1e-9),
        "perfect": perfect / max(len(scenes), 1),
        "lag_s": MICRO_TURN_S * sum(lag) / max(len(lag), 1),
    }


def held_out_scenes(count: int, turns: int = 100, *, seed: int = 7) -> dict[str, list[Scene]]:
    """`count` scenes of each program, spoken by synthetic voices that training never uses."""
    scenes: dict[str, list[Scene]] = defaultdict(list)
    for kind in ("every", "after", "cue", "repeat", "chatter"):
        only = Mix(**{k: float(k == kind) for k in ("every", "after", "cue", "repeat", "chatter")})
        for i in range(count):
            rng = random.Random(f"held-out/{seed}/{kind}/{i}")
            scenes[kind].append(Composer(rng, turns, mix=only, held_out=True).compose())
    return scenes


def natural_scenes(bank: Bank, count: int, turns: int = 100, *, seed: int = 7) -> list[Scene]:
    """Scenes spoken by recorded or neural voices alone."""
    mix = Mix(natural=1.0)
    return [
        Composer(random.Random(f"natural/{seed}/{i}"), turns, bank, mix, held_out=True).compose() for i in range(count)
    ]
