"""The bench tasks for the eyes: whoever says the due words gets full marks, whoever is silent or early does not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("espeakng_loader")

from interplay.bench import video
from interplay.bench.runner import Run
from interplay.bench.task import Setup
from interplay.bench.video_items import WAYS, item, video_items
from interplay.core.types import BadInput, MicroTurnIn, MicroTurnOut, out_time
from interplay.foreground.base import Capabilities, ForegroundSpec


def ideal(film) -> Run:
    return Run((), tuple((word, out_time(turn)) for turn, word in film.picture.said))


@dataclass
class Oracle:
    """Says what is due: it knows the films by their first picture. seen: prefixes it was given."""

    films: dict[bytes, dict[int, str]]
    late: int = 0
    seen: list[tuple[str, ...]] = field(default_factory=list)
    name: str = "oracle"
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(speaks=True, sees=True))

    async def open(self, spec: ForegroundSpec) -> Oracle:
        self.seen.append(tuple(spec.options["prefix"]))
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        assert turn.frame is not None and turn.frame.shape[2] == 3
        if turn.turn == 0:
            self.script = self.films.get(turn.frame.tobytes(), {})
        return MicroTurnOut(turn.turn, np.zeros(4800, np.float32), "", self.script.get(turn.turn - self.late, ""))

    async def close(self) -> None:
        return None


def test_requests_are_worded_as_in_training_or_as_never_there():
    known, new = ({film.picture.ask.words for film in video_items("count", 8, 0, known_words=k) if film.picture.ask}
                  for k in (True, False))  # fmt: skip
    assert not known & new and all(words[:3] == ("keep", "count", "of") or "each" in words for words in new)


def oracle(program: str, n: int, late: int = 0, *, silent: bool = False) -> Setup:
    films = list(video_items(program, n, 0, known_words=True, positive=lambda p: len(p.times) > 0))
    known = {} if silent else {f.picture.frames[0].tobytes(): dict(f.picture.said) for f in films}
    setup = Setup(n=n, voices="held-out")
    setup.__dict__["mind"] = Oracle(known, late)
    return setup


@pytest.mark.parametrize("program", ["count", "startstop", "things"])
def test_items_repeat_and_ask_in_every_way(program: str):
    films = [item(program, way, f"t/{i}") for i, way in enumerate(WAYS)]
    again = item(program, WAYS[2], "t/2")
    # espeak-ng carries a little state from one sentence to the next: the sound is not the same to the sample.
    assert np.array_equal(again.picture.frames, films[2].picture.frames) and len(again.audio) == len(films[2].audio)
    assert again.picture.said == films[2].picture.said
    assert films[0].prefix and films[1].prefix and not films[2].prefix
    assert np.abs(films[2].audio).max() > 2 * np.abs(films[0].audio).max()  # somebody speaks


def test_counting_is_judged_by_the_last_number():
    film = item("count", "prefix", "count/judge", positive=lambda p: len(p.times) > 4)
    perfect = ideal(film)
    row = video.count_row(film, perfect)
    assert row["exact"] and row["within_one"] and row["recall"] == 1 and row["relative_error"] == 0
    true = row["true"]
    one_less = video.count_row(film, Run((), (*perfect.said[:-1], ("nonsense", 1.0))))
    assert one_less["said"] in (0, true - 1)  # the number before may have been said before the last but one was over
    assert video.count_row(film, Run((), ()))["relative_error"] == pytest.approx(true / (true + 0.1))
    assert not video.count_row(film, Run((), perfect.said[:2]))["within_one"]


def test_intervals_overlap():
    assert video.overlap([(1, 3)], [(1, 3)]) == 1
    assert video.overlap([(1, 3)], [(2, 4)]) == pytest.approx(1 / 3)
    assert video.overlap([(0, 1), (2, 3)], [(0, 3)]) == pytest.approx(2 / 3)
    assert video.overlap([(0, 1)], []) == 0


def test_start_without_stop_lasts_to_the_end():
    film = item("startstop", "prefix", "startstop/judge", positive=lambda p: len(p.times) == 2)
    assert video.overlap_row(film, ideal(film))["tiou"] > 0.6
    begun = video.overlap_row(film, Run((), ideal(film).said[:1]))
    assert 0 < begun["tiou"] < 1 and begun["called"] == 1


def test_whoever_says_what_is_due_gets_full_marks():
    setup = oracle("count", 3)
    metrics = video.repcount(setup).metrics
    assert metrics["obo"] == metrics["exact_rate"] == metrics["word_recall"] == metrics["silent_rate"] == 1
    assert metrics["mae"] == 0
    assert setup.mind.seen[0] and setup.mind.seen[2] == ()  # type: ignore[attr-defined]


def test_whoever_is_silent_or_three_seconds_late_does_not():
    metrics = video.repcount(oracle("count", 2, silent=True)).metrics
    assert metrics["word_recall"] == 0 and metrics["silent_rate"] == 1
    late = video.sightings(oracle("things", 2, late=15)).metrics
    assert late["accuracy"] == 0
    assert video.sightings(oracle("things", 2)).metrics["accuracy"] == 1
    assert video.startstop(oracle("startstop", 2)).metrics["tiou"] > 0.6


def test_a_mind_without_eyes_is_not_asked():
    setup = oracle("count", 1)
    setup.mind.capabilities = Capabilities(speaks=True)  # type: ignore[misc]
    with pytest.raises(BadInput, match="no eyes"):
        video.step_video(setup)


def test_a_micro_turn_with_video_is_timed():
    result = video.step_video(oracle("count", 1))
    assert result.n == 300 and 0 < result.metrics["p50_ms"] <= result.metrics["p99_ms"]
