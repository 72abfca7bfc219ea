"""Scenes are exact, reproducible and free of held-out voices; training learns, stops and resumes."""
# Parts are reached by name here that their types do not show.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportOptionalSubscript=false

import json
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("espeakng_loader")

import numpy as np
import soundfile
import torch

from interplay.core.types import BadInput
from interplay.model import blocks, checkpoint
from interplay.model.blocks import window_mask
from interplay.model.config import DECISIONS, MARKS, ModelConfig
from interplay.model.dmel import CHANNELS, FRAMES, mel_power
from interplay.model.transformer import BagOfEmbeddings, InteractionModel
from interplay.model.vocabulary import PIECES, Vocabulary
from interplay.training import espeak, evaluate, language, loop, optimizer, precision, scenes
from interplay.training.clips import Bank, Clip, cut, synthesise
from interplay.training.dataset import SceneStream, _start, collate, stream
from interplay.training.language import CONTENT, Request
from interplay.training.loop import Run, train
from interplay.training.recipe import DataSettings, Recipe, TrainSettings, load_recipe
from interplay.training.scenes import Composer, Mix, Scene
from interplay.training.scenes.stage import Stage
from interplay.training.speakers import PITCHES, Build, respeak

VOICE = espeak.SyntheticVoice("en-us", "m1", 170, 50, 50)


def only(kind: str) -> Mix:
    return Mix(**{k: float(k == kind) for k in ("every", "after", "cue", "repeat", "chatter")})


def compose(kind: str, seed: int, turns: int = 150):
    return Composer(random.Random(seed), turns, mix=only(kind)).compose()


def test_word_times_are_where_the_sound_is():
    """Cut a sentence at a reported word end: what follows the last word's end is nearly silent."""
    audio, words = espeak.engine().speak("say hello", VOICE)
    assert [w for w, _ in words] == ["say", "hello"]
    ends = [int(end * 16_000) for _, end in words]
    rest, last = audio[ends[1] :], audio[ends[0] : ends[1]]
    assert np.square(rest).sum() < 0.05 * np.square(last).sum()


def test_held_out_voices_never_train():
    assert not set(espeak.HELD_OUT_VARIANTS) & set(espeak.TRAINING_VARIANTS)
    rng = random.Random(0)
    trained = {espeak.random_voice(rng).variant for _ in range(3000)}
    judged = {espeak.random_voice(rng, held_out=True).variant for _ in range(300)}
    assert trained <= set(espeak.TRAINING_VARIANTS) and judged == set(espeak.HELD_OUT_VARIANTS)


@pytest.mark.parametrize("kind", ["every", "after", "cue", "repeat", "stop"])
def test_every_sentence_of_the_grammar_means_what_it_was_written_for(kind):
    rng = random.Random(1)
    for _ in range(400):
        text = language.write_request(kind, rng, seconds=("two", "nine"), avoid=frozenset())
        request = language.parse_request(text.split())
        assert request is not None and request.kind == kind, text


def test_chatter_asks_for_nothing():
    rng = random.Random(2)
    for _ in range(2000):
        text = language.write_chatter(rng, rng.choice((None, "apple")))
        assert language.parse_request(text.split()) is None, text


def test_every_n_seconds_is_due_every_n_seconds_until_stop():
    seen_stop = False
    for seed in range(30):
        scene = compose("every", seed)
        for end, request in scene.requests:
            if request.kind != "every" or len(request.phrase) > 1:
                continue
            stops = [e for e, r in scene.requests if r.kind == "stop" and e > end]
            seen_stop |= bool(stops)
            until = stops[0] if stops else scene_seconds(scene)
            same = sum(r.phrase == request.phrase for _, r in scene.requests)
            said = [turn for turn, word in scene.said if word == "".join(request.phrase)]
            count = int((until - end - 0.3) / request.seconds)
            if same == 1 and len(stops) < 2:
                for k in range(1, count + 1):
                    due = end + k * request.seconds
                    assert any(abs((turn + 1) * 0.2 - due) <= 0.41 for turn in said), (seed, request, due, said)
                assert all((turn + 1) * 0.2 <= until + 0.8 for turn in said)
    assert seen_stop


def scene_seconds(scene) -> float:
    return len(scene.power) / 50


def test_a_cue_is_answered_right_after_it_was_heard_and_only_then():
    answered = 0
    for seed in range(30):
        scene = compose("cue", seed)
        cues = {r.cue: r.phrase for _, r in scene.requests if r.kind == "cue"}
        for turn, word in scene.said:
            before = [w for t, w in scene.heard if turn - 12 <= t < turn]
            assert any(cue in before and word in phrase for cue, phrase in cues.items()), (seed, turn, word)
            answered += 1
    assert answered > 20


def test_chatter_is_left_alone():
    for seed in range(20):
        assert compose("chatter", seed).said == []


