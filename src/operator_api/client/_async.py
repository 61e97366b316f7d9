"""The client for event loops: does what the attempts of a call ask for, and decides nothing."""

import inspect
import os
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import anyio
import anyio.to_thread
import httpx2

from operator_api.client import _sync
from operator_api.client.attempts import Attempts, Send, Sleep, Surroundings
from operator_api.client.call import Call
from operator_api.client.configuration import (
    AsyncApiKey,
    ClientOptions,
    Configuration,
    ConfigurationError,
    check_api_key,
    configure,
    read_api_key,
)
from operator_api.client.core import prepare
from operator_api.client.logs import log_as_told, open_failure_log
from operator_api.client.methods import Async, RawAsync
from operator_api.client.outbox.outbox import AsyncOutbox, OutboxAccess, without_loop
from operator_api.client.resources import Resources
from operator_api.client.responses import RawResponse, Response
from operator_api.client.shared import PROCESS
from operator_api.client.transport import (
    MAX_ANSWER_BYTES,
    AnswerTooLargeError,
    open_async_transport,
)

if TYPE_CHECKING:
    from pathlib import Path

    from operator_api.client.failures.log import FailureLog

T = TypeVar("T")


class AsyncOperatorAI(Resources[Async]):
    """The API, for programs with asyncio.

    Its arguments are those of ``OperatorAI``; ``api_key`` may be a coroutine function as well.
    What is in the ``outbox`` is sent by a thread, over connections of its own: it goes together
    with no ``http_client``, and runs a coroutine function for the token in an event loop of its
    own.
    """

    def __init__(
        self,
        *,
        api_key: AsyncApiKey | None = None,
        http_client: httpx2.AsyncClient | None = None,
        outbox: "str | Path | None" = None,
        failure_log: "FailureLog | str | Path | None" = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        log_as_told()
        configuration = configure(options)
        log = open_failure_log(failure_log)
        around = Surroundings(PROCESS, None if log is None else log.record)
        connections = Connections(configuration.base_url, http_client)
        key = read_api_key(api_key)

        def in_threads() -> _sync.Sender:
            if http_client is not None:
                raise ConfigurationError(
                    "An outbox cannot send by an http_client of an event loop: it works in a"
                    " thread. Leave http_client out, or give the outbox to OperatorAI."
                )
            sending = _sync.Connections(configuration.base_url, None)
            tokens = _sync.Tokens(without_loop(key))
            return _sync.Sender(configuration, sending, tokens, around)

        sender = Sender(configuration, connections, Tokens(key), around)
        self._use(sender, OutboxAccess(outbox, configuration, in_threads))

    def _use(self, sender: "Sender", access: OutboxAccess) -> None:
        self._sender = sender
        self._access = access
        super().__init__(Async(sender.send))

    @cached_property
    def with_raw_response(self) -> Resources[RawAsync]:
        """The same methods, whose answers have ``headers``, ``request_id`` and ``parse()``."""
        return Resources(RawAsync(self._sender.send_raw, self._sender.send))

    @cached_property
    def outbox(self) -> AsyncOutbox:
        """The methods that write, which return a receipt once the write is on the disk."""
        return AsyncOutbox(self._access.keeper(), self._sender.configuration)

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """Return a client with other options on the same connections, with the same outbox."""
        other = type(self).__new__(type(self))
        other._use(
            self._sender.configured(self._sender.configuration.changed(options)), self._access
        )
        return other

    async def send(self, call: Call[T]) -> T:
        """Make a call that was built as a value, and return its answer."""
        return await self._sender.send(call)

    async def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """Make a call that was built as a value, and return its answer as it came."""
        return await self._sender.send_raw(call)

    async def close(self) -> None:
        """Close the connections, and stop sending from the outbox. Later calls are refused."""
        if self._access.is_open:
            await anyio.to_thread.run_sync(self._access.close)
        await self._sender.connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._sender.configuration.base_url}>"


