"""`interplay doctor`: tries every part for real, and says how to get what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. needed: without it `interplay live` cannot work."""

    name: str
    ok: bool
    detail: str
    needed: bool = True


def examine() -> Iterator[Check]:
    """Findings, one by one as they are made; takes a few seconds, most of them loading torch."""
    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _tried("sound files", _sound)
    yield _tried("torch", _torch)
    yield _tried("native model", _native)
    yield _tried("voice", _voice)
    yield _background()
    yield _recogniser()
    yield _package("live page", ("fastapi", "uvicorn", "websockets"), "live", needed=True)
    yield _package("training", ("torch", "espeakng_loader", "scipy"), "train")
    yield _package("pictures", ("matplotlib",), "train")
    yield _package("video files", ("av",), "video")


def _background() -> Check:
    """Which mind is behind the conversation. Something always is: at the least tools, without key and network."""
    from interplay.background.choose import describe

    ok, detail = describe()
    return Check("background", ok, detail, needed=False)


def _recogniser() -> Check:
    """Who gives the background words that the foreground does not know."""
    from interplay.background.ears import describe

    ok, detail = describe()
    return Check("recogniser", ok, detail, needed=False)


def _tried(name: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(name, True, attempt())
    except Exception as error:  # a doctor reports every illness and dies of none
        return Check(name, False, " ".join(str(error).split()) or type(error).__name__)


def _package(name: str, modules: tuple[str, ...], extra: str, *, needed: bool = False) -> Check:
    found = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:  # a broken install is as missing as none
            hint = f'{module} is not installed; get it with: pip install "interplay[{extra}]"'
            return Check(name, False, hint, needed)
        found.append(f"{module} {importlib.metadata.version(module.replace('_', '-'))}")
    return Check(name, True, ", ".join(found), needed)


def _sound() -> str:
    import soundfile
    import soxr

    from interplay.core.audio import Resampler

    Resampler(48_000).feed(np.zeros(4_800, np.float32), last=True)
    return f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"


def _torch() -> str:
    try:
        import torch
    except ImportError as error:
        raise RuntimeError('not installed; get it with: pip install "interplay[native]"') from error
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU, which is enough for nano"
    return f"{torch.__version__} on {device}"


def _native() -> str:
    """Loads the shipped weights and times them on a second of silence."""
    import asyncio

    from interplay.core.types import INPUT_SAMPLES, MicroTurnIn
    from interplay.foreground.base import ForegroundSpec
    from interplay.foreground.registry import load_foreground

    foreground: Any = load_foreground("native")

    async def listen() -> tuple[list[float], str]:
        channel, took = await foreground.open(ForegroundSpec()), []
        for turn in range(15):
            began = time.perf_counter()
            await channel.step(MicroTurnIn(turn, np.zeros(INPUT_SAMPLES, np.float32)))
            took.append(time.perf_counter() - began)
        await channel.close()
        return took[5:], (await foreground.health())["selftest"]["text"]

    took, bits = asyncio.run(listen())
    median = sorted(took)[5] * 1e3
    shipped = next((p.name for p in sorted(DATA.glob("*.safetensors"))), "weights")
    return f"{shipped}: one micro-turn in {median:.1f} ms, of the 200 ms there are; {bits}"


def _voice() -> str:
    from interplay.voice.engine import HibariEngine

    engine = HibariEngine()
    began = time.perf_counter()
    clip = engine.render(("interaction",))
    took = time.perf_counter() - began
    return f"hibari {engine.name!r}: a word in {took * 1e3:.0f} ms, {len(clip.audio) / 24_000:.2f} s long"
