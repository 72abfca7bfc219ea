"""The audit log: every decision in a hash chain, so that nothing in it can be changed without being found out.

Each record carries an HMAC over itself and the record before it. The key is not in the database: who can write to the
database, but not read the key, can change no record, take none out and put none in. The head record says how long the
chain is, so that its end cannot simply be cut off; and the newest head is noted in a file beside the key, so that
the whole log cannot be emptied, or put back as it once was. Against whoever has both, keep
`interplay gateway audit head` elsewhere and give it to `verify --expect`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from interplay.core.types import BadInput, InterplayError
from interplay.gateway.ledger.book import home
from interplay.gateway.ledger.store import Database, is_postgres, sqlite_path
from interplay.gateway.ledger.writer import Writer
from interplay.gateway.scrub import scrub

GENESIS = "0" * 64
MAX_DATA = 4000
NOTE_S = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. broken: the number of the first record that is wrong, or None; why: what is wrong."""

    records: int
    head: str
    broken: int | None = None
    why: str = ""

    @property
    def ok(self) -> bool:
        return not self.why


class Audit:
    """Appends to the chain of a database. Decisions are queued in order and written by the ledger's writer."""

    def __init__(self, writer: Writer, key: bytes, anchor: Anchor | None = None) -> None:
        self._writer, self._key, self._anchor = writer, key, anchor

    def record(self, kind: str, **data: Any) -> None:
        """Note one decision. Returns at once; secrets are scrubbed, values are cut at 4000 characters in all."""
        at = round(time.time(), 6)
        told = canonical(data)
        anchor = self._anchor
        if anchor is None:
            self._writer.post(lambda database: append(database, self._key, at, kind, told))
        else:
            self._writer.post(lambda d: append(d, self._key, at, kind, told, anchor.seq), then=anchor.note)

    def seal(self) -> None:
        """Note the head at once: nothing more will be recorded here."""
        if self._anchor is not None:
            self._anchor.write()


class Anchor:
    """The newest head as this machine has seen it, in a file that never goes back. At most NOTE_S behind the log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seq, self._mac = self._read()
        self._due = 0.0

    @property
    def seq(self) -> int:
        """The number of the newest record that was seen; 0 for none."""
        return self._seq

    @property
    def head(self) -> str:
        """As `verify` expects it; "" for none."""
        return f"{self._seq}:{self._mac}" if self._seq else ""

    def note(self, record: tuple[int, str]) -> None:
        """A record is in the database."""
        if record[0] > self._seq:
            self._seq, self._mac = record
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + NOTE_S
                self.write()

    def write(self) -> None:
        if self._seq <= self._read()[0]:
            return
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with suppress(OSError):  # a full disk: the log itself says so
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.head)
            draft.rename(self.path)

    def _read(self) -> tuple[int, str]:
        with suppress(OSError, BadInput):
            return _parse_head(self.path.read_text().strip())
        return 0, GENESIS


def audit_of(writer: Writer) -> Audit:
    """The audit log of a ledger's database, with its key and its anchor. Raises InterplayError."""
    return Audit(writer, audit_key(audit_folder(writer.url)), audit_anchor(writer.url))


