"""An error as it is answered: the object in its body, and the headers beside it.

All that answers errors says them with these two: the server's pipeline and its edge, the OpenAPI
document, the drill that plays the server. The headers follow from the row and its metadata alone,
so that an error which is simulated is answered like one which is not.
"""

from collections.abc import Callable, Mapping
from typing import Any

from operator_api.contract.errors import RETRYABLE_ACTIONS, Problem
from operator_api.contract.headers import JSON

Header = tuple[bytes, bytes]

_NO_STORE: Header = (b"cache-control", b"no-store")
_VARY: Header = (b"vary", b"Accept")
_SERVICE: Header = (b"link", b'</openapi.json>; rel="service-desc"')
# RFC 6750, section 3: an error code only where a token was sent.
_BASE = 'Bearer realm="operator-ai"'
_CHALLENGE: Header = (b"www-authenticate", _BASE.encode())
_CHALLENGE_INVALID: Header = (b"www-authenticate", f'{_BASE}, error="invalid_token"'.encode())


def error_object(problem: Problem, request_id: str, public_url: str) -> dict[str, Any]:
    """Return the members of ``error``: all of them, always, in this order."""
    kind, action = problem.kind, problem.action
    return {
        "code": kind.status,
        "message": problem.message,
        "type": kind.type,
        "reason": kind.reason,
        "hint": kind.hint,
        "request_id": request_id,
        "doc_url": f"{public_url}/docs/errors/{kind.reason}",
        "log_url": f"{public_url}/console/requests/{request_id}",
        "outcome": problem.outcome,
        "retry": {
            "retryable": action in RETRYABLE_ACTIONS,
            "action": action,
            "after_seconds": problem.after_seconds,
        },
        "errors": [error.as_json() for error in problem.errors],
        "metadata": problem.metadata,
    }


def error_headers(problem: Problem) -> list[Header]:
    """Return the headers of the error, but for those of its request and its media type."""
    reason = problem.kind.reason
    headers: list[Header] = [
        (b"x-should-retry", b"true" if problem.action in RETRYABLE_ACTIONS else b"false"),
        (b"x-error-reason", reason.encode()),
        _NO_STORE,
        _VARY,
    ]
    of_reason = _OF_REASON.get(reason)
    if of_reason is not None:
        headers += of_reason(problem.metadata)
    if problem.after_seconds is not None:
        headers.append((b"retry-after", b"%d" % problem.after_seconds))
    return headers


# --- what some reasons have ---


def _always(*headers: Header) -> Callable[[Mapping[str, Any]], tuple[Header, ...]]:
    return lambda _metadata: headers


def _insufficient_scope(metadata: Mapping[str, Any]) -> tuple[Header, ...]:
    scopes = " ".join(metadata["required"])
    challenge = f'{_BASE}, error="insufficient_scope", scope="{scopes}"'
    return ((b"www-authenticate", challenge.encode()),)


def _method_not_allowed(metadata: Mapping[str, Any]) -> tuple[Header, ...]:
    return ((b"allow", ", ".join(metadata["allowed"]).encode()),)


def _unsupported_media_type(metadata: Mapping[str, Any]) -> tuple[Header, ...]:
    supported = ", ".join(metadata["supported"]).encode()
    if metadata["header"] == "Content-Encoding":
        return ((b"accept", JSON.encode()), (b"accept-encoding", supported))
    return ((b"accept", supported),)


_OF_REASON: Mapping[str, Callable[[Mapping[str, Any]], tuple[Header, ...]]] = {
    "missing_token": _always(_CHALLENGE),
    "malformed_authorization": _always(_CHALLENGE),
    "invalid_token": _always(_CHALLENGE_INVALID),
    "expired_token": _always(_CHALLENGE_INVALID),
    "revoked_token": _always(_CHALLENGE_INVALID),
    "insufficient_scope": _insufficient_scope,
    "unknown_endpoint": _always(_SERVICE),
    "method_not_allowed": _method_not_allowed,
    "unsupported_media_type": _unsupported_media_type,
}
