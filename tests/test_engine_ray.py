"""A real local Ray cluster of two engine replicas; one is killed under sixteen live sessions."""

import asyncio
import os
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("interplay.engine.ray_local", reason="sets what Ray reads when it is imported")
pytest.importorskip("ray")

from ray import serve

from interplay.bench.engine_ray import survive
from interplay.engine.core import Engine, Opening
from interplay.engine.errors import Overloaded
from interplay.engine.ray_local import local_cluster
from interplay.engine.ray_serve import RayEngine, application
from interplay.model import checkpoint
from interplay.model.vocabulary import Vocabulary
from tests.test_engine_core import SMALL, WORDS, Script, build, play, same

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("INTERPLAY_TEST_RAY"), reason="a Ray cluster: set INTERPLAY_TEST_RAY=1"),
]
SESSIONS, TURNS = 16, 60


def weights(path, config=SMALL):
    checkpoint.save(path, build(config), Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    return path


def test_all_sessions_survive_the_death_of_their_replica(tmp_path):
    told = survive(weights(tmp_path / "tiny.safetensors"), SESSIONS, TURNS, seed=0)
    print("\n" + ", ".join(f"{name} {value:.2f}" for name, value in told.items()))
    assert told["replicas"] == 2 and told["on_the_killed"] == SESSIONS / 2  # least loaded, evenly
    assert told["moves"] >= SESSIONS / 2 and told["lost"] == 0
    assert told["intact"] == SESSIONS  # every micro-turn answered, to the bits of a session that nothing happened to


async def test_a_draining_replica_empties_itself(tmp_path):
    """It takes nobody in, and its sessions move, one with video as well; when all drain, that is said."""
    path = weights(tmp_path / "eyes.safetensors", replace(SMALL, glances=2))
    model, _, _ = checkpoint.load(path)
    scripts = [Script(0, 20), Script(1, 20, video=True)]
    truth = [play(Engine(model, slots=1, video_slots=1), script) for script in scripts]
    with local_cluster():
        serve.start(proxy_location="Disabled")
        app = application(str(path), 4, 2, {"ray_actor_options": {"num_cpus": 0.5}}, video_slots=2)
        engine = RayEngine(await asyncio.to_thread(serve.run, app, name="test"))
        try:
            names = [await engine.open(script.opening, realtime=False) for script in scripts]
            first = (await engine.whereabouts(names[1]))["pid"]
            for at in range(12):
                for name, script, expected in zip(names, scripts, truth, strict=True):
                    turn = script.ran[at]
                    assert same(await engine.append(script.append(turn, name)), expected[turn])
                if at == 4:
                    await engine._at(names[1]).drain.remote()
            assert engine.resumed >= 1 and (await engine.whereabouts(names[1]))["pid"] != first
            await engine._at(names[1]).drain.remote()
            for opening in (Opening(), Opening(video=True)):
                with pytest.raises(Overloaded):
                    await engine.open(opening)
        finally:
            await asyncio.to_thread(serve.shutdown)