def test_heard_words_come_one_per_micro_turn_and_never_before_they_end():
    for seed in range(10):
        scene = compose("chatter", seed)
        turns = [turn for turn, _ in scene.heard]
        assert turns == sorted(set(turns))


def test_a_batch_has_the_same_words_whoever_makes_it():
    vocabulary = language_vocabulary()
    stream = SceneStream(vocabulary, [], seed=5, start=0, lengths=[(80, 2, 1.0)])
    a, b, other = stream.batch(3, None), stream.batch(3, None), stream.batch(4, None)
    assert words_of(a) == words_of(b) != words_of(other)
    seen = a.inputs()
    assert torch.equal(seen.heard[:, 1:], a.heard[:, :-1]) and not seen.heard[:, 0].any()
    assert torch.equal(seen.said[:, 1:], a.said[:, :-1]) and torch.equal(seen.transcript, a.heard)


def test_every_scene_is_in_several_batches_and_sounds_different_in_each():
    """24 batches later the same people say the same; whoever starts in the middle gets the same batches."""
    mix = Mix.only("every", "chatter", echo=0.5, missing=0.3)
    made = {"seed": 5, "start": 0, "lengths": [(40, 2, 1.0)], "mix": mix, "takes": 2}
    stream = SceneStream(language_vocabulary(), [], **made)
    first, other, second = (stream.batch(step, None) for step in (3, 4, 3 + SceneStream.APART))
    assert torch.equal(first.said, second.said) and not torch.equal(first.said, other.said)
    assert (first.bins != second.bins).float().mean() > 0.3 and first.start != second.start
    resumed = SceneStream(language_vocabulary(), [], **made).batch(3 + SceneStream.APART, None)
    assert words_of(resumed) == words_of(second) and resumed.start == second.start
    assert not stream._performed.keys() & {3}  # nothing is kept beyond its last take


def test_where_a_minute_is_waited_for_the_session_has_run_whole_minutes():
    minute = Request("minute", ("apple",))
    power = np.zeros((20 * FRAMES, CHANNELS), np.float32)
    waiting, other = (Scene(power, [], [], requests) for requests in ([(1.0, minute)], []))
    starts = [_start([other, waiting], random.Random(seed)) for seed in range(20)]
    assert not any(start % 300 for start in starts) and len(set(starts)) > 10
    assert any(_start([other], random.Random(seed)) % 300 for seed in range(20))


def test_the_bag_of_embeddings_is_the_same_in_training_as_in_serving():
    torch.manual_seed(0)
    bag = BagOfEmbeddings(ModelConfig(width=32, heads=2, frame_width=16))
    bins = torch.randint(0, 16, (3, 50, FRAMES, CHANNELS), dtype=torch.uint8)  # more frames than fit at once
    trained = bag(bins)
    trained.square().sum().backward()
    gradient, bag.table.grad = bag.table.grad, None
    hot = torch.nn.functional.one_hot(bins.long(), 16).float().flatten(-2)
    plain = (hot @ bag.table).reshape(3, -1, 5 * 16)
    plain = bag.narrow(torch.nn.functional.gelu(bag.wide(plain)))
    plain.square().sum().backward()
    torch.testing.assert_close(trained, plain)
    torch.testing.assert_close(gradient, bag.table.grad, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        bag.requires_grad_(False)
        torch.testing.assert_close(bag(bins), trained)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_on_a_cpu_is_attention(masked):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 30, 16).to(torch.bfloat16)
    mask = window_mask(15, 2, 5) if masked else None
    plain = torch.nn.functional.scaled_dot_product_attention(
        q.float(), k.float(), v.float(), attn_mask=mask, is_causal=mask is None
    )
    torch.testing.assert_close(blocks._attention(q, k, v, mask).float(), plain, rtol=0.05, atol=0.03)


def test_without_a_compiler_training_goes_uncompiled(monkeypatch):
    model = InteractionModel(ModelConfig(width=32, layers=1, heads=2, feedforward=32, frame_width=8), 20)
    plain = model.blocks[0].look
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert loop._compiled(model, "cpu") is model and model.blocks[0].look == plain
    monkeypatch.delenv("CXX")
    assert (loop._compiled(model, "cpu").blocks[0].look != plain) == precision.can_compile()


def test_whether_bf16_pays_is_measured_and_muon_obeys():
    assert precision.pays("cpu") in (True, False) and precision.pays("cuda:0")
    matrix = torch.nn.Parameter(torch.zeros(24, 16))
    (step,) = (optimizer.Muon([matrix], lr=0.1, dtype=torch.bfloat16),)
    matrix.grad = torch.randn(24, 16)
    step.step()
    assert matrix.dtype == torch.float32
    singular = torch.linalg.svdvals(matrix / (0.1 * 0.2 * 24**0.5))
    assert singular.min() > 0.5 and singular.max() < 1.4


