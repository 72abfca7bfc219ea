"""A second recogniser, for what is handed to the background: it knows all words, the foreground only its own.

A background that takes no sound would otherwise read nothing but what the foreground understood. The recogniser runs in
a process of its own, at a lower priority, and is asked when a delegation is created: the micro-turn loop never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from interplay.background.package import ContextPackage, Line
from interplay.background.utterance import is_complete, is_question, sentences
from interplay.core.types import INPUT_RATE, InterplayError, Missing

SWITCH = "INTERPLAY_RECOGNISER"  # "off": none
INSTALL = 'pip install "interplay[local]"'
NEEDED = ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")
WINDOW_S = 20.0  # of sound that are looked at; what came before was recognised with an earlier question or is gone
EARLY_S = 1.5  # words are understood after they were said
STUCK_S = 60.0  # wall seconds after which the process is given up
MAX_WAITING = 8
MAX_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of speech. start_s: from the beginning of the sound. text: as the recogniser writes it."""

    start_s: float
    seconds: float
    text: str


class Recogniser(Protocol):
    """Sound into words. One instance serves all sessions of a process."""

    name: str

    async def recognise(self, audio: np.ndarray) -> list[Heard]:
        """audio: float32 (n,), 16 kHz mono. Raises InterplayError if it cannot."""
        ...


def model_folder() -> Path:
    """Where the weights are: in the publisher's package, up to its version 0.0.73. Raises Missing."""
    found = importlib.util.find_spec("moonshine_voice")  # located, not imported: that is for the process of its own
    folder = Path(found.origin or "").parent / "assets" / "tiny-en" if found is not None else None
    if folder is None:
        raise Missing(f"no recogniser for delegated sound; get it with: {INSTALL}")
    if not all((folder / name).is_file() for name in NEEDED):
        version = importlib.metadata.version("moonshine-voice")
        raise Missing(f'moonshine-voice {version} comes without weights; get: pip install "moonshine-voice<0.1"')
    return folder


