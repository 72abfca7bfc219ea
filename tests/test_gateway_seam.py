"""Where two halves of an answer meet: no word twice, none lost, however the second half begins and is cut up."""

from __future__ import annotations

import random

import pytest

from interplay.gateway.seam import Seam
from interplay.gateway.sse import Splitter, data_of

SAID = "The quick brown fox jumps over the lazy dog. Then it sle"
REST = "pt for an hour and woke up hungry."


def through(seam: Seam, text: str, dice: random.Random) -> str:
    out, at = "", 0
    while at < len(text):
        size = dice.randint(1, 9)
        out += seam.take(text[at : at + size])
        at += size
    return out + seam.finish()


@pytest.mark.parametrize("again", [0, 9, 14, 30, len(SAID)])
@pytest.mark.parametrize("restart", [False, True])
def test_what_is_said_again_is_swallowed(again: int, restart: bool) -> None:
    if restart and again != len(SAID):
        pytest.skip("a restart begins at the beginning")
    for seed in range(40):
        seam = Seam(SAID, restart=restart)
        text = SAID[len(SAID) - again :] + REST
        assert through(seam, text, random.Random(seed)) == REST
        assert not seam.diverged


def test_an_answer_that_begins_again_and_says_something_else_is_noticed() -> None:
    seam = Seam(SAID, restart=True)
    assert through(seam, "The quick brown cat sat down and", random.Random(1)) == ""
    assert seam.diverged


def test_words_in_common_by_chance_are_not_lost() -> None:
    said = "The answer is no. "
    assert through(Seam(said), "The answer will change.", random.Random(2)) == "The answer will change."
    assert through(Seam("I like dogs"), "s are fine", random.Random(3)) == "s are fine"
    assert through(Seam("no no no no "), "no more", random.Random(4)) == "no more"


def test_a_blank_is_not_doubled() -> None:
    assert through(Seam("One two "), " three", random.Random(5)) == "three"


def test_events_are_whole_however_the_bytes_come() -> None:
    text = b'data: {"a":1}\n\n: ping\r\n\r\nevent: x\ndata: one\ndata: two\n\ndata: \xc3\xa4\r\r'
    want = [("", b'{"a":1}'), ("", b""), ("x", b"one\ntwo"), ("", "ä".encode())]
    for seed in range(50):
        dice, splitter, blocks, at = random.Random(seed), Splitter(), [], 0
        while at < len(text):
            size = dice.randint(1, 6)
            blocks += splitter.feed(text[at : at + size])
            at += size
        blocks += splitter.feed(b"\n")
        assert [data_of(block) for block in blocks] == want
