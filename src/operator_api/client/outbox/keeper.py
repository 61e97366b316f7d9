"""The work of an outbox, for both kinds of client: keep a write, and have it sent.

::

    keep     Call ── prepare ──> Request ── seal ──> a row, committed ──> the receipt
    drain    a row ── open ──> the same Request ── (attempts.py) ──> sent, later, or a dead letter
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from httpx2 import URL

from operator_api.client.call import Call
from operator_api.client.configuration import (
    DEFAULT_MAX_RETRIES,
    Configuration,
    ConfigurationError,
)
from operator_api.client.core import Request, prepare
from operator_api.client.errors import OutboxError
from operator_api.client.outbox.drain_policy import TRY_SECONDS
from operator_api.client.outbox.drainer import Drainer, Sleep
from operator_api.client.outbox.rows import (
    Claimed,
    OutboxStatus,
    QueuedWrite,
    Receipt,
    Row,
    State,
    order_key_of,
    to_datetime,
)
from operator_api.client.outbox.sealing import OutboxKeys, find_keys
from operator_api.client.outbox.store import OutboxStore
from operator_api.contract.headers import IDEMPOTENCY_KEY
from operator_api.contract.operations import BY_NAME
from operator_api.vault.file_keys import SECRET_KEYS, key_file

_LOOK_SECONDS = 0.2


class Performing(Protocol):
    """What sends requests: the sender of a client for threads."""

    def perform(self, request: Request, sleep: Sleep, /) -> Any:
        """Send a request as the policy says, waiting by ``sleep``; return the answer or raise."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class Keeper:
    """An open outbox, with the drainer that sends from it to one server."""

    def __init__(
        self,
        path: Path,
        base_url: URL,
        sender: Performing,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.base_url = str(base_url)
        self._sender = sender
        self._clock = clock
        self._closed = False
        self.store = OutboxStore(path, clock=clock)
        try:
            self._keys = keys_of(self.store)
        except OutboxError:
            self.store.close()
            raise
        self._drainer = Drainer(self.store, self.base_url, self._send)
        if self.store.left(self.base_url):
            self._drainer.start()

    # --- keeping

    def keep(self, call: Call[Any], configuration: Configuration) -> Receipt:
        """Commit a write to the disk, and return its receipt; it is sent from then on."""
        if self._closed:
            raise ConfigurationError("The client is closed.")
        request = prepare(call, configuration)
        assert request.idempotency_key is not None, "only writes are put in an outbox"
        row = Row(
            id=f"out_{secrets.token_hex(16)}",
            operation=request.operation.name,
            url=str(request.url),
            base_url=self.base_url,
            idempotency_key=request.idempotency_key,
            order_key=order_key_of(call),
            queued_at=int(self._clock() * 1e6),
            key_id=self._keys.key_id,
            sealed=b"",
        )
        self.store.add(replace(row, sealed=self._keys.seal(request, row.context)))
        self._drainer.start()
        return Receipt(
            row.id,
            row.idempotency_key,
            row.operation,
            to_datetime(row.queued_at),
            row.order_key,
        )

    # --- sending

    def _send(self, claimed: Claimed, proven: bool, sleep: Sleep) -> None:  # noqa: FBT001 - as the drainer calls it
        # The first to find out whether there is a server tries once, and costs no budget.
        request = request_of(claimed.row, self._keys, DEFAULT_MAX_RETRIES if proven else 0)
        self._sender.perform(request, sleep)

    def drain(
        self, deadline: float, on_change: Callable[[OutboxStatus], None] | None = None
    ) -> OutboxStatus:
        """Try all that is pending now, and wait for it; return what is left."""
        ends = time.monotonic() + deadline
        self.store.hurry(self.base_url)
        self._drainer.hurry()
        while self.store.left(self.base_url) and (left := ends - time.monotonic()) > 0:
            if on_change is not None:
                on_change(self.status())
            self._drainer.wait_for_turn(min(left, _LOOK_SECONDS))
        return self.status()

    def close(self) -> None:
        """Stop sending, and close the file."""
        if not self._closed:
            self._closed = True
            self._drainer.stop()
            self.store.close()
            self._sender.close()

    # --- looking, and deciding

    def status(self) -> OutboxStatus:
        """Count what there is."""
        return self.store.status(self.base_url, self._keys.ids)

    def writes(self, state: State) -> list[QueuedWrite]:
        """Return the writes of a state, oldest first."""
        return self.store.writes(state)

    def get(self, write_id: str) -> QueuedWrite | None:
        """Return a write, None where there is none."""
        return self.store.get(write_id)

    def retry(self, write_id: str, *, force: bool) -> QueuedWrite:
        """Put a dead letter back, and send it."""
        write = self.store.requeue(write_id, force=force)
        self._drainer.start()
        return write

    def drop(self, write_id: str) -> QueuedWrite:
        """Take a write out for good."""
        return self.store.drop(write_id)


def keys_of(store: OutboxStore) -> OutboxKeys:
    """Return the keys of an outbox; make one for an empty one, and refuse to lose what is in it."""
    used = store.key_ids()
    keys = find_keys(store.path, make=not used)
    if keys is None or used - keys.ids:
        missing = ", ".join(sorted(used - (keys.ids if keys else frozenset())))
        raise OutboxError(
            f"What is in the outbox {store.path} was sealed by a key that is not at hand"
            f" ({missing}). Put its file back at {key_file(store.path)}, or the key into"
            f" {SECRET_KEYS}. If it is lost, what it sealed cannot be sent: see `operator-api"
            " outbox status`, and drop it."
        )
    return keys


def request_of(row: Row, keys: OutboxKeys, max_retries: int) -> Request:
    """Return the request as it was when it was kept: the same bytes and the same key."""
    head, body = keys.open(row.key_id, row.sealed, row.context)
    operation = BY_NAME.get(row.operation)
    if operation is None:
        raise OutboxError(f"This version knows no operation {row.operation}. Upgrade it.")
    return Request(
        operation=operation,
        method=operation.method,
        url=URL(row.url),
        headers={**head["headers"], IDEMPOTENCY_KEY: row.idempotency_key},
        content=body if head["has_body"] else None,
        idempotency_key=row.idempotency_key,
        call_id=head["call_id"],
        timeout=head["timeout"],
        deadline=TRY_SECONDS,
        max_retries=max_retries,
    )
