"""One request with its answer, as an ASGI application sees it.

What this changes of uvicorn's: head and body of an answer go out in one write, which is one system
call and wakes its reader once; a request that will never be complete raises; whatever fails, the
answer is under the error contract.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from operator_api.contract.errors import INTERNAL_ERROR, Problem
from operator_api.server.ids import new_id
from operator_api.server.render import problem_response

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGIReceiveEvent,
        ASGISendCallable,
        ASGISendEvent,
        HTTPResponseStartEvent,
        Scope,
    )


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


class Cycle(RequestResponseCycle):
    """One request with its answer. At its end it calls ``answered`` with ``keep_alive``."""

    def __init__(
        self,
        connection: HttpToolsProtocol,
        scope: Any,
        public_url: str,
        answered: Callable[..., None],
        outgoing: Outgoing,
        *,
        keep_alive: bool,
    ) -> None:
        super().__init__(
            scope=scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=keep_alive,
            on_response=answered,
        )
        self._outgoing = outgoing
        self._start: HTTPResponseStartEvent | None = None
        self._failure: Problem | None = None
        self._public_url = public_url

    def fail(self, problem: Problem) -> None:
        """Let the application have the problem instead of the rest of the request."""
        self._failure = problem
        self.keep_alive = False
        self.message_event.set()

    async def receive(self) -> "ASGIReceiveEvent":
        """Return the next message (ASGI); raise Problem if the request will never be complete."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            # Once the request is there, reading is paused for the sake of those behind it.
            if self.more_body:
                self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self._failure is not None and not self.response_started:
            raise self._failure
        if self.disconnected or self.response_complete or self._failure is not None:
            return {"type": "http.disconnect"}
        body = bytes(self.body)
        self.body.clear()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: "ASGISendEvent") -> None:
        """Take the next message of the answer (ASGI). Its head waits for the first of its body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None or self.response_complete:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r}.")
        body, more = message.get("body", b""), message.get("more_body", False)
        head = b"" if self.response_started else self._head(self._start)
        if self.scope["method"] == "HEAD":
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("The answer's body is not as long as its Content-Length.")
        self.response_started = True
        if more or not self.keep_alive:
            self._outgoing.flush()
            self.transport.write(head + body)
        else:
            self._outgoing.write(self.transport, head + body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            self.on_response(keep_alive=self.keep_alive)

    def _head(self, start: "HTTPResponseStartEvent") -> bytes:
        """Write the status line and the headers, and take from them how the answer is framed."""
        status = start["status"]
        headers = [*self.default_headers, *start["headers"]]
        by_name = dict(headers)
        # One who still waits for leave to send the body may never send it.
        if self.waiting_for_100_continue or b"close" in by_name.get(b"connection", b""):
            self.keep_alive = False
        if not self.keep_alive and b"connection" not in by_name:
            headers.append((b"connection", b"close"))
        length = by_name.get(b"content-length")
        self.expected_content_length = int(length or 0)
        self.chunked_encoding = length is None and status not in (204, 304)
        if self.chunked_encoding:
            headers.append((b"transfer-encoding", b"chunked"))
        lines = b"\r\n".join(map(b": ".join, headers)) + b"\r\n"
        # As many lines as headers: so no value holds a line end, and with it a header of its own.
        if not lines.count(b"\r") == lines.count(b"\n") == len(headers) or b"\0" in lines:
            raise RuntimeError("A header of the answer holds a line end or NUL.")
        return STATUS_LINE[status] + lines + b"\r\n"

    async def send_500_response(self) -> None:
        """Answer for an application that could not; whether it had done its work is not known."""
        self._start = None
        problem = Problem(INTERNAL_ERROR, outcome="unknown")
        await refusing(problem, self._public_url)(self.scope, self.receive, self.send)


def refusing(problem: Problem, public_url: str) -> "ASGI3Application":
    """Return the application that answers everything with the problem, and ends the connection."""

    async def refuse(
        _scope: "Scope", _receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        request_id = new_id("req")
        response = problem_response(problem, request_id, public_url)
        headers = [
            (b"x-request-id", request_id.encode()),
            (b"content-length", b"%d" % len(response.body)),
            *response.headers,
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": False})

    return refuse
