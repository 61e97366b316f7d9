"""How a method that is written once is called in each mode.

A method of a resource builds a value, the ``Call``, and has the full signature; that is all it
does. The mode of the resource it is read from says what happens to the call: it is sent at once,
awaited, sent for the raw answer, or put in the outbox. The types follow, so that what a mode
cannot do is refused by the type checker, and by an AttributeError at run time.

::

    class Users(Resource[M]):
        @reads
        def get(self, user_id: str, **options: Unpack[Options]) -> Call[User]:
            return Call("users.get", ids={"user_id": user_id}, options=options)

    Users(Sync(send)).get("usr_…")             # User
    await Users(Async(send)).get("usr_…")      # User
    Users(Outboxed(keep)).get("usr_…")         # AttributeError
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    get_args,
    overload,
)

from operator_api.client.call import Call
from operator_api.client.pages import AsyncPage, AsyncPaginator, AsyncSend, Send, SyncPage
from operator_api.client.responses import RawResponse
from operator_api.contract.models import Page
from operator_api.contract.suggest import nearest

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item")

Build: TypeAlias = Callable[..., Call[Any]]
Method: TypeAlias = Callable[..., Any]


class RawSend(Protocol):
    """Send a call, and return its answer as it came or raise."""

    def __call__(self, call: Call[T], /) -> RawResponse[T]:
        """Return the answer, whose model is made when it is asked for."""
        ...


class AsyncRawSend(Protocol):
    """Send a call, and return its answer as it came or raise."""

    async def __call__(self, call: Call[T], /) -> RawResponse[T]:
        """Return the answer, whose model is made when it is asked for."""
        ...


# --- modes ---


class Mode(ABC):
    """What happens to the calls that a resource's methods build.

    ``keeps_only_writes``: nothing is answered, so reading makes no sense. ``returned`` and
    ``returned_list`` are what ``inspect.signature`` is to say, with T for the answer or the item.
    """

    __slots__ = ()
    keeps_only_writes: ClassVar[bool] = False
    returned: ClassVar[Any] = T
    returned_list: ClassVar[Any]

    @abstractmethod
    def _method(self, build: Build) -> Method:
        """Make the method for operations with one answer."""

    def _listing(self, build: Build) -> Method:
        """Make the method for operations that answer a page."""
        return self._method(build)


class Sync(Mode):
    """Calls return their answer."""

    __slots__ = ("_send",)
    returned_list = SyncPage[T]

    def __init__(self, send: Send) -> None:
        self._send = send

    def _method(self, build: Build) -> Method:
        send = self._send

        def method(*arguments: Any, **named: Any) -> Any:
            return send(build(*arguments, **named))

        return method

    def _listing(self, build: Build) -> Method:
        send = self._send

        def method(*arguments: Any, **named: Any) -> SyncPage[Any]:
            call: Call[Page[Any]] = build(*arguments, **named)
            return SyncPage(send(call), call, send)

        return method


class Async(Mode):
    """Calls are awaited."""

    __slots__ = ("_send",)
    returned_list = AsyncPaginator[T]

    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    def _method(self, build: Build) -> Method:
        send = self._send

        async def method(*arguments: Any, **named: Any) -> Any:
            return await send(build(*arguments, **named))

        return method

    def _listing(self, build: Build) -> Method:
        send = self._send

        def method(*arguments: Any, **named: Any) -> AsyncPaginator[Any]:
            return AsyncPaginator(build(*arguments, **named), send)

        return method


class RawSync(Mode):
    """Calls return the answer as it came; ``send`` is for the pages after a list's first."""

    __slots__ = ("_send", "_send_raw")
    returned = RawResponse[T]
    returned_list = RawResponse[SyncPage[T]]

    def __init__(self, send_raw: RawSend, send: Send) -> None:
        self._send_raw = send_raw
        self._send = send

    def _method(self, build: Build) -> Method:
        send_raw = self._send_raw

        def method(*arguments: Any, **named: Any) -> RawResponse[Any]:
            return send_raw(build(*arguments, **named))

        return method

    def _listing(self, build: Build) -> Method:
        send_raw, send = self._send_raw, self._send

        def method(*arguments: Any, **named: Any) -> RawResponse[SyncPage[Any]]:
            call: Call[Page[Any]] = build(*arguments, **named)
            raw = send_raw(call)
            return RawResponse(raw, lambda: SyncPage(raw.parse(), call, send))

        return method