def rich_scene(decisions: dict[int, str] | None = None, **more) -> Scene:
    power = np.zeros((20 * FRAMES, CHANNELS), np.float32)
    if decisions is None:
        decisions = {3: "backchannel", 5: "delegate", 6: "tool"}
    return Scene(power, [(1, "apple")], [(3, "mhm"), (6, "timer")], [], decisions, **more)


def test_a_batch_carries_everything_a_scene_has():
    vocabulary = Vocabulary(["apple", "mhm", "timer", "well", *PIECES])
    one = rich_scene(
        events=[(2, "apple"), (4, "kiwi")], voiced=[(9, "well")], pending={7, 8}, busy={9}, missing={0},
        prefix=("apple", "kiwi"), proactivity=0.9, frames=np.full((20, 80, 80, 3), 7, np.uint8),
    )  # fmt: skip
    batch = collate([one, rich_scene()], vocabulary)
    assert [DECISIONS[d] for d in batch.decision[0, :8]] == [
        "listen", "listen", "listen", "backchannel", "listen", "delegate", "tool", "listen",
    ]  # fmt: skip
    spelled = vocabulary.spell("kiwi")
    assert batch.event[0, 4 : 4 + len(spelled)].tolist() == spelled and not batch.event[1].any()
    assert batch.marks[0].sum() == 5 and batch.marks[0, 7].tolist() == [False, True, False, False]
    assert batch.marks[1].nonzero().tolist() == [[6, MARKS.index("delegated")]]  # after the delegation
    assert batch.prefix[0, : 1 + len(spelled)].tolist() == [2, *spelled] and not batch.prefix[1].any()
    assert batch.proactivity.tolist() == pytest.approx([0.9, 0.5])
    assert batch.frames[0].min() == 7 and not batch.frames[1].any()
    seen = batch.inputs()
    assert seen.said[0, 10] == vocabulary.id("well") and batch.said[0, 9] == 0  # fed back, not asked for
    plain = collate([rich_scene(decisions={})], vocabulary)
    assert plain.event is plain.marks is plain.prefix is plain.frames is plain.voiced is None


def test_a_model_that_knows_more_starts_from_one_that_knew_less(tmp_path):
    torch.manual_seed(0)
    shape = ModelConfig(width=32, layers=1, heads=2, feedforward=32, frame_width=8, window=10)
    old, words = InteractionModel(shape, 4), Vocabulary(["apple", "pear"])
    checkpoint.save(tmp_path / "old.safetensors", old, words)
    wanted = Vocabulary(["pear", "plum", *PIECES])
    grown, known = loop._grown(tmp_path / "old.safetensors", replace(shape, glances=2), wanted)
    assert known.words[:5] == ["<none>", "<unk>", "apple", "pear", "plum"] and grown.eyes is not None
    assert torch.equal(grown.words[:4], old.words.bfloat16().float())
    with pytest.raises(BadInput, match="another shape"):
        loop._grown(tmp_path / "old.safetensors", replace(shape, width=64), wanted)


def words_of(batch) -> list[int]:
    return batch.heard[batch.heard > 0].tolist()


def language_vocabulary():
    from interplay.model.vocabulary import Vocabulary

    return Vocabulary(language.base_vocabulary())


def test_nothing_in_the_grammar_is_out_of_vocabulary():
    vocabulary = language_vocabulary()
    for seed in range(12):
        for kind in ("every", "cue", "chatter"):
            scene = compose(kind, seed, turns=100)
            assert all(w in vocabulary for _, w in scene.heard + scene.said), scene.heard


def test_another_speaker_keeps_the_words_in_order():
    clip = synthesise("one two three", VOICE)
    build = Build(tempo=1.25, formants=1.1, bends=(0.0, 1.0), colour_db=(3.0, -3.0), contrast=0.9)
    faster = Clip(*respeak(clip.power, clip.words, build, random.Random(0)))
    assert faster.text() == clip.text()
    assert faster.seconds == pytest.approx(clip.seconds / 1.25, abs=0.03)
    assert faster.words[-1][1] == pytest.approx(clip.words[-1][1] / 1.25, abs=0.01)


def test_a_speaker_of_no_other_build_says_the_same_and_an_unsteady_one_keeps_words_with_their_sound():
    clip = synthesise("one two three", VOICE)
    power, words = respeak(clip.power, clip.words, Build(), random.Random(0))
    assert np.array_equal(power, clip.power) and words == tuple((w, pytest.approx(end)) for w, end in clip.words)
    for seed in range(8):
        power, words = respeak(clip.power, clip.words, Build(tempo=0.9, unsteady=0.2), random.Random(seed))
        ends = [end for _, end in words]
        assert ends == sorted(ends) and ends[-1] <= len(power) / 50 + 0.02
        for (_, end), (_, was) in zip(words, clip.words, strict=True):
            frame, old = min(int(end * 50), len(power) - 1), min(int(was * 50), len(clip.power) - 1)
            near = clip.power[max(0, old - 1) : old + 2]
            assert any(np.array_equal(power[frame], row) for row in near)


