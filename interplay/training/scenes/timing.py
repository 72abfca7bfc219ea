"""Programs of time: reminders, several at once, changes of mind, stopwatch."""

from __future__ import annotations

from interplay.training.language import CONTENT
from interplay.training.language.forms import FORMS
from interplay.training.scenes.stage import Stage


def every(stage: Stage, time: float) -> float:
    """ "Say hello every three seconds" ... "stop"."""
    rng = stage.rng
    end = stage.request("every", time, longest_s=(stage.length_s - time - 3) / 1.5)
    if end is None:
        return time + 1
    seconds = stage.listener.requests[-1][1].seconds if stage.listener.requests else 3.0
    count = rng.choice((1, 2, 2, 3, 4, 8))
    finish = end + (count + rng.uniform(0.25, 0.75)) * seconds
    stopping = rng.random() < 0.7 and finish < stage.length_s - 2
    until = finish if stopping else stage.length_s
    if rng.random() < 0.55:
        stage.talk(end + rng.uniform(0.3, 2.5), until)
    return stop(stage, finish) if stopping else stage.length_s


def after(stage: Stage, time: float) -> float:
    """ "In five seconds say apple", talked over or not, sometimes called off."""
    rng = stage.rng
    kind = "after_half" if rng.random() < 0.05 and stage.length_s - time > 38 else "after"
    end = stage.request(kind, time, longest_s=stage.length_s - time - 4)
    if end is None:
        return time + 1
    seconds = stage.listener.requests[-1][1].seconds if stage.listener.requests else 3.0
    due = end + seconds
    if rng.random() < 0.12 and seconds >= 4:  # thinks better of it
        return stop(stage, end + seconds * rng.uniform(0.3, 0.6))
    if rng.random() < 0.55:
        return stage.talk(end + rng.uniform(0.3, 2.0), due + rng.uniform(1, 5))
    return due + rng.choice((1.0, 1.2 * seconds))  # in half of them it is to be seen that it does not come again


def stop(stage: Stage, time: float) -> float:
    """Say stop: everything in force ends with the micro-turn in which the word was heard."""
    end = stage.request("stop", time)
    return stage.length_s if end is None else end


def lasting(stage: Stage, time: float) -> float:
    """ "Say apple every three seconds for twelve seconds"; nobody has to say stop."""
    rng = stage.rng
    end = stage.request("lasting", time, longest_s=(stage.length_s - time - 5) / 2.5)
    if end is None or not stage.listener.requests:
        return time + 1
    over = end + stage.listener.requests[-1][1].lasting
    if rng.random() < 0.4:
        stage.talk(end + rng.uniform(0.3, 2.0), over)
    return over + 1.0


def minute(stage: Stage, time: float) -> float:
    """ "Say apple at the next minute": the session's own clock. Only where the scene reaches one."""
    rng = stage.rng
    due = 60.0 * (int((time + 4) / 60) + 1)
    if due + 2 > stage.length_s:
        return after(stage, time)
    end = stage.request("minute", max(time, due - rng.uniform(8, 40)))
    if end is None:
        return time + 1
    if rng.random() < 0.5:
        stage.talk(end + rng.uniform(0.3, 2.0), due + 2)
    return due + 1.0


def several(stage: Stage, time: float) -> float:
    """Two or three reminders at once; sometimes one of them is called off by its name."""
    rng = stage.rng
    phrases: list[tuple[str, ...]] = []
    for _ in range(rng.choice((2, 2, 3))):
        kind = rng.choice(("every", "after", "after"))
        end = stage.request(kind, time, longest_s=min(12.0, (stage.length_s - time - 5) / 2))
        if end is None:
            return stage.length_s
        phrases.append(stage.listener.requests[-1][1].phrase)
        time = end + rng.uniform(0.4, 2.0)
    last = [r for r in stage.listener.rules.rules if r.next_due() < r.until]
    if last and rng.random() < 0.5:
        gone = " ".join(rng.choice(last).request.phrase)
        stage.run(time)
        end = stage.say(rng.choice(FORMS["cancel"][stage.held_out_words]).format(p=gone), time)
        time = time if end is None else end
    finish = time + rng.uniform(4, 12)
    if rng.random() < 0.4:
        stage.talk(time + 0.5, finish)
    return stop(stage, finish) if rng.random() < 0.6 and finish < stage.length_s - 2 else finish


def revise(stage: Stage, time: float) -> float:
    """ "Say apple every five seconds" ... "make that three"."""
    rng = stage.rng
    end = stage.request(rng.choice(("every", "after")), time, longest_s=min(12.0, (stage.length_s - time - 6) / 2))
    if end is None:
        return time + 1
    seconds = stage.listener.requests[-1][1].seconds
    end = stage.request("revise", end + rng.uniform(0.4, max(0.5, 0.7 * seconds - 1.5)), longest_s=10)
    if end is None:
        return stage.length_s
    finish = end + rng.uniform(2.3, 3.6) * stage.listener.requests[-1][1].seconds
    if rng.random() < 0.4:
        stage.talk(end + rng.uniform(0.3, 2.0), finish)
    return stop(stage, finish) if finish < stage.length_s - 2 else stage.length_s


def elapsed(stage: Stage, time: float) -> float:
    """A stopwatch, or "how long ago did I say apple", answered with the number of seconds."""
    rng = stage.rng
    took = rng.choice((rng.uniform(1.5, 6), rng.uniform(3, 15), rng.uniform(5, 40)))
    took = min(took, stage.length_s - time - 7)
    if took < 1.5:
        return time + 1
    if rng.random() < 0.3:
        word = next(w for w in rng.sample(CONTENT, 20) if w not in stage.cues())
        end = stage.put(stage.chatter(word), time)
        if end is None:
            return time + 1
        if rng.random() < 0.4:
            stage.talk(end + 0.5, end + took - 1)
        end = stage.request("since", end + took, word=word)
    else:
        end = stage.request("clock", time)
        if end is None:
            return time + 1
        if rng.random() < 0.5:
            stage.talk(end + rng.uniform(0.3, 2.0), end + took - 0.8)
        end = stage.request("timer_stop" if rng.random() < 0.25 else "elapsed", end + took)
    return stage.length_s if end is None else end + 2.2


PROGRAMS = {
    "every": every, "after": after, "lasting": lasting, "minute": minute, "several": several, "revise": revise,
    "elapsed": elapsed,
}  # fmt: skip
