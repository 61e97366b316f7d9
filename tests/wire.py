"""Talk HTTP by hand, over a raw socket, to say what no client library would."""

import socket
from types import TracebackType

import httpx2


class Wire:
    """One connection. Whatever is not answered in time fails the test."""

    def __init__(self, address: tuple[str, int], seconds: float = 15) -> None:
        self.socket = socket.create_connection(address, timeout=seconds)
        self._received = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> "Wire":
        """Send the parts, each in a packet of its own as far as it is up to us."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            self.socket.sendall(part)
        return self

    def answer(self, *, to_head: bool = False) -> httpx2.Response:
        """Read one answer, as far as its own framing says; an interim one has no body."""
        head = self._until(b"\r\n\r\n")
        status_line, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        headers = httpx2.Headers(pairs)
        bodiless = to_head or status in {"100", "204", "304"}
        return httpx2.Response(
            int(status), headers=headers, content=b"" if bodiless else self._body(headers)
        )

    def closes(self) -> bool:
        """Say whether nothing more comes, and the end is an orderly one; a reset raises."""
        return self._received == b"" and self.socket.recv(1) == b""

    def _body(self, headers: httpx2.Headers) -> bytes:
        if "content-length" in headers:
            return self._take(int(headers["content-length"]))
        assert headers["transfer-encoding"] == "chunked"
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._take(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        return body

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._receive()
        return self._take(self._received.index(end) + len(end))

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def _receive(self) -> None:
        more = self.socket.recv(1 << 20)
        assert more, f"closed in the middle of an answer, after {self._received!r}"
        self._received += more
