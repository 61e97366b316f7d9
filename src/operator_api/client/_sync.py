"""The client for threads: does what the attempts of a call ask for, and decides nothing."""

import os
import time
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx2

from operator_api.client.attempts import Attempts, Send, Sleep, Surroundings
from operator_api.client.call import Call
from operator_api.client.configuration import (
    ApiKey,
    ClientOptions,
    Configuration,
    ConfigurationError,
    check_api_key,
    configure,
    read_api_key,
)
from operator_api.client.core import Request, prepare
from operator_api.client.logs import log_as_told, open_failure_log
from operator_api.client.methods import RawSync, Sync
from operator_api.client.outbox.outbox import Outbox, OutboxAccess
from operator_api.client.resources import Resources
from operator_api.client.responses import RawResponse, Response
from operator_api.client.shared import PROCESS
from operator_api.client.transport import (
    MAX_ANSWER_BYTES,
    AnswerTooLargeError,
    ending_within,
    hold_client_to_deadline,
    open_transport,
)

if TYPE_CHECKING:
    from pathlib import Path

    from operator_api.client.failures.log import FailureLog

T = TypeVar("T")


class OperatorAI(Resources[Sync]):
    """The API, for programs with threads.

    ``api_key`` is a token, or a function that gives one and is asked again when the server refuses
    it; ``base_url`` is where the API is. Unless given they are OPERATOR_API_KEY and
    OPERATOR_BASE_URL. ``timeout`` is for each attempt and ``deadline`` for a whole call, in
    seconds. ``http_client`` sends instead of connections of our own, and stays yours to close.
    ``outbox`` is a file to keep writes in until they are sent (or OPERATOR_OUTBOX), and
    ``failure_log`` one to record failed attempts in.

    One client serves all threads, and is best kept; a forked process opens connections of its own.
    """

    def __init__(
        self,
        *,
        api_key: ApiKey | None = None,
        http_client: httpx2.Client | None = None,
        outbox: "str | Path | None" = None,
        failure_log: "FailureLog | str | Path | None" = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        log_as_told()
        configuration = configure(options)
        log = open_failure_log(failure_log)
        around = Surroundings(PROCESS, None if log is None else log.record)
        connections = Connections(configuration.base_url, http_client)
        tokens = Tokens(read_api_key(api_key))  # type: ignore[arg-type] # what is given is a str, or a function that returns one
        sender = Sender(configuration, connections, tokens, around)
        self._use(sender, OutboxAccess(outbox, configuration, lambda: sender))

    def _use(self, sender: "Sender", access: OutboxAccess) -> None:
        self._sender = sender
        self._access = access
        super().__init__(Sync(sender.send))

    @cached_property
    def with_raw_response(self) -> Resources[RawSync]:
        """The same methods, whose answers have ``headers``, ``request_id`` and ``parse()``."""
        return Resources(RawSync(self._sender.send_raw, self._sender.send))

    @cached_property
    def outbox(self) -> Outbox:
        """The methods that write, which return a receipt once the write is on the disk."""
        return Outbox(self._access.keeper(), self._sender.configuration)

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """Return a client with other options on the same connections, with the same outbox."""
        other = type(self).__new__(type(self))
        other._use(
            self._sender.configured(self._sender.configuration.changed(options)), self._access
        )
        return other

    def send(self, call: Call[T]) -> T:
        """Make a call that was built as a value, and return its answer."""
        return self._sender.send(call)

    def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """Make a call that was built as a value, and return its answer as it came."""
        return self._sender.send_raw(call)

    def close(self) -> None:
        """Close the connections, and stop sending from the outbox. Later calls are refused."""
        self._access.close()
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._sender.configuration.base_url}>"


