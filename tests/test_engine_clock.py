"""The clock of the engine: who is gathered, who is late, who is let in, what is given up first."""

import asyncio
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from interplay.engine.admission import Admission  # noqa: E402
from interplay.engine.clocked import ACTIVE_S, MAX_BEHIND, MAX_WAITING, Clocked  # noqa: E402
from interplay.engine.core import Append, Chosen, Engine, Opening  # noqa: E402
from interplay.engine.errors import EngineError, Lagging, NoSession, OutOfOrder, Overloaded  # noqa: E402
from interplay.engine.local import LocalEngine  # noqa: E402
from interplay.engine.watch import REMEMBER_S, STUCK_TURNS, Watch  # noqa: E402
from tests.test_engine_core import SMALL, Script, build, play, same  # noqa: E402

BINS = np.zeros((10, 80), np.uint8)


@pytest.fixture(scope="module")
def model():
    return build()


class Time:
    """A clock that stands still; `steps` take what the test says."""

    def __init__(self, clocked_engine, step_s=0.01):
        self.t, self.step_s, self.batches = 100.0, step_s, []
        real = clocked_engine.step

        def step(appends):
            self.t += self.step_s
            self.batches.append([(a.session, a.turn, a.frame is not None) for a in appends])
            return real(appends)

        clocked_engine.step = step

    def __call__(self):
        return self.t


@pytest.fixture
def clocked(model):
    engine = Engine(model, slots=4)
    return Clocked(engine, now=Time(engine))


def answers(clocked, append):
    got = []
    clocked.submit(append, got.append)
    return got


def test_everybody_who_is_due_is_one_batch(clocked):
    names = [clocked.open() for _ in range(3)]
    got = [answers(clocked, Append(name, 0, BINS)) for name in names[:2]]
    assert clocked.next_at() == pytest.approx(clocked.now() + clocked.gather_s)  # somebody is missing: wait a little
    got.append(answers(clocked, Append(names[2], 0, BINS)))
    assert clocked.next_at() <= clocked.now()  # nobody is missing: at once
    assert clocked.run() == 3 and len(clocked.now.batches) == 1
    assert [a[0].session for a in got] == names
    assert clocked.next_at() is None and clocked.run() == 0


def test_who_is_silent_for_long_is_not_waited_for(clocked):
    here, _gone = clocked.open(), clocked.open()
    clocked.now.t += ACTIVE_S + 0.1
    answers(clocked, Append(here, 0, BINS))
    assert clocked.next_at() <= clocked.now()


def test_a_simulated_session_does_not_wait_for_real_ones(clocked):
    clocked.open()
    file = clocked.open(realtime=False)
    answers(clocked, Append(file, 0, BINS))
    assert clocked.next_at() <= clocked.now()


def test_far_behind_is_dropped_and_not_caught_up(clocked):
    name, got = clocked.open(), []
    for turn in range(6):
        clocked.submit(Append(name, turn, BINS), got.append)
    while clocked.next_at() is not None:
        clocked.run()
    dropped = [a for a in got if isinstance(a, Lagging)]
    ran = [a.turn for a in got if isinstance(a, Chosen)]
    assert len(dropped) == 6 - MAX_BEHIND == clocked.stats.dropped and ran == [4, 5]


def test_a_file_loses_nothing_and_a_flood_is_refused(clocked):
    name, got = clocked.open(realtime=False), []
    for turn in range(MAX_WAITING + 2):
        clocked.submit(Append(name, turn, BINS), got.append)
    assert [type(a) for a in got] == [Lagging, Lagging]
    while clocked.next_at() is not None:
        clocked.run()
    assert [a.turn for a in got[2:]] == list(range(MAX_WAITING))