def audit_anchor(url: str) -> Anchor:
    """The anchor of a ledger: beside its audit key, under the name of the database."""
    folder = audit_folder(url)
    if not is_postgres(url):
        return Anchor(folder / f"{sqlite_path(url).name}.audit-head")
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    return Anchor(folder / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.audit-head")


def audit_key(folder: Path) -> bytes:
    """The chain's key: INTERPLAY_AUDIT_KEY, or a file `audit.key` that is made at first use, readable by its owner.

    Raises InterplayError if it can be neither read nor made.
    """
    if own := os.environ.get("INTERPLAY_AUDIT_KEY"):
        return hashlib.sha256(own.encode()).digest()
    path = folder / "audit.key"
    try:
        with suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Complete before it is visible: two processes that start together must not read half a key.
            draft = path.with_name(f".audit.key.{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            try:
                os.link(draft, path)
            finally:
                draft.unlink()
        return bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise InterplayError(f"cannot use the audit key {path}: {getattr(error, 'strerror', None) or error}") from error


def audit_folder(url: str) -> Path:
    """Where the audit key of a ledger lives: beside an SQLite file, else in the gateway's home."""
    return home() if is_postgres(url) else sqlite_path(url).parent


def canonical(data: dict[str, Any]) -> str:
    """The data of a record as text: one spelling, no secrets."""
    told = scrub(json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str))
    return told if len(told) <= MAX_DATA else json.dumps({"cut": told[:MAX_DATA]}, ensure_ascii=False)


def append(database: Database, key: bytes, at: float, kind: str, data: str, seen: int = 0) -> tuple[int, str]:
    """Append one record inside a write transaction; returns its number and seal. seen: a number that was used."""
    database.lock()
    head = database.query("SELECT data, mac FROM audit WHERE seq = 0")
    last = database.query("SELECT seq, mac FROM audit WHERE seq > 0 ORDER BY seq DESC LIMIT 1")
    before, previous = last[0] if last else (0, GENESIS)
    # Never behind the head, or what was seen of it: if the end of the chain was cut off, the gap must stay visible.
    seq = max(int(before), int(head[0][0]) if head else 0, seen) + 1
    mac = _mac(key, previous, seq, at, kind, data)
    database.execute("INSERT INTO audit (seq, at, kind, data, mac) VALUES (?, ?, ?, ?, ?)", (seq, at, kind, data, mac))
    database.execute(
        "INSERT INTO audit (seq, at, kind, data, mac) VALUES (0, 0, 'head', ?, ?) "
        "ON CONFLICT (seq) DO UPDATE SET data = excluded.data, mac = excluded.mac",
        (str(seq), _mac(key, mac, seq, 0.0, "head", "")),
    )
    return seq, mac


def verify(database: Database, key: bytes, *expect: str) -> Verdict:
    """Check the whole chain, and that it contains every head of `expect` ("SEQ:MAC", "" for none) of earlier days.

    Raises BadInput if one is not a head.
    """
    expected = dict(_parse_head(head) for head in sorted(expect) if head)
    last = max(expected, default=0)
    previous, count, seq = GENESIS, 0, 0
    for seq, at, kind, data, mac in records(database):
        if seq != count + 1:
            return Verdict(count, f"{count}:{previous}", count + 1, f"record {count + 1} is missing")
        if not hmac.compare_digest(_mac(key, previous, seq, at, kind, data), mac):
            return Verdict(count, f"{count}:{previous}", seq, f"record {seq} was changed, or written with another key")
        if expected.get(seq, mac) != mac:
            return Verdict(count, f"{count}:{previous}", seq, f"record {seq} is not the one of the expected head")
        previous, count = mac, seq
    head = database.query("SELECT data, mac FROM audit WHERE seq = 0")
    verdict = Verdict(count, f"{count}:{previous}")
    if not head and not count:
        why = "" if not last else f"the log is empty, and once had {last} records"
        return Verdict(0, verdict.head, None if not why else 0, why)
    if not head or not hmac.compare_digest(_mac(key, previous, count, 0.0, "head", ""), head[0][1]):
        return Verdict(count, verdict.head, count + 1, f"the log ends at record {count}, but its head says otherwise")
    if count < last:
        return Verdict(count, verdict.head, count + 1, f"the log ends at record {count}, before the expected head")
    return verdict


def records(database: Database, after: int = 0, page: int = 5000) -> Iterator[tuple[int, float, str, str, str]]:
    """The records in order, in constant memory: (number, Unix seconds, kind, JSON, mac)."""
    while True:
        rows = database.query(
            "SELECT seq, at, kind, data, mac FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (after, page)
        )
        for row in rows:
            yield int(row[0]), float(row[1]), row[2], row[3], row[4]
        if len(rows) < page:
            return
        after = int(rows[-1][0])


def _mac(key: bytes, previous: str, seq: int, at: float, kind: str, data: str) -> str:
    # Lengths are part of it: moving a character from one field into its neighbour is a change.
    fields = (previous, str(seq), repr(float(at)), kind, data)
    message = "".join(f"{len(part.encode())}:{part}" for part in fields)
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def _parse_head(head: str) -> tuple[int, str]:
    seq, _, mac = head.partition(":")
    if not seq.isdigit() or len(mac) != 64:
        raise BadInput(f"{head!r} is not a head of the audit log; it looks like 1234:64 hexadecimal digits")
    return int(seq), mac
