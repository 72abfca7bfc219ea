"""Reaching the store's database: URL, connections, migrations, and getting rid of what was deleted."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from interplay.core.types import BadInput, InterplayError, Missing

try:
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import event
    from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
except ImportError as error:
    raise Missing(f'agents need {error.name}; get it with: pip install "interplay[agents]"') from error

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_S = 5.0
CHECKPOINT_S = 5.0
LOCK = 0x1D7E9  # of PostgreSQL's advisory locks: one process migrates at a time
POOL = 4


def default_url() -> str:
    """INTERPLAY_STORE if set, otherwise a SQLite file in the user's data folder."""
    given = os.environ.get("INTERPLAY_STORE", "").strip()
    if given:
        return given
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return str(base / "interplay" / "agents.db")


def store_exists(url: str | None = None) -> bool:
    """False if the store is a file that is not there yet. Raises BadInput as `parse_url` does."""
    parsed = parse_url(url or default_url())
    return parsed.get_backend_name() != "sqlite" or Path(str(parsed.database)).exists()


def parse_url(url: str) -> sa.URL:
    """A SQLAlchemy URL with an async driver. Takes a file path, sqlite:///PATH or postgresql://...

    Raises BadInput for anything else, without repeating what may hold a password.
    """
    if "://" not in url:
        return sa.URL.create("sqlite+aiosqlite", database=str(Path(url).expanduser()))
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadInput("the store's address is not a URL; use a file path or postgresql://USER@HOST/NAME") from error
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise BadInput("the store needs a file; a SQLite database in memory would forget everybody")
        return parsed.set(drivername="sqlite+aiosqlite")
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+asyncpg")
    raise BadInput(f"the store can be SQLite or PostgreSQL, not {kind}")


