"""What every engine promises.

A write is a value: an ordered list of statements that happen together or not at all. A statement
that ``must_touch`` guards the write: where it touches no row, the stored state is not what the
caller decided upon, nothing happens, and the caller reads again and decides anew.

SQL is written once, with ``:named`` parameters, for SQLite and PostgreSQL alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Parameters = Mapping[str, Any]

# The newest migration: what a store must be at for this program to work on it. It stands here, and
# not in the schema, so that a server whose store is current starts without loading SQLAlchemy.
SCHEMA_VERSION = "0002"


class Row(Protocol):
    """One row of an answer; its columns are read by name."""

    def __getitem__(self, column: str) -> Any: ...


class UnknownSchemaError(Exception):
    """The store is not one that this program knows: a newer one's, or another program's."""


class GuardFailed(Exception):
    """A statement that had to touch a row touched none. Nothing of its write has happened."""


class Statement(NamedTuple):
    """One step of a write."""

    sql: str
    parameters: Parameters
    must_touch: bool = False


Write = Sequence[Statement]


class Statistics(NamedTuple):
    """What the engine has done, for metrics.

    ``waiting`` is how many writes wait for a commit, ``commits`` how many commits there were of 0,
    1, 2 … writes.
    """

    waiting: int
    commits: Sequence[int]


class Database(Protocol):
    """An engine.

    Every method raises 503 ``store_unavailable`` where the store cannot be used, with the outcome
    ``unknown`` where a commit may have happened.
    """

    async def fetch_one(
        self, sql: str, parameters: Parameters, *, fresh: bool = False
    ) -> Row | None:
        """Return the only row of a read by key, which is quick.

        What another process commits is seen within a moment; at once by a ``fresh`` read.
        """
        ...

    async def fetch_few(self, sql: str, parameters: Parameters) -> Sequence[Row]:
        """Return the rows of a read by key, which are few and quick to find."""
        ...

    async def scan(self, sql: str, parameters: Parameters) -> Sequence[Row]:
        """Return the rows of a read that may take its time."""
        ...

    async def write(self, write: Write, *, bulk: bool = False) -> None:
        """Commit the write durably, or raise GuardFailed. ``bulk`` ones may touch many rows."""
        ...

    async def check(self) -> None:
        """Return if the store can be read and has the schema that this program needs."""
        ...

    def statistics(self) -> Statistics:
        """Say what the engine has done."""
        ...

    def refuse(self) -> None:
        """Take no more writes, and fail those that have not begun with 503 ``shutting_down``."""
        ...

    async def close(self) -> None:
        """Finish what has begun, refuse what has not (503 ``shutting_down``), and close."""
        ...
