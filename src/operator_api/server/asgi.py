"""ASGI applications, such as Starlette's, beside the pipeline.

The API itself is no ASGI application: the protocol's messages would cost it a tenth of its speed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from operator_api.server.exchange import Exchange, Incoming, Respond, Response

Message = MutableMapping[str, Any]
Application = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

# How an answer is framed is left to the edge.
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})


def mounted(application: Application, *, scheme: str, body_bytes: int) -> Respond:
    """Return what answers as the application does. Its answers are taken whole, not streamed.

    A body of more than ``body_bytes`` looks to it like a caller that went away.
    """

    async def respond(exchange: Exchange, incoming: Incoming) -> Response:
        messages: list[Message] = []
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if asked:  # for the end of the connection, of which nothing is told
                await asyncio.get_running_loop().create_future()
            asked = True
            body = await incoming.read(body_bytes)
            if len(body) > body_bytes:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        await application(_scope(exchange, scheme), receive, send)
        return _response(messages)

    return respond


def _scope(exchange: Exchange, scheme: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme,
        "method": exchange.method,
        "root_path": "",
        "path": exchange.path,
        "raw_path": quote(exchange.path).encode(),
        "query_string": exchange.query,
        "headers": list(exchange.headers.items()),
        "client": (exchange.address, 0),
        "server": None,
    }


def _response(messages: list[Message]) -> Response:
    """Put the answer together, or raise ValueError if its messages are none."""
    types = [message["type"] for message in messages]
    if types != ["http.response.start", *["http.response.body"] * (len(types) - 1)]:
        raise ValueError(f"unexpected ASGI messages: {types}")
    more = [message.get("more_body", False) for message in messages[1:]]
    if more != [True] * (len(more) - 1) + [False]:
        raise ValueError("the answer is not complete, or goes on after its end")
    start = messages[0]
    headers: Mapping[bytes, bytes] = dict(start["headers"])
    body = b"".join(message.get("body", b"") for message in messages[1:])
    if body and int(headers.get(b"content-length", len(body))) != len(body):
        raise ValueError("the answer's body is not as long as its Content-Length")
    kept = [pair for pair in start["headers"] if pair[0] not in _FRAMING]
    return Response(start["status"], body, kept)
