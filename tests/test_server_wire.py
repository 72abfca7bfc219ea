"""The page protocol: whatever bytes a page sends become a message or one typed error, never a traceback."""

from __future__ import annotations

import contextlib
import json
import random

import numpy as np
import pytest

from interplay.server import wire
from interplay.server.wire import Ack, Bye, Hello, Text, WireError


def test_messages_of_a_page():
    assert wire.parse('{"type": "hello", "rate": 44100}') == Hello(44100)
    assert wire.parse('{"type": "text", "text": " hi "}') == Text("hi")
    assert wire.parse('{"type": "ack", "turn": 7}') == Ack(7)
    assert wire.parse('{"type": "bye"}') == Bye()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("not json", "bad_json"),
        ("[1, 2]", "bad_json"),
        ('{"type": 3}', "bad_json"),
        ("[" * 10_000, "bad_json"),
        ('{"type": "hello", "rate": 7999}', "bad_rate"),
        ('{"type": "hello", "rate": 192001}', "bad_rate"),
        ('{"type": "hello", "rate": true}', "bad_rate"),
        ('{"type": "hello", "rate": NaN}', "bad_rate"),
        ('{"type": "hello", "rate": 1e999}', "bad_rate"),
        ('{"type": "hello"}', "bad_rate"),
        ('{"type": "hello", "rate": 16000, "version": 2}', "bad_version"),
        ('{"type": "text", "text": "  "}', "bad_text"),
        ('{"type": "text", "text": 5}', "bad_text"),
        (json.dumps({"type": "text", "text": "x" * 2001}), "text_too_long"),
        ('{"type": "ack", "turn": -1}', "bad_field"),
        ('{"type": "ack", "turn": 1.5}', "bad_field"),
        ('{"type": "dance"}', "unknown_type"),
        (json.dumps({"type": "text", "text": "x" * 20_000}), "too_large"),
    ],
)
def test_what_cannot_be_used_has_a_code(raw: str, code: str):
    with pytest.raises(WireError) as caught:
        wire.parse(raw)
    assert caught.value.code == code
    assert "\n" not in caught.value.message


def test_random_text_never_becomes_another_exception():
    rng = random.Random(1)
    pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"type":',
        '"hello"',
        '"text"',
        '"ack"',
        '"rate"',
        "1e9",
        "null",
        "é",
        "\x00",
    ]
    for _ in range(3000):
        raw = "".join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        with contextlib.suppress(WireError):
            wire.parse(raw)


def test_sound_in_and_out():
    samples = wire.pcm_in(np.array([0, 16384, -32768], "<i2").tobytes())
    assert samples.tolist() == [0.0, 0.5, -1.0]
    for data, code in ((b"\x00" * 3, "bad_audio"), (b"\x00" * (wire.MAX_AUDIO_BYTES + 2), "too_large")):
        with pytest.raises(WireError) as caught:
            wire.pcm_in(data)
        assert caught.value.code == code

    loud = wire.slice_out(7, np.full(4800, 2.0, np.float32), speaking=True, after_gap=True)
    assert wire.SLICE_HEADER.unpack(loud[:8]) == (7, wire.SPEAKING | wire.AFTER_GAP)
    assert np.frombuffer(loud[8:], "<i2").tolist() == [32767] * 4800
    silent = wire.slice_out(8, np.zeros(4800, np.float32), speaking=False, after_gap=False)
    assert silent == wire.SLICE_HEADER.pack(8, wire.SILENT)
