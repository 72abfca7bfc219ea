"""Depth behind the presence: delegations, what they are given, what they give back, and when it is no longer wanted.

The foreground never waits for anything in here. `docs/background.md` shows the room.
"""

from interplay.background.base import Abilities, Background, Piece, ToolAnswer, ToolOffer, Toolset, Work
from interplay.background.delegation import Delegation, State
from interplay.background.package import ContextPackage, Line
from interplay.background.room import BackgroundRoom

__all__ = [
    "Abilities",
    "Background",
    "BackgroundRoom",
    "ContextPackage",
    "Delegation",
    "Line",
    "Piece",
    "State",
    "ToolAnswer",
    "ToolOffer",
    "Toolset",
    "Work",
]
