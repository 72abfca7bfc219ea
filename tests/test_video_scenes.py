"""Scenes with eyes: what is due follows from what is to be seen, in time, on both sides of the held-out line."""
# Parts are reached by name here that their types do not show.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from interplay.training.video import figures, sprites, textures
from interplay.training.video.asking import ANSWERS, MOST, ONES, ask_count, ask_start_stop, ask_thing, words
from interplay.training.video.figures import MOVEMENTS, Doing, Pose, skeleton
from interplay.training.video.film import Conditions, film, frame_time
from interplay.training.video.programs import OBJECTS, PROGRAMS, WEIGHTS, Setting, due, ordered, performer
from interplay.training.video.rhythm import NOTHING, Rhythm, Stroke, repetitions
from interplay.training.video.seen import ENDED, WIDTH, Sight
from interplay.training.video.sprites import COLOURS
from interplay.training.video.textures import backdrop

GREY = np.full((textures.SIZE, textures.SIZE, 3), 128, np.uint8)


def shoot(actor, turns: int = 20) -> np.ndarray:
    return film([actor], turns, Conditions(), random.Random(0), GREY).astype(int)


def motion(frames: np.ndarray) -> np.ndarray:
    """How much each frame differs from the one before."""
    return np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_repeats_and_its_words_are_about_what_was_visible(program: str):
    for seed in range(3):
        setting = Setting(random.Random(seed), 50)
        picture = PROGRAMS[program](setting)
        again = PROGRAMS[program](Setting(random.Random(seed), 50))
        assert picture.frames.shape == (50, 80, 80, 3) and picture.frames.dtype == np.uint8
        assert np.array_equal(picture.frames, again.frames) and picture.said == again.said
        turns = [turn for turn, _ in picture.said]
        assert turns == sorted(set(turns)) and all(0 < turn < 50 for turn in turns)
        assert len(picture.said) == len(picture.times)
        for (turn, _), time in zip(picture.said, sorted(picture.times), strict=True):
            assert frame_time(turn, 0.13) > time  # the frame of that micro-turn, however late the camera, is after it


def test_counts_go_up_by_one_and_nothing_is_counted_that_was_not_asked_for():
    silent = 0
    for seed in range(12):
        picture = PROGRAMS["count"](Setting(random.Random(f"c{seed}"), 60))
        assert [word for _, word in picture.said] == list(ONES[: len(picture.said)])
        silent += not picture.said
    assert 0 < silent < 8
    for seed in range(3):
        assert PROGRAMS["never"](Setting(random.Random(seed), 40)).said == ()
        assert PROGRAMS["nothing"](Setting(random.Random(seed), 40)).said == ()


def test_what_is_seen_says_when_a_repetition_ends_and_what_is_there():
    for seed in range(6):
        picture = PROGRAMS["count"](Setting(random.Random(f"s{seed}"), 60))
        seen = picture.seen
        assert seen.shape == (60, WIDTH) and np.isnan(seen[:, 0]).all()
        ends = {int(np.ceil(time / 0.2 - 1e-6)) - 1 for time in picture.times}
        assert ends <= set(np.flatnonzero(seen[:, ENDED])) and (picture.times or not picture.said)
    for seed in range(6):
        picture = PROGRAMS["things"](Setting(random.Random(f"s{seed}"), 60))
        if picture.ask is not None and picture.ask.kind == "name_colour":
            for turn, word in picture.said:
                assert picture.seen[turn + 1, COLOURS.index(word)] == 1
        assert not np.isnan(picture.seen[:, : ENDED + 1]).any()


def test_in_a_plain_film_nothing_moves_but_what_was_asked_about():
    def busy(plain: bool) -> float:
        worst = 0.0
        for seed in range(4):
            picture = PROGRAMS["things"](Setting(random.Random(f"p{seed}"), 60, plain=plain))
            empty = (picture.seen[:, : len(COLOURS)] == 0).all(1)
            still = [t for t in range(1, 60) if empty[max(0, t - 4) : t + 4].all()]  # things come and go gradually
            worst = max([worst, *motion(picture.frames.astype(int))[[t - 1 for t in still]]])
        return worst

    assert busy(plain=True) < 4.0 < busy(plain=False)  # sensor noise alone, on a scale of 255


def test_a_witness_learns_from_what_is_known_alone():
    torch.manual_seed(0)
    witness = Sight(8, 2)
    seen = torch.full((1, 5, WIDTH), float("nan"))
    glances, state = torch.randn(1, 5, 2, 8), torch.randn(1, 5, 8)
    assert witness(glances, state, seen).item() == 0
    seen[0, :, 0] = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])
    loss = witness(glances, state, seen)
    loss.backward()
    assert loss.item() > 0 and witness.state.weight.grad is not None
    assert witness.state.weight.grad[0].abs().sum() > 0 and witness.state.weight.grad[1:].abs().sum() == 0


@pytest.mark.parametrize("movement", (*MOVEMENTS, *OBJECTS))
def test_a_movement_is_to_be_seen_while_it_lasts_and_not_before_or_after(movement: str):
    rhythm = Rhythm((1.0, 2.0), (2.0, 3.0))
    actor = performer(random.Random(3), movement, rhythm, held_out=False, steady=True)
    if movement in MOVEMENTS:
        object.__setattr__(actor, "sway", type(actor.sway)())  # nobody stands quite still; here he does
    moving = motion(shoot(actor, 25))
    assert moving[:2].max() < 0.01 and moving[17:].max() < 0.01  # a waving hand goes up a quarter of a second before
    assert moving[5:14].max() > 0.5
    start = shoot(actor, 25)
    assert np.abs(start[0] - start[-1]).mean() < 0.01  # every repetition ends where it began


