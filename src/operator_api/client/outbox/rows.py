"""What the outbox keeps, as values: the receipt of a write, the write itself, and how all stand."""

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from operator_api.client.errors import OutboxError
from operator_api.contract.errors import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from operator_api.client.call import Call

State = Literal["pending", "dead"]
Cause = Literal["refused", "expired"]

# A conversation's writes go in order, and those that name no conversation, by their user.
_ORDERED_BY = ("conversation_id", "user_id")
_is_id = re.compile(r"[a-z]{2,6}_[0-9a-f]{32}").fullmatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A write that is kept: from now on it is sent until the server has done or refused it.

    ``id`` finds it in the outbox, and ``idempotency_key`` in the server's answers and log.
    ``order_key`` is the conversation, or else the user, whose writes are sent one after the other.
    """

    id: str
    idempotency_key: str
    operation: str
    queued_at: datetime
    order_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWrite:
    """A write in the outbox, without its body. Times are UTC.

    ``state`` is ``pending`` or ``dead``; of a dead one, ``cause`` says whether it was ``refused``
    or has ``expired``. ``sending``: a drainer has it in hand. ``outcome`` is what is known of the
    write: ``unknown`` where a try may have done it. ``tries`` counts those that failed;
    ``next_try_at`` is None where nothing is waited for but its turn. ``error``,
    ``status``, ``reason``, ``request_id`` and ``message`` are those of the last one.
    """

    id: str
    idempotency_key: str
    operation: str
    order_key: str | None
    base_url: str
    state: State
    cause: Cause | None
    sending: bool
    outcome: Outcome
    tries: int
    queued_at: datetime
    next_try_at: datetime | None
    died_at: datetime | None
    error: str | None
    status: int | None
    reason: str | None
    request_id: str | None
    message: str

    def as_json(self) -> dict[str, Any]:
        """Return the members, with times as RFC 3339 text."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """How an outbox stands.

    ``pending`` counts what is to be sent, ``sending`` what of it is on its way, ``dead`` the dead
    letters, and ``elsewhere`` what is pending for another server than the one asked about.
    ``blocked`` is the last error of a write that waits though the server can be reached: a token
    without the scope, for one. ``oldest`` is when the oldest pending write was queued.
    ``locked_out`` counts what no key at hand opens.
    """

    pending: int
    sending: int
    dead: int
    elsewhere: int = 0
    locked_out: int = 0
    oldest: datetime | None = None
    blocked: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the members, with times as RFC 3339 text."""
        return asdict(self) | {"oldest": self.oldest and self.oldest.isoformat()}


@dataclass(frozen=True, slots=True)
class Row:
    """What is written of one write. ``queued_at`` is in microseconds since 1970.

    ``key_id`` names the key that ``sealed`` the headers and the body.
    """

    id: str
    operation: str
    url: str
    base_url: str
    idempotency_key: str
    order_key: str | None
    queued_at: int
    key_id: str
    sealed: bytes = field(repr=False)

    @property
    def context(self) -> bytes:
        """What the sealed part belongs to: it opens in no other row, and for no other address."""
        return context_of(self.id, self.queued_at, self.operation, self.url, self.base_url)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that a drainer has taken. ``earlier`` is what came of its tries so far."""

    sequence: int
    row: Row
    tries: int
    earlier: Outcome


class NoSuchWriteError(OutboxError):
    """No write of this id is in the outbox."""


class UnfitWriteError(OutboxError):
    """This cannot be done with this write. ``reason``: not_dead, maybe_done or being_sent."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def as_write(row: tuple[Any, ...]) -> QueuedWrite:
    """Return a write from the columns that the store shows of it."""
    (
        write_id, key, operation, order_key, base_url, state, cause, outcome, tries, queued_at,
        due_at, died_at, error, status, reason, request_id, message, sending,
    ) = row  # fmt: skip
    return QueuedWrite(
        id=write_id,
        idempotency_key=key,
        operation=operation,
        order_key=order_key,
        base_url=base_url,
        state=state,
        cause=cause,
        sending=bool(sending) and state == "pending",
        outcome=outcome,
        tries=tries,
        queued_at=to_datetime(queued_at),
        next_try_at=to_datetime(due_at) if due_at else None,
        died_at=None if died_at is None else to_datetime(died_at),
        error=error,
        status=status,
        reason=reason,
        request_id=request_id,
        message=message,
    )


def context_of(row_id: str, queued_at: int, operation: str, url: str, base_url: str) -> bytes:
    """Return the associated data of a row's sealed part."""
    return json.dumps(["outbox", 1, row_id, queued_at, operation, url, base_url]).encode()


def order_key_of(call: "Call[Any]") -> str | None:
    """Return the id whose writes go one after the other; None where the order does not matter.

    What has not the form of an id is none: it stays out of the clear part, and is refused anyway.
    """
    given: Mapping[str, Any] = {**(call.body or {}), **call.ids}
    for name in _ORDERED_BY:
        value = given.get(name)
        if isinstance(value, str) and _is_id(value):
            return value
    return None


def to_datetime(microseconds: int) -> datetime:
    """Return a moment of the file as UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
