"""`interplay bench engine`, each row by itself and tiny: that it measures, and that what it finds is found."""

import json
import math
import os
from dataclasses import replace

import pytest

pytest.importorskip("torch")

from interplay.bench import engine as bench
from interplay.bench.task import Setup
from interplay.core.types import BadInput
from interplay.engine.core import Engine
from interplay.model import checkpoint
from interplay.model.vocabulary import Vocabulary
from tests.test_engine_core import WORDS, build


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, build(), Vocabulary([f"w{i}" for i in range(WORDS - 2)]))
    return lambda **options: Setup(checkpoint=path, options={name: str(value) for name, value in options.items()})


def test_rows_of_compute_and_their_picture(tiny, tmp_path, capsys):
    plot = tmp_path / "plot.png"
    result = bench.run(tiny(rows="batch,flat,reprefill", repeats=3, age_minutes=2, flat_batch=1, age_s=30, plot=plot))
    figures = result.metrics
    assert figures["batch_gain"] > 0 and 0.2 < figures["flatness"] < 5 and figures["reprefill_ratio"] > 0
    assert [row["age_s"] for row in result.notes["ages"]] == [10, 30] and len(result.notes["by_minute"]) == 2
    assert [entry["row"] for entry in result.notes["table"]] == ["batch", "flat", "reprefill"]
    assert plot.read_bytes().startswith(b"\x89PNG") and "reached" in capsys.readouterr().out
    json.dumps(result.notes)


@pytest.mark.slow
def test_equality_is_counted_and_a_difference_is_found(tiny, monkeypatch):
    setup = tiny(rows="bits", bits_turns=50, bits_sessions=3)
    told = bench.run(setup).metrics
    assert told["bits_different"] == 0
    assert all(told[f"bits_{case}_compared"] >= 20 for case in ("crowd", "prefill", "process", "training"))
    whole = Engine.step

    def worse(engine, appends):
        results = whole(engine, appends)
        return results if len(results) < 2 else [replace(r, odds=(r.odds[0] + 1e-7, *r.odds[1:])) for r in results]

    monkeypatch.setattr(Engine, "step", worse)
    assert bench.run(setup).metrics["bits_crowd_different"] > 0


@pytest.mark.slow
def test_what_the_faults_break_is_nothing(tiny):
    told = bench.run(tiny(rows="faults", opens=60)).metrics
    assert told["faults_broke"] == 0, {name: told[name] for name in bench.BROKE}
    assert told["fault_churn_opens"] == 60 and told["fault_neighbour_turns"] > 30


@pytest.mark.slow
def test_a_soak_counts_and_has_the_machine_beside_it(tiny):
    result = bench.run(tiny(rows="soak", sessions=3, minutes=0.1))
    told = result.metrics
    assert told["soak_sessions"] + told["soak_refused"] >= 3 and told["soak_due"] >= 25 * told["soak_sessions"]
    assert 0 <= told["soak_miss_rate"] <= 1 and 0 <= told["soak_noop_miss_rate"] <= 1
    assert told["soak_noop_late_max_ms"] >= told["soak_noop_late_p99_ms"] >= 0
    assert math.isnan(told["sessions_at_0p1"]) == (told["soak_miss_rate"] > 0.001)
    (entry,) = result.notes["table"]
    assert "only sleeps" in entry["beside"] and entry["reached"] is (told["sessions_at_0p1"] >= 32)


@pytest.mark.slow
def test_the_search_stops_where_it_no_longer_holds(tiny):
    told = bench.run(tiny(rows="search", search_minutes=0.05, search_most=2, search_by=1))
    assert told.metrics["search_sessions"] <= 2 and 1 <= len(told.notes["search"]) <= 2


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("INTERPLAY_TEST_RAY"), reason="a Ray cluster: set INTERPLAY_TEST_RAY=1")
def test_the_row_of_replicas(tiny):
    told = bench.run(tiny(rows="ray", ray_sessions=4, ray_seconds=6)).metrics
    assert told["ray_broken"] == 0 and told["ray_replicas"] == 2


def test_a_row_that_is_not_there(tiny):
    with pytest.raises(BadInput, match="no row 'soke'"):
        bench.run(tiny(rows="soke"))
    with pytest.raises(BadInput, match="at least 2"):
        bench.run(tiny(rows="flat", age_minutes=1))
