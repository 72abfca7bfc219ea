"""espeak-ng for the bench: what it speaks depends on the text and the voice alone.

The engine carries on where its last sentence left it (flutter, noise), and not even its own re-initialisation resets
that: the same item would sound different after other items. So a small process starts the engine and never speaks;
a fork of it says each sentence, and ends. Where processes cannot fork, the engine speaks here, and items differ by that
much from run to run.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import IO, Any

import numpy as np

from interplay.core.types import Missing
from interplay.training.espeak import Espeak, SyntheticVoice, engine


class ForkedEspeak:
    """Speaks as `Espeak` does, every sentence from the same fresh state. One per process; not for several threads."""

    def __init__(self) -> None:
        self._helper = subprocess.Popen(
            [sys.executable, "-c", "from interplay.bench.synthesiser import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the bench; this ends with its pipe
        )
        self._exchange()

    def speak(self, text: str, voice: SyntheticVoice) -> tuple[np.ndarray, list[tuple[str, float]]]:
        """As `Espeak.speak`. Raises Missing where the helper is gone."""
        return self._exchange((text, voice))

    def _exchange(self, *requests: object) -> Any:
        """Send what there is to send, and take the next answer."""
        assert self._helper.stdin is not None and self._helper.stdout is not None
        try:
            for request in requests:
                _send(self._helper.stdin, request)
            answer = pickle.load(self._helper.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise Missing("the process that speaks for the bench has ended") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def serve() -> None:
    """The helper: starts the engine, says so, then forks for each request on standard input until that ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        espeak = Espeak()
    except Missing as error:
        return _send(answers, error)
    _send(answers, True)
    while True:
        try:
            text, voice = pickle.load(requests)
        except EOFError:
            return None
        while (status := _fork(espeak, text, voice, answers)) and os.WIFSIGNALED(status) and voice.pitch_range > 1:
            # espeak-ng crashes on some sentences of voices that go up and down a lot
            voice = replace(voice, pitch_range=voice.pitch_range * 3 // 4)
        if status:
            return None  # an answer may be missing: better none than the wrong one


def _fork(espeak: Espeak, text: str, voice: SyntheticVoice, answers: IO[bytes]) -> int:
    """Have a fork of this process speak and send what it said. Returns how it ended."""
    child = os.fork()
    if not child:
        try:
            answer: object = espeak.speak(text, voice)
        except ValueError as error:
            answer = error
        _send(answers, answer)
        os._exit(0)  # nothing of this process is to be tidied up twice
    return os.waitpid(child, 0)[1]


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()


@cache
def synthesiser() -> Espeak | ForkedEspeak:
    """The process-wide one. Raises Missing without espeak-ng."""
    return ForkedEspeak() if hasattr(os, "fork") else engine()
