"""espeak-ng for the bench: what it speaks depends on the text and the voice alone.

The engine carries on where its last sentence left it (flutter, noise), and not even its own re-initialisation resets
that: the same item would sound different after other items. So a small process starts the engine and never speaks;
a fork of it says each sentence, and ends. Where processes cannot fork, the engine speaks here, and items differ by that
much from run to run.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from functools import cache
from typing import IO, Any

import numpy as np

from interplay.core.types import Missing
from interplay.training.espeak import Espeak, SyntheticVoice, engine

_LENGTH = struct.Struct("<I")


class ForkedEspeak:
    """Speaks as `Espeak` does, every sentence from the same fresh state. One per process; not for several threads."""

    def __init__(self) -> None:
        code = "from interplay.bench.synthesiser import serve; serve()"
        self._helper = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()

    def speak(self, text: str, voice: SyntheticVoice) -> tuple[np.ndarray, list[tuple[str, float]]]:
        """As `Espeak.speak`. Raises Missing where the helper is gone."""
        assert self._helper.stdin is not None
        try:
            _write(self._helper.stdin, (text, voice))
        except OSError as error:
            raise Missing(f"the process that speaks for the bench has ended ({error})") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._helper.stdout is not None
        answer = _read(self._helper.stdout)
        if answer is None:
            raise Missing("the process that speaks for the bench has ended")
        if isinstance(answer, Exception):
            raise answer
        return answer


def serve() -> None:
    """The helper: starts the engine, says so, then forks for each request on standard input until that ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        espeak = Espeak()
    except Missing as error:
        return _write(answers, error)
    _write(answers, True)
    while (request := _read(requests)) is not None:
        child = os.fork()
        if not child:
            try:
                answer: object = espeak.speak(*request)
            except ValueError as error:
                answer = error
            _write(answers, answer)
            os._exit(0)  # nothing of this process is to be tidied up twice
        _, status = os.waitpid(child, 0)
        if status:
            return None  # an answer may be missing: better none than the wrong one
    return None


def _write(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: IO[bytes]) -> Any:
    """The next message, None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0])) if len(head) == _LENGTH.size else None


@cache
def synthesiser() -> Espeak | ForkedEspeak:
    """The process-wide one. Raises Missing without espeak-ng."""
    return ForkedEspeak() if hasattr(os, "fork") else engine()