def test_synthetic_voices_of_training_are_often_of_another_build_and_held_out_ones_never():
    rng = random.Random(0)
    voices = [espeak.random_voice(rng) for _ in range(200)]
    assert 90 < sum(voice.build is not None for voice in voices) < 170
    assert all(espeak.random_voice(rng, held_out=True).build is None for _ in range(50))
    built = next(voice for voice in voices if voice.build)
    plain, other = synthesise("say blue", replace(built, build=None)), synthesise("say blue", built)
    assert [w for w, _ in plain.words] == [w for w, _ in other.words]
    same = min(len(plain.power), len(other.power))
    assert not np.allclose(plain.power[:same], other.power[:same], rtol=0.2)


def test_speakers_are_near_their_recordings_from_a_batch_on(tmp_path, monkeypatch):
    drawn, scene = [], Scene(np.zeros((1000, 80)), [], [], [])
    monkeypatch.setattr(Composer, "perform", lambda self: drawn.append(self.mix.variety) or (None, scene))
    dataset = SceneStream(
        language_vocabulary(), [], seed=1, start=0, lengths=[(100, 1, 1.0)], mix=Mix(variety=0.8), near=10
    )
    for number in (0, 9, 10, 23):
        dataset._perform(number, None)
    assert drawn == [0.8, 0.8, 0.4, 0.4]
    drawn.clear()
    dataset.takes, dataset.near = 3, 80  # what is performed as number 24 is first in batch 72, number 32 in batch 80
    for number in (24, 31, 32, 47):
        dataset._perform(number, None)
    assert drawn == [0.8, 0.8, 0.4, 0.4]
    near, wide = (espeak.random_build(random.Random(3), variety) for variety in (0.0, 1.0))
    assert near == Build(bends=(0.0,) * 5, colour_db=(0.0,) * 6) and wide.formants != 1.0


def test_longer_scenes_begin_with_the_batch_that_the_recipe_names(monkeypatch):
    drawn, scene = [], Scene(np.zeros((1000, 80)), [], [], [])
    monkeypatch.setattr(Composer, "perform", lambda self: drawn.append(self.turns) or (None, scene))
    lengths = [(100, 1, 0.0), (200, 1, 1.0)]
    dataset = SceneStream(language_vocabulary(), [], seed=1, start=0, lengths=lengths, warmup=80, takes=3)
    for number in (0, 24, 31, 32, 47, 48):  # as above: number 32 is first in batch 80
        dataset._perform(number, None)
    assert drawn == [100, 100, 100, 200, 200, 200]


def test_a_scene_has_one_recorded_speaker_and_its_neighbour_is_another(tmp_path):
    rng, rows = random.Random(0), []
    texts = ("the tiger is in the garden", "we saw a lemon there", "say water every two seconds")
    for number, (speaker, text) in enumerate((s, t) for s in ("ann", "ben", "ann*0.5+cat*0.5", "dan") for t in texts):
        words = [[word, 0.4 * (i + 1)] for i, word in enumerate(text.split())]
        sound = np.full(int(6400 * len(words)), 0.01, np.float32) * rng.uniform(0.5, 1)
        soundfile.write(tmp_path / f"{number}.wav", sound, 16_000)
        rows.append({"file": f"{number}.wav", "text": text, "speaker": speaker, "words": words})
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bank, picked = Bank([tmp_path]), []
    heard_as, clip, sounded = bank._heard_as, bank.clip, set()
    bank.clip = lambda number: sounded.add(number) or clip(number)
    bank._heard_as = lambda rng, clip, speaker: picked.append(speaker) or heard_as(rng, clip, speaker)
    others = 0
    for seed in range(20):
        stage = Stage(random.Random(seed), 300, bank, Mix(natural=1.0), held_out=False, held_out_words=False)
        person, neighbour = stage.person, stage.neighbour
        if person is None or stage.natural < 1:
            continue  # a scene of anybody, or of synthetic people
        own = {n for n in range(len(bank)) if bank._speakers[n] & person.names}
        picked.clear()
        sounded.clear()
        assert bank.of([n for n, _ in bank.requests["every"]], person), "everybody recorded one"
        for said in (stage.chatter("lemon"), stage.recorded("every", 5.0), stage.chatter()):
            assert said is not None
        assert picked == [person] * 3, "one build for all that is said"
        assert sounded and sounded <= own, "by nobody else's recordings"
        assert set(bank.of(list(range(len(bank))), person)) == own
        assert not person.names & neighbour.names
        stage.beside("hey anna", 2.0, near=True)
        assert picked[-1] is neighbour
        others += 1
    assert others > 5
    assert bank.speaker(rng).build or bank.speaker(rng).build or bank.speaker(rng).build, "mostly of another build"
    plain = Bank([tmp_path], held_out=frozenset({"ann"}), keep_only=True)
    assert plain.speaker(rng).build is None, "who is kept for tests is as recorded"


