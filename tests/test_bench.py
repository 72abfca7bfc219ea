"""The bench is fair: items are what they say, the judge rewards nothing else, silence scores nothing."""

import asyncio
import json

import pytest

pytest.importorskip("espeakng_loader")

import numpy as np

from interplay.bench.items import CUE_WINDOW_S, TASKS, TIME_WINDOW_S, Due, Item, items
from interplay.bench.runner import Run, play
from interplay.bench.score import Verdict, judge, macro
from interplay.cli import main
from interplay.core.types import MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.voice.base import SilentVoice


def item(*dues: Due, expected: int = 0) -> Item:
    return Item("timespeak", "every", np.zeros(160_000, np.float32), dues[expected], dues, ())


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
    rows = [Verdict("a", True, (), True, 0.0)] * 9 + [Verdict("b", False, (), False, 0.0)]
    value, (low, high) = macro(rows)
    assert value == 50 and low <= 50 <= high


@pytest.mark.parametrize("task", list(TASKS))
def test_items_are_balanced_and_their_windows_lie_where_they_should(task):
    made = items(task, 16, seed=3)
    assert {i.category for i in made} == set(TASKS[task][1])
    for i in made:
        seconds = len(i.audio) / 16_000
        low, high = CUE_WINDOW_S if task == "cuespeak" else TIME_WINDOW_S
        assert i.expected in i.allowed
        assert i.expected.end - i.expected.start == pytest.approx(high - low)
        assert i.expected.start > 0 and i.expected.end < seconds + 3
        assert np.abs(i.audio).max() <= 1
    if task == "cuespeak":  # the person goes on talking after the cue that counts
        assert all(np.square(i.audio[int((i.expected.start + 0.7) * 16_000) :]).sum() > 1 for i in made)


def test_items_are_at_15_db():
    made = items("timespeak", 4, seed=1)[0]
    loud = np.sort(np.abs(made.audio[: len(made.audio) // 3200 * 3200].reshape(-1, 3200)).mean(1))
    assert loud[-1] > 3 * loud[0] > 0  # there is noise, and speech stands out of it


class Scripted:
    """Says what a script says; hears nothing."""

    name, capabilities = "scripted", Capabilities()

    def __init__(self, script):
        self.script = script

    async def open(self, spec: ForegroundSpec):
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        return MicroTurnOut(turn.turn, None, "", self.script.get(turn.turn, ""))

    async def close(self):
        return None


def test_a_perfect_listener_scores_and_a_silent_one_does_not():
    for task in TASKS:
        for i in items(task, 4, seed=9):
            script = {}
            for due in i.allowed:
                turn = round((due.start + due.end) / 2 / 0.2) - 1
                for offset, word in enumerate(due.phrase):
                    script[turn + offset] = word
            run = asyncio.run(play(Scripted(script), SilentVoice(), i.audio))
            assert judge(i, run).right, (i.category, i.allowed, run.said)
            assert not judge(i, asyncio.run(play(Scripted({}), SilentVoice(), i.audio))).right


def test_the_command_writes_what_other_tools_read(tmp_path):
    out = tmp_path / "b.json"
    with pytest.raises(SystemExit) as done:
        main(["bench", *TASKS, "hearing", "step", "--foreground", "silent", "--n", "4", "--json", str(out)])
    assert done.value.code in (0, None)
    document = json.loads(out.read_text())
    assert document["tasks"]["timespeak"]["metrics"]["macro_accuracy"] == 0
    assert document["tasks"]["cuespeak"]["n"] == 4
    assert document["tasks"]["hearing"]["metrics"]["wer_clean"] == 100  # who hears nothing misses every word
    assert {"p50_ms", "p99_ms"} <= set(document["tasks"]["step"]["metrics"])
    assert document["machine"] and document["seed"] == 0 and document["foreground"] == "silent"


@pytest.mark.parametrize("arguments", [["nonsense"], ["timespeak", "--n", "0"], ["hearing", "--voices", "nowhere"]])
def test_misuse_is_one_line_and_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(["bench", *arguments, "--foreground", "silent"])
    assert done.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
