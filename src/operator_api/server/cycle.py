"""One request with its answer: what the edge and whoever makes the answer have to do together.

What this does otherwise than uvicorn: there is no ASGI in between; an answer is whole before any of
it is written, so that head and body go out in one write, which is one system call and wakes its
reader once; a request that will never be complete raises; whatever fails, the answer is under the
error contract.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from operator_api.contract.errors import BODY_TOO_LARGE, INTERNAL_ERROR, Problem
from operator_api.server.exchange import Disconnected, Exchange, Incoming, Respond, Response
from operator_api.server.render import problem_response

if TYPE_CHECKING:
    from operator_api.server.http import Connection

_WITHOUT_BODY = frozenset({204, 304})

log = logging.getLogger("operator_api.server")


class Outgoing:
    """The answers of one turn of the event loop, written together when it ends.

    A reader that waits is woken by the first of them, and the others find it awake: waking it costs
    the server as much as a whole answer.
    """

    def __init__(self) -> None:
        self._answers: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Write the answer at the end of the turn."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self.flush)
        self._answers.append((transport, answer))

    def flush(self) -> None:
        """Write now what waits, in its order."""
        answers, self._answers = self._answers, []
        for transport, answer in answers:
            if not transport.is_closing():
                transport.write(answer)


class Cycle:
    """One request with its answer, which ``respond`` makes. It is the request's ``Incoming``.

    ``keep_alive`` says whether another request may follow, ``complete`` whether the body has
    arrived as a whole, ``room`` how much of it is taken in before reading pauses.
    """

    __slots__ = (
        "_connection",
        "_exchange",
        "_expects_continue",
        "_failure",
        "_respond",
        "_waiter",
        "answered",
        "body",
        "complete",
        "disconnected",
        "keep_alive",
        "room",
        "task",
    )

    def __init__(
        self,
        connection: "Connection",
        exchange: Exchange,
        respond: Respond,
        *,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._respond = respond
        self._expects_continue = exchange.headers.get(b"expect", b"").lower() == b"100-continue"
        self._failure: Problem | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.keep_alive = keep_alive
        self.room = HIGH_WATER_LIMIT
        self.body = bytearray()
        self.complete = False
        self.disconnected = False
        self.answered = False
        self.task: asyncio.Task[None] | None = None

    # --- the request

    def take(self, part: bytes) -> bool:
        """Take a part of the body; False if reading is to pause."""
        self.body += part
        self._wake()
        return len(self.body) <= self.room

    def end(self) -> None:
        """Take note that the body is complete."""
        self.complete = True
        self._wake()

    def disconnect(self) -> None:
        """Take note that the caller is gone."""
        self.disconnected = True
        self._wake()

    def fail(self, problem: Problem) -> None:
        """Raise the problem from ``read`` instead of returning the rest of the request."""
        self._failure = problem
        self.keep_alive = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self, most: int) -> bytes:
        """Return the body, as ``Incoming`` promises."""
        self.room = most
        if self._expects_continue and not self.disconnected:
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects_continue = False
        while not self.disconnected and self._failure is None:
            if self.complete or len(self.body) > most:
                return bytes(self.body)
            # Reading is paused for the sake of a request, and of those behind it.
            self._connection.flow.resume_reading()
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        raise self._failure or Disconnected

    # --- the answer

    async def run(self) -> None:
        """Make the answer and write it."""
        connection = self._connection
        try:
            try:
                response = await self._respond(self._exchange, self)
                if connection.flow.write_paused:
                    await connection.flow.drain()
                answer = self._rendered(response)
            except Disconnected:
                return
            except Exception:
                log.exception("no answer", extra=self._exchange.traced)
                response = await self._failed(self._exchange, self)
                answer = self._rendered(response)
            if not self.disconnected:
                self._write(answer)
            note = connection.server_state.note
            if note is not None:
                note(self._exchange, response, self.body, complete=self.complete)
        finally:
            connection.tasks.discard(self.task)

    def _failed(self, exchange: Exchange, incoming: Incoming) -> Awaitable[Response]:
        """Answer that there is no answer; whether the work for it was done is not known."""
        self.keep_alive = False
        problem = Problem(INTERNAL_ERROR, outcome="unknown")
        return refusing(problem, self._connection.server_state.public_url)(exchange, incoming)

    def _rendered(self, response: Response) -> bytes:
        # One who still waits for leave to send the body may never send it, and what is left of a
        # body that is too large is not read.
        if self._expects_continue or response.status == BODY_TOO_LARGE.status:
            self.keep_alive = False
        headers = [*self._connection.server_state.default_headers, *response.headers]
        if response.status not in _WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % len(response.body)))
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"\r\n".join(map(b": ".join, headers)) + b"\r\n"
        # As many lines as headers: so no value holds a line end, and with it a header of its own.
        if not lines.count(b"\r") == lines.count(b"\n") == len(headers) or b"\0" in lines:
            raise ValueError("A header of the answer holds a line end or NUL.")
        body = b"" if self._exchange.method == "HEAD" else response.body
        return b"%b%b\r\n%b" % (STATUS_LINE[response.status], lines, body)

    def _write(self, answer: bytes) -> None:
        connection, outgoing = self._connection, self._connection.server_state.outgoing
        outgoing.write(connection.transport, answer)
        if not self.keep_alive:
            outgoing.flush()
        self.answered = True
        connection.answered(keep_alive=self.keep_alive)


def refusing(problem: Problem, public_url: str) -> Respond:
    """Return what answers every request with the problem."""

    async def refuse(exchange: Exchange, _incoming: Incoming) -> Response:
        exchange.problem = problem
        problem.repeatable = exchange.keyed
        response = problem_response(problem, exchange.request_id, public_url)
        request_id = (b"x-request-id", exchange.request_id.encode())
        return response._replace(headers=[request_id, *response.headers])

    return refuse
