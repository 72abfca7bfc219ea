"""What holds for every scene: causal, exact, reproducible, one word a micro-turn; and what the world does to it."""

import random
from functools import cache

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from interplay.core.types import MICRO_TURN_S
from interplay.model.dmel import FRAMES
from interplay.training import augment
from interplay.training.language import base_vocabulary, is_held_out
from interplay.training.language.words import BACKCHANNELS
from interplay.training.scenes import PROGRAMS, Composer, Input, Listener, Mix, Scene, Sound, cues, simultaneous
from interplay.training.scenes import stage as stage_module
from interplay.training.scenes.scene import LONGEST_PREFIX
from interplay.training.scenes.stage import Stage
from interplay.training.scenes.world import lose

TURNS = 150
VOCABULARY = set(base_vocabulary())
DECISIONS = {"backchannel", "yield", "delegate", "deliver", "tool"}


def compose(seed, mix: Mix, **options) -> tuple[Scene, Stage]:
    composer = Composer(random.Random(f"test/{seed}"), TURNS, mix=mix, **options)
    return composer.compose(), composer.stage


@pytest.fixture(scope="module")
def whole() -> list[tuple[Scene, Stage]]:
    """Scenes of the whole curriculum."""
    return [compose(f"whole/{i}", Mix.everything()) for i in range(24)]


def test_every_scene_is_well_formed(whole):
    for scene, _ in whole:
        for words in (scene.heard, scene.said, scene.events, scene.voiced):
            turns = [turn for turn, _ in words]
            assert turns == sorted(set(turns)) and all(0 <= turn < TURNS for turn in turns)
            assert {word for _, word in words} <= VOCABULARY
        said = dict(scene.said)
        assert set(scene.decisions.values()) <= DECISIONS
        for turn, decision in scene.decisions.items():
            assert (turn in said) == (decision in ("backchannel", "tool")), decision
            assert decision != "backchannel" or said[turn] in BACKCHANNELS
        assert len(scene.prefix) <= LONGEST_PREFIX and set(scene.prefix) <= VOCABULARY
        assert 0 <= scene.proactivity <= 1
        for turns in (scene.pending, scene.busy, scene.missing):
            assert all(0 <= turn < TURNS for turn in turns)
        assert scene.power.shape == (TURNS * FRAMES, 80) and scene.power.dtype == np.float32
        assert np.isfinite(scene.power).all() and scene.power.min() >= 0


def test_the_same_seed_makes_the_same_scene(monkeypatch):
    """All but the engine, which carries state from one sentence to the next: a few milliseconds of a word's length."""
    from interplay.training import clips

    once = cache(clips.synthesise)
    for module in (stage_module, cues, simultaneous):
        monkeypatch.setattr(module, "synthesise", once)
    for seed in range(3):
        (a, _), (b, _) = compose(seed, Mix.everything()), compose(seed, Mix.everything())
        fields = ("heard", "said", "decisions", "events", "voiced", "pending", "busy", "prefix", "proactivity")
        assert [getattr(a, name) for name in fields] == [getattr(b, name) for name in fields]


def test_all_targets_follow_from_the_past(whole):
    """A second listener that is told nothing about sounds beyond the present does the same in every micro-turn."""
    for scene, stage in whole:
        twin = Listener(scene.proactivity, scene.prefix)
        for turn in range(TURNS):
            now = (turn + 1) * MICRO_TURN_S
            sounds = tuple(
                Sound(s.start_s, min(s.end_s, now), s.backchannel) for s in stage.everything if s.start_s < now
            )[-6:]
            given = Input(
                turn, stage.tokens.get(turn), sounds, stage.events.get(turn, ""), turn in scene.pending,
                turn in scene.busy,
            )  # fmt: skip
            assert twin.step(given) == stage.outputs[turn], turn


def test_a_word_is_due_once_it_has_sounded_and_before_long(whole):
    for scene, stage in whole:
        for _, end, turn in stage.word_times:
            if turn < TURNS:
                assert (turn + 1) * MICRO_TURN_S >= end + 0.15 - 1e-6
        lags = [(turn + 1) * MICRO_TURN_S - end for _, end, turn in stage.word_times]
        assert not lags or np.mean(np.array(lags) < 0.75) > 0.9  # fast speech spills a little
        assert [t for t, _ in scene.heard] == [t for t in sorted(stage.tokens) if t in dict(scene.heard)]


def test_a_result_is_delivered_into_silence():
    checked = 0
    for seed in range(6):
        _, stage = compose(f"silence/{seed}", Mix.only("delegate"))
        for turn, out in enumerate(stage.outputs):
            now = (turn + 1) * MICRO_TURN_S
            if out.decision == "deliver":
                assert all(not (s.start_s < now and s.end_s > now - 0.6) for s in stage.everything), turn
                checked += 1
    assert checked > 3


