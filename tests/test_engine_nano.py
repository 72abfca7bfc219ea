"""The promise of `test_engine_core.py`, kept by the model that ships: on recordings, over a whole window and ring."""
# pyright: reportArgumentType=false

import json
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import soxr  # noqa: E402
from safetensors.torch import load  # noqa: E402

from interplay.engine import exact  # noqa: E402
from interplay.engine.core import Append, Engine, Opening  # noqa: E402
from interplay.engine.selftest import selftest  # noqa: E402
from interplay.engine.state import ROLLBACK  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.config import MARKS  # noqa: E402
from interplay.model.dmel import DMelStream  # noqa: E402
from tests.test_engine_core import live_among_others, play, same, training_inputs  # noqa: E402

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"


@cache
def shipped():
    torch.set_num_threads(1)
    return checkpoint.load(checkpoint.default_checkpoint())[0]


@cache
def recordings():
    """uint8 (turns, 10, 80): the example recordings, one after the other, as the model hears them."""
    stream, bins = DMelStream(), []
    for path in sorted(EXAMPLES.glob("*.flac"))[:6]:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        audio = soxr.resample(audio.mean(1), rate, 16_000).astype(np.float32)
        bins += [stream.push(audio[at : at + 3200]) for at in range(0, len(audio) - 3199, 3200)]
    return np.stack(bins)


class Talk:
    """One session: a stretch of the recordings, with events, marks, words said for it, and micro-turns that never
    ran. Everything follows from its number."""

    def __init__(self, number, turns=60, video=False, start=0, whole=False):
        rng, words = np.random.default_rng(number), len(shipped().words)
        self.name = f"talk{number}"
        pinned = tuple(int(w) for w in rng.integers(2, words, rng.integers(0, 12)))
        self.opening = Opening(pinned, float(rng.random()), 0.4, video)
        self.ran = [t for t in range(start, turns) if whole or rng.random() > 0.08]
        at = (np.arange(turns) + 37 * number) % len(recordings())
        self.bins = recordings()[at]
        self.events = rng.integers(0, words, turns) * (rng.random(turns) < 0.05)
        self.marks = rng.random((turns, len(MARKS))) < 0.05
        self.voiced = [int(rng.integers(0, words)) if rng.random() < 0.03 else None for _ in range(turns)]
        self.frames = rng.integers(0, 256, (turns, 80, 80, 3), dtype=np.uint8) if video else None

    def append(self, turn, name=None):
        frame = None if self.frames is None else self.frames[turn]
        marks = tuple(bool(m) for m in self.marks[turn])
        return Append(name or self.name, turn, self.bins[turn], int(self.events[turn]), marks, frame, self.voiced[turn])


def sizes(video, slots):
    return {"slots": 1, "video_slots": slots} if video else {"slots": slots}


def ring():
    return shipped().config.window + ROLLBACK


def ways():
    """Without video, and with it if the shipped model has eyes."""
    return [False, True] if shipped().config.glances else [False]


def test_this_machine_keeps_the_promise():
    """If this fails, so does everything below, and the engine falls back to its fixed shape."""
    report = selftest(shipped())
    assert report.invariant and report.exact


@pytest.mark.parametrize("seed", [0, 1])
def test_alone_or_among_others_in_any_slot(seed):
    """Five conversations that join, leave, lag, roll back and move; two of them longer than the ring."""
    for video in ways():
        lengths = (ring() + 6, ring() + 3, 40, 60, 30) if not video else (40, 30, 50, 20, 30)
        talks = [Talk(10 * seed + i, turns, video) for i, turns in enumerate(lengths)]
        alone = Engine(shipped(), **sizes(video, 1))
        truth = {talk.name: play(alone, talk) for talk in talks}
        assert any(chosen.heard > 1 for results in truth.values() for chosen in results.values()), "nothing was heard"
        moves, rollbacks = live_among_others(Engine(shipped(), **sizes(video, 4)), talks, truth, random.Random(seed))
        assert moves and rollbacks


