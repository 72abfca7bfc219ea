"""Write-ahead slots: what is being spent right now, in memory that outlives the process.

Every open entry owns one slot of a memory-mapped file. Writing a counter is a store into the page cache, without a
system call: it costs a microsecond and is still there after `kill -9`, because the pages belong to the file and not
to the process. When an entry has reached the database its slot is free again. What a dead process leaves in its slots
is what it had begun and not yet written: `orphans` finds those files by their lock, which the kernel drops on death.

A slot holds two copies of its numbers and writes them alternately, each under a checksum: a process killed in the
middle of a store leaves the older copy valid. The machine losing power is another matter: `sync` bounds that loss.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interplay.core.types import InterplayError
from interplay.gateway.prices import UNITS

SLOT_BYTES = 2048
META_BYTES = 1536
SEGMENT_SLOTS = 512
MAX_SLOTS = 65_536
MAGIC = b"ipslots1"
HEADER = 64  # bytes before the first slot

FREE, OPEN, ENDED = 0, 1, 2
_STATE = struct.Struct("<I")
_META = struct.Struct("<II")  # length, checksum
_NUMBERS = struct.Struct(f"<Q{len(UNITS)}qqqI")  # sequence, units, cost, counted cost, flags
_CRC = struct.Struct("<I")
_COPY = _NUMBERS.size + _CRC.size
_ID_BYTES = 120
_AT_META = 4 + _META.size
_AT_COPIES = 4 + _META.size + META_BYTES
_AT_ID = _AT_COPIES + 2 * _COPY
assert _AT_ID + 4 + _ID_BYTES <= SLOT_BYTES


class SlotsFull(InterplayError):
    """More entries are open, or waiting for a database that does not answer, than may be."""

    code = "ledger_full"


@dataclass(frozen=True, slots=True)
class Found:
    """One slot that a dead process left behind."""

    meta: dict[str, Any]
    ended: bool
    units: tuple[int, ...]
    cost_pico: int
    counted_pico: int
    flags: int
    provider_id: str


class Slots:
    """The slots of this process, in files `slots-<pid>-<random>.<n>` of a folder. Not thread-safe: the event loop's."""

    def __init__(self, folder: Path, *, max_slots: int = MAX_SLOTS) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.max_slots = folder, max_slots
        self._stem = f"slots-{os.getpid()}-{secrets.token_hex(4)}"
        self._segments: list[tuple[mmap.mmap, Any, Path]] = []
        self._free: list[int] = []
        self._sequence: dict[int, int] = {}

    @property
    def used(self) -> int:
        """How many slots are taken."""
        return len(self._sequence)

    def take(self, meta: dict[str, Any]) -> int:
        """A slot for an entry that begins now; `meta` is JSON of at most META_BYTES bytes. Raises SlotsFull."""
        raw = json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode()
        if len(raw) > META_BYTES:
            raise ValueError(f"an entry's description has {len(raw)} bytes; at most {META_BYTES} fit")
        if not self._free:
            self._grow()
        slot = self._free.pop()
        view, at = self._where(slot)
        _META.pack_into(view, at + 4, len(raw), zlib.crc32(raw))
        view[at + _AT_META : at + _AT_META + len(raw)] = raw
        view[at + _AT_COPIES : at + _AT_ID + 4] = bytes(_AT_ID + 4 - _AT_COPIES)
        self._sequence[slot] = 0
        self.put(slot, (0,) * len(UNITS), 0, 0, 0)
        _STATE.pack_into(view, at, OPEN)  # last: a slot is open once all of it is there
        return slot

    def put(self, slot: int, units: tuple[int, ...] | list[int], cost: int, counted: int, flags: int) -> None:
        """Write the numbers of an entry: durable against the death of this process when it returns."""
        view, at = self._where(slot)
        sequence = self._sequence[slot] = self._sequence[slot] + 1
        raw = _NUMBERS.pack(sequence, *units, cost, counted, flags)
        at += _AT_COPIES + (sequence & 1) * _COPY
        view[at : at + _COPY] = raw + _CRC.pack(zlib.crc32(raw))

    def name(self, slot: int, provider_id: str) -> None:
        """Write the provider's id of the response; cut to what fits."""
        raw = provider_id.encode()[:_ID_BYTES]
        view, at = self._where(slot)
        view[at + _AT_ID + 4 : at + _AT_ID + 4 + len(raw)] = raw
        _STATE.pack_into(view, at + _AT_ID, len(raw))

    def end(self, slot: int) -> None:
        """The entry is over, and its numbers are final; the slot stays until the database has them."""
        view, at = self._where(slot)
        _STATE.pack_into(view, at, ENDED)

    def release(self, slot: int) -> None:
        """The database has the entry."""
        view, at = self._where(slot)
        _STATE.pack_into(view, at, FREE)
        del self._sequence[slot]
        self._free.append(slot)

    def sync(self) -> None:
        """Push the pages to the disk: what a power cut may take is what came after. Blocks; call it in a thread."""
        for view, _, _ in list(self._segments):
            with contextlib.suppress(ValueError, OSError):  # closed meanwhile
                view.flush()

    def close(self) -> None:
        """Give the files up; those with nothing in them are removed, the others are for the next start to find."""
        empty = not self._sequence
        for view, file, path in self._segments:
            view.close()
            if empty:
                path.unlink(missing_ok=True)
            file.close()
        self._segments.clear()

    def _where(self, slot: int) -> tuple[mmap.mmap, int]:
        return self._segments[slot // SEGMENT_SLOTS][0], HEADER + slot % SEGMENT_SLOTS * SLOT_BYTES

    def _grow(self) -> None:
        first = len(self._segments) * SEGMENT_SLOTS
        if first + SEGMENT_SLOTS > self.max_slots:
            raise SlotsFull(f"{self.used} entries are open or wait for the ledger's database; nothing more is spent")
        path = self.folder / f"{self._stem}.{len(self._segments)}"
        # Built under another name: no other process may find it before it is locked.
        draft = path.with_name("." + path.name)
        file = draft.open("w+b")
        os.fchmod(file.fileno(), 0o600)
        # Real blocks, not a sparse file: a full disk must fail here, where nothing is spent yet, and not in a store.
        os.posix_fallocate(file.fileno(), 0, HEADER + SEGMENT_SLOTS * SLOT_BYTES)
        view = mmap.mmap(file.fileno(), 0)
        view[: len(MAGIC)] = MAGIC
        fcntl.flock(file, fcntl.LOCK_EX)
        draft.rename(path)
        self._segments.append((view, file, path))
        self._free.extend(range(first + SEGMENT_SLOTS - 1, first - 1, -1))


def orphans(folder: Path) -> Iterator[tuple[Path, list[Found]]]:
    """Slot files whose process is dead, with what was open in them. The file is locked while it is yielded.

    Remove it once its entries are safe; two recoveries at a time do not see the same file.
    """
    for path in sorted(folder.glob("slots-*")) if folder.is_dir() else []:
        try:
            file = path.open("r+b")
        except OSError:
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its process lives
            if path.exists():
                yield path, list(_read(file.read()))


def _read(raw: bytes) -> Iterator[Found]:
    if raw[: len(MAGIC)] != MAGIC:
        return
    for at in range(HEADER, len(raw) - SLOT_BYTES + 1, SLOT_BYTES):
        (state,) = _STATE.unpack_from(raw, at)
        if state not in (OPEN, ENDED):
            continue
        length, checksum = _META.unpack_from(raw, at + 4)
        meta = raw[at + _AT_META : at + _AT_META + min(length, META_BYTES)]
        copies = []
        for copy in range(2):
            start = at + _AT_COPIES + copy * _COPY
            numbers = raw[start : start + _NUMBERS.size]
            if zlib.crc32(numbers) == _CRC.unpack_from(raw, start + _NUMBERS.size)[0]:
                copies.append(_NUMBERS.unpack(numbers))
        if zlib.crc32(meta) != checksum or not copies:
            continue
        *_, cost, counted, flags = newest = max(copies)
        (id_length,) = _STATE.unpack_from(raw, at + _AT_ID)
        provider_id = raw[at + _AT_ID + 4 : at + _AT_ID + 4 + min(id_length, _ID_BYTES)].decode(errors="ignore")
        units = newest[1 : 1 + len(UNITS)]
        yield Found(json.loads(meta), state == ENDED, units, cost, counted, flags, provider_id)
