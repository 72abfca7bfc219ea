"""Programs of conversation: questions, memory, thinking pauses, self-corrections, stories, remarks."""

from __future__ import annotations

from interplay.training.clips import Clip, cut, synthesise
from interplay.training.language import corrected, facts, parse_request, write_story
from interplay.training.language.chatter import write_musing, write_remark
from interplay.training.language.forms import FORMS
from interplay.training.language.parser import FACTS
from interplay.training.language.words import HESITATIONS, NUMBERS, content
from interplay.training.scenes.stage import Stage

SHORT = (
    "sum", "sum", "minus", "times", "next", "previous", "opposite", "color", "more", "who", "greet", "say", "repeat",
    *(name for name in FORMS if name.startswith("talk_") and name not in ("talk_days", "talk_months")),
)  # fmt: skip
PAUSED = (
    "sum", "minus", "times", "repeat", "next", "opposite", "color", "after", "every", "remember", "say", "timer", "cue",
)  # fmt: skip
LONG = (
    "count_to", "count_to", "count_to", "count_from", "count_from", "story", "story", "describe", "explain",
    "talk_days", "talk_months", "talk_self",
)  # fmt: skip


def settle(stage: Stage, end: float) -> float:
    """Let the listener answer in peace. Returns the time when it has finished."""
    stage.run(end + 1.0)
    stage.run_until(lambda: not (stage.listener.speaking or stage.listener.queue), end + 20)
    return max(stage.now, end) + 0.4


def question(stage: Stage, time: float) -> float:
    """A question or a request of the closed world, and an answer as soon as the person yields."""
    rng = stage.rng
    kind = rng.choice(LONG if rng.random() < 0.35 else SHORT)
    end = stage.request(kind, time)
    return time + 1 if end is None else settle(stage, end)


def memory(stage: Stage, time: float) -> float:
    """ "My number is seven" ... "what is my number"; also a name for the listener itself."""
    rng = stage.rng
    kind = "persona" if rng.random() < 0.25 else "remember"
    end = stage.request(kind, time)
    if end is None:
        return time + 1
    request = stage.listener.requests[-1][1]
    time = settle(stage, end)
    if rng.random() < 0.6:
        time = stage.talk(time, time + rng.uniform(2, 8))
    kind = "who" if kind == "persona" else "recall"
    known = request.cue if rng.random() < 0.8 else rng.choice(tuple(FACTS))
    end = stage.say(stage.asking(kind, known), time + 0.4)
    return stage.length_s if end is None else settle(stage, end)


def repeat(stage: Stage, time: float) -> float:
    """ "Repeat after me: table, garden"."""
    end = stage.request("repeat", time)
    return time + 1 if end is None else settle(stage, end)


def chatter(stage: Stage, time: float) -> float:
    """Talk in which nothing is asked."""
    return stage.talk(time, min(stage.length_s, time + stage.rng.uniform(4, 14)))


def pause(stage: Stage, time: float) -> float:
    """A thinking pause, in a request or in mere talk: nobody has yielded yet."""
    rng = stage.rng
    stage.run(time)
    parts = _musing(stage) if rng.random() < 0.35 else _halves(stage)
    if not parts:
        return question(stage, time)
    for part in parts[:-1]:
        end = stage.put(part, time, open_=True)
        if end is not None and rng.random() < 0.3:
            end = stage.say(rng.choice(HESITATIONS), end + rng.uniform(0.5, 2.0), open_=True)
        if end is None:
            return stage.length_s
        time = end + rng.uniform(0.5, 2.2)
    end = stage.put(parts[-1], time)
    return stage.length_s if end is None else settle(stage, end)


def _musing(stage: Stage) -> list[Clip]:
    return [synthesise(part, stage.voice) for part in write_musing(stage.rng, breadth=stage.mix.breadth)]


def _halves(stage: Stage) -> list[Clip]:
    """A request that is broken off where neither part asks for anything alone; [] if it cannot be."""
    rng, kind = stage.rng, stage.rng.choice(PAUSED)
    recorded = stage.recorded(kind, 8.0)
    words = stage.write(kind, longest_s=8).split() if recorded is None else recorded.text()
    splits = [i for i in range(2, len(words)) if parse_request(words[:i]) is None and parse_request(words[i:]) is None]
    if not splits:
        return []
    late = [i for i in splits if i >= len(words) - 2] or splits
    split = rng.choice(late if rng.random() < 0.6 else splits)
    if recorded is not None:
        return list(cut(recorded, split))
    first = [*words[:split], rng.choice(HESITATIONS)] if rng.random() < 0.5 else words[:split]
    return [synthesise(" ".join(part), stage.voice) for part in (first, words[split:])]


def correct(stage: Stage, time: float) -> float:
    """ "What is two plus three, no, four": in one breath, or when the answer is already on its way."""
    rng = stage.rng
    kind = rng.choice(("sum", "times", "next", "after", "every", "timer", "opposite", "color", "say"))
    words = stage.write(kind, longest_s=8).split()
    meant = _other(stage, words)
    marker = rng.choice(("no", "no", "no wait", "i mean", "sorry"))
    fixed = corrected([*words, *marker.split(), meant]) if meant else words
    if not meant or parse_request(fixed) is None or fixed == words:
        return question(stage, time)
    stage.run(time)
    if rng.random() < 0.6:
        end = stage.say(f"{' '.join(words)} {marker} {meant}", time)
    else:
        end = stage.say(" ".join(words), time)
        if end is not None:
            stage.run(stage.tokens_end())
            end = stage.say(f"{marker} {meant}", end + rng.uniform(0.4, 1.2))
    return time + 1 if end is None else settle(stage, end)


def _other(stage: Stage, words: list[str]) -> str:
    """Another word of the class of the one that the sentence turns on."""
    rng = stage.rng
    if any(word in NUMBERS for word in words):
        return rng.choice(tuple(NUMBERS)[1:12])
    groups = (facts.COLOR_OF, facts.OPPOSITES)
    for group in groups:
        if any(word in group for word in words[-2:]):
            return rng.choice(tuple(group))
    return content(rng)


def story(stage: Stage, time: float) -> float:
    """Somebody tells a story; the listener shows that it listens, as much as its manners ask for."""
    rng = stage.rng
    parts = write_story(rng, rng.randint(3, 9), held_out=stage.held_out_words, breadth=stage.mix.breadth)
    for part in parts[1:] if rng.random() < 0.25 else parts:  # unannounced, it is only talk
        end = stage.say(part, time)
        if end is None:
            return stage.length_s
        time = end + rng.uniform(0.5, 1.3)
    return time + 0.5


def remark(stage: Stage, time: float) -> float:
    """ "I am so tired", to nobody in particular."""
    end = stage.say(write_remark(stage.rng), time)
    return time + 1 if end is None else settle(stage, end)


PROGRAMS = {
    "question": question, "memory": memory, "repeat": repeat, "chatter": chatter, "pause": pause, "correct": correct,
    "story": story, "remark": remark,
}  # fmt: skip
