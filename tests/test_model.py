"""The model's promises: fixed shape, causality, stepping equals training, one file holds everything."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from interplay.core.types import BadInput, Missing  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.config import ModelConfig  # noqa: E402
from interplay.model.dmel import CHANNELS, FRAMES, DMelStream, mel_power, quantize  # noqa: E402
from interplay.model.stepping import Stepper, StepState  # noqa: E402
from interplay.model.transformer import InteractionModel  # noqa: E402
from interplay.model.vocabulary import NONE, UNKNOWN, Vocabulary  # noqa: E402

SMALL = ModelConfig(width=64, layers=2, heads=2, feedforward=96, frame_width=16, window=12)
WORDS = 50


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = InteractionModel(SMALL, WORDS)
    for p in model.parameters():
        if not p.detach().any():  # zero-initialised projections would hide what runs through them
            torch.nn.init.normal_(p, std=0.2)
    return model.eval()


def conversation(batch: int, turns: int):
    generator = torch.Generator().manual_seed(1)
    bins = torch.randint(0, 16, (batch, turns, FRAMES, CHANNELS), generator=generator, dtype=torch.uint8)
    heard = torch.randint(0, WORDS, (batch, turns), generator=generator)
    said = torch.randint(0, WORDS, (batch, turns), generator=generator)
    return bins, heard, said


def test_stepping_equals_training_beyond_the_window(model):
    bins, heard, said = conversation(3, 40)  # more than three windows
    with torch.no_grad():
        whole = model(bins, heard, said, torch.roll(heard, -1, 1))
    stepper, state = Stepper(model), StepState.empty(SMALL, 3)
    for turn in range(40):
        state.heard, state.said = heard[:, turn], said[:, turn]
        out = stepper.step(state, bins[:, turn])
        for name in ("decision", "heard", "said"):
            torch.testing.assert_close(getattr(out, name), getattr(whole, name)[:, turn], rtol=1e-4, atol=1e-4)


def test_the_future_cannot_reach_the_past(model):
    bins, heard, said = conversation(1, 10)
    changed = bins.clone()
    changed[:, 6:] = 15 - changed[:, 6:]
    with torch.no_grad():
        a, b = model(bins, heard, said, heard), model(changed, heard, said, heard)
    assert torch.equal(a.heard[:, :6], b.heard[:, :6])
    assert not torch.allclose(a.heard[:, 6:], b.heard[:, 6:])


def test_what_left_the_window_is_forgotten_and_time_goes_on(model):
    """After a gap longer than the window, nothing of before is attended to; rotary time is still the session's."""
    bins, heard, said = conversation(1, 30)
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
    bins, heard, said = conversation(1, 40)
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
    bins, _, _ = conversation(1, 1)
    stepper, state = Stepper(model), StepState.empty(SMALL)
    size = state.keys.numel() + state.values.numel()
    for _ in range(100):
        stepper.step(state, bins[:, 0])
    assert state.keys.numel() + state.values.numel() == size
    assert state.turn == 100


def test_time_stays_sharp_after_ten_hours(model):
    """Angles between neighbouring micro-turns after 10 h are those of the start: relative time is all that counts."""
    from interplay.model.transformer import rotary

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


def test_one_file_holds_weights_config_and_vocabulary(tmp_path, model):
    path = tmp_path / "m.safetensors"
    vocabulary = Vocabulary([f"w{i}" for i in range(WORDS - 2)])
    checkpoint.save(path, model, vocabulary, note={"recipe": "test"})
    loaded, words, note = checkpoint.load(path)
    assert words.words == vocabulary.words and note == {"recipe": "test"} and loaded.config == SMALL
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.bfloat16().float()), name


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_broken_checkpoint_is_one_clear_line(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not a usable checkpoint"):
        checkpoint.load(path)
    with pytest.raises(Missing, match="no checkpoint at"):
        checkpoint.load(tmp_path / "absent.safetensors")
