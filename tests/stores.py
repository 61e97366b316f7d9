"""Look into the file of a server's store, beside the server."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

FILE = "operator.sqlite3"


def query(data: Path, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query; a change is committed."""
    with closing(sqlite3.connect(data / FILE, timeout=30)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


def assert_sound(data: Path) -> None:
    """Require that the file, as a killed server left it, is whole and keeps its foreign keys.

    A copy is looked at: SQLite repairs what it opens, and that is for the server to do.
    """
    copy = data.with_name(f"{data.name}-copy")
    copy.mkdir()
    for file in data.glob(f"{FILE}*"):
        shutil.copy(file, copy)
    assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    assert query(copy, "PRAGMA foreign_key_check") == []
    shutil.rmtree(copy)


@contextmanager
def write_lock(data: Path) -> Iterator[None]:
    """Hold the file's write lock, as another program may."""
    with closing(sqlite3.connect(data / FILE, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
