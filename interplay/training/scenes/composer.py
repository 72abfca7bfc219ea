"""Puts scenes together: draws programs, lets them play one after the other, exposes the result to the world."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from interplay.training.clips import Bank
from interplay.training.scenes import cues, dialog, floor, simultaneous, standing, timing, tools
from interplay.training.scenes.listener import Listener
from interplay.training.scenes.scene import PROGRAMS, Mix, Scene
from interplay.training.scenes.stage import Stage
from interplay.training.scenes.world import expose

# Each takes (stage, time) and returns the time from which on the next program may start.
TABLE = {
    **timing.PROGRAMS, **cues.PROGRAMS, **dialog.PROGRAMS, **floor.PROGRAMS, **simultaneous.PROGRAMS, **tools.PROGRAMS
}  # fmt: skip
assert set(TABLE) == set(PROGRAMS), set(TABLE) ^ set(PROGRAMS)


@dataclass
class Composer:
    """One scene of `turns` micro-turns after the other, all determined by `rng`.

    bank: recorded speech; without one everything is synthesised. held_out: voices that training never draws.
    held_out_words: requests in sentences that training never draws.
    """

    rng: random.Random
    turns: int
    bank: Bank | None = None
    mix: Mix = field(default_factory=Mix)
    held_out: bool = False
    held_out_words: bool = False
    stage: Stage = field(init=False)  # of the latest scene

    def compose(self) -> Scene:
        """The next scene, as the microphone hears it."""
        return expose(*self.perform(), self.rng)

    def perform(self) -> tuple[Stage, Scene]:
        """The next scene and its stage, before microphone and room."""
        rng, mix = self.rng, self.mix
        held = {"held_out": self.held_out, "held_out_words": self.held_out_words}
        self.stage = stage = Stage(rng, self.turns, self.bank, mix, **held)
        manner = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0, rng.random())) if rng.random() < mix.manners else 0.5
        prefix = standing.write(stage) if rng.random() < mix.standing else ()
        stage.listener = Listener(manner, prefix)
        if rng.random() < mix.side:
            floor.side_talk(stage)
        for _ in range(rng.randint(1, 4) if rng.random() < mix.bursts else 0):
            stage.burst(rng.uniform(0, stage.length_s - 0.5))
        time = standing.play(stage, rng.uniform(0.1, 1.8))
        weights = [getattr(mix, name) for name in PROGRAMS]
        while time < stage.length_s - 3 and sum(weights):
            program = rng.choices(PROGRAMS, weights)[0]
            decoy = rng.random() < mix.decoy
            time = floor.decoy(stage, time, program) if decoy else TABLE[program](stage, time)
            time += rng.uniform(0.4, 2.0)
        return stage, stage.scene()
