"""Programs of speaking at the same time: translation word for word, shadowing, counting along."""

from __future__ import annotations

from interplay.training.clips import synthesise
from interplay.training.espeak import spanish_voice
from interplay.training.language import number_words, spanish, write_chatter
from interplay.training.scenes.stage import Stage
from interplay.training.scenes.timing import stop


def _mode(stage: Stage, kind: str, time: float, speak) -> float:
    """Ask for a mode, let `speak(time)` go on for a while, mostly stop in the end and talk on without it."""
    rng = stage.rng
    end = stage.request(kind, time)
    if end is None:
        return time + 1
    time, until = end + rng.uniform(0.5, 1.5), min(stage.length_s, end + rng.uniform(6, 18))
    while time < until - 1:
        end = speak(time)
        if end is None:
            return stage.length_s
        time = end + rng.choice((0.5, 1.0, 1.8))
    if rng.random() < 0.6 and time < stage.length_s - 3:
        time = stop(stage, time + 0.5)
        return stage.talk(time + 1.0, time + rng.uniform(2, 5))
    return stage.length_s


def translate(stage: Stage, time: float) -> float:
    """Every word that the lexicon has, in the other language, a moment after it was heard."""
    rng = stage.rng
    voice = stage.paced(rng.randint(85, 125))
    if rng.random() < 0.5:

        def in_english(at: float) -> float | None:
            if rng.random() < 0.4:  # mere talk, where only some words are in the lexicon
                return stage.put(stage.chatter(), at)
            return stage.say(" ".join(spanish.write_sentence(rng)), at, voice=voice)

        return _mode(stage, "to_spanish", time, in_english)
    other = spanish_voice(voice, rng)

    def in_spanish(at: float) -> float | None:
        words = [spanish.TO_SPANISH[word] for word in spanish.write_sentence(rng)]
        return stage.put(synthesise(" ".join(words), other), at)

    return _mode(stage, "to_english", time, in_spanish)


def shadow(stage: Stage, time: float) -> float:
    """Every word, said after the person, while the person speaks on."""
    rng = stage.rng
    voice = stage.paced(rng.randint(85, 130))

    def sentence(at: float) -> float | None:
        text = write_chatter(rng, breadth=stage.mix.breadth)
        return stage.say(text if "stop" not in text.split() else "garden table river", at, voice=voice)

    return _mode(stage, "shadow", time, sentence)


def along(stage: Stage, time: float) -> float:
    """The person counts, up, down or in steps; the listener says each number along. Other words pass."""
    rng = stage.rng
    state = [rng.randint(1, 5), rng.choice((1, 1, 1, 2, -1))]
    pause = rng.uniform(0.3, 1.2)
    if state[1] < 0:
        state[0] += 12

    def number(at: float) -> float | None:
        if rng.random() < 0.08:
            return stage.put(stage.chatter(), at)
        text = " ".join(number_words(max(0, min(state[0], 40)) or 1))
        state[0] += state[1]
        end = stage.say(text, at)
        return None if end is None else end + pause - 0.5

    return _mode(stage, "along", time, number)


PROGRAMS = {"translate": translate, "shadow": shadow, "along": along}
