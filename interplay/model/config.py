"""The shape of an interaction model: a handful of numbers, saved inside every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# What a micro-turn decides. `speak` and `backchannel` voice the word that is put out, `tool` spells a call with it,
# `deliver` has the session read a background result aloud, `yield` cuts what it still reads.
DECISIONS = ("listen", "speak", "backchannel", "yield", "delegate", "deliver", "tool")
LISTEN, SPEAK, BACKCHANNEL = 0, 1, 2
DELEGATE = DECISIONS.index("delegate")
WORDED = frozenset(DECISIONS.index(name) for name in ("speak", "backchannel", "tool"))

# Marks of a micro-turn's input: the slice never came, a background result waits, the voice is reading a result, the
# micro-turn before handed something over. New ones come last: to a checkpoint that has fewer they mean nothing.
MARKS = ("missing", "pending", "busy", "delegated")
PREFIX_WORDS = 48  # room for words set before the session starts: instructions, reminders, cues


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of the transformer. `window`: how many micro-turns attention reaches back (bounded context).

    experts > 0 makes every feed-forward a mixture of that many, `active` of them per position beside a shared one of
    width `feedforward`; `expert_width` is the width of each.
    """

    width: int = 256
    layers: int = 6
    heads: int = 4
    feedforward: int = 672
    positions: int = 2  # per micro-turn
    frame_width: int = 64  # width of one 20 ms frame's bag of embeddings
    window: int = 200
    rope_base: float = 20_000.0
    experts: int = 0
    active: int = 2
    expert_width: int = 0
    clock: bool = False  # whether the time of the session is an input of every micro-turn
    glances: int = 0  # positions that a video frame adds to the micro-turns of a session with video; 0: no eyes

    def to_dict(self) -> dict[str, float | int | bool]:
        return asdict(self)