def test_doubles_are_answered_once_and_order_is_kept(clocked):
    name = clocked.open()
    first, second = answers(clocked, Append(name, 3, BINS)), answers(clocked, Append(name, 3, BINS))
    assert isinstance(first[0], Lagging)
    assert isinstance(answers(clocked, Append(name, 2, BINS))[0], OutOfOrder)
    assert isinstance(answers(clocked, Append(name, 3, BINS + 1))[0], OutOfOrder)
    clocked.run()
    assert second[0].turn == 3 and answers(clocked, Append(name, 3, BINS))[0] == second[0]
    assert isinstance(answers(clocked, Append("nobody", 0, BINS))[0], NoSession)
    assert answers(clocked, Append(name, 4, BINS[:3]))[0].code == "bad_input"


def test_a_session_that_leaves_mid_air_is_told_and_nobody_else_notices(clocked, model):
    script = Script(4, 20)
    expected = play(Engine(model, slots=1), script)
    clocked.open(script.opening, script.name)
    other = clocked.open()
    for at, turn in enumerate(script.ran):
        mine = answers(clocked, script.append(turn))
        if at < 5:
            theirs = answers(clocked, Append(other, turn, BINS))
            if at == 4:
                clocked.close(other)
                assert isinstance(theirs[0], NoSession)
        clocked.run()
        assert same(mine[0], expected[turn])
    assert clocked.engine.free() == 3


def test_admission_follows_what_steps_cost():
    admission = Admission(0.2)
    admission.check(1)  # nothing measured: the first is always let in
    for n in [*range(1, 9)] * 10:
        admission.measured(n, 0.010 + 0.005 * n)
    assert admission.predict(20) == pytest.approx(0.110, abs=0.01)
    admission.check(20)
    with pytest.raises(Overloaded, match=r"30 sessions would take about 16\d ms"):
        admission.check(30)
    for _ in range(30):
        admission.finished(late=True)
    with pytest.raises(Overloaded, match="late lately"):
        admission.check(2)


def test_overloaded_is_said_before_the_door_and_inside_nothing_changes(model):
    engine = Engine(model, slots=4)
    clocked = Clocked(engine, now=Time(engine, step_s=0.07))
    first = clocked.open()
    for turn in range(20):
        answers(clocked, Append(first, turn, BINS))
        clocked.run()
    with pytest.raises(Overloaded, match="2 sessions would take"):
        clocked.open()
    assert clocked.stats.refused == 1 and engine.free() == 3
    clocked.open(realtime=False)  # a file may take as long as it likes
    clocked.draining = True
    with pytest.raises(Overloaded, match="emptied"):
        clocked.open(realtime=False)
    assert clocked.health()["free"] == 0


def test_pictures_are_given_up_before_sound_is_late():
    config = replace(SMALL, glances=2)
    engine = Engine(build(config), slots=1, video_slots=1)
    clocked = Clocked(engine, now=Time(engine))
    name = clocked.open(Opening(video=True))
    frame = np.zeros((80, 80, 3), np.uint8)
    got = answers(clocked, Append(name, 0, BINS, frame=frame))
    clocked.run()
    got += answers(clocked, Append(name, 1, BINS, frame=frame))
    clocked.now.t += 0.15  # something else took the machine
    clocked.run()
    got += answers(clocked, Append(name, 2, BINS, frame=frame))
    clocked.run()
    assert [batch[0][2] for batch in clocked.now.batches] == [True, False, True]
    assert clocked.stats.shed_frames == 1 and all(isinstance(a, Chosen) for a in got)


def test_a_film_on_a_simulated_clock_loses_no_picture():
    """Nothing is late there, however slow the machine: a file is seen the same way every time."""
    engine = Engine(build(replace(SMALL, glances=2)), slots=1, video_slots=2)
    clocked = Clocked(engine, now=Time(engine, step_s=0.5))
    film, live = clocked.open(Opening(video=True), realtime=False), clocked.open(Opening(video=True))
    frame = np.zeros((80, 80, 3), np.uint8)
    for turn in range(3):
        for name in (film, live):
            answers(clocked, Append(name, turn, BINS, frame=frame))
        clocked.now.t += 0.15
        clocked.run()
    seen = {name: [kept for batch in clocked.now.batches for n, _, kept in batch if n == name] for name in (film, live)}
    assert seen[film] == [True] * 3 and seen[live] == [False] * 3 and clocked.stats.shed_frames == 3


