"""A real server and a real browser for the tests of the page: the one in a subprocess, the other headless."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from interplay.bench.children import end

ROOT = Path(__file__).resolve().parents[1]
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
MICROPHONE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
STARTS_WITHIN_S = 90


def chromium() -> str:
    """Path of a Chromium. Without one a test is skipped, and fails in CI: there it has to be installed."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    why = "no Chromium found; on Debian and Ubuntu: apt install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def server(*command: str) -> Iterator[str]:
    """Run `python -m COMMAND` until the end of the block; yields the address that it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(STARTS_WITHIN_S, process.kill)
    watchdog.start()
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(lines))
        watchdog.cancel()
        drain = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
        drain.start()
        yield found.group(0)
    finally:
        watchdog.cancel()
        end(process)


@contextlib.contextmanager
def browser(wav: Path | None = None, *, microphone: bool = True) -> Iterator:
    """A playwright browser whose microphone plays `wav` once; without a file it beeps, or there is none at all."""
    from playwright.sync_api import sync_playwright

    flags = [*QUIET]
    if microphone:
        flags += MICROPHONE
    if wav is not None:
        flags.append(f"--use-file-for-fake-audio-capture={wav}%noloop")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield opened
        finally:
            opened.close()


def spoken(path: Path, text: str, *, lead_s: float = 1.0, tail_s: float = 30.0) -> Path:
    """A wav in which a voice that training never met says `text`, as a microphone file for Chromium."""
    from interplay.training.espeak import SyntheticVoice, engine

    speech, _ = engine().speak(text, SyntheticVoice("en-us", "f2", 150, 50, 50))
    quiet = [np.zeros(int(16_000 * seconds), np.float32) for seconds in (lead_s, tail_s)]
    sf.write(
        path, np.concatenate([quiet[0], speech * (0.5 / np.abs(speech).max()), quiet[1]]), 16_000, subtype="PCM_16"
    )
    return path


def onsets(blocks: list[list[float]], *, loud: float = 0.02, pause_s: float = 0.6) -> list[tuple[float, float]]:
    """(device seconds, session seconds) at which sound begins in what was rendered: [device s, session s, rms]."""
    found: list[tuple[float, float]] = []
    last = -1e9
    for at, session, rms in blocks:
        if rms < loud:
            continue
        if at - last > pause_s:
            found.append((at, session))
        last = at
    return found
