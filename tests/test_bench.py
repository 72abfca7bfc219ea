"""The bench's parts: the judge rewards nothing but what was asked for, the stage does to the line what it says."""

import asyncio
import math
import random
import time
from dataclasses import replace
from multiprocessing import Pipe

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from interplay.bench.item import Due, Item, Reaction, Tape
from interplay.bench.long_session import LongStage, Plan, people, within
from interplay.bench.mixing import SPEECH_RMS, level, mix
from interplay.bench.people import SyntheticCast, Utterance
from interplay.bench.runner import Player, Run
from interplay.bench.score import contains, judge, macro, talk
from interplay.bench.speaking import CUE_WINDOW_S, CUESPEAK, TIME_WINDOW_S
from interplay.bench.stage import Echo, Loss
from interplay.bench.stats import bootstrap, wilson
from interplay.bench.synthesiser import ForkedEspeak, synthesiser
from interplay.bench.task import Setup
from interplay.bench.wording import spoken_number, use_phrasings, write_request
from interplay.cli import main
from interplay.core.types import BadInput, InterplayError, MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.training.espeak import random_voice
from interplay.training.language.forms import FORMS
from tests.bench_oracle import Tone, item_task


def item(*dues: Due, expected: int = 0, seconds: float = 10.0) -> Item:
    audio = np.zeros(int(seconds * 16_000), np.float32)
    return Item("timespeak", "every", audio, (), (), dues[expected] if dues else None, dues)


ONE = item(Due(("hello",), 3.0, 4.2))


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ([("hello", 3.5)], True),
        ([], False),
        ([("hello", 4.3)], False),  # too late
        ([("hello", 2.9)], False),  # too early
        ([("goodbye", 3.5)], False),  # wrong word
        ([("hello", 3.5), ("hello", 3.9)], False),  # once too often
        ([("hello", 3.5), ("apple", 9.0)], False),  # something nobody asked for
    ],
)
def test_the_judge_wants_the_word_in_its_window_and_nothing_else(said, right):
    assert judge(ONE, Run((), tuple(said))).right is right


def test_a_phrase_counts_by_its_first_word_and_must_be_whole():
    two = item(Due(("drink", "water"), 3.0, 4.2))
    assert judge(two, Run((), (("drink", 4.1), ("water", 4.6)))).right
    assert not judge(two, Run((), (("drink", 3.5),))).right
    assert not judge(two, Run((), (("drink", 3.5), ("water", 6.0)))).right


def test_other_asked_for_responses_are_no_extra_speech_but_do_not_count_either():
    many = item(Due(("hi",), 1, 2), Due(("hi",), 4, 5), expected=1)
    assert judge(many, Run((), (("hi", 1.5), ("hi", 4.5)))).right
    verdict = judge(many, Run((), (("hi", 4.5),)))
    assert verdict.right and not verdict.complete
    assert not judge(many, Run((), (("hi", 1.5),))).right


def test_macro_accuracy_weighs_categories_alike():
    rows = [{"category": "a", "right": True}] * 9 + [{"category": "b", "right": False}]
    value, (low, high) = macro(rows)
    assert value == 50 and low < 50 < high


