"""Who may connect, from where, how many, how fast."""

from __future__ import annotations

import pytest

from interplay.server.admission import Allowance, Seats, host_allowed, origin_allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8765", True),
        ("localhost", True),
        ("agent.localhost:8765", True),
        ("127.0.0.1:8765", True),
        ("[::1]:8765", True),
        ("192.168.1.20:8765", True),
        ("studio.example:8765", True),
        ("evil.example:8765", False),
        ("localhost.evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_a_foreign_name_that_points_here_is_refused(host: str, allowed: bool):
    assert host_allowed(host, frozenset({"studio.example"})) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:8765", "localhost:8765", True),
        ("https://localhost:8765", "localhost:8765", True),
        (None, "localhost:8765", True),
        ("http://localhost:9999", "localhost:8765", False),
        ("http://127.0.0.1:8765", "localhost:8765", False),
        ("https://evil.example", "localhost:8765", False),
        ("null", "localhost:8765", False),
        ("file://", "localhost:8765", False),
    ],
)
def test_only_the_page_of_this_server_may_open_the_socket(origin: str | None, host: str, allowed: bool):
    assert origin_allowed(origin, host) is allowed


def test_seats_are_bounded_and_come_back():
    seats = Seats(2)
    assert [seats.take(), seats.take(), seats.take()] == [True, True, False]
    seats.leave()
    assert seats.take()


def test_allowance_gives_bursts_back_with_time():
    now = 0.0
    allowance = Allowance(10.0, 20.0, clock=lambda: now)
    assert allowance.spend(20.0)
    assert not allowance.spend(1.0)
    now = 0.5
    assert allowance.spend(5.0)
    assert not allowance.spend(1.0)
    now = 1000.0
    assert not allowance.spend(21.0)
    assert allowance.spend(20.0)
