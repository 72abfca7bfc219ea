"""Programs of the floor: who has it, who takes it, who only makes a noise, and who is not meant at all."""

from __future__ import annotations

from interplay.training.clips import Clip, synthesise
from interplay.training.language.chatter import (
    INTERRUPTIONS,
    NOTHING_AFTER_ALL,
    SIDE_TALK,
    addressed,
    fill,
    quoted,
)
from interplay.training.language.words import BACKCHANNELS, NAMES
from interplay.training.scenes.dialog import LONG, SHORT, settle
from interplay.training.scenes.stage import Stage


def _begun(stage: Stage, time: float, words: int) -> bool:
    """The person asks for something long; True when the listener has said `words` words of it and is still at it."""
    rng = stage.rng
    if rng.random() < 0.45:
        if rng.random() < 0.8:  # who was never heard cannot be told from others
            end = stage.put(stage.chatter(), time)
            if end is None:
                return False
            time = end + rng.uniform(0.3, 1.0)
        stage.run(time)
        stage.run(stage.type(stage.write(rng.choice(LONG)), time))
    elif stage.request(rng.choice(LONG), time) is None:
        return False
    start = len(stage.outputs)

    def so_far() -> bool:
        return sum(out.decision == "speak" for out in stage.outputs[start:]) >= words

    stage.run_until(so_far, stage.now + 8)
    return stage.listener.speaking


def interrupt(stage: Stage, time: float) -> float:
    """The person takes the floor in the middle of an answer: with a question, with stop, or with nothing after all."""
    rng = stage.rng
    if not _begun(stage, time, rng.randint(2, 6)):
        return settle(stage, stage.now)
    at = stage.now + rng.uniform(0.0, 0.4)
    way = rng.random()
    if way < 0.3:
        end = stage.request(rng.choice(SHORT), at)
    elif way < 0.65:
        end = stage.request(rng.choice(("stop", "stop", "hush", "withdraw")), at)
    elif way < 0.85:
        end = stage.say(rng.choice(INTERRUPTIONS), at)
        if end is not None:
            then = rng.choice((stage.write(rng.choice(SHORT)), rng.choice(NOTHING_AFTER_ALL), stage.write("resume")))
            end = stage.say(then, end + rng.uniform(0.5, 1.2))
    else:
        end = stage.put(stage.chatter(), at)
        if end is not None and rng.random() < 0.5:
            end = stage.say(stage.write("resume"), end + rng.uniform(0.8, 2.0))
    return stage.length_s if end is None else settle(stage, end)


def keep(stage: Stage, time: float) -> float:
    """ "Mhm", a cough, a second voice while the listener speaks: it goes on."""
    rng = stage.rng
    if not _begun(stage, time, rng.randint(1, 4)):
        return settle(stage, stage.now)
    for _ in range(rng.randint(1, 3)):
        at = stage.now + rng.uniform(0.0, 1.0)
        way = rng.random()
        if way < 0.5:
            stage.put(_backchannel(stage), at, gain_db=rng.uniform(-8, 2), backchannel=True)
        elif way < 0.7:
            stage.burst(at)
        else:
            text = fill(rng.choice(SIDE_TALK), rng)
            text = addressed(text, rng) if rng.random() < 0.4 else text
            stage.beside(text, at, radio=rng.random() < 0.4, near=rng.random() < 0.6)
        stage.run(at + rng.uniform(1.0, 2.5))
        if not stage.listener.speaking:
            break
    return settle(stage, stage.now)


def _backchannel(stage: Stage) -> Clip:
    """ "Mhm", "right yeah": the floor stays with the listener. Said while it talks, "go on" is one too."""
    rng = stage.rng
    kind = "resume" if rng.random() < 0.25 else "backchannel"
    recorded = stage.recorded(kind, 0.0)
    if recorded is not None and (kind == "backchannel" or len(recorded.words) == 2):
        return recorded
    text = " ".join(rng.choices(BACKCHANNELS, k=rng.choice((1, 1, 1, 2, 3))))
    return synthesise("go on" if rng.random() < 0.1 else text, stage.voice)


def side_talk(stage: Stage) -> None:
    """For the whole scene: somebody else on the phone, or a radio, sometimes with a question that is not for here."""
    rng = stage.rng
    radio = rng.random() < 0.5
    near = not radio and rng.random() < 0.5
    time = rng.uniform(0, 5)
    while time < stage.length_s - 2:
        kind = rng.choice(SHORT) if rng.random() < 0.3 else ""
        text = stage.write(kind) if kind else fill(rng.choice(SIDE_TALK), rng, stage.mix.breadth)
        end = stage.beside(text, time, radio=radio, near=near, kind=kind)
        stage.bait(end)
        time = end + rng.choice((0.3, 1.0, 3.0, 6.0))


# What stands for a program where the request is a decoy.
_KINDS: dict[str, tuple[str, ...]] = {
    "question": SHORT, "memory": ("remember", "recall", "who"), "pause": SHORT, "correct": SHORT, "interrupt": LONG,
    "keep": LONG, "story": SHORT, "remark": SHORT, "chatter": SHORT, "several": ("every", "after"),
    "translate": ("to_spanish", "to_english"), "elapsed": ("clock", "elapsed", "since"), 
    "delegate": ("question", "task"), "tool": ("timer", "note", "mark"), "typed": SHORT,
}  # fmt: skip


def decoy(stage: Stage, time: float, program: str) -> float:
    """The words of a request, and nothing to do: told, meant for somebody else, or said by another voice."""
    rng = stage.rng
    kind = rng.choice(_KINDS.get(program, (program,)))
    text = stage.write(kind, longest_s=8)
    way = rng.random()
    if way < 0.4:
        end = stage.say(quoted(text, rng, held_out=stage.held_out_words), time)
    elif way < 0.75:
        others = [name for name in NAMES if name != stage.listener.replies.name]
        end = stage.say(addressed(text, rng, to=rng.choice(others)), time)
        if end is not None and rng.random() < 0.4:  # and is answered by whom it was meant for
            stage.beside(fill(rng.choice(SIDE_TALK), rng), end + 0.5)
    else:
        end = stage.beside(text, time, radio=rng.random() < 0.5, near=rng.random() < 0.3, kind=kind)
    if end is None:
        return time + 1
    stage.bait(end)
    return stage.talk(end + rng.uniform(0.5, 2.0), end + rng.uniform(2, 7), tuple(sorted(stage.cues())))


PROGRAMS = {"interrupt": interrupt, "keep": keep}
