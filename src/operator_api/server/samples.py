"""Each error as it might look: filled with plausible values, for the OpenAPI document."""

from collections.abc import Callable, Mapping
from typing import Any

from operator_api.contract.errors import (
    INSUFFICIENT_SCOPE,
    INVALID_HEADER,
    PRECONDITION_FAILED,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_MEDIA_TYPE,
    ErrorKind,
    Problem,
)
from operator_api.contract.headers import IDEMPOTENCY_KEY
from operator_api.contract.operations import Operation
from operator_api.contract.scopes import PRESETS
from operator_api.contract.validation import field_error, validate_body, validate_params
from operator_api.server.query import read_query
from operator_api.server.render import MEDIA_TYPES

SAMPLE_REQUEST_ID = "req_0197b1c2d3e4f5061718293a4b5c6d7e"

# What the catalogue's messages are filled with, where it does not follow from the operation.
_METADATA: Mapping[str, Mapping[str, Any]] = {
    "invalid_json": {"problem": "expecting ',' delimiter", "line": 3, "column": 5},
    "body_not_object": {"found": "a list"},
    "invalid_encoding": {"problem": "invalid start byte", "byte": 17},
    "malformed_authorization": {"problem": "its scheme must be Bearer"},
    "expired_token": {"expired_at": "2026-01-31T12:00:00.000000Z"},
    "revoked_token": {"revoked_at": "2026-01-31T12:00:00.000000Z"},
    "unknown_endpoint": {"did_you_mean": "/v1/users"},
    "method_not_allowed": {"method": "POST", "allowed": ["GET", "HEAD", "OPTIONS"]},
    "not_acceptable": {"available": [*MEDIA_TYPES.values()]},
    "request_timeout": {"seconds": 10},
    "body_too_large": {"limit_bytes": 1_048_576},
    "headers_too_large": {"limit_bytes": 65_536},
    "already_exists": {
        "resource": "user",
        "field": "email",
        "existing_id": "usr_0197b1c2d3e4f5061718293a4b5c6d7e",
    },
    "limit_reached": {"resource": "user", "limit": 50, "what": "tags"},
    "conversation_closed": {"closed_at": "2026-01-31T12:00:00.000000Z"},
    "token_inactive": {"status": "revoked"},
    "rate_limited": {"limit": 600, "window_seconds": 60},
    "too_many_failed_authentications": {"cause": "expired_token"},
}


def sample(kind: ErrorKind, operation: Operation | None) -> Problem:
    """Return the error as the operation might give it; None is for what no operation has."""
    if operation is not None and kind.reason in _OF_OPERATION:
        return _OF_OPERATION[kind.reason](operation)
    return Problem(kind, _METADATA.get(kind.reason))


def _insufficient_scope(operation: Operation) -> Problem:
    granted = [scope for scope in PRESETS["read-only"] if scope != operation.scope]
    required = [operation.scope]
    return Problem(
        INSUFFICIENT_SCOPE, {"required": required, "granted": granted, "missing": required}
    )


def _unsupported_media_type(operation: Operation) -> Problem:
    supported = [*operation.media_types]
    return Problem(UNSUPPORTED_MEDIA_TYPE, {"header": "Content-Type", "supported": supported})


def _invalid_header(_operation: Operation) -> Problem:
    expected = "1 to 255 visible ASCII characters"
    return Problem(
        INVALID_HEADER,
        errors=[field_error("header", (IDEMPOTENCY_KEY,), "invalid_format", expected=expected)],
    )


def _invalid_parameter(operation: Operation) -> Problem:
    if "limit" in operation.params.model_fields:
        return _problem_of(validate_params, operation.params, {"limit": "0"})
    return _problem_of(read_query, b"limit=10&limit=20")


def _unknown_parameter(operation: Operation) -> Problem:
    return _problem_of(validate_params, operation.params, {"sort": "name"})


def _validation_failed(operation: Operation) -> Problem:
    assert operation.body is not None, "only a body is validated"
    all_optional = not any(each.is_required() for each in operation.body.model_fields.values())
    return _problem_of(validate_body, operation.body, {"note": "hello"} if all_optional else {})


def _problem_of(check: Callable[..., object], *given: object) -> Problem:
    try:
        check(*given)
    except Problem as problem:
        return problem
    raise AssertionError("a sample of an error is none")


def _about(kind: ErrorKind) -> Callable[[Operation], Problem]:
    def made(operation: Operation) -> Problem:
        resources = [each.resource for each in operation.ids.values()]
        return Problem(kind, {"resource": resources[0] if resources else "reason"})

    return made


_OF_OPERATION: Mapping[str, Callable[[Operation], Problem]] = {
    "insufficient_scope": _insufficient_scope,
    "unsupported_media_type": _unsupported_media_type,
    "invalid_header": _invalid_header,
    "invalid_parameter": _invalid_parameter,
    "unknown_parameter": _unknown_parameter,
    "validation_failed": _validation_failed,
    "resource_not_found": _about(RESOURCE_NOT_FOUND),
    "precondition_failed": _about(PRECONDITION_FAILED),
}
