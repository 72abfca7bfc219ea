"""The one source of truth: bounded, streamed, read back, and never the reason a conversation ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from interplay.core.timeline import Timeline, iter_timeline, read_timeline
from interplay.core.types import BadInput


def fill(timeline: Timeline, n: int) -> None:
    for turn in range(n):
        timeline.record("user", "heard", t=turn * 0.2, turn=turn, text=f"word {turn}")


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with Timeline(path) as timeline:
        timeline.record("agent", "said", t=0.5, turn=2, text="ça va 你好", score=np.float32(0.5))
        timeline.record("system", "closed", t=1, turn=5, reason='line\nbreak "quoted"')
        timeline.flush()
        assert len(read_timeline(path)) == 2  # already there while the session lives
    assert read_timeline(path) == timeline.records == list(iter_timeline(path))
    assert read_timeline(path)[0] == {
        "t": 0.5, "turn": 2, "lane": "agent", "kind": "said", "text": "ça va 你好", "score": 0.5
    }  # fmt: skip


def test_memory_is_bounded_and_the_file_is_whole(tmp_path: Path) -> None:
    with Timeline(tmp_path / "t.jsonl", memory=100) as timeline:
        for _ in range(50):
            fill(timeline, 20)
            timeline.flush()
            assert not timeline._unwritten
        assert len(timeline.records) == 100 and timeline.count == 1_000 and timeline.forgotten == 900
    assert len(read_timeline(tmp_path / "t.jsonl")) == 1_000


def test_an_unknown_lane_is_a_bug() -> None:
    with pytest.raises(ValueError, match="lane"):
        Timeline().record("usr", "heard", t=0, turn=0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"t": 0, "turn": 0, "lane": "user", "kind": "heard"}\nnonsense\n{}\n', "line 2 .*not JSON"),
        (b"[1]\n", "line 1 .*not a JSON object"),
        (b'{"t": "x", "turn": 0, "lane": "user", "kind": "heard"}\n', "`t`"),
        (b'{"t": 0, "turn": 0.5, "lane": "user", "kind": "heard"}\n', "`turn`"),
        (b'{"t": 0, "turn": 0, "lane": "usr", "kind": "heard"}\n', "unknown lane"),
        (b"no newline", "line 1"),
        (b"\xff\xfe\x00garbage\x80", "not text"),
    ],
)
def test_garbage_is_named_with_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says):
        read_timeline(path)


def test_a_killed_process_costs_its_last_line_only(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with Timeline(path) as timeline:
        fill(timeline, 3)
    path.write_bytes(path.read_bytes()[:-10])
    assert len(read_timeline(path)) == 2


def test_missing_and_unwritable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_timeline(tmp_path / "nothing")
    with pytest.raises(BadInput, match="directory"):
        read_timeline(tmp_path)
    with pytest.raises(BadInput, match="cannot write"):
        Timeline(tmp_path / "no" / "t.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_once_and_the_session_goes_on() -> None:
    timeline = Timeline("/dev/full")
    for _ in range(5):
        fill(timeline, 1)
        timeline.flush()
    timeline.close()
    errors = [r for r in timeline.records if r["kind"] == "error"]
    assert len(errors) == 1 and "memory only" in errors[0]["text"] and str(timeline.error) == errors[0]["text"]
    assert timeline.count == 6


async def test_subscribers_get_everything_in_order_and_end_with_the_timeline() -> None:
    timeline = Timeline()
    subscription = timeline.subscribe()

    async def read() -> list[int]:
        return [record["turn"] async for record in subscription]

    reader = asyncio.create_task(read())
    for _ in range(3):
        fill(timeline, 2)
        await asyncio.sleep(0)
    timeline.close()
    assert await asyncio.wait_for(reader, 1) == [0, 1] * 3 and subscription.dropped == 0


async def test_a_slow_subscriber_loses_the_oldest_and_knows_how_many() -> None:
    timeline = Timeline()
    slow, gone = timeline.subscribe(maxsize=3), timeline.subscribe(maxsize=3)
    timeline.unsubscribe(gone)
    fill(timeline, 10)
    assert slow.dropped == 7 and [r["turn"] for r in slow.drain()] == [7, 8, 9]
    assert gone.drain() == [] and slow.drain() == []
