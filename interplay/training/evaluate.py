"""How good is a model on scenes it has never met: closed loop, fed with its own words, as it will run."""

from __future__ import annotations

import random
from collections import defaultdict

import torch

from interplay.core.types import MICRO_TURN_S
from interplay.model.config import DECISIONS, DELEGATE, LISTEN, MARKS
from interplay.model.decode import SURE, choose
from interplay.model.stepping import Stepper, StepState
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import Vocabulary
from interplay.training.clips import Bank
from interplay.training.dataset import collate
from interplay.training.scenes import Composer, Mix, Scene, cues, dialog, floor, simultaneous, timing, tools

Words = list[tuple[int, str]]  # (micro-turn, word)
DELEGATED = MARKS.index("delegated")
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
    model: InteractionModel, vocabulary: Vocabulary, scenes: list[Scene], threshold: float = SURE
) -> tuple[list[Words], list[Words]]:
    """Run scenes of equal length through the model, batched. Returns per scene the (turn, word) heard and put out.

    What is put out without a word stands there as `<yield>`, `<delegate>`, `<deliver>`; words of calls as `tool:word`.
    The session's side of a scene (results, marks, what the voice reads) follows the script.
    """
    batch = collate(scenes, vocabulary)
    video = batch.frames is not None
    stepper, state = Stepper(model), StepState.empty(model.config, len(scenes), video=video)
    state.proactivity = batch.proactivity
    if batch.prefix is not None:
        stepper.read_prefix(state, batch.prefix)
    heard: list[Words] = [[] for _ in scenes]
    said: list[Words] = [[] for _ in scenes]
    delegated = torch.zeros(len(scenes), dtype=torch.bool)
    for turn in range(batch.bins.shape[1]):
        if batch.event is not None:
            state.event = batch.event[:, turn]
        if batch.marks is not None:
            state.marks = batch.marks[:, turn].clone()
        state.marks[:, DELEGATED] = delegated
        if batch.frames is not None:
            state.frame = batch.frames[:, turn]
        chosen = choose(stepper.step(state, batch.bins[:, turn]), threshold)
        state.heard, state.said, delegated = chosen.heard, chosen.said, chosen.decision == DELEGATE
        if batch.voiced is not None:
            state.said = state.said.where(state.said > 0, batch.voiced[:, turn])
        for i in range(len(scenes)):
            if chosen.heard[i]:
                heard[i].append((turn, vocabulary.words[int(chosen.heard[i])]))
            if chosen.decision[i] != LISTEN:
                name = DECISIONS[int(chosen.decision[i])]
                said[i].append((turn, put_out(name, vocabulary.words[int(chosen.said[i])])))
    return heard, said


def put_out(decision: str, word: str) -> str:
    """How a decision is written down in scores: the word that is voiced, `tool:word`, or `<decision>`."""
    if decision in ("speak", "backchannel"):
        return word
    return f"tool:{word}" if decision == "tool" else f"<{decision}>"


def due(scene: Scene) -> Words:
    """What should be put out, written as `listen` does."""
    words = dict(scene.said)
    turns = sorted({*words, *scene.decisions})
    return [(turn, put_out(scene.decisions.get(turn, "speak"), words.get(turn, ""))) for turn in turns]


def score(
    scenes: list[Scene], heard: list[list[tuple[int, str]]], said: list[list[tuple[int, str]]]
) -> dict[str, float]:
    """Word error rate of what was heard; of what was said: recall, false words per minute, share of perfect scenes."""
    errors = words = hits = asked = false = perfect = 0
    lag: list[int] = []
    for scene, h, s in zip(scenes, heard, said, strict=True):
        reference = [w for _, w in scene.heard]
        errors += edit_distance(reference, [w for _, w in h])
        words += len(reference)
        open_ = list(s)
        found = 0
        wanted = due(scene)
        for turn, word in wanted:
            match = next((x for x in open_ if x[1] == word and -EARLY_TURNS <= x[0] - turn <= LATE_TURNS), None)
            if match:
                open_.remove(match)
                found += 1
                lag.append(match[0] - turn)
        hits += found
        asked += len(wanted)
        false += len(open_)
        perfect += found == len(wanted) and not open_
    minutes = sum(len(s.power) for s in scenes) / 50 / 60
    return {
        "wer": errors / max(words, 1),
        "said_recall": hits / max(asked, 1),
        "false_per_min": false / max(minutes, 1e-9),
        "perfect": perfect / max(len(scenes), 1),
        "lag_s": MICRO_TURN_S * sum(lag) / max(len(lag), 1),
    }


FIRST = ("every", "after", "cue", "repeat", "chatter")
FAMILIES = {
    name: tuple(program for program in family.PROGRAMS if program not in FIRST)
    for name, family in {
        "time": timing, "cues": cues, "dialog": dialog, "floor": floor, "simultaneous": simultaneous, "tools": tools
    }.items()
}  # fmt: skip


def held_out_scenes(count: int, turns: int = 100, *, families: bool = False, seed: int = 7) -> dict[str, list[Scene]]:
    """`count` scenes of each of the first programs, and of each family of the others if `families`, spoken by synthetic
    voices that training never uses."""
    groups = {kind: (kind,) for kind in FIRST} | (FAMILIES if families else {})
    scenes: dict[str, list[Scene]] = defaultdict(list)
    for name, programs in groups.items():
        for i in range(count):
            rng = random.Random(f"held-out/{seed}/{name}/{i}")
            scenes[name].append(Composer(rng, turns, mix=Mix.only(*programs), held_out=True).compose())
    return scenes


def seen_scenes(count: int, turns: int = 100, *, seed: int = 7) -> list[Scene]:
    """Scenes with pictures: bodies, patterns, phrasings and voices that training never shows."""
    from interplay.training.video.scenes import video_scene  # needs an image library

    return [video_scene(random.Random(f"seen/{seed}/{i}"), turns, held_out=True) for i in range(count)]


def natural_scenes(bank: Bank, count: int, turns: int = 100, *, seed: int = 7) -> list[Scene]:
    """Scenes spoken by recorded or neural voices alone."""
    mix = Mix(natural=1.0)
    return [
        Composer(random.Random(f"natural/{seed}/{i}"), turns, bank, mix, held_out=True).compose() for i in range(count)
    ]
