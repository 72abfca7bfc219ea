"""What several test files start with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway_house import upstream


@pytest.fixture(scope="module")
def up() -> Iterator[str]:
    """A scripted provider of the gateway's protocols; gives its address."""
    with upstream() as url:
        yield url
