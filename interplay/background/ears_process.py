"""The recogniser in a process of its own: `python -m interplay.background.ears_process FOLDER`.

Reads recordings (their number of samples as uint32, then as many float32, little-endian, 16 kHz mono) and answers each
with a line of JSON: {"lines": [[start_s, seconds, text], ...]} or {"error": text}. Ends when its input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from typing import Any

RATE = 16_000
MAX_SAMPLES = 60 * RATE
LOWER_PRIORITY = 5  # the conversation comes first
OPTIONS = {"return_audio_data": "false", "identify_speakers": "false"}


def main() -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.nice(LOWER_PRIORITY)
    # Answers go to what was standard output; whatever a library prints there must not get between them.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    recordings = sys.stdin.buffer
    model = _load(sys.argv[1])
    while len(head := recordings.read(4)) == 4:
        (count,) = struct.unpack("<I", head)
        if count > MAX_SAMPLES:
            return
        body = recordings.read(4 * count)
        if len(body) < 4 * count:
            return
        try:
            answer: dict[str, Any] = {"lines": _recognise(model, body, count)}
        except Exception as error:
            answer = {"error": " ".join(str(error).split()) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _load(folder: str) -> Any:
    from moonshine_voice.moonshine_api import ModelArch
    from moonshine_voice.transcriber import Transcriber

    return Transcriber(folder, ModelArch.TINY, options=OPTIONS)


def _recognise(model: Any, body: bytes, count: int) -> list[list[Any]]:
    samples = struct.unpack(f"<{count}f", body)
    found = model.transcribe_without_streaming(samples, RATE)
    return [[line.start_time, line.duration, line.text.strip()] for line in found.lines]


if __name__ == "__main__":
    main()
