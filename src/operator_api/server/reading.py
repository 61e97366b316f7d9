"""What is read of a request: its conditions, and the bytes of its body."""

from operator_api.contract.errors import (
    BODY_TOO_LARGE,
    INVALID_HEADER,
    UNSUPPORTED_MEDIA_TYPE,
    FieldError,
    Problem,
)
from operator_api.contract.headers import parse_idempotency_key, parse_if_match
from operator_api.contract.operations import Operation
from operator_api.server.exchange import Exchange, Incoming


async def read_content(
    exchange: Exchange, operation: Operation, incoming: Incoming, most: int
) -> bytes | None:
    """Take the body in: 413 as soon as it is too large, 415 if it is not JSON."""
    if operation.body is None:
        return None
    length = exchange.headers.get(b"content-length")
    if length is not None and int(length) > most:
        raise _too_large(most)
    content = await incoming.read(most)
    if len(content) > most:
        raise _too_large(most)
    if operation.body_optional and not content.strip():
        return None
    _require_json(exchange, operation)
    return content


def _require_json(exchange: Exchange, operation: Operation) -> None:
    content_type = exchange.header(b"content-type")
    if content_type != "application/json" and not _is_json(content_type, operation):
        supported = list(operation.media_types)
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            {"header": "Content-Type", "supported": supported},
        )
    encoding = exchange.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            {"header": "Content-Encoding", "supported": ["identity"]},
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
