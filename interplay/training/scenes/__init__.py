"""Scene programs: what people say on a timeline, and what a good listener hears, says and decides, exactly timed."""

from __future__ import annotations

from interplay.training.scenes.composer import Composer
from interplay.training.scenes.listener import Input, Listener, Output, Sound, Token
from interplay.training.scenes.scene import LOOKAHEAD_S, PROGRAMS, REPLY_TURNS, WORD_TURNS, Mix, Scene

__all__ = [
    "LOOKAHEAD_S",
    "PROGRAMS",
    "REPLY_TURNS",
    "WORD_TURNS",
    "Composer",
    "Input",
    "Listener",
    "Mix",
    "Output",
    "Scene",
    "Sound",
    "Token",
]
