"""The model's promises: fixed shape, causality, stepping equals training, one file holds everything."""
# Parts are reached by name here that their types do not show.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from interplay.core.types import BadInput, Missing  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.config import MARKS, PREFIX_WORDS, ModelConfig  # noqa: E402
from interplay.model.dmel import CHANNELS, FRAMES, DMelStream, mel_power, quantize  # noqa: E402
from interplay.model.stepping import Stepper, StepState  # noqa: E402
from interplay.model.transformer import Inputs, InteractionModel  # noqa: E402
from interplay.model.vocabulary import NONE, PIECES, UNKNOWN, Joiner, Vocabulary  # noqa: E402

SMALL = ModelConfig(width=64, layers=2, heads=2, feedforward=96, frame_width=16, window=12, clock=True)
WORDS = 50


def build(config):
    torch.manual_seed(0)
    model = InteractionModel(config, WORDS)
    for p in model.parameters():
        if not p.detach().any():  # zero-initialised projections would hide what runs through them
            torch.nn.init.normal_(p, std=0.2)
    return model.eval()


@pytest.fixture
def model():
    return build(SMALL)


def conversation(batch: int, turns: int):
    generator = torch.Generator().manual_seed(1)
    bins = torch.randint(0, 16, (batch, turns, FRAMES, CHANNELS), generator=generator, dtype=torch.uint8)
    heard = torch.randint(0, WORDS, (batch, turns), generator=generator)
    said = torch.randint(0, WORDS, (batch, turns), generator=generator)
    return Inputs(bins, heard, said, torch.roll(heard, -1, 1))


def rich(batch: int, turns: int):
    """A conversation with everything that can come in: typed words, marks, a prefix, manners."""
    inputs, generator = conversation(batch, turns), torch.Generator().manual_seed(2)
    inputs.event = torch.randint(0, WORDS, (batch, turns), generator=generator)
    inputs.event *= torch.rand(batch, turns, generator=generator) < 0.3
    inputs.marks = torch.rand(batch, turns, len(MARKS), generator=generator) < 0.2
    inputs.prefix = torch.randint(1, WORDS, (batch, PREFIX_WORDS), generator=generator)
    for row in range(batch):  # of different lengths, one of them empty
        inputs.prefix[row, 7 * row :] = 0
    inputs.proactivity = torch.linspace(0, 1, batch)
    return inputs


def step_through(model, inputs, turns=None):
    """Outputs (turns, ...) of a stepper fed with what training sees at once."""
    batch, every = inputs.bins.shape[:2]
    stepper, state = Stepper(model), StepState.empty(model.config, batch, video=inputs.frames is not None)
    if inputs.prefix is not None:
        stepper.read_prefix(state, inputs.prefix)
    if inputs.proactivity is not None:
        state.proactivity = inputs.proactivity
    outs = []
    for turn in range(turns or every):
        state.heard, state.said = inputs.heard[:, turn], inputs.said[:, turn]
        if inputs.event is not None:
            state.event, state.marks = inputs.event[:, turn], inputs.marks[:, turn]
        if inputs.frames is not None:
            state.frame = inputs.frames[:, turn]
        outs.append(stepper.step(state, inputs.bins[:, turn]))
    return outs


@pytest.mark.parametrize("make", [conversation, rich])
@pytest.mark.parametrize("experts", [0, 4])
def test_stepping_equals_training_beyond_the_window(make, experts):
    model = build(replace(SMALL, experts=experts, expert_width=32))
    inputs = make(3, 40)  # more than three windows
    with torch.no_grad():
        whole = model(inputs)
    for turn, out in enumerate(step_through(model, inputs)):
        for name in ("decision", "heard", "said"):
            torch.testing.assert_close(getattr(out, name), getattr(whole, name)[:, turn], rtol=1e-4, atol=1e-4)


def test_the_clock_in_hour_two_is_the_same_in_training_and_serving(model):
    inputs = replace(conversation(1, 20), start=36_000)
    with torch.no_grad():
        whole = model(inputs)
    stepper, state = Stepper(model), StepState.empty(SMALL)
    state.turn, state.last = 36_000, 35_999
    for turn in range(20):
        state.heard, state.said = inputs.heard[:, turn], inputs.said[:, turn]
        out = stepper.step(state, inputs.bins[:, turn])
        torch.testing.assert_close(out.decision, whole.decision[:, turn], rtol=1e-4, atol=1e-4)


