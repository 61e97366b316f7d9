"""When a call is tried again, after how long, and what its failure means: values in, values out.

::

    Failure ── judge ──> RETRY │ ONCE │ NEW_TOKEN │ RAISE
       │
       ├── wait ────────> seconds before the next attempt: full jitter, never earlier than asked
       └── outcome_of ──> did the write happen? ── fold ──> … after all the attempts of the call

What is shared between calls stands beside it: ``budget.py``, ``pace.py`` and ``gate.py``.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

from operator_api.contract.errors import Outcome


class Kind(Enum):
    """What went wrong with one attempt."""

    NEVER_SENT = auto()
    """No connection: the name was not found, the connection was refused or timed out."""
    CERTIFICATE = auto()
    """The server could not prove that it is the one."""
    BROKEN = auto()
    """Sent, at least in part: read or write timeout, reset, protocol error, truncated body."""
    STATUS = auto()
    """An answer of 300 and above."""
    INVALID_ANSWER = auto()
    """A "success" whose media type, JSON or schema is wrong."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt failed.

    ``should_retry`` is X-Should-Retry. ``retry_after`` is in seconds, as read_retry_after gives it.
    """

    kind: Kind
    status: int | None = None
    reason: str | None = None
    should_retry: bool | None = None
    retry_after: float | None = None
    timed_out: bool = False

    @property
    def throttled(self) -> bool:
        """Whether the server asked to be left alone (429, 503): longer backoff, cheaper retries."""
        return self.kind is Kind.STATUS and self.status in (429, 503)


class Verdict(Enum):
    """What to do about a failed attempt."""

    RETRY = auto()
    """Try again, while attempts, deadline and budget last."""
    ONCE = auto()
    """Try again once in the whole call."""
    NEW_TOKEN = auto()
    """Try again once in the whole call, if there is another token than the one refused."""
    RAISE = auto()
    """Give up: a second attempt would fail as well, or might do the write twice."""


# 408, 425, 429 and 503 say that the request was not acted on (RFC 9110, 8470 and 6585).
_NOT_ACTED_ON = frozenset({408, 425, 429, 503})
# 501 and 505 say what the server cannot do: it will not have learned it in a second.
_INCAPABLE = frozenset({501, 505})
_IN_PROGRESS = "idempotency_in_progress"


def judge(failure: Failure, *, replayable: bool, told: Outcome | None = None) -> Verdict:
    """Say whether to try again.

    ``replayable``: a second sending does no more than the first, as the method is idempotent or the
    request has an idempotency key. ``told`` is the answer's ``error.outcome``: a write that the
    server says was executed, or may have been, is not repeated unless it is replayable.
    """
    match failure.kind:
        case Kind.CERTIFICATE:
            return Verdict.RAISE
        case Kind.NEVER_SENT:
            verdict = Verdict.RETRY
        case Kind.BROKEN:
            verdict = Verdict.RETRY if replayable else Verdict.RAISE
        case Kind.INVALID_ANSWER:
            verdict = Verdict.ONCE if replayable else Verdict.RAISE
        case Kind.STATUS:
            # X-Should-Retry speaks of the same request, and one with another token is not the same.
            if failure.status == 401:
                return Verdict.NEW_TOKEN
            verdict = _judge_status(failure, replayable=replayable)
            if not replayable and told in ("executed", "unknown"):
                verdict = Verdict.RAISE
    return Verdict.RAISE if failure.should_retry is False else verdict


def _judge_status(failure: Failure, *, replayable: bool) -> Verdict:
    status = failure.status or 0
    if status in _NOT_ACTED_ON:
        return Verdict.RETRY
    passing = (
        failure.should_retry is True
        or (status == 409 and failure.reason == _IN_PROGRESS)
        or (status >= 500 and status not in _INCAPABLE)
    )
    return Verdict.RETRY if passing and replayable else Verdict.RAISE


# --- did the write happen? ---


def outcome_of(failure: Failure, *, writes: bool, told: Outcome | None = None) -> Outcome:
    """Say whether the write of one attempt happened.

    ``told`` is the answer's ``error.outcome``, which is the server's own word; without one, only
    what certainly was not executed is called so. A 503 counts as such with a reason of the
    catalogue alone: without one, it may be a proxy's, given after the server had begun.
    """
    if not writes:
        return "not_executed"
    if told is not None:
        return told
    if failure.kind in (Kind.NEVER_SENT, Kind.CERTIFICATE):
        return "not_executed"
    status = failure.status or 0
    if failure.kind is Kind.STATUS and (
        400 <= status < 500 or (status == 503 and failure.reason is not None)
    ):
        return "not_executed"
    return "unknown"


def settles(failure: Failure, *, keyed: bool) -> bool:
    """Whether the answer speaks for the earlier attempts as well, and not for its own alone.

    With an idempotency key, 404, 409 and 412 are given after the key was looked up: had an earlier
    attempt been executed, its answer would have come instead.
    """
    return (
        keyed
        and failure.kind is Kind.STATUS
        and failure.status in (404, 409, 412)
        and failure.reason is not None
        and failure.reason not in (_IN_PROGRESS, "unknown_endpoint")
    )


def fold(earlier: Outcome | None, latest: Outcome, *, settled: bool = False) -> Outcome:
    """Return the outcome of a call after one more attempt.

    ``earlier`` is that of the attempts before; None where there were none. One attempt that may
    have been executed makes the call's outcome unknown, whatever became of the later ones, unless
    the latest ``settled`` it.
    """
    if earlier is None or settled or earlier == "not_executed":
        return latest
    return "executed" if "executed" in (earlier, latest) else "unknown"


# --- how long? ---

MAX_ASKED = 120.0
"""Seconds. Whoever is asked to wait for longer is told so, instead of being kept waiting."""


def backoff(retry: int, failure: Failure, random: Callable[[], float]) -> float:
    """Return the seconds before the retry of this number, from 1: full jitter.

    Uniform in [0, min(cap, base·2^(retry-1))], as ``random`` is in [0, 1).
    """
    base, cap = (1.0, 20.0) if failure.throttled else (0.25, 8.0)
    return random() * min(cap, math.ldexp(base, min(retry - 1, 16)))


def wait(retry: int, failure: Failure, random: Callable[[], float]) -> float:
    """Return the seconds before the retry: never earlier than the server asked, and spread out."""
    seconds, asked = backoff(retry, failure, random), failure.retry_after
    if asked is None:
        return seconds
    seconds = max(seconds, asked)
    return seconds + random() * min(5.0, seconds / 10)


def worth_waiting(seconds: float, failure: Failure, left: float) -> bool:
    """Whether to sleep for so long, with ``left`` seconds before the deadline of the call."""
    return (failure.retry_after or 0.0) <= MAX_ASKED and seconds < left


# --- Retry-After ---

_SECONDS = re.compile(r"[0-9]{1,32}(?:\.[0-9]{1,32})?")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = tuple(
    re.compile(form)
    for form in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def read_retry_after(value: str | None, date: str | None) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110, section 10.2.3), from 0.

    Whole or decimal seconds, or an HTTP-date, which counts from the answer's own ``Date``: the two
    clocks need not agree. A date without a Date, one that has passed, and whatever is malformed are
    ignored: None.
    """
    if value is None:
        return None
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        return float(value)
    if date is None or (sent := _read_date(date.strip(" \t"), 2000)) is None:
        return None
    if (due := _read_date(value, sent.year)) is None:
        return None
    seconds = (due - sent).total_seconds()
    return seconds if seconds >= 0 else None


