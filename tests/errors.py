"""The one assertion of the error contract, applied to every error everywhere."""

import re
from typing import Any

import httpx2

from operator_api.contract.errors import CATALOGUE, RETRYABLE_ACTIONS, TYPE_OF_STATUS

MEMBERS = [
    "code",
    "message",
    "type",
    "reason",
    "hint",
    "request_id",
    "doc_url",
    "log_url",
    "outcome",
    "retry",
    "errors",
    "metadata",
]
FIELD_MEMBERS = ["in", "pointer", "field", "reason", "message", "did_you_mean", "fix"]


def assert_error(response: httpx2.Response, status: int, reason: str) -> dict[str, Any]:
    """Require an error of this status and reason that keeps the whole contract; return it."""
    assert response.status_code == status, response.text
    assert response.headers["x-error-reason"] == reason, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert_error_object(error)
    assert error["code"] == status
    assert error["reason"] == reason
    assert_error_headers(response, error)
    return error


def assert_error_object(error: dict[str, Any]) -> None:
    """Require every member, with values of the catalogue."""
    assert list(error) == MEMBERS
    kind = CATALOGUE[error["reason"]]
    assert not kind.of_field
    assert error["code"] == kind.status
    assert error["type"] == kind.type == TYPE_OF_STATUS[kind.status]
    assert error["hint"] == kind.hint
    assert error["request_id"].startswith("req_")
    assert error["doc_url"].endswith(f"/docs/errors/{kind.reason}")
    assert error["log_url"].endswith(f"/console/requests/{error['request_id']}")
    assert error["outcome"] in {"not_executed", "executed", "unknown"}
    assert list(error["retry"]) == ["retryable", "action", "after_seconds"]
    assert error["retry"]["retryable"] is (error["retry"]["action"] in RETRYABLE_ACTIONS)
    assert_filled_in(error)
    assert isinstance(error["metadata"], dict)
    assert len(error["errors"]) <= 50
    for each in error["errors"]:
        assert list(each) == FIELD_MEMBERS
        assert each["in"] in {"body", "query", "header", "path"}
        assert each["pointer"].startswith("#")
        assert CATALOGUE[each["reason"]].of_field
        assert_filled_in(each)
    if error["errors"]:
        assert error["errors"][0]["message"] in error["message"]


def assert_filled_in(error: dict[str, Any]) -> None:
    """Require that no variable of the template is left; a suggested path may have braces."""
    variables = re.findall(r"\{\w+\}", CATALOGUE[error["reason"]].message)
    assert not [variable for variable in variables if variable in error["message"]]


def assert_error_headers(response: httpx2.Response, error: dict[str, Any]) -> None:
    """Require the headers that go with the body."""
    headers = response.headers
    assert headers["x-request-id"] == error["request_id"]
    assert headers["x-should-retry"] == str(error["retry"]["retryable"]).lower()
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept"
    after = error["retry"]["after_seconds"]
    assert headers.get("retry-after") == (None if after is None else str(after))
    kind = CATALOGUE[error["reason"]]
    assert (after is not None) is kind.waits
    assert ("www-authenticate" in headers) is (
        kind.status == 401 or kind.reason == "insufficient_scope"
    )
    assert ("allow" in headers) is (kind.status == 405)
    assert ("accept" in headers) is (kind.status == 415)
