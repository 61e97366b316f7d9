"""The edge: what happens to a connection below the pipeline, on uvicorn's protocol of httptools.

What this adds to uvicorn's reading and writing of HTTP: whatever is refused before it is a request
is answered under the error contract, in its turn; a request has a limited time and size to arrive
in; an answer goes out in one write, and its reader can read it to the end; a server stops in order.

::

    Edge         what the connections of a server share: limits, and whether it is stopping
    Connection   reads requests, in stages: idle → head → body → idle, or done: nothing more is read
    Cycle        one request with its answer (cycle.py)
"""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from operator_api.contract.errors import (
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    MALFORMED_REQUEST,
    REQUEST_TIMEOUT,
    SHUTTING_DOWN,
    Problem,
)
from operator_api.server.cycle import Cycle, Outgoing, refusing
from operator_api.server.exchange import Exchange, Note, Respond
from operator_api.server.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uvicorn.config import Config

HEAD_BYTES = 64 * 1024

# How much of what a refused caller still sends is taken in, and for how long: closing on unread
# input is a reset, which can take the answer away from under its reader (RFC 9112, section 9.6).
_LINGER_BYTES = 8 * 1024 * 1024
_LINGER_SECONDS = 2.0
# How long a stopping server keeps idle connections: a request may be on its way already.
_LAST_IDLE_SECONDS = 0.5
_NEVER = float("inf")

_FRAMING = (b"content-length", b"transfer-encoding")

log = logging.getLogger("operator_api.server")

Stage = Literal["idle", "head", "body", "done"]


class Edge(ServerState):
    """What the connections of a server share. ``sweep`` is to be called a few times a second."""

    connections: "set[Connection]"  # type: ignore[assignment]  # of all kinds of uvicorn, only ours

    def __init__(
        self,
        *,
        public_url: str,
        receive_seconds: float,
        keep_alive_seconds: float,
        trusted_proxies: str = "",
        note: Note | None = None,
    ) -> None:
        super().__init__()
        self.note = note
        self.public_url = public_url
        self.receive_seconds = receive_seconds
        self.keep_alive_seconds = keep_alive_seconds
        self.draining = False
        self.outgoing = Outgoing()
        # Whom to believe, as uvicorn reads it.
        believing = ProxyHeadersMiddleware(None, trusted_proxies)  # type: ignore[arg-type]  # unused
        self.proxies = believing.trusted_hosts if trusted_proxies else None

    def sweep(self) -> None:
        """End what has had its time: one clock for all, so that a request sets no timer."""
        now = asyncio.get_running_loop().time()
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.expire()

    def drain(self) -> None:
        """Answer what is under way and what still comes, and close each connection after that."""
        self.draining = True
        self.keep_alive_seconds = min(self.keep_alive_seconds, _LAST_IDLE_SECONDS)
        for connection in list(self.connections):
            connection.shutdown()

    def refuse(self) -> None:
        """Take no more: what has not arrived is answered 503 ``shutting_down``."""
        for connection in list(self.connections):
            connection.refuse(Problem(SHUTTING_DOWN))

    def abort(self) -> None:
        """Cut what is still open."""
        for connection in list(self.connections):
            connection.transport.abort()


