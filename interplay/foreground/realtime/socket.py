"""A WebSocket client for our own adapters: deadlines, size limits, and one kind of error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from interplay.core.types import Missing
from interplay.foreground.realtime.link import LinkLost

MAX_MESSAGE = 8 * 2**20


class Socket:
    """One WebSocket. Errors never quote the URL: it may carry a token."""

    def __init__(self, socket: Any, name: str) -> None:
        self._socket, self._name = socket, name

    async def send(self, message: str | bytes) -> None:
        """Raises LinkLost."""
        try:
            await self._socket.send(message)
        except Exception as error:
            raise LinkLost(f"{self._name}: the connection was lost ({type(error).__name__})") from error

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Until the other side closes in order; raises LinkLost if it does not."""
        try:
            async for message in self._socket:
                yield message
        except Exception as error:
            raise LinkLost(f"{self._name}: the connection was lost ({type(error).__name__})") from error

    async def close(self) -> None:
        await self._socket.close()


async def dial(url: str, name: str, timeout_s: float) -> Socket:
    """Connect. Raises LinkLost, Missing."""
    try:
        from websockets.asyncio.client import connect
    except ImportError as error:
        raise Missing('real-time servers need websockets; get it with: pip install "interplay[realtime]"') from error
    try:
        socket = await connect(
            url, open_timeout=timeout_s, close_timeout=0.5, max_size=MAX_MESSAGE, max_queue=64, proxy=None
        )
    except Exception as error:
        response = getattr(error, "response", None)
        status = f" (HTTP {response.status_code})" if response is not None else f" ({type(error).__name__})"
        raise LinkLost(f"{name} cannot be reached{status}") from error
    return Socket(socket, name)
