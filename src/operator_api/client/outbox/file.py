"""The file of the outbox: how it is made, opened and laid out, and what its errors mean."""

import errno
import os
import sqlite3
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from operator_api.client.errors import OutboxError

BUSY_SECONDS = 10.0
_APPLICATION_ID = 0x4F504F58
_VERSION = 1

_NEXT = """
    UPDATE writes SET ready = 1 WHERE sequence = (
        SELECT min(sequence) FROM writes WHERE state = 'pending'
        AND base_url = OLD.base_url AND order_key = OLD.order_key);
"""
_SCHEMA = (
    """
CREATE TABLE writes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    operation TEXT NOT NULL,
    url TEXT NOT NULL,
    base_url TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    order_key TEXT,
    queued_at INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'dead')),
    ready INTEGER NOT NULL,
    ages_from INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT 'not_executed',
    owner TEXT,
    leased_until INTEGER NOT NULL DEFAULT 0,
    cause TEXT,
    died_at INTEGER,
    error TEXT, status INTEGER, reason TEXT, request_id TEXT, message TEXT NOT NULL DEFAULT ''
)
""",
    """
CREATE INDEX writes_due ON writes (base_url, due_at, sequence)
    WHERE state = 'pending' AND ready
""",
    """
CREATE INDEX writes_in_order ON writes (base_url, order_key, sequence)
    WHERE state = 'pending'
""",
    "CREATE INDEX writes_by_age ON writes (ages_from) WHERE state = 'pending'",
    "CREATE INDEX writes_leased ON writes (owner) WHERE owner IS NOT NULL",
    f"""
CREATE TRIGGER sent_or_dropped AFTER DELETE ON writes
WHEN OLD.state = 'pending' AND OLD.ready BEGIN {_NEXT} END
""",
    f"""
CREATE TRIGGER died AFTER UPDATE OF state ON writes
WHEN OLD.state = 'pending' AND OLD.ready AND NEW.state = 'dead' BEGIN {_NEXT} END
""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)


def make_file(path: Path) -> None:
    """Make the file, for its owner alone; SQLite gives what lies beside it the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        if found.st_mode & 0o077 and sys.platform != "win32":
            with suppress(PermissionError):  # it belongs to another user, who decides
                os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, which is there, and make its tables where it is new.

    Raises sqlite3.Error, OSError, or OutboxError for a file that is another program's.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_SECONDS,
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make each commit wait for the disk, and make the tables where the file is new."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            (journal,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait itself where two switch to WAL at once.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")  # where the system's fsync does not reach the disk
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (journal, synchronous) != ("wal", 2):
        raise OSError(errno.ENOTSUP, f"it cannot be made durable: {journal=}, {synchronous=}")
    if _is_ours(connection, path):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_ours(connection, path):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Say whether the file is an outbox; refuse another program's, and a newer version's."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == _APPLICATION_ID and version == _VERSION:
        return True
    if application == _APPLICATION_ID:
        raise OutboxError(
            f"The outbox {path} was written by another version of this program (its format is"
            f" {version}, this program's is {_VERSION}). Let that version send what is in it, or"
            " upgrade this one."
        )
    if tables:
        raise OutboxError(f"{path} is the database of another program. Choose another file.")
    return False


def identity(path: Path) -> tuple[int, int] | None:
    """Tell the file from another one of its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


# --- errors ---

_WHY: dict[int, str] = {
    sqlite3.SQLITE_FULL: "cannot take more: the disk is full. Make room; nothing was kept.",
    sqlite3.SQLITE_BUSY: f"is in use by another process, and was so for {BUSY_SECONDS:g} s."
    " Find what holds it; nothing was kept.",
    sqlite3.SQLITE_LOCKED: "is in use by another process. Find what holds it; nothing was kept.",
    sqlite3.SQLITE_READONLY: "may not be written to. Give this user the right to write the file"
    " and its folder; nothing was kept.",
    sqlite3.SQLITE_PERM: "may not be used by this user. Give it the right; nothing was kept.",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Give this user the right to write the file and its"
    " folder.",
    sqlite3.SQLITE_CORRUPT: "is damaged. Keep a copy of it with what lies beside it, and start a"
    " new one.",
    sqlite3.SQLITE_NOTADB: "is not an outbox, or it is damaged. Choose another file.",
}


def why(error: sqlite3.Error) -> str:
    """Say what is wrong with the file, and what to do: the rest of a sentence about it."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_IOERR_FSYNC:
        return (
            f"could not be brought to the disk ({error}). It is not known whether the write was"
            " kept: keep it again with the same idempotency_key once the disk works."
        )
    return _WHY.get(code & 0xFF, f"cannot be used: {error}. Nothing was kept.")