class Connection(HttpToolsProtocol):
    """One connection. At its ``deadline``, in the loop's time, it is to ``expire``.

    What uvicorn calls the application is a ``Respond`` here: it gets an Exchange, and no ASGI.
    """

    server_state: Edge
    cycle: Cycle  # type: ignore[assignment]  # ours, in the place of uvicorn's

    def __init__(
        self,
        config: "Config",
        server_state: Edge,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.stage: Stage = "idle"
        self.deadline = _NEVER
        self._respond: Respond = config.loaded_app
        self._exchange: Exchange
        self._headers: dict[bytes, bytes] = {}
        self._headers_size = 0
        # The requests without an answer, the first of them being answered.
        self._open: deque[Cycle] = deque()
        # Bytes that have come in and are not yet part of anything complete. Those that came in one
        # read with the end of another request are not counted: they are no more than HEAD_BYTES.
        self._pending = 0
        self._discarded = 0

    # --- what comes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP
        """Give the caller as long to begin as between two requests."""
        super().connection_made(transport)
        self._rest()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell every request; uvicorn tells only the newest."""
        for cycle in self._open:
            cycle.disconnect()
        self.connections.discard(self)
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # it refers to us, and we to it

    def data_received(self, data: bytes) -> None:
        """Parse what came in, at most a head's worth at a time, for no head to slip by unseen."""
        if self.stage == "done":
            self._discard(data)
            return
        if len(data) > HEAD_BYTES:
            for start in range(0, len(data), HEAD_BYTES):
                self.data_received(data[start : start + HEAD_BYTES])
            return
        self._pending += len(data)
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserError as error:
            self.refuse(_problem_of(error))
        else:
            # An endless head, trailer or chunk extension; the parser keeps what it has of these.
            if self._pending > HEAD_BYTES:
                self.refuse(_headers_too_large())

    def _parse(self, data: bytes) -> bytes:
        """Parse, and return what stands behind a request to upgrade, where the parser stops."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            return data[upgrade.args[0] :]
        return b""

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always lets go
        """Answer also a caller that has closed its own side only; True keeps ours open."""
        self.server_state.outgoing.flush()
        if self.stage in ("head", "body"):
            self.refuse(Problem(MALFORMED_REQUEST))
            self.stage = "idle"  # nothing more can come, so there is nothing to linger for
        elif self._open:
            self.cycle.keep_alive = False
        return bool(self._open)

    def on_message_begin(self) -> None:
        """Start the time that the request has to arrive in, at its first byte."""
        self.url = b""
        self._headers = {}
        self._headers_size = 0
        self.stage = "head"
        self._expire_in(self.server_state.receive_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; the values of one that is sent twice are joined by a comma."""
        self._headers_size += len(name) + len(value) + len(b": \r\n")
        name = name.lower()
        headers = self._headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        """Start the request, or queue it behind those before it."""
        if self._pending > HEAD_BYTES and len(self.url) + self._headers_size > HEAD_BYTES:
            raise _headers_too_large()
        self._pending = 0
        raw, query = _split(self.url)
        path = raw.decode()
        segments = path.split("/")[1:]
        if b"%" in raw:
            path, segments = unquote(path), [unquote(each) for each in segments]
        headers, self._headers = self._headers, {}  # a trailer is none of the request's headers
        exchange = self._exchange = Exchange(
            new_id("req"),
            self.parser.get_method().decode(),
            path,
            segments,
            query,
            headers,
            self._address(headers),
        )
        self.stage = "body"
        lasts = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()
        lasts = lasts and not self.server_state.draining
        self._begin(exchange, self._respond, keep_alive=lasts)

    def _address(self, headers: "Mapping[bytes, bytes]") -> str:
        """Return the caller's address, which a proxy that is trusted may tell."""
        address = self.client[0] if self.client else ""
        proxies = self.server_state.proxies
        told = headers.get(b"x-forwarded-for") if proxies is not None else None
        if proxies is None or told is None or address not in proxies:
            return address
        return proxies.get_trusted_client_address(told.decode("latin-1"))[0] or address

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._pending = 0
        if not self.cycle.answered and not self.cycle.take(body):
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """End the request, unless it is one whose body the parser left out."""
        if not self.parser.should_upgrade():
            self._complete()

    def _complete(self) -> None:
        self._pending = 0
        self.stage = "idle"
        cycle = self.cycle
        if cycle.answered:
            self._rest()
        else:
            self.deadline = _NEVER
            cycle.end()

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1, as a server may (RFC 9110, section 7.8).

        The parser leaves out the body of a request to upgrade, and Java's client sends such ones
        by default. Another parser, told of the body's length, reads it; the next request, should
        one follow, would be lost on that one, so the connection ends here.
        """
        headers = self._exchange.headers
        framing = [(name, headers[name]) for name in _FRAMING if name in headers]
        if framing:
            self.cycle.keep_alive = False
            self.parser = httptools.HttpRequestParser(_BodyOnly(self))
            head = b"".join(b"%b: %b\r\n" % pair for pair in framing)
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % head)
        else:
            self._complete()

    # --- what is answered

    def _begin(self, exchange: Exchange, respond: Respond, *, keep_alive: bool) -> None:
        """Have the request answered as soon as those before it are."""
        cycle = self.cycle = Cycle(self, exchange, respond, keep_alive=keep_alive)
        self._open.append(cycle)
        if len(self._open) == 1:
            self._start(cycle)
        else:
            self.flow.pause_reading()

    def _start(self, cycle: Cycle) -> None:
        cycle.task = self.loop.create_task(cycle.run())
        self.tasks.add(cycle.task)

    def answered(self, *, keep_alive: bool) -> None:
        """Turn to the next request, if there may be one."""
        self._open.popleft()
        if self.transport.is_closing():
            return
        if not keep_alive:
            self._close()
        elif self._open:
            self._start(self._open[0])
        else:
            self.flow.resume_reading()
            if self.stage == "idle":
                self._rest()

    def refuse(self, problem: Problem) -> None:
        """Answer what is arriving, if anything is, with the problem, and read no more.

        Where the application has the request already, the problem is raised from its ``receive``,
        so that the answer is its own; where it needs no more of the request, it answers as ever.
        """
        stage = self.stage
        if stage == "done" or (stage == "idle" and problem.kind is SHUTTING_DOWN):
            return
        log.debug("refused below the pipeline: %s", problem.kind.reason)
        self.stage = "done"
        self.deadline = _NEVER
        if stage != "body":
            address = self.client[0] if self.client else ""
            nothing = Exchange(new_id("req"), "", "", [], b"", {}, address)
            respond = refusing(problem, self.server_state.public_url)
            self._begin(nothing, respond, keep_alive=False)
        elif self.cycle.answered:
            self._close()
        else:
            self.cycle.fail(problem)

    # --- the end

    def shutdown(self) -> None:
        """Make the newest request the last one. One whose head is arriving becomes the last."""
        if self.stage == "idle" and not self._open:
            self._rest()
        elif self.stage != "head" and self._open:
            self.cycle.keep_alive = False

    def expire(self) -> None:
        """End what has taken too long."""
        if self.stage == "done":
            self.transport.abort()
        elif self.stage == "idle":
            # An answer has not been read all this time, or no request has come.
            self.transport.abort() if self._open else self._close()
        elif self.flow.read_paused:
            self._expire_in(self.server_state.receive_seconds)  # it is we who do not read
        else:
            self.refuse(_too_late(self.server_state.receive_seconds))

    def pause_writing(self) -> None:
        """Give a caller that does not read its answers as long as one that does not ask."""
        super().pause_writing()
        if self.stage == "idle":
            self._expire_in(self.server_state.keep_alive_seconds)

    def resume_writing(self) -> None:
        """Wait on: the caller reads."""
        super().resume_writing()
        if self.stage == "idle" and self._open:
            self.deadline = _NEVER

    def _rest(self) -> None:
        self._expire_in(self.server_state.keep_alive_seconds)

    def _expire_in(self, seconds: float) -> None:
        self.deadline = self.loop.time() + seconds

    def _close(self) -> None:
        """Close; but where more may come in, only our side at first."""
        self.server_state.outgoing.flush()
        if self.stage == "idle" and not self.flow.read_paused:
            self.transport.close()
            self._expire_in(self.server_state.keep_alive_seconds)
        else:
            self.transport.write_eof()
            self.flow.resume_reading()
            self._expire_in(_LINGER_SECONDS)
        self.stage = "done"

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()


class _BodyOnly:
    """The callbacks of a connection for a request whose head is known."""

    def __init__(self, connection: Connection) -> None:
        self.on_body: Callable[[bytes], None] = connection.on_body
        self.on_message_complete: Callable[[], None] = connection.on_message_complete


def _problem_of(error: httptools.HttpParserError) -> Problem:
    """Return what one of our callbacks raised, or else that the request is malformed."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        log.error("unexpected error at the edge", exc_info=cause)
        return Problem(INTERNAL_ERROR)
    return Problem(MALFORMED_REQUEST)


def _too_late(seconds: float) -> Problem:
    return Problem(REQUEST_TIMEOUT, {"seconds": seconds if seconds % 1 else int(seconds)})


def _headers_too_large() -> Problem:
    return Problem(HEADERS_TOO_LARGE, {"limit_bytes": HEAD_BYTES})


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request target (RFC 9112, section 3.2): 400."""
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise Problem(MALFORMED_REQUEST) from None
    return url.path or b"/", url.query or b""
