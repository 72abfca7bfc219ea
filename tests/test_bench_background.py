"""`interplay bench background`, tiny: what is said to be in flight is, and it ends when the person says so."""

import pytest

pytest.importorskip("pydantic_ai")

from interplay.bench import background
from interplay.bench.task import Setup


@pytest.mark.slow
def test_delegations_stay_in_flight_until_they_are_withdrawn():
    figures = background.run(Setup(foreground="silent", n=2, options={"sessions": "0"})).metrics
    assert [figures[f"in_flight_{level}"] for level in background.LEVELS] == [0, 4, 16]
    assert figures["withdraw_s"] >= 0 and figures["result_to_word_s"] > 0
    assert all(figures[f"turn_p99_ms_{level}"] > 0 for level in background.LEVELS)
