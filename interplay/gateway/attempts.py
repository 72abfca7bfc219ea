"""Who is asked next, and when to give up: rounds over the targets of a route, inside a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from interplay.gateway.call import Call
from interplay.gateway.config import Target
from interplay.gateway.contract import CHECK_S, Denied, Grant, Usage
from interplay.gateway.faults import Failed, Fault
from interplay.gateway.routes import Board, fits
from interplay.gateway.wires.base import Piece

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0


class Attempts:
    """The attempts of one call. `await next()` until it works or raises; tell it every `fault`.

    A round asks each target once, best first. Between rounds there is a pause with full jitter, or as long as the
    provider asked for, if that is inside the deadline. Raises Denied or Failed when nobody can be asked at all.
    """

    def __init__(self, call: Call, board: Board, grant: Grant) -> None:
        self._call, self._board = call, board
        self._route = call.route
        self._usage = Usage(input_tokens=call.input_tokens, output_tokens=call.max_output_tokens or 500)
        self._tried: set[str] = set()
        self._out: set[str] = set()
        self._round = 0
        self._context = 0  # prompts that do not fit into this many tokens were seen not to fit
        self.faults: list[tuple[str, Fault]] = []
        times = call.route.times
        self.deadline = board.clock() + (times.deadline if call.stream else times.total)
        self._targets = self._allowed(grant)

    def _allowed(self, grant: Grant) -> list[Target]:
        denied: Denied | None = None
        allowed = []
        for target in self._route.targets:
            if why := fits(target, self._route.filter, self._call.inputs, self._call.input_tokens):
                kind = "context" if "context" in why else "modality"
                self.faults.append((target.id, Fault(kind, why)))
            elif no := grant.forbids(target.provider, target.model, target.region):
                denied = no
            else:
                allowed.append(target)
        if not allowed and denied is not None:
            raise denied
        if not allowed:
            raise self.failed()
        return allowed

    def left_s(self) -> float:
        return self.deadline - self._board.clock()

    def resume(self) -> None:
        """An answer broke off after it had begun: who goes on gets a deadline and rounds of its own."""
        self.deadline = self._board.clock() + self._route.times.deadline
        self._round = 0
        self._tried.clear()
        if self.faults:
            self._tried.add(self.faults[-1][0])

    async def next(self) -> Target:
        """The next target to ask. Raises Failed when no attempt is left."""
        while True:
            if self.faults and not self.faults[-1][1].then.next:
                raise self.failed()
            if self.left_s() <= 0:
                raise self.failed()
            for target in self._board.order(self._route, self._targets, session=self._call.session, usage=self._usage):
                if target.id in self._out or target.id in self._tried or self._too_small(target):
                    continue
                self._tried.add(target.id)
                return target
            await self._pause()

    def fault(self, target: Target, fault: Fault) -> None:
        self.faults.append((target.id, fault))
        if not fault.then.again:
            self._out.add(target.id)
        if fault.kind == "context":
            self._context = max(self._context, target.context)

    def failed(self) -> Failed:
        route = self._route
        what = f"route {route.name!r} failed" if len(route.targets) > 1 else "the call failed"
        waits = [fault.retry_after_s for _, fault in self.faults if fault.retry_after_s is not None]
        return Failed(what, self.faults or [(route.name, Fault("timeout", "deadline"))],
                      retry_after_s=min(waits, default=None))  # fmt: skip

    def _too_small(self, target: Target) -> bool:
        return bool(self._context and target.context and target.context <= self._context)

    async def _pause(self) -> None:
        """Wait for the next round. Raises Failed if there is none."""
        again = [t for t in self._targets if t.id not in self._out and not self._too_small(t)]
        self._round += 1
        if not again or self._round > self._route.retries:
            raise self.failed()
        pause = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._round))
        names = {target.id for target in again}
        last = {name: fault.retry_after_s or 0.0 for name, fault in self.faults if name in names}
        if last:
            pause = max(pause, min(last.values()))
        if pause >= self.left_s():
            raise self.failed()
        await asyncio.sleep(pause)
        self._tried.clear()


async def watched(pieces: AsyncGenerator[list[Piece], None], grant: Grant) -> AsyncGenerator[list[Piece], None]:
    """The same pieces, for routes that wait longer for one than policy may be left unasked. Raises Denied."""
    coming: asyncio.Future[list[Piece] | None] | None = None
    async with aclosing(pieces):
        try:
            while True:
                coming = asyncio.ensure_future(anext(pieces, None))
                while not (await asyncio.wait((coming,), timeout=CHECK_S))[0]:
                    await grant.check()
                if (batch := coming.result()) is None:
                    return
                yield batch
        finally:
            if coming is not None and not coming.done():
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await coming
