"""What can go wrong between a caller and the server, as values: what is done is ``proxy.py``'s.

::

    Fault                       reaches: does the upstream get the request?
    ├── never sent, or lost
    │   ├── ResetBeforeRequest  no     reset as the connection opens, or once the head is read
    │   ├── ResetBefore         no     reset once the whole request is read
    │   ├── ResetAfter          yes    reset once the upstream has answered: it has happened
    │   └── Refused             no     the port is closed for a time
    ├── answered by another
    │   ├── Refuse              no     an error of the catalogue, whole and true to the contract
    │   ├── Status              either any status, headers and body
    │   ├── Html                either a page of a proxy in between
    │   └── Redirect            no
    ├── a wrong success
    │   ├── WrongJson           yes    JSON that is not the answer's, or no JSON
    │   ├── Empty               yes    a success without a body
    │   ├── Truncate            yes    closed in the middle of the answer
    │   └── NotHttp             either bytes that are no HTTP
    └── late or unusual
        ├── Stall               either a pause before, after or instead of the upstream's work
        ├── Drip                yes    the answer in small pieces
        ├── CloseIdle           yes    keep-alive ends after the answer, or at the next request
        ├── Informational       yes    1xx answers before the true one
        └── Skew                as its inner fault    the server's clock is off
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one request."""

    reaches_upstream: ClassVar[bool] = False

    @property
    def reaches(self) -> bool:
        """Whether the upstream gets the request, so that a write happens."""
        return self.reaches_upstream


# --- never sent, or lost ---


@dataclass(frozen=True)
class ResetBeforeRequest(Fault):
    """A reset (RST) before the request is read.

    Where a plan goes by order, a connection is reset as it opens (before TLS), and an open one as
    soon as the next request's head is there; where it goes by key, always the latter.
    """


@dataclass(frozen=True)
class ResetBefore(Fault):
    """The request is read, not passed on, and the connection reset."""


@dataclass(frozen=True)
class ResetAfter(Fault):
    """The upstream has answered, so a write is committed, and the connection is reset."""

    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class Refused(Fault):
    """The port is closed for some seconds, and every connection reset; then it opens again."""

    seconds: float = 1.0


# --- answered by another ---


@dataclass(frozen=True)
class Refuse(Fault):
    """An error of the catalogue, with the whole body and all headers of the contract.

    ``retry_after`` is a number of seconds, or the header's text as it is (garbage, or empty for no
    such header); None is what the catalogue has. With ``as_date`` the seconds are told as an
    HTTP-date, by the server's clock. ``should_retry`` replaces the catalogue's X-Should-Retry.
    """

    reason: str
    retry_after: float | str | None = None
    as_date: bool = False
    should_retry: bool | None = None


@dataclass(frozen=True)
class Status(Fault):
    """Any answer; with ``commits`` the upstream gets the request first, and its own is lost."""

    status: int
    headers: Pairs = ()
    body: str = ""
    commits: bool = False

    @property
    def reaches(self) -> bool:
        """Whether the upstream gets the request, so that a write happens."""
        return self.commits


@dataclass(frozen=True)
class Html(Fault):
    """The page of a proxy in between; with ``commits`` the upstream gets the request first."""

    status: int = 502
    commits: bool = False

    @property
    def reaches(self) -> bool:
        """Whether the upstream gets the request, so that a write happens."""
        return self.commits


@dataclass(frozen=True)
class Redirect(Fault):
    """A redirect to a path or a URL."""

    to: str
    status: int = 307


# --- a wrong success ---


@dataclass(frozen=True)
class WrongJson(Fault):
    """The upstream's status and headers, with a body that is not its answer.

    A body that is JSON of another schema, one that is cut off, or one of another media type.
    """

    body: str = '{"ok": true}'
    media_type: str = "application/json"
    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class Empty(Fault):
    """A success without a body, though the request was executed."""

    status: int = 204
    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class Truncate(Fault):
    """The connection is closed, in order, after ``size`` bytes of the answer's body or head.

    The head is complete, with the Content-Length of the whole body. At least one byte is held back.
    """

    size: int = 10
    of: Literal["body", "head"] = "body"
    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class NotHttp(Fault):
    """Text that is no HTTP where the answer should be; then the connection is closed."""

    text: str = "220 mail.example.com ESMTP\r\n"
    commits: bool = False

    @property
    def reaches(self) -> bool:
        """Whether the upstream gets the request, so that a write happens."""
        return self.commits


# --- late or unusual ---


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing happens for some seconds.

    ``before``: the request is held back, then passed on whether or not its caller still waits, so
    that it may arrive after a later attempt. ``after``: the upstream has answered, and the answer
    is held back. ``in_body``: so is all but the head and one byte. ``instead``: the request is not
    passed on, and the connection is closed in the end.
    """

    seconds: float
    at: Literal["before", "after", "in_body", "instead"] = "after"

    @property
    def reaches(self) -> bool:
        """Whether the upstream gets the request, so that a write happens."""
        return self.at != "instead"


@dataclass(frozen=True)
class Drip(Fault):
    """The body, or with ``head`` the whole answer, goes out ``size`` bytes ``every`` seconds."""

    size: int = 1
    every: float = 0.1
    head: bool = False
    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class CloseIdle(Fault):
    """The connection closes though keep-alive was promised: after the answer, or later.

    With ``next_request`` it closes as another request has arrived, which is not passed on. That is
    recorded with this fault as well.
    """

    at: Literal["after_answer", "next_request"] = "after_answer"
    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class Informational(Fault):
    """Interim answers (RFC 9110, section 15.2) before the true one."""

    status: int = 103
    count: int = 1
    reaches_upstream: ClassVar[bool] = True


@dataclass(frozen=True)
class Skew(Fault):
    """The server's clock is ahead, or behind (negative), in Date and in dates of Retry-After.

    ``fault`` is what else goes wrong; None leaves the upstream's answer but for its Date.
    """

    seconds: float
    fault: Fault | None = None

    @property
    def reaches(self) -> bool:
        """Whether the upstream gets the request, so that a write happens."""
        return self.fault is None or self.fault.reaches


FAULTS: tuple[type[Fault], ...] = (
    ResetBeforeRequest,
    ResetBefore,
    ResetAfter,
    Refused,
    Refuse,
    Status,
    Html,
    Redirect,
    WrongJson,
    Empty,
    Truncate,
    NotHttp,
    Stall,
    Drip,
    CloseIdle,
    Informational,
    Skew,
)