def _read_date(text: str, near: int) -> datetime | None:
    """Read an HTTP-date in any of its three forms (RFC 9110, section 5.6.7).

    A year of two digits is the one nearest to ``near``, within 50 years.
    """
    found = next((match for form in _DATES if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    year, second = int(found["year"]), int(found["second"])
    if len(found["year"]) == 2:
        year += near - near % 100
        year += 100 * ((year <= near - 50) - (year > near + 50))
    leap = timedelta(seconds=second == 60)  # a leap second is in the grammar, not in datetime
    try:
        return leap + datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            59 if leap else second,
            tzinfo=UTC,
        )
    except (ValueError, OverflowError):
        return None


# --- RateLimit ---


class RateLimit(NamedTuple):
    """What is left of a quota, as RateLimit and RateLimit-Policy say. Whole requests, and seconds.

    ``quota`` and ``window`` are None where no policy of that name was given.
    """

    remaining: int
    reset: int | None = None
    quota: int | None = None
    window: int | None = None


# Structured fields (RFC 9651): a list of items with parameters.
_NAME = r"[a-z*][a-z0-9_\-.*]*"
_BARE = (
    r'(?:"(?:[ !#-\[\]-~]|\\["\\])*"'  # string
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"  # token
    r"|-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"  # decimal, integer
    r'|:[A-Za-z0-9+/=]*:|\?[01]|@-?[0-9]{1,15}|%"[ !#-~]*")'  # bytes, boolean, date, text
)
_PARAMETER = re.compile(rf"; *({_NAME})(?:=({_BARE}))?")
_ITEM = re.compile(rf"({_BARE})((?:; *{_NAME}(?:={_BARE})?)*)")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_OURS = re.compile(r'"default";r=([0-9]{1,15});t=([0-9]{1,15})')
_COUNT = re.compile(r"[0-9]{1,15}")


def read_rate_limit(ratelimit: str | None, policy: str | None) -> RateLimit | None:
    """Read RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers, version 8 on).

    Of several limits, the one with the least left; of those alike, the slowest. Quotas that count
    anything but requests are left out. What cannot be read is ignored: None.
    """
    if not ratelimit:
        return None
    policies = _read_policies(policy or "")
    if ours := _OURS.fullmatch(ratelimit):
        quota, window = policies.get('"default"', (None, None))
        if quota != 0:
            return RateLimit(int(ours[1]), int(ours[2]), quota, window)
    found = []
    for name, parameters in _read_list(ratelimit):
        remaining = _count(parameters.get("r"))
        quota, window = policies.get(name, (None, None))
        if remaining is not None and quota != 0:
            found.append(RateLimit(remaining, _count(parameters.get("t")), quota, window))
    return min(found, key=_scarcity, default=None)


def _scarcity(limit: RateLimit) -> tuple[int, float]:
    known = limit.quota is not None and limit.window is not None
    return limit.remaining, (limit.quota or 0) / (limit.window or 1) if known else math.inf


@lru_cache(maxsize=64)  # a server gives the same policy with each answer
def _read_policies(text: str) -> dict[str, tuple[int | None, int | None]]:
    """Return quota and window by name; a quota of 0 where it does not count requests."""
    policies: dict[str, tuple[int | None, int | None]] = {}
    for name, parameters in _read_list(text):
        quota, window = _count(parameters.get("q")), _count(parameters.get("w"))
        if parameters.get("qu", '"requests"') != '"requests"':
            policies[name] = (0, None)
        elif quota and window:
            policies[name] = (quota, window)
    return policies


def _read_list(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return each item as written, with its parameters; nothing where the list is malformed."""
    text, items, at = text.strip(" "), [], 0
    while item := _ITEM.match(text, at):
        items.append((item[1], dict(_PARAMETER.findall(item[2]))))
        if item.end() == len(text):
            return items
        if (comma := _COMMA.match(text, item.end())) is None:
            break
        at = comma.end()
    return []


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNT.fullmatch(text) else None