def test_intervals():
    assert wilson(0, 100) == pytest.approx((0.0, 0.037), abs=5e-4)
    assert wilson(50, 100) == pytest.approx((0.404, 0.596), abs=5e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = bootstrap([0.0, 1.0] * 50)
    assert 0.38 < low < 0.45 and 0.55 < high < 0.62
    assert math.isnan(bootstrap([1.0])[0])


def test_words_and_numbers():
    assert spoken_number(("that", "was", "twenty", "one", "seconds")) == 21
    assert spoken_number(("seven", "seconds")) == 7 and spoken_number(("no", "idea")) is None
    assert contains(["that", "is", "nine"], ("nine",)) and not contains(["nine", "is"], ("is", "nine"))
    assert talk([("mhm", 1.0), ("hello", 1.2), ("late", 3.0)], 0.5, 2.0) == [("hello", 1.2)]


@pytest.mark.parametrize("kind", ["stop", "filler"])
def test_phrasings_are_those_of_training_or_never_in_it(kind):
    known, held_out = (set(forms) for forms in FORMS[kind])
    try:
        assert {write_request(kind, random.Random(i)) for i in range(60)} <= known
        use_phrasings("held-out")
        assert {write_request(kind, random.Random(i)) for i in range(60)} <= held_out
    finally:
        use_phrasings("known")


def test_speech_is_15_db_above_the_noise():
    tone = level(np.sin(np.arange(32_000)).astype(np.float32))
    both = mix([(1.0, tone)], 5.0, snr_db=15.0, seed=1)
    speech, noise = both[20_000:40_000], both[60_000:]
    ratio = 10 * np.log10((np.mean(speech**2) - np.mean(noise**2)) / np.mean(noise**2))
    assert ratio == pytest.approx(15, abs=0.3)
    assert np.sqrt(np.mean(tone**2)) == pytest.approx(SPEECH_RMS, rel=1e-3)


def test_a_pause_lies_behind_its_word_and_moves_what_follows():
    plain = Utterance(np.ones(16_000, np.float32), (("what", 0.2), ("is", 0.5), ("up", 1.0)), "me")
    paused = plain.paused(1, 2.0)
    assert [end for _, end in paused.words] == [0.2, 0.5, 3.0]
    assert len(paused.audio) == 48_000 and not paused.audio[8_000:40_000].any() and paused.audio[:8_000].all()


class Listener:
    """Says what its script says; remembers what it was given."""

    name, capabilities = "listener", Capabilities()

    def __init__(self, script=None):
        self.script, self.turns = script or {}, []

    async def open(self, spec: ForegroundSpec):
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        self.turns.append(turn)
        return MicroTurnOut(turn.turn, None, "", self.script.get(turn.turn, ""))

    async def close(self):
        return None


def test_a_reaction_comes_when_the_agent_has_spoken_and_the_session_ends_after_it():
    sound = np.full(1600, 0.5, np.float32)
    reaction = Reaction(sound, (), delay_s=1.0, since_s=0.5, deadline_s=3.0, after_s=1.0)
    given = Item("t", "c", np.zeros(int(reaction.longest_s * 16_000), np.float32), (), reaction=reaction)
    mind = Listener({0: "early", 4: "now"})
    run = Player(mind, Tone()).play(given)
    assert run.reacted_s == pytest.approx(2.0)  # "now" is audible at 1.0; "early" came before 0.5 s
    microphone = np.concatenate([turn.audio for turn in mind.turns])
    assert np.flatnonzero(microphone)[0] == 32_000 and len(microphone) == pytest.approx(3.1 * 16_000, abs=3200)
    assert run.envelope[100:120] == pytest.approx(0.1, rel=0.05) and not run.envelope[:20].any()
    silent = Listener()
    assert Player(silent, Tone()).play(given).reacted_s is None
    assert len(silent.turns) * 0.2 == pytest.approx(3.2, abs=0.25)


def test_the_agents_voice_leaks_back_late_and_quieter():
    mind = Listener({2: "hello"})
    Player(mind, Tone()).play(item(seconds=3.0), echo=Echo(0.15, 10.0))
    microphone = np.concatenate([turn.audio for turn in mind.turns])
    begin, end = np.flatnonzero(np.abs(microphone) > 0.003)[[0, -1]] / 16_000
    assert (begin, end) == (pytest.approx(0.75, abs=0.01), pytest.approx(0.95, abs=0.01))
    leaked = microphone[int(0.77 * 16_000) : int(0.93 * 16_000)]
    assert 20 * np.log10(np.sqrt(np.mean(leaked**2)) / 0.1) == pytest.approx(-10, abs=0.3)


def test_missing_slices_are_marked_and_not_silence():
    mind = Listener()
    Player(mind, Tone()).play(item(seconds=60.0), loss=Loss(0.05, 3))
    lost = [turn for turn in mind.turns if any(event.kind == "missing" for event in turn.events)]
    assert 0.02 < len(lost) / len(mind.turns) < 0.09
    again = Listener()
    Player(again, Tone()).play(item(seconds=60.0), loss=Loss(0.05, 3))
    assert [bool(turn.events) for turn in again.turns] == [bool(turn.events) for turn in mind.turns]


def test_what_is_typed_reaches_the_foreground():
    mind = Listener()
    typed = Item("t", "c", np.zeros(32_000, np.float32), (), typed=((1.0, "count to ten"),))
    Player(mind, Tone()).play(typed)
    events = [(turn.turn, event.data["text"]) for turn in mind.turns for event in turn.events]
    assert events == [(5, "count to ten")]


@pytest.mark.parametrize("name", ["timespeak", "cuespeak"])
def test_items_are_balanced_and_their_windows_lie_where_they_should(name):
    from interplay.bench.people import SyntheticCast

    task = item_task(name)
    made = [task.item(SyntheticCast(), 3, i) for i in range(12)]
    assert {i.category for i in made} == set(task.categories)
    low, high = CUE_WINDOW_S if name == "cuespeak" else TIME_WINDOW_S
    for i in made:
        assert i.expected is not None and i.expected in i.allowed
        assert i.expected.end - i.expected.start == pytest.approx(high - low)
        assert i.expected.start > 0 and i.expected.end < i.seconds + 3
        assert np.abs(i.audio).max() <= 1
    if name == "cuespeak":  # the person goes on talking after the cue that counts
        assert all(i.expected and i.words[-1][1] > i.expected.start - CUE_WINDOW_S[0] + 0.3 for i in made)


def test_an_item_is_the_same_whatever_was_spoken_before():
    cast, numbers = SyntheticCast(), (0, 1, 2)
    first = [CUESPEAK.item(cast, 0, number).audio for number in numbers]
    again = [CUESPEAK.item(cast, 0, number).audio for number in reversed(numbers)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_a_sentence_is_the_same_in_another_process_at_another_time():
    """The breath of `f2` is noise, which espeak-ng seeds with the second of the day."""
    breathy = replace(random_voice(random.Random(0)), variant="f2")
    first, _ = ForkedEspeak().speak("hello there", breathy)
    time.sleep(1.1)
    again, _ = ForkedEspeak().speak("hello there", breathy)
    assert np.array_equal(first, again)


def test_the_voice_that_does_not_exist_is_told_and_the_next_sentence_spoken():
    voice = random_voice(random.Random(0))
    with pytest.raises(ValueError, match="no voice"):
        synthesiser().speak("hello", replace(voice, accent="xx/nowhere"))
    assert synthesiser().speak("hello there", voice)[1][1][0] == "there"
    # espeak-ng crashes on this one, the same every time
    wild = replace(voice, accent="gmw/en-GB-scotland", variant="rob", rate=135, pitch=23, pitch_range=77)
    assert synthesiser().speak("is here but your", wild)[1][3][0] == "your"


def test_a_tape_keeps_time():
    import random

    tape = Tape(random.Random(0), 0.5)
    words = tape.say(Utterance(np.ones(16_000, np.float32), (("one", 0.4), ("two", 0.9)), "me"), 0.5)
    assert words == [("one", 1.4), ("two", 1.9)] and tape.time == pytest.approx(1.9)
    assert len(tape.render(4.0)) == 64_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["timespeak", "--n", "0"],
        ["hearing", "--voices", "nowhere"],
        ["timespeak", "--data", "nowhere"],
        ["timespeak", "--jobs", "0"],
        ["timespeak", "--voices", "none"],
        ["long_session", "--option", "minutes"],
        ["long_session", "--option", "minutes=short"],
        ["long_session", "--option", "minutes=1", "--option", "edge=1"],
    ],
)
def test_misuse_is_one_line_and_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(["bench", *arguments, "--foreground", "silent"])
    assert done.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_long_session_says_so_when_its_people_fail():
    def stage(*sent):
        ours, theirs = Pipe(duplex=False)
        for each in sent:
            theirs.send(each)
        theirs.close()
        return LongStage(ours, Plan("x", 60.0, 5.0), None)

    half = np.zeros(1600, np.float32)
    given = asyncio.run(stage(half, half).read(0))
    assert given is not None and given.audio is not None and len(given.audio) == 3200
    assert asyncio.run(stage(half, ([], [])).read(0)) is None  # the end
    with pytest.raises(InterplayError, match="ended early"):
        asyncio.run(stage(half).read(0))
    with pytest.raises(BadInput, match="nobody"):
        asyncio.run(stage(BadInput("nobody can ask that")).read(0))


def test_the_first_minutes_come_again_at_the_end_of_a_long_session():
    sound, edges = 0, ([], [])
    with people(Setup(), Plan("x", 90.0, 30.0)) as pipe:
        while isinstance(found := pipe.recv(), np.ndarray):
            sound += len(found)
        edges = found
    first, last = edges
    assert len(first) == len(last) > 0 and last[0].start == pytest.approx(60.0, abs=0.01)
    assert sound / 16_000 == pytest.approx(last[-1].start + last[-1].item.seconds, abs=0.01)
    for early, late in zip(first, last, strict=True):
        assert early.item.words == late.item.words and early.item.seconds == late.item.seconds > 5
        assert late.start - early.start == pytest.approx(last[0].start - first[0].start, abs=0.01)
        due = next(due for due in early.item.allowed)
        middle = (due.start + due.end) / 2
        said = [(word, each.start + middle + 0.2 * i) for each in (early, late) for i, word in enumerate(due.phrase)]
        for each in (early, late):
            assert [word for word, _ in within(said, each).said] == list(due.phrase)
            assert within(said, each).said[0][1] == pytest.approx(middle)