@pytest.mark.parametrize("chunk", [5, 64, 400])
def test_one_by_one_or_in_chunks(chunk):
    """Prefill leads to the same state, tensor by tensor, and to the same continuation."""
    turns = ring() + 12
    talk = Talk(3, turns + 5, whole=True)
    engine = Engine(shipped(), slots=2)
    engine.open(talk.opening, "stepped")
    truth = {turn: engine.step([talk.append(turn, "stepped")])[0] for turn in range(turns)}
    engine.open(talk.opening, "chunked")
    for start in range(0, turns, chunk):
        part = range(start, min(start + chunk, turns))
        known = [truth[t] for t in part]
        engine.prefill(
            "chunked", [talk.append(t, "chunked") for t in part], [c.heard for c in known], [c.said for c in known]
        )
    for name, tensor in engine.audio.state.items():
        rows = [tensor[engine.seats[session].slot] for session in ("stepped", "chunked")]
        if name != "meta":
            assert torch.equal(*rows), name
    for turn in range(turns, turns + 5):
        one, other = engine.step([talk.append(turn, "stepped"), talk.append(turn, "chunked")])
        assert same(one, other)


def test_rolled_back_and_lived_again():
    """As far back as it goes, at every age: before the ring is full, over its end, and after."""
    for video in ways():
        turns = ring() + 40
        talk = Talk(4, turns, video, start=ring() - 60, whole=True)
        engine = Engine(shipped(), **sizes(video, 2))
        truth = play(engine, talk)
        engine.open(talk.opening, talk.name)
        for turn in talk.ran:
            assert same(engine.step([talk.append(turn)])[0], truth[turn])
            if turn % 29 == 0 and turn - ROLLBACK + 1 >= talk.ran[0]:
                back = turn - ROLLBACK + 1
                engine.rollback(talk.name, back)
                for again in range(back, turn + 1):
                    assert same(engine.step([talk.append(again)])[0], truth[again])


ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
from interplay.engine.core import Engine
from tests.test_engine_nano import Talk, shipped, sizes
torch.set_num_threads(1)
number, turns, first, video = (int(x) for x in sys.argv[2:])
talk = Talk(number, turns, bool(video))
engine = Engine(shipped(), **sizes(bool(video), 3))
engine.open(talk.opening, "somebody") if first % 2 else None
engine.restore(Path(sys.argv[1]).read_bytes())
odds = [engine.step([talk.append(t)])[0].odds for t in talk.ran if t >= first]
Path(sys.argv[1] + ".end").write_bytes(engine.snapshot(talk.name))
print(json.dumps(odds))
"""


def test_a_snapshot_goes_on_in_another_process(tmp_path):
    for video in ways():
        turns, first = ring() + 20, ring() - 5
        talk = Talk(6, turns, video)
        engine = Engine(shipped(), **sizes(video, 1))
        engine.open(talk.opening, talk.name)
        for turn in (t for t in talk.ran if t < first):
            engine.step([talk.append(turn)])
        (tmp_path / "session").write_bytes(engine.snapshot(talk.name))
        mine = [engine.step([talk.append(turn)])[0].odds for turn in talk.ran if turn >= first]
        numbers = [str(x) for x in (6, turns, first, int(video))]
        command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "session"), *numbers]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert [tuple(odds) for odds in json.loads(done.stdout)] == mine
        theirs, ours = (load(data) for data in ((tmp_path / "session.end").read_bytes(), engine.snapshot(talk.name)))
        assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


def test_the_training_forward_gives_the_bits_that_were_sampled():
    turns = ring() + 6
    for video in ways():
        talks = [Talk(20 + i, turns, video, whole=video) for i in range(2)]
        engine = Engine(shipped(), slots=2, video_slots=2 * video)
        results = [play(engine, talk) for talk in talks]
        ran = torch.tensor([[t in result for t in range(turns)] for result in results])
        with torch.no_grad():
            out = exact.forward(shipped(), training_inputs(talks, results, turns), ran)
        odds = out.decision.softmax(-1)
        for row, result in enumerate(results):
            for turn, chosen in result.items():
                assert tuple(odds[row, turn].tolist()) == chosen.odds, (row, turn)
                assert int(out.heard[row, turn].argmax()) == chosen.heard
