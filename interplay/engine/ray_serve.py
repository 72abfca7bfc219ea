"""Beyond one machine: engine replicas under Ray Serve (extra `ray`).

Serve keeps the replicas alive and carries the calls. What a live session needs and Serve has not is ours: a replica
publishes its free places, a new session goes where most are free and then always to the same replica, a full or
draining one says so at once, and a session whose replica is gone is opened elsewhere from its last snapshot, with the
few micro-turns since then lived through again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from interplay.engine.clocked import Clocked
from interplay.engine.core import Append, Chosen, Opening
from interplay.engine.errors import EngineError, EngineGone, NoSession
from interplay.engine.local import LocalEngine
from interplay.engine.selftest import assemble

SNAPSHOT_TURNS = 50  # 10 s between two snapshots of a session
VIDEO = "video-"  # how the names of sessions with video begin: the router sees nothing else of a session
NUMBERS = (("slots", 16), ("replicas", 2), ("video_slots", 0))  # arguments of `build`
STICKY = 100_000  # sessions whose replica a router remembers
CALLS = 10_000  # at a time per replica: capacity is decided by the engine, not by the number of calls
CALL_S = 2.0  # a micro-turn that has not come back by then is asked for again
STUCK_S = 8.0  # ... and its replica is given up after so long; one that died is told apart at once
RESUME_S = 30.0
RETRY_S = 0.05


class PlaceRouter(RequestRouter):
    """Least loaded for a session's first call, the same replica for all later ones.

    Routers of different processes do not know of each other: a session is only ever called by the one that opened it,
    or opened anew by another, and a replica that does not have it says so.
    """

    def initialize_state(self, **_: Any) -> None:
        self._sticky: OrderedDict[str, str] = OrderedDict()
        self._placed: dict[str, list[float]] = {}  # replica -> when we placed sessions there, newer than its figures

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        session = pending_request.metadata.session_id if pending_request is not None else ""
        by_name = {str(replica.replica_id): replica for replica in candidate_replicas}
        known = self._sticky.get(session) if session else None
        if known in by_name:
            return [[by_name[known]]]
        best = max(by_name, key=self._room(by_name, "free_video" if session.startswith(VIDEO) else "free"))
        if session:
            self._sticky[session] = best
            self._placed.setdefault(best, []).append(time.monotonic())
            while len(self._sticky) > STICKY:
                self._sticky.popitem(last=False)
        return [[by_name[best]]]

    def _room(self, replicas: dict[str, RunningReplica], kind: str) -> Any:
        """Free places as published, less what we have placed there since."""
        recent = time.monotonic() - STATS_S - 1
        for name in [*self._placed]:
            self._placed[name] = [at for at in self._placed[name] if at > recent]

        def room(name: str) -> float:
            return float(replicas[name].routing_stats.get(kind, 0)) - len(self._placed.get(name, ()))

        return room


STATS_S = 1.0


class Replica:
    """One engine in a process of its own. Calls answer with a result or with an EngineError as a value."""

    def __init__(self, checkpoint: str | None, slots: int, video_slots: int = 0) -> None:
        import torch

        from interplay.model import checkpoint as checkpoints

        torch.set_num_threads(1)
        model, _, _ = checkpoints.load(Path(checkpoint) if checkpoint else checkpoints.default_checkpoint())
        video_slots = video_slots if model.config.glances else 0
        self.engine = LocalEngine(assemble(model, slots=slots, video_slots=video_slots))

    async def append(self, append: Append) -> tuple[Chosen | EngineError, bool]:
        """The result, and whether the session should move elsewhere."""
        try:
            result: Chosen | EngineError = await self.engine.append(append)
        except EngineError as error:
            result = error
        return result, self.engine.clocked.draining

    async def open(self, session: str, opening: Opening, realtime: bool) -> EngineError | None:
        try:
            await self.engine.call(lambda c: c.open(opening, session, realtime=realtime))
        except EngineError as error:
            return error
        return None

    async def resume(
        self, session: str, opening: Opening, snapshot: bytes | None, past: list[tuple[Append, Chosen]], realtime: bool
    ) -> EngineError | None:
        """Open the session as it was: from its snapshot, or from nothing, through what came after."""

        def do(clocked: Clocked) -> None:
            with suppress(NoSession):  # a life of it that we do not know to have ended
                clocked.close(session)
            if snapshot is None:
                clocked.open(opening, session, realtime=realtime, admitted=True)
            else:
                clocked.restore(snapshot, session, realtime=realtime, admitted=True)
            clocked.engine.replay(session, past)

        try:
            await self.engine.call(do)
        except EngineError as error:
            return error
        return None

    async def snapshot(self, session: str) -> tuple[bytes, int] | EngineError:
        """The snapshot, and the last micro-turn in it."""
        try:
            return await self.engine.call(lambda c: (c.engine.snapshot(session), c.engine.last(session)))
        except EngineError as error:
            return error

    async def close(self, session: str) -> None:
        with suppress(EngineError):
            await self.engine.close(session)

    async def drain(self) -> None:
        """No new sessions; those that are here move away with their next micro-turn."""
        self.engine.clocked.draining = True

    async def health(self) -> dict[str, Any]:
        return {**await self.engine.health(), "pid": os.getpid()}

    def record_routing_stats(self) -> dict[str, Any]:
        """What the router sees of us."""
        clocked = self.engine.clocked
        engine = clocked.engine
        video = len(engine.video.free) if engine.video is not None else 0
        return {"free": 0, "free_video": 0} if clocked.draining else {"free": engine.free(), "free_video": video}

    def check_health(self) -> None:
        """Serve replaces a replica whose outputs have no content."""
        problems = self.engine.clocked.watch.problems()
        if problems:
            raise RuntimeError("; ".join(problems))


def application(
    checkpoint: str | None = None,
    slots: int = 16,
    replicas: int = 2,
    options: dict[str, Any] | None = None,
    video_slots: int = 0,
) -> serve.Application:
    """The Serve application; also named in deploy/ray.yaml. options: further ones of the deployment. slots,
    video_slots: of each replica; a model without eyes gets none of the latter."""
    routing: dict[str, Any] = {"request_router_class": PlaceRouter, "request_routing_stats_period_s": STATS_S}
    router = RequestRouterConfig(**routing)
    settings: dict[str, Any] = {
        "name": "engine",
        "num_replicas": replicas,
        "max_ongoing_requests": CALLS,
        "request_router_config": router,
        "health_check_period_s": 2,
        "ray_actor_options": {"num_cpus": 1, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}},
        **(options or {}),
    }
    return serve.deployment(Replica).options(**settings).bind(checkpoint, slots, video_slots)


def build(arguments: dict[str, str]) -> serve.Application:
    """For `serve run interplay.engine.ray_serve:build checkpoint=... slots=16 replicas=2` and config files."""
    slots, replicas, video_slots = (int(arguments.get(name, default)) for name, default in NUMBERS)
    return application(arguments.get("checkpoint"), slots, replicas, video_slots=video_slots)


@dataclass(slots=True)
class _Life:
    """What we keep of a session to bring it back: its last snapshot, and what came after it."""

    opening: Opening
    realtime: bool
    snapshot: bytes | None = None
    past: deque[tuple[Append, Chosen]] = field(default_factory=deque)
    since: int = 0
    saving: asyncio.Task | None = None
    moves: int = 0


class RayEngine:
    """The engines of a Ray cluster as one, with the coroutines of `LocalEngine`. handle: of the application."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._lives: dict[str, _Life] = {}
        self.resumed = 0

    def _at(self, session: str) -> Any:
        """Where the session is: the router knows the place by name and number of moves."""
        return self._handle.options(session_id=f"{session}/{self._lives[session].moves}")

    async def open(self, opening: Opening | None = None, *, realtime: bool = True) -> str:
        """A new session on the replica with the most room. Raises Overloaded."""
        opening = opening or Opening()
        session = (VIDEO if opening.video else "") + secrets.token_hex(8)
        self._lives[session] = _Life(opening, realtime)
        try:
            error = await self._at(session).open.remote(session, opening, realtime)
            if error is not None:
                raise error
        except BaseException:
            del self._lives[session]
            raise
        return session

    async def append(self, append: Append) -> Chosen:
        """Run one micro-turn, wherever the session is or has to be brought to. Raises EngineError."""
        life = self._lives.get(append.session)
        if life is None:
            raise NoSession(f"no session {append.session!r} here")
        until = time.monotonic() + RESUME_S
        asked = time.monotonic()
        while True:
            try:
                call = self._at(append.session).append.remote(append)
                result, draining = await asyncio.wait_for(_result(call), CALL_S)
            except RayError:
                result, draining = NoSession("its replica is gone"), False
            except TimeoutError:  # slow, or hanging: a busy machine must not be made busier by moving everybody
                if time.monotonic() - asked < STUCK_S:
                    continue
                result, draining = NoSession("its replica hangs"), False
            if isinstance(result, Chosen):
                self._remember(append, result, life)
                if draining:
                    await self._move(append.session, life)
                return result
            if not isinstance(result, NoSession):
                raise result
            await self._resume(append.session, life, until)
            asked = time.monotonic()

    def _remember(self, append: Append, chosen: Chosen, life: _Life) -> None:
        life.past.append((append, chosen))
        life.since += 1
        if life.since >= SNAPSHOT_TURNS and (life.saving is None or life.saving.done()):
            life.since = 0
            life.saving = asyncio.create_task(self._save(append.session, life))

    async def _save(self, session: str, life: _Life) -> None:
        """A newer snapshot, beside the conversation. If it fails the older one and its longer past still serve."""
        with suppress(RayError):
            got = await self._at(session).snapshot.remote(session)
            if not isinstance(got, EngineError):
                life.snapshot, last = got
                while life.past and life.past[0][0].turn <= last:
                    life.past.popleft()

    async def _resume(self, session: str, life: _Life, until: float) -> None:
        """Open the session where there is room for it. Raises EngineGone if nowhere is, in time."""
        while time.monotonic() < until:
            life.moves += 1  # the router chooses anew
            try:
                past = list(life.past)
                call = self._at(session).resume.remote(session, life.opening, life.snapshot, past, life.realtime)
                error = await asyncio.wait_for(_result(call), RESUME_S)
            except (RayError, TimeoutError):
                error = EngineGone("its replica is gone")
            if error is None:
                self.resumed += 1
                return
            await asyncio.sleep(RETRY_S)
        raise EngineGone("no replica had room to bring the session back")

    async def _move(self, session: str, life: _Life) -> None:
        """Leave a draining replica, with a fresh snapshot; the next micro-turn finds another one."""
        await self._save(session, life)
        with suppress(RayError):
            await self._at(session).close.remote(session)

    async def health(self) -> dict[str, Any]:
        """How the replica that would take the next session is."""
        return await self._handle.health.remote()

    async def whereabouts(self, session: str) -> dict[str, Any]:
        """How the replica that this session is on is."""
        return await self._at(session).health.remote()

    async def close(self, session: str) -> None:
        life = self._lives.get(session)
        if life is None:
            raise NoSession(f"no session {session!r} here")
        if life.saving is not None:
            life.saving.cancel()
        with suppress(RayError):
            await self._at(session).close.remote(session)
        self._lives.pop(session, None)


async def _result(call: Any) -> Any:
    return await call
