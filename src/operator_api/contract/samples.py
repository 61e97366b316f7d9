"""Each error as it might look, filled with plausible values.

The OpenAPI document shows these, a simulation answers them, and so does the drill.
"""

from collections.abc import Callable, Mapping
from typing import Any

from operator_api.contract.errors import (
    INSUFFICIENT_SCOPE,
    INVALID_HEADER,
    PRECONDITION_FAILED,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION_FAILED,
    ErrorKind,
    FieldError,
    Problem,
)
from operator_api.contract.examples import EXAMPLES
from operator_api.contract.headers import IDEMPOTENCY_KEY, JSON, MARKDOWN, PROBLEM_JSON, SIMULATE
from operator_api.contract.models import RequestBody, TokenRotate, UserCreate
from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from operator_api.contract.scopes import PRESETS
from operator_api.contract.validation import (
    field_error,
    invalid_params,
    validate_body,
    validate_params,
)

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
    "not_acceptable": {"available": [JSON, PROBLEM_JSON, MARKDOWN]},
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
# What stands for the operation where there is none.
_ANY = BY_NAME["users.create"]


def sample(kind: ErrorKind, operation: Operation | None = None) -> Problem:
    """Return the error as the operation might give it; a reason of fields in a 422.

    It need not be one that the operation can give. Each sample is a new one, to be changed at will.
    """
    if kind.of_field:
        return _validation_failed_by(kind)
    if kind.reason in _OF_OPERATION:
        return _OF_OPERATION[kind.reason](operation or _ANY)
    return Problem(kind, _METADATA.get(kind.reason))


# --- what follows from the operation ---


def _insufficient_scope(operation: Operation) -> Problem:
    scope = operation.scope or _ANY.scope
    granted = [each for each in PRESETS["read-only"] if each != scope]
    return Problem(
        INSUFFICIENT_SCOPE, {"required": [scope], "granted": granted, "missing": [scope]}
    )


def _unsupported_media_type(operation: Operation) -> Problem:
    supported = [*operation.media_types]
    return Problem(UNSUPPORTED_MEDIA_TYPE, {"header": "Content-Type", "supported": supported})


def _invalid_header(operation: Operation) -> Problem:
    if operation.writes:
        name, expected = IDEMPOTENCY_KEY, "1 to 255 visible ASCII characters"
    else:
        name, expected = SIMULATE, "a reason of the catalogue"
    return Problem(
        INVALID_HEADER, errors=[field_error("header", (name,), "invalid_format", expected=expected)]
    )


def _invalid_parameter(operation: Operation) -> Problem:
    if "limit" in operation.params.model_fields:
        return _problem_of(validate_params, operation.params, {"limit": "0"})
    twice = field_error("query", ("limit",), "invalid_format", expected="given once")
    return invalid_params([twice])


def _unknown_parameter(operation: Operation) -> Problem:
    return _problem_of(validate_params, operation.params, {"sort": "name"})


def _validation_failed(operation: Operation) -> Problem:
    body = operation.body or UserCreate
    all_optional = not any(each.is_required() for each in body.model_fields.values())
    return _problem_of(validate_body, body, {"note": "hello"} if all_optional else {})


def _about(kind: ErrorKind) -> Callable[[Operation], Problem]:
    def made(operation: Operation) -> Problem:
        resources = [each.resource for each in operation.ids.values()]
        if not resources:
            resources = ["reason" if operation.resource in {"errors", "service"} else "user"]
        return Problem(kind, {"resource": resources[0]})

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

# --- reasons of fields ---


def _validation_failed_by(kind: ErrorKind) -> Problem:
    """Return the 422 whose one field error has the reason."""
    if kind.reason == "not_found":  # which stands on what is stored
        return Problem(VALIDATION_FAILED, errors=[_not_found()])
    return _problem_of(validate_body, *_refused_body(kind.reason))


def _not_found() -> FieldError:
    return field_error("body", ("user_id",), "not_found", resource="user")


def _refused_body(reason: str) -> tuple[type[RequestBody], Any]:
    """Return a body that is wrong for the reason: its example's, where that is in the body."""
    request = EXAMPLES[reason].last
    for operation in OPERATIONS:
        is_its = (operation.method, operation.path) == (request.method, request.path)
        if is_its and operation.body is not None:
            return operation.body, request.body
    return TokenRotate, {"overlap_seconds": -1}


def _problem_of(check: Callable[..., object], *given: object) -> Problem:
    try:
        check(*given)
    except Problem as problem:
        return problem
    raise AssertionError("a sample of an error is none")