def test_everything_that_comes_in_matters(model):
    """Each input changes what comes out, and only from its micro-turn on."""
    base = rich(3, 12)
    with torch.no_grad():
        before = model(base)
        for name in ("bins", "event", "marks", "heard", "said"):
            changed = replace(base, **{name: getattr(base, name).clone()})
            row = getattr(changed, name)[2, 6]
            row.copy_(~row if row.dtype == torch.bool else (row + 1) % 16)
            after = model(changed)
            assert torch.equal(after.heard[:, :6], before.heard[:, :6]), name
            assert not torch.allclose(after.heard[2, 6:], before.heard[2, 6:]), name
        others = {"proactivity": torch.tensor([0.0, 0.5, 0.2]), "prefix": base.prefix.flip(0), "start": 100}
        for name, value in others.items():
            after = model(replace(base, **{name: value}))
            assert not torch.allclose(after.decision[2], before.decision[2]), name


@pytest.mark.parametrize("make", [conversation, rich])
def test_words_that_are_asked_for_are_those_of_all(model, make):
    """Training asks only for the output words of the micro-turns that have one."""
    inputs, say = make(3, 12), torch.rand(3, 12, generator=torch.Generator().manual_seed(3)) < 0.3
    with torch.no_grad():
        whole, some = model(inputs), model(inputs, say)
        assert some.said.shape == (int(say.sum()), WORDS)
        assert torch.allclose(some.said, whole.said[say], atol=1e-5)
        assert torch.equal(some.decision, whole.decision) and torch.equal(some.heard, whole.heard)
        assert model(inputs, torch.zeros_like(say)).said.shape == (0, WORDS)


def test_the_prefix_reads_the_same_in_hour_two():
    """Outputs of a session that begins at micro-turn 36,000 are those of one that begins at 0, but for the clock."""
    config = replace(SMALL, clock=False)
    model, inputs = build(config), rich(2, 8)
    early = step_through(model, inputs)
    stepper, state = Stepper(model), StepState.empty(config, 2)
    stepper.read_prefix(state, inputs.prefix)
    state.proactivity, state.turn, state.last = inputs.proactivity, 36_000, 35_000
    for turn in range(8):
        state.heard, state.said = inputs.heard[:, turn], inputs.said[:, turn]
        state.event, state.marks = inputs.event[:, turn], inputs.marks[:, turn]
        out = stepper.step(state, inputs.bins[:, turn])
        torch.testing.assert_close(out.said, early[turn].said, rtol=1e-3, atol=1e-3)


def test_the_two_paths_of_the_experts_agree():
    config = replace(SMALL, experts=8, active=2, expert_width=32)
    experts = build(config).blocks[0].experts
    for rows in (1, 2, 5, 64):
        x = torch.randn(rows, SMALL.width)
        routed = experts.route(x)
        torch.testing.assert_close(experts.gathered(x, *routed), experts.grouped(x, *routed), rtol=1e-4, atol=1e-5)


def test_crowded_experts_become_less_likely():
    experts = build(replace(SMALL, experts=4, active=1, expert_width=16)).blocks[0].experts.train()
    torch.nn.init.zeros_(experts.router.weight)
    seen = torch.zeros(4)
    with torch.no_grad():
        experts.bias[0] = 0.01  # everything goes to the first
        for step in range(60):
            experts(torch.randn(40, SMALL.width))
            seen += experts.load if step >= 20 else 0
            experts.balance()
    assert (seen > 0.1 * seen.sum()).all()


def test_the_future_cannot_reach_the_past(model):
    inputs = conversation(1, 10)
    changed = replace(inputs, bins=inputs.bins.clone())
    changed.bins[:, 6:] = 15 - changed.bins[:, 6:]
    with torch.no_grad():
        a, b = model(inputs), model(changed)
    assert torch.equal(a.heard[:, :6], b.heard[:, :6])
    assert not torch.allclose(a.heard[:, 6:], b.heard[:, 6:])


def test_what_left_the_window_is_forgotten_and_time_goes_on(model):
    """After a gap longer than the window, nothing of before is attended to; rotary time is still the session's."""
    inputs = conversation(1, 30)
    bins, heard, said = inputs.bins, inputs.heard, inputs.said
    stepper = Stepper(model)
    busy, fresh = StepState.empty(SMALL), StepState.empty(SMALL)
    for turn in range(10):
        busy.heard, busy.said = heard[:, turn], said[:, turn]
        stepper.step(busy, bins[:, turn])
    for state in (busy, fresh):
        state.turn, state.heard, state.said = 10 + SMALL.window + 5, heard[:, 20], said[:, 20]
    a, b = stepper.step(busy, bins[:, 20]), stepper.step(fresh, bins[:, 20])
    torch.testing.assert_close(a.heard, b.heard)


