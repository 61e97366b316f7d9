"""The writing side of the log's file: rows come in, are folded into segments, and go when old.

All of it runs in the log's one thread. A commit writes each tenant's new rows as one blob, which
costs next to nothing for a row; once a tenant has a segment's worth of them they are folded.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import orjson

from operator_api.server.requests.file import open_to_write
from operator_api.server.requests.rows import (
    CHUNKS,
    ID,
    PLANES,
    SEGMENT_ROWS,
    Label,
    Row,
    pack,
)

# A tenant's small batches are put together, so that a search need not open thousands of them.
_MOST_BATCHES = 64
# A segment spans a day at most, so that what is too old is deleted a day later at most.
_SPAN_NANOSECONDS = 86_400 * 10**9
# A tenant's unknown paths have this many labels; the others have one together.
MOST_UNKNOWN_PATHS = 1000
OTHER_PATHS = "/…"
_VACUUM_PAGES = 64
_DETAILS_AT_ONCE = 500

_ROWS_AT_ONCE = 64
_INSERT_LABEL = "INSERT INTO labels"
_INSERT_BATCH = "INSERT INTO batches (tenant, count, first, last, rows)"
_INSERT_SEGMENT = "INSERT INTO segments (tenant, count, first, last) VALUES (?, ?, ?, ?)"
_INSERT_DETAIL = "INSERT OR REPLACE INTO details (tenant, id, sealed)"
# One row, for the same reason that inserts have many.
_SELECT_TAIL = """
    SELECT '[' || group_concat(substr(text, 2, length(text) - 2)) || ']'
    FROM (SELECT CAST(rows AS TEXT) AS text FROM batches WHERE tenant = ?)
"""
_OLDEST = """
    SELECT last, tenant FROM batches WHERE last = (SELECT min(last) FROM batches)
    UNION ALL SELECT last, tenant FROM segments WHERE last = (SELECT min(last) FROM segments)
    ORDER BY 1 LIMIT 1
