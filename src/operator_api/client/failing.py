"""A failed attempt: what it means for the call, and the exception that tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operator_api.client.core import Request
from operator_api.client.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    error_class,
)
from operator_api.client.policy import Failure, Kind, read_retry_after
from operator_api.client.responses import Response
from operator_api.contract.errors import FieldError, Outcome
from operator_api.contract.headers import ERROR_REASON, RETRY_AFTER, SHOULD_RETRY

_OUTCOMES: Mapping[Any, Outcome] = {
    "not_executed": "not_executed",
    "executed": "executed",
    "unknown": "unknown",
}
_DID_IT: Mapping[Outcome, str] = {
    "not_executed": "Nothing was changed.",
    "executed": "The change was made.",
    "unknown": "It is not known whether the change was made; the same call with the same"
    " idempotency_key finds out, and makes it once at most.",
}


@dataclass(frozen=True, slots=True)
class Failed:
    """One attempt that failed. ``why`` is what is wrong with an answer that says success."""

    failure: Failure
    came: Response | Exception
    why: str = ""

    @property
    def error(self) -> type[APIError]:
        """The class of the exception that tells of it."""
        if self.failure.kind is Kind.STATUS:
            return error_class(self.failure.status or 0)
        if self.failure.kind is Kind.INVALID_ANSWER:
            return APIResponseValidationError
        return APITimeoutError if self.failure.timed_out else APIConnectionError

    @property
    def told(self) -> Outcome | None:
        """The server's own word on whether the write happened."""
        if self.failure.kind is not Kind.STATUS or not isinstance(self.came, Response):
            return None
        return _OUTCOMES.get(_text(_error_object(self.came), "outcome"))


def failure_of_status(response: Response) -> Failure:
    """Say what an answer of 400 and above means for its request."""
    headers = response.headers
    return Failure(
        Kind.STATUS,
        status=response.status_code,
        reason=headers.get(ERROR_REASON) or _text(_error_object(response), "reason"),
        should_retry={"true": True, "false": False}.get(headers.get(SHOULD_RETRY, "")),
        retry_after=read_retry_after(headers.get(RETRY_AFTER), headers.get("Date")),
    )


def exception_of(
    failed: Failed, request: Request, *, origin: str, attempts: int, outcome: Outcome, **more: Any
) -> APIError:
    """Make the exception of a call whose last attempt failed so."""
    members: dict[str, Any] = {
        "operation": request.operation.name,
        "attempts": attempts,
        "outcome": outcome,
        "idempotency_key": request.idempotency_key,
        "retry_after": failed.failure.retry_after,
        **more,
    }
    came = failed.came
    if isinstance(came, Response):
        members["response"] = came
        if failed.failure.kind is Kind.STATUS:
            return _of_status(came, members)
        return _of_invalid_answer(failed, came, request, members)
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    text = f"{request.operation.name}: {_happened(failed, request, origin)} ({tries})."
    if request.operation.writes:
        text += f" {_DID_IT[outcome]}"
    error = failed.error(text, **members)
    error.__cause__ = came
    return error


def _happened(failed: Failed, request: Request, origin: str) -> str:
    kind, cause = failed.failure.kind, failed.came
    if kind is Kind.CERTIFICATE:
        return f"the certificate of {origin} cannot be trusted: {cause}"
    if kind is Kind.NEVER_SENT:
        return f"no connection to {origin}: {str(cause) or type(cause).__name__}"
    if failed.failure.timed_out:
        return f"no answer from {origin} in time, which was {request.timeout:g} s an attempt"
    # What exactly came instead of an answer is left to the cause: it may be anything.
    return f"the connection to {origin} broke before the answer was there"


def _of_invalid_answer(
    failed: Failed, response: Response, request: Request, members: dict[str, Any]
) -> APIError:
    about = f" ({response.request_id})" if response.request_id else ""
    text = f"{request.operation.name}: the answer cannot be used, {failed.why}{about}."
    if request.operation.writes:
        text += f" {_DID_IT[members['outcome']]}"
    return APIResponseValidationError(text, request_id=response.request_id, **members)


def _of_status(response: Response, members: dict[str, Any]) -> APIError:
    """Make the exception of an answer of 400 and above, whoever gave it.

    What is not under the contract may repeat what was sent, so nothing of it is shown.
    """
    told = _error_object(response)
    if not all(_text(told, name) for name in ("type", "reason", "message", "request_id")):
        told = {}
    status = response.status_code
    reason = _text(told, "reason") or response.headers.get(ERROR_REASON)
    message = _text(told, "message") or "The answer is not one of the API's."
    doc_url = _text(told, "doc_url")
    request_id = response.request_id or _text(told, "request_id")
    about = ", ".join(filter(None, (request_id, doc_url and f"see {doc_url}")))
    text = f"{status} {reason or 'without a reason'}: {message.removeprefix('Validation error: ')}"
    return error_class(status)(
        f"{text} ({about})" if about else text,
        reason=reason,
        type=_text(told, "type"),
        hint=_text(told, "hint"),
        action=_text(_object(told, "retry"), "action"),
        doc_url=doc_url,
        log_url=_text(told, "log_url"),
        errors=_field_errors(told.get("errors")),
        metadata=_object(told, "metadata"),
        request_id=request_id,
        **members,
    )


# --- reading an error object that may be anybody's ---


def _error_object(response: Response) -> Mapping[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _object(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = members.get(name)
    return value if isinstance(value, dict) else {}


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


def _field_errors(told: Any) -> list[FieldError]:
    """Read the field errors, leaving out what is none."""
    return [
        FieldError(
            each.get("in", "body"),
            each["pointer"],
            _text(each, "field") or "",
            _text(each, "reason") or "",
            each["message"],
            _text(each, "did_you_mean"),
            each.get("fix"),
        )
        for each in (told if isinstance(told, list) else [])
        if isinstance(each, dict) and _text(each, "pointer") and _text(each, "message")
    ]
