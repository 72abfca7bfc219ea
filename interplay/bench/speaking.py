"""TimeSpeak and CueSpeak: speech at a due time, speech on a cue, and nothing else."""

from __future__ import annotations

import asyncio
import math
import statistics

from interplay.bench.items import items
from interplay.bench.runner import play
from interplay.bench.score import judge, macro
from interplay.bench.task import Result, Setup
from interplay.core.types import BadInput


def timespeak(setup: Setup) -> Result:
    return _spoken("timespeak", setup)


def cuespeak(setup: Setup) -> Result:
    return _spoken("cuespeak", setup)


def _spoken(name: str, setup: Setup) -> Result:
    from interplay.voice.engine import HibariEngine
    from interplay.voice.hibari import HibariVoice

    if setup.voices not in ("held-out", "training"):
        raise BadInput(f"{name} items are composed from synthetic voices: --voices held-out or training")
    mind = setup.mind
    voice = None if mind.capabilities.speaks else HibariVoice(HibariEngine(seed=setup.seed), sync=True)
    verdicts = []
    for item in items(name, setup.n, setup.seed, held_out=setup.voices == "held-out"):
        verdicts.append(judge(item, asyncio.run(play(mind, voice, item.audio))))
        setup.advance(total=setup.n)
    value, interval = macro(verdicts)
    metrics = {"macro_accuracy": value}
    for category in dict.fromkeys(v.category for v in verdicts):
        group = [v for v in verdicts if v.category == category]
        metrics[f"accuracy_{category}"] = 100 * sum(v.right for v in group) / len(group)
    metrics["hit_rate"] = 100 * sum(v.hit for v in verdicts) / len(verdicts)
    metrics["extra_rate"] = 100 * sum(bool(v.extra) for v in verdicts) / len(verdicts)
    metrics["all_responses_rate"] = 100 * sum(v.complete and not v.extra for v in verdicts) / len(verdicts)
    onsets = [v.onset_s for v in verdicts if v.hit]
    middle = 0.5 if name == "cuespeak" else 0.0  # CueSpeak's window runs from -0.2 to 1.2 s after the cue
    metrics["onset_median_s"] = statistics.median(onsets) + middle if onsets else math.nan
    rows = [{"category": v.category, "right": v.right, "hit": v.hit, "onset_s": v.onset_s} for v in verdicts]
    return Result(setup.n, metrics, {"macro_accuracy": interval}, rows=rows)