def test_a_recording_is_there_at_three_pitches_and_no_words_are_exchanged_between_them(tmp_path):
    audio, words = espeak.engine().speak("i put the cat in the garden", VOICE)
    soundfile.write(tmp_path / "0.flac", audio, 16_000)
    row = {"file": "0.flac", "text": "i put the cat in the garden", "voice": "ann", "words": words}
    (tmp_path / "index.jsonl").write_text(json.dumps(row))
    bank = Bank([tmp_path])
    own, *others = (bank.clip(number) for number in range(len(bank)))
    assert [round(own.words[-1][1] / clip.words[-1][1], 2) for clip in others] == list(PITCHES)
    assert [own.seconds / clip.seconds for clip in others] == [pytest.approx(p, abs=0.03) for p in PITCHES]
    assert len(bank._talk) == 3 and all(len(numbers) == 1 for numbers in bank._talk.values())
    assert len(Bank([tmp_path], held_out=frozenset({"ann"}), keep_only=True)) == 1


def test_a_data_folder_is_read_and_a_voice_held_out(tmp_path):
    audio, words = espeak.engine().speak("say blue after five seconds", VOICE)
    rows = []
    for name in ("ann", "ben", "ann*0.4+ben*0.6"):
        file = f"{len(rows)}.flac"
        soundfile.write(tmp_path / file, audio, 16_000)
        rows.append({"file": file, "text": "Say blue after five seconds.", "voice": name, "words": words})
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(Bank([tmp_path])) == 3 * (1 + len(PITCHES))
    bank = Bank([tmp_path], held_out=frozenset({"ben"}))
    assert len(bank) == len(bank.requests["after"]) == 1 + len(PITCHES)
    assert len(Bank([tmp_path], held_out=frozenset({"ben"}), keep_only=True)) == 2
    original = mel_power(audio)
    restored = bank.clip(0).power
    loud = original > 1e-3
    assert np.allclose(np.log10(restored[loud]), np.log10(original[loud]), atol=0.01)
    with pytest.raises(BadInput, match=r"no index.jsonl"):
        Bank([tmp_path / "nowhere"])
    (tmp_path / "index.jsonl").write_text('{"file": 1')
    with pytest.raises(BadInput, match=r"index.jsonl:1"):
        Bank([tmp_path])


def test_word_errors_are_counted():
    assert evaluate.edit_distance(["a", "b", "c"], ["a", "b", "c"]) == 0
    assert evaluate.edit_distance(["a", "b", "c"], ["a", "c", "d", "e"]) == 3
    assert evaluate.edit_distance([], ["x"]) == 1


def test_scores_punish_what_nobody_asked_for():
    scene = scenes.Scene(np.zeros((1000, 80), np.float32), [(5, "hi")], [(10, "yes")], [])
    perfect = evaluate.score([scene], [[(5, "hi")]], [[(11, "yes")]])
    assert perfect["perfect"] == 1 and perfect["wer"] == 0 and perfect["lag_s"] == pytest.approx(0.2)
    noisy = evaluate.score([scene], [[(5, "hi")]], [[(11, "yes"), (50, "yes")]])
    assert noisy["perfect"] == 0 and noisy["said_recall"] == 1 and noisy["false_per_min"] > 0
    late = evaluate.score([scene], [[(5, "hi")]], [[(20, "yes")]])
    assert late["said_recall"] == 0


def test_a_recipe_with_a_wrong_key_is_one_clear_line(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("[train]\nsteps = 3\nspeed = 9\n")
    with pytest.raises(BadInput, match=r"\[train\] has no speed"):
        load_recipe(path)
    path.write_text("[train\n")
    with pytest.raises(BadInput, match="not a recipe"):
        load_recipe(path)
    with pytest.raises(BadInput, match="no recipe at"):
        load_recipe(tmp_path / "absent.toml")
    path.write_text("train = 3\n")
    with pytest.raises(BadInput, match=r"train is a table: write \[train\]"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('near_from = "late"', r"\[train\] near_from is a number, not 'late'"),
        ("steps = 3.5", r"\[train\] steps is a whole number, not 3.5"),
        ("compile = 1", r"\[train\] compile is true or false, not 1"),
        ("lengths = 5", r"\[train\] lengths is a list, not 5"),
        ("lengths = [[100, 32]]", r"\[train\] lengths has 3 entries a row, not \[100, 32\]"),
        ('lengths = [[100, 32, "x"]]', r"\[train\] lengths is a number, not 'x'"),
        ("[data]\nheld_out = [3]", r"\[data\] held_out is text, not 3"),
        ("[data]\nmix = 4", r"\[data\] mix is a table, not 4"),
        ('[data]\nmix = { cue = "often" }', r"\[data.mix\] cue is a number, not 'often'"),
        ("[data]\nmix = { cues = 1.0 }", r"\[data.mix\] has no cues; it takes every, after"),
        ('[data]\nscenes = "all"', r"\[data\] scenes is one of first, everything, not 'all'"),
    ],
)
def test_a_recipe_with_a_value_of_the_wrong_kind_is_one_clear_line(tmp_path, text, says):
    path = tmp_path / "r.toml"
    path.write_text(f"[train]\n{'' if 'steps' in text else 'steps = 3'}\n{text}\n")
    with pytest.raises(BadInput, match=says):
        load_recipe(path)
    path.write_text('seed = "x"\n')
    with pytest.raises(BadInput, match="seed is a whole number, not 'x'"):
        load_recipe(path)


