"""One connection of a caller, and one request to the upstream. HTTP/1.1 is read by h11.

A caller who is gone, or who speaks no HTTP, is an OSError or an ``h11.RemoteProtocolError``.
"""

import asyncio
import socket
import struct
import time
from contextlib import suppress

import h11

from operator_api.drill.faults import CloseIdle, Drip, Fault, Stall, Truncate
from operator_api.drill.traffic import Answer, Asked, Headers

_CHUNK = 65_536
# Headers of one connection, not of the request; the framing is made anew for the next one.
_OF_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})
_WITHOUT_BODY = (204, 304)


class Connection:
    """A caller's connection.

    ``sent_at`` is when the latest bytes were given to the system, ``was_left`` whether the caller
    had closed before that, as far as is known. ``closes_at_next`` is the fault for which the next
    request is not answered.
    """

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.sent_at = 0.0
        self.was_left = False
        self.closes_at_next: CloseIdle | None = None
        self._reader = reader
        self._writer = writer
        self._parser = h11.Connection(h11.SERVER)
        self._to_head = False
        # Then drain() waits until everything is sent, so that a close cuts nothing off.
        writer.transport.set_write_buffer_limits(high=0)

    async def read_head(self) -> tuple[str, str, Headers] | None:
        """Return the method, target and headers of the next request; None if there is no more."""
        event = await _next_event(self._parser, self._reader)
        if not isinstance(event, h11.Request):
            return None
        self._to_head = event.method == b"HEAD"
        return event.method.decode(), event.target.decode("latin-1"), _decoded(event.headers)

    async def read_body(self) -> bytes:
        """Return the rest of the request; a caller who waits to be told so is told to go on."""
        parts: list[bytes] = []
        if self._parser.they_are_waiting_for_100_continue:
            await self.inform(100)
        while isinstance(event := await _next_event(self._parser, self._reader), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def inform(self, status: int) -> None:
        """Send an interim answer."""
        await self.send(
            _bytes_of(self._parser, h11.InformationalResponse(headers=[], status_code=status))
        )

    def framed(self, answer: Answer) -> tuple[bytes, bytes]:
        """Return the answer's head and body as they go over the wire; once for each request."""
        bodiless = self._to_head or answer.status in _WITHOUT_BODY
        headers = [(name, value) for name, value in answer.headers]
        if answer.status not in _WITHOUT_BODY and answer.header("content-length") is None:
            headers.append(("Content-Length", str(len(answer.body))))
        response = h11.Response(status_code=answer.status, headers=_encoded(headers))
        head = _bytes_of(self._parser, response)
        body = b"" if bodiless else _bytes_of(self._parser, h11.Data(data=answer.body))
        return head, body + _bytes_of(self._parser, h11.EndOfMessage())

    async def send(self, data: bytes) -> None:
        """Send the bytes, and return when the system has taken them all."""
        self.give(data)
        await self.drain()

    def give(self, data: bytes) -> None:
        """Give the bytes to the system, as many as it takes at once; ``drain`` is to follow."""
        self.sent_at = time.monotonic()
        self.was_left = self._reader.at_eof() or self._writer.is_closing()
        self._writer.write(data)

    async def drain(self) -> None:
        """Return when the system has taken all that it was given."""
        await self._writer.drain()

    def takes_another(self) -> bool:
        """Say whether the connection is kept alive, and make ready for its next request."""
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
            return True
        return False

    def reset(self) -> None:
        """Reset the connection: RST instead of an orderly end."""
        reset(self._writer.get_extra_info("socket"))
        self._writer.transport.abort()

    async def close(self) -> None:
        """End in order, and without waiting long for a caller who does not."""
        self._writer.close()
        with suppress(OSError):
            async with asyncio.timeout(0.2):
                await self._writer.wait_closed()

    def abort(self) -> None:
        """Let go of what is left."""
        self._writer.transport.abort()


def reset(of: socket.socket | None) -> None:
    """Let the socket's end, which is the caller's to bring about, be a reset (RST).

    A transport that has lost its connection already has no socket any more.
    """
    if of is None:
        return
    with suppress(OSError):  # the other side was faster
        of.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def lead(connection: Connection, answer: Answer, fault: Fault | None) -> bytes | None:
    """Send the answer in the way that the fault has, all but its last bytes, and return those.

    None is for an answer that is not to become whole.
    """
    head, body = connection.framed(answer)
    match fault:
        case Truncate(of="body"):
            await connection.send(head + body[: min(fault.size, max(len(body) - 1, 0))])
            return None
        case Truncate():
            await connection.send(head[: min(fault.size, len(head) - 1)])
            return None
        case Drip():
            if not fault.head:
                await connection.send(head)
            dripping = head + body if fault.head else body
            for start in range(0, len(dripping) - fault.size, fault.size):
                await asyncio.sleep(fault.every)
                await connection.send(dripping[start : start + fault.size])
            await asyncio.sleep(fault.every)
            return dripping[(len(dripping) - 1) // fault.size * fault.size :] if dripping else b""
        case Stall(at="in_body"):
            await connection.send(head + body[:1])
            await asyncio.sleep(fault.seconds)
            return body[1:]
        case Stall(at="after"):
            await asyncio.sleep(fault.seconds)
        case CloseIdle(at="next_request"):
            connection.closes_at_next = fault
    return head + body


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked
) -> Answer:
    """Send the request to the upstream, and return its final answer; the connection is used up."""
    parser = h11.Connection(h11.CLIENT)
    headers = [each for each in asked.headers if each[0] not in _OF_CONNECTION | {"expect"}]
    if any(name == "transfer-encoding" for name, _ in asked.headers):
        headers.append(("content-length", str(len(asked.body))))
    headers.append(("connection", "close"))
    request = h11.Request(
        method=asked.method, target=asked.path.encode("latin-1"), headers=_encoded(headers)
    )
    for event in (request, h11.Data(data=asked.body), h11.EndOfMessage()):
        writer.write(_bytes_of(parser, event))
    await writer.drain()

    status, parts = 0, list[bytes]()
    answered: Headers = ()
    while not isinstance(got := await _next_event(parser, reader), h11.EndOfMessage):
        if isinstance(got, h11.Response):
            status, answered = got.status_code, _decoded(got.headers)
        elif isinstance(got, h11.Data):
            parts.append(bytes(got.data))
    # The length of what is not sent to a HEAD is the upstream's to say.
    dropped = _OF_CONNECTION if asked.method == "HEAD" else _OF_CONNECTION | {"content-length"}
    kept = tuple(each for each in answered if each[0].lower() not in dropped)
    return Answer(status, kept, b"".join(parts))


async def _next_event(parser: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := parser.next_event()) is h11.NEED_DATA:
        parser.receive_data(await reader.read(_CHUNK))
    return event


def _bytes_of(parser: h11.Connection, event: h11.Event) -> bytes:
    return parser.send(event) or b""


def _decoded(headers: h11._headers.Headers) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
