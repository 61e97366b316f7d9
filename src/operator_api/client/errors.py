"""What the client raises.

::

    OperatorError
    ├── RequestValidationError        before anything was sent; the field errors of the server's 422
    ├── OutboxError                   the outbox could not keep a write
    └── APIError                      a call failed, after all its attempts
        ├── APIConnectionError        no answer
        │   └── APITimeoutError       no answer in time
        ├── APIResponseValidationError   a "success" that is not one
        └── APIStatusError            an answer of 400 and above
            ├── BadRequestError 400 · AuthenticationError 401 · PermissionDeniedError 403
            ├── NotFoundError 404 · ConflictError 409 · UnprocessableEntityError 422
            └── RateLimitError 429 · InternalServerError 500 and above

None of them shows a secret or a submitted value, whichever way it is printed, logged or pickled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from operator_api.client.responses import Response
from operator_api.contract.errors import FieldError, Outcome


class OperatorError(Exception):
    """Whatever this client raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the members: the constructors take keywords, which exceptions do not keep."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[OperatorError], args: tuple[Any, ...], members: dict[str, Any]
) -> OperatorError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(members)
    return error


class RequestValidationError(OperatorError):
    """The request is wrong, and was not sent. ``errors`` are those of the server's 422 or 400."""

    def __init__(self, message: str, *, operation: str, errors: Sequence[FieldError]) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.errors = tuple(errors)


class OutboxError(OperatorError):
    """The outbox could not keep a write: it is not going to be sent."""


class APIError(OperatorError):
    """A call failed, after ``attempts`` requests.

    ``outcome`` says whether a write happened; where it is ``unknown``, the same call with the same
    ``idempotency_key`` finds out and does it at most once. ``retry_after`` is how many seconds the
    server wants to be left alone. ``budget_exhausted``: it was not retried, since so much else had
    been; ``request_id`` leads to the server's log.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str,
        attempts: int,
        outcome: Outcome,
        request_id: str | None = None,
        idempotency_key: str | None = None,
        retry_after: float | None = None,
        budget_exhausted: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.attempts = attempts
        self.outcome = outcome
        self.request_id = request_id
        self.idempotency_key = idempotency_key
        self.retry_after = retry_after
        self.budget_exhausted = budget_exhausted


class APIConnectionError(APIError):
    """There was no answer. What the network said is the ``__cause__``."""


class APITimeoutError(APIConnectionError):
    """There was no answer in time: in one attempt's, or before the deadline of the whole call."""


class APIResponseValidationError(APIError):
    """An answer that says success and is not one: not JSON, cut short, or another thing's."""

    def __init__(self, message: str, *, response: Response, **members: Any) -> None:
        super().__init__(message, **members)
        self.response = response
        self.status_code = response.status_code


class APIStatusError(APIError):
    """An answer of 400 and above, with the members of the contract's error object.

    Programs use ``reason``, ``type``, ``metadata`` and ``action``, which says what to do next;
    ``log_url`` leads to the request's explanation. An answer that is not under the contract, as
    a proxy gives it, has ``reason`` None.
    """

    def __init__(
        self,
        message: str,
        *,
        response: Response,
        reason: str | None = None,
        type: str | None = None,  # noqa: A002 - the contract's name of the member
        hint: str | None = None,
        action: str | None = None,
        doc_url: str | None = None,
        log_url: str | None = None,
        errors: Sequence[FieldError] = (),
        metadata: Mapping[str, Any] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(message, **members)
        self.response = response
        self.status_code = response.status_code
        self.reason = reason
        self.type = type
        self.hint = hint
        self.action = action
        self.doc_url = doc_url
        self.log_url = log_url
        self.errors = tuple(errors)
        self.metadata = dict(metadata or {})


class BadRequestError(APIStatusError):
    """400: the request could not be read."""


class AuthenticationError(APIStatusError):
    """401: there is no usable token."""


class PermissionDeniedError(APIStatusError):
    """403: the token lacks a scope."""


class NotFoundError(APIStatusError):
    """404: no such endpoint, or no such object."""


class ConflictError(APIStatusError):
    """409: the stored state does not allow it."""


class UnprocessableEntityError(APIStatusError):
    """422: the body was read, and fields of it are wrong."""


class RateLimitError(APIStatusError):
    """429: too many requests; ``retry_after`` says how long to wait."""


class InternalServerError(APIStatusError):
    """500 and above: the server could not."""


_OF_STATUS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def error_class(status: int) -> type[APIStatusError]:
    """Return the exception of a status."""
    return InternalServerError if status >= 500 else _OF_STATUS.get(status, APIStatusError)
