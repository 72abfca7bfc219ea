"""Running a blocking function beside the event loop, so that one that never returns costs a thread and no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from interplay.core.types import InterplayError

MAX_THREADS = 32
_count = threading.Semaphore(MAX_THREADS)


async def in_thread(function: Callable[[], Any]) -> Any:
    """Call `function` in a daemon thread. On cancellation its result is thrown away; a thread cannot be stopped.

    asyncio.to_thread would let a function that hangs take a worker for good and keep the process from ending.
    Raises InterplayError if 32 such threads are already stuck.
    """
    if not _count.acquire(blocking=False):
        raise InterplayError("too many tools hang at once; the session goes on without this one")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def finish(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except StopIteration as stop:  # a future cannot carry it
            error = RuntimeError(f"StopIteration: {stop}")
        except BaseException as raised:
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{type(raised).__name__}: {raised}")
        finally:
            _count.release()
        try:
            loop.call_soon_threadsafe(finish, result, error)
        except RuntimeError:
            return  # the loop is gone, and with it whoever waited

    threading.Thread(target=run, name="tool", daemon=True).start()
    return await future
