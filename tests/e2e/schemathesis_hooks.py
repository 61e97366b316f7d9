"""What Schemathesis is told beside the document: its hooks, and a check of our own."""

import os
import re
import uuid
from typing import Any

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData

from operator_api.contract.headers import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_PATTERN,
    IF_MATCH_PATTERN,
    SIMULATE,
)
from operator_api.server.simulate import SIMULATE_PATTERN

OWN_TOKEN_ID = os.environ["SCHEMATHESIS_TOKEN_ID"]
# A server adds these to any answer, and HTTP itself says what they mean.
OF_HTTP = {"connection", "content-length", "content-type", "date"}
# Errors that no schema can foresee: they stand on what is stored, on who asks, and on the time.
UNFORESEEABLE = {"precondition_failed", "invalid_cursor"}
UNFORESEEABLE_FIELDS = {
    ("not_found", "#/user_id"),
    ("not_found", "#/conversation_id"),
    ("not_allowed_value", "#/environment"),
    ("out_of_range", "#/expires_at"),
}


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Keep the token that the tool works with, and let valid requests come as far as they can.

    No cursor that is drawn is one that a list has given. A key that two requests share is refused,
    or gives the first one's answer: both are right, and tell nothing of the second request. What
    asks for an error gets one, and tells nothing of the operation.
    """
    assert case.meta is not None
    if case.meta.generation.mode.is_positive:
        case.query.pop("cursor", None)
    if case.path_parameters.get("token_id") == OWN_TOKEN_ID:
        case.path_parameters["token_id"] = "tok_" + "0" * 32
    asked = case.headers.get(SIMULATE)
    if isinstance(asked, str) and re.fullmatch(SIMULATE_PATTERN, asked.strip()):
        del case.headers[SIMULATE]
    key = case.headers.get(IDEMPOTENCY_KEY)
    if isinstance(key, str) and re.fullmatch(IDEMPOTENCY_KEY_PATTERN, key):
        case.headers[IDEMPOTENCY_KEY] = key.strip('"')[:223] + uuid.uuid4().hex


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Drop refusals of valid data that its schema could not foresee."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    if_match = case.headers.get("If-Match")
    if if_match is not None and not re.fullmatch(IF_MATCH_PATTERN, if_match):
        # The coverage phase can write no header with quotes, and sends 0 as if that were valid.
        return False
    error = response.json()["error"]
    if error["reason"] == "validation_failed":
        return not {(each["reason"], each["pointer"]) for each in error["errors"]} <= (
            UNFORESEEABLE_FIELDS
        )
    return error["reason"] not in UNFORESEEABLE


@schemathesis.check
def headers_are_documented(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    documented = case.operation.responses.find_by_status_code(response.status_code)
    if documented is None or response.request.method != case.operation.method.upper():
        return
    known = {name.lower() for name, _ in documented.headers.items()} | OF_HTTP
    assert set(response.headers) <= known, set(response.headers) - known