def test_skipped_micro_turns_leave_no_ghosts(model):
    """A short gap: the slots of micro-turns that never ran are not attended to, even when the ring wraps."""
    inputs = conversation(1, 40)
    bins, heard, said = inputs.bins, inputs.heard, inputs.said
    stepper = Stepper(model)
    ran = [*range(0, 9), *range(13, 30)]
    state = StepState.empty(SMALL)
    for turn in ran:
        state.turn, state.heard, state.said = turn, heard[:, turn], said[:, turn]
        out = stepper.step(state, bins[:, turn])
    assert int(state.used.sum()) == SMALL.window
    reference = StepState.empty(SMALL)
    reference.keys.fill_(1e4)  # garbage in never-used slots must not matter
    for turn in ran:
        reference.turn, reference.heard, reference.said = turn, heard[:, turn], said[:, turn]
        again = stepper.step(reference, bins[:, turn])
    torch.testing.assert_close(out.heard, again.heard)


def test_state_memory_is_bounded(model):
    bins = conversation(1, 1).bins
    stepper, state = Stepper(model), StepState.empty(SMALL)
    size = state.keys.numel() + state.values.numel()
    for _ in range(100):
        stepper.step(state, bins[:, 0])
    assert state.keys.numel() + state.values.numel() == size
    assert state.turn == 100


def test_time_stays_sharp_after_ten_hours(model):
    """Angles between neighbouring micro-turns after 10 h are those of the start: relative time is all that counts."""
    from interplay.model.blocks import rotary

    def turned_by(turn):
        cos, sin = rotary(torch.tensor([turn, turn + 1]), SMALL)
        return cos[0] * cos[2] + sin[0] * sin[2]

    torch.testing.assert_close(turned_by(0), turned_by(180_000), rtol=0, atol=1e-5)


def test_a_stream_of_slices_has_the_frames_of_the_whole():
    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    stream = DMelStream()
    sliced = np.concatenate([stream.push(audio[i : i + 3200]) for i in range(0, 16_000, 3200)])
    assert np.array_equal(sliced, quantize(mel_power(audio)))


def test_dmel_saturates_and_never_wraps():
    assert quantize(np.array([0.0, 1e9], np.float32)).tolist() == [0, 15]
    assert mel_power(np.zeros(100, np.float32)).shape == (0, CHANNELS)


def test_a_vocabulary_grows_without_moving():
    small = Vocabulary(["apple", "pear"])
    grown = small.extended(["pear", "plum", "plum"])
    assert [grown.id(w) for w in ("apple", "pear", "plum")] == [2, 3, 4]
    assert grown.id("never") == UNKNOWN and grown.text(NONE) == grown.text(UNKNOWN) == ""
    assert Vocabulary.from_list(grown.words).words == grown.words


@pytest.mark.parametrize("word", ["xylophone", "o'clock", "interplay", "a", "zzz", "apple"])
def test_nothing_is_unrepresentable(word):
    vocabulary = Vocabulary(["apple", "a", *PIECES])
    ids, joiner = vocabulary.spell(word), Joiner()
    assert UNKNOWN not in ids and len(ids) <= len(word)
    told = [joiner.push(vocabulary.words[i]) for i in ids] + [joiner.push("")]
    assert [w for w in told if w] == [word]
    assert Vocabulary(["apple"]).spell(word) in ([2], [UNKNOWN])


def test_spelled_words_keep_their_neighbours():
    joiner = Joiner()
    told = [joiner.push(t) for t in ("^k", "+i", "+wi", "apple", "^z", "^y", "", "+s")]
    assert told == ["", "", "", "kiwi apple", "", "z", "y", "s"]


def test_one_file_holds_weights_config_and_vocabulary(tmp_path, model):
    path = tmp_path / "m.safetensors"
    vocabulary = Vocabulary([f"w{i}" for i in range(WORDS - 2)])
    checkpoint.save(path, model, vocabulary, note={"recipe": "test"})
    loaded, words, note = checkpoint.load(path)
    assert words.words == vocabulary.words and note == {"recipe": "test"} and loaded.config == SMALL
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.bfloat16().float()), name


def test_marks_that_are_newer_than_a_checkpoint_add_nothing(tmp_path, model):
    path = tmp_path / "m.safetensors"
    checkpoint.save(path, model, Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(tensors | {"marks": tensors["marks"].repeat(2, 1)}, path, metadata=header)
    with pytest.raises(BadInput, match="not a usable checkpoint"):  # it knows marks that we do not
        checkpoint.load(path)
    save_file(tensors | {"marks": tensors["marks"][:3].clone()}, path, metadata=header)
    loaded, _, _ = checkpoint.load(path)
    assert torch.equal(loaded.marks[:3], model.marks[:3].bfloat16().float()) and not loaded.marks[3:].any()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_broken_checkpoint_is_one_clear_line(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not a usable checkpoint"):
        checkpoint.load(path)
    with pytest.raises(Missing, match="no checkpoint at"):
        checkpoint.load(tmp_path / "absent.safetensors")
