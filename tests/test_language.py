"""The closed language: every form means what it says, decoys mean nothing, held-out phrasings stay apart."""
# Parts are reached by name here that their types do not show.
# pyright: reportArgumentType=false

import random

import pytest

from interplay.training import language
from interplay.training.language import chatter, facts, forms, loose, spanish, words
from interplay.training.language.parser import corrected, is_held_out, parse_request, write_request

SECONDS = ("two", "three", "nine", "twenty")
KIND_OF = {
    "lasting": "every", "after_half": "after", "tell": "cue", "to_spanish": "translate", "to_english": "translate",
    "timer": "tool", "timer_minutes": "tool", "timer_stop": "tool", "note": "tool", "mark": "tool",
    "question": "delegate", "task": "delegate",
}  # fmt: skip
ASKED = (
    "sum", "minus", "times", "next", "previous", "opposite", "color", "more", "count_to", "count_from", "story",
    "describe", "explain",
)  # fmt: skip


def draw(kind: str, rng: random.Random, *, held_out: bool = False) -> str:
    return write_request(kind, rng, seconds=SECONDS, avoid=frozenset(), held_out=held_out, breadth=0.3)


@pytest.mark.parametrize("kind", list(forms.FORMS))
@pytest.mark.parametrize("held_out", [False, True])
def test_every_sentence_means_what_it_was_written_for(kind, held_out):
    rng = random.Random(f"{kind}{held_out}")
    for _ in range(60):
        text = draw(kind, rng, held_out=held_out)
        request = parse_request(text.split())
        expected = "ask" if kind in ASKED or kind.startswith("talk_") else KIND_OF.get(kind, kind)
        assert request is not None and request.kind == expected, (text, request)
        assert is_held_out(text.split()) == held_out, text
        if expected == "ask" or kind in ("question", "tell"):
            assert request.topic == kind, (text, request)


def test_there_are_enough_phrasings_of_everything():
    for kind, (training, held_out) in forms.FORMS.items():
        assert not set(training) & set(held_out)
        if not kind.startswith("talk_") and kind != "repeat":
            assert len(training) >= 6 and len(held_out) >= 2, kind
    assert {k for group in forms.FAMILIES.values() for k in group} == set(forms.FORMS)


@pytest.mark.parametrize("kind", sorted(loose.LOOSE))
def test_loose_parts_mean_what_they_were_put_together_for_and_are_never_held_out(kind):
    rng, listed, seen = random.Random(7), set(forms.FORMS[kind][0]), set()
    for _ in range(300):
        text = write_request(kind, rng, seconds=("four", "nine"), avoid=frozenset({"tiger"}), looseness=1.0)
        request = parse_request(text.split())
        assert request is not None and request.kind == kind, text
        assert bool(request.phrase) == (kind in ("every", "after", "cue")) and len(request.phrase) <= 4, text
        assert not is_held_out(text.split()) and "tiger" not in text, text
        assert request.seconds in (4.0, 9.0) or kind not in ("every", "after"), text
        seen.add(text)
    many = 250 if kind in ("every", "after", "cue") else 100
    assert len(seen) > many > len(listed)  # there is always another way to put it


def test_slots_come_back_as_they_went_in():
    rng = random.Random(3)
    for _ in range(300):
        n, p, x = rng.choice(list(words.NUMBERS)), rng.choice(words.WIDE), rng.choice(words.CONTENT)
        form = rng.choice([f for f in (*forms.FORMS["every"][0], *forms.FORMS["every"][1])])
        request = parse_request(form.format(p=p, n=n).split())
        assert request is not None and (request.phrase, request.seconds) == ((p,), words.NUMBERS[n])
        form = rng.choice([f for f in (*forms.FORMS["cue"][0], *forms.FORMS["cue"][1])])
        request = parse_request(form.format(p=p, x=x, a="the").split())
        assert request is not None and (request.phrase, request.cue) == ((p,), x), form


@pytest.mark.parametrize(
    "text, phrase, seconds",
    [
        ("say apple in five no seven seconds", ("apple",), 7),
        ("say apple in five seconds no wait seven seconds", ("apple",), 7),
        ("remind me in seven seconds to drink water no thirty seconds", ("drink", "water"), 30),
        ("say apple no banana every five seconds", ("banana",), 5),
        ("actually say apple every um twenty five seconds please", ("apple",), 25),
    ],
)
def test_a_correction_inside_a_request_is_carried_out(text, phrase, seconds):
    request = parse_request(text.split())
    assert request is not None and request.phrase == phrase and request.seconds == seconds


