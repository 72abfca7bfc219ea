"""The engine in one fixed shape, as CUDA runs it: on a CPU the same function, unrecorded; on CUDA recorded, if there is
one. What runs here without CUDA says nothing about CUDA's products and its capture; the tests at the end do."""
# Parts are reached by name here that their types do not show.
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportAttributeAccessIssue=false

import random
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from interplay.core.types import BadInput  # noqa: E402
from interplay.engine import device as devices  # noqa: E402
from interplay.engine import exact, fixed  # noqa: E402
from interplay.engine.arithmetic import Weights, pile, pile_sorted  # noqa: E402
from interplay.engine.core import Engine, Opening  # noqa: E402
from interplay.engine.fixed import Given, compute, fixed_step, given_spec, settle  # noqa: E402
from interplay.engine.selftest import assemble, selftest  # noqa: E402
from interplay.engine.state import ROLLBACK, Shape, allocate, take  # noqa: E402
from interplay.engine.step import Arena, StepInputs, commit, step  # noqa: E402
from interplay.model.decode import choose  # noqa: E402
from interplay.model.transformer import Inputs, Outputs  # noqa: E402
from tests.test_engine_core import CONFIGS, RING, SMALL, WORDS, Script, build, live_among_others, play, same  # noqa: E402

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def same_bits(a, b):
    """To the sign of a zero."""
    if a.dtype == torch.float32:
        a, b = a.contiguous().view(torch.int32), b.contiguous().view(torch.int32)
    return torch.equal(a, b)


class Pair:
    """The same random life of a pool of slots twice: through `step`, a row for every slot, and in the fixed shape."""

    def __init__(self, config, slots, video, seed):
        torch.manual_seed(seed)
        self.model = build(config, seed)
        with torch.no_grad():
            self.weights = Weights(self.model)
        self.shape = Shape(self.model.config, self.model.config.glances if video else 0)
        self.rng = np.random.default_rng(seed)
        self.slots, self.video = slots, video
        self.arenas = [Arena(self.shape, allocate(self.shape, slots)) for _ in range(2)]
        self.present = [False] * slots

    def both(self, slot, name, value):
        for arena in self.arenas:
            arena.state[name][slot] = value

    def join(self, slot):
        """Somebody sits down, half of them with words to bear in mind, some far into a session."""
        self.present[slot] = True
        self.both(slot, "proactivity", float(self.rng.choice([0.5, self.rng.random()])))
        if self.rng.random() < 0.5:
            prefix = torch.from_numpy(self.rng.integers(1, WORDS, self.rng.integers(1, 20)))
            for name, value in exact.pin(self.weights, prefix).items():
                for arena in self.arenas:
                    row = arena.state[name][slot]
                    (row[:, :48] if name[0] in "kv" else row[:48]).copy_(value)
        self.both(slot, "last", int(self.rng.choice([-1, RING - 3, 40_000])))  # its ring's end is near

    def leave(self, slot):
        self.present[slot] = False
        for arena in self.arenas:
            for name, tensor in arena.state.items():
                tensor[slot].fill_({"stamp": -1, "last": -1, "proactivity": 0.5}.get(name, 0))

    def given(self, seen):
        n, rng = self.slots, self.rng
        due = np.array([here and rng.random() < 0.7 for here in self.present])
        lag = np.where(rng.random(n) < 0.2, rng.integers(2, 9, n), 1)
        some = [rng.random(n) < chance for chance in rng.choice([0.0, 0.3], 3)]
        return Given(
            torch.from_numpy(due),
            self.arenas[0].state["last"] + torch.from_numpy(lag),
            torch.from_numpy(rng.integers(0, 16, (n, 10, 80), dtype=np.uint8)),
            torch.from_numpy(np.where(some[0], rng.integers(0, WORDS, n), -1)),
            torch.from_numpy(rng.integers(1, WORDS, n) * some[1]),
            torch.from_numpy((rng.random((n, 3)) < 0.5) & some[2][:, None]),
            torch.from_numpy(rng.random(n).astype(np.float32)),
            torch.from_numpy(rng.integers(0, 2**62, n)),
            torch.from_numpy(rng.integers(0, 256, (n, 80, 80, 3), dtype=np.uint8)) if seen else None,
        )

    def eager(self, given):
        """Through `step` and `commit`, as an engine does. Rows that are not due take part, nobody commits them."""
        arena = self.arenas[0]
        state, due = arena.state, given.due
        before = state["last"].clone()
        turns = given.turn.where(due, before + 1)
        at = before.clamp(min=0) % self.shape.ring
        heard, said = (state[name][arena.slots, at] * (before >= 0) for name in ("heard", "said"))
        said = given.voiced.where(given.voiced >= 0, said)
        parts = (turns, given.bins, heard, said, given.event, given.marks)
        kept = {name: tensor[~due].clone() for name, tensor in state.items()}
        out = step(self.weights, arena, StepInputs(arena.slots, *parts, given.frames))
        logits = out.decision, out.heard, out.say(range(self.slots))
        for name, rows in kept.items():
            state[name][~due] = rows
        decision, heard, said = choose(Outputs(*logits), given.threshold)
        chosen = {"heard": heard, "said": said, "decision": decision, "odds": out.decision.softmax(-1)}
        chosen["digest"] = given.digest
        committed = StepInputs(arena.slots[due], *(part[due] for part in parts))
        commit(state, self.shape, committed, {name: value[due] for name, value in chosen.items()})
        return logits, chosen

    @torch.inference_mode()
    def turn(self):
        for slot in range(self.slots):
            chance = self.rng.random()
            if not self.present[slot] and chance < 0.4:
                self.join(slot)
            elif self.present[slot] and chance < 0.03:
                self.leave(slot)
        given = self.given(self.video and self.rng.random() < 0.7)
        due = given.due
        logits, chosen = self.eager(given)
        out = compute(self.weights, self.arenas[1], given)
        taken = settle(self.arenas[1], given, out)
        for ours, theirs in zip((out.decision, out.heard, out.said), logits, strict=True):
            assert same_bits(ours[due], theirs[due])
        for name, value in taken._asdict().items():
            assert same_bits(value[due], chosen[name][due]), name
        for name, tensor in self.arenas[0].state.items():
            assert same_bits(self.arenas[1].state[name], tensor), name
        return int(due.sum())


