"""Lists, a page at a time or item by item.

The next page is a call like the first one, with its filters and options, and is retried like it.
"""

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from operator_api.client.call import Call
from operator_api.client.errors import APIError, OperatorError
from operator_api.contract.models import Page

T = TypeVar("T")
Item = TypeVar("Item")


class Send(Protocol):
    """Send a call, and return its answer or raise."""

    def __call__(self, call: Call[T], /) -> T:
        """Return the answer's model."""
        ...


class AsyncSend(Protocol):
    """Send a call, and return its answer or raise."""

    async def __call__(self, call: Call[T], /) -> T:
        """Return the answer's model."""
        ...


class _Trail(NamedTuple):
    """One cursor of those that led here, to notice a list that goes in circles (Brent, 1980).

    It is taken anew after 1, 2, 4, … pages, so that a circle of any length meets it.
    """

    cursor: str | None
    taken_for: int = 1
    age: int = 1

    def follow(self, cursor: str) -> "_Trail":
        if self.age == self.taken_for:
            return _Trail(cursor, 2 * self.taken_for, 0)
        return self._replace(age=self.age + 1)


class _AnyPage(Generic[Item]):
    """What pages of both clients have in common."""

    __slots__ = ("_call", "_model", "_trail")

    def __init__(
        self, model: Page[Item], call: Call[Page[Item]], trail: _Trail | None = None
    ) -> None:
        self._model = model
        self._call = call
        self._trail = trail or _Trail(call.params.get("cursor"))

    @property
    def data(self) -> Sequence[Item]:
        """The items of this page."""
        return self._model.data

    @property
    def has_more(self) -> bool:
        """Whether the list goes on after this page."""
        return self._model.has_more

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins: the ``cursor`` to list it with."""
        return self._model.next_cursor

    def has_next_page(self) -> bool:
        """Say whether the list goes on after this page. An empty page may be followed by others."""
        return self._model.has_more

    def _next(self) -> tuple[Call[Page[Item]], _Trail]:
        """Return the call of the next page, and the trail that leads there."""
        cursor = self._model.next_cursor
        if not self._model.has_more or cursor is None:
            raise OperatorError("This is the last page: has_next_page() says whether there is one.")
        if cursor == self._trail.cursor:
            raise APIError(
                f"{self._call.operation} answered a next_cursor that led here already: the list"
                " would never end. This is a fault of the server; report it.",
                operation=self._call.operation,
                attempts=1,
                outcome="not_executed",
            )
        params = {**self._call.params, "cursor": cursor}
        options = {**self._call.options}
        options.pop("idempotency_key", None)
        return replace(self._call, params=params, options=options), self._trail.follow(cursor)

    def __repr__(self) -> str:
        more = ", and there are more" if self.has_more else ""
        return f"<{type(self).__name__} of {self._call.operation}: {len(self.data)} items{more}>"


class SyncPage(_AnyPage[Item]):
    """One page of a list. Iterating goes through the items of this page and all that follow."""

    __slots__ = ("_send",)

    def __init__(
        self,
        model: Page[Item],
        call: Call[Page[Item]],
        send: Send,
        trail: _Trail | None = None,
    ) -> None:
        super().__init__(model, call, trail)
        self._send = send

    def get_next_page(self) -> "SyncPage[Item]":
        """Return the page after this one; raise OperatorError after the last."""
        call, trail = self._next()
        return SyncPage(self._send(call), call, self._send, trail)

    def iter_pages(self) -> "Iterator[SyncPage[Item]]":
        """Go through this page and all that follow."""
        page = self
        yield page
        while page.has_next_page():
            page = page.get_next_page()
            yield page

    def __iter__(self) -> Iterator[Item]:
        for page in self.iter_pages():
            yield from page.data


class AsyncPage(_AnyPage[Item]):
    """One page of a list. ``async for`` goes through its items and those of all that follow."""

    __slots__ = ("_send",)

    def __init__(
        self,
        model: Page[Item],
        call: Call[Page[Item]],
        send: AsyncSend,
        trail: _Trail | None = None,
    ) -> None:
        super().__init__(model, call, trail)
        self._send = send

    async def get_next_page(self) -> "AsyncPage[Item]":
        """Return the page after this one; raise OperatorError after the last."""
        call, trail = self._next()
        return AsyncPage(await self._send(call), call, self._send, trail)

    async def iter_pages(self) -> "AsyncIterator[AsyncPage[Item]]":
        """Go through this page and all that follow."""
        page = self
        yield page
        while page.has_next_page():
            page = await page.get_next_page()
            yield page

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.iter_pages():
            for item in page.data:
                yield item


class AsyncPaginator(Generic[Item]):
    """A list that was not asked for yet: ``await`` gives its first page, ``async for`` all items.

    ::

        page = await client.users.list()
        async for user in client.users.list(): ...
    """

    __slots__ = ("_call", "_send")

    def __init__(self, call: Call[Page[Item]], send: AsyncSend) -> None:
        self._call = call
        self._send = send

    def __await__(self) -> Generator[Any, None, AsyncPage[Item]]:
        return self._first().__await__()

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for item in await self._first():
            yield item

    async def iter_pages(self) -> AsyncIterator[AsyncPage[Item]]:
        """Go through all pages."""
        async for page in (await self._first()).iter_pages():
            yield page

    async def _first(self) -> AsyncPage[Item]:
        return AsyncPage(await self._send(self._call), self._call, self._send)
