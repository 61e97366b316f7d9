"""A failed attempt as the log of failures takes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """One attempt of a call, and how it failed. What must not be stored is taken out by the log.

    ``at`` is when it began, in microseconds since 1970; ``path`` is the operation's template.
    ``attempt`` counts from 1. ``delay`` is how many seconds the next attempt waits, None where
    there is none. ``error`` is the name of the exception's class, and ``message`` its text.
    """

    at: int
    operation: str
    method: str
    path: str
    url: str = field(repr=False)
    call_id: str
    error: str
    outcome: str
    attempt: int = 1
    status: int | None = None
    reason: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    delay: float | None = None
    elapsed_ms: float = 0.0
    message: str = field(default="", repr=False)
    request_headers: Headers = field(default=(), repr=False)
    request_body: bytes | None = field(default=None, repr=False)
    response_headers: Headers = field(default=(), repr=False)
    response_body: bytes | None = field(default=None, repr=False)
