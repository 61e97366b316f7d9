"""Answers: what is new in them is taken, what is wrong is told, and nothing of them is shown."""

import json
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, BeforeValidator, ValidationError

from operator_api.client.answers import InvalidAnswer, read_answer
from operator_api.contract.models import (
    ConversationCreate,
    Deleted,
    ErrorInfo,
    FieldErrorInfo,
    Page,
    TokenCreate,
)
from operator_api.contract.operations import BY_NAME, OPERATIONS

SECRET = "op_live_do-not-show-me"
NOW = "2026-01-31T12:00:00.000000Z"
USER = {
    "id": "usr_0197b1c2d3e4f5061718293a4b5c6d7e",
    "name": "Ada",
    "email": "ada@example.com",
    "phone": None,
    "tags": ["vip"],
    "created_at": NOW,
    "updated_at": NOW,
}
CONVERSATION = {
    "id": "cnv_1",
    "user_id": "usr_1",
    "channel": "web",
    "status": "open",
    "assignee": None,
    "started_at": NOW,
    "closed_at": None,
}
TOKEN = {
    "id": "tok_1",
    "name": "nightly",
    "environment": "test",
    "scopes": ["users:read"],
    "hint": "op_test_ab…yz",
    "status": "active",
    "created_at": NOW,
    "expires_at": None,
    "revoked_at": None,
}


def read(name: str, answer: Any) -> Any:
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_answer(BY_NAME[name], content)


def refusal(name: str, answer: Any) -> str:
    """Return why the answer is refused. Neither that nor what leads there shows the answer."""
    with pytest.raises(InvalidAnswer) as raised:
        read(name, answer)
    error = raised.value
    assert isinstance(error, ValueError)
    assert error.__cause__ is error.__context__ is None
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert SECRET not in shown
    assert str(error) == error.why
    return error.why


# --- what may be new ---


def test_members_that_are_new_are_kept() -> None:
    user = read("users.get", {**USER, "locale": "en", "plan": {"name": "pro"}})
    assert user.email == "ada@example.com"
    assert user.locale == "en"
    assert user.model_extra == {"locale": "en", "plan": {"name": "pro"}}


@pytest.mark.parametrize(
    ("name", "answer", "member"),
    [
        ("conversations.get", CONVERSATION, "channel"),
        ("conversations.get", CONVERSATION, "status"),
        ("tokens.create", {**TOKEN, "token": "op_test_1"}, "environment"),
        ("tokens.create", {**TOKEN, "token": "op_test_1"}, "status"),
        ("service.live", {"status": "ok"}, "status"),
        ("service.ready", {"status": "ready", "checks": {}}, "status"),
    ],
)
def test_values_that_are_new_are_taken(name: str, answer: dict[str, Any], member: str) -> None:
    assert getattr(read(name, answer), member) == answer[member]
    assert getattr(read(name, {**answer, member: "brand_new"}), member) == "brand_new"
    why = refusal(name, {**answer, member: 5})
    assert why.startswith(member)


