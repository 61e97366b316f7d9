"""Both clients, driven by one and the same test.

A test is a coroutine that opens a ``Kind`` and makes its calls through it. The client for threads
does them in threads of a pool, so that calls may run at once in either::

    @BOTH
    async def test_users(kind: Kind) -> None:
        with answering() as server:
            async with kind.open(server.url) as client:
                await client.do(lambda api: api.users.create(email="ada@example.com"))

Each client that is opened so has a registry of its own: budgets, gates and paces that other tests
have used are not its. All else is by default, unless the test says otherwise.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from random import random as uniform
from typing import Any

import httpx2
import pytest

from operator_api.client import APIError, AsyncOperatorAI, OperatorAI
from operator_api.client.attempts import Surroundings
from operator_api.client.shared import Registry
from tests.faulty import TOKEN

Ask = Callable[[Any], Any]
"""A call, made on whichever client it is given."""


def at_once() -> float:
    """Return the least that chance can give: a backoff of 0 seconds."""
    return 0.0


class Client(ABC):
    """One client. ``api`` is the object that a program would have."""

    def __init__(self, api: Any, pool: ThreadPoolExecutor) -> None:
        self.api = api
        self._pool = pool

    @abstractmethod
    async def do(self, ask: Ask) -> Any:
        """Make a call, and return its answer or raise."""

    @abstractmethod
    async def items(self, ask: Ask) -> list[Any]:
        """Return all items of a list, page after page."""

    @abstractmethod
    async def close(self) -> None:
        """Close the client."""

    def with_options(self, **options: Any) -> "Client":
        """Return the same client with other options."""
        return type(self)(self.api.with_options(**options), self._pool)

    async def all(self, asks: Iterable[Ask]) -> list[Any]:
        """Make calls at once; return their answers and errors, in order."""
        return await asyncio.gather(*map(self.do, asks), return_exceptions=True)

    async def fails(self, ask: Ask) -> APIError:
        """Make a call that must fail, and return its error."""
        with pytest.raises(APIError) as raised:
            await self.do(ask)
        return raised.value


class SyncClient(Client):
    """The client for threads."""

    async def do(self, ask: Ask) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, ask, self.api)

    async def items(self, ask: Ask) -> list[Any]:
        found: list[Any] = await self.do(lambda api: list(ask(api)))
        return found

    async def close(self) -> None:
        self.api.close()


class AsyncClient(Client):
    """The client for event loops."""

    async def do(self, ask: Ask) -> Any:
        asked = ask(self.api)
        return await asked if isinstance(asked, Awaitable) else asked

    async def items(self, ask: Ask) -> list[Any]:
        return [item async for item in ask(self.api)]

    async def close(self) -> None:
        await self.api.close()


class Kind:
    """A kind of client: which class, and how it is driven."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    @property
    def blocks(self) -> bool:
        """Whether a call blocks its thread."""
        return self.name == "sync"

    def http_client(self, respond: Callable[[httpx2.Request], httpx2.Response]) -> Any:
        """Return a client of httpx2 that asks a function instead of the network."""
        transport = httpx2.MockTransport(respond)
        if self.blocks:
            return httpx2.Client(transport=transport)
        return httpx2.AsyncClient(transport=transport)

    @asynccontextmanager
    async def open(
        self,
        url: str,
        *,
        registry: Registry | None = None,
        random: Callable[[], float] = uniform,
        clock: Callable[[], float] = time.monotonic,
        api_key: Any = TOKEN,
        **options: Any,
    ) -> AsyncIterator[Client]:
        """Open a client. ``random`` and ``clock`` are what its calls go by."""
        made = OperatorAI if self.blocks else AsyncOperatorAI
        api: Any = made(base_url=url, api_key=api_key, **options)
        record = api._sender.around.record
        api._sender.around = Surroundings(registry or Registry(), record, clock, random)
        # As many threads as a test has calls at once; they are started when they are needed.
        with ThreadPoolExecutor(256, thread_name_prefix="calls") as pool:
            client = SyncClient(api, pool) if self.blocks else AsyncClient(api, pool)
            try:
                yield client
            finally:
                await client.close()


BOTH = pytest.mark.parametrize("kind", [Kind("sync"), Kind("async")], ids=repr)
EMAIL = "ada@example.com"


def create(api: Any, email: str = EMAIL, **options: Any) -> Any:
    """Create a user: a call that writes."""
    return api.users.create(email=email, **options)


def me(api: Any) -> Any:
    """Ask who is asking: a call that reads."""
    return api.me.get()


def errors_of(answers: Sequence[Any]) -> list[BaseException]:
    """Return what failed of some answers."""
    return [each for each in answers if isinstance(each, BaseException)]
