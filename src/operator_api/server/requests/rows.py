"""How entries are stored: as rows of plain values, many to a blob, and as planes to search them by.

A *row* is a list, in the order of the constants below. What rows have in common is their *label*
(method, operation, path, reason, outcome), which a tenant has few of; a row has its number.

A *segment* is up to SEGMENT_ROWS rows of one tenant in the order of their ids. Its *planes* hold
one byte for each row: the status, or half of the 16 bits that stand for a value. A condition over
all rows of a segment is then a few operations on 4 KB each (``bytes.translate``, and AND of two
numbers of as many bits), in a few microseconds, whatever the values are and however few rows match.
Two values can share their 16 bits, so what the planes let through is checked against the row.
"""

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from operator_api.server.requests.entry import Entry

SEGMENT_ROWS = 4096
CHUNK_ROWS = 64
CHUNKS = SEGMENT_ROWS // CHUNK_ROWS

Row = list[Any]
# The time and the chance of an id, without its prefix: they are what rows are sorted by.
ID, LABEL, STATUS, LATENCY, TOKEN, ADDRESS, OBJECT, CLIENT_ID, RETRIES, REPLAY_OF, KEY, BODY = (
    range(12)
)

# Which planes a column has; a plane of nothing but zeros is not kept.
STATUS_PLANE = 0
LABEL_PLANES = (1, 2)
PLANES_OF: Mapping[int, tuple[int, int]] = {
    TOKEN: (3, 4),
    ADDRESS: (5, 6),
    OBJECT: (7, 8),
    CLIENT_ID: (9, 10),
    KEY: (11, 12),
}
# The ids that chunks begin with; it stands beside the planes.
FENCES = 15
PLANES = 16

_ID_DIGITS = 32


class Label(NamedTuple):
    """What many rows of a tenant have in common. An unknown path has no operation."""

    method: str
    operation: str
    template: str
    reason: str
    outcome: str

    @property
    def text(self) -> str:
        """What free text finds it by."""
        return " ".join((self.method, self.operation, self.template, self.reason)).lower()


def entry_of(tenant: int, row: Row, label: Label) -> Entry:
    """Return the entry that a row is."""
    return Entry(
        tenant=tenant,
        id=f"req_{row[ID]}",
        method=label.method,
        operation=label.operation,
        template=label.template,
        status=row[STATUS],
        reason=label.reason,
        outcome=label.outcome,
        latency_microseconds=row[LATENCY],
        token_id=row[TOKEN],
        address=row[ADDRESS],
        object_id=row[OBJECT],
        client_request_id=row[CLIENT_ID],
        retry_count=row[RETRIES],
        replay_of=row[REPLAY_OF],
        key_hash=row[KEY],
        body_hash=row[BODY],
    )


def hash_of(value: str) -> int:
    """Return the 16 bits that stand for a value in its planes; letter case makes no difference."""
    return zlib.crc32(value.lower().encode()) & 0xFFFF


def code_of(status: int) -> int:
    """Return the byte that stands for a status."""
    return (status // 100 % 8) * 32 + min(status % 100, 31)


class Segment(NamedTuple):
    """Rows made ready to be kept: how many, from which id to which."""

    size: int
    first: str
    last: str
    chunks: Sequence[bytes]
    planes: Mapping[int, bytes]


def pack(rows: Sequence[Row]) -> Segment:
    """Make a segment of rows that are sorted by their ids."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    planes = {
        STATUS_PLANE: bytes(map(code_of, columns[STATUS])),
        FENCES: "".join(columns[ID][::CHUNK_ROWS]).encode(),
    }
    _put(planes, LABEL_PLANES, columns[LABEL])
    for column, numbers in PLANES_OF.items():
        values = columns[column]
        hashes = {value: hash_of(value) if value else 0 for value in set(values)}
        if len(hashes) > 1 or "" not in hashes:
            _put(planes, numbers, map(hashes.__getitem__, values))
    starts = range(0, len(rows), CHUNK_ROWS)
    chunks = [orjson.dumps(rows[start : start + CHUNK_ROWS]) for start in starts]
    return Segment(len(rows), columns[ID][0], columns[ID][-1], chunks, planes)


def _put(planes: dict[int, bytes], numbers: tuple[int, int], codes: Iterable[int]) -> None:
    pairs = array("H", codes)
    if sys.byteorder == "little":
        pairs.byteswap()
    halves = pairs.tobytes()
    planes[numbers[0]], planes[numbers[1]] = halves[::2], halves[1::2]


# --- bits: a number with one byte for each row, which is 1 where the row may match ---

_ONLY = [bytes(byte == wanted for byte in range(256)) for wanted in range(256)]


def bits_of(plane: bytes, wanted: Iterable[int]) -> int:
    """Return the rows whose byte of the plane is among the wanted."""
    chosen = bytearray(256)
    for byte in wanted:
        chosen[byte] = 1
    return int.from_bytes(plane.translate(chosen), "little")


def bits_of_pair(high: bytes, low: bytes, wanted: Iterable[int]) -> int:
    """Return the rows whose two bytes are among the wanted."""
    by_high: dict[int, list[int]] = {}
    for code in wanted:
        by_high.setdefault(code >> 8, []).append(code & 0xFF)
    bits = 0
    for byte, lows in by_high.items():
        bits |= int.from_bytes(high.translate(_ONLY[byte]), "little") & bits_of(low, lows)
    return bits


def all_bits(count: int) -> int:
    """Return all of so many rows."""
    return int.from_bytes(b"\1" * count, "little")


def newest_first(bits: int, count: int) -> Iterator[int]:
    """Yield the positions of the rows, from the last one to the first."""
    flags = bits.to_bytes(count, "little")
    position = count
    while (position := flags.rfind(1, 0, position)) >= 0:
        yield position


def fences_of(blob: bytes) -> list[str]:
    """Return the ids that the chunks begin with."""
    text = blob.decode()
    return [text[start : start + _ID_DIGITS] for start in range(0, len(text), _ID_DIGITS)]