class RawAsync(Mode):
    """Calls are awaited for the answer as it came; ``send`` is for the pages after the first."""

    __slots__ = ("_send", "_send_raw")
    returned = RawResponse[T]
    returned_list = RawResponse[AsyncPage[T]]

    def __init__(self, send_raw: AsyncRawSend, send: AsyncSend) -> None:
        self._send_raw = send_raw
        self._send = send

    def _method(self, build: Build) -> Method:
        send_raw = self._send_raw

        async def method(*arguments: Any, **named: Any) -> RawResponse[Any]:
            return await send_raw(build(*arguments, **named))

        return method

    def _listing(self, build: Build) -> Method:
        send_raw, send = self._send_raw, self._send

        async def method(*arguments: Any, **named: Any) -> RawResponse[AsyncPage[Any]]:
            call: Call[Page[Any]] = build(*arguments, **named)
            raw = await send_raw(call)
            return RawResponse(raw, lambda: AsyncPage(raw.parse(), call, send))

        return method


class Outboxed(Mode, Generic[R]):
    """Writes are kept, to be sent later; R is the receipt."""

    __slots__ = ("_keep",)
    keeps_only_writes = True
    returned = Any

    def __init__(self, keep: Callable[[Call[Any]], R]) -> None:
        self._keep = keep

    def _method(self, build: Build) -> Method:
        keep = self._keep

        def method(*arguments: Any, **named: Any) -> R:
            return keep(build(*arguments, **named))

        return method


class AsyncOutboxed(Mode, Generic[R]):
    """Writes are kept, to be sent later; R is the receipt, which is awaited."""

    __slots__ = ("_keep",)
    keeps_only_writes = True
    returned = Any

    def __init__(self, keep: Callable[[Call[Any]], Coroutine[Any, Any, R]]) -> None:
        self._keep = keep

    def _method(self, build: Build) -> Method:
        keep = self._keep

        async def method(*arguments: Any, **named: Any) -> R:
            return await keep(build(*arguments, **named))

        return method


M = TypeVar("M", bound=Mode)


class Resource(Generic[M]):
    """The methods of one kind of thing, in one mode."""

    def __init__(self, mode: M) -> None:
        self._mode = mode


# --- methods ---


