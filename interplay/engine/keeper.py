"""The compute processes of one folder: one at work, one that has everything loaded and waits (see `process.py`)."""

from __future__ import annotations

import asyncio
import atexit
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from interplay.engine.errors import EngineGone
from interplay.engine.process import STOP

GIVE_UP = 4  # starts in a row, beyond those wanted, that never answered
END_S = 5.0


class Keeper:
    """Starts what is missing and ends what hangs.

    folder: private to this user; it holds the socket and the sessions' memory, so a tmpfs is best. spare: keep one that
    waits, so that the next takes over at once.
    """

    def __init__(
        self,
        folder: Path,
        *,
        checkpoint: Path | None = None,
        slots: int = 32,
        video_slots: int = 0,
        floor: int = 1,
        spare: bool = True,
        ephemeral: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / STOP).unlink(missing_ok=True)
        self.folder, self.wanted = folder, 1 + spare
        self.command = [sys.executable, "-m", "interplay.engine.process", str(folder)]
        self.command += ["--slots", str(slots), "--video-slots", str(video_slots), "--floor", str(floor)]
        self.command += ["--checkpoint", str(checkpoint)] if checkpoint else []
        self.command += ["--ephemeral"] if ephemeral else []
        self.processes: list[subprocess.Popen] = []
        self._starts = 0
        self._served = False  # the spare is started when the first one answers: two that load at once are both slow
        self._ended = ""
        atexit.register(self._at_exit)

    def keep(self) -> None:
        """Start what is missing. Raises EngineGone if they only die."""
        for process in self.processes:
            if process.poll() not in (None, 0):
                self._ended = f"; the last one ended with {process.returncode}"
        self.processes = [p for p in self.processes if p.poll() is None]
        while len(self.processes) < (self.wanted if self._served else 1):
            if self._starts >= self.wanted + GIVE_UP:
                raise EngineGone(f"the engine's process does not start{self._ended}")
            self._starts += 1
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            # A session of its own: a signal to us, or our death, is not its death.
            self.processes.append(
                subprocess.Popen(self.command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
            )

    def answered(self) -> None:
        """One of them serves: what was started is good, and the spare may come."""
        self._starts, self._served = 0, True
        self.keep()

    def kill(self, pid: int) -> bool:
        """End one that hangs, if it is ours and still there."""
        for process in self.processes:
            if process.pid == pid and process.poll() is None:
                process.kill()
                return True
        return False

    async def stop(self) -> None:
        """End all of them."""
        with suppress(OSError):
            (self.folder / STOP).touch()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                await asyncio.to_thread(process.wait, END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
