"""Two processes: the engine's can be killed, the client's can be killed, and the conversation goes on with its bits."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="local sockets and file locks of a POSIX system")

from interplay.core.types import InterplayError  # noqa: E402
from interplay.engine import remote, wire  # noqa: E402
from interplay.engine.clocked import MAX_BEHIND  # noqa: E402
from interplay.engine.core import Chosen, Engine, Opening  # noqa: E402
from interplay.engine.errors import EngineError, Lagging, NoSession, OutOfOrder, Overloaded  # noqa: E402
from interplay.engine.keeper import Keeper  # noqa: E402
from interplay.engine.mapped import MappedEngine  # noqa: E402
from interplay.engine.process import LOCK, SOCKET  # noqa: E402
from interplay.engine.remote import RemoteEngine  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.vocabulary import Vocabulary  # noqa: E402
from tests.test_engine_core import SMALL, WORDS, Script, build, play, same  # noqa: E402

CLIENT = """
import asyncio, sys
from pathlib import Path
from interplay.engine.remote import RemoteEngine
from tests.test_engine_core import Script

async def main():
    engine = await RemoteEngine.connect(Path(sys.argv[1]))
    script = Script(3)
    await engine.open(script.opening, session=script.name)
    for turn in script.ran:
        await engine.append(script.append(turn))
        print(turn, flush=True)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, build(), Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    return path


def _waiting(folder):
    """Processes that have everything loaded and wait for the lock of `folder`."""
    inode = (folder / LOCK).stat().st_ino if (folder / LOCK).exists() else -1
    if not (locks := Path("/proc/locks")).exists():
        time.sleep(10)
        return [0]
    return [line for line in locks.read_text().splitlines() if "->" in line and f":{inode} " in line]


async def spare_of(folder):
    """Until a spare waits: one that is still loading would measure torch, not us."""
    until = time.monotonic() + 500
    while not _waiting(folder) and time.monotonic() < until:
        await asyncio.sleep(0.1)
    assert _waiting(folder)


async def live(engine, script, turns):
    results = {}
    for turn in turns:
        results[turn] = await engine.append(script.append(turn))
    return results


@pytest.mark.slow
async def test_either_process_may_be_killed(tmp_path, weights):
    model, _, _ = checkpoint.load(weights)
    scripts = [Script(i) for i in range(3)]
    truth = [play(Engine(model, slots=1), script) for script in scripts]
    engine = await RemoteEngine.connect(tmp_path / "engine", Keeper(tmp_path / "engine", checkpoint=weights, slots=4))
    try:
        await spare_of(tmp_path / "engine")
        for script in scripts:
            await engine.open(script.opening, session=script.name, realtime=False)
        got = await asyncio.gather(*(live(engine, s, s.ran[:20]) for s in scripts))
        first = (await engine.health())["pid"]
        running = asyncio.gather(*(live(engine, s, s.ran[20:]) for s in scripts))
        await asyncio.sleep(0.02)  # in the middle of it
        os.kill(first, signal.SIGKILL)
        killed = time.monotonic()
        await engine.health()
        print(f"\nthe spare answers {time.monotonic() - killed:.2f} s after the kill")
        for results, more in zip(got, await running, strict=True):
            results.update(more)
        assert (await engine.health())["pid"] != first and engine.restarts == 1
        for script, results, expected in zip(scripts, got, truth, strict=True):
            assert results.keys() == expected.keys()
            assert all(same(results[t], expected[t]) for t in expected), script.name
        again = await engine.append(scripts[0].append(scripts[0].ran[-1]))
        assert same(again, truth[0][scripts[0].ran[-1]])
        with pytest.raises(OutOfOrder):
            await engine.append(scripts[1].append(scripts[1].ran[-1], scripts[0].name))
        for script in scripts:
            await engine.close(script.name)
        with pytest.raises(NoSession):
            await engine.append(scripts[0].append(0))

        # Now the client: another process opens a session, is killed, and we take the session up.
        other = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(tmp_path / "engine")], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        acknowledged = [int(await asyncio.to_thread(other.stdout.readline)) for _ in range(5)]
        other.kill()
        other.wait()
        acknowledged += [int(line) for line in other.stdout.read().split()]
        script = Script(3)
        assert await engine.sessions() == [script.name]
        last = await engine.last(script.name)
        assert last >= acknowledged[-1]
        expected = play(Engine(model, slots=1), script)
        for turn in (t for t in script.ran if t > last):
            assert same(await engine.append(script.append(turn)), expected[turn])
        with pytest.raises(EngineError, match="at most 48 words"):
            await engine.open(Opening(prefix=(1,) * 60), realtime=False)
    finally:
        await engine.shut_down()
    assert engine.keeper is not None
    assert all(process.returncode is not None for process in engine.keeper.processes)


