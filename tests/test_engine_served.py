"""What a server says about its engine, over a real socket: /health, /metrics, `overloaded`, where the time went."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("uvicorn")

import numpy as np  # noqa: E402
import uvicorn  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

from interplay.engine import selftest as selftests  # noqa: E402
from interplay.engine.errors import EngineError  # noqa: E402
from interplay.engine.selftest import Report  # noqa: E402
from interplay.foreground.native import NativeForeground  # noqa: E402
from interplay.model import checkpoint  # noqa: E402
from interplay.model.vocabulary import Vocabulary  # noqa: E402
from interplay.server import app as served  # noqa: E402
from interplay.server.admission import Seats  # noqa: E402
from interplay.server.house import House  # noqa: E402
from interplay.server.live import MAX_MESSAGE_BYTES, address, listen, warm  # noqa: E402
from interplay.session.trace import Trace  # noqa: E402
from interplay.voice.base import SilentVoice  # noqa: E402
from tests.test_engine_core import WORDS, build  # noqa: E402
from tests.test_engine_process import spare_of  # noqa: E402
from tests.test_server_live import Serving  # noqa: E402

VOCABULARY = Vocabulary([f"w{i}" for i in range(WORDS - 2)])
NOISE = np.random.default_rng(0)


def mind(model=None, **options):
    return NativeForeground(model or build(), VOCABULARY, {}, **options)


@contextlib.asynccontextmanager
async def serving(foreground, trace=None, seats=4):
    house = House(foreground, SilentVoice, Seats(seats), trace=trace)
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(served.create_app(house), log_config=None, lifespan="off", ws_max_size=MAX_MESSAGE_BYTES)
    running = uvicorn.Server(config)
    with contextlib.closing(listener):
        task = asyncio.create_task(running.serve(sockets=[listener]))
        yield Serving(house, address(listener))
        running.should_exit = True
        await task
    await foreground.shut_down()


async def told(server):
    answer = await server.get("/health")
    return answer.status, json.loads(answer.body)


async def figures(server):
    answer = await server.get("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    lines = (line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def speak(page, turns):
    """Live for so many micro-turns, noise all along; the messages that came back."""
    messages = []

    async def talk():
        while True:
            await page.send((NOISE.standard_normal(3200) * 3000).astype("<i2").tobytes())
            await asyncio.sleep(0.2)

    talking = asyncio.create_task(talk())
    seen = 0
    with contextlib.suppress(Exception):  # the server may close
        async with asyncio.timeout(60):
            while seen < turns:
                data = await page.recv()
                if isinstance(data, str):
                    messages.append(json.loads(data))
                    if messages[-1]["type"] == "turn":
                        seen += 1
                        await page.send(json.dumps({"type": "ack", "turn": messages[-1]["turn"]}))
    talking.cancel()
    return messages


async def test_a_live_session_is_seen_in_the_figures():
    async with serving(mind()) as server:
        status, health = await told(server)
        assert (status, health["status"]) == (200, "ok")
        assert health["engine"]["selftest"]["text"].startswith("bit for bit") and not health["engine"]["fixed_shape"]
        before = await figures(server)
        assert before["interplay_engine_sessions"] == before["interplay_engine_turns_total"] == 0
        assert before["interplay_engine_healthy"] == 1
        async with server.talk() as page:
            await speak(page, 5)
            during = await figures(server)
        assert during["interplay_engine_sessions"] == 1
        assert during["interplay_engine_free_slots"] == before["interplay_engine_free_slots"] - 1
        assert during["interplay_engine_turns_total"] >= 5
        assert during["interplay_engine_step_seconds_count"] >= 5
        counted = during['interplay_engine_step_seconds_bucket{le="+Inf"}']
        assert counted == during["interplay_engine_step_seconds_count"]
        assert 0 < during["interplay_engine_step_seconds_sum"] < 5


async def test_no_number_is_not_healthy():
    """Weights that are broken: on time, with nothing in it."""
    model = build()
    with torch.no_grad():
        model.decision.weight[0, 0] = float("nan")
    async with serving(mind(model)) as server:
        async with server.talk() as page:
            messages = await speak(page, 5)
        assert [m["code"] for m in messages if m["type"] == "error"] == ["failed"]
        status, health = await told(server)
        assert (status, health["status"]) == (503, "broken") and "not a number" in health["problems"][0]
        after = await figures(server)
        assert after["interplay_engine_broken_outputs_total"] >= 1 and after["interplay_engine_healthy"] == 0


async def test_the_same_whatever_comes_in_is_not_healthy(monkeypatch):
    monkeypatch.setattr("interplay.engine.watch.STUCK_TURNS", 3)
    foreground = mind()
    engine = foreground.engine.clocked.engine  # type: ignore[attr-defined]
    whole, first = engine.step, []

    def stuck(appends):
        results = whole(appends)
        first.extend(results[:1])
        return [replace(result, odds=first[0].odds) for result in results]

    monkeypatch.setattr(engine, "step", stuck)
    async with serving(foreground) as server, server.talk() as page:
        await speak(page, 8)
        status, health = await told(server)
        assert (status, health["status"]) == (503, "broken") and "same for different inputs" in health["problems"][0]


async def test_an_engine_that_hangs_is_broken(monkeypatch):
    monkeypatch.setattr(served, "VITALS_S", 0.3)
    foreground = mind()
    async with serving(foreground) as server:
        assert (await told(server))[0] == 200
        hanging = asyncio.create_task(foreground.engine.call(lambda _: time.sleep(2)))  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        status, health = await told(server)
        assert (status, health["status"]) == (503, "broken") and "does not answer" in health["problems"][0]
        assert (await server.get("/metrics")).status == 503
        await hanging
        assert (await told(server))[0] == 200


async def test_one_that_is_emptied_says_so():
    foreground = mind()
    async with serving(foreground) as server:
        foreground.engine.clocked.draining = True  # type: ignore[attr-defined]
        assert (await told(server))[0] == 503
        async with connect(server.socket_url) as page:
            await page.send(json.dumps({"type": "hello", "rate": 16_000}))
            messages = await speak(page, 1)
        assert [m["code"] for m in messages if m["type"] == "error"] == ["overloaded"]


async def test_refused_by_the_engine_is_said_with_its_name():
    """There is a seat, but no place in the engine: a typed error, a close code to try again, and nobody suffers."""
    async with serving(mind(slots=1)) as server, server.talk() as first:
        assert len([m for m in await speak(first, 3) if m["type"] == "turn"]) == 3
        async with connect(server.socket_url) as second:
            await second.send(json.dumps({"type": "hello", "rate": 16_000}))
            messages = await speak(second, 1)
            assert [m["code"] for m in messages if m["type"] == "error"] == ["overloaded"]
            await second.wait_closed()
            assert second.close_code == 1013
        assert len([m for m in await speak(first, 3) if m["type"] == "turn"]) == 3
        assert server.house.seats.taken == 1


async def test_figures_need_their_library_and_say_so(monkeypatch):
    async with serving(mind()) as server:
        for name in ("prometheus_client", "prometheus_client.core"):
            monkeypatch.setitem(sys.modules, name, None)
        answer = await server.get("/metrics")
        assert answer.status == 501 and b"pip install" in answer.body


async def test_a_machine_that_breaks_the_promise_gets_the_fixed_shape(monkeypatch, caplog):
    monkeypatch.setattr(selftests, "selftest", lambda model: Report(False, False, 0.1))
    async with serving(mind()) as server:
        _, health = await told(server)
        assert health["engine"]["fixed_shape"] and "one fixed shape" in health["engine"]["selftest"]["text"]
        assert "one fixed shape" in caplog.text
        async with server.talk() as page:
            assert len([m for m in await speak(page, 3) if m["type"] == "turn"]) == 3


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_trace_says_where_the_200_ms_went(tmp_path):
    trace = Trace(tmp_path / "trace.jsonl")
    foreground = mind()
    await trace.watch(foreground)
    async with serving(foreground, trace) as server, server.talk() as page:
        await speak(page, 5)
    trace.close()
    lines = read(tmp_path / "trace.jsonl")
    assert len(lines) >= 5 and [line["turn"] for line in lines] == sorted(line["turn"] for line in lines)
    for line in lines:
        stages = [value for name, value in line.items() if name.endswith("_ms") and name != "total_ms"]
        assert line["batch"] == 1 and line["step_ms"] > 0
        assert sum(stages) == pytest.approx(line["total_ms"], abs=0.1)  # nothing of it is left unexplained
    table = trace.table()
    assert "step" in table and f"{len(lines)} micro-turns" in table
    assert all(name in table for name in ("late", "read", "listen", "gather", "answer", "speak", "write"))


def test_a_mind_that_tells_no_times_is_one_stage(tmp_path):
    trace = Trace(tmp_path / "t.jsonl")
    trace.note("a", 3, 0.001, (1.0, 1.01, 1.02, 1.05, 1.06, 1.065), None)
    trace.note("a", 4, 0.3, (2.0, 2.0, 2.0, 2.0, 2.0, 2.0), None)
    trace.close()
    first, _ = read(tmp_path / "t.jsonl")
    assert first == {
        "session": "a", "turn": 3, "total_ms": 66.0, "late_ms": 1.0, "read_ms": 10.0, "listen_ms": 10.0,
        "think_ms": 30.0, "speak_ms": 10.0, "write_ms": 5.0,
    }  # fmt: skip
    assert "2 micro-turns, 1 over 200 ms" in trace.table() and "\n  gather" not in trace.table()
    assert Trace().table() == ""
    full = Trace(Path("/dev/full")) if Path("/dev/full").exists() else None
    if full is not None:
        for turn in range(200):
            full.note("a", turn, 0.0, (0.0,) * 6, None)
        full.close()
        assert "No space left" in str(full.error)


@pytest.mark.slow
def test_a_run_is_traced_from_the_command_line(tmp_path):
    sound = next((Path(__file__).parents[1] / "examples").glob("*.flac"))
    command = [sys.executable, "-m", "interplay.cli", "run", str(sound), "--trace", str(tmp_path / "t.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "where the 200 ms went" in done.stdout and "the model, for everybody in the batch" in done.stdout
    assert len(read(tmp_path / "t.jsonl")) > 20
    command[-1] = str(tmp_path / "no" / "such")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
async def test_the_compute_process_behind_a_page(tmp_path):
    """`interplay live --engine process`: it hangs and /health says so; it dies and the conversation goes on."""
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, build(), VOCABULARY)
    foreground = NativeForeground.load(path, process=True, slots=2)
    trace = Trace(tmp_path / "trace.jsonl")
    await warm(foreground)
    await trace.watch(foreground)
    folder = foreground.engine.folder  # type: ignore[attr-defined]
    async with serving(foreground, trace) as server:
        await spare_of(folder)
        status, health = await told(server)
        assert status == 200 and health["engine"]["selftest"]["exact"]
        async with server.talk() as page:
            before = [m["turn"] for m in await speak(page, 5) if m["type"] == "turn"]
            assert (await figures(server))["interplay_engine_sessions"] == 1
            os.kill(health["engine"]["pid"], signal.SIGSTOP)
            status, stalled = await told(server)
            assert status == 503 and "has not answered" in stalled["problems"][0]
            os.kill(health["engine"]["pid"], signal.SIGKILL)
            messages = await speak(page, 5)
            after = [m["turn"] for m in messages if m["type"] == "turn"]
            assert len(after) == 5 and after[0] > before[-1] and not [m for m in messages if m["type"] == "error"]
            status, health = await told(server)
            assert status == 200 and health["engine"]["restarts"] == 1 and health["engine"]["sessions"] == 1
    assert not folder.exists()
    assert all(line["batch"] == 1 and line["step_ms"] > 0 for line in read(tmp_path / "trace.jsonl"))
    with pytest.raises(EngineError):
        await foreground.health()
