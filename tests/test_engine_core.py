"""The engine's promise: a session's outputs are the same bits, whoever else is there and however it got here."""
# Parts are reached by name here that their types do not show.
# pyright: reportArgumentType=false

import random
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from interplay.core.types import BadInput  # noqa: E402
from interplay.engine import exact, snapshots  # noqa: E402
from interplay.engine.core import Append, Engine, Opening  # noqa: E402
from interplay.engine.errors import NoSession, OutOfOrder, Overloaded, SnapshotFailed  # noqa: E402
from interplay.engine.state import ROLLBACK, row_bytes  # noqa: E402
from interplay.model.config import MARKS, ModelConfig  # noqa: E402
from interplay.model.transformer import Inputs, InteractionModel  # noqa: E402

SMALL = ModelConfig(width=64, layers=2, heads=2, feedforward=96, frame_width=16, window=12, clock=True)
WORDS = 50
RING = SMALL.window + ROLLBACK


def build(config=SMALL, seed=0):
    torch.manual_seed(seed)
    model = InteractionModel(config, WORDS)
    for p in model.parameters():
        if not p.detach().any():  # zero-initialised projections would hide what runs through them
            torch.nn.init.normal_(p, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build()


class Script:
    """What one session is fed, reproducible from its number; some micro-turns never run."""

    def __init__(self, number, turns=70, video=False, start=0):
        rng = np.random.default_rng(number)
        self.name = f"s{number}"
        self.opening = Opening(
            tuple(int(w) for w in rng.integers(1, WORDS, rng.integers(0, 10))), float(rng.random()), 0.3, video
        )
        self.ran = [t for t in range(turns) if rng.random() > 0.1 and t >= start]
        self.bins = rng.integers(0, 16, (turns, 10, 80), dtype=np.uint8)
        self.events = rng.integers(0, WORDS, turns) * (rng.random(turns) < 0.2)
        self.marks = rng.random((turns, len(MARKS))) < 0.2
        self.voiced = [int(rng.integers(0, WORDS)) if rng.random() < 0.1 else None for _ in range(turns)]
        self.frames = rng.integers(0, 256, (turns, 80, 80, 3), dtype=np.uint8) if video else None

    def append(self, turn, name=None):
        frame = None if self.frames is None else self.frames[turn]
        marks = tuple(bool(m) for m in self.marks[turn])
        return Append(name or self.name, turn, self.bins[turn], int(self.events[turn]), marks, frame, self.voiced[turn])


def play(engine, script, turns=None):
    """The session alone, one by one: {turn: result}."""
    engine.open(script.opening, script.name)
    results = {turn: engine.step([script.append(turn)])[0] for turn in (script.ran if turns is None else turns)}
    engine.close(script.name)
    return results


def same(a, b):
    return (a.turn, a.heard, a.said, a.decision, a.odds) == (b.turn, b.heard, b.said, b.decision, b.odds)


CONFIGS = {
    "plain": SMALL,
    "mixture": replace(SMALL, experts=4, expert_width=32),
    "one position": replace(SMALL, positions=1),
    "eyes": replace(SMALL, glances=2),
}


def live_among_others(crowd, scripts, truth, rng):
    """Random joins, leaves, lags, rollbacks and moves of `scripts` in up to four places of `crowd`; every output must
    be the one of the session alone, bit for bit. Returns how many moves and rollbacks there were."""
    waiting, live = list(scripts)[::-1], {}
    moves = rollbacks = done = 0
    while waiting or live:
        if waiting and len(live) < 4 and rng.random() < 0.3:
            script = waiting.pop()
            crowd.open(script.opening, script.name)
            live[script.name] = [script, 0]
        due = [entry for entry in live.values() if rng.random() < 0.8]
        results = crowd.step([script.append(script.ran[at]) for script, at in due]) if due else []
        for entry, result in zip(due, results, strict=True):
            script, at = entry
            assert same(result, truth[script.name][script.ran[at]]), (script.name, at)
            entry[1] += 1
        for entry in list(live.values()):
            script, at = entry
            chance = rng.random()
            if at == len(script.ran):
                crowd.close(script.name)
                live.pop(script.name)
                done += 1
            elif at > 2 and chance < 0.08:
                back = rng.randint(max(0, at - 8), at - 1)
                crowd.rollback(script.name, script.ran[back])
                entry[1], rollbacks = back, rollbacks + 1
            elif chance < 0.2:  # leave, and come back into whatever slot is free
                data = crowd.snapshot(script.name)
                crowd.close(script.name)
                if rng.random() < 0.5 and crowd.pools[-1].free:
                    other = type(script)(99, turns=3, video=script.opening.video)
                    crowd.open(other.opening, "passer-by")
                    crowd.step([other.append(0, "passer-by")])
                    crowd.restore(data) if crowd.pools[-1].free else None
                    crowd.close("passer-by")
                if script.name not in crowd.seats:
                    crowd.restore(data)
                moves += 1
    assert done == len(scripts)
    assert len(crowd.pools[-1].free) == 4 and not crowd.seats
    return moves, rollbacks


@pytest.mark.parametrize(
    ("name", "fixed", "seed"),
    [*((name, False, 0) for name in CONFIGS), ("plain", True, 0), ("eyes", True, 0), ("plain", False, 1)],
)
def test_nobody_can_tell_who_else_is_there(name, fixed, seed):
    """Also over the ring's end, and in a mixture of experts, with one position, with eyes."""
    config, rng = CONFIGS[name], random.Random(seed)
    model, video = build(config), config.glances > 0
    scripts = [Script(10 * seed + i, RING + 10, video, start=RING - 14) for i in range(5)]  # over the ring's end
    sizes = {"slots": 1, "video_slots": 4} if video else {"slots": 4}
    if fixed:  # the fixed shape is the size of the engine, so alone means: in the same size
        alone, crowd = Engine(model, fixed=True, **sizes), Engine(model, fixed=True, **sizes)
    else:
        alone, crowd = Engine(model, slots=1, video_slots=int(video)), Engine(model, **sizes)
    truth = {script.name: play(alone, script) for script in scripts}
    moves, rollbacks = live_among_others(crowd, scripts, truth, rng)
    assert moves and rollbacks


def training_inputs(scripts, results, turns):
    """What a training scene of these sessions would be: the words fed back are those that came out."""
    n = len(scripts)
    heard, said, fed_heard, fed_said = (torch.zeros(n, turns, dtype=torch.int64) for _ in range(4))
    prefix = torch.zeros(n, 48, dtype=torch.int64)
    for row, script in enumerate(scripts):
        prefix[row, : len(script.opening.prefix)] = torch.tensor(script.opening.prefix)
        before = None
        for turn in range(turns):
            result = results[row].get(turn)
            if result is None:
                continue
            heard[row, turn], said[row, turn] = result.heard, result.said
            if before is not None:
                fed_heard[row, turn], fed_said[row, turn] = before.heard, before.said
            if script.voiced[turn] is not None:
                fed_said[row, turn] = script.voiced[turn]
            before = result
    return Inputs(
        torch.from_numpy(np.stack([s.bins[:turns] for s in scripts])),
        fed_heard,
        fed_said,
        heard,
        torch.from_numpy(np.stack([s.events[:turns] for s in scripts])),
        torch.from_numpy(np.stack([s.marks[:turns] for s in scripts])),
        prefix,
        torch.tensor([s.opening.proactivity for s in scripts]),
        None if scripts[0].frames is None else torch.from_numpy(np.stack([s.frames[:turns] for s in scripts])),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_training_sees_the_bits_that_serving_sampled(name):
    """The differentiable forward pass over whole scenes gives exactly the odds that the live steps gave."""
    model, turns = build(CONFIGS[name]), RING + 6  # two laps of the ring, several windows
    video = CONFIGS[name].glances > 0
    scripts = [Script(i, turns, video) for i in range(2)]
    if video:  # a training scene has every frame
        for script in scripts:
            script.ran = list(range(turns))
    engine = Engine(model, slots=2, video_slots=2 * video)
    results = [play(engine, script) for script in scripts]
    inputs = training_inputs(scripts, results, turns)
    ran = torch.tensor([[t in r for t in range(turns)] for r in results])
    out = exact.forward(build(CONFIGS[name]), inputs, ran)
    odds = out.decision.softmax(-1)
    for row, result in enumerate(results):
        for turn, chosen in result.items():
            assert tuple(odds[row, turn].tolist()) == chosen.odds, (row, turn)
            assert int(out.heard[row, turn].argmax()) == chosen.heard
    assert out.said.requires_grad
    out.said.sum().backward()


def test_training_in_the_engines_arithmetic_is_the_training_forward(model):
    """The two forward passes are the same function up to rounding, also in their gradients."""
    script = Script(3, 60)
    engine = Engine(build(), slots=1)
    script.ran = list(range(60))
    inputs = training_inputs([script], [play(engine, script)], 60)
    ours, theirs = build(), build()
    a, b = exact.forward(ours, inputs), theirs(inputs)
    for name in ("decision", "heard", "said"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-4)
    for out in (a, b):
        (out.decision.square().sum() + out.said.sum()).backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=2e-3, atol=2e-3, msg=name)


@pytest.mark.parametrize("chunk", [7, 200])
def test_prefilled_is_where_stepping_leads(model, chunk):
    script = Script(5, 70)
    script.ran = list(range(70))
    engine = Engine(model, slots=2)
    truth = play(engine, script)
    engine.open(script.opening, script.name)
    for start in range(0, 66, chunk):
        part = range(start, min(start + chunk, 66))
        outcome = [truth[t] for t in part]
        engine.prefill(
            script.name, [script.append(t) for t in part], [c.heard for c in outcome], [c.said for c in outcome]
        )
    for turn in range(66, 70):
        assert same(engine.step([script.append(turn)])[0], truth[turn])
    assert all(same(engine.known(script.append(t)), truth[t]) for t in range(50, 66))


def test_a_left_slot_holds_nothing_of_who_was_there(model):
    engine = Engine(model, slots=1)
    script = Script(1)
    engine.open(script.opening, script.name)
    for turn in script.ran[:20]:
        engine.step([script.append(turn)])
    assert engine.audio.state["keys.0"][0].any()
    engine.close(script.name)
    for name, tensor in engine.audio.state.items():
        if name not in ("stamp", "last", "proactivity"):
            assert not tensor[0].any(), name


def test_what_is_asked_twice_is_computed_once_and_what_is_past_is_past(model):
    engine, script = Engine(model, slots=1), Script(2)
    script.ran = list(range(10))
    engine.open(script.opening, script.name)
    first = [engine.step([script.append(t)])[0] for t in range(5)]
    assert engine.known(script.append(3)) == first[3]
    with pytest.raises(OutOfOrder, match="another input"):
        engine.known(replace(script.append(3), event=7 if script.events[3] != 7 else 8))
    engine.step([script.append(8)])
    with pytest.raises(OutOfOrder, match="did not run"):
        engine.known(script.append(6))
    assert engine.known(script.append(9)) is None


def test_full_is_said_at_once(model):
    engine = Engine(model, slots=2)
    engine.open()
    engine.open()
    with pytest.raises(Overloaded, match="all 2 places"):
        engine.open()
    with pytest.raises(Overloaded, match="video"):
        engine.open(Opening(video=True))


@pytest.mark.parametrize(
    "opening",
    [
        Opening(prefix=tuple([1] * 49)),
        Opening(prefix=(0,)),
        Opening(prefix=(WORDS,)),
        Opening(proactivity=2),
        Opening(threshold=0),
    ],
)
def test_a_bad_opening_takes_no_place(model, opening):
    engine = Engine(model, slots=1)
    with pytest.raises(BadInput):
        engine.open(opening)
    assert engine.free() == 1


def test_bad_input_is_refused_before_it_touches_anything(model):
    engine, bins = Engine(model, slots=1), np.zeros((10, 80), np.uint8)
    engine.open(session="a")
    for bad in (
        Append("a", 0, bins.astype(np.float32)),
        Append("a", 0, bins[:5]),
        Append("a", -1, bins),
        Append("a", 0, bins + 16),
        Append("a", 0, bins, event=WORDS),
        Append("a", 0, bins, said=-1),
        Append("a", 0, bins, frame=np.zeros((80, 80, 3), np.uint8)),
    ):
        with pytest.raises(BadInput):
            engine.known(bad)
    with pytest.raises(NoSession):
        engine.known(Append("b", 0, bins))
    for turn in (-1, 5):
        with pytest.raises(BadInput, match="cannot go back"):
            engine.rollback("a", turn)


def test_ten_thousand_sessions_leak_nothing(model):
    engine, bins = Engine(model, slots=3), np.zeros((10, 80), np.uint8)
    size = sum(t.numel() * t.element_size() for t in engine.audio.state.values())
    for i in range(10_000):
        name = engine.open()
        if i % 500 == 0:
            engine.step([Append(name, 0, bins)])
        engine.close(name)
    assert engine.free() == 3 and not engine.seats
    assert sum(t.numel() * t.element_size() for t in engine.audio.state.values()) == size
    assert size == 3 * row_bytes(engine.audio.shape)


def test_a_snapshot_only_fits_its_own_model(model, tmp_path):
    engine = Engine(model, slots=1)
    data = engine.snapshot(engine.open())
    other = Engine(build(seed=1), slots=1)
    with pytest.raises(SnapshotFailed, match="another model"):
        other.restore(data)
    for bad in (b"", b"garbage" * 9, data[:-5], data[:4000]):
        with pytest.raises(SnapshotFailed):
            engine.restore(bad, "x")
    assert other.free() == 1
    with pytest.raises(SnapshotFailed, match="cannot write"):
        snapshots.write(tmp_path / "no" / "such", data)


def test_a_full_disk_costs_the_new_snapshot_and_nothing_else(model, tmp_path, monkeypatch):
    """Provoked where the system call would fail: fsync says that there is no space left."""
    import errno
    import os

    engine = Engine(model, slots=1)
    path = tmp_path / "s"
    snapshots.write(path, engine.snapshot(engine.open(session="a")))
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    engine.step([Append("a", 0, np.zeros((10, 80), np.uint8))])
    with pytest.raises(SnapshotFailed, match="No space left"):
        snapshots.write(path, engine.snapshot("a"))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["s"]
    engine.step([Append("a", 1, np.zeros((10, 80), np.uint8))])


def test_a_process_that_maps_the_memory_goes_on(model, tmp_path):
    """Half a step that died leaves nothing; sessions found in the memory continue with the same bits."""
    from interplay.engine.mapped import MappedEngine

    script = Script(7)
    truth = play(Engine(model, slots=1), script)
    first = MappedEngine(model, tmp_path, slots=3)
    first.open(script.opening, script.name)
    for turn in script.ran[:30]:
        first.step([script.append(turn)])
    state, slot = first.audio.state, first.seats[script.name].slot
    place = script.ran[30] % RING  # what a step writes before it commits
    for layer in range(SMALL.layers):
        state[f"keys.{layer}"][slot, :, 48 + 2 * place : 50 + 2 * place] = 1e3
    del first
    second = MappedEngine(model, tmp_path, slots=3)
    assert second.last(script.name) == script.ran[29] and second.free() == 2
    for turn in script.ran[30:]:
        assert same(second.step([script.append(turn)])[0], truth[turn])
