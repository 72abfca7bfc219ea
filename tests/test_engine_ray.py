"""A real local Ray cluster of two engine replicas; one is killed under sixteen live sessions."""

import asyncio
import os
import signal
import time

import pytest

pytest.importorskip("torch")
ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")

from interplay.engine.core import Engine  # noqa: E402
from interplay.engine.errors import Overloaded  # noqa: E402
from interplay.engine.ray_serve import RayEngine, application  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.vocabulary import Vocabulary  # noqa: E402
from tests.test_engine_core import WORDS, Script, build, play, same  # noqa: E402

SESSIONS, TURNS, KILL_AT = 16, 30, 12


@pytest.fixture
def cluster():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    serve.shutdown()
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("INTERPLAY_TEST_RAY"), reason="starts a Ray cluster: set INTERPLAY_TEST_RAY=1")
async def test_all_sessions_survive_the_death_of_their_replica(tmp_path, cluster):
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, build(), Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    model, _, _ = checkpoint.load(path)
    scripts = [Script(i, TURNS) for i in range(SESSIONS)]
    truth = [play(Engine(model, slots=1), script) for script in scripts]
    serve.start(proxy_location="Disabled")
    small = {"ray_actor_options": {"num_cpus": 0.5}}
    handle = await asyncio.to_thread(serve.run, application(str(path), SESSIONS, 2, small), name="test")
    engine = RayEngine(handle)
    names = [await engine.open(script.opening, realtime=False) for script in scripts]
    where = [await engine._at(name).health.remote() for name in names]
    placed = {health["pid"]: health["sessions"] for health in where}
    assert len(placed) == 2 and set(placed.values()) == {SESSIONS // 2}  # least loaded, evenly
    victim = where[0]["pid"]
    gaps = []

    async def live(script, name):
        results, before = {}, time.monotonic()
        for turn in script.ran:
            results[turn] = await engine.append(script.append(turn, name))
            gaps.append(time.monotonic() - before)
            before = time.monotonic()
            if turn == KILL_AT and name == names[0]:
                os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(0.2)
        return results

    lives = await asyncio.gather(*(live(s, n) for s, n in zip(scripts, names, strict=True)))
    for script, results, expected in zip(scripts, lives, truth, strict=True):
        assert results.keys() == expected.keys()
        assert all(same(results[t], expected[t]) for t in expected), script.name  # the conversation is intact
    assert engine.resumed >= SESSIONS // 2
    gaps.sort()
    print(f"\n{engine.resumed} resumed; micro-turn p50 {gaps[len(gaps) // 2]:.3f} s, longest {gaps[-1]:.3f} s")
    for name in names:
        await engine.close(name)

    # A replica that drains takes nobody in, and its sessions move.
    name = await engine.open(scripts[0].opening, realtime=False)
    first, resumed = (await engine._at(name).health.remote())["pid"], engine.resumed
    await engine._at(name).drain.remote()
    for turn in scripts[0].ran[:8]:
        assert same(await engine.append(scripts[0].append(turn, name)), truth[0][turn])
    assert engine.resumed > resumed and (await engine._at(name).health.remote())["pid"] != first
    await engine._at(name).drain.remote()
    with pytest.raises(Overloaded):
        await engine.open()