LIVES = [(name, slots, False) for name in CONFIGS for slots in (5, 1)]
LIVES += [("plain", 3, False), ("eyes", 5, True), ("eyes", 1, True)]


@pytest.mark.parametrize(("name", "slots", "video"), LIVES)
def test_the_fixed_shape_is_the_step_bit_for_bit(name, slots, video):
    """Random joins, leaves, lags, prefixes, typed events, marks, words said for it, frames: logits, what is chosen and
    the whole state afterwards, of those who are due and of those who are not, to the sign of a zero."""
    pair = Pair(CONFIGS[name], slots, video, len(name))
    assert sum(pair.turn() for _ in range(30)) > 5 * slots


def test_nobody_due_changes_nothing():
    """What warm-up and capture rely on."""
    pair = Pair(CONFIGS["eyes"], 4, True, 3)
    for _ in range(12):
        pair.turn()
    arena = pair.arenas[1]
    before = {name: tensor.clone() for name, tensor in arena.state.items()}
    for seen in (False, True):
        given = pair.given(seen)
        with torch.inference_mode():
            fixed_step(pair.weights, arena, given._replace(due=torch.zeros_like(given.due)))
    assert all(same_bits(arena.state[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_fixed_step_never_looks_at_a_value_nor_at_the_host(name):
    """Traced with tensors that have a device and no values: whatever would need one, or mixes devices, raises. That
    is what a capture forbids, as far as it can be asked without CUDA."""
    config, slots = CONFIGS[name], 3
    model = build(config).requires_grad_(False).to("meta")
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        weights = Weights(model)
        assert weights.pile is pile_sorted
        for glances in {0, config.glances}:
            shape = Shape(config, glances)
            arena = Arena(shape, allocate(shape, slots, device="meta"))
            for seen in (False, True) if glances else (False,):
                spec = given_spec(glances).items()
                fields = {n: torch.zeros(slots, *size, dtype=d, device="meta") for n, (size, d) in spec}
                given = Given(**(fields if seen or not glances else {n: t for n, t in fields.items() if n != "frames"}))
                taken = fixed_step(weights, arena, given)
                assert taken.odds.shape == (slots, 7) and taken.said.device.type == "meta"
        for wrong in (lambda t: bool(t.any()), lambda t: t.tolist(), lambda t: t + torch.zeros(slots, dtype=t.dtype)):
            with pytest.raises(Exception, match=r"_local_scalar_dense|data-dependent|same device"):
                wrong(taken.heard)


def test_what_cuda_runs_unrecorded_stays_on_its_device(monkeypatch):
    """Prefixes, prefill's lap and the training forward pass, traced in the same way; but for looking whether there are
    words at all, which they may."""
    monkeypatch.setattr(Weights, "feedback", fixed._feedback)
    model = build(CONFIGS["eyes"]).requires_grad_(False).to("meta")
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights = Weights(model)
        pinned = exact.pin(weights, torch.zeros(5, dtype=torch.int64, device="meta"))
        assert {t.device.type for t in pinned.values()} == {"meta"}
        words = torch.zeros(2, 6, dtype=torch.int64, device="meta")
        bins = torch.zeros(2, 6, 10, 80, dtype=torch.uint8, device="meta")
        frames = torch.zeros(2, 6, 80, 80, 3, dtype=torch.uint8, device="meta")
        for seen in (None, frames):
            out = exact.forward(model, Inputs(bins, words, words, words, frames=seen), torch.ones(2, 6) > 0)
            assert out.said.shape == (2, 6, WORDS) and out.decision.device.type == "meta"


def test_sums_over_a_word_are_the_same_sorted_or_one_after_the_other():
    torch.manual_seed(0)
    words, more = torch.randint(0, 5, (3, 40)), torch.rand(3, 40)
    assert same_bits(pile_sorted(torch.zeros(3, 7), words, more), pile(torch.zeros(3, 7), words, more))


def test_a_session_with_video_goes_back_as_far_as_promised_among_others():
    """The frame before the first that is lived again is still there, although every step ran all slots."""
    model = build(CONFIGS["eyes"])
    engine = Engine(model, slots=1, video_slots=2, fixed=True)
    script, other = (Script(i, RING + 12, True) for i in (1, 2))
    for one in (script, other):
        one.ran = list(range(RING + 12))
        engine.open(one.opening, one.name)
    truth = {t: engine.step([script.append(t)])[0] for t in range(RING + 5)}
    engine.rollback(script.name, RING + 5 - ROLLBACK)
    for turn in range(10):
        engine.step([other.append(turn)])
        engine.step([replace(other.append(turn + 10), frame=None)]) if turn == 9 else None
    for turn in range(RING + 5 - ROLLBACK, RING + 5):
        assert same(engine.step([script.append(turn)])[0], truth[turn]), turn


def test_a_step_leaves_who_is_not_due_as_they_are():
    """An empty slot stays empty, and a snapshot does not know who else was there."""
    engine, script = Engine(build(), slots=3, fixed=True), Script(4)
    engine.open(script.opening, script.name)
    quiet = engine.open(session="quiet")
    slot = engine.seats[quiet].slot
    before = take(engine.audio.state, slot)
    for turn in script.ran[:8]:
        engine.step([script.append(turn)])
    after = take(engine.audio.state, slot)
    assert all(same_bits(after[name], tensor) for name, tensor in before.items())
    engine.close(script.name)
    for name, tensor in engine.audio.state.items():
        if name not in ("stamp", "last", "proactivity", "meta"):
            assert not tensor.any(), name


def test_steps_and_chunks_meet_where_chunks_are_stepped_through():
    """As on CUDA before the self-test has found that many at once give the same bits."""
    engine, script = Engine(build(), slots=2, fixed=True), Script(5, 30)
    engine.at_once = False
    script.ran = list(range(30))
    truth = play(engine, script)
    engine.open(script.opening, script.name)
    part = [truth[t] for t in range(26)]
    engine.prefill(script.name, [script.append(t) for t in range(26)], [c.heard for c in part], [c.said for c in part])
    assert all(same(engine.step([script.append(t)])[0], truth[t]) for t in range(26, 30))


def test_the_self_test_asks_a_fixed_shape_in_every_slot():
    report = selftest(build(CONFIGS["eyes"]), Engine(build(CONFIGS["eyes"]), slots=3, video_slots=2, fixed=True))
    assert report.invariant and report.exact and report.recorded is None


def test_a_self_test_finds_a_slot_that_computes_otherwise(monkeypatch):
    """A product that depends on the row is what it is there for."""
    honest = fixed.unit

    def crooked(x):
        out = honest(x).clone()
        out[1:2] *= 1 + 2**-20
        return out

    monkeypatch.setattr(fixed, "unit", crooked)
    report = selftest(build(), Engine(build(), slots=3, fixed=True))
    assert not report.invariant and not report.exact


def test_a_device_is_chosen_or_refused_in_one_line(monkeypatch):
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    assert devices.choose().type == "cpu"
    monkeypatch.setenv(devices.VARIABLE, "auto")
    assert devices.choose().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for bad in ("tpu", "mps", "cuda:99", "c p u"):
        monkeypatch.setenv(devices.VARIABLE, bad)
        with pytest.raises(BadInput, match="cpu"):
            devices.choose()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_asking_for_cuda_where_there_is_none_says_so():
    for make in (lambda: Engine(build(), slots=1, device="cuda"), lambda: assemble(build(), slots=1, device="cuda")):
        with pytest.raises(BadInput, match="there is no cuda here"):
            make()


def test_a_process_of_its_own_refuses_a_device_that_its_memory_is_not_on(monkeypatch):
    from interplay.foreground.native import NativeForeground

    monkeypatch.setattr(devices, "choose", lambda name=None: torch.device("cuda", 0))
    with pytest.raises(BadInput, match="thread"):
        NativeForeground.load(process=True, device="cuda")
    with pytest.raises(BadInput, match="thread"):
        assemble(build(), slots=1, device="cuda", make=lambda fixed: Engine(build(), slots=1, fixed=fixed))


# ---- on CUDA: never skipped where there is a device


def sized(config, slots, **more):
    video = config.glances > 0
    return Engine(build(config), slots=1 if video else slots, video_slots=slots * video, device="cuda", **more)


@cuda
@pytest.mark.parametrize("name", CONFIGS)
def test_cuda_nobody_can_tell_who_else_is_there(name):
    config, video = CONFIGS[name], CONFIGS[name].glances > 0
    scripts = [Script(i, RING + 10, video, start=RING - 14) for i in range(5)]
    alone, crowd = sized(config, 4), sized(config, 4)
    assert crowd.fixed and all(pool.player.graphs for pool in crowd.pools)
    truth = {script.name: play(alone, script) for script in scripts}
    moves, rollbacks = live_among_others(crowd, scripts, truth, random.Random(0))
    assert moves and rollbacks


@cuda
@pytest.mark.parametrize("name", CONFIGS)
def test_cuda_replayed_is_eager(name):
    """Whole state and outputs; and eager runs where torch forbids whatever is not deterministic."""
    config, video = CONFIGS[name], CONFIGS[name].glances > 0
    recorded, eager = sized(config, 3), sized(config, 3, record=False)
    assert all(pool.player.record and not pool.player.problem for pool in recorded.pools)
    scripts = [Script(i, 40, video) for i in range(3)]
    for script in scripts:
        recorded.open(script.opening, script.name)
        eager.open(script.opening, script.name)
    for turn in range(40):
        due = [s.append(turn) for s in scripts if turn in s.ran]
        if video and turn % 7 == 3:
            due = [replace(a, frame=None) for a in due]
        if not due:
            continue
        ours = recorded.step(due)
        torch.use_deterministic_algorithms(True)
        try:
            theirs = eager.step(due)
        finally:
            torch.use_deterministic_algorithms(False)
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True)), turn
    for mine, other in zip(recorded.pools, eager.pools, strict=True):
        assert all(same_bits(mine.state[n], t) for n, t in other.state.items())


@cuda
def test_cuda_prefilled_rolled_back_and_moved_is_where_stepping_leads():
    script = Script(5, 70)
    script.ran = list(range(70))
    engine, other = sized(SMALL, 3), sized(SMALL, 3)
    truth = play(engine, script)
    engine.open(Opening(), "in the way")
    engine.open(script.opening, script.name)
    part = [truth[t] for t in range(40)]
    engine.prefill(script.name, [script.append(t) for t in range(40)], [c.heard for c in part], [c.said for c in part])
    assert all(same(engine.step([script.append(t)])[0], truth[t]) for t in range(40, 60))
    engine.rollback(script.name, 60 - ROLLBACK)
    assert all(same(engine.step([script.append(t)])[0], truth[t]) for t in range(60 - ROLLBACK, 60))
    assert same(engine.known(script.append(59)), truth[59])
    other.restore(engine.snapshot(script.name))
    assert all(same(other.step([script.append(t)])[0], truth[t]) for t in range(60, 70))


@cuda
def test_cuda_a_left_slot_holds_nothing_and_the_odds_are_those_of_a_cpu_up_to_rounding():
    script = Script(1, 30)
    far, near = sized(SMALL, 2), Engine(build(), slots=2)
    a, b = play(far, script), play(near, script)
    first = script.ran[0]
    np.testing.assert_allclose(a[first].odds, b[first].odds, atol=1e-4)
    for name, tensor in far.audio.state.items():
        if name not in ("stamp", "last", "proactivity"):
            assert not tensor.any(), name


@cuda
def test_cuda_is_assembled_asked_and_says_what_is_kept():
    model = build(CONFIGS["eyes"])
    clocked = assemble(model, slots=4, video_slots=2, device="cuda")
    health = clocked.health()
    assert health["fixed_shape"] and health["selftest"]["invariant"] and health["selftest"]["recorded"]
    assert health["selftest"]["device"] == "cuda:0" and not clocked.engine.seats
    assert next(model.parameters()).device.type == "cpu"
    assert clocked.engine.at_once == health["selftest"]["exact"]
    assert not torch.backends.cuda.matmul.allow_tf32


@cuda
@pytest.mark.slow
def test_cuda_the_shipped_model_over_a_window_and_ring():
    from tests.test_engine_nano import Talk, ring, shipped

    talks = [Talk(i, turns) for i, turns in enumerate((ring() + 6, ring() + 3, 40, 60, 30))]
    alone, crowd = Engine(shipped(), slots=4, device="cuda"), Engine(shipped(), slots=4, device="cuda")
    truth = {talk.name: play(alone, talk) for talk in talks}
    assert all(live_among_others(crowd, talks, truth, random.Random(0)))
