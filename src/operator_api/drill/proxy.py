"""A server on a real socket, in a thread of its own, that misbehaves by plan.

It stands before a real upstream, or before a function that answers in its place. A request goes:
head → the plan chooses → body → (stall) → upstream → the fault's answer or its own → record.
"""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import fields, replace
from types import TracebackType
from typing import Any

import h11

from operator_api.drill.answers import made_answer, with_date
from operator_api.drill.certificates import Certificate
from operator_api.drill.connection import Connection, exchange, lead, reset
from operator_api.drill.faults import (
    CloseIdle,
    Fault,
    Informational,
    NotHttp,
    Refused,
    ResetAfter,
    ResetBefore,
    ResetBeforeRequest,
    Skew,
    Stall,
)
from operator_api.drill.plans import Plan, in_order
from operator_api.drill.traffic import Answer, Asked, Headers, Seen

Respond = Callable[[Seen], Answer]
Upstream = tuple[str, int] | Respond

_PATIENCE = 10.0
_GONE = (OSError, h11.RemoteProtocolError)


def empty_object(_seen: Seen) -> Answer:
    """Answer whatever is asked with ``{}``."""
    return Answer(200, (("Content-Type", "application/json"),), b"{}")


class FaultProxy:
    """A fault-injecting server; a context manager, for synchronous and asynchronous callers.

    ``plan`` is a plan, or the faults of the requests in order. ``upstream`` is the host and port of
    a server that speaks HTTP, or a function that answers; the function is called in the proxy's
    thread, for one request at a time. With a ``certificate`` the proxy speaks TLS.

    What it is to be asked is answered from any thread. If the function raises, or something else
    that no caller can cause, that is raised when the proxy stops.

    Processes that are forked while connections are open share them, and a reset is then not seen
    until both have closed: start other processes by spawning them.
    """

    def __init__(
        self,
        plan: Plan | Iterable[Fault | None] = (),
        upstream: Upstream = empty_object,
        *,
        certificate: Certificate | None = None,
        port: int = 0,
    ) -> None:
        self.address = ("127.0.0.1", port)
        self.failed_handshakes = 0
        self._upstream = upstream
        self._scheme = "http" if certificate is None else "https"
        self._tls = None if certificate is None else certificate.server_context()
        self._lock = threading.RLock()
        self._seen: dict[int, Seen] = {}
        self._serials = itertools.count()
        self._numbers = itertools.count()
        self._accepted = 0
        self._attempts: dict[str, tuple[int, int]] = {}
        self._operations = itertools.count()
        self._first_at: float | None = None
        self._listener: socket.socket | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connections: set[Connection] = set()
        self._broken: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._choose = _plan_of(plan).begin()

    # --- from any thread ---

    @property
    def url(self) -> str:
        """The address as a base URL."""
        return f"{self._scheme}://{self.address[0]}:{self.address[1]}"

    @property
    def seen(self) -> tuple[Seen, ...]:
        """Whatever was asked so far, in order of arrival, as far as it has come."""
        with self._lock:
            return tuple(self._seen.values())

    @property
    def requests(self) -> tuple[Seen, ...]:
        """What was asked so far without the connections that were reset as they opened."""
        return tuple(seen for seen in self.seen if not seen.connecting)

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._accepted

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def use(self, plan: Plan | Iterable[Fault | None]) -> None:
        """Begin another plan, for the requests that come from now on."""
        self._choose = _plan_of(plan).begin()

    def close_port(self) -> None:
        """Close the port, so that connections are refused, and reset those that are open."""
        self._run(self._shut)

    def open_port(self) -> None:
        """Listen again, on the same port."""
        self._run(self._listen)

    def __enter__(self) -> "FaultProxy":
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> "FaultProxy":
        """Listen, and return when it does."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, args=(ready,), name="fault-proxy")
        self._thread.start()
        ready.result(_PATIENCE)
        return self

    def stop(self) -> None:
        """Close everything at once, whatever is stalled; raise what went wrong within."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join(_PATIENCE)
        if thread.is_alive():
            raise RuntimeError("the fault proxy does not stop")
        if self._broken is not None:
            raise RuntimeError("the fault proxy broke") from self._broken

    def _run(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(_PATIENCE)

    # --- in the proxy's thread: listening ---

    def _live(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._main(ready))
        except Exception as error:  # noqa: BLE001 - start() or stop() raises it
            self._broken = error
            if not ready.done():
                ready.set_exception(error)

    async def _main(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        # Bound but not listening, it keeps the port ours while that is closed: nobody else gets it,
        # and connections to it are refused.
        with _bound(self.address) as guard:
            self.address = guard.getsockname()[:2]
            self._listen()
            try:
                ready.set_result(None)
                await self._stopping.wait()
            finally:
                self._shut()
                tasks = [*self._tasks]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.sleep(0)  # transports close their sockets a turn after they are told

    def _listen(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        if self._listener is not None:
            return
        self._listener = listener = _bound(self.address)
        listener.listen(1024)
        listener.settimeout(0)
        self._loop.add_reader(listener, self._accept, listener)

    def _shut(self, seconds: float | None = None) -> None:
        """Close the port and reset all connections; open it again after the seconds, if given."""
        if self._reopening is not None:
            self._reopening.cancel()
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            with suppress(OSError):  # where a process was forked, closing our copy is not enough
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in [*self._connections]:
            connection.reset()
        if seconds is not None:
            self._reopening = self._loop.call_later(seconds, self._listen)

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:  # the caller was gone before it was its turn
            return
        accepted.settimeout(0)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted += 1
        task = self._loop.create_task(self._serve(next(self._numbers), accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one connection ---

    async def _serve(self, number: int, accepted: socket.socket) -> None:
        try:
            if self._is_let_in(number, accepted):
                await self._serve_open(number, accepted)
        except _GONE:
            pass
        except Exception as error:  # noqa: BLE001 - stop() raises it
            self._broken = self._broken or error
        finally:
            accepted.close()

    def _is_let_in(self, number: int, accepted: socket.socket) -> bool:
        asked = Asked(at=time.monotonic(), elapsed=self._elapsed(), connection=number)
        fault = self._choose(asked)
        if fault is None and self._listener is not None:
            return True
        if fault is not None:
            self._record(asked, fault, finished=True)
        if isinstance(fault, Refused):
            self._shut(fault.seconds)
        reset(accepted)
        return False

    async def _serve_open(self, number: int, accepted: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._tls
            )
        except OSError:  # ssl.SSLError is one
            self.failed_handshakes += 1
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        connection = Connection(number, reader, writer)
        self._connections.add(connection)
        try:
            while await self._handle(connection) and connection.takes_another():
                pass
            await connection.close()
        finally:
            self._connections.discard(connection)
            connection.abort()

    # --- one request ---

    async def _handle(self, connection: Connection) -> bool:
        """Read a request, and do with it what is planned; say whether the connection may go on."""
        head = await connection.read_head()
        if head is None:
            return False
        asked = self._ask(connection, *head)
        if connection.closes_at_next is not None:
            self._record(asked, connection.closes_at_next, finished=True)
            return False
        fault = self._choose(asked)
        serial = self._record(asked, fault)
        try:
            return await self._act(connection, serial, fault)
        finally:
            self._note(serial, finished=True)

    async def _act(self, connection: Connection, serial: int, fault: Fault | None) -> bool:
        skew = None
        while isinstance(fault, Skew):
            skew, fault = (skew or 0.0) + fault.seconds, fault.fault
        if not isinstance(fault, ResetBeforeRequest):
            self._note(serial, body=await connection.read_body())
        if not await self._is_forwarded(connection, fault):
            return False
        answer = None
        if fault is None or fault.reaches:
            answer = await self._forward(serial)
            if answer is None or isinstance(fault, ResetAfter):
                connection.reset()
                return False
        if isinstance(fault, NotHttp):
            await connection.send(fault.text.encode())
            return False
        now = time.time() + (skew or 0.0)
        made = made_answer(fault, self.url, now, answer)
        made = with_date(made, now, anew=skew is not None)
        last = await lead(connection, made, fault)
        if last is None or not await self._finish(connection, serial, made, last):
            return False
        return not (isinstance(fault, CloseIdle) and fault.at == "after_answer")

    async def _finish(
        self, connection: Connection, serial: int, answer: Answer, last: bytes
    ) -> bool:
        """Send the last bytes of an answer; say whether its caller was still there for them."""
        with self._lock:  # so that who has the answer finds it on record
            connection.give(last)
            if not connection.was_left:
                self._note(serial, answer=answer, answered_at=connection.sent_at, finished=True)
        try:
            await connection.drain()
        except OSError:
            self._note(serial, answer=None, answered_at=None)
            raise
        return not connection.was_left

    async def _is_forwarded(self, connection: Connection, fault: Fault | None) -> bool:
        """Do what comes before the upstream's turn; say whether it comes to that, or an answer."""
        match fault:
            case ResetBeforeRequest() | ResetBefore():
                connection.reset()
                return False
            case Refused():
                self._shut(fault.seconds)
                return False
            case Stall(at="instead"):
                await asyncio.sleep(fault.seconds)
                return False
            case Stall(at="before"):
                await asyncio.sleep(fault.seconds)
            case Informational():
                for _ in range(fault.count):
                    await connection.inform(fault.status)
        return True

    async def _forward(self, serial: int) -> Answer | None:
        """Return what the upstream answers; None if it cannot be reached, or breaks off."""
        seen = self._note(serial)
        if callable(self._upstream):
            self._note(serial, forwarded=True)
            answer = self._upstream(seen)
        else:
            try:
                reader, writer = await asyncio.open_connection(*self._upstream)
            except OSError:
                return None
            self._note(serial, forwarded=True)
            try:
                answer = await exchange(reader, writer, seen)
            except _GONE:
                return None
            finally:
                writer.transport.abort()
        self._note(serial, upstream_status=answer.status)
        return answer

    # --- the record ---

    def _elapsed(self) -> float:
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
        return now - self._first_at

    def _ask(self, connection: Connection, method: str, path: str, headers: Headers) -> Asked:
        asked = Asked(
            at=time.monotonic(),
            elapsed=self._elapsed(),
            connection=connection.number,
            method=method,
            path=path,
            headers=headers,
        )
        if (key := asked.key) is not None:
            operation, attempt = self._attempts.get(key) or (next(self._operations), 0)
            self._attempts[key] = operation, attempt + 1
        else:
            told = asked.header("x-operator-retry-count") or ""
            operation, attempt = next(self._operations), int(told) if told.isdecimal() else 0
        return replace(asked, operation=operation, attempt=attempt)

    def _record(self, asked: Asked, fault: Fault | None, *, finished: bool = False) -> int:
        known = {each.name: getattr(asked, each.name) for each in fields(Asked)}
        serial = next(self._serials)
        with self._lock:
            self._seen[serial] = Seen(**known, fault=fault, finished=finished)
        return serial

    def _note(self, serial: int, **changes: Any) -> Seen:
        with self._lock:
            seen = replace(self._seen[serial], **changes)
            self._seen[serial] = seen
        return seen


def _plan_of(plan: Plan | Iterable[Fault | None]) -> Plan:
    return plan if isinstance(plan, Plan) else in_order(plan)


def _bound(address: tuple[str, int]) -> socket.socket:
    """Return a socket bound to the address, which others of ours may be bound to as well."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
