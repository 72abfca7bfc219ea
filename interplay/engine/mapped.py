"""An engine whose slots lie in memory that outlives its process: whoever maps it next goes on with every session."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

from interplay.core.types import InterplayError
from interplay.engine.core import Engine, Opening, Pool, Seat
from interplay.engine.state import Shape, buffer_bytes, clear
from interplay.model.transformer import InteractionModel

MEMORY, LABEL = "sessions.mem", "sessions.mem.label"


class MappedEngine(Engine):
    """As `Engine`, with the slots of both kinds in FOLDER/sessions.mem. Sessions found there go on where they were."""

    def __init__(
        self, model: InteractionModel, folder: Path, *, slots: int = 16, video_slots: int = 0, fixed: bool = False
    ) -> None:
        super().__init__(model, slots=1, video_slots=min(1, video_slots), fixed=fixed)
        shapes = [(Shape(model.config, 0), slots)]
        if video_slots:
            shapes.append((Shape(model.config, model.config.glances), video_slots))
        size = sum(buffer_bytes(*shape) for shape in shapes)
        label = f"{self.fingerprint} {slots} {video_slots} {size}\n"
        memory, fresh = map_memory(folder, size, label)
        pools, at = [], 0
        for shape, count in shapes:
            size = buffer_bytes(shape, count)
            pools.append(Pool(shape, count, memory[at : at + size]))
            at += size
        self._hold(pools[0], pools[1] if video_slots else None)
        for pool in pools:
            _vacate(pool) if fresh else self._take_over(pool)
        (folder / LABEL).write_text(label)  # now it is in order; whoever dies before this leaves nothing to take over

    def _take_over(self, pool: Pool) -> None:
        """Seat the sessions that live in the memory; clear what is not one."""
        pool.free = []
        for slot in range(pool.slots - 1, -1, -1):
            text = bytes(pool.state["meta"][slot].numpy()).rstrip(b"\0")
            try:
                meta = json.loads(text)
                opening = Opening(**{**meta["opening"], "prefix": tuple(meta["opening"]["prefix"])})
                if meta["session"] in self.seats:
                    raise ValueError("two lives of one session")
                self.seats[meta["session"]] = Seat(meta["session"], slot, opening, int(pool.state["last"][slot]))
            except (ValueError, KeyError, TypeError):
                pool.free.append(slot)
                clear(pool.state, slot)
                continue
            stamp, last = pool.state["stamp"][slot], pool.state["last"][slot]
            stamp[stamp > last] = -1  # whoever died between the two writes of a commit has not run the micro-turn


def _vacate(pool: Pool) -> None:
    """Empty slots in memory that is all zeroes: only what does not begin as zero is written."""
    pool.state["stamp"].fill_(-1)
    pool.state["last"].fill_(-1)
    pool.state["proactivity"].fill_(0.5)


def map_memory(folder: Path, size: int, label: str) -> tuple[memoryview, bool]:
    """`size` bytes of FOLDER/sessions.mem, and whether they are new; one with another label is begun anew.

    Raises InterplayError if there is no room: now, and not with a signal when a session needs it.
    """
    path, told = folder / MEMORY, folder / LABEL
    fresh = not path.exists() or not told.exists() or told.read_text() != label or path.stat().st_size != size
    if fresh:
        told.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _reserve(descriptor, size)
        except OSError as error:
            path.unlink(missing_ok=True)
            text = f"no room for these sessions in {folder} ({size / 1e6:.0f} MB): {error.strerror}"
            raise InterplayError(f"{text}; use fewer slots") from error
        finally:
            os.close(descriptor)
    with open(path, "r+b") as file:
        memory = memoryview(mmap.mmap(file.fileno(), size))
    return memory, fresh


def _reserve(descriptor: int, size: int) -> None:
    """Make the file so long, and all of it really there, where the system can."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
