"""Programs of work done elsewhere: delegation to the background, tool calls, and text that arrives as events."""

from __future__ import annotations

from interplay.training.language import number_value
from interplay.training.language.chatter import RESULTS
from interplay.training.language.words import content, number_words
from interplay.training.scenes.dialog import LONG, SHORT, settle
from interplay.training.scenes.stage import Stage


def result(stage: Stage) -> tuple[str, ...]:
    """What the background may come back with."""
    rng = stage.rng
    text = rng.choice(RESULTS)
    while "{n}" in text:
        text = text.replace("{n}", " ".join(number_words(rng.randint(2, 40))), 1)
    return tuple(text.format(*(content(rng, stage.mix.breadth) for _ in range(text.count("{}")))).split())


def delegate(stage: Stage, time: float) -> float:
    """An open question; talk or other questions while it runs; the answer at the next opening, unless withdrawn."""
    rng = stage.rng
    if stage.pending_or_waiting():
        return time + 1
    stage.results.append((round(rng.uniform(1.5, 9) * 5), result(stage), round(rng.uniform(8, 20) * 5)))
    end = stage.request(rng.choice(("question", "task")), time)
    if end is None:
        stage.results.clear()
        return time + 1
    way = rng.random()
    time = end + rng.uniform(1.6, 3.0)
    if way < 0.2:
        end = stage.request("withdraw", time)
        time = time if end is None else end + 1.0
    elif way < 0.55:
        time = stage.talk(time, time + rng.uniform(2, 7))
    elif way < 0.7:
        end = stage.request(rng.choice(SHORT), time)
        time = stage.length_s if end is None else settle(stage, end)
    stage.run_until(lambda: bool(stage.busy and max(stage.busy) >= stage.done), time + 9)
    if stage.busy and max(stage.busy) > stage.done and rng.random() < 0.35:
        return _over_delivery(stage)
    return max(stage.now, (max(stage.busy) + 1) * 0.2 if stage.busy else 0.0) + 0.5


def _over_delivery(stage: Stage) -> float:
    """While the result is read aloud: the person takes the floor, or only says "mhm"."""
    rng = stage.rng
    at = stage.now + rng.uniform(0.2, 2.0)
    way = rng.random()
    if way < 0.35:
        end = stage.say("mhm", at, gain_db=-5)
    elif way < 0.7:
        end = stage.say(stage.write(rng.choice(SHORT)), at)
    else:
        end = stage.say(stage.write(rng.choice(("withdraw", "stop", "hush"))), at)
    return stage.length_s if end is None else settle(stage, end)


def tool(stage: Stage, time: float) -> float:
    """A timer, a note, a mark on the canvas: called with what was heard, said or talked over; a timer rings."""
    rng = stage.rng
    kind = rng.choice(("timer", "timer", "timer_minutes", "timer_stop", "note", "note", "mark"))
    end = stage.request(kind, time, longest_s=10)
    if end is None:
        return time + 1
    calls = [r for _, r in stage.listener.requests if r.kind == "tool"]
    if kind == "timer" and calls and calls[-1].topic == "timer":
        due = end + (number_value(" ".join(calls[-1].phrase[1:])) or 5)
        if due < stage.length_s - 2:
            stage.type("timer done", due)
            if rng.random() < 0.5:
                stage.talk(end + rng.uniform(0.4, 2.0), due + 1)
            return due + 2.5
    return stage.talk(end + 0.4, end + 4) if rng.random() < 0.5 else end + 2.0


def typed(stage: Stage, time: float) -> float:
    """A typed message, in silence or while somebody speaks."""
    rng = stage.rng
    kind = rng.choice(LONG) if rng.random() < 0.3 else rng.choice((*SHORT, "every", "after", "cue", "question"))
    talking = rng.random() < 0.5
    start = time + (rng.uniform(0.5, 3.0) if talking else 0.0)
    stage.run(min(time, start))
    end = stage.type(stage.write(kind, longest_s=6), start)
    if talking:
        end = max(end, stage.talk(time, end + rng.uniform(0, 2)))
    time = settle(stage, end)
    return stage.talk(time, time + rng.uniform(3, 9), tuple(sorted(stage.cues())))


PROGRAMS = {"delegate": delegate, "tool": tool, "typed": typed}
