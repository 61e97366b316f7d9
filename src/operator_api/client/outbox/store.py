"""What is in the outbox: SQLite in WAL mode with ``synchronous=FULL``, for several processes.

::

    writes   a row for each write that is to be sent, or that is a dead letter; what is sent is gone

Of the writes with one order key, only the first pending one is ``ready``; triggers make the next
one so, whatever becomes of the first. A drainer claims ready rows under a lease. A lease that has
run out, or whose process is gone, is anybody's: the write is sent again with the same key, which
the server does once. So an early end of a lease costs a request, and never a second write.

All of a process's threads use one connection, one after the other. It is closed before a fork:
SQLite's locks are the process's, and a child that inherits their record believes it holds them.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

from operator_api.client.errors import OutboxError
from operator_api.client.outbox.drain_policy import EXPIRES_AFTER, MAX_ASKED, Fate, Settled, Told
from operator_api.client.outbox.file import identity, make_file, open_file, why
from operator_api.client.outbox.leases import is_gone
from operator_api.client.outbox.rows import (
    Claimed,
    NoSuchWriteError,
    OutboxStatus,
    QueuedWrite,
    Row,
    State,
    UnfitWriteError,
    as_write,
    to_datetime,
)
from operator_api.contract.errors import Outcome

LEASE_SECONDS = 5.0
_MICRO = 1_000_000
_ADD = """
INSERT INTO writes (id, operation, url, base_url, idempotency_key, order_key, queued_at, key_id,
    sealed, ages_from, outcome, due_at, ready)
SELECT :id, :operation, :url, :base_url, :idempotency_key, :order_key, :queued_at, :key_id,
    :sealed, :ages_from, :outcome, 0, :order_key IS NULL OR NOT EXISTS (
        SELECT 1 FROM writes WHERE state = 'pending'
        AND base_url = :base_url AND order_key = :order_key)
"""
_ROW = """id, operation, url, base_url, idempotency_key, order_key, queued_at, key_id, sealed"""
# A moment further off than any that is set was set before the clock was put back.
_FREE = "(owner IS NULL OR (owner != :me AND (leased_until <= :now OR leased_until > :lease_most)))"
_CLAIM = f"""
SELECT sequence, tries, outcome, {_ROW} FROM writes
WHERE state = 'pending' AND ready AND base_url = :base_url AND due_at <= :now AND {_FREE}
ORDER BY due_at, sequence LIMIT :most
"""
_NEXT_DUE = """
SELECT min(moment) FROM (
    SELECT * FROM (
        SELECT due_at AS moment FROM writes WHERE state = 'pending' AND ready
        AND base_url = :base_url AND owner IS NULL ORDER BY due_at LIMIT 1)
    UNION ALL SELECT leased_until FROM writes WHERE owner IS NOT NULL AND owner != :me)
"""
# Its moment was set before the clock was put back.
_MEND = """
UPDATE writes SET due_at = :now WHERE state = 'pending' AND ready AND base_url = :base_url
AND due_at > :due_most
"""
_SHOWN = """
SELECT id, idempotency_key, operation, order_key, base_url, state, cause, outcome, tries, queued_at,
    due_at, died_at, error, status, reason, request_id, message,
    owner IS NOT NULL AND leased_until > :now AS sending
