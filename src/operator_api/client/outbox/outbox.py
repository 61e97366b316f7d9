"""The outbox, as programs see it: writes that are kept on the disk first, and sent then.

::

    client.outbox.messages.create(…)    → a Receipt, once the write is committed
    client.outbox.status()              → how many wait, and how many were refused for good
    client.outbox.dead_letters()        → what was refused, with the reason

The writes of one conversation are sent in order and one at a time, and so are those of one user
that name no conversation; all others go side by side. A write that is refused for good, or is older
than 6 days, becomes a dead letter, and those behind it go on.
"""

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from operator_api.client.configuration import (
    ApiKey,
    AsyncApiKey,
    Configuration,
    ConfigurationError,
)
from operator_api.client.methods import AsyncOutboxed, Outboxed
from operator_api.client.outbox.rows import OutboxStatus, QueuedWrite, Receipt
from operator_api.client.resources import Resources

if TYPE_CHECKING:
    from operator_api.client.call import Call
    from operator_api.client.outbox.keeper import Keeper, Performing

DRAIN_SECONDS = 60.0


class Outbox(Resources[Outboxed[Receipt]]):
    """Writes that outlive the program, for threads. Whatever it cannot do raises OutboxError.

    Its methods are the client's own that write; they return a receipt, and validate as ever.
    """

    def __init__(self, keeper: "Keeper", configuration: Configuration) -> None:
        self._keeper = keeper
        super().__init__(Outboxed(partial(keeper.keep, configuration=configuration)))

    def status(self) -> OutboxStatus:
        """Count what is pending, on its way, and dead."""
        return self._keeper.status()

    def pending(self) -> list[QueuedWrite]:
        """Return what is to be sent, oldest first, without bodies."""
        return self._keeper.writes("pending")

    def dead_letters(self) -> list[QueuedWrite]:
        """Return what was refused for good or has expired, oldest first, without bodies."""
        return self._keeper.writes("dead")

    def get(self, write_id: str) -> QueuedWrite | None:
        """Return a write by the id of its receipt; None once it was sent, or dropped."""
        return self._keeper.get(write_id)

    def retry(self, write_id: str, *, force: bool = False) -> QueuedWrite:
        """Put a dead letter back, behind what is pending, and send it.

        One that was certainly not done gets a new idempotency key. One that may have been done
        keeps its key, and after 6 days it is refused, since the server may have forgotten it:
        ``force`` sends it with a new key all the same, even if it is then done twice.
        """
        return self._keeper.retry(write_id, force=force)

    def drop(self, write_id: str) -> QueuedWrite:
        """Take a write out for good, pending or dead, and return what it was."""
        return self._keeper.drop(write_id)

    def drain(
        self,
        *,
        deadline: float = DRAIN_SECONDS,
        on_change: Callable[[OutboxStatus], None] | None = None,
    ) -> OutboxStatus:
        """Try all that is pending now, and wait until it is sent: ``deadline`` seconds at most.

        Returns what is left. ``on_change`` is called while it waits, a few times a second.
        """
        return self._keeper.drain(deadline, on_change)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._keeper.store.path}>"


class AsyncOutbox(Resources[AsyncOutboxed[Receipt]]):
    """Writes that outlive the program, for event loops. The same as Outbox, awaited.

    A write whose await is cancelled may have been kept all the same.
    """

    def __init__(self, keeper: "Keeper", configuration: Configuration) -> None:
        self._keeper = keeper

        async def keep(call: "Call[Any]") -> Receipt:
            return await anyio.to_thread.run_sync(keeper.keep, call, configuration)

        super().__init__(AsyncOutboxed(keep))

    async def status(self) -> OutboxStatus:
        """Count what is pending, on its way, and dead."""
        return await anyio.to_thread.run_sync(self._keeper.status)

    async def pending(self) -> list[QueuedWrite]:
        """Return what is to be sent, oldest first, without bodies."""
        return await anyio.to_thread.run_sync(self._keeper.writes, "pending")

    async def dead_letters(self) -> list[QueuedWrite]:
        """Return what was refused for good or has expired, oldest first, without bodies."""
        return await anyio.to_thread.run_sync(self._keeper.writes, "dead")

    async def get(self, write_id: str) -> QueuedWrite | None:
        """Return a write by the id of its receipt; None once it was sent, or dropped."""
        return await anyio.to_thread.run_sync(self._keeper.get, write_id)

    async def retry(self, write_id: str, *, force: bool = False) -> QueuedWrite:
        """Put a dead letter back, as ``Outbox.retry`` does."""
        return await anyio.to_thread.run_sync(partial(self._keeper.retry, write_id, force=force))

    async def drop(self, write_id: str) -> QueuedWrite:
        """Take a write out for good, pending or dead, and return what it was."""
        return await anyio.to_thread.run_sync(self._keeper.drop, write_id)

    async def drain(self, *, deadline: float = DRAIN_SECONDS) -> OutboxStatus:
        """Try all that is pending now, wait ``deadline`` seconds at most; return what is left."""
        return await anyio.to_thread.run_sync(self._keeper.drain, deadline)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._keeper.store.path}>"


class OutboxAccess:
    """The outbox of a client and its copies, which is opened once.

    One that was given to the client is opened with it, and what is pending in it is sent. The one
    that OPERATOR_OUTBOX names is opened when it is first used: programs that do not use it, but run
    under the same variable, leave it alone. ``sender`` gives what sends.
    """

    def __init__(
        self,
        given: str | Path | None,
        configuration: Configuration,
        sender: "Callable[[], Performing]",
    ) -> None:
        chosen = given or os.environ.get("OPERATOR_OUTBOX")
        self._path = Path(chosen) if chosen else None
        self._configuration = configuration
        self._sender = sender
        self._lock = Lock()
        self._keeper: Keeper | None = None
        if given:
            self.keeper()

    def keeper(self) -> "Keeper":
        """Return the outbox, or say how to get one."""
        if self._path is None:
            raise ConfigurationError(
                "The client has no outbox. Pass outbox='a file to keep writes in', or set"
                " OPERATOR_OUTBOX."
            )
        with self._lock:
            if self._keeper is None:
                # Few programs need it, and loading SQLite takes time from all.
                from operator_api.client.outbox.keeper import Keeper  # noqa: PLC0415 - see above

                base_url = self._configuration.base_url
                self._keeper = Keeper(self._path, base_url, self._sender())
            return self._keeper

    @property
    def is_open(self) -> bool:
        """Whether there is anything to close."""
        return self._keeper is not None

    def close(self) -> None:
        """Stop sending. What is on its way has a moment to finish; the rest is sent next time."""
        if self._keeper is not None:
            self._keeper.close()


def without_loop(api_key: AsyncApiKey) -> ApiKey:
    """Return what gives the token to the drainer, whose thread has no event loop of its own."""
    if not callable(api_key):
        return api_key

    def ask() -> str:
        given = api_key()
        return anyio.run(_awaited, given) if inspect.isawaitable(given) else given

    return ask


async def _awaited(given: Any) -> str:
    token: str = await given
    return token
