"""How the log is written: the edge hands over what it has answered, and a thread does the rest.

Handing over is appending to a queue, in about a microsecond, so that no answer waits for the log.
The thread empties it ten times a second. What it may take of the processor for details is bounded,
so that a flood of failures is not slowed by the work of recording it; then rows are kept and
details are not.

Nothing that befalls the log fails a request. What the queue cannot hold is dropped and counted;
while the file cannot be written, what is in the queue is tried again; a file that is gone is made
anew, and one that is spoilt is put aside. A killed server loses the last tenth of a second.
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from operator_api.server.exchange import Exchange, Response
from operator_api.server.requests.distil import Hashes, Noted, label_of, noted, row_of, tenant_of
from operator_api.server.requests.entry import MATERIAL_BYTES, Details
from operator_api.server.requests.file import (
    NewerLogError,
    identity_of,
    is_spoilt,
    put_aside,
    remove_rest,
)
from operator_api.server.requests.rows import Row, entry_of
from operator_api.server.requests.store import Detail, Store

_TICK_SECONDS = 0.08
# At most this much waits: one's own memory is not to be filled by others' requests.
MOST_WAITING = 8192
MOST_WAITING_BYTES = 16 * 1024 * 1024
_BATCH = 2048
# Of one core, for sealing and writing details, and what may be saved of it while it is not used:
# some two hundred a second, or a thousand at once.
_DETAIL_SHARE = 0.01
_DETAIL_BURST_SECONDS = 0.05
# What one takes, as long as that is not known.
_DETAIL_SECONDS = 0.0002
# How many combinations of what rows have in common are remembered.
_MOST_CODES = 10_000
_MOST_NAME = 200
# Where these are in what is noted.
_BEARER: Final = 8
_BODY: Final = 15
_MATERIAL: Final = 17
_SAY_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_TIDY_SECONDS = 1.0
_TIDY_STEPS = 8
_STOP_SECONDS = 10.0

log = logging.getLogger("operator_api.server")


@dataclass(slots=True)
class Counts:
    """What the log has done since the server began, for its metrics."""

    written: int = 0
    dropped: int = 0
    details_written: int = 0
    details_dropped: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept, and how large the file may become."""

    days: float
    megabytes: float