FROM writes
"""


class OutboxStore:
    """The file. Every method may be called by any thread; each raises OutboxError if it cannot.

    ``clock`` is the wall clock, in seconds: leases and ages must mean the same to all processes.
    """

    def __init__(
        self, path: Path, *, make: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path.absolute()
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._waiting: deque[_Waiting] = deque()
        with self._telling():
            if make:
                make_file(self.path)
            with self._lock:
                self._connect()
        _stores.add(self)

    def close(self) -> None:
        """Close the file. What comes later opens it again."""
        with self._lock:
            self._disconnect()

    # --- keeping

    def add(self, row: Row) -> None:
        """Commit a write, together with those of other threads that come at the same moment."""
        mine = _Waiting(row)
        self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                self._add_all()
        if not mine.committed:
            raise mine.failure or OutboxError("The write was not kept: it was interrupted.")

    def _add_all(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._waiting:
                group.append(self._waiting.popleft())
            with self._telling(), self._transaction() as connection:
                now = self._now()
                for each in group:
                    _add(connection, each.row, ages_from=now)
            for each in group:
                each.committed = True
        except OutboxError as error:
            for each in group:
                each.failure = error
        finally:
            for each in group:
                each.done = True

    # --- draining

    def turn(
        self, owner: str, base_url: str, settled: Iterable[Settled], most: int
    ) -> tuple[list[Claimed], float | None]:
        """Write down what became of claimed rows, renew the leases of the others, and claim more.

        Returns the claimed, at most so many, and in how many seconds the next row is due, None if
        there is none.
        """
        with self._telling(), self._lock, self._transaction() as connection:
            now = self._now()
            for each in settled:
                _settle(connection, owner, each, now)
            times = {
                "me": owner,
                "now": now,
                "base_url": base_url,
                "lease": now + int(LEASE_SECONDS * _MICRO),
                "lease_most": now + int(2 * LEASE_SECONDS * _MICRO),
                "due_most": now + int(2 * MAX_ASKED * _MICRO),
            }
            connection.execute("UPDATE writes SET leased_until = :lease WHERE owner = :me", times)
            self._free_the_dead(connection, owner)
            self._expire(connection, times)
            connection.execute(_MEND, times)
            found = connection.execute(_CLAIM, {**times, "most": most}).fetchall() if most else []
            # Until it is known to have failed, the write may have been done.
            connection.executemany(
                "UPDATE writes SET owner = :me, leased_until = :lease, outcome = 'unknown'"
                " WHERE sequence = :sequence",
                [{**times, "sequence": sequence} for sequence, *_ in found],
            )
            (due,) = connection.execute(_NEXT_DUE, times).fetchone()
            claimed = [
                Claimed(sequence, Row(*members), tries, earlier)
                for sequence, tries, earlier, *members in found
            ]
            return claimed, None if due is None else max(0.0, (due - now) / _MICRO)

    def release(self, owner: str) -> None:
        """Give the rows back that a drainer has claimed, as it stops."""
        with self._telling(), self._lock, self._transaction() as connection:
            connection.execute(
                "UPDATE writes SET owner = NULL, leased_until = 0 WHERE owner = ?", (owner,)
            )

    def hurry(self, base_url: str) -> None:
        """Make all writes due now, but for those that the server asked to come later."""
        with self._telling(), self._lock, self._transaction() as connection:
            now = self._now()
            connection.execute(
                "UPDATE writes SET due_at = max(not_before, :now) WHERE state = 'pending'"
                " AND base_url = :base_url AND due_at > :now",
                {"base_url": base_url, "now": now},
            )

    def _expire(self, connection: sqlite3.Connection, times: dict[str, Any]) -> None:
        before = times["now"] - int(EXPIRES_AFTER * _MICRO)
        found = connection.execute(
            f"SELECT sequence FROM writes WHERE state = 'pending' AND ages_from <= :before"
            f" AND {_FREE}",
            {**times, "before": before},
        ).fetchall()
        # One by one, as each of them may make the next of its order ready.
        connection.executemany(
            "UPDATE writes SET state = 'dead', cause = 'expired', died_at = ?, owner = NULL"
            " WHERE sequence = ?",
            [(times["now"], sequence) for (sequence,) in found],
        )

    def _free_the_dead(self, connection: sqlite3.Connection, owner: str) -> None:
        """Take the leases of processes of this machine that are gone; others run out."""
        others = connection.execute(
            "SELECT DISTINCT owner FROM writes WHERE owner IS NOT NULL AND owner != ?", (owner,)
        ).fetchall()
        for (other,) in others:
            if is_gone(other):
                connection.execute("UPDATE writes SET owner = NULL WHERE owner = ?", (other,))

    # --- looking, and what people decide

    def left(self, base_url: str) -> bool:
        """Say whether anything is pending for a server."""
        with self._telling(), self._lock:
            found = self._connect().execute(
                "SELECT 1 FROM writes WHERE state = 'pending' AND base_url = ? LIMIT 1", (base_url,)
            )
            return found.fetchone() is not None

    def key_ids(self) -> frozenset[str]:
        """Return the ids of the keys that have sealed what is in the file."""
        with self._telling(), self._lock:
            found = self._connect().execute("SELECT DISTINCT key_id FROM writes")
            return frozenset(key_id for (key_id,) in found)

    def status(self, base_url: str | None, key_ids: frozenset[str]) -> OutboxStatus:
        """Count what there is; ``base_url`` None counts for all servers."""
        with self._telling(), self._lock:
            connection = self._connect()
            groups = connection.execute(
                "SELECT state, base_url, key_id, count(*), min(queued_at),"
                " sum(owner IS NOT NULL AND leased_until > ?)"
                " FROM writes GROUP BY state, base_url, key_id",
                (self._now(),),
            ).fetchall()
            blocked = connection.execute(
                "SELECT message FROM writes WHERE state = 'pending' AND tries > 0"
                " AND (:base_url IS NULL OR base_url = :base_url) ORDER BY due_at DESC LIMIT 1",
                {"base_url": base_url},
            ).fetchone()
        waiting = [group for group in groups if group[0] == "pending"]
        here = [group for group in waiting if base_url in (None, group[1])]
        pending = sum(group[3] for group in here)
        return OutboxStatus(
            pending=pending,
            sending=sum(group[5] for group in here),
            dead=sum(group[3] for group in groups if group[0] == "dead"),
            elsewhere=sum(group[3] for group in waiting) - pending,
            locked_out=sum(group[3] for group in groups if group[2] not in key_ids),
            oldest=min((to_datetime(group[4]) for group in here), default=None),
            blocked=None if blocked is None else blocked[0],
        )

    def writes(self, state: State, limit: int = -1) -> list[QueuedWrite]:
        """Return the writes of a state, oldest first; all of them for a limit of -1."""
        return self._shown("WHERE state = ? ORDER BY sequence LIMIT ?", (state, limit))

    def get(self, write_id: str) -> QueuedWrite | None:
        """Return a write; None where there is none: it was sent, or dropped."""
        found = self._shown("WHERE id = ?", (write_id,))
        return found[0] if found else None

    def _shown(self, where: str, values: tuple[Any, ...]) -> list[QueuedWrite]:
        with self._telling(), self._lock:
            found = self._connect().execute(f"{_SHOWN} {where}", (self._now(), *values))
            return [as_write(row) for row in found]

    def requeue(self, write_id: str, *, force: bool) -> QueuedWrite:
        """Put a dead letter back, behind all that is pending; or raise, where it may be done."""
        with self._telling(), self._lock, self._transaction() as connection:
            write = self._find(connection, write_id)
            if write.state != "dead":
                raise UnfitWriteError(
                    "not_dead", f"{write_id} is no dead letter: it is still to be sent."
                )
            now = self._now()
            (ages_from, *members) = connection.execute(
                f"SELECT ages_from, {_ROW} FROM writes WHERE id = ?", (write_id,)
            ).fetchone()
            row, outcome = Row(*members), write.outcome
            if outcome == "not_executed" or force:
                # The server gives the answer that it has stored under the old key, for a week.
                row = replace(row, idempotency_key=secrets.token_hex(16))
                ages_from, outcome = now, "not_executed"
            elif now - ages_from >= EXPIRES_AFTER * _MICRO:
                told = _MAYBE_DONE.format(id=write_id, key=row.idempotency_key)
                raise UnfitWriteError("maybe_done", told)
            connection.execute("DELETE FROM writes WHERE id = ?", (write_id,))
            _add(connection, row, ages_from=ages_from, outcome=outcome)
            return self._find(connection, write_id)

    def drop(self, write_id: str) -> QueuedWrite:
        """Take a write out, unless a drainer has it in hand; return what it was."""
        with self._telling(), self._lock, self._transaction() as connection:
            write = self._find(connection, write_id)
            if write.sending:
                raise UnfitWriteError("being_sent", f"{write_id} is being sent at this moment.")
            connection.execute("DELETE FROM writes WHERE id = ?", (write_id,))
            return write

    def _find(self, connection: sqlite3.Connection, write_id: str) -> QueuedWrite:
        row = connection.execute(f"{_SHOWN} WHERE id = ?", (self._now(), write_id)).fetchone()
        if row is None:
            raise NoSuchWriteError(
                f"There is no write {write_id} in the outbox: it was sent, or it was dropped."
            )
        return as_write(row)

    # --- the connection

    def _now(self) -> int:
        return int(self._clock() * _MICRO)

    def _connect(self) -> sqlite3.Connection:
        """Return the connection; the lock is held. What is written to a deleted file is lost."""
        if self._connection is not None:
            if identity(self.path) != self._identity:
                raise OutboxError(
                    f"The outbox {self.path} was moved or removed while it was in use."
                    " Put it back, or make a new client."
                )
            return self._connection
        connection = open_file(self.path)
        self._connection, self._identity = connection, identity(self.path)
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):  # what was committed stays so
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block in a transaction; the lock is held."""
        connection = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()  # SQLite undoes the rest when it is opened next
            raise

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say in words why the file cannot be used."""
        try:
            yield
        except sqlite3.Error as error:
            raise OutboxError(f"The outbox {self.path} {why(error)}") from error
        except OSError as error:
            raise OutboxError(
                f"The outbox {self.path} cannot be opened: {error.strerror}."
                " Choose a file in a folder that this user may write to."
            ) from error

    # --- forks

    def hold_for_fork(self) -> None:
        """Close the connection, and let no thread open it before the fork is done."""
        self._lock.acquire()
        self._disconnect()

    def resume_in_parent(self) -> None:
        """Go on after a fork."""
        self._lock.release()

    def resume_in_child(self) -> None:
        """Go on in the child, without the parent's threads and what they were about to write."""
        self._lock = threading.Lock()
        self._waiting = deque()


