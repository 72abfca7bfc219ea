"""Bitwise equality of the model under test over every way a session can be run: how many outputs, how many differ."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from interplay.engine import exact
from interplay.engine.core import Append, Chosen, Engine, Opening
from interplay.model.config import MARKS, PREFIX_WORDS
from interplay.model.transformer import Inputs, InteractionModel

Truth = dict[int, Chosen]
ELSEWHERE = """
import pickle, sys
from pathlib import Path
from interplay.engine.core import Engine
from interplay.model import checkpoint
import torch
torch.set_num_threads(1)
appends = pickle.loads(Path(sys.argv[2]).read_bytes())
engine = Engine(checkpoint.load(Path(sys.argv[1]))[0], slots=2)
engine.open()
engine.restore(Path(sys.argv[3]).read_bytes())
sys.stdout.buffer.write(pickle.dumps([engine.step([append])[0] for append in appends]))
"""


class Script:
    """What one session is fed, following from its number: noise, events, marks, and micro-turns that never run."""

    def __init__(self, number: int, turns: int, words: int, whole: bool = False) -> None:
        rng = np.random.default_rng(number)
        self.name = f"bits{number}"
        prefix = tuple(int(word) for word in rng.integers(2, words, rng.integers(0, 12)))
        self.opening = Opening(prefix, float(rng.random()), 0.4)
        self.bins = rng.integers(0, 16, (turns, 10, 80), dtype=np.uint8)
        self.events = rng.integers(0, words, turns) * (rng.random(turns) < 0.05)
        self.marks = rng.random((turns, len(MARKS))) < 0.05
        self.ran = [turn for turn in range(turns) if whole or rng.random() > 0.08]

    def append(self, turn: int, name: str = "") -> Append:
        marks = tuple(bool(mark) for mark in self.marks[turn])
        return Append(name or self.name, turn, self.bins[turn], int(self.events[turn]), marks)


class Tally:
    """Outputs compared, and those that differ."""

    def __init__(self) -> None:
        self.compared = self.different = 0

    def same(self, a: Chosen, b: Chosen) -> None:
        self.compared += 1
        self.different += (a.heard, a.said, a.decision, a.odds) != (b.heard, b.said, b.decision, b.odds)


def bits(
    model: InteractionModel, checkpoint: Path, seed: int, turns: int, sessions: int, advance: Callable[..., None]
) -> dict[str, float]:
    """All the cases; `turns` long, `sessions` at most together."""
    words = len(model.words)
    scripts = [Script(seed * 100 + i, turns, words) for i in range(2 * sessions)]
    whole = Script(seed * 100 + 99, turns, words, whole=True)
    truths = [_alone(model, script) for script in scripts]
    truth = _alone(model, whole)
    cases: dict[str, Callable[[Tally], None]] = {
        "crowd": lambda tally: _crowd(model, scripts, truths, sessions, random.Random(seed), tally),
        "prefill": lambda tally: _prefill(model, whole, truth, random.Random(seed), tally),
        "process": lambda tally: _process(model, checkpoint, whole, truth, tally),
        "training": lambda tally: _training(model, whole, truth, tally),
    }
    told: dict[str, float] = {}
    for name, case in cases.items():
        tally = Tally()
        case(tally)
        told |= {f"bits_{name}_compared": float(tally.compared), f"bits_{name}_different": float(tally.different)}
        advance(1, total=len(cases))
    told["bits_compared"] = sum(told[f"bits_{name}_compared"] for name in cases)
    told["bits_different"] = sum(told[f"bits_{name}_different"] for name in cases)
    return told


def _alone(model: InteractionModel, script: Script) -> Truth:
    engine = Engine(model, slots=1)
    engine.open(script.opening, script.name)
    return {turn: engine.step([script.append(turn)])[0] for turn in script.ran}


def _crowd(
    model: InteractionModel, scripts: list[Script], truths: list[Truth], places: int, rng: random.Random, tally: Tally
) -> None:
    """Random joins, leaves into other slots, lags and rollbacks, in common steps."""
    engine, waiting, live = Engine(model, slots=places), list(zip(scripts, truths, strict=True)), {}
    while waiting or live:
        if waiting and len(live) < places and rng.random() < 0.2:
            script, truth = waiting.pop()
            engine.open(script.opening, script.name)
            live[script.name] = [script, truth, 0]
        due = [entry for entry in live.values() if rng.random() < 0.85]
        results = engine.step([script.append(script.ran[at]) for script, _, at in due]) if due else []
        for entry, result in zip(due, results, strict=True):
            tally.same(result, entry[1][result.turn])
            entry[2] += 1
        for name, entry in list(live.items()):
            script, _, at = entry
            chance = rng.random()
            if at == len(script.ran):
                engine.close(name)
                del live[name]
            elif at > 9 and chance < 0.03:
                entry[2] = at - rng.randint(1, 8)
                engine.rollback(name, script.ran[entry[2]])
            elif chance < 0.06:
                data = engine.snapshot(name)
                engine.close(name)
                engine.restore(data)


def _prefill(model: InteractionModel, script: Script, truth: Truth, rng: random.Random, tally: Tally) -> None:
    """Chunks of random sizes, and one step after each that shows where they led; then back, and in one chunk."""
    engine, turn = Engine(model, slots=2), 0
    engine.open(script.opening, script.name)
    end = len(script.ran) - 1
    while turn < end:
        part = range(turn, min(turn + rng.choice((1, 3, 7, 40, 300)), end))
        known = [truth[t] for t in part]
        engine.prefill(script.name, [script.append(t) for t in part], [c.heard for c in known], [c.said for c in known])
        for t in part[-20:]:
            if (again := engine.known(script.append(t))) is not None:
                tally.same(again, truth[t])
        turn = part[-1] + 1
        tally.same(engine.step([script.append(turn)])[0], truth[turn])
        turn += 1


def _process(model: InteractionModel, checkpoint: Path, script: Script, truth: Truth, tally: Tally) -> None:
    """A snapshot, restored in a process of its own."""
    import pickle

    engine, half = Engine(model, slots=1), len(script.ran) // 2
    engine.open(script.opening, script.name)
    for turn in script.ran[:half]:
        engine.step([script.append(turn)])
    with tempfile.TemporaryDirectory(prefix="interplay-") as folder:
        todo, session = Path(folder) / "todo", Path(folder) / "session"
        todo.write_bytes(pickle.dumps([script.append(turn) for turn in script.ran[half:]]))
        session.write_bytes(engine.snapshot(script.name))
        command = [sys.executable, "-c", ELSEWHERE, str(checkpoint), str(todo), str(session)]
        done = subprocess.run(command, capture_output=True, check=True)
    for chosen in pickle.loads(done.stdout):
        tally.same(chosen, truth[chosen.turn])


def _training(model: InteractionModel, script: Script, truth: Truth, tally: Tally) -> None:
    """The differentiable forward pass over the whole scene, fed with what came out."""
    turns = len(script.ran)
    heard = torch.tensor([[truth[t].heard for t in range(turns)]])
    said = torch.tensor([[truth[t].said for t in range(turns)]])
    fed = [torch.cat([torch.zeros(1, 1, dtype=torch.int64), words[:, :-1]], 1) for words in (heard, said)]
    prefix = torch.zeros(1, PREFIX_WORDS, dtype=torch.int64)
    prefix[0, : len(script.opening.prefix)] = torch.tensor(script.opening.prefix)
    inputs = Inputs(
        torch.from_numpy(script.bins)[None],
        fed[0],
        fed[1],
        heard,
        torch.from_numpy(script.events)[None],
        torch.from_numpy(script.marks)[None],
        prefix,
        torch.tensor([script.opening.proactivity]),
    )
    with torch.no_grad():
        out = exact.forward(model, inputs)
    odds, words = out.decision.softmax(-1)[0], out.heard.argmax(-1)[0]
    for turn in range(turns):
        sampled = replace(truth[turn], odds=tuple(odds[turn].tolist()), heard=int(words[turn]))
        tally.same(sampled, truth[turn])
