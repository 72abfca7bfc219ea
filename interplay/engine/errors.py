"""What the engine refuses, each with a code that travels over the wire."""

from __future__ import annotations

from interplay.core.types import InterplayError


class EngineError(InterplayError):
    """A request that the engine refuses. Nobody else's session is touched by it."""

    code = "engine"


class Overloaded(EngineError):
    """No place, or no time, for one more session: try another replica, or later."""

    code = "overloaded"


class NoSession(EngineError):
    """This session is not here: never opened, closed, or another life of the same name."""

    code = "no_session"


class OutOfOrder(EngineError):
    """A micro-turn that the session is already past, with other content than it had."""

    code = "out_of_order"


class Lagging(EngineError):
    """More micro-turns wait for this session than it may have waiting."""

    code = "lagging"


class SnapshotFailed(EngineError):
    """A snapshot could not be written or read. The session itself goes on."""

    code = "snapshot_failed"


class EngineGone(EngineError):
    """The compute process is not there; it is being restarted."""

    code = "engine_gone"


BY_CODE = {
    kind.code: kind for kind in (EngineError, Overloaded, NoSession, OutOfOrder, Lagging, SnapshotFailed, EngineGone)
}
