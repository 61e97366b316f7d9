"""The embedded engine: SQLite in WAL mode, one writer, many writes to a commit.

The writer takes all writes that are waiting, runs each in a savepoint, and commits them with one
fsync. The statements run on the event loop, where they take microseconds, and only the commit,
which waits for the disk, runs in a thread: handing each statement to a thread would cost more than
it takes, since the two would pass Python's lock back and forth at each step.

Reads by key run on the event loop too. While nothing is written they share a snapshot, for a
moment: to begin and end one for each read would cost as much as the read. While something is
written each read has its own, since a snapshot that is held keeps SQLite from emptying its log.
"""

import asyncio
import errno
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from operator_api.contract.errors import (
    OVERLOADED,
    SHUTTING_DOWN,
    STORE_UNAVAILABLE,
    Outcome,
    Problem,
)
from operator_api.server.database.engine import (
    SCHEMA_VERSION,
    GuardFailed,
    Parameters,
    Row,
    Statistics,
    Write,
)

_GROUP = 128
# A turn takes no time where nothing comes in, and few requests' time where something does.
_GATHERING_TURNS = 8
_STATEMENT_CACHE = 512
_BUSY_STEP_SECONDS = 0.005
# Another process that opens or closes the file at the same moment holds it for an instant.
_OPENING_SECONDS = 5.0
# What another process commits is seen after this long at the latest.
_SNAPSHOT_SECONDS = 0.05
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        # Spoilt, which passes once the operator has put it right.
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file as every connection of ours is opened, and make sure of its durability."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",  # a file that is gone is not made anew
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENT_CACHE,
        timeout=_OPENING_SECONDS,
    )
    connection.row_factory = sqlite3.Row
    require_durable(connection, path)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA cache_size=-32768")
    if read_only:
        connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA busy_timeout=0")  # from now on, nothing may stop the event loop
    return connection


