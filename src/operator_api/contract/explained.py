"""What is told of one logged request: why it was answered so, and how to get another answer."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from operator_api.contract.errors import Check, Place
from operator_api.contract.fields import Known, Moment, TokenId, parse_flag
from operator_api.contract.logged import LoggedRequest
from operator_api.contract.models import FieldErrorInfo, Params, Resource, RetryAdvice

DetailState = Literal["open", "none", "erased", "key_missing", "tampered"]


class ExplainParams(Params):
    """How much of a request is shown."""

    reveal: Annotated[bool, BeforeValidator(parse_flag)] = Field(
        default=False,
        description=(
            "Show the redacted bodies as well. This needs the scope `requests:reveal`, and is put"
            " on record."
        ),
    )


class CheckResult(Resource):
    """One check. ``passed`` is null where it was not come to, not needed, or is not known."""

    name: Known[Check]
    passed: bool | None
    detail: str | None


class Try(Resource):
    """One of the requests with the same idempotency key.

    ``gap_ms`` is how long the caller waited since the answer before; ``same_body`` says whether
    the body is that of the request that is explained.
    """

    id: str
    at: Moment
    status: int
    reason: str | None
    latency_ms: float
    gap_ms: float | None
    retry_count: int | None
    same_body: bool


class Part(Resource):
    """One part of a request, with the kind of its value: ``email``, ``number``, ``null`` …."""

    place: Known[Place] = Field(alias="in")
    pointer: str
    shape: str


class ChangedPart(Resource):
    """One part that both requests have, with different kinds of values."""

    place: Known[Place] = Field(alias="in")
    pointer: str
    before: str
    now: str


class Difference(Resource):
    """What the request has other than ``request_id``, the token's last success before it."""

    request_id: str
    at: Moment
    added: list[Part]
    missing: list[Part]
    changed: list[ChangedPart]


class Sent(Resource):
    """The request beyond its row, redacted. A value is shown as its kind and length."""

    query: dict[str, Any] | str | None
    headers: list[tuple[str, str]]
    bytes: int
    complete: bool


class LastSuccess(Resource):
    """The body of the request that it is compared with."""

    request_id: str
    body: Any


class Revealed(Resource):
    """The redacted bodies. ``answer_body`` is that of an answer that was given again."""

    body: Any
    answer_body: Any
    last_success: LastSuccess | None


class Reveal(Resource):
    """Who has looked at the bodies, when, and why; ``request_id`` is that of the look.

    The operator's looks have the ``token_id`` ``operator``.
    """

    request_id: str
    at: Moment
    token_id: str
    why: str | None


class LoggedToken(Resource):
    """Whose token it was, as far as that is known still."""

    id: TokenId
    name: str | None
    hint: str | None


class ExplainedRequest(LoggedRequest):
    """One request explained. What only an error has is null or empty where there is none.

    ``detail`` says whether more is known than the row: ``open``; ``none`` (not kept: a success, or
    one of a flood of failures), ``erased`` (the account's data key was destroyed), ``key_missing``
    (none of the operator's keys opens it), or ``tampered``.
    """

    token: LoggedToken | None
    message: str | None
    title: str | None
    causes: list[str]
    hint: str | None
    fix: str | None
    doc_url: str | None
    retry: RetryAdvice | None
    errors: list[FieldErrorInfo]
    metadata: dict[str, Any]
    checks: list[CheckResult]
    tries: list[Try]
    diff: Difference | None
    curl: str | None
    detail: Known[DetailState]
    sent: Sent | None
    revealed: Revealed | None
    reveals: list[Reveal]