class Database:
    """One open database with the current schema. `open` it, `close` it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.sqlite = engine.dialect.name == "sqlite"
        self.name = engine.url.render_as_string(hide_password=True)
        self._reader: sa.Engine | None = None  # of a SQLite file, for `fetch`
        self._threads: ThreadPoolExecutor | None = None
        if self.sqlite:
            self._reader = sa.create_engine(engine.url.set(drivername="sqlite"), pool_size=POOL, max_overflow=0)
            self._threads = ThreadPoolExecutor(POOL, "store")
            event.listen(self._reader, "connect", _tune_sqlite)
            event.listen(self._reader, "begin", _begin_sqlite)

    @classmethod
    async def open(cls, url: str | None = None) -> Database:
        """Connect and bring the schema up to date.

        Raises BadInput for a wrong address or a schema of a newer interplay, Missing for a driver that is not
        installed, InterplayError for a database that does not answer.
        """
        parsed = parse_url(url or default_url())
        if parsed.get_backend_name() == "sqlite":
            _prepare_file(Path(str(parsed.database)))
        try:
            engine = create_async_engine(parsed, pool_size=POOL, max_overflow=POOL, pool_pre_ping=False)
        except ImportError as error:
            raise Missing(f'this store needs {error.name}; get it with: pip install "interplay[postgres]"') from error
        database = cls(engine)
        if database.sqlite:
            event.listen(engine.sync_engine, "connect", _tune_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
        try:
            await database._migrate()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        if self._reader is not None and self._threads is not None:
            self._threads.shutdown(wait=False)
            self._reader.dispose()
        await self.engine.dispose()

    async def fetch(self, statement: sa.Executable, values: Mapping[str, Any]) -> list[sa.Row[Any]]:
        """The rows of one statement that stands for itself: what a session waits for before it begins.

        A file is read in one visit to a thread. The async driver goes there and back for each of cursor, execute,
        fetch, close and release, and on a busy machine every one of these waits for its turn.
        """
        if self._reader is None:
            async with self.read() as connection:
                return list(await connection.execute(statement, values))
        reader = self._reader

        def run() -> list[sa.Row[Any]]:
            with reader.connect().execution_options(begin="") as connection:
                return list(connection.execute(statement, values))

        async with self._told():
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that stand for themselves: each sees one state of the database."""
        async with self._told(), self.engine.connect() as plain:
            # Every statement crosses into the driver's thread several times; a BEGIN would only add to them.
            yield await plain.execution_options(**({"begin": ""} if self.sqlite else {"isolation_level": "AUTOCOMMIT"}))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it or nothing."""
        async with self._told(), self.engine.connect() as plain:
            # SQLite gives its one write place on BEGIN, or a reader that turns writer can be refused half-way.
            connection = await plain.execution_options(begin="IMMEDIATE")
            async with connection.begin():
                yield connection

    async def purge(self) -> bool:
        """Make what was deleted unreadable in the files too. False: readers held on to it; the next purge gets it.

        SQLite: the full-text index is rewritten without its tombstones (freed pages are overwritten with zeros by
        `secure_delete`), and the write-ahead log is emptied. PostgreSQL: VACUUM removes the dead rows.
        """
        async with self._told(), self.engine.connect() as plain:
            connection = await plain.execution_options(begin="", isolation_level="AUTOCOMMIT")
            if not self.sqlite:
                await connection.exec_driver_sql("VACUUM lines, items, sessions, relationships")
                return True
            await connection.exec_driver_sql("INSERT INTO lines_fts(lines_fts) VALUES('optimize')")
            deadline = asyncio.get_running_loop().time() + CHECKPOINT_S
            while True:
                row = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).first()
                if row is not None and row[0] == 0:
                    return True
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """What the driver raises, as one line without statement, parameters or password."""
        try:
            yield
        except DBAPIError as error:
            raise InterplayError(f"the store {self.name}: {_plain(error.orig or error)}") from error
        except (SQLAlchemyError, OSError) as error:
            raise InterplayError(f"the store {self.name}: {_plain(error)}") from error

    async def _migrate(self) -> None:
        """Nothing if the schema is current: looking takes a millisecond, Alembic half a second."""
        async with self._told():
            async with self.engine.connect() as connection:
                if await _revision(connection) == head():
                    return
            async with self.engine.connect() as plain:
                connection = await plain.execution_options(begin="IMMEDIATE")
                async with connection.begin():
                    if not self.sqlite:
                        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
                    found = await _revision(connection)
                    if found not in (None, *known()):
                        raise BadInput(
                            f"the store {self.name} was written by a newer interplay (schema {found}); upgrade first"
                        )
                    if found != head():  # another process may have been faster
                        await connection.run_sync(_upgrade)


async def _revision(connection: AsyncConnection) -> str | None:
    def look(sync: sa.Connection) -> str | None:
        if not sa.inspect(sync).has_table("alembic_version"):
            return None
        return sync.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    return await connection.run_sync(look)


def config() -> Config:
    """Alembic's configuration, without a file."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return made


@cache
def known() -> tuple[str, ...]:
    """All revisions, newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def head() -> str:
    return known()[0]


def _upgrade(connection: sa.Connection) -> None:
    made = config()
    made.attributes["connection"] = connection
    command.upgrade(made, "head")


def _prepare_file(path: Path) -> None:
    """A folder and a file that only their owner can read: this is what people told an agent."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory; the store is a file")
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise BadInput(f"cannot open the store {path}: {error.strerror or error}") from error
    if head and head != b"SQLite format 3\x00":
        raise BadInput(f"{path} is not a store of interplay")


def _tune_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours, below
    cursor = connection.cursor()
    for setting in (
        f"busy_timeout={int(BUSY_S * 1000)}",
        "journal_mode=WAL",  # readers do not wait for a writer
        "synchronous=FULL",  # a reminder survives the power going out
        "secure_delete=ON",
        "foreign_keys=ON",
        "recursive_triggers=ON",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    if mode:
        connection.exec_driver_sql(f"BEGIN {mode}")


def _plain(error: BaseException) -> str:
    """First line of what a driver says; asyncpg and sqlite3 put nothing secret there."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