@dataclass(slots=True)
class _Waiting:
    """A write that waits for its commit."""

    row: Row
    done: bool = False
    committed: bool = False
    failure: OutboxError | None = None


_MAYBE_DONE = (
    "{id} may have been done, and the server does not know its key any more: sent again, it could"
    " be done twice. Look for it under the idempotency key {key} in the server's log or among the"
    " records; then drop it, or retry it by force."
)


def _add(
    connection: sqlite3.Connection,
    row: Row,
    *,
    ages_from: int,
    outcome: Outcome = "not_executed",
) -> None:
    members = {**asdict(row), "ages_from": ages_from, "outcome": outcome}
    connection.execute(_ADD, members)


def _settle(connection: sqlite3.Connection, owner: str, settled: Settled, now: int) -> None:
    """Write down what became of a claimed row, unless another drainer has it by now."""
    judged = settled.judged
    if judged.fate is Fate.SENT:
        # Whoever has it: it is done.
        connection.execute("DELETE FROM writes WHERE sequence = ?", (settled.sequence,))
        return
    told, dead = judged.told or Told(""), judged.fate is Fate.DEAD
    connection.execute(
        "UPDATE writes SET owner = NULL, leased_until = 0, outcome = :outcome, state = :state,"
        " cause = :cause, died_at = :died_at,"
        " tries = tries + :counts, due_at = :due_at, not_before = :not_before, error = :error,"
        " status = :status, reason = :reason, request_id = :request_id, message = :message"
        " WHERE sequence = :sequence AND owner = :owner AND state = 'pending'",
        {
            **asdict(told),
            "outcome": judged.outcome,
            "counts": judged.counts or dead,
            "due_at": now + int(judged.wait * _MICRO) if judged.wait else 0,
            "not_before": now + int(judged.asked * _MICRO),
            "sequence": settled.sequence,
            "owner": owner,
            "state": "dead" if dead else "pending",
            "cause": "refused" if dead else None,
            "died_at": now if dead else None,
        },
    )


# --- forks ---

_stores: WeakSet[OutboxStore] = WeakSet()


class _Held(threading.local):
    """The stores that a thread holds while it forks: others may fork at the same time."""

    def __init__(self) -> None:
        self.stores: list[OutboxStore] = []


_held = _Held()


def _before_fork() -> None:
    for store in sorted(_stores, key=id):  # in one order, as two who fork must not wait in a circle
        store.hold_for_fork()
        _held.stores.append(store)


def _after_in_parent() -> None:
    while _held.stores:
        _held.stores.pop().resume_in_parent()


def _after_in_child() -> None:
    while _held.stores:
        _held.stores.pop().resume_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