def test_feet_stay_on_the_floor_in_a_squat_and_leave_it_in_a_jump():
    body = figures.Body.random(random.Random(0))

    def feet(movement: str, out: float) -> float:
        joints = skeleton(body, figures.moved(movement, Pose(), out, 0.5, 1.0, 2), (0.5, 0.9))
        return float(max(joints["left leg"][2][1], joints["right leg"][2][1]))

    assert feet("squats", 0.0) == pytest.approx(0.9) == feet("squats", 1.0)
    assert feet("jumps", 1.0) < 0.85


def test_rhythms():
    rhythm = repetitions(random.Random(1), 1.0, 15.0, 6, 1.2, pauses=0.5)
    assert len(rhythm.ends) == 6 and rhythm.ends[-1] <= 15
    assert rhythm.phase(0.9) == 0 and rhythm.index(0.9) == -1
    assert 0.4 < rhythm.phase((rhythm.starts[2] + rhythm.ends[2]) / 2) < 0.6
    assert rhythm.activity(rhythm.starts[0] - 1) == 0 and rhythm.activity(rhythm.starts[0]) == 1
    assert NOTHING.activity(3.0) == 0
    assert repetitions(random.Random(1), 1.0, 1.4, 6, 1.2).ends == ()
    for stroke in (Stroke(), Stroke(0.25, 0.15, 0.2), Stroke(skew=-0.2)):
        path = [stroke.excursion(i / 100) for i in range(101)]
        assert path[0] == 0 and path[-1] == pytest.approx(0, abs=1e-9) and max(path) == pytest.approx(1, abs=1e-3)
        assert max(abs(np.diff(path))) < 0.08


def test_due_and_ordered():
    assert [due(t) for t in (0.0, 0.19, 0.2, 0.5)] == [1, 1, 2, 3]
    assert ordered([(3, "a"), (3, "b"), (4, "c"), (9, "d")], 9) == ((3, "a"), (4, "b"), (5, "c"))


@pytest.mark.parametrize("way", ["pop", "slide", "fade", "grow"])
def test_half_of_a_thing_is_there_when_it_counts_as_appeared(way: str):
    stay = sprites.Stay("square", (255, 0, 0), (0.5, 0.5), 0.15, 1.0, 3.0, way, 0.4, side=0.0)
    frames = shoot(stay, 20)
    red = (frames[..., 0] - frames[..., 1]).clip(0).sum((1, 2)).astype(float)
    at = {round(frame_time(turn), 1): red[turn] / red.max() for turn in range(20)}
    assert at[0.6] == 0 and at[1.6] == 1 and at[3.4] == 0
    assert at[1.2] > 0.5 > at[0.8]


def test_training_never_has_what_the_bench_has():
    train, bench = random.Random(0), random.Random(1)
    assert not set(textures.TRAINING_PHOTOS) & set(textures.HELD_OUT_PHOTOS)
    heads = [[figures.Body.random(r, held_out=h).head for _ in range(200)] for r, h in ((train, False), (bench, True))]
    assert not any(min(heads[1]) < head < max(heads[1]) for head in heads[0])
    phrasings = [
        {tuple(ask(r, "jumps", held_out=h).words) for _ in range(60)}
        for ask in (ask_count, ask_start_stop)
        for r, h in ((train, False), (bench, True))
    ]
    assert not phrasings[0] & phrasings[1] and not phrasings[2] & phrasings[3]
    for colour in sprites.COLOURS:
        assert all(len(sprites.shade(train, colour, held_out=h)) == 3 for h in (False, True))
    assert backdrop(bench, held_out=True).shape == (textures.SIZE, textures.SIZE, 3)


def test_every_word_is_listed():
    known, rng = set(words()), random.Random(0)
    assert set(ONES) | set(ANSWERS) <= known and len(ONES) == MOST
    for _ in range(300):
        kind = rng.choice(("appears", "leaves"))
        ask = ask_thing(
            rng, kind, rng.choice((*sprites.COLOURS, "")), rng.choice(sprites.SHAPES), held_out=rng.random() < 0.3
        )
        assert set(ask.words) <= known and ask.answer in known and len(ask.words) <= 48
    for movement in (*MOVEMENTS, *OBJECTS):
        assert set(ask_count(rng, movement).words) | set(ask_start_stop(rng, movement).words) <= known


def test_a_scene_has_sound_and_pictures_at_once():
    pytest.importorskip("espeakng_loader")
    from interplay.training.video.scenes import compose, video_scene

    scene, picture = compose(random.Random(2), 80, "count", spoken=True, chatter=True)
    asked = picture.ask.words if picture.ask else ()
    assert scene.prefix == () and tuple(word for _, word in scene.heard)[: len(asked)] == asked
    assert all(turn > scene.heard[len(asked) - 1][0] for turn, _ in scene.said)
    assert scene.power.shape == (800, 80) and scene.frames is not None and len(scene.frames) == 80
    quiet, picture = compose(random.Random(2), 30, "things")
    assert quiet.heard == [] and picture.ask is not None and quiet.prefix == picture.ask.words
    assert video_scene(random.Random(5), 30).frames is not None


def test_weights_name_programs():
    assert set(WEIGHTS) == set(PROGRAMS) and sum(WEIGHTS.values()) == pytest.approx(1)
    assert Doing("jumps", NOTHING, Stroke()).reach == 1