def require_durable(connection: sqlite3.Connection, path: Path) -> None:
    """Make each commit wait for the disk; raise OSError where the file does not allow it."""
    (journal,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute("PRAGMA synchronous=FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (journal, synchronous) != ("wal", 2):
        problem = f"cannot be made durable: {journal=}, {synchronous=}"
        raise OSError(errno.ENOTSUP, problem, str(path))


def is_current(path: Path) -> bool:
    """Say whether the file is there and at this program's schema."""
    if not path.exists():
        return False
    connection = connect(path)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return row is not None and row["version_num"] == SCHEMA_VERSION


@dataclass(slots=True)
class _Pending:
    """A write that waits for its commit; ``failure`` is why it will not be part of it."""

    write: Write
    bulk: bool
    done: "asyncio.Future[None]"
    failure: Exception | None = None


class SQLite:
    """One file, opened by one server; command-line tools may open it beside."""

    def __init__(self, path: Path, *, busy_seconds: float, max_waiting: int) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._max_waiting = max_waiting
        self._reader = connect(path, read_only=True)
        self._writer = connect(path)
        self._identity = _identity(path)
        self._commits = ThreadPoolExecutor(1, "commit")
        self._scans = ThreadPoolExecutor(2, "scan")
        self._of_thread = threading.local()
        self._scanners: list[sqlite3.Connection] = []
        self._waiting: deque[_Pending] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._closing = False
        self._commits_of = [0] * (_GROUP + 1)
        self._snapshot_timer: asyncio.TimerHandle | None = None

    # --- reads

    async def fetch_one(
        self, sql: str, parameters: Parameters, *, fresh: bool = False
    ) -> Row | None:
        """Return the only row of a read by key: on the event loop, it takes microseconds."""
        if fresh:
            self._end_snapshot()
        rows = await self.fetch_few(sql, parameters)
        return rows[0] if rows else None

    async def fetch_few(self, sql: str, parameters: Parameters) -> Sequence[Row]:
        """Return the rows of a read by key, on the event loop."""
        try:
            if self._committing is None and not self._reader.in_transaction:
                self._begin_snapshot()
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            self._end_snapshot()
            raise _translated(error) from error

    def _begin_snapshot(self) -> None:
        self._reader.execute("BEGIN")
        loop = asyncio.get_running_loop()
        self._snapshot_timer = loop.call_later(_SNAPSHOT_SECONDS, self._end_snapshot)

    def _end_snapshot(self) -> None:
        if self._snapshot_timer is not None:
            self._snapshot_timer.cancel()
        if self._reader.in_transaction:
            self._reader.execute("ROLLBACK")

    async def scan(self, sql: str, parameters: Parameters) -> Sequence[Row]:
        """Return the rows of a read that may take its time, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._scans, partial(self._scan, sql, parameters))

    def _scan(self, sql: str, parameters: Parameters) -> Sequence[Row]:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        try:
            if connection is None:
                connection = self._of_thread.connection = connect(self._path, read_only=True)
                self._scanners.append(connection)
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error

    # --- writes

    async def write(self, write: Write, *, bulk: bool = False) -> None:
        """Commit the write durably, or raise GuardFailed."""
        if self._closing:
            raise Problem(SHUTTING_DOWN)
        if len(self._waiting) >= self._max_waiting:
            raise Problem(OVERLOADED)
        loop = asyncio.get_running_loop()
        pending = _Pending(write, bulk, loop.create_future())
        self._waiting.append(pending)
        if self._committing is None:
            self._end_snapshot()
            self._committing = loop.create_task(self._commit_groups())
        await pending.done

    async def _commit_groups(self) -> None:
        try:
            while size := min(await self._gather(), _GROUP):
                await self._commit_group([self._waiting.popleft() for _ in range(size)])
        finally:
            self._committing = None

    async def _gather(self) -> int:
        """Wait as long as each turn of the event loop brings more; return how many are waiting.

        A commit costs the processor as much as several requests, however many writes are in it.
        """
        before = 0
        for _ in range(_GATHERING_TURNS):
            waiting = len(self._waiting)
            if not before < waiting < _GROUP:
                break
            before = waiting
            await asyncio.sleep(0)
        return len(self._waiting)

    async def _commit_group(self, group: list[_Pending]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._begin()
            if any(pending.bulk for pending in group):
                await loop.run_in_executor(self._commits, self._apply, group)
            else:
                self._apply(group)
            await loop.run_in_executor(self._commits, self._finish, group)
        except Exception as error:  # noqa: BLE001 - whatever it is, each caller must learn of it
            for pending in group:
                pending.failure = _translated(error)
            self._roll_back()
        else:
            self._commits_of[len(group)] += 1
        for pending in group:
            _settle(pending)

    async def _begin(self) -> None:
        """Take the file's write lock, which a command-line tool may hold for a moment."""
        if _identity(self._path) != self._identity:
            raise _unavailable()
        until = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise _translated(error) from error
                if self._closing:
                    raise Problem(SHUTTING_DOWN) from error
                if time.monotonic() > until:
                    raise _unavailable() from error
                await asyncio.sleep(_BUSY_STEP_SECONDS)
            else:
                return

    def _apply(self, group: list[_Pending]) -> None:
        for pending in group:
            if pending.done.cancelled():
                continue
            try:
                self._apply_one(pending.write)
            except Exception as error:
                if not self._writer.in_transaction:  # SQLite gave the whole transaction up
                    raise _translated(error) from error
                pending.failure = _translated(error)

    def _apply_one(self, write: Write) -> None:
        execute = self._writer.execute
        if len(write) > 1:
            execute("SAVEPOINT one")
        try:
            for statement in write:
                touched = execute(statement.sql, statement.parameters).rowcount
                if statement.must_touch and touched < 1:
                    raise GuardFailed
        except Exception:
            if len(write) > 1 and self._writer.in_transaction:
                execute("ROLLBACK TO one")
                execute("RELEASE one")
            raise
        if len(write) > 1:
            execute("RELEASE one")

    def _finish(self, group: list[_Pending]) -> None:
        if all(pending.failure for pending in group):
            self._writer.execute("ROLLBACK")
            return
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            full = (error.sqlite_errorcode & 0xFF) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}
            raise _unavailable("not_executed" if full else "unknown") from error

    def _roll_back(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is of no more use; SQLite undoes the rest when it is opened next.
            self._writer.close()
            with suppress(sqlite3.Error):  # the next write tries again
                self._writer = connect(self._path)

    # --- life

    async def check(self) -> None:
        """Return if the file can be read and has the schema of this program."""
        try:
            row = await self.fetch_one("SELECT version_num FROM alembic_version", {})
        except sqlite3.OperationalError as error:
            raise _unavailable() from error
        current = row is not None and row["version_num"] == SCHEMA_VERSION
        if not current or _identity(self._path) != self._identity:
            raise _unavailable()

    def statistics(self) -> Statistics:
        """Say what the engine has done."""
        return Statistics(len(self._waiting), self._commits_of)

    def refuse(self) -> None:
        """Take no more writes, and fail those that have not begun with 503 ``shutting_down``."""
        self._closing = True
        while self._waiting:
            pending = self._waiting.popleft()
            pending.failure = Problem(SHUTTING_DOWN)
            _settle(pending)

    async def close(self) -> None:
        """Finish the commit that has begun, refuse what has not, and close the file."""
        self.refuse()
        if self._committing is not None:
            await self._committing
        self._end_snapshot()
        self._commits.shutdown()
        self._scans.shutdown()
        for connection in (*self._scanners, self._reader, self._writer):
            connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell the file from another one of its name: what is written to a deleted one is lost."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _settle(pending: _Pending) -> None:
    if pending.done.done():
        return
    if pending.failure is not None:
        pending.done.set_exception(pending.failure)
    else:
        pending.done.set_result(None)


def _translated(error: Exception) -> Exception:
    """Make 503 of what passes. A constraint is a guard too; a defect of ours stays what it is."""
    if isinstance(error, sqlite3.IntegrityError):
        return GuardFailed()
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return _unavailable() if isinstance(error, sqlite3.Error) and code in _PASSING else error


def _unavailable(outcome: Outcome = "not_executed") -> Problem:
    return Problem(STORE_UNAVAILABLE, outcome=outcome)
