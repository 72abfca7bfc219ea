"""The engine of `interplay live` in a process of its own, gone with this process."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interplay.engine.core import Append, Chosen, Opening
from interplay.engine.keeper import Keeper
from interplay.engine.remote import RemoteEngine

SHM = Path("/dev/shm")


class HousedEngine:
    """As `LocalEngine`, with the compute elsewhere, in a private folder that nobody else knows.

    It belongs to the event loop that first uses it. Sessions of a process that is killed are let go after two minutes.
    """

    def __init__(
        self,
        checkpoint: Path | None = None,
        *,
        slots: int,
        video_slots: int = 0,
        floor: int = 1,
        spare: bool = True,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="interplay-", dir=SHM if SHM.is_dir() else None))
        given = {"slots": slots, "video_slots": video_slots, "floor": floor, "spare": spare}
        self.keeper = Keeper(self.folder, checkpoint=checkpoint, ephemeral=True, **given)
        self.keeper.keep()  # it loads while we do
        self._lock = asyncio.Lock()
        self._engine: RemoteEngine | None = None

    async def _here(self) -> RemoteEngine:
        if self._engine is None:
            async with self._lock:
                if self._engine is None:
                    self._engine = await RemoteEngine.connect(self.folder, self.keeper)
        return self._engine

    async def open(self, opening: Opening | None = None, *, realtime: bool = True) -> str:
        return await (await self._here()).open(opening, realtime=realtime)

    async def append(self, append: Append) -> Chosen:
        return await (await self._here()).append(append)

    async def close(self, session: str) -> None:
        await (await self._here()).close(session)

    async def health(self) -> dict[str, Any]:
        return await (await self._here()).health()

    async def metrics(self) -> bytes:
        return await (await self._here()).metrics()

    async def trace(self, tell: Callable[[dict[str, Any]], None] | None) -> None:
        await (await self._here()).trace(tell)

    async def shut_down(self) -> None:
        await (self._engine.shut_down() if self._engine is not None else self.keeper.stop())
        shutil.rmtree(self.folder, ignore_errors=True)
