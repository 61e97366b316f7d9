"""The log's own SQLite file: its schema, and how it is opened.

It is a file of its own so that nothing that befalls it touches the store, and so that the store's
commits do not wait for it. Its own commits do not wait for the disk: a machine that loses power may
lose the last moments of the log, and a killed server the last tenth of a second; neither spoils the
file.
"""

import sqlite3
import time
from pathlib import Path

# What stands in the file's user_version, and has its step in _STEPS.
VERSION = 1
_BUSY_SECONDS = 2.0
_SPOILT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_FIRST = """
    CREATE TABLE labels (
        tenant INTEGER NOT NULL,
        code INTEGER NOT NULL,
        method TEXT NOT NULL,
        operation TEXT NOT NULL,
        template TEXT NOT NULL,
        reason TEXT NOT NULL,
        outcome TEXT NOT NULL,
        PRIMARY KEY (tenant, code)
    ) WITHOUT ROWID;

    -- The newest rows, as they came; they are folded into segments.
    CREATE TABLE batches (
        number INTEGER PRIMARY KEY,
        tenant INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first TEXT NOT NULL,
        last TEXT NOT NULL,
        rows BLOB NOT NULL
    );
    CREATE INDEX batches_by_tenant ON batches (tenant, last, first, count);
    CREATE INDEX batches_by_age ON batches (last, tenant);

    CREATE TABLE segments (
        number INTEGER PRIMARY KEY,
        tenant INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first TEXT NOT NULL,
        last TEXT NOT NULL
    );
    CREATE INDEX segments_by_tenant ON segments (tenant, last, first, count);
    CREATE INDEX segments_by_age ON segments (last, tenant);
    -- The key is the segment's number times 64, and the chunk's.
    CREATE TABLE chunks (key INTEGER PRIMARY KEY, rows BLOB NOT NULL);
    -- The key is the segment's number times 16, and the plane's.
    CREATE TABLE planes (key INTEGER PRIMARY KEY, bytes BLOB NOT NULL);

    CREATE TABLE details (
        number INTEGER PRIMARY KEY,
        tenant INTEGER NOT NULL,
        id TEXT NOT NULL,
        sealed BLOB NOT NULL
    );
    CREATE UNIQUE INDEX details_by_id ON details (tenant, id);
"""
# Each brings the file from the version before to its own.
_STEPS = (_FIRST,)


class NewerLogError(Exception):
    """The file is a newer program's."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the file; make it, or bring it up to date, if need be."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    try:
        # These two hold for a new file only. Large pages are fewer to write, and hold a plane each.
        connection.execute("PRAGMA page_size=16384")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-8192")
        connection.execute("PRAGMA journal_size_limit=16777216")
        connection.execute("PRAGMA wal_autocheckpoint=512")
        _upgrade(connection, path)
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise NewerLogError(f"{path} is at version {version}, and this program knows {VERSION}")
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version={number}; COMMIT;")


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file; one that is not there is not made."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_SECONDS,
    )
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA cache_size=-16384")
    return connection


def identity_of(path: Path) -> tuple[int, int] | None:
    """Tell the file from another one of its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_spoilt(error: Exception) -> bool:
    """Say whether it is what the file holds that makes no sense."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SPOILT


def put_aside(path: Path) -> Path:
    """Move a spoilt file out of the way, and return where to; what belongs to it goes."""
    aside = path.with_name(f"{path.name}.spoilt-{time.time_ns() // 10**9}")
    path.rename(aside)
    remove_rest(path)
    return aside


def remove_rest(path: Path) -> None:
    """Remove what SQLite keeps beside a file: a new one must not be read with it."""
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