@pytest.mark.slow
async def test_one_that_hangs_is_ended_and_video_goes_on(tmp_path, monkeypatch):
    """A process that is stopped and not dead: /health says so, it is killed, and the spare goes on, pictures too."""
    monkeypatch.setattr(remote, "STALLED_BEATS", 3)
    monkeypatch.setattr(remote, "HEALTH_S", 0.5)
    path = tmp_path / "eyes.safetensors"
    checkpoint.save(path, build(replace(SMALL, glances=2)), Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    model, _, _ = checkpoint.load(path)
    scripts = [Script(1, 40, video=True), Script(2, 40)]
    truth = [play(Engine(model, slots=1, video_slots=1), script) for script in scripts]
    keeper = Keeper(tmp_path / "engine", checkpoint=path, slots=1, video_slots=1)
    engine = await RemoteEngine.connect(keeper.folder, keeper)
    try:
        await spare_of(tmp_path / "engine")
        for script in scripts:
            await engine.open(script.opening, session=script.name, realtime=False)
        with pytest.raises(Overloaded):
            await engine.open(Opening(video=True), realtime=False)
        got = await asyncio.gather(*(live(engine, s, s.ran[:20]) for s in scripts))
        health = await engine.health()
        assert health["selftest"]["invariant"] and not health["fixed_shape"]
        os.kill(health["pid"], signal.SIGSTOP)
        with pytest.raises(EngineError, match="has not answered"):
            await engine.health()
        with pytest.raises(EngineError, match="has not answered"):
            await engine.metrics()
        more = await asyncio.gather(*(live(engine, s, s.ran[20:]) for s in scripts))
        assert (await engine.health())["pid"] != health["pid"] and engine.restarts == 1
        for results, rest, expected in zip(got, more, truth, strict=True):
            assert all(same({**results, **rest}[t], expected[t]) for t in expected)
        assert b"interplay_engine_free_slots 0.0" in await engine.metrics()
    finally:
        await engine.shut_down()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A compute process without a spare, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("kept")
    path = folder / "tiny.safetensors"
    checkpoint.save(path, build(), Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    (folder / "engine").mkdir(mode=0o700)
    keeper = Keeper(folder / "engine", checkpoint=path, slots=4, floor=4, spare=False)
    yield keeper, checkpoint.load(path)[0]
    asyncio.run(keeper.stop())


@pytest.mark.slow
async def test_nonsense_and_half_messages_hurt_nobody(kept):
    keeper, model = kept
    script = Script(11, 40)
    expected = play(Engine(model, slots=1), script)
    engine = await RemoteEngine.connect(keeper.folder, keeper)
    await engine.open(script.opening, session=script.name, realtime=False)
    results = await live(engine, script, script.ran[:10])
    whole = wire.append_message(1, script.append(script.ran[10]))
    parts = (whole[:-100], whole[:6], b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", wire.pack({"op": "no"}))
    for number, part in enumerate(parts):
        _, writer = await asyncio.open_unix_connection(str(keeper.folder / SOCKET))
        writer.write(part)
        await writer.drain()
        writer.transport.abort() if number % 2 else writer.close()
    results |= await live(engine, script, script.ran[10:])
    assert all(same(results[t], expected[t]) for t in expected)
    await engine.close(script.name)
    assert (await engine.health())["free"] == 4 and engine.restarts == 0
    await engine.leave()


@pytest.mark.slow
async def test_a_stall_is_not_caught_up_and_refusal_has_a_name(kept):
    """Real time through a real stop of the process: what is too old is dropped, what is asked twice is opened once."""
    keeper, _ = kept
    engine = await RemoteEngine.connect(keeper.folder, keeper)
    script = Script(12, 40)
    for _ in range(2):  # the first answer was lost, so it is asked again
        assert await engine.open(script.opening, session=script.name) == script.name
    names = [script.name, *[await engine.open(realtime=False) for _ in range(3)]]
    with pytest.raises(Overloaded) as refused:
        await engine.open()
    assert refused.value.code == "overloaded"
    script.ran = list(range(40))
    first = await engine.append(script.append(0))
    assert first.turn == 0
    pid = (await engine.health())["pid"]
    os.kill(pid, signal.SIGSTOP)
    tasks = []
    for turn in range(1, 7):
        tasks.append(asyncio.create_task(engine.append(script.append(turn))))
        await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGCONT)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    ran = [answer.turn for answer in answers if isinstance(answer, Chosen)]
    assert ran == [6 - MAX_BEHIND + 1 + i for i in range(MAX_BEHIND)]
    assert sum(isinstance(answer, Lagging) for answer in answers) == 6 - MAX_BEHIND
    for name in names:
        await engine.close(name)
    assert (await engine.health())["free"] == 4
    await engine.leave()


def test_a_commit_that_was_cut_in_two_has_not_happened(tmp_path):
    """Died between the two last writes of a step: the micro-turn runs again, to the same bits."""
    model, script = build(), Script(7)
    truth = play(Engine(model, slots=1), script)
    first = MappedEngine(model, tmp_path, slots=3)
    assert (tmp_path / "sessions.mem").stat().st_mode & 0o777 == 0o600
    first.open(script.opening, script.name)
    for turn in script.ran[:31]:
        first.step([script.append(turn)])
    slot = first.seats[script.name].slot
    first.audio.state["last"][slot] = script.ran[29]  # as it was before the last write
    del first
    second = MappedEngine(model, tmp_path, slots=3)
    assert second.last(script.name) == script.ran[29] and second.free() == 2
    for turn in script.ran[30:]:
        assert same(second.step([script.append(turn)])[0], truth[turn])
    assert MappedEngine(model, tmp_path, slots=2).free() == 2  # another size: begun anew
    assert MappedEngine(build(seed=1), tmp_path, slots=2).free() == 2


def test_all_memory_is_there_from_the_start(tmp_path, monkeypatch):
    """A disk that is full says so in one line when the engine starts, not with a signal when a session needs it."""
    MappedEngine(build(), tmp_path, slots=8)
    file = (tmp_path / "sessions.mem").stat()
    assert file.st_blocks * 512 >= file.st_size > 0

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InterplayError, match="No space left on device; use fewer slots"):
        MappedEngine(build(), tmp_path, slots=9)
    assert not (tmp_path / "sessions.mem").exists()