class _ProcessLock:
    """A lock of each process: one that the parent held at a fork would never be released."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, Lock] = {}

    def mine(self) -> Lock:
        return self._locks.setdefault(os.getpid(), Lock())


class Tokens:
    """The token that calls use, asked for once and again when the server refuses it."""

    def __init__(self, api_key: ApiKey) -> None:
        self._ask = api_key if callable(api_key) else None
        self._token = None if callable(api_key) else api_key
        self._lock = _ProcessLock()

    def get(self, refused: str | None) -> str:
        """Return the token; another one than the refused, if asking brings one."""
        token = self._token
        if token is not None and (token != refused or self._ask is None):
            return token
        with self._lock.mine():
            # Of those who were refused together, the first has asked for all.
            if self._token is None or self._token == refused:
                assert self._ask is not None, "a fixed token is never None"
                self._token = check_api_key(self._ask())
            return self._token

    def __repr__(self) -> str:
        return "<Tokens>"


class Connections:
    """The connections of a client and of those made from it by ``with_options``."""

    def __init__(self, url: httpx2.URL, given: httpx2.Client | None) -> None:
        self._url = url
        self._given = given
        self._transport: httpx2.HTTPTransport | None = None
        self._process = 0
        self._lock = _ProcessLock()
        self._closed = False
        if given is not None:
            hold_client_to_deadline(given)

    def send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; the answer's body is still to be read."""
        if self._closed:
            raise ConfigurationError("The client is closed.")
        if self._given is not None:
            return self._given.send(request, stream=True, auth=None, follow_redirects=False)
        if self._process != os.getpid():
            self._open()
        assert self._transport is not None, "it is opened above"
        return self._transport.handle_request(request)

    def _open(self) -> None:
        # What a fork has inherited is the parent's: two who read from one socket get half each.
        transport = open_transport(self._url)
        with self._lock.mine():
            if self._process == os.getpid():
                transport.close()
            else:
                self._inherited = self._transport  # not closed, which may need the parent's lock
                self._transport, self._process = transport, os.getpid()

    def close(self) -> None:
        """Close what is ours."""
        self._closed = True
        if self._transport is not None and self._process == os.getpid():
            self._transport.close()


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

    def send(self, call: Call[T]) -> T:
        """Return the call's answer, or raise."""
        return self._send(call)[1]

    def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """Return the call's answer as it came, or raise."""
        response, answer = self._send(call)
        return RawResponse(response, lambda: answer)

    def _send(self, call: Call[T]) -> tuple[Response, T]:
        return self.perform(prepare(call, self.configuration))

    def perform(
        self, request: Request, sleep: Callable[[float], None] = time.sleep
    ) -> tuple[Response, Any]:
        """Return what came of a request, or raise. ``sleep`` may raise to end it early."""
        steps = Attempts(request, self.around).run()
        told: Any = None
        try:
            while True:
                effect = steps.send(told)
                if isinstance(effect, Send):
                    told = self._exchange(effect)
                elif isinstance(effect, Sleep):
                    sleep(effect.seconds)
                else:
                    told = self.tokens.get(effect.refused)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return] # the generator's type names it
        finally:
            steps.close()

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def _exchange(self, send: Send) -> Response | httpx2.HTTPError:
        request = httpx2.Request(
            send.method,
            send.url,
            headers=send.headers,
            content=send.content,
            extensions={"timeout": send.timeouts},
        )
        try:
            with ending_within(send.timeout) as end:
                response = self.connections.send(request)
                try:
                    content = _read(response, end)
                finally:
                    response.close()
        except httpx2.HTTPError as error:
            return error
        return Response(response.status_code, response.headers, content)


def _read(response: httpx2.Response, end: float) -> bytes:
    """Read an answer to its end, as long as there is time and it has the size of an answer."""
    content = bytearray()
    plain, stream = "Content-Encoding" not in response.headers, response.stream
    assert isinstance(stream, httpx2.SyncByteStream), "the transport is of the client's kind"
    for chunk in stream if plain else response.iter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
        if time.monotonic() > end:
            raise httpx2.ReadTimeout("The attempt has had its time.")
    return bytes(content)