class Recorder:
    """The log's queue and its thread. ``note`` is for the event loop; the rest for any thread."""

    def __init__(
        self, path: Path, *, hash_key: bytes, details: Details | None, retention: Retention
    ) -> None:
        self._path = path
        self._details = details
        self._retention = retention
        self._hashes = Hashes(hash_key)
        self._queue: deque[Noted] = deque()
        # Two counters, each of one thread: what has been put into the queue, and taken out.
        self._bytes_in = 0
        self._bytes_out = 0
        self._store: Store | None = None
        self._identity: tuple[int, int] | None = None
        # The labels' numbers in the open file.
        self._codes: dict[object, int] = {}
        self._stopping = threading.Event()
        self._opened = threading.Event()
        self._erasing: deque[tuple[list[int], threading.Event]] = deque()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._budget = _Budget()
        # How many details may be made until the thread says so again.
        self._credit = self._budget.affordable()
        self._looked_at = 0.0
        self._distrusted = False
        self._said_at = -_SAY_SECONDS
        self._said = Counts()
        self._problem = ""
        self.counts = Counts()

    # --- the event loop's side

    def note(
        self, exchange: Exchange, response: Response, body: bytes | bytearray, *, complete: bool
    ) -> None:
        """Hand over a request that has been answered; never fail, and never wait."""
        size = min(len(body), MATERIAL_BYTES)
        if (
            len(self._queue) >= MOST_WAITING
            or self._bytes_in - self._bytes_out + size > MOST_WAITING_BYTES
        ):
            self.counts.dropped += 1
            return
        detailed = response.status >= 400 and self._details is not None
        if detailed:
            if self._credit > 0:
                self._credit -= 1
            else:
                detailed = False
                self.counts.details_dropped += 1
        if self._details is not None and (detailed or response.status < 400):
            self._details.note(exchange, body, failed=detailed)
        self._bytes_in += size
        self._queue.append(
            noted(
                exchange,
                response,
                body,
                time.time_ns(),
                self._hashes,
                complete=complete,
                detailed=detailed,
            )
        )

    # --- life

    def start(self) -> None:
        """Begin to write. Return when the file is open, or has turned out to be unusable."""
        self._thread.start()
        self._opened.wait(_STOP_SECONDS)

    @property
    def working(self) -> bool:
        """Whether the file is open, as it is unless writing to it has just failed."""
        return self._store is not None

    def stop(self) -> None:
        """Write what waits, and close. What cannot be written in time is dropped and counted."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self.counts.dropped += len(self._queue)
        self._say()

    def erase(self, tenants: Iterable[int]) -> bool:
        """Delete all that is kept of the tenants; False if that was not done in time."""
        done = threading.Event()
        self._erasing.append((list(tenants), done))
        return done.wait(_STOP_SECONDS)

    def distrust(self) -> None:
        """Look whether the file holds together: a reader has found that it does not."""
        self._distrusted = True

    # --- the thread

    def _run(self) -> None:
        due = tidied = 0.0
        while True:
            stopping = self._stopping.wait(_TICK_SECONDS)
            now = time.monotonic()
            if now >= due or stopping:
                self._credit = self._budget.affordable()
                if not self._attempt(self._write):
                    due = now + _RETRY_SECONDS
                elif now - tidied >= _TIDY_SECONDS and not self._queue:
                    tidied = now
                    self._attempt(self._tidy)
            self._opened.set()
            self._say()
            if stopping:
                break
        if self._store is not None:
            with suppress(sqlite3.Error):
                self._store.close()

    def _attempt(self, work: Callable[[Store], None]) -> bool:
        """Do some work on the file; False, and counted, if it could not be done."""
        try:
            work(self._open())
        except Exception as error:  # noqa: BLE001 - the log must outlive whatever befalls it
            self.counts.failures += 1
            self._close_after(error)
            return False
        return True

    def _open(self) -> Store:
        """Return the store of the file that is there now; make one if there is none."""
        now = time.monotonic()
        if self._store is not None and now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            if identity_of(self._path) != self._identity:
                log.warning("the request log %s is gone; a new one is made", self._path)
                with suppress(sqlite3.Error):
                    self._store.close()
                self._store = None
                remove_rest(self._path)
        if self._store is None:
            self._codes.clear()
            self._store = Store(self._path)
            self._identity = identity_of(self._path)
        if self._distrusted:
            self._distrusted = False
            self._store.close()  # what it remembers of the file may not be in it
            self._store = Store(self._path)
            self._store.check()
        return self._store

    def _close_after(self, error: Exception) -> None:
        if self._store is not None:
            with suppress(sqlite3.Error):
                self._store.close()
            self._store = None
        if is_spoilt(error):
            log.error("the request log is spoilt (%s) and is put aside", error)
            with suppress(OSError):
                put_aside(self._path)
        elif isinstance(error, (sqlite3.Error, OSError, NewerLogError)):
            self._say(f"cannot be written: {error}")
        else:
            log.error("unexpected error in the request log", exc_info=error)

    def _write(self, store: Store) -> None:
        """Write all that waits, and do what is asked for."""
        while self._queue:
            self._write_some(store)
            while store.fold(time.time_ns()) and len(self._queue) < _BATCH:
                time.sleep(0)
        while self._erasing:
            tenants, done = self._erasing[0]
            self._codes.clear()
            store.erase(tenants)
            self._erasing.popleft()
            done.set()

    def _write_some(self, store: Store) -> None:
        """Write one batch. If it fails, all of it is as if it had never been taken."""
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
        batch = _Batch()
        try:
            for each in taken:
                self._add(batch, each, store)
            began = time.thread_time()
            store.append(batch.rows, batch.details)
            if batch.details:
                self._budget.spend(time.thread_time() - began)
        except BaseException:
            self._queue.extendleft(reversed(taken))
            raise
        self._bytes_out += sum(len(each[_BODY]) for each in taken)
        self.counts.written += len(taken) - batch.unreadable
        self.counts.dropped += batch.unreadable
        self.counts.details_written += len(batch.details)
        self.counts.details_dropped += batch.without_detail

    def _add(self, batch: "_Batch", each: Noted, store: Store) -> None:
        """Make the row, and the detail of one that is to have one."""
        tenant = tenant_of(each[_BEARER])
        try:
            row = row_of(each, self._code_of(each, tenant, store), tenant, self._hashes)
        except sqlite3.Error:
            raise
        except Exception:  # a defect of ours must not hold up all that comes behind it
            log.exception("a request cannot be recorded")
            batch.unreadable += 1
            return
        batch.rows.setdefault(tenant, []).append(row)
        material = each[_MATERIAL]
        if material is None or self._details is None:
            return
        if self._budget.spent:
            batch.without_detail += 1
            return
        began = time.thread_time()
        try:
            entry = entry_of(tenant, row, label_of(each, paths=True))
            sealed = self._details.seal(entry, material)
        except Exception:  # it costs the detail, not the row
            log.exception("the detail of a request cannot be sealed")
            batch.without_detail += 1
        else:
            if sealed is not None:
                batch.details.append(Detail(tenant, entry.id, sealed))
        self._budget.spend_on_one(time.thread_time() - began)

    def _code_of(self, each: Noted, tenant: int, store: Store) -> int:
        """Return the number of the row's label."""
        _, method, operation, path, reason, outcome, *_ = each
        kind = (tenant, method, path if operation is None else operation.name, reason, outcome)
        code = self._codes.get(kind)
        if code is None:
            code = store.label(tenant, label_of(each, paths=store.knows_paths(tenant)))
            if len(self._codes) < _MOST_CODES and len(path) <= _MOST_NAME:
                self._codes[kind] = code
        return code

    def _tidy(self, store: Store) -> None:
        """Delete a little of what is too old or too much."""
        oldest = time.time_ns() - int(self._retention.days * 86_400 * 10**9)
        for _ in range(_TIDY_STEPS):
            if self._queue or not store.forget(oldest, int(self._retention.megabytes * 1_000_000)):
                break

    def _say(self, problem: str = "") -> None:
        """Tell the operator what was lost, at most once in a while."""
        self._problem = problem or self._problem
        counts, said = self.counts, self._said
        lost = counts.dropped - said.dropped
        bare = counts.details_dropped - said.details_dropped
        now = time.monotonic()
        if not (lost or bare or self._problem) or now - self._said_at < _SAY_SECONDS:
            return
        if self._problem:
            log.error("the request log %s", self._problem)
        if lost or bare:
            # Details have their share of the processor, and a flood is meant to go over it.
            level = logging.WARNING if lost else logging.INFO
            log.log(level, "the request log dropped %d rows and %d details", lost, bare)
        self._said_at, self._said, self._problem = now, replace(counts), ""


class _Budget:
    """What details may take of the processor: a share of the time that passes, a little saved."""

    def __init__(self) -> None:
        self._seconds = _DETAIL_BURST_SECONDS
        self._each = _DETAIL_SECONDS
        self._since = time.monotonic()

    @property
    def spent(self) -> bool:
        """Whether nothing is left: each took longer than was thought."""
        return self._seconds <= 0

    def affordable(self) -> int:
        """Return how many details can be made with what is left."""
        now = time.monotonic()
        self._seconds += (now - self._since) * _DETAIL_SHARE
        self._seconds = min(self._seconds, _DETAIL_BURST_SECONDS)
        self._since = now
        return max(int(self._seconds / self._each), 0)

    def spend(self, seconds: float) -> None:
        """Take off what has been taken."""
        self._seconds -= seconds

    def spend_on_one(self, seconds: float) -> None:
        """Take off what one has taken, and learn what one takes."""
        self._seconds -= seconds
        self._each += (seconds - self._each) / 16


class _Batch:
    """What is written in one commit."""

    def __init__(self) -> None:
        self.rows: dict[int, list[Row]] = {}
        self.details: list[Detail] = []
        self.unreadable = 0
        self.without_detail = 0
