"""Makes the example recordings: `python examples/make.py`. The speakers are
synthetic voices that training never met.

Each script is a list of (second, what is said). The recording lasts `seconds`; after the last word it is quiet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from interplay.model.vocabulary import tokens
from interplay.training.espeak import SyntheticVoice, engine

HERE = Path(__file__).parent
RATE = 16_000


@dataclass(frozen=True)
class Example:
    """voice: a held-out variant of espeak-ng. expect: one line for the page, what should happen."""

    file: str
    title: str
    expect: str
    seconds: float
    script: tuple[tuple[float, str], ...]
    voice: str = "f2"


EXAMPLES = (
    Example(
        "every-three-seconds.flac",
        "Say hello every three seconds",
        "It says hello at the right moments, with nobody asking again.",
        17.0,
        ((0.6, "Say hello every three seconds."),),
    ),
    Example(
        "apple-banana.flac",
        "When I say apple you say banana",
        "The person keeps talking; it answers banana to each apple, in the middle of it.",
        19.0,
        (
            (0.6, "When I say apple, you say banana."),
            (4.6, "Yesterday we saw a dog near the river."),
            (8.0, "She put the apple on the table, and then we talked about music."),
            (13.6, "I really like the apple today."),
        ),
        voice="Andrea",
    ),
    Example(
        "repeat-after-me.flac",
        "Repeat after me",
        "It says back yellow tiger mountain.",
        9.0,
        ((0.6, "Repeat after me. Yellow tiger mountain."),),
        voice="m3",
    ),
    Example(
        "chatter.flac",
        "Just talking",
        "Nothing is asked of it, so it only listens. Its words for what it hears appear all the same.",
        14.0,
        (
            (0.6, "I think the garden is very nice."),
            (4.0, "There was a bottle near the window, and my pencil broke again."),
            (9.2, "Can we talk about music or the weather?"),
        ),
        voice="f2",
    ),
    Example(
        "two-seconds-stop.flac",
        "Say hello every two seconds, then stop",
        "It keeps time until it hears stop, and then it lets go.",
        18.0,
        ((0.6, "Say hello every two seconds."), (11.4, "Okay, stop now.")),
        voice="m3",
    ),
)


def speak(text: str, voice: str) -> np.ndarray:
    """float32 (n,) at 16 kHz."""
    audio, _ = engine().speak(" ".join(tokens(text)), SyntheticVoice("en-us", voice, 150, 50, 50))
    return audio


def record(example: Example) -> np.ndarray:
    """The whole recording, with a breath of room noise: digital silence is not what a microphone hears."""
    out = np.zeros(int(example.seconds * RATE), np.float32)
    for at, text in example.script:
        speech = speak(text, example.voice)
        start = int(at * RATE)
        if start + len(speech) > len(out):
            raise ValueError(f"{example.file}: {text!r} does not fit into {example.seconds} s")
        out[start : start + len(speech)] += speech
    out *= 0.5 / np.abs(out).max()
    return out + np.random.default_rng(0).normal(0.0, 2e-5, len(out)).astype(np.float32)


def main() -> None:
    for example in EXAMPLES:
        sf.write(HERE / example.file, record(example), RATE, subtype="PCM_16")
        print(f"{example.file}: {(HERE / example.file).stat().st_size / 1000:.0f} kB")
    index = [{"file": e.file, "title": e.title, "expect": e.expect, "text": [*e.script]} for e in EXAMPLES]
    (HERE / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