def test_a_recipe_on_a_base_changes_what_it_names_and_nothing_else(tmp_path):
    runs = Path(__file__).parent.parent / "runs"
    plain, on = load_recipe(runs / "nano.toml"), load_recipe(runs / "nano-on.toml")
    assert on.name == "nano-on" and on.train.lr < plain.train.lr / 2
    assert (on.model, on.data.held_out, on.train.lengths) == (plain.model, plain.data.held_out, plain.train.lengths)
    assert on.data.mix != plain.data.mix and on.data.mix.keys() >= plain.data.mix.keys()
    (tmp_path / "a.toml").write_text('base = "b.toml"\n[train]\nsteps = 3\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n')
    with pytest.raises(BadInput, match="its own base"):
        load_recipe(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text('base = "absent.toml"\n')
    with pytest.raises(BadInput, match="no recipe at"):
        load_recipe(tmp_path / "a.toml")


def _average(share, seen=None):
    numbers = [torch.tensor([1.0 + share.rank]), torch.tensor([[10.0 * share.rank, 4.0]])]
    share.mean(numbers)
    if seen is not None:
        seen += [n.tolist() for n in numbers]


@pytest.mark.slow
def test_two_processes_agree_on_the_mean_of_their_gradients():
    from functools import partial

    from interplay.training import parallel

    seen: list = []
    parallel.run(partial(_average, seen=seen), 2, others=_average)
    assert seen == [[1.5], [[5.0, 4.0]]]


def test_ranks_of_a_shared_batch_hear_different_scenes_of_one_length():
    from interplay.training.parallel import Share

    shares = [
        SceneStream(
            language_vocabulary(), [], seed=5, start=0, lengths=[(80, 4, 1.0), (120, 2, 1.0)], share=Share(rank, 2)
        ).batch(3, None)
        for rank in range(2)
    ]
    assert shares[0].bins.shape == shares[1].bins.shape and shares[0].bins.shape[0] in (1, 2)
    assert words_of(shares[0]) != words_of(shares[1])


class Dying(SceneStream):
    """Its second batch kills the process that makes it, as espeak-ng does now and then."""

    def batch(self, step, bank):
        if step == 2 and self.seed == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(super().batch(step, bank), start=step)


def test_training_outlives_the_processes_that_make_scenes():
    dying = Dying(language_vocabulary(), [], seed=5, start=1, lengths=[(40, 1, 1.0)])
    batches = stream(dying, workers=1)
    with pytest.warns(UserWarning, match="died at batch"):
        assert [next(batches).start for _ in range(4)] == [1, 2, 3, 4]
    batches.close()


@pytest.mark.slow
def test_training_learns_resumes_and_writes_one_usable_file(tmp_path, monkeypatch):
    """A few steps of a tiny model: loss falls, a resumed run continues where it was, the checkpoint listens."""
    monkeypatch.setattr("interplay.training.loop._tests", lambda *_: {})
    settings = TrainSettings(steps=12, lr=0.004, warmup=2, evaluate_every=6, lengths=((40, 3, 1.0),))
    model = ModelConfig(width=64, layers=2, heads=2, feedforward=96, frame_width=16, window=40, clock=True)
    recipe = Recipe("tiny", 1, model, settings, DataSettings())
    losses = []
    short = Recipe("tiny", 1, model, TrainSettings(**{**as_dict(settings), "steps": 6}), DataSettings())
    train(Run(short, tmp_path), lambda p: losses.append(p.loss))
    train(Run(recipe, tmp_path, resume=True), lambda p: losses.append(p.loss))
    path = Run(recipe, tmp_path).checkpoint
    assert len(losses) == 12 and losses[-1] < 0.8 * losses[0]
    from interplay.model import checkpoint

    loaded, vocabulary, note = checkpoint.load(path)
    assert note["step"] == 12
    tests = [compose("every", 0, turns=40)]
    heard, said = evaluate.listen(loaded, vocabulary, tests)
    assert len(heard) == len(said) == 1
    assert collate(tests, vocabulary).bins.shape == (1, 40, 10, 80)


def test_training_with_pictures_resumes_with_its_witness_and_ships_without(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr("interplay.training.loop._tests", lambda *_: {})
    settings = TrainSettings(steps=2, lr=0.004, warmup=1, evaluate_every=2, lengths=((30, 4, 1.0),))
    model = ModelConfig(width=32, layers=1, heads=2, feedforward=48, frame_width=16, window=40, glances=2)
    recipe = Recipe("eyes", 1, model, settings, DataSettings(video=1.0))
    train(Run(recipe, tmp_path))
    before = torch.load(tmp_path / "state.pt", weights_only=True)["witness"]
    losses = []
    longer = replace(recipe, train=replace(settings, steps=3))
    train(Run(longer, tmp_path, resume=True), lambda p: losses.append(p.loss))
    after = torch.load(tmp_path / "state.pt", weights_only=True)["witness"]
    assert len(losses) == 1 and before.keys() == after.keys()
    assert not torch.equal(before["seen.state.weight"], after["seen.state.weight"])
    loaded, _, _ = checkpoint.load(tmp_path / "model.safetensors")
    assert not [name for name in loaded.state_dict() if "witness" in name]
    blind = replace(longer, data=DataSettings())
    with pytest.raises(BadInput, match="--start-from"):
        train(Run(blind, tmp_path, resume=True))


def as_dict(settings: TrainSettings) -> dict:
    from dataclasses import asdict

    return asdict(settings)


def test_every_recipe_in_runs_loads_and_has_a_dial():
    recipes = sorted(Path(__file__).parent.parent.glob("runs/*.toml"))
    assert {"nano", "small", "moe"} <= {path.stem for path in recipes}
    for path in recipes:
        plan = load_recipe(path)
        half = plan.train.dialled(0.5)
        assert half.steps == round(plan.train.steps / 2) and half.lr == plan.train.lr
        InteractionModel(replace(plan.model, layers=1), 50)


def test_a_mixture_of_experts_trains_and_balances(tmp_path):
    shape = ModelConfig(
        width=32, layers=2, heads=2, feedforward=32, frame_width=8, window=20, experts=4, expert_width=16
    )
    settings = TrainSettings(steps=3, lengths=((30, 2, 1.0),), evaluate_every=100, warmup=1)
    train(Run(Recipe("tiny", 1, shape, settings, DataSettings()), tmp_path))
    loaded, _, _ = checkpoint.load(tmp_path / "model.safetensors")
    biases = [block.experts.bias for block in loaded.blocks]
    assert all(bias.abs().max() > 0 for bias in biases)


def test_a_timekeeper_learns_from_running_clocks_alone():
    from interplay.training.witness import UNITS, Timekeeper

    keeper, state = Timekeeper(8), torch.randn(2, 3, 8)
    nothing = torch.full((2, 3, 3), torch.nan)
    assert keeper(state, nothing).item() == 0
    times = nothing.clone()
    times[0, 1, 0] = 500.0  # longer than it can tell apart: the last answer
    loss = keeper(state, times)
    loss.backward()
    assert loss.item() > 0 and keeper.read.weight.grad is not None
    assert keeper.read.weight.grad[:UNITS].abs().sum() > 0 and keeper.read.weight.grad[UNITS:].abs().sum() == 0


def test_a_clip_is_cut_between_two_words_and_nothing_of_it_is_lost():
    power = np.arange(100, dtype=np.float32)[:, None].repeat(80, 1)
    clip = Clip(power, (("what", 0.4), ("is", 0.6), ("two", 1.2), ("plus", 1.5)))
    first, rest = cut(clip, 2)
    assert first.text() == ["what", "is"] and rest.text() == ["two", "plus"]
    assert np.array_equal(np.concatenate([first.power, rest.power]), power)
    begin = first.seconds
    assert first.words[-1][1] <= begin and [end + begin for _, end in rest.words] == pytest.approx([1.2, 1.5])


def test_recordings_say_other_words_of_the_same_speaker_and_mean_the_same_kind_of_thing(tmp_path):
    rows, rng = [], random.Random(0)
    for number in range(13):
        speaker = "ann*0.5+ben*0.5" if number == 12 else ("ann", "ben")[number % 2]
        cue = f"when i say {rng.choice(CONTENT)} say {rng.choice(CONTENT)}"
        text = cue if number % 3 else "say water every two seconds"
        words = text.split()
        audio = np.full(8000 * len(words), 0.01 * (1 + number % 2), np.float32)  # each speaker is differently loud
        soundfile.write(tmp_path / f"{number}.wav", audio * rng.uniform(0.99, 1.01), 16_000)
        ends = [[word, 0.5 * (i + 1)] for i, word in enumerate(words)]
        rows.append({"file": f"{number}.wav", "text": text, "speaker": speaker, "words": ends})
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bank, changed = Bank([tmp_path]), 0
    for number, row in enumerate(rows):
        clip = number * (1 + len(PITCHES))  # at its own pitch
        before, after = bank.clip(clip), bank.reworded(rng, clip)
        either = {*row["speaker"].replace("*0.5", "").split("+"), row["speaker"]}  # a mixture borrows from both
        own = {word for r in rows if r["speaker"] in either for word, _ in r["words"]}
        assert set(after.text()) <= own and len(after.words) == len(before.words)
        assert language.parse_request(after.text()).kind == language.parse_request(before.text()).kind
        assert [end for _, end in after.words] == pytest.approx([end for _, end in before.words], abs=0.05)
        level = after.power[10:-10].mean() / before.power[10:-10].mean()
        assert 0.8 < level < 1.25 or number == 12  # never the other speaker's
        changed += after.text() != before.text()
    assert changed > 6
    plain = Bank([tmp_path], held_out=frozenset({"ann"}), keep_only=True)
    assert plain.pick(rng, [0]).text() == rows[0]["text"].split()


def test_recorded_talk_says_any_word_that_its_speaker_said_elsewhere(tmp_path):
    rows = []
    for number, (speaker, text) in enumerate(
        [("ann", "tiger lemon garden"), ("ann", "i like the apple"), ("ben", "we saw a lemon"), ("ben", "one river")]
    ):
        audio = np.full(8000 * len(text.split()), 0.01 * (1 + (speaker == "ben")), np.float32)
        soundfile.write(tmp_path / f"{number}.wav", audio, 16_000)
        ends = [[word, 0.5 * (i + 1)] for i, word in enumerate(text.split())]
        rows.append({"file": f"{number}.wav", "text": text, "speaker": speaker, "words": ends})
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bank, rng = Bank([tmp_path]), random.Random(0)
    said = {" ".join(bank.saying(rng, "tiger").text()) for _ in range(60)}
    assert all("tiger" in text.split() for text in said)
    assert {"tiger lemon garden", "i like the tiger"} <= said, "whole, and put into another sentence"
    assert not any(word in text for text in said for word in ("saw", "one", "river")), "ben never said it"
    assert bank.saying(rng, "castle") is None
    plain = Bank([tmp_path], held_out=frozenset({"ann"}), keep_only=True)
    assert {" ".join(plain.saying(rng, "tiger").text()) for _ in range(20)} == {"tiger lemon garden"}


def test_a_data_folder_with_requests_alone_has_no_talk_and_scenes_make_their_own(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(40_000, 0.01, np.float32), 16_000)
    words = [[word, 0.5 * (i + 1)] for i, word in enumerate(("say", "water", "every", "two", "seconds"))]
    (tmp_path / "index.jsonl").write_text(json.dumps({"file": "a.wav", "text": "", "speaker": "ann", "words": words}))
    bank = Bank([tmp_path])
    assert bank.talk(random.Random(0)) is None and len(bank) == 1 + len(PITCHES)
    for program in ("chatter", "keep", "translate"):
        mix = Mix.only(program, natural=1.0)
        assert Composer(random.Random(1), 150, bank, mix).compose().heard


def test_the_average_of_two_checkpoints_lies_between_them(tmp_path):
    from interplay.cli import main
    from interplay.model.vocabulary import Vocabulary

    shape, words = ModelConfig(width=32, layers=1, heads=2, feedforward=32, frame_width=8, window=20), ["a", "b"]
    models = [InteractionModel(shape, len(Vocabulary(words))) for _ in range(2)]
    paths = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "other", "out")]
    for path, model in zip(paths, models, strict=False):
        checkpoint.save(path, model, Vocabulary(words), note={"step": 7, "scores": 1})
    checkpoint.save(paths[2], models[0], Vocabulary(["a", "c"]))

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["average", *map(str, arguments)])
        return done.value.code or 0

    assert run(*paths[:2], paths[3], "--share", "0.25") == 0
    one, two, between = (checkpoint.load(path)[0].state_dict() for path in (paths[0], paths[1], paths[3]))
    for name, weight in between.items():
        torch.testing.assert_close(weight, 0.25 * one[name] + 0.75 * two[name], rtol=0.01, atol=1e-3)  # bfloat16
    note = checkpoint.load(paths[3])[2]
    assert note == {"step": 7, "average": {"share": 0.25, "with": "one.safetensors"}}
    assert run(paths[0], paths[2], paths[3]) == 2 and run(paths[0], tmp_path / "none", paths[3]) == 2
    assert run(*paths[:2], paths[3], "--share", "1.5") == 2
