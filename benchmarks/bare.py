"""The peer: an ASGI application that answers a constant, on the same HTTP server."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BODY = b'{"ok":true}'
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
]


async def app(
    scope: MutableMapping[str, Any],
    _receive: Callable[[], Awaitable[Any]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer every request alike."""
    assert scope["type"] == "http", "lifespan is off"
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
