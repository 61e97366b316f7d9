"""The catalogue is consistent in itself, and the API tells it whole."""

import re
from typing import get_args

import httpx2
import pytest

from operator_api.contract.errors import (
    CATALOGUE,
    CHECKS,
    RETRYABLE_ACTIONS,
    TYPE_OF_STATUS,
    Action,
    ErrorKind,
    ErrorType,
    FieldError,
    Outcome,
    Problem,
    message_of,
)
from operator_api.contract.operations import OPERATIONS
from operator_api.contract.validation import TRANSLATION
from tests.errors import assert_error
from tests.server.test_errors_provoked import ORDER
from tests.servers import Server

KINDS = tuple(CATALOGUE.values())
OF_FIELD = tuple(kind for kind in KINDS if kind.of_field)
OF_REQUEST = tuple(kind for kind in KINDS if not kind.of_field)

# What the specification starts the catalogue with.
SPECIFIED = [
    "invalid_json",
    "empty_body",
    "body_not_object",
    "invalid_encoding",
    "invalid_parameter",
    "unknown_parameter",
    "invalid_cursor",
    "invalid_header",
    "token_in_url",
    "missing_token",
    "malformed_authorization",
    "invalid_token",
    "expired_token",
    "revoked_token",
    "insufficient_scope",
    "simulation_not_allowed",
    "unknown_endpoint",
    "resource_not_found",
    "method_not_allowed",
    "not_acceptable",
    "already_exists",
    "conversation_closed",
    "idempotency_in_progress",
    "precondition_failed",
    "body_too_large",
    "unsupported_media_type",
    "validation_failed",
    "idempotency_key_reused",
    "required",
    "unknown_field",
    "read_only",
    "wrong_type",
    "invalid_format",
    "invalid_email",
    "invalid_phone",
    "too_short",
    "too_long",
    "too_many_items",
    "out_of_range",
    "not_allowed_value",
    "not_found",
    "forbidden_character",
    "rate_limited",
    "too_many_failed_authentications",
    "internal_error",
    "overloaded",
    "store_unavailable",
    "shutting_down",
]
DOCUMENTED_MEMBERS = [
    "reason",
    "status",
    "type",
    "title",
    "message",
    "hint",
    "causes",
    "fix",
    "retry",
    "outcome",
    "doc_url",
]


def reason_of(kind: ErrorKind) -> str:
    return kind.reason


def test_the_specified_reasons_are_all_there() -> None:
    assert set(SPECIFIED) <= set(CATALOGUE)


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_a_row_is_complete_and_of_closed_sets(kind: ErrorKind) -> None:
    assert CATALOGUE[kind.reason] is kind
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.reason)
    assert kind.status in TYPE_OF_STATUS
    assert kind.type in get_args(ErrorType)
    assert kind.action in get_args(Action)
    assert kind.outcome in get_args(Outcome)
    assert kind.retryable is (kind.action in RETRYABLE_ACTIONS)
    assert kind.title
    assert kind.title[0].isupper()
    assert kind.causes


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_a_row_speaks_in_whole_sentences(kind: ErrorKind) -> None:
    # Field errors complete these messages, after a colon.
    completed = {"validation_failed", "invalid_parameter", "unknown_parameter", "invalid_header"}
    sentences = [kind.hint, kind.fix, *kind.causes]
    sentences += [] if kind.reason in completed else [kind.message]
    for sentence in sentences:
        assert sentence.endswith((".", "….")), sentence
        assert sentence[0].isupper() or sentence[0] == "{", sentence
        assert sentence.strip() == sentence


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_related_reasons_exist_and_are_others(kind: ErrorKind) -> None:
    assert set(kind.related) <= set(CATALOGUE) - {kind.reason}
    assert len(set(kind.related)) == len(kind.related)


def test_each_type_and_action_is_used() -> None:
    # Nothing asks only for check_outcome: an unknown outcome does, whatever the reason.
    assert {kind.type for kind in KINDS} == set(get_args(ErrorType))
    unused = set(get_args(Action)) - {kind.action for kind in KINDS}
    assert unused == {"check_outcome", "contact_support"}