class Tokens:
    """The token that calls use, asked for once and again when the server refuses it."""

    def __init__(self, api_key: AsyncApiKey) -> None:
        self._ask = api_key if callable(api_key) else None
        self._token = None if callable(api_key) else api_key
        self._lock = anyio.Lock()

    async def get(self, refused: str | None) -> str:
        """Return the token; another one than the refused, if asking brings one."""
        token = self._token
        if token is not None and (token != refused or self._ask is None):
            return token
        async with self._lock:
            # Of those who were refused together, the first has asked for all.
            if self._token is None or self._token == refused:
                assert self._ask is not None, "a fixed token is never None"
                given = self._ask()
                self._token = check_api_key(await given if inspect.isawaitable(given) else given)
            return self._token

    def __repr__(self) -> str:
        return "<Tokens>"


class Connections:
    """The connections of a client and of those made from it by ``with_options``."""

    def __init__(self, url: httpx2.URL, given: httpx2.AsyncClient | None) -> None:
        self._url = url
        self._given = given
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._process = 0
        self._closed = False

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; the answer's body is still to be read."""
        if self._closed:
            raise ConfigurationError("The client is closed.")
        if self._given is not None:
            return await self._given.send(request, stream=True, auth=None, follow_redirects=False)
        if self._process != os.getpid():
            # What a fork has inherited is the parent's: of two who read, each would get half.
            self._inherited = self._transport
            self._transport, self._process = open_async_transport(self._url), os.getpid()
        assert self._transport is not None, "it is opened above"
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        """Close what is ours."""
        self._closed = True
        if self._transport is not None and self._process == os.getpid():
            await self._transport.aclose()


class Sender:
    """Sends calls."""

    def __init__(
        self,
        configuration: Configuration,
        connections: Connections,
        tokens: Tokens,
        around: Surroundings,
    ) -> None:
        self.configuration = configuration
        self.connections = connections
        self.tokens = tokens
        self.around = around

    def configured(self, configuration: Configuration) -> "Sender":
        """Return a sender with another configuration and the same of all else."""
        return Sender(configuration, self.connections, self.tokens, self.around)

    async def send(self, call: Call[T]) -> T:
        """Return the call's answer, or raise."""
        return (await self._send(call))[1]

    async def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """Return the call's answer as it came, or raise."""
        response, answer = await self._send(call)
        return RawResponse(response, lambda: answer)

    async def _send(self, call: Call[T]) -> tuple[Response, T]:
        steps = Attempts(prepare(call, self.configuration), self.around).run()
        told: Any = None
        try:
            while True:
                effect = steps.send(told)
                if isinstance(effect, Send):
                    told = await self._exchange(effect)
                elif isinstance(effect, Sleep):
                    await anyio.sleep(effect.seconds)
                else:
                    told = await self.tokens.get(effect.refused)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return] # the generator's type names it
        finally:
            steps.close()

    async def _exchange(self, send: Send) -> Response | httpx2.HTTPError:
        request = httpx2.Request(
            send.method,
            send.url,
            headers=send.headers,
            content=send.content,
            extensions={"timeout": send.timeouts},
        )
        try:
            with anyio.fail_after(send.timeout):
                response = await self.connections.send(request)
                try:
                    content = await _read(response)
                finally:
                    await response.aclose()
        except httpx2.HTTPError as error:
            return error
        except TimeoutError:
            return httpx2.ReadTimeout("The attempt has had its time.")
        return Response(response.status_code, response.headers, content)


async def _read(response: httpx2.Response) -> bytes:
    """Read an answer to its end, as long as it has the size of an answer."""
    content = bytearray()
    plain, stream = "Content-Encoding" not in response.headers, response.stream
    assert isinstance(stream, httpx2.AsyncByteStream), "the transport is of the client's kind"
    async for chunk in stream if plain else response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
    return bytes(content)
