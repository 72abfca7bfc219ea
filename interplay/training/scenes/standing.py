"""The prefix: what was agreed before the session starts holds in it exactly as if it had been said."""

from __future__ import annotations

from interplay.training.scenes.scene import LONGEST_PREFIX
from interplay.training.scenes.stage import Stage

SEPARATOR = "also"
_KINDS = ("cue", "cue", "every", "after", "persona", "count", "filler", "shadow", "to_spanish", "tell", "remember")


def write(stage: Stage) -> tuple[str, ...]:
    """One or two standing instructions, at most `LONGEST_PREFIX` words."""
    rng = stage.rng
    words: list[str] = []
    for kind in rng.sample(_KINDS, rng.choice((1, 1, 2))):
        new = stage.write(kind, longest_s=8).split()
        if len(words) + len(new) + 1 <= LONGEST_PREFIX:
            words += [SEPARATOR, *new] if words else new
    return tuple(words)


def play(stage: Stage, time: float) -> float:
    """Talk that the standing instructions apply to, if there are any. Returns the time after it."""
    if not stage.listener.prefix:
        return time
    return stage.talk(time, time + stage.rng.uniform(4, 12), tuple(sorted(stage.cues())))
