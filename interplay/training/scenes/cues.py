"""Programs of cues: the person talks on, the listener speaks over them at the word that calls for it."""

from __future__ import annotations

from interplay.training.clips import Clip, join, synthesise
from interplay.training.espeak import spanish_voice
from interplay.training.language import spanish
from interplay.training.language.forms import CONFUSED
from interplay.training.language.words import HESITATIONS
from interplay.training.scenes.stage import Stage
from interplay.training.scenes.timing import stop


def _close(stage: Stage, time: float, cues: tuple[str, ...] = ()) -> float:
    """Mostly somebody says stop in the end; otherwise the talk goes on."""
    if stage.rng.random() < 0.7 and time < stage.length_s - 2.5:
        return stop(stage, time + 0.3)
    return stage.talk(time, stage.length_s, cues)


def cue(stage: Stage, time: float) -> float:
    """ "When I say tiger you say lemon", then chatter with tigers in it."""
    rng = stage.rng
    end = stage.request("tell" if rng.random() < 0.15 else "cue", time)
    if end is None:
        return time + 1
    cues = tuple(sorted(stage.cues()))
    time = stage.talk(end + rng.uniform(0.3, 1.5), min(stage.length_s, end + rng.uniform(7, 16)), cues)
    return _close(stage, time, cues)


def filler(stage: Stage, time: float) -> float:
    """ "Tell me when I use a filler word", then sentences with and without."""
    rng = stage.rng
    end = stage.request("filler", time)
    if end is None:
        return time + 1
    time, until = end + rng.uniform(0.4, 1.5), min(stage.length_s, end + rng.uniform(7, 14))
    while time < until - 1:
        words = stage.chatter().text()
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            words.insert(rng.randint(0, len(words) - 1), rng.choice((*HESITATIONS[:3], "basically")))
        end = stage.say(" ".join(words), time)
        if end is None:
            return stage.length_s
        time = end + rng.choice((0.2, 0.5, 1.0, 2.0))
    return _close(stage, time)


def count(stage: Stage, time: float) -> float:
    """ "Count how often I say apple" ... "how often did I say apple"."""
    rng = stage.rng
    end = stage.request("count", time)
    if end is None:
        return time + 1
    word = stage.listener.rules.counted
    if not word:
        return end + 1
    for _ in range(rng.choice((1, 1, 2))):
        end = stage.talk(end + rng.uniform(0.4, 1.5), min(stage.length_s, end + rng.uniform(4, 12)), (word,))
        asked = stage.request("how_many", end + 0.4, word=word)
        if asked is None:
            return stage.length_s
        end = asked + 2.0
    return stop(stage, end) if rng.random() < 0.5 and end < stage.length_s - 2 else end


def mixed(stage: Stage, rate: int) -> Clip:
    """An English sentence with one or two Spanish words in it, spoken by one speaker."""
    rng = stage.rng
    words = spanish.write_sentence(rng)
    content = [i for i, word in enumerate(words) if word in spanish.PAIRED_CONTENT]
    switched = set(rng.sample(content, min(len(content), rng.choice((1, 1, 2)))))
    voice, other = stage.paced(rate), spanish_voice(stage.paced(rate), rng)
    parts: list[tuple[bool, list[str]]] = []
    for i, word in enumerate(words):
        foreign = i in switched
        if not parts or parts[-1][0] != foreign:
            parts.append((foreign, []))
        parts[-1][1].append(spanish.TO_SPANISH[word] if foreign else word)
    clips = [synthesise(" ".join(part), other if foreign else voice) for foreign, part in parts]
    return join(clips, rng.uniform(0.04, 0.12))


def switch(stage: Stage, time: float) -> float:
    """ "Give me the English word when I switch to Spanish", then talk that switches, and talk that does not."""
    rng = stage.rng
    end = stage.request("switch", time)
    if end is None:
        return time + 1
    time, until = end + rng.uniform(0.4, 1.5), min(stage.length_s, end + rng.uniform(7, 14))
    while time < until - 1:
        clip = mixed(stage, rng.randint(120, 180)) if rng.random() < 0.65 else stage.chatter()
        end = stage.put(clip, time)
        if end is None:
            return stage.length_s
        time = end + rng.choice((0.4, 0.8, 1.5))
    return _close(stage, time)


def drill(stage: Stage, time: float) -> float:
    """ "Correct me when I say ship wrong", then ship, and sheep."""
    rng = stage.rng
    end = stage.request("drill", time)
    if end is None:
        return time + 1
    word = stage.listener.requests[-1][1].cue
    if word not in CONFUSED:
        return end + 1
    time, until = end + rng.uniform(0.4, 1.5), min(stage.length_s, end + rng.uniform(6, 12))
    while time < until - 1:
        tried = rng.choice((word, rng.choice(CONFUSED[word])))
        text = rng.choice((tried, tried, f"i said {tried}", f"this is a {tried}", f"the {tried} is here"))
        end = stage.say(text, time) if rng.random() < 0.75 else stage.put(stage.chatter(), time)
        if end is None:
            return stage.length_s
        time = end + rng.choice((0.6, 1.0, 1.6))
    return _close(stage, time)


PROGRAMS = {"cue": cue, "filler": filler, "count": count, "switch": switch, "drill": drill}
