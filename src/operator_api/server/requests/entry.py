"""What is kept of one request, and what its sealed detail is made of.

::

    Material   a failed request and its answer, as they were
    Entry      one row of the log, in clear; made of a Material in the log's own thread
    Details    what makes the sealed detail of a failed request, in the log's own thread too
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from operator_api.contract.fields import format_timestamp
from operator_api.server.exchange import Exchange, Response

# How much of a body is kept for the detail of a failed request.
MATERIAL_BYTES = 64 * 1024


class Material(NamedTuple):
    """A failed request and its answer, as they were.

    ``exchange.problem`` is what was refused, None where an answer was given again;
    ``exchange.bearer`` whose token it was, also where it is revoked or expired. ``body`` is what
    had arrived of the body, at most MATERIAL_BYTES of it, and ``complete`` says that the body had
    arrived as a whole. ``ended`` is when the answer was written, in nanoseconds since 1970.
    """

    exchange: Exchange
    response: Response
    body: bytes | bytearray
    complete: bool
    ended: int


@dataclass(slots=True)
class Entry:
    """One row of the log. There is no secret in it: values that a caller chose are redacted.

    ``tenant`` is 0 where nobody is known to have called: such rows are the operator's alone.
    ``operation`` and ``template`` are empty and the path in words where there is no such path.
    ``object_id`` is what stands in the place of the path's variable. ``key_hash`` and ``body_hash``
    are keyed: the same key or body has the same hash within a tenant, and tells nothing else.
    """

    tenant: int
    id: str
    method: str
    operation: str
    template: str
    status: int
    reason: str
    outcome: str
    latency_microseconds: int
    token_id: str
    address: str
    object_id: str
    client_request_id: str
    retry_count: int | None
    replay_of: str
    key_hash: str
    body_hash: str

    @property
    def at(self) -> int:
        """When the request's head had arrived, in microseconds since 1970."""
        return time_of(self.id)

    @property
    def failed(self) -> bool:
        """Whether the answer was an error."""
        return self.status >= 400

    @property
    def path(self) -> str:
        """The path that was called, with the id in its place."""
        head, brace, rest = self.template.partition("{")
        if not brace:
            return self.template
        return f"{head}{self.object_id}{rest.partition('}')[2]}"

    def as_json(self) -> Mapping[str, Any]:
        """Return what a list shows of the request."""
        return {
            "id": self.id,
            "at": format_timestamp(self.at),
            "operation": self.operation or None,
            "method": self.method or None,
            "path": self.path or None,
            "status": self.status,
            "reason": self.reason or None,
            "outcome": self.outcome or None,
            "latency_ms": self.latency_microseconds / 1000,
            "token_id": self.token_id or None,
            "address": self.address or None,
            "client_request_id": self.client_request_id or None,
            "retry_count": self.retry_count,
            "replayed": bool(self.replay_of),
            "replay_of": self.replay_of or None,
        }


def time_of(request_id: str) -> int:
    """Return when a request's id was minted, in microseconds since 1970."""
    return int(request_id[4:20], 16) // 1000


class Details(Protocol):
    """What makes the sealed detail of a failed request.

    ``note`` is for the event loop, and must not wait. ``seal`` runs in the log's thread: what it
    raises is logged and counted, and costs the detail, not the row.
    """

    def note(self, exchange: Exchange, body: bytes | bytearray, *, failed: bool) -> None:
        """Take note of a success, or of a failure whose detail will be made."""
        ...

    def seal(self, entry: Entry, material: Material) -> bytes | None:
        """Return the redacted request and answer, sealed for the entry; None to keep nothing."""
        ...
