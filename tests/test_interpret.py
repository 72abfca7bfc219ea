"""Events in, words and actions out."""

import pytest

pytest.importorskip("torch")

from interplay.core.types import Action, Event
from interplay.foreground.interpret import WAITING_WORDS, Intake, Narrator
from interplay.model.config import DECISIONS, MARKS
from interplay.model.vocabulary import PIECES, Vocabulary

WORDS = Vocabulary(["apple", "timer", "five", "over", "mhm", *PIECES])


def told(narrator, *choices):
    """Narrate (decision, heard, said) in words; the last two may be pieces."""
    return [
        narrator.tell(DECISIONS.index(name), WORDS.id(heard) if heard else 0, WORDS.id(said) if said else 0)
        for name, heard, said in choices
    ]


def test_typed_words_come_one_per_micro_turn_and_unknown_ones_are_spelled():
    intake = Intake(WORDS)
    first = intake.take([Event("text", {"text": "Apple, kiwi!"})])
    assert WORDS.words[first.event] == "apple" and not any(first.marks)
    spelled = [WORDS.words[intake.take([]).event] for _ in range(len(WORDS.spell("kiwi")))]
    assert "".join(p[1:] for p in spelled) == "kiwi"
    assert intake.take([]) == (0, (False,) * len(MARKS), None)


def test_marks_hold_for_their_micro_turn():
    intake = Intake(WORDS)
    marks = intake.take([Event("missing", {"samples": 3200}), Event("busy")]).marks
    assert marks == tuple(mark in ("missing", "busy") for mark in MARKS)
    assert not any(intake.take([]).marks)
    assert not any(intake.take([Event("missing", {"samples": 5})]).marks)
    assert not any(intake.take([Event("delegated")]).marks)  # nobody else says what the model decided
    assert intake.take([], delegated=True).marks[MARKS.index("delegated")]


def test_what_the_voice_read_is_fed_back():
    assert Intake(WORDS).take([Event("said", {"text": "five apple"})]).said == WORDS.id("apple")


def test_a_flood_of_typed_words_is_bounded():
    intake = Intake(WORDS)
    intake.take([Event("text", {"text": "apple " * 10_000})])
    count = 1
    while intake.take([]).event:
        count += 1
    assert count == WAITING_WORDS


def test_a_call_is_one_action_and_is_not_said():
    narrator = Narrator(WORDS)
    calls = told(
        narrator, ("tool", "", "timer"), ("speak", "apple", "mhm"), ("tool", "", "five"), ("tool", "", "over")
    )
    assert [said for _, said, _ in calls] == ["", "mhm", "", ""]
    assert calls[1][0] == "apple"
    assert [a for *_, actions in calls for a in actions] == [Action("tool", {"name": "timer", "args": ["five"]})]


def test_a_call_without_end_never_grows_and_never_runs():
    narrator = Narrator(WORDS)
    told(narrator, *[("tool", "", "five")] * 500)
    assert told(narrator, ("tool", "", "over"))[0][2] == ()
    after = told(narrator, ("tool", "", "timer"), ("tool", "", "over"))
    assert after[1][2] == (Action("tool", {"name": "timer", "args": []}),)


def test_decisions_become_actions():
    for name in ("yield", "delegate", "deliver"):
        assert told(Narrator(WORDS), (name, "", ""))[0] == ("", "", (Action(name),))
    assert told(Narrator(WORDS), ("backchannel", "", "mhm"))[0] == ("", "mhm", (Action("backchannel"),))
