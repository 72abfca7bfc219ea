"""Foregrounds by name: what `--foreground NAME` can mean. Nothing heavy is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interplay.core.types import BadInput, Missing
from interplay.foreground.base import Foreground


def _native(checkpoint: Path | None) -> Foreground:
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise Missing('the native model needs torch; get it with: pip install "interplay[native]"') from error
    from interplay.foreground.native import NativeForeground

    return NativeForeground.load(checkpoint)


def _silent(checkpoint: Path | None) -> Foreground:
    from interplay.foreground.silent import SilentForeground

    return SilentForeground()


FOREGROUNDS: dict[str, Callable[[Path | None], Foreground]] = {"native": _native, "silent": _silent}


def load_foreground(name: str = "native", *, checkpoint: str | Path | None = None) -> Foreground:
    """The foreground of this name. checkpoint: weights for those that have some, default: the ones that ship.

    Raises BadInput for a name that is not known, Missing for parts that are not installed.
    """
    if name not in FOREGROUNDS:
        from interplay.foreground.realtime import KINDS, load_realtime

        if name.split("/")[0].split(",")[0] in KINDS:  # "openai-realtime/gpt-realtime", or several in order of choice
            return load_realtime(name)
        raise BadInput(f"unknown foreground {name!r}; known: {', '.join(sorted([*FOREGROUNDS, *KINDS]))}")
    return FOREGROUNDS[name](Path(checkpoint) if checkpoint is not None else None)