@pytest.mark.parametrize("kind", OF_REQUEST, ids=reason_of)
def test_waiting_has_an_end(kind: ErrorKind) -> None:
    problem = Problem(kind)
    assert (problem.after_seconds is not None) is kind.waits
    assert kind.waits or kind.status not in (429, 503)


@pytest.mark.parametrize("kind", OF_FIELD, ids=reason_of)
def test_a_field_reason_names_its_field_and_belongs_to_a_validation_error(kind: ErrorKind) -> None:
    assert kind.status == 422
    assert kind.message.startswith("{field} ")
    assert kind.related == ("validation_failed",)
    assert kind.action == "fix_request"


def test_the_reasons_that_validation_gives_are_reasons_of_fields() -> None:
    given = {reason for reason, _ in TRANSLATION.values()}
    assert given <= {kind.reason for kind in OF_FIELD}


def test_operations_name_only_reasons_of_requests_and_none_twice() -> None:
    for operation in OPERATIONS:
        assert len(set(operation.errors)) == len(operation.errors)
        assert set(operation.errors) <= set(OF_REQUEST), operation.name


@pytest.mark.parametrize(
    ("wrong", "more", "message"),
    [
        (1, 0, "Validation error: A is required."),
        (2, 0, "Validation error: A is required. (and 1 more error)"),
        (3, 0, "Validation error: A is required. (and 2 more errors)"),
        (3, 7, "Validation error: A is required. (and 9 more errors)"),
    ],
)
def test_the_message_names_the_first_field_error_and_counts_the_others(
    wrong: int, more: int, message: str
) -> None:
    found = [FieldError("body", "#/a", "a", "required", "A is required.")] * wrong
    metadata = {"more_errors": more} if more else {}
    assert message_of(CATALOGUE["validation_failed"], metadata, found) == message


# --- as the API tells it ---


def test_the_api_tells_the_catalogue_whole_and_to_anybody(server: Server) -> None:
    with server.client(None) as anybody:
        told = anybody.get("/v1/errors").json()
    assert list(told) == ["data"]
    assert [entry["reason"] for entry in told["data"]] == list(CATALOGUE)
    for entry in told["data"]:
        kind = CATALOGUE[entry["reason"]]
        assert set(DOCUMENTED_MEMBERS) <= set(entry)
        for member in ("status", "type", "title", "message", "hint", "fix", "outcome"):
            assert entry[member] == getattr(kind, member)
        assert entry["causes"] == list(kind.causes)
        assert entry["retry"]["retryable"] is kind.retryable
        assert entry["retry"]["action"] == kind.action


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_each_reason_has_an_entry_and_a_page(api: httpx2.Client, kind: ErrorKind) -> None:
    entry = api.get(f"/v1/errors/{kind.reason}").json()
    assert entry["reason"] == kind.reason
    page = api.get(entry["doc_url"])
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/markdown")
    for part in (kind.title, kind.hint, kind.fix, *kind.causes):
        assert part in page.text
    for other in kind.related:
        assert f"/docs/errors/{other})" in page.text


@pytest.mark.parametrize("path", ["/v1/errors/no_such_reason", "/docs/errors/no_such_reason"])
def test_an_unknown_reason_is_not_found(api: httpx2.Client, path: str) -> None:
    assert_error(api.get(path), 404, "resource_not_found")


def test_each_reason_of_a_request_names_the_check_that_failed() -> None:
    assert {kind.reason for kind in KINDS if kind.check is None} == {
        kind.reason for kind in OF_FIELD
    }
    assert {kind.check for kind in OF_REQUEST} == set(CHECKS)


def test_the_checks_are_in_the_order_in_which_the_first_that_fails_answers() -> None:
    # The order itself is held to a real server, by requests that are wrong in every way.
    checks = [CATALOGUE[reason].check for reason, _ in ORDER]
    positions = [CHECKS.index(check) for check in checks if check is not None]
    assert len(positions) == len(ORDER)
    assert positions == sorted(set(positions))
