"""The network, by httpx2: the connections of a client, and what its exceptions mean.

The synchronous side needs help to hold a deadline: a timeout of a socket is for one read, and a
server that sends a byte now and then keeps each read short. So each read and write is given what is
left until the moment that the thread's current attempt must end.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from operator_api.client.policy import Failure, Kind

LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=5.0)
# More is none of this API's answers, and would fill the memory.
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class AnswerTooLargeError(httpx2.RemoteProtocolError):
    """The answer does not end where an answer of this API would."""


def proxy_for(url: httpx2.URL) -> str | None:
    """Return the proxy that the environment names for an address (HTTP_PROXY, NO_PROXY, …)."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def open_transport(url: httpx2.URL) -> httpx2.HTTPTransport:
    """Make the connections to an address, each held to the deadline of the thread that uses it."""
    transport = httpx2.HTTPTransport(limits=LIMITS, proxy=proxy_for(url), verify=_verify(url))
    hold_to_deadline(transport)
    return transport


def open_async_transport(url: httpx2.URL) -> httpx2.AsyncHTTPTransport:
    """Make the connections to an address for an event loop, which holds deadlines by itself."""
    return httpx2.AsyncHTTPTransport(limits=LIMITS, proxy=proxy_for(url), verify=_verify(url))


def _verify(url: httpx2.URL) -> bool | ssl.SSLContext:
    """Return how servers are verified. To load the authorities takes longer than many a call."""
    return True if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# --- holding a deadline in a thread ---


class _Until(threading.local):
    """When the current attempt of a thread must end, in monotonic seconds."""

    at: float | None = None


_until = _Until()


@contextmanager
def ending_within(seconds: float) -> Iterator[float]:
    """Let every read and write of this thread end within so many seconds; give the moment."""
    before = _until.at
    _until.at = end = time.monotonic() + seconds
    try:
        yield end
    finally:
        _until.at = before


def hold_to_deadline(transport: httpx2.BaseTransport) -> None:
    """Make the transport's connections end with their attempt, where it is httpx2's own."""
    pool: Any = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if isinstance(backend, httpcore2.NetworkBackend) and not isinstance(backend, _Backend):
        pool._network_backend = _Backend(backend)


def hold_client_to_deadline(client: httpx2.Client) -> None:
    """Do the same for a client that was made elsewhere; what else it sends is not concerned."""
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            hold_to_deadline(transport)


def _left(timeout: float | None, timed_out: type[Exception]) -> float | None:
    if _until.at is None:
        return timeout
    left = _until.at - time.monotonic()
    if left <= 0:
        raise timed_out("The attempt has had its time.")
    return left if timeout is None else min(timeout, left)


class _Backend(httpcore2.NetworkBackend):
    """Opens connections whose every operation is cut to what is left."""

    def __init__(self, backend: httpcore2.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(
            self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        timeout = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._backend.connect_unix_socket(path, timeout, socket_options))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


# --- what the network's exceptions mean ---

# The most specific class counts. Whether a request was sent decides whether it may be sent again.
KINDS: dict[type[httpx2.HTTPError], Kind] = {
    httpx2.ConnectError: Kind.NEVER_SENT,
    httpx2.ConnectTimeout: Kind.NEVER_SENT,
    httpx2.PoolTimeout: Kind.NEVER_SENT,
    httpx2.ProxyError: Kind.NEVER_SENT,
    httpx2.UnsupportedProtocol: Kind.NEVER_SENT,
    httpx2.ReadTimeout: Kind.BROKEN,
    httpx2.WriteTimeout: Kind.BROKEN,
    httpx2.ReadError: Kind.BROKEN,
    httpx2.WriteError: Kind.BROKEN,
    httpx2.CloseError: Kind.BROKEN,
    httpx2.LocalProtocolError: Kind.BROKEN,
    httpx2.RemoteProtocolError: Kind.BROKEN,
    httpx2.DecodingError: Kind.BROKEN,
    httpx2.TooManyRedirects: Kind.BROKEN,
    # Not raised themselves by httpx2, but a transport of somebody's own may.
    httpx2.TimeoutException: Kind.BROKEN,
    httpx2.NetworkError: Kind.BROKEN,
    httpx2.ProtocolError: Kind.BROKEN,
    httpx2.TransportError: Kind.BROKEN,
    httpx2.RequestError: Kind.BROKEN,
    httpx2.SSEError: Kind.BROKEN,
    # Raised by ``raise_for_status``, which a client of somebody's own may call in a hook.
    httpx2.HTTPStatusError: Kind.BROKEN,
    httpx2.HTTPError: Kind.BROKEN,
}


def failure_of(error: httpx2.HTTPError) -> Failure:
    """Say what an exception of the network means for the request that met it."""
    kind = next(KINDS[each] for each in type(error).__mro__ if each in KINDS)
    if kind is Kind.NEVER_SENT and _is_of_certificate(error):
        kind = Kind.CERTIFICATE
    return Failure(kind, timed_out=isinstance(error, httpx2.TimeoutException))


def _is_of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