class Moonshine:
    """Moonshine tiny, English (arXiv 2410.15608), by its publisher's runtime, in one process for all sessions.

    Started by `warm` or when first asked, again after it broke; one recording at a time, eight may wait. It ends with
    this process: its input closes then. Raises Missing if it is not installed.
    """

    name = "moonshine-tiny"

    def __init__(self) -> None:
        self.folder = model_folder()
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()  # whose recording it is
        self._starting = threading.Lock()
        self._waiting = 0

    async def recognise(self, audio: np.ndarray) -> list[Heard]:
        """As `Recogniser`. On cancellation the words are thrown away."""
        if self._waiting >= MAX_WAITING:
            raise InterplayError("the recogniser has too much to do")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Heard]] = loop.create_future()

        def finish(found: list[Heard], error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def work() -> None:
            found: list[Heard] = []
            error: Exception | None = None
            try:
                found = self._ask(np.ascontiguousarray(audio, "<f4"))
            except Exception as raised:
                error = InterplayError(f"the recogniser broke: {raised}")
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                loop.call_soon_threadsafe(finish, found, error)

        self._waiting += 1
        threading.Thread(target=work, name="recogniser", daemon=True).start()
        try:
            async with asyncio.timeout(STUCK_S):
                return await answer
        except TimeoutError:
            self.close()  # whoever waits for it is told by the end of its output
            raise InterplayError(f"the recogniser gave no answer within {STUCK_S:.0f} s") from None
        finally:
            self._waiting -= 1

    def warm(self) -> None:
        """Start the process now, so that the first question does not wait for it. Does not block for long."""
        with self._starting:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "interplay.background.ears_process", str(self.folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the session, which then lets go of this
                )

    def close(self) -> None:
        """End the process; the next question starts another."""
        self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        with self._starting:
            if self._process is process:
                self._process = None
        process.kill()
        process.wait()

    def _ask(self, audio: np.ndarray) -> list[Heard]:
        with self._turn:
            self.warm()
            process = self._process
            if process is None or process.stdin is None or process.stdout is None:
                raise InterplayError("it was ended")
            try:
                process.stdin.write(struct.pack("<I", len(audio)) + audio.tobytes())
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                self._end(process)
                raise
            if not line:
                self._end(process)  # its pipes close before `poll` knows that it is dead: the next would ask it again
                raise InterplayError("its process has ended")
        said = json.loads(line)
        if "error" in said:
            raise InterplayError(str(said["error"])[:200])
        return [Heard(float(t), float(s), str(text)[:MAX_CHARS]) for t, s, text in said["lines"] if str(text).strip()]


@cache
def _shared() -> Moonshine:
    return Moonshine()


def find(env: Mapping[str, str] | None = None) -> Moonshine | None:
    """The recogniser of this process, started; None where there is none, or where INTERPLAY_RECOGNISER is off."""
    env = os.environ if env is None else env
    if env.get(SWITCH, "").lower() == "off":
        return None
    try:
        recogniser = _shared()
    except Missing:
        return None
    recogniser.warm()
    return recogniser


def describe(env: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """For `interplay doctor`: whether it works, tried on a second of a tone, and how to get what is missing."""
    env = os.environ if env is None else env
    if env.get(SWITCH, "").lower() == "off":
        return True, f"off, because {SWITCH} says so"
    try:
        recogniser = Moonshine()
    except Missing as missing:
        return False, str(missing)
    try:
        asyncio.run(recogniser.recognise(0.1 * np.sin(np.arange(INPUT_RATE) * 0.2).astype(np.float32)))
    except InterplayError as error:
        return False, str(error)
    finally:
        recogniser.close()
    version = importlib.metadata.version("moonshine-voice")
    return True, f"{recogniser.name} (moonshine-voice {version}) for what is delegated; English"


class Ears:
    """What the second recogniser has understood in one session: nothing is recognised twice.

    One per session, on its event loop.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self.recogniser = recogniser
        self._lines: list[Line] = []
        self._until_s = 0.0

    async def listen(self, package: ContextPackage, within_s: float) -> ContextPackage:
        """The package with the words of its sound, and without the sound. Waits `within_s` wall seconds at most.

        Raises InterplayError if the recogniser cannot, TimeoutError if it takes longer.
        """
        sound, end = package.audio, package.asked_s
        bare = replace(package, audio=None)
        if sound is None or not len(sound) or _typed(package):
            return bare
        start = max(end - WINDOW_S, end - len(sound) / INPUT_RATE, self._until_s)
        sound = sound[len(sound) - max(0, round((end - start) * INPUT_RATE)) :]
        async with asyncio.timeout(within_s):
            found = await self.recogniser.recognise(sound)
        fresh = [Line(start + h.start_s, "user", h.text, start + h.start_s + h.seconds) for h in found]
        # Another one may have been quicker. Where a line begins tells: its end may be put a little behind its sound's.
        self._lines = [line for line in self._lines if line.t < start] + fresh
        self._until_s = max(self._until_s, end)
        recognised = tuple(self._lines[-MAX_WAITING * 4 :])
        return replace(bare, recognised=recognised, meant=question_in(recognised, _asked_from(package)))


def question_in(lines: tuple[Line, ...], since_s: float) -> str:
    """The last sentence with a word after session second `since_s` that asks for something; "" if none does.

    A pause may cut a question in two lines, and a noise may become a line of its own: lines are joined only as far back
    as it takes.
    """
    said = ""
    for line in reversed([line for line in lines if line.end_s > since_s]):
        said = f"{line.text} {said}"
        for sentence in reversed(sentences(said)):
            if is_question(sentence) and is_complete(sentence):
                return sentence
    return ""


def _asked_from(package: ContextPackage) -> float:
    """When the person began to ask, in session seconds."""
    mine = [line.t for line in package.lines if line.who == "user" and not line.typed]
    return (mine[-1] if mine else package.asked_s - WINDOW_S) - EARLY_S


def _typed(package: ContextPackage) -> bool:
    """What was typed last needs no ears."""
    mine = [line for line in package.lines if line.who == "user"]
    return bool(mine) and max(mine, key=lambda line: line.end_s).typed
