"""Many items side by side: one thread each, so that the engine runs their micro-turns as one batch.

What an item's session puts out does not depend on who else is in the batch (docs/engine.md), so the figures are those
of one after the other; it only takes a fraction of the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from interplay.bench.runner import Player

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(items: Iterable[T], play: Callable[[T, Player], R], players: list[Player]) -> Iterator[R]:
    """`play(item, player)` of every item, in order. Items are made here, in the caller's thread, a few ahead."""
    free: SimpleQueue[Player] = SimpleQueue()
    for each in players:
        free.put(each)

    def one(item: T) -> R:
        player = free.get()
        try:
            return play(item, player)
        finally:
            free.put(player)

    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(len(players), thread_name_prefix="item") as pool:
        try:
            for item in items:
                running.append(pool.submit(one, item))
                if len(running) >= 2 * len(players):
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
