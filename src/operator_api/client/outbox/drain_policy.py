"""What becomes of a write after a try, and how many writes may be on their way: no I/O, no clock.

::

    an answer, or the error of a call ── judge ──> SENT │ DEAD │ LATER, after so many seconds
                                        │
                                        └────────> Course: how many may leave now, or when one may

A write is given up for the API's own word alone: a 4xx with a reason, that is about the write. What
is about the token (401, a missing scope) or the address keeps it waiting, and so does what a proxy
says, an answer that cannot be read, or none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from httpx2 import HTTPError

from operator_api.client.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    OutboxError,
)
from operator_api.client.policy import Failure, Kind, fold, settles
from operator_api.client.transport import failure_of
from operator_api.contract.errors import Outcome
from operator_api.vault.redact import redact_identifier, redact_text

MOST_AT_ONCE = 8
"""Writes on their way at once, from one drainer."""
TRY_SECONDS = 30.0
"""The deadline of one try, with the attempts and waits in it."""
EXPIRES_AFTER = 6 * 86_400.0
"""Seconds. The server forgets a key after 7 days: what is sent later could be done twice."""
MAX_BACKOFF = 300.0
MAX_ASKED = 3600.0
"""Seconds that a Retry-After can keep a write from being tried."""
_PROBE_BASE, _PROBE_CAP = 0.25, 2.0

# Not of the write: what the token may do, and where the client was told that the API is.
_ABOUT_THE_CALLER = frozenset({"insufficient_scope", "unknown_endpoint", "method_not_allowed"})
_PASSING_STATUSES = frozenset({408, 425, 429})


class Fate(Enum):
    """What becomes of a write after a try."""

    SENT = auto()
    """The server has done it."""
    DEAD = auto()
    """The server refuses it for good."""
    LATER = auto()
    """It is tried again."""


Trouble = Literal["unreachable", "unauthorized", "failing"]
"""Why other writes would fare no better now: no connection, no usable token, no proper answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the last failure, in clear: nothing in it is secret or was submitted."""

    error: str
    status: int | None = None
    reason: str | None = None
    request_id: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a try came to. Times are in seconds from now.

    ``counts``: it makes the next wait longer. ``asked`` is what the server asked for: no hurry
    shortens it. ``outcome``: whether the write happened, after all its tries.
    """

    fate: Fate
    outcome: Outcome = "executed"
    wait: float = 0.0
    asked: float = 0.0
    counts: bool = False
    trouble: Trouble | None = None
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A claimed row, by its number, and what its try came to."""

    sequence: int
    judged: Judgement


def judge(
    error: Exception | None, *, tries: int, earlier: Outcome, random: Callable[[], float]
) -> Judgement:
    """Judge a try. ``tries`` counts those that failed before, ``earlier`` is what came of them."""
    if error is None:
        return Judgement(Fate.SENT)
    told = _told(error)
    if not isinstance(error, APIError):
        # There was no request: the function that gives the token failed, or the row is damaged.
        about_the_row = isinstance(error, OutboxError)
        trouble: Trouble | None = None if about_the_row else "unauthorized"
        wait = _backoff(tries + 1, random)
        return Judgement(Fate.LATER, earlier, wait, counts=True, trouble=trouble, told=told)
    outcome = fold(earlier, error.outcome, settled=_settles(error))
    if _is_final(error):
        return Judgement(Fate.DEAD, outcome, told=told)
    if _is_unreachable(error):
        return Judgement(Fate.LATER, outcome, trouble="unreachable", told=told)
    asked = min(error.retry_after or 0.0, MAX_ASKED)
    wait = max(_backoff(tries + 1, random), asked)
    return Judgement(
        Fate.LATER, outcome, wait, asked, counts=True, trouble=_trouble(error), told=told
    )


def _is_final(error: APIError) -> bool:
    if not isinstance(error, APIStatusError) or not 400 <= error.status_code < 500:
        return False
    return (
        error.reason is not None
        and error.status_code != 401
        and error.status_code not in _PASSING_STATUSES
        and error.reason not in _ABOUT_THE_CALLER
        and error.reason != "idempotency_in_progress"
    )


def _is_unreachable(error: APIError) -> bool:
    """Whether there was no connection: the write itself has had no try then."""
    if not isinstance(error, APIConnectionError):
        return False
    cause = error.__cause__
    if not isinstance(cause, HTTPError):
        return True  # it waited for a connection, or its turn, until the deadline
    return failure_of(cause).kind in (Kind.NEVER_SENT, Kind.CERTIFICATE)


def _trouble(error: APIError) -> Trouble | None:
    if not isinstance(error, APIStatusError):
        return "failing"
    if error.status_code == 401:
        return "unauthorized"
    if error.reason in ("insufficient_scope", "idempotency_in_progress"):
        return None  # others may be allowed more, or are not in progress
    return "failing"


def _settles(error: APIError) -> bool:
    if not isinstance(error, APIStatusError):
        return False
    failure = Failure(Kind.STATUS, status=error.status_code, reason=error.reason)
    return settles(failure, keyed=True)


def _backoff(attempt: int, random: Callable[[], float]) -> float:
    """Return seconds: 1, 2, 4 … up to 5 minutes, less up to half of it by chance."""
    return min(MAX_BACKOFF, 2.0 ** min(attempt - 1, 16)) * (0.5 + random() / 2)


def _told(error: Exception) -> Told:
    name = type(error).__name__
    if isinstance(error, (APIStatusError, APIResponseValidationError)):
        reason = error.reason if isinstance(error, APIStatusError) else None
        return Told(
            name,
            error.status_code,
            reason and redact_identifier(reason),
            error.request_id and redact_identifier(error.request_id),
            redact_text(error.message),
        )
    if isinstance(error, (APIError, OutboxError)):
        return Told(name, message=redact_text(str(error)))
    # Whatever a program's own function raises: its text may hold anything.
    return Told(name, message="The token could not be had, or the request not be made.")


@dataclass(slots=True)
class Course:
    """How many writes of one drainer may be on their way. Moments are in monotonic seconds.

    At first, and while others would fare no better than the last one, a single canary goes at a
    time; the first that gets through lets all go. ``proven``: an answer has come since the start.
    """

    random: Callable[[], float]
    proven: bool = False
    _open: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _resumes: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether the last write got through."""
        return self._open

    def room(self, on_their_way: int, now: float) -> int:
        """Return how many more may leave now."""
        if self._open:
            return max(0, MOST_AT_ONCE - on_their_way)
        return 1 if on_their_way == 0 and now >= self._resumes else 0

    def wait(self, now: float) -> float:
        """Return in how many seconds the next canary may leave."""
        return 0.0 if self._open else max(0.0, self._resumes - now)

    def learn(self, judged: Judgement, now: float) -> None:
        """Take from one try what others need to know."""
        if judged.trouble in (None, "failing"):
            self.proven = True
        if judged.trouble is None:
            self._open, self._failures, self._resumes = True, 0, 0.0
            return
        if self._open:
            self._failures = 0
        self._open = False
        self._failures = min(self._failures + 1, 20)
        if judged.trouble == "unauthorized":
            self._resumes = now + _backoff(self._failures, self.random)
        else:
            most = min(_PROBE_CAP, _PROBE_BASE * 2.0 ** (self._failures - 1))
            self._resumes = now + most * (0.5 + self.random() / 2)

    def hurry(self) -> None:
        """Let the next canary leave at once."""
        self._resumes = 0.0
