"""One request, what is learned of it on its way, what its handler decides, and the answer.

::

    Exchange   what came in, and what each step of the pipeline adds to it
    Incoming   its body, which may still be on its way
    Call       what a handler gets: who, which ids, parameters and body, all of them checked
    Answer     what a handler found
    Change     what a handler decided: a write, and the answer once it is committed
    Response   status, headers and bytes
    Respond    what makes a Response of an Exchange: the pipeline is one
    Note       what is told of each of them: the request log
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from operator_api.contract.errors import Problem
from operator_api.contract.headers import parse_trace_id
from operator_api.contract.operations import Operation
from operator_api.server.auth import Token
from operator_api.server.cursors import Cursors
from operator_api.server.database import Database, Write
from operator_api.server.limits import Verdict

Header = tuple[bytes, bytes]
View = Literal["json", "problem", "markdown"]


@dataclass(slots=True)
class Exchange:
    """One request on its way. A header that was sent twice has its values joined by a comma.

    ``segments`` are the path's, each decoded by itself: an encoded slash does not divide them.

    ``view`` is how an error is to be shown; ``keyed`` whether there is an idempotency key, so that
    to send the request again is safe; ``simulated`` whether the answer is an error that was asked
    for; ``replay_of`` the id of the request whose answer is
    given again. ``bearer`` is whose token came in, though it may be one that is no longer usable;
    ``token`` is a usable one. ``problem`` is what was refused.
    """

    request_id: str
    method: str
    path: str
    segments: Sequence[str]
    query: bytes
    headers: Mapping[bytes, bytes]
    address: str
    view: View = "json"
    keyed: bool = False
    simulated: bool = False
    replay_of: str | None = None
    operation: Operation | None = None
    token: Token | None = None
    verdict: Verdict | None = None
    bearer: Token | None = None
    problem: Problem | None = None

    def header(self, name: bytes) -> str | None:
        """Return a header's value as text, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def traced(self) -> dict[str, str]:
        """What ties a line of the log to this request, and to its caller's trace."""
        trace_id = parse_trace_id(self.header(b"traceparent") or "")
        ids = {"request_id": self.request_id}
        return ids if trace_id is None else ids | {"trace_id": trace_id}


class Disconnected(Exception):
    """The caller went away before its request was complete."""


class Incoming(Protocol):
    """The body of a request."""

    async def read(self, most: int) -> bytes:
        """Return the body; of one that is larger than ``most``, no more than shows that it is.

        Raise Disconnected if the caller is gone, or the Problem with the rest of the request.
        """
        ...


@dataclass(slots=True)
class Call:
    """A request that has passed every check that needs no stored state."""

    operation: Operation
    database: Database
    request_id: str
    now: int
    ids: Mapping[str, str]
    params: Any
    body: Any
    cursors: Cursors
    if_match: Sequence[str] | None = None
    caller: Token | None = None

    @property
    def token(self) -> Token:
        """Who calls. Only public operations have nobody."""
        assert self.caller is not None, "a public operation has no token"
        return self.caller

    @property
    def tenant(self) -> int:
        """Whose rows the call may reach: the first parameter of every query."""
        return self.token.tenant


class Answer(NamedTuple):
    """What to answer: an object to become JSON, or bytes as they are."""

    content: Mapping[str, Any] | bytes
    headers: Sequence[Header] = ()
    content_type: Header = (b"content-type", b"application/json")


class Change(NamedTuple):
    """A write, and what to answer once it is committed. ``bulk`` ones may touch many rows.

    Where a guard of the write fails, ``explain`` may raise the reason; else it is decided anew.
    ``then`` runs right after the commit, and must not fail.
    """

    write: Write
    answer: Answer
    bulk: bool = False
    explain: Callable[[], Awaitable[None]] | None = None
    then: Callable[[], None] | None = None


Handler = Callable[[Call], Awaitable[Answer | Change]]


class Response(NamedTuple):
    """What goes out, but for the headers that frame it."""

    status: int
    body: bytes
    headers: Sequence[Header] = ()


Respond = Callable[[Exchange, Incoming], Awaitable[Response]]


class Note(Protocol):
    """Takes note of a request that has been answered. It must not wait, and must not fail."""

    def __call__(
        self, exchange: Exchange, response: Response, body: bytearray, *, complete: bool
    ) -> None:
        """Take note; ``complete`` says whether ``body`` is all of the request's body."""
        ...
