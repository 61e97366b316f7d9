"""What goes over the wire: a request as it is asked, its answer, and the record of both."""

from dataclasses import dataclass, field

from operator_api.contract.headers import IDEMPOTENCY_KEY, parse_idempotency_key
from operator_api.drill.faults import Fault

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer. Content-Length is added where it is framed, and is not to be given."""

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return the first header of this name, in whatever letter case."""
        return _first(self.headers, name)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, or the opening of a connection: that has no method and no path yet.

    ``at`` is of the monotonic clock, ``elapsed`` the seconds since the first connection. Requests
    with one Idempotency-Key are attempts of one operation; without a key, each is an operation of
    its own, unless ``X-Operator-Retry-Count`` says otherwise of its attempt. Operations, attempts
    and connections count from 0. Names of headers are in lower case; neither they nor the body are
    shown in ``repr``.
    """

    at: float
    elapsed: float
    connection: int
    operation: int = -1
    attempt: int = 0
    method: str = ""
    path: str = ""
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def connecting(self) -> bool:
        """Whether this is a connection that opens, and no request."""
        return not self.method

    @property
    def key(self) -> str | None:
        """The Idempotency-Key, without quotes; None where there is none or it is malformed."""
        sent = self.header(IDEMPOTENCY_KEY)
        return None if sent is None else parse_idempotency_key(sent)

    @property
    def token(self) -> str | None:
        """The bearer token that was sent, to see where it goes."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    def header(self, name: str) -> str | None:
        """Return the first header of this name, in whatever letter case."""
        return _first(self.headers, name)


@dataclass(frozen=True, kw_only=True)
class Seen(Asked):
    """What was asked, and what became of it.

    ``forwarded`` says that the upstream was sent the request, ``upstream_status`` what it answered.
    ``answer`` is what went out completely, at ``answered_at``; None where nothing or only a part
    did. That the caller has read it is not known. ``finished`` is False while it is still handled.
    """

    fault: Fault | None = None
    forwarded: bool = False
    upstream_status: int | None = None
    answer: Answer | None = None
    answered_at: float | None = None
    finished: bool = False

    @property
    def answered(self) -> int | None:
        """The status that was answered, if one was."""
        return None if self.answer is None else self.answer.status


def _first(headers: Headers, name: str) -> str | None:
    wanted = name.lower()
    return next((value for each, value in headers if each.lower() == wanted), None)