class _Method(Generic[P, T]):
    """A method as it is written. It is bound once for each resource, which then keeps it."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._build = build
        self._checked = _refusing_unknown_options(build)
        self._signatures: dict[type[Mode], inspect.Signature] = {}

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def _bound(self, resource: Resource[Any] | None) -> Any:
        """Return the method of a resource, or the builder where it is read from the class."""
        if resource is None:
            return self._build
        mode: Mode = resource._mode
        method = update_wrapper(self._made(mode), self._build)
        signature = self._signature(mode)
        method.__signature__ = signature  # type: ignore[attr-defined] # what inspect looks for
        method.__annotations__ = {
            **{name: each.annotation for name, each in signature.parameters.items()},
            "return": signature.return_annotation,
        }
        # Found here from now on, without asking this descriptor.
        vars(resource)[self._name] = method
        return method

    def _made(self, mode: Mode) -> Method:
        if mode.keeps_only_writes:
            raise AttributeError(
                f"{self._build.__qualname__} cannot go through the outbox, since its answer is"
                " what it is called for. Call it on the client itself."
            )
        return mode._method(self._checked)

    def _returned(self, mode: type[Mode], answer: Any) -> Any:
        return _filled(mode.returned, answer)

    def _signature(self, mode: Mode) -> inspect.Signature:
        found = self._signatures.get(type(mode))
        if found is None:
            written = inspect.signature(self._build)
            (answer,) = get_args(written.return_annotation)
            found = self._signatures[type(mode)] = written.replace(
                parameters=[*written.parameters.values()][1:],
                return_annotation=self._returned(type(mode), answer),
            )
        return found


class reads(_Method[P, T]):  # noqa: N801 - it is used as a decorator
    """A method that reads: every mode but the outbox has it."""

    @overload
    def __get__(self, resource: None, owner: Any) -> Callable[Concatenate[Any, P], Call[T]]: ...
    @overload
    def __get__(self, resource: Resource[Sync], owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, resource: Resource[Async], owner: Any
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, resource: Resource[RawSync], owner: Any) -> Callable[P, RawResponse[T]]: ...
    @overload
    def __get__(
        self, resource: Resource[RawAsync], owner: Any
    ) -> Callable[P, Coroutine[Any, Any, RawResponse[T]]]: ...
    def __get__(self, resource: Resource[Any] | None, owner: Any) -> Any:
        return self._bound(resource)


class reveals(reads[P, T]):  # noqa: N801 - it is used as a decorator
    """A write whose answer holds a secret that is shown this once: not for the outbox either."""


class writes(_Method[P, T]):  # noqa: N801 - it is used as a decorator
    """A method that changes something: it can be put in the outbox."""

    @overload
    def __get__(self, resource: None, owner: Any) -> Callable[Concatenate[Any, P], Call[T]]: ...
    @overload
    def __get__(self, resource: Resource[Sync], owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, resource: Resource[Async], owner: Any
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, resource: Resource[RawSync], owner: Any) -> Callable[P, RawResponse[T]]: ...
    @overload
    def __get__(
        self, resource: Resource[RawAsync], owner: Any
    ) -> Callable[P, Coroutine[Any, Any, RawResponse[T]]]: ...
    @overload
    def __get__(self, resource: Resource[Outboxed[R]], owner: Any) -> Callable[P, R]: ...
    @overload
    def __get__(
        self, resource: Resource[AsyncOutboxed[R]], owner: Any
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, resource: Resource[Any] | None, owner: Any) -> Any:
        return self._bound(resource)

    def _made(self, mode: Mode) -> Method:
        return mode._method(self._checked)


class lists(_Method[P, Page[Item]], Generic[P, Item]):  # noqa: N801 - it is used as a decorator
    """A method that lists: its answer is a page that knows how to get the next one."""

    @overload
    def __get__(
        self, resource: None, owner: Any
    ) -> Callable[Concatenate[Any, P], Call[Page[Item]]]: ...
    @overload
    def __get__(self, resource: Resource[Sync], owner: Any) -> Callable[P, SyncPage[Item]]: ...
    @overload
    def __get__(
        self, resource: Resource[Async], owner: Any
    ) -> Callable[P, AsyncPaginator[Item]]: ...
    @overload
    def __get__(
        self, resource: Resource[RawSync], owner: Any
    ) -> Callable[P, RawResponse[SyncPage[Item]]]: ...
    @overload
    def __get__(
        self, resource: Resource[RawAsync], owner: Any
    ) -> Callable[P, Coroutine[Any, Any, RawResponse[AsyncPage[Item]]]]: ...
    def __get__(self, resource: Resource[Any] | None, owner: Any) -> Any:
        return self._bound(resource)

    def _made(self, mode: Mode) -> Method:
        super()._made(mode)
        return mode._listing(self._checked)

    def _returned(self, mode: type[Mode], answer: Any) -> Any:
        (item,) = answer.__pydantic_generic_metadata__["args"]
        return _filled(mode.returned_list, item)


def _filled(form: Any, answer: Any) -> Any:
    """Return ``RawResponse[User]`` for ``RawResponse[T]``, ``User`` for ``T``, and ``Any`` so."""
    if form is T:
        return answer
    return form[answer] if getattr(form, "__parameters__", ()) else form


def _refusing_unknown_options(build: Method) -> Build:
    """Return the builder without ``self``, which refuses options that its TypedDict has not.

    To Python any name is an option; one that is mistyped would silently do nothing.
    """
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(build).parameters
    (kind,) = get_args(parameters["options"].annotation)
    known: frozenset[str] = kind.__optional_keys__

    def checked(*arguments: Any, **named: Any) -> Call[Any]:
        call: Call[Any] = build(None, *arguments, **named)
        if call.options and not call.options.keys() <= known:
            (name, *_) = sorted(call.options.keys() - known)
            meant = nearest(name, {*parameters, *known} - {"self", "options"})
            raise TypeError(
                f"{build.__qualname__}() got an unexpected keyword argument {name!r}."
                + (f" Did you mean {meant!r}?" if meant else "")
            )
        return call

    return checked
