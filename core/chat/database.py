"""One database behind conversations: SQLite in a file of ours, or PostgreSQL by `DATABASE_URL`.

Opened and migrated at first use, so that a server starts without it and finds it again when it comes back. What the
database says of itself crosses one border here: callers see NotReady and DiskFull, never a driver's error.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.chat import schema
from core.chat.migrations import migrate
from core.errors import BerthError, DiskFull, InternalError, InvalidRequest, NotReady, WrongState

log = logging.getLogger(__name__)

FILE = "berth.db"
_CONNECT_S = 10  # for a connection, and for SQLite's lock while another process writes
_WAL_TRIES = 100  # 0.1 s apart
_PING_S = 3.0
CLOSE_S = 10.0
_POSTGRESQL = ("postgres", "postgresql", "postgresql+asyncpg")
# libpq's options that have another name here, or none
_LIBPQ = {"sslmode": "ssl", "connect_timeout": "timeout", "channel_binding": None, "target_session_attrs": None}


P = ParamSpec("P")
T = TypeVar("T")


class HasDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=HasDatabase)


def whole(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Awaitable[T]]:
    """A method that runs to its end even if its caller is cancelled (its client left): a driver that is interrupted
    within a transaction keeps SQLite's lock."""

    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.finish(method(self, *args, **kwargs))

    functools.update_wrapper(run, method)
    return run


def parse_url(given: str | None, data_dir: Path) -> URL:
    """Where conversations are kept. Raises InvalidRequest, which does not repeat the URL: it may hold a password."""
    if not given:
        return URL.create("sqlite+aiosqlite", database=str(data_dir / FILE))
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise InvalidRequest("DATABASE_URL cannot be read; it looks like postgresql://user:password@host/db.") from None
    if url.drivername in ("sqlite", "sqlite+aiosqlite") and url.database:
        return url.set(drivername="sqlite+aiosqlite")
    if url.drivername not in _POSTGRESQL:
        raise InvalidRequest("DATABASE_URL must begin with postgresql:// (or sqlite:///path/to/file).")
    query = {_LIBPQ.get(name, name): value for name, value in url.query.items()}
    return url.set(drivername="postgresql+asyncpg", query={name: value for name, value in query.items() if name})


class Database:
    """`read` and `write` are transactions; what is written inside `write` is on disk when it ends without an error.
    They must not be cancelled: `whole` and `finish` see to that."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._writing = asyncio.Lock()  # SQLite has one writer; those of this process wait here, not on its file lock

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Raises NotReady."""
        engine = await self._opened()
        with database_errors():
            async with engine.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Raises NotReady, DiskFull."""
        engine = await self._opened()
        async with self._writing if self.is_sqlite else contextlib.nullcontext():
            with database_errors():
                async with engine.execution_options(is_write=True).begin() as connection:
                    yield connection

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which goes on to its end even when the caller is cancelled."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    async def ping(self) -> None:
        """Raises NotReady with the reason why it cannot be used now."""
        try:
            async with asyncio.timeout(_PING_S):
                await self.finish(self._ping())
        except TimeoutError:
            raise NotReady(f"The database did not answer within {_PING_S:.0f} seconds. See whether it runs.") from None

    async def _ping(self) -> None:
        async with self.read() as connection:
            await connection.execute(select(schema.migrations.c.number).limit(1))

    async def close(self) -> None:
        """Once what is under way has ended; what does not end within CLOSE_S seconds is left to the end of the process,
        which loses nothing that was committed."""
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._unfinished:
                    await asyncio.wait(self._unfinished)
                async with self._opening:
                    engine, self._engine = self._engine, None
                if engine is not None:
                    await engine.dispose()
        except TimeoutError:
            log.error("the database of conversations did not close within %g s", CLOSE_S)

    async def _opened(self) -> AsyncEngine:
        if self._engine is not None:
            return self._engine
        async with self._opening:
            if self._engine is None:
                self._engine = await self._open()
            return self._engine

    async def _open(self) -> AsyncEngine:
        engine = _sqlite(self._url) if self.is_sqlite else _postgresql(self._url)
        try:
            with database_errors():
                if self.is_sqlite:
                    await _use_wal(engine)
                async with engine.execution_options(is_write=True).begin() as connection:
                    await connection.run_sync(migrate)
        except BaseException:
            await engine.dispose()
            raise
        return engine


def _postgresql(url: URL) -> AsyncEngine:
    # a connection is tried before it is used: the server may have been restarted
    return create_async_engine(url, pool_pre_ping=True, pool_timeout=_CONNECT_S, connect_args={"timeout": _CONNECT_S})


def _sqlite(url: URL) -> AsyncEngine:
    engine = create_async_engine(url, connect_args={"timeout": _CONNECT_S})

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` says, not where the driver guesses
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=FULL")  # a turn that was answered outlives a power cut too
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        # a transaction that reads first and writes later could find that it may not
        is_write = connection.get_execution_options().get("is_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


async def _use_wal(engine: AsyncEngine) -> None:
    """Readers and the writer do not wait for each other. Stays so in the file; one process at a time can set it, and
    SQLite does not wait for the other by itself."""
    for attempt in range(1, _WAL_TRIES + 1):
        try:
            async with engine.connect() as connection:
                raw = await connection.get_raw_connection()
                cursor = await raw.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
                mode = (await cursor.fetchone())[0]
                await cursor.close()
            break
        except Exception as error:
            if "locked" not in str(error) or attempt == _WAL_TRIES:
                raise
            await asyncio.sleep(0.1)
    if mode != "wal":
        log.warning("SQLite keeps a %s journal here, not WAL: reads and writes of conversations take turns.", mode)


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """The border that drivers' errors do not cross."""
    try:
        yield
    except BerthError:
        raise
    except PoolTimeout:
        raise NotReady("Every connection to the database is in use. Try again in a moment.") from None
    except (SQLAlchemyError, OSError) as error:
        raise _translated(error) from error
    except Exception as error:
        # what a driver raises while it connects is not always wrapped
        if type(error).__module__.partition(".")[0] in ("asyncpg", "sqlite3", "aiosqlite"):
            raise _translated(error) from error
        raise


def _translated(error: Exception) -> BerthError:
    cause: BaseException = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    code = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")
    said = str(cause).lower()
    if isinstance(error, IntegrityError):
        return WrongState("Another request changed the same thing at the same moment. Look at it again and retry.")
    if code == "53100" or "disk is full" in said or "no space left" in said:
        return DiskFull("The disk of the database is full, so nothing can be saved. Free space and try again.")
    if "readonly database" in said or code == "25006":
        return NotReady("The database cannot be written: it is read-only. Give the server the right to write it.")
    if "not a database" in said or "malformed" in said:
        return NotReady("The database file is damaged. Put back a copy, or move it away to begin a new one.")
    if "database is locked" in said:
        return NotReady("Another process is writing the database for too long. Try again in a moment.")
    if "unable to open database file" in said or "disk i/o error" in said:
        return NotReady("The database file cannot be opened or written. Check the disk and BERTH_DATA_DIR.")
    if code.startswith("28") or code == "3D000":
        return NotReady("The database refuses us: check the user, the password and the database in DATABASE_URL.")
    if isinstance(cause, OSError) or code[:2] in ("08", "53", "57") or _is_lost(error, said):
        return NotReady("The database cannot be reached. See whether it runs, and check DATABASE_URL.")
    return InternalError(f"{type(cause).__name__}: {cause}")


def _is_lost(error: Exception, said: str) -> bool:
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_lost or "connection was closed" in said or "connection is closed" in said
