"""The reading side of the log's file: one request by its id, and searches.

A search goes through the tenant's batches row by row, and through its segments by their planes,
newest first, until the page is full. Requests are in the order of their ids, which is that of their
beginning: one that took long is written later than others that began after it. So segments may
overlap, and a page is full only when no further segment reaches into it.
"""

import sqlite3
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import orjson

from operator_api.contract.fields import TOKEN_ID
from operator_api.server.requests.entry import Entry
from operator_api.server.requests.file import identity_of, is_spoilt, open_to_read
from operator_api.server.requests.rows import (
    ADDRESS,
    CHUNK_ROWS,
    CHUNKS,
    CLIENT_ID,
    FENCES,
    ID,
    KEY,
    LABEL,
    LABEL_PLANES,
    OBJECT,
    PLANES,
    PLANES_OF,
    STATUS,
    STATUS_PLANE,
    TOKEN,
    Label,
    Row,
    all_bits,
    bits_of,
    bits_of_pair,
    code_of,
    entry_of,
    fences_of,
    hash_of,
    newest_first,
)

# Before and after all ids.
_FIRST, _LAST = "", "g"


T = TypeVar("T")


class NoLogError(Exception):
    """The file cannot be read; ``spoilt`` says that what is in it makes no sense."""

    def __init__(self, message: str, *, spoilt: bool) -> None:
        super().__init__(message)
        self.spoilt = spoilt


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which requests of a tenant to find. What is None is not asked for.

    ``after`` and ``before`` are times in microseconds, both outside of what is found; ``upto`` is
    the id that all found ones are before, as a cursor says. ``words`` must all be found: each is a
    part of the operation, path, method or reason, or the whole of the token's or the object's id,
    the address, the caller's own request id or the request's.
    """

    tenant: int
    most: int
    upto: str | None = None
    status: int | None = None
    status_class: int | None = None
    reason: str | None = None
    operation: str | None = None
    token_id: str | None = None
    address: str | None = None
    object_id: str | None = None
    client_request_id: str | None = None
    key_hash: str | None = None
    after: int | None = None
    before: int | None = None
    words: Sequence[str] = ()


class Reader:
    """Reads the file, from any thread: each has its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._of_thread = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what was opened. No thread may be reading."""
        for connection in self._opened:
            connection.close()

    def search(self, query: Query) -> list[Entry]:
        """Return the newest that match, newest first. Raise NoLogError if it cannot be read."""
        return self._read(lambda connection: _search(connection, query), [])

    def find(self, tenant: int, request_id: str) -> tuple[Entry, bytes | None] | None:
        """Return a request, with its sealed detail if there is one; None if it is not there."""
        return self._read(lambda connection: _find(connection, tenant, request_id), None)

    def _read(self, read: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        if identity_of(self._path) is None:
            return nothing  # it has not been made yet, or is made anew in a moment
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError, ValueError) as error:
            self._forget()
            raise NoLogError(str(error), spoilt=is_spoilt(error)) from error

    def _connection(self) -> sqlite3.Connection:
        identity = identity_of(self._path)
        if getattr(self._of_thread, "identity", None) != identity:
            self._forget()
            connection = open_to_read(self._path)
            self._of_thread.connection = connection
            self._of_thread.identity = identity
            with self._lock:
                self._opened.append(connection)
        current: sqlite3.Connection = self._of_thread.connection
        return current

    def _forget(self) -> None:
        connection = getattr(self._of_thread, "connection", None)
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
            with self._lock:
                self._opened.remove(connection)
        self._of_thread.connection = self._of_thread.identity = None


# --- what a query says of labels, rows and ids ---


@dataclass(slots=True)
class _Conditions:
    """A query in terms of what is stored."""

    low: str
    high: str
    labels: Sequence[Label]
    status: frozenset[int] | None
    chosen: frozenset[int] | None
    exact: dict[int, str]
    words: list[tuple[str, frozenset[int]]] = field(default_factory=list)

    @property
    def hopeless(self) -> bool:
        """Whether no row can match."""
        return self.low >= self.high or self.status == frozenset() or self.chosen == frozenset()

    def match(self, row: Row) -> bool:
        """Say whether the row matches, with nothing left to chance."""
        if not self.low <= row[ID] < self.high:
            return False
        if self.status is not None and row[STATUS] not in self.status:
            return False
        if self.chosen is not None and row[LABEL] not in self.chosen:
            return False
        if any(row[column] != value for column, value in self.exact.items()):
            return False
        return all(
            row[LABEL] in labels or any(row[column].lower() == word for column in _columns_of(word))
            for word, labels in self.words
        )


def _conditions(query: Query, labels: Sequence[Label]) -> _Conditions:
    low = _FIRST if query.after is None else _id_at(query.after + 1)
    high = _LAST if query.before is None else _id_at(query.before)
    if query.upto is not None:
        high = min(high, _digits_of(query.upto))
    exact = {
        TOKEN: query.token_id,
        ADDRESS: query.address,
        OBJECT: query.object_id,
        CLIENT_ID: query.client_request_id,
        KEY: query.key_hash,
    }
    conditions = _Conditions(
        low,
        high,
        labels,
        _statuses(query),
        _chosen(query, labels),
        {column: value for column, value in exact.items() if value is not None},
    )
    for word in {each.lower() for each in query.words}:
        if _is_request_id(word):
            conditions.low = max(conditions.low, word[4:])
            conditions.high = min(conditions.high, f"{word[4:]}!")
        else:
            having = {code for code, label in enumerate(labels) if word in label.text}
            conditions.words.append((word, frozenset(having)))
    return conditions


def _columns_of(word: str) -> Iterator[int]:
    """Yield the columns that the word may be the value of."""
    yield OBJECT
    yield CLIENT_ID
    if word.startswith(TOKEN_ID.prefix):
        yield TOKEN
    if "." in word or ":" in word:
        yield ADDRESS


def _statuses(query: Query) -> frozenset[int] | None:
    if query.status is None and query.status_class is None:
        return None
    wanted = range(100, 1000) if query.status is None else (query.status,)
    of_class = query.status_class
    return frozenset(each for each in wanted if of_class is None or each // 100 == of_class)


def _chosen(query: Query, labels: Sequence[Label]) -> frozenset[int] | None:
    if query.reason is None and query.operation is None:
        return None
    return frozenset(
        code
        for code, label in enumerate(labels)
        if query.reason in (None, label.reason) and query.operation in (None, label.operation)
    )


def _id_at(microseconds: int) -> str:
    return f"{min(max(microseconds * 1000, 0), (1 << 64) - 1):016x}"


def _digits_of(request_id: str) -> str:
    return request_id.removeprefix("req_")


def _is_request_id(word: str) -> bool:
    return word.startswith("req_") and len(word) == 36


# --- reading ---


def _labels(connection: sqlite3.Connection, tenant: int) -> list[Label]:
    sql = "SELECT * FROM labels WHERE tenant = ? ORDER BY code"
    return [Label(*row[2:]) for row in connection.execute(sql, [tenant])]


def _search(connection: sqlite3.Connection, query: Query) -> list[Entry]:
    labels = _labels(connection, query.tenant)
    conditions = _conditions(query, labels)
    if conditions.hopeless:
        return []
    bounds = (query.tenant, conditions.low, conditions.high)
    found = _in_batches(connection, bounds, conditions, query.most)
    sql = """
        SELECT number, count, first, last FROM segments
        WHERE tenant = ? AND last >= ? AND first < ? ORDER BY last DESC
    """
    for number, count, first, last in connection.execute(sql, bounds):
        if len(found) >= query.most and last < found[query.most - 1][ID]:
            break
        segment = _Segment(connection, number, count, first, last)
        found += segment.matches(conditions, query.most)
        found.sort(key=itemgetter(ID), reverse=True)
        del found[query.most :]
    return [entry_of(query.tenant, row, labels[row[LABEL]]) for row in found]


def _in_batches(
    connection: sqlite3.Connection,
    bounds: tuple[int, str, str],
    conditions: _Conditions,
    most: int,
) -> list[Row]:
    sql = "SELECT rows FROM batches WHERE tenant = ? AND last >= ? AND first < ?"
    found = [
        row
        for (rows,) in connection.execute(sql, bounds)
        for row in orjson.loads(rows)
        if conditions.match(row)
    ]
    found.sort(key=itemgetter(ID), reverse=True)
    return found[:most]


class _Segment:
    """One segment, of which no more is read than is needed."""

    def __init__(
        self, connection: sqlite3.Connection, number: int, count: int, first: str, last: str
    ) -> None:
        self._connection = connection
        self._number = number
        self._count = count
        self._first = first
        self._last = last

    def matches(self, conditions: _Conditions, most: int) -> list[Row]:
        """Return the newest rows that match, newest first."""
        bits = self._within(conditions)
        for wanted in self._bits(conditions):
            bits &= wanted
            if not bits:
                return []
        found: list[Row] = []
        chunk, rows = -1, []
        for position in newest_first(bits, self._count):
            if position // CHUNK_ROWS != chunk:
                chunk = position // CHUNK_ROWS
                rows = self._chunk(chunk)
            row = rows[position % CHUNK_ROWS]
            if conditions.match(row):
                found.append(row)
                if len(found) == most:
                    break
        return found

    def _bits(self, conditions: _Conditions) -> Iterator[int]:
        """Yield the rows that may match, condition by condition."""
        for column, value in conditions.exact.items():
            yield self._pair(PLANES_OF[column], [hash_of(value)])
        if conditions.status is not None:
            yield bits_of(self._plane(STATUS_PLANE), map(code_of, conditions.status))
        if conditions.chosen is not None:
            yield self._pair(LABEL_PLANES, conditions.chosen)
        for word, labels in conditions.words:
            bits = self._pair(LABEL_PLANES, labels) if labels else 0
            for column in _columns_of(word):
                bits |= self._pair(PLANES_OF[column], [hash_of(word)])
            yield bits

    def _within(self, conditions: _Conditions) -> int:
        """Return the rows between the lowest and the highest id, to a chunk."""
        bits = all_bits(self._count)
        low, high = conditions.low, conditions.high
        if self._first >= low and self._last < high:
            return bits
        fences = fences_of(self._plane(FENCES))
        start = max(bisect_right(fences, low) - 1, 0) * CHUNK_ROWS
        end = min(bisect_left(fences, high) * CHUNK_ROWS, self._count)
        return (bits & all_bits(end)) >> 8 * start << 8 * start

    def _pair(self, planes: tuple[int, int], wanted: Iterable[int]) -> int:
        high = self._plane(planes[0])
        return bits_of_pair(high, self._plane(planes[1]), wanted) if high else 0

    def _plane(self, plane: int) -> bytes:
        """Return a plane; nothing where all of it is zeros."""
        sql = "SELECT bytes FROM planes WHERE key = ?"
        row = self._connection.execute(sql, [self._number * PLANES + plane]).fetchone()
        return row[0] if row else b""

    def _chunk(self, chunk: int) -> list[Row]:
        sql = "SELECT rows FROM chunks WHERE key = ?"
        row = self._connection.execute(sql, [self._number * CHUNKS + chunk]).fetchone()
        rows: list[Row] = orjson.loads(row[0])
        return rows


def _find(
    connection: sqlite3.Connection, tenant: int, request_id: str
) -> tuple[Entry, bytes | None] | None:
    found = _search(connection, Query(tenant=tenant, most=1, words=[request_id]))
    if not found or found[0].id != request_id:
        return None
    sql = "SELECT sealed FROM details WHERE tenant = ? AND id = ?"
    detail = connection.execute(sql, [tenant, request_id]).fetchone()
    return found[0], detail[0] if detail else None
