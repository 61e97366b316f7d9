"""What is read of a request: its outer form, its conditions, and the bytes of its body."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from operator_api.contract.errors import (
    BODY_TOO_LARGE,
    INVALID_HEADER,
    UNSUPPORTED_MEDIA_TYPE,
    FieldError,
    Problem,
)
from operator_api.contract.headers import parse_idempotency_key, parse_if_match
from operator_api.contract.operations import Operation
from operator_api.server.exchange import Exchange
from operator_api.server.ids import new_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]


class Disconnected(Exception):
    """The caller went away before its request was complete."""


def exchange_of(scope: Scope) -> Exchange:
    """Begin the exchange of an ASGI scope."""
    pairs = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = headers[name] + b", " + value if name in headers else value
    client, path, raw = scope["client"], scope["path"], scope["raw_path"]
    segments = path.split("/")[1:]
    if b"%" in raw:
        segments = [unquote(each) for each in raw.decode("latin-1").split("/")[1:]]
    return Exchange(
        request_id=new_id("req"),
        method=scope["method"],
        path=path,
        segments=segments,
        query=scope["query_string"],
        headers=headers,
        address=client[0] if client else "",
    )


async def read_content(
    exchange: Exchange, operation: Operation, receive: Receive, most: int
) -> bytes | None:
    """Take the body in: 413 as soon as it is too large, 415 if it is not JSON."""
    if operation.body is None:
        return None
    content = await _take_in(exchange, receive, most)
    if operation.body_optional and not content.strip():
        return None
    _require_json(exchange, operation)
    return content


async def _take_in(exchange: Exchange, receive: Receive, most: int) -> bytes:
    length = exchange.headers.get(b"content-length")
    if length is not None and int(length) > most:
        raise _too_large(most)
    message = await receive()
    content: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks, size = [content], len(content)
        while message.get("more_body") and size <= most:
            message = await receive()
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        content = b"".join(chunks)
    if message["type"] == "http.disconnect":
        raise Disconnected
    if len(content) > most:
        raise _too_large(most)
    return content


def _require_json(exchange: Exchange, operation: Operation) -> None:
    content_type = exchange.header(b"content-type")
    if content_type != "application/json" and not _is_json(content_type, operation):
        supported = list(operation.media_types)
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            {"header": "Content-Type", "supported": supported},
            headers=[(b"accept", ", ".join(supported).encode())],
        )
    encoding = exchange.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            {"header": "Content-Encoding", "supported": ["identity"]},
            headers=[(b"accept", b"application/json"), (b"accept-encoding", b"identity")],
        )


def _is_json(content_type: str | None, operation: Operation) -> bool:
    media_type, *parameters = (part.strip().lower() for part in (content_type or "").split(";"))
    utf8 = all(part in {"charset=utf-8", 'charset="utf-8"', ""} for part in parameters)
    return media_type in operation.media_types and utf8


def _too_large(most: int) -> Problem:
    return Problem(BODY_TOO_LARGE, {"limit_bytes": most})


def read_conditions(
    exchange: Exchange, operation: Operation
) -> tuple[str | None, list[str] | None]:
    """Read the headers that a write can carry: 400."""
    if not operation.writes:
        return None, None
    wrong = []
    key = if_match = None
    sent = exchange.header(b"idempotency-key")
    if sent is not None:
        key = parse_idempotency_key(sent)
        if key is None:
            wrong.append(
                _header_error(
                    "Idempotency-Key", "1 to 255 visible ASCII characters other than quotes"
                )
            )
    sent = exchange.header(b"if-match") if operation.takes_if_match else None
    if sent is not None:
        if_match = parse_if_match(sent)
        if if_match is None:
            wrong.append(_header_error("If-Match", "an entity tag in quotes, or *"))
    if wrong:
        raise Problem(INVALID_HEADER, errors=wrong)
    return key, if_match


def _header_error(name: str, expected: str) -> FieldError:
    message = f"{name} must be {expected}."
    return FieldError("header", f"#/{name}", name, "invalid_format", message)
