"""The ledger's database: SQLite in a file, or PostgreSQL by URL. Everything here is called from one writer thread.

Money is stored as whole picodollars in 64 bits: one row holds up to 9 million dollars, exactly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from interplay.core.types import BadInput, InterplayError, Missing
from interplay.gateway.prices import UNITS

COLUMNS = [
    *("id", "started", "ended", "agent", "user_id", "session", "key_id", "route", "provider", "model", "kind"),
    *("status", "error", "estimated", "recovered", "priced", "price_table", "provider_id", "cost_pico"),
    *("counted_pico", "labels", *UNITS),
]
_FIXED = {"id", "started"}

_INT = "BIGINT NOT NULL DEFAULT 0"
_TEXT = "TEXT NOT NULL DEFAULT ''"
_TYPES = {
    "id": "TEXT PRIMARY KEY",
    "started": "DOUBLE PRECISION NOT NULL",
    "ended": "DOUBLE PRECISION",
    **{name: _INT for name in ("estimated", "recovered", "priced", "cost_pico", "counted_pico", *UNITS)},
}
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS entries ("
    + ", ".join(f"{name} {_TYPES.get(name, _TEXT)}" for name in COLUMNS)
    + ", billed_pico BIGINT)",
    "CREATE INDEX IF NOT EXISTS entries_started ON entries (started)",
    "CREATE INDEX IF NOT EXISTS entries_key ON entries (key_id, started)",
    "CREATE INDEX IF NOT EXISTS entries_provider_id ON entries (provider_id)",
    "CREATE TABLE IF NOT EXISTS content (id TEXT PRIMARY KEY, request TEXT, response TEXT)",
    "CREATE TABLE IF NOT EXISTS virtual_keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, "
    "created DOUBLE PRECISION NOT NULL, revoked DOUBLE PRECISION, section TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS audit (seq BIGINT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL, "
    "data TEXT NOT NULL, mac TEXT NOT NULL)",
)

UPSERT = (
    f"INSERT INTO entries ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in _FIXED)
    + " WHERE entries.status = 'open'"
)
"""Write an entry. One that has ended is never overwritten: what a crash left behind may be older than the row."""


class Database:
    """One connection, of sqlite3 or psycopg, with the few differences between them. `?` marks parameters in both."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._postgres = is_postgres(url)
        self._connection: Any = _postgres(url) if self._postgres else _sqlite(sqlite_path(url))

    def create(self) -> None:
        """Make the tables that are not there yet."""
        self.begin(write=True)
        for statement in SCHEMA:
            self.execute(statement)
        self.commit()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._connection.execute(self._sql(sql), tuple(parameters))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.cursor().executemany(self._sql(sql), list(rows))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.execute(sql, parameters).fetchall()]

    @property
    def postgres(self) -> bool:
        return self._postgres

    def begin(self, *, write: bool) -> None:
        # IMMEDIATE: a reader that becomes a writer half-way would fail at once if another process writes.
        self._connection.execute("BEGIN" if self._postgres or not write else "BEGIN IMMEDIATE")

    def lock(self) -> None:
        """Until commit, no other process appends to the audit log. SQLite's write transaction is that already."""
        if self._postgres:
            self.execute("SELECT pg_advisory_xact_lock(7268421)")

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()

    def _sql(self, sql: str) -> str:
        return sql.replace("?", "%s") if self._postgres else sql


def is_postgres(url: str) -> bool:
    return url.startswith(("postgres://", "postgresql://"))


def sqlite_path(url: str) -> Path:
    """The file of `sqlite:///path` or of a plain path. Raises BadInput for other kinds of URL, without its password."""
    if "://" not in url:
        return Path(url).expanduser()
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///")).expanduser()
    scheme = url.split("://", 1)[0]
    raise BadInput(f"the ledger cannot be kept in a {scheme} database; use a file path or postgresql://")


def shown(url: str) -> str:
    """A database URL as people and logs may see it: without user and password."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    return f"{parts.scheme}://{host}{parts.path}"


def transient(error: Exception) -> bool:
    """Is it the database that is away (locked, full, restarting), rather than a statement that is wrong?"""
    if isinstance(error, sqlite3.OperationalError | InterplayError):
        return True
    return type(error).__module__.startswith("psycopg") and type(error).__name__ in (
        "OperationalError", "AdminShutdown", "InterfaceError", "ConnectionTimeout", "DeadlockDetected",
        "CannotConnectNow", "CrashShutdown", "DiskFull", "TooManyConnections",
    )  # fmt: skip


def _sqlite(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        # A commit survives the death of the process; of a power cut, see `Slots.sync`.
        connection.execute("PRAGMA synchronous=NORMAL")
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InterplayError(f"cannot open the ledger {path}: {reason}") from error
    return connection


def _postgres(url: str) -> Any:
    try:
        import psycopg  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing('a ledger in PostgreSQL needs psycopg; get it with: pip install "interplay[postgres]"') from error
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.Error as error:
        # psycopg's own message names host and user, and could quote the URL: only its first line without it is shown.
        raise InterplayError(
            f"cannot reach the ledger's database {shown(url)} ({type(error).__name__})"
        ) from error.with_traceback(None)
