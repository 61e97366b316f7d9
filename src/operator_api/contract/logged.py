"""What the log shows of requests, and how it is searched."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from operator_api.contract.errors import Outcome
from operator_api.contract.fields import (
    Address,
    ClientRequestId,
    Known,
    Moment,
    OperationName,
    Reason,
    SearchText,
    Timestamp,
    TokenId,
    TokenIdFilter,
    parse_whole_number,
)
from operator_api.contract.models import ListParams, Resource

StatusClass = Literal["2xx", "3xx", "4xx", "5xx"]


class LoggedRequest(Resource):
    """One request as the log has it. Null is what is not known, or was not sent.

    ``at`` is when it began, ``path`` is without the query, ``retry_count`` is what the caller said
    of itself, and ``replay_of`` the request whose answer was given again.
    """

    id: str
    at: Moment
    operation: str | None
    method: str | None
    path: str | None
    status: int
    reason: str | None
    outcome: Known[Outcome] | None
    latency_ms: float
    token_id: TokenId | None
    address: str | None
    client_request_id: str | None
    retry_count: int | None
    replayed: bool
    replay_of: str | None


class RequestListParams(ListParams):
    """Filters of logged requests."""

    status: Annotated[int, Field(ge=100, le=599), BeforeValidator(parse_whole_number)] | None = (
        Field(default=None, description="Only requests that were answered with this status.")
    )
    status_class: StatusClass | None = Field(
        default=None, description="Only requests that were answered with a status of this class."
    )
    reason: Reason | None = Field(default=None, description="Only errors of this reason.")
    operation: OperationName | None = Field(
        default=None, description="Only requests of this operation, such as `users.create`."
    )
    token_id: TokenIdFilter | None = Field(
        default=None, description="Only requests with this token."
    )
    address: Address | None = Field(default=None, description="Only requests from this address.")
    client_request_id: ClientRequestId | None = Field(
        default=None, description="Only requests that carried this `X-Request-Id`."
    )
    after: Timestamp | None = Field(
        default=None, description="Only requests that began after this time."
    )
    before: Timestamp | None = Field(
        default=None, description="Only requests that began before this time."
    )
    q: SearchText | None = Field(
        default=None,
        description=(
            "Only requests that every word is found in: as a part of the operation, method, path or"
            " reason, or as the whole of an id or the address."
        ),
    )
