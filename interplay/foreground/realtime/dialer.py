"""Who is asked for a connection, in which order, and what is remembered about those that failed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interplay.core.types import InterplayError
from interplay.foreground.realtime.link import Link, LinkLost, Meter, Metering, Opening, Target

HEDGE_S = 0.5  # a connection that takes longer gets a rival
AVOIDED_S = 4.0  # ... and if the rival has just failed itself, later
AVOID_S = 10.0
CONNECT_S = 8.0
GIVE_UP_S = 20.0


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection that was made."""

    link: Link
    target: Target
    metering: Metering | None


class Dialer:
    """Makes connections to any of some targets, the first choice first."""

    def __init__(self, targets: Sequence[Target], meter: Meter | None) -> None:
        self._targets, self._meter = list(targets), meter
        self._avoid: dict[str, float] = {}
        self._dead: set[str] = set()
        self.connections = 0

    def failed(self, target: Target, *, final: bool) -> None:
        """A connection broke: the others come first for a while; a target that can never work is not tried again."""
        self._avoid[target.name] = time.monotonic() + AVOID_S
        if final:
            self._dead.add(target.name)

    async def connect(self, opening: Callable[[], Opening], *, patient: bool) -> Connected:
        """The first target that answers; slow ones get a rival after HEDGE_S.

        opening: what a connection is told, asked again for each. patient: go on for GIVE_UP_S rather than one round.
        Raises InterplayError if there is none.
        """
        deadline = time.monotonic() + GIVE_UP_S
        last: Exception | None = None
        delay = 0.1
        while True:
            alive = [target for target in self._targets if target.name not in self._dead]
            if not alive:
                break
            now = time.monotonic()
            # A target that has just failed is tried again only after the others.
            alive.sort(key=lambda target: self._avoid.get(target.name, 0.0) > now)
            won, last = await self._race(alive, opening, last)
            if won is not None:
                self.connections += 1
                return won
            if not patient or time.monotonic() + delay > deadline:
                break
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)
        why = f": {last}" if last is not None else ""
        names = ", ".join(target.name for target in self._targets)
        raise InterplayError(f"no connection to {names}{why}")

    async def _race(
        self, targets: Sequence[Target], opening: Callable[[], Opening], last: Exception | None
    ) -> tuple[Connected | None, Exception | None]:
        running: dict[asyncio.Task[Connected], Target] = {}
        waiting = list(targets)
        try:
            while waiting or running:
                if waiting:
                    target = waiting.pop(0)
                    running[asyncio.create_task(self._open(target, opening))] = target
                done, _ = await asyncio.wait(
                    running, timeout=self._patience(waiting), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    target = running.pop(task)
                    error = task.exception()
                    if error is None:
                        return task.result(), last
                    if not isinstance(error, LinkLost):
                        raise error  # policy: another target would be refused as well; or a bug
                    last = error
                    self.failed(target, final=error.final)
            return None, last
        finally:
            for task in running:
                task.cancel()
            for task in running:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    late = await task
                    await late.link.close()  # it won after all, and too late
                    if late.metering is not None:
                        await late.metering.end("another connection was quicker")

    def _patience(self, waiting: Sequence[Target]) -> float | None:
        """Seconds until the next target in line may try as well: one that has just failed comes late."""
        if not waiting:
            return None
        return AVOIDED_S if self._avoid.get(waiting[0].name, 0.0) > time.monotonic() else HEDGE_S

    async def _open(self, target: Target, opening: Callable[[], Opening]) -> Connected:
        metering = await self._meter.begin(target) if self._meter is not None else None
        try:
            async with asyncio.timeout(CONNECT_S):
                link = await target.connect(opening())
        except BaseException as error:
            if metering is not None:
                await metering.end(str(error) or type(error).__name__)
            if isinstance(error, TimeoutError):
                raise LinkLost(f"{target.name} did not answer within {CONNECT_S:.0f} s") from None
            raise
        return Connected(link, target, metering)