@pytest.mark.parametrize("user_id", ["usr_1", "01890a5d-ac96-774b-bcce-b302099a8057", "7"])
def test_ids_of_another_form_are_taken(user_id: str) -> None:
    assert read("users.get", {**USER, "id": user_id}).id == user_id


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00.000005Z", datetime(2026, 1, 31, 12, 0, 0, 5, UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789123Z", datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)),
        ("2026-01-31 12:00:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+0100", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        ("2026-01-31T12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("3026-01-31T12:00:00-01:00", datetime(3026, 1, 31, 13, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_times_of_another_form_are_read_as_utc(text: str, moment: datetime) -> None:
    read_as = read("users.get", {**USER, "created_at": text}).created_at
    assert read_as == moment
    assert read_as.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    ["yesterday", "", "2026-02-30T12:00:00Z", 1769860800, None, "9999-12-31T23:59:59-12:00"],
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    assert refusal("users.get", {**USER, "created_at": value}).startswith("created_at: ")


def test_an_error_may_be_of_a_new_kind() -> None:
    """The members of an error object; the client reads it without the model, tools may use it."""
    error = {
        "code": 499,
        "message": "New.",
        "type": "new_type",
        "reason": "new_reason",
        "hint": "",
        "request_id": "req_1",
        "doc_url": "",
        "log_url": "",
        "outcome": "perhaps",
        "retry": {"retryable": True, "action": "dance", "after_seconds": None},
        "errors": [],
        "metadata": {},
    }
    assert ErrorInfo.model_validate_json(json.dumps(error)).retry.action == "dance"
    field_error = {
        "in": "cookie",
        "pointer": "#/a",
        "field": "a",
        "reason": "new_reason",
        "message": "New.",
        "did_you_mean": None,
        "fix": None,
    }
    assert FieldErrorInfo.model_validate_json(json.dumps(field_error)).place == "cookie"


def test_requests_stay_strict() -> None:
    with pytest.raises(ValidationError):
        ConversationCreate.model_validate({"user_id": "usr_1", "channel": "fax"})
    with pytest.raises(ValidationError):
        TokenCreate.model_validate(
            {"name": "a", "preset": "admin", "expires_at": "2026-01-31 12:00"}
        )


def models_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models_of(part)


def parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from parts_of(part)


ANSWERS = {
    model
    for operation in OPERATIONS
    if operation.answer is not None
    for model in models_of(operation.answer)
} | {*models_of(ErrorInfo)}


@pytest.mark.parametrize("model", sorted(ANSWERS, key=str), ids=lambda model: model.__name__)
def test_no_model_of_an_answer_is_closed(model: type[BaseModel]) -> None:
    """A new value or a new form of a time must not break the clients that are out there."""
    assert model.model_config.get("extra") == "allow"
    for name, field in model.model_fields.items():
        parts = [*parts_of(field.annotation)]
        words = [
            part for part in parts if get_origin(part) is Literal and get_args(part) != (True,)
        ]
        assert not words or str in parts, f"{model.__name__}.{name}: write Known[…] for its values"
        metadata = [*field.metadata, *(each for part in parts for each in _metadata(part))]
        strict = [each for each in metadata if isinstance(each, BeforeValidator)]
        assert not strict, f"{model.__name__}.{name}: write Moment for its time"


def _metadata(part: Any) -> tuple[Any, ...]:
    return tuple(part.__metadata__) if get_origin(part) is Annotated else ()


def test_answers_are_written_as_they_came() -> None:
    user = read("users.get", USER)
    assert user.model_dump(mode="json") == USER


# --- what is wrong ---


@pytest.mark.parametrize("member", [*USER])
def test_a_member_that_is_missing_is_told(member: str) -> None:
    answer = {name: value for name, value in USER.items() if name != member}
    assert refusal("users.get", answer) == f"{member}: is missing"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("users.get", {**USER, "email": 5}),
        ("users.get", {**USER, "name": [SECRET]}),
        ("users.get", {**USER, "tags": SECRET}),
        ("users.get", {**USER, "tags": [SECRET, None]}),
        ("users.get", {**USER, "created_at": SECRET}),
        ("users.delete", {"id": "usr_1", "deleted": False}),
        ("users.delete", {"id": "usr_1", "deleted": SECRET}),
        ("users.list", {"data": [], "has_more": "false", "next_cursor": None}),
        ("users.list", {"data": [], "has_more": 0, "next_cursor": None}),
        ("users.list", {"data": [{**USER, "phone": 15550123}], "has_more": False}),
        ("users.list", {"data": USER, "has_more": False, "next_cursor": None}),
        ("tags.list", {"data": [{"tag": "vip", "count": "5"}], "has_more": False}),
        ("tokens.create", {**TOKEN, "token": [SECRET]}),
        ("users.get", [USER]),
        ("users.get", SECRET),
        ("users.get", None),
        ("users.get", {"error": {"message": SECRET}}),
        ("service.ready", {"status": "ready", "checks": {"x" * 5000: 5}}),
    ],
)
def test_another_thing_is_refused(name: str, answer: Any) -> None:
    assert len(refusal(name, answer)) < 250


def test_where_it_is_wrong_is_told() -> None:
    answer = {"data": [USER, {**USER, "email": 5}], "has_more": False, "next_cursor": None}
    assert refusal("users.list", answer) == "data.1.email: Input should be a valid string"
    assert refusal("users.get", {}) == "id: is missing (and 6 more)"
    assert refusal("users.get", []).startswith("Input should be")


@pytest.mark.parametrize("name", ["users.get", "users.list", "service.openapi", "service.explain"])
@pytest.mark.parametrize("content", [b"", b" ", b"\r\n"])
def test_an_empty_body_is_told(name: str, content: bytes) -> None:
    assert refusal(name, content) == "it is empty"


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        b"<html><title>502 Bad Gateway</title></html>",
        json.dumps(USER).encode()[:-1],
        json.dumps(USER).encode()[:40],
        json.dumps(USER).encode() + b"}",
        b'{"id": "' + SECRET.encode(),
        b'{"id": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
@pytest.mark.parametrize("name", ["users.get", "users.list", "service.openapi"])
def test_what_is_not_json_is_refused(name: str, content: bytes) -> None:
    assert len(refusal(name, content)) < 250


def test_more_to_come_without_a_cursor_is_refused() -> None:
    """Else the list would end there, and nobody would notice that the rest is missing."""
    for cursor in (None, ""):
        answer = {"data": [USER], "has_more": True, "next_cursor": cursor}
        assert "next_cursor" in refusal("users.list", answer)
    assert isinstance(
        read("users.list", {"data": [], "has_more": False, "next_cursor": None}), Page
    )


# --- what has no model ---


def test_the_openapi_document_is_a_dict() -> None:
    assert read("service.openapi", {"openapi": "3.1.0"}) == {"openapi": "3.1.0"}
    assert refusal("service.openapi", [SECRET]) == "it is not a JSON object"
    assert refusal("service.openapi", SECRET) == "it is not a JSON object"


def test_a_page_about_a_reason_is_text() -> None:
    assert read("service.explain", "# Required — é".encode()) == "# Required — é"
    assert refusal("service.explain", b"\xff") == "it is not UTF-8"


def test_a_delete_says_that_it_deleted() -> None:
    assert read("users.delete", {"id": "usr_1", "deleted": True}) == Deleted(
        id="usr_1", deleted=True
    )