def test_busy_lasts_as_long_as_the_voice_reads_and_ends_with_a_yield():
    delivered = yielded = 0
    for seed in range(14):
        scene, _ = compose(f"busy/{seed}", Mix.only("delegate"))
        for turn, decision in scene.decisions.items():
            if decision == "deliver":
                delivered += 1
                assert turn in scene.pending and turn not in scene.busy and turn + 1 not in scene.pending
                assert turn + 1 in scene.busy or turn + 1 == TURNS
            if decision == "yield" and turn in scene.busy:
                yielded += 1
                assert turn + 1 not in scene.busy
        assert {turn for turn, _ in scene.voiced} <= scene.busy
        own = {t for t, _ in scene.said if scene.decisions.get(t) not in ("tool", "backchannel")}
        assert not own & scene.busy, "two voices at once"
    assert delivered > 6 and yielded > 0


def test_held_out_phrasings_never_train_and_are_used_when_asked_for():
    for seed in range(10):
        _, stage = compose(f"phrasing/{seed}", Mix.everything(decoy=0.0))
        for _, words in spoken(stage):
            assert not is_held_out(words), words
    found = 0
    for seed in range(6):
        _, stage = compose(f"phrasing/{seed}", Mix.only("every", "question", "cue"), held_out_words=True)
        found += sum(is_held_out(words) for _, words in spoken(stage))
    assert found > 6


def spoken(stage: Stage) -> list[tuple[float, list[str]]]:
    """(end, words) of each thing the person said in one breath."""
    parts, words = [], []
    for _, token in sorted(stage.tokens.items()):
        words.append(token.word)
        if token.final:
            parts.append((token.end_s, words))
            words = []
    return parts


def test_the_plain_mix_has_the_first_five_programs_and_a_plain_world():
    scene, _ = compose("plain", Mix())
    assert scene.proactivity == 0.5 and scene.prefix == () and not scene.missing and not scene.decisions
    with pytest.raises(TypeError):
        Mix.only("every", sing=1.0)


def test_the_listeners_own_voice_leaks_back_and_changes_no_target():
    quiet, loud = (compose("echo", Mix.only("question", echo=share))[0] for share in (0.0, 1.0))
    assert dict(quiet.said).keys() and quiet.power.shape == loud.power.shape
    stage = Stage(random.Random(0), 50, None, Mix(), held_out=False, held_out_words=False)
    scene = stage.scene()
    scene.said = [(10, "apple"), (20, "banana")]
    from interplay.training.scenes.world import leak

    leak(scene, random.Random(1))
    energy = scene.power.mean(1).reshape(50, FRAMES).sum(1)
    assert energy[:11].sum() == 0 and energy[11:15].sum() > 0 and energy[21:25].sum() > 0 and energy[40:].sum() == 0


def test_lost_micro_turns_are_silent_marked_and_spare_what_matters():
    seen = 0
    for seed in range(8):
        scene, stage = compose(f"lost/{seed}", Mix.only("every", "cue", missing=1.0))
        assert scene.missing
        for turn in scene.missing:
            assert not scene.power[turn * FRAMES : (turn + 1) * FRAMES].any()
        heard = {turn for turn, _ in scene.heard}
        for start, end, turn in stage.word_times:
            token = stage.tokens.get(turn)
            if token is None:
                continue
            lost = sum(
                max(0.0, min(end, (t + 1) * MICRO_TURN_S) - max(start, t * MICRO_TURN_S)) for t in scene.missing
            )
            seen += lost > 0
            if turn not in heard:
                assert lost > 0.79 * (end - start), token
    assert seen > 5
    scene, stage = compose("lost/none", Mix.only("chatter"))
    before = scene.power.copy()
    lose(stage, scene, random.Random(0))
    kept = [t for t in range(TURNS) if t not in scene.missing]
    same = before.reshape(TURNS, -1)[kept] == scene.power.reshape(TURNS, -1)[kept]
    assert same.all()


@pytest.mark.parametrize("change", [augment.jump_levels, augment.clip_peaks, augment.telephone])
def test_lines_change_sound_without_breaking_it(change):
    scene, _ = compose("line", Mix.only("chatter"))
    power = change(scene.power.copy(), random.Random(2))
    assert power.shape == scene.power.shape and np.isfinite(power).all() and power.min() >= 0
    assert not np.allclose(power, scene.power)


def test_a_phone_line_has_no_bass_and_no_treble():
    power = augment.telephone(np.ones((100, 80), np.float32), random.Random(0))
    assert power[:, :8].max() < 0.01 and power[:, 62:].max() < 0.01 and power[:, 20:50].min() > 0.9


def test_every_program_plays_and_the_table_is_complete():
    for program in PROGRAMS:
        scene, _ = compose(f"program/{program}", Mix.only(program, decoy=0.0))
        assert scene.heard, program


def test_manners_are_drawn_over_the_whole_range():
    drawn = {round(compose(f"manners/{i}", Mix.only("chatter", manners=1.0))[0].proactivity, 1) for i in range(14)}
    assert len(drawn) >= 4 and min(drawn) <= 0.1 and max(drawn) >= 0.9