def test_what_lay_unread_was_late(clocked):
    """A micro-turn that was sent before we stood still counts from when it was sent."""
    name = clocked.open()
    got = []
    clocked.submit(Append(name, 0, BINS), got.append, clocked.now() - 0.3)
    clocked.run()
    assert isinstance(got[0], Chosen) and clocked.stats.late == 1
    clocked.submit(Append(name, 1, BINS), got.append, clocked.now() + 9)  # no clock of ours: nothing comes early
    clocked.run()
    assert clocked.stats.late == 1


def test_on_time_with_nothing_in_it_is_not_healthy(clocked):
    watch = Watch()
    chosen = Chosen("a", 0, 0, 0, 0, (1.0, 0.0))
    assert watch.saw(chosen, 0) and not watch.problems()
    for i in range(STUCK_TURNS):
        watch.saw(chosen, i + 1)
    assert "same for different inputs" in watch.problems()[0]
    watch.gone("a")
    assert not watch.problems()
    assert not watch.saw(replace(chosen, odds=(float("nan"), 0.0)), 1)
    assert "not a number" in watch.problems()[0]
    watch.now = lambda: time.monotonic() + REMEMBER_S + 1
    assert not watch.problems() and watch.broken == 1


def test_a_broken_step_is_told_to_everybody_and_the_clock_goes_on(clocked, monkeypatch):
    name = clocked.open()
    whole = clocked.engine.step
    monkeypatch.setattr(clocked.engine, "step", lambda _: 1 / 0)
    got = answers(clocked, Append(name, 0, BINS))
    clocked.run()
    assert isinstance(got[0], EngineError) and "ZeroDivisionError" in str(got[0])
    monkeypatch.setattr(clocked.engine, "step", whole)
    got = answers(clocked, Append(name, 1, BINS))
    clocked.run()
    assert isinstance(got[0], Chosen)


def test_a_trace_says_where_the_time_went(clocked):
    traces = []
    clocked.trace = traces.append
    name = clocked.open()
    answers(clocked, Append(name, 0, BINS))
    clocked.now.t += 0.03
    clocked.run()
    (trace,) = traces
    assert trace["session"] == name and trace["batch"] == 1
    assert trace["began"] - trace["arrived"] == pytest.approx(0.03)
    assert trace["ended"] - trace["began"] == pytest.approx(0.01)


async def test_tasks_share_the_steps_of_one_thread(model):
    """Real threads and a real clock: sessions of one loop run in common batches, and errors find their asker."""
    engine = LocalEngine(Clocked(Engine(model, slots=3), floor=3))
    scripts = [Script(i, 12) for i in range(3)]
    expected = [play(Engine(model, slots=1), script) for script in scripts]
    names = [await engine.open(script.opening, realtime=True) for script in scripts]

    async def live(script, name):
        return {turn: await engine.append(script.append(turn, name)) for turn in script.ran}

    got = await asyncio.gather(*(live(s, n) for s, n in zip(scripts, names, strict=True)))
    for results, truth in zip(got, expected, strict=True):
        assert all(same(results[t], truth[t]) for t in truth)
    steps = await engine.call(lambda c: c.stats.steps)
    assert steps < sum(len(s.ran) for s in scripts)
    with pytest.raises(Overloaded):
        await engine.open()
    with pytest.raises(NoSession):
        await engine.append(Append("nobody", 0, BINS))
    data = await engine.snapshot(names[0], {"mine": 1})
    await engine.close(names[0])
    assert await engine.restore(data, realtime=False) == (names[0], {"mine": 1})
    began = time.monotonic()
    engine.stop()
    assert time.monotonic() - began < 1