"""


class Detail(NamedTuple):
    """The sealed detail of one request."""

    tenant: int
    id: str
    sealed: bytes


class _Tail:
    """How much a tenant has that is not folded."""

    __slots__ = ("batches", "first", "rows")

    def __init__(self, batches: int, rows: int, first: str) -> None:
        self.batches = batches
        self.rows = rows
        self.first = first


class Store:
    """The open file. Every method raises sqlite3.Error where the file cannot be written."""

    def __init__(self, path: Path) -> None:
        self._connection = open_to_write(path)
        self._labels: dict[int, dict[Label, int]] = {}
        self._kept_labels: dict[int, int] = {}
        self._tails = {
            tenant: _Tail(batches, rows, first)
            for tenant, batches, rows, first in self._connection.execute(
                "SELECT tenant, count(*), sum(count), min(first) FROM batches GROUP BY tenant"
            )
        }
        (self._page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def check(self) -> None:
        """Raise sqlite3.DatabaseError if the file does not hold together. It takes its time."""
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    # --- what comes in

    def label(self, tenant: int, label: Label) -> int:
        """Return the label's number; it is part of what the next ``append`` commits."""
        labels = self._labels_of(tenant)
        return labels.setdefault(label, len(labels))

    def knows_paths(self, tenant: int) -> bool:
        """Say whether an unknown path may still have a label of its own."""
        return len(self._labels_of(tenant)) <= MOST_UNKNOWN_PATHS

    def _labels_of(self, tenant: int) -> dict[Label, int]:
        labels = self._labels.get(tenant)
        if labels is None:
            sql = "SELECT * FROM labels WHERE tenant = ? ORDER BY code"
            rows = self._connection.execute(sql, [tenant])
            labels = self._labels[tenant] = {Label(*row[2:]): row[1] for row in rows}
            self._kept_labels[tenant] = len(labels)
        return labels

    def append(self, rows: Mapping[int, list[Row]], details: Sequence[Detail]) -> None:
        """Commit the tenants' rows and details; all of it or, if it raises, nothing."""
        for added in rows.values():
            added.sort(key=_by_id)
        labels = [row for tenant in rows for row in self._new_labels(tenant)]
        if labels or details:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._insert(_INSERT_LABEL, labels)
                self._insert(_INSERT_DETAIL, details)
                self._insert(_INSERT_BATCH, [_batch(*each) for each in rows.items()])
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._insert(_INSERT_BATCH, [_batch(*each) for each in rows.items()])
        for tenant, added in rows.items():
            self._kept_labels[tenant] = len(self._labels_of(tenant))
            tail = self._tails.setdefault(tenant, _Tail(0, 0, added[0][ID]))
            tail.batches += 1
            tail.rows += len(added)
            tail.first = min(tail.first, added[0][ID])

    def _new_labels(self, tenant: int) -> list[Sequence[object]]:
        labels, kept = self._labels_of(tenant), self._kept_labels[tenant]
        if kept == len(labels):
            return []
        new = list(labels)[kept:]
        return [(tenant, code, *label) for code, label in enumerate(new, start=kept)]

    def _insert(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows, many to a statement.

        Python's lock is let go at each step of a statement, and to get it back under load takes
        both threads longer than a row.
        """
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            places = f"({', '.join('?' * len(some[0]))})"
            values = ", ".join([places] * len(some))
            self._connection.execute(f"{sql} VALUES {values}", [*chain.from_iterable(some)])

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # --- folding

    def fold(self, now: int) -> bool:
        """Fold or put together one tenant's batches where it is time to; False if it is for none.

        ``now`` is in nanoseconds.
        """
        day_ago = f"{now - _SPAN_NANOSECONDS:016x}"
        for tenant, tail in self._tails.items():
            whole = tail.rows >= SEGMENT_ROWS or tail.first < day_ago
            if whole or tail.batches > _MOST_BATCHES:
                self._rewrite(tenant, whole=whole)
                return True
        return False

    def _rewrite(self, tenant: int, *, whole: bool) -> None:
        """Make a segment of the tenant's batches, or one batch of them."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            (tail,) = execute(_SELECT_TAIL, [tenant]).fetchone()
            rows = sorted(orjson.loads(tail), key=_by_id)
            execute("DELETE FROM batches WHERE tenant = ?", [tenant])
            rest: list[Row] = rows
            if whole:
                for start in range(0, len(rows), SEGMENT_ROWS):
                    self._insert_segment(tenant, rows[start : start + SEGMENT_ROWS])
                rest = []
            if rest:
                self._insert(_INSERT_BATCH, [_batch(tenant, rest)])
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        if rest:
            self._tails[tenant] = _Tail(1, len(rest), rest[0][ID])
        else:
            del self._tails[tenant]

    def _insert_segment(self, tenant: int, rows: Sequence[Row]) -> None:
        segment = pack(rows)
        row = (tenant, segment.size, segment.first, segment.last)
        number = self._connection.execute(_INSERT_SEGMENT, row).lastrowid
        assert number is not None, "a row was inserted"
        self._insert("INSERT INTO chunks", [*enumerate(segment.chunks, start=number * CHUNKS)])
        planes = sorted((number * PLANES + plane, each) for plane, each in segment.planes.items())
        self._insert("INSERT INTO planes", planes)

    # --- what goes

    def size(self) -> int:
        """Return how many bytes of the file are in use."""
        pragma = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
        (pages,) = self._connection.execute(pragma).fetchone()
        return int(pages) * int(self._page_bytes)

    def forget(self, oldest: int, most_bytes: int) -> bool:
        """Delete a little of what is older than ``oldest``, or too much; False if there is nothing.

        ``oldest`` is in nanoseconds. The room that becomes free is given back, a little at a time.
        """
        found = self._connection.execute(_OLDEST).fetchone()
        if found is not None:
            last, tenant = found
            if last < f"{oldest:016x}" or self.size() > most_bytes:
                self._delete(tenant, last)
                return True
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        if free > _VACUUM_PAGES:
            self._connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            return True
        return False

    def _delete(self, tenant: int, last: str) -> None:
        """Delete the tenant's batches and segments that end there, and the details up to there."""
        execute = self._connection.execute
        upto = {"tenant": tenant, "last": last, "id": f"req_{last}", "most": _DETAILS_AT_ONCE}
        old = """
            DELETE FROM details WHERE number IN (
                SELECT number FROM details WHERE tenant = :tenant AND id <= :id LIMIT :most
            )
        """
        if execute(old, upto).rowcount == _DETAILS_AT_ONCE:
            return  # there may be more, for the next time
        execute("BEGIN IMMEDIATE")
        try:
            where = "tenant = :tenant AND last <= :last"
            deleted = execute(f"DELETE FROM batches WHERE {where}", upto).rowcount
            self._delete_segments(where, upto)
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        if deleted:
            self._count_tail(tenant)

    def _delete_segments(self, where: str, parameters: Mapping[str, object]) -> None:
        execute = self._connection.execute
        sql = f"SELECT number FROM segments WHERE {where}"
        for (number,) in execute(sql, parameters).fetchall():
            for table, size in (("chunks", CHUNKS), ("planes", PLANES)):
                keys = (number * size, (number + 1) * size)
                execute(f"DELETE FROM {table} WHERE key >= ? AND key < ?", keys)
            execute("DELETE FROM segments WHERE number = ?", [number])

    def _count_tail(self, tenant: int) -> None:
        sql = "SELECT count(*), sum(count), min(first) FROM batches WHERE tenant = ?"
        batches, rows, first = self._connection.execute(sql, [tenant]).fetchone()
        self._tails.pop(tenant, None)
        if batches:
            self._tails[tenant] = _Tail(batches, rows, first)

    def erase(self, tenants: Iterable[int]) -> None:
        """Delete all that is kept of the tenants, beyond recovery from the file."""
        execute = self._connection.execute
        execute("PRAGMA secure_delete=ON")
        for tenant in tenants:
            execute("BEGIN IMMEDIATE")
            try:
                for table in ("details", "batches", "labels"):
                    execute(f"DELETE FROM {table} WHERE tenant = ?", [tenant])
                self._delete_segments("tenant = :tenant", {"tenant": tenant})
                execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            self._tails.pop(tenant, None)
            self._labels.pop(tenant, None)
            self._kept_labels.pop(tenant, None)
        execute("PRAGMA secure_delete=OFF")
        execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _batch(tenant: int, rows: Sequence[Row]) -> Sequence[object]:
    return tenant, len(rows), rows[0][ID], rows[-1][ID], orjson.dumps(rows)


def _by_id(row: Row) -> str:
    id_digits: str = row[ID]
    return id_digits