def test_a_sentence_without_a_correction_is_left_alone():
    for text in ("i have no idea", "no apple for me", "say hello", "we have no bread"):
        assert corrected(text.split()) == text.split()


@pytest.mark.parametrize(
    "text, answer",
    [
        ("what is two plus three", "that is five"),
        ("how much is twelve times twelve", "that is one hundred forty four"),
        ("what comes after sunday", "it is monday"),
        ("what comes before january", "it is december"),
        ("what is the opposite of hot", "it is cold"),
        ("what color is a lemon", "it is yellow"),
        ("is seven more than nine", "that is wrong"),
        ("count from three to one", "three two one"),
        ("what is two plus three no wait four", "that is six"),
    ],
)
def test_the_closed_world_knows_its_answers(text, answer):
    request = parse_request(text.split())
    assert request is not None and " ".join(request.phrase) == answer


def test_talk_and_what_is_only_told_ask_for_nothing():
    rng = random.Random(2)
    for _ in range(1500):
        text = chatter.write_chatter(rng, rng.choice((None, "apple")), breadth=0.2)
        assert parse_request(text.split()) is None, text
    for kind in forms.FORMS:
        for held_out in (False, True):
            for _ in range(10):
                text = chatter.quoted(draw(kind, rng), rng, held_out=held_out)
                assert parse_request(text.split()) is None, text
    for text in (*facts.REMARKS, *chatter.INTERRUPTIONS, *chatter.STORY_OPENINGS, *chatter.STORY_ENDS):
        request = parse_request(text.split())
        assert request is None or request.kind == "hush", text
    for text in chatter.NOTHING_AFTER_ALL:
        assert (request := parse_request(text.split())) is not None and request.kind == "resume", text


def test_numbers_are_words_and_back():
    for value in range(1, 100):
        assert words.number_value(" ".join(words.number_words(value))) == value
    assert words.number_value("twelve five") is None and words.number_value("twenty") == 20
    with pytest.raises(ValueError, match="999"):
        words.number_words(1000)


def test_the_lexicon_is_word_for_word_and_no_word_belongs_to_two_languages():
    assert len(spanish.TO_SPANISH) == len(spanish.TO_ENGLISH) >= 250
    english = {*words.CONTENT, *words.WIDE, *words.NAMES, *words.NUMBERS, *spanish.TO_SPANISH}
    assert not english & set(spanish.TO_ENGLISH)
    assert all(spanish.fold(spelled) == word and word.isascii() for word, spelled in spanish.SPELLED.items())
    rng = random.Random(0)
    assert all(word in spanish.TO_SPANISH for _ in range(300) for word in spanish.write_sentence(rng))


def test_the_vocabulary_is_large_and_covers_all_that_can_be_said():
    vocabulary = set(language.base_vocabulary())
    assert len(vocabulary - set(spanish.TO_ENGLISH)) >= 1000
    rng = random.Random(5)
    for kind in forms.FORMS:
        for held_out in (False, True):
            for _ in range(15):
                text = draw(kind, rng, held_out=held_out)
                request = parse_request(text.split())
                assert request is not None and set(text.split()) | set(request.phrase) <= vocabulary, text
    for _ in range(300):
        assert set(chatter.write_chatter(rng, breadth=0.5).split()) <= vocabulary
        assert {w for part in language.write_story(rng, 4) for w in part.split()} <= vocabulary


def test_a_request_that_cannot_be_written_is_an_error():
    with pytest.raises(ValueError, match="no such request kind"):
        draw("sing", random.Random(0))


def test_the_documented_vocabulary_is_the_one_in_use():
    from pathlib import Path

    from interplay.training.language.__main__ import page

    assert (Path(__file__).parent.parent / "docs" / "english.md").read_text() == page()


@pytest.mark.parametrize("text, kind", [("what is zero plus five", "ask"), ("start the timer", "clock")])
def test_zero_is_a_number_and_a_timer_can_be_started(text, kind):
    request = parse_request(text.split())
    assert request is not None and request.kind == kind


@pytest.mark.parametrize("text", ["say apple every zero seconds", "make that zero", "set a timer for zero minutes"])
def test_nothing_is_due_after_no_time_at_all(text):
    assert parse_request(text.split()) is None
