"""Two processes: the engine's can be killed, the client's can be killed, and the conversation goes on with its bits."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="local sockets and file locks of a POSIX system")

from interplay.engine.core import Engine, Opening  # noqa: E402
from interplay.engine.errors import EngineError, NoSession, OutOfOrder  # noqa: E402
from interplay.engine.remote import RemoteEngine  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.vocabulary import Vocabulary  # noqa: E402
from tests.test_engine_core import WORDS, Script, build, play, same  # noqa: E402

CLIENT = """
import asyncio, sys
from pathlib import Path
from interplay.engine.remote import RemoteEngine
from tests.test_engine_core import Script

async def main():
    engine = await RemoteEngine.connect(Path(sys.argv[1]), start=False)
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
    engine = await RemoteEngine.connect(tmp_path / "engine", checkpoint=weights, slots=4)
    try:
        for script in scripts:
            await engine.open(script.opening, session=script.name, realtime=False)
        got = await asyncio.gather(*(live(engine, s, s.ran[:20]) for s in scripts))
        await asyncio.sleep(0)
        spare_ready = time.monotonic() + 120  # a spare that is still loading would measure torch, not us
        while len(engine.processes) < 2 and time.monotonic() < spare_ready:
            await asyncio.sleep(0.1)
        first = (await engine.health())["pid"]
        running = asyncio.gather(*(live(engine, s, s.ran[20:]) for s in scripts))
        await asyncio.sleep(0.02)  # in the middle of it
        os.kill(first, signal.SIGKILL)
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
    assert all(process.returncode is not None for process in engine.processes)
