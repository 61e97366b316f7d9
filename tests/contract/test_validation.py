"""All that is wrong with a body is said at once, in its order, mended if nothing is invented."""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operator_api.contract import models
from operator_api.contract.errors import CATALOGUE, FieldError, Problem
from operator_api.contract.models import EXAMPLES, RequestBody, example_of
from operator_api.contract.operations import OPERATIONS
from operator_api.contract.validation import TRANSLATION, validate_body, validate_params
from tests.errors import assert_error, assert_error_object

BODIES = sorted({each.body for each in OPERATIONS if each.body}, key=lambda model: model.__name__)
PARAMS = sorted({each.params for each in OPERATIONS}, key=lambda model: model.__name__)

Json = dict[str, Any]


def refusal(model: type[RequestBody], body: Mapping[str, Any]) -> Problem:
    with pytest.raises(Problem) as raised:
        validate_body(model, body)
    assert raised.value.kind.reason == "validation_failed"
    return raised.value


def problem_of(check: Callable[[Any, Any], object], model: type[Any], sent: Json) -> Problem | None:
    try:
        check(model, sent)
    except Problem as problem:
        return problem
    return None


def accepts(model: type[RequestBody], body: Json) -> bool:
    return problem_of(validate_body, model, body) is None


# --- what is said ---


@dataclass(frozen=True)
class Row:
    """A body, and the errors that it must get: pointer, reason, message."""

    model: type[RequestBody]
    body: Json
    errors: list[tuple[str, str, str]]


ROWS = [
    Row(models.UserCreate, {}, [("#/email", "required", "Email is required.")]),
    Row(
        models.ConversationCreate,
        {},
        [
            ("#/user_id", "required", "User id is required."),
            ("#/channel", "required", "Channel is required."),
        ],
    ),
    Row(
        models.UserCreate,
        {"phone": "12", "tags": ["a", 5, ""], "email": True, "name": " "},
        [
            (
                "#/phone",
                "invalid_phone",
                "Phone must be a phone number in E.164 form, such as +14155550123.",
            ),
            ("#/tags/1", "wrong_type", "Item 2 of tags must be a string."),
            ("#/tags/2", "too_short", "Item 3 of tags must have at least 1 visible character."),
            ("#/email", "wrong_type", "Email must be a string."),
            ("#/name", "too_short", "Name must have at least 1 visible character."),
        ],
    ),
    Row(
        models.UserCreate,
        {"email": "ada@example.com", "tags": ["a"] * 51},
        [("#/tags", "too_many_items", "Tags must have at most 50 items.")],
    ),
    Row(
        models.UserCreate,
        {"email": "ada@example.com", "tags": "vip"},
        [("#/tags", "wrong_type", "Tags must be a list.")],
    ),
    Row(
        models.UserCreate,
        {"email": "ada@example.com", "id": "usr_1", "created_at": "now"},
        [
            ("#/id", "read_only", "Id is set by the server and cannot be sent."),
            ("#/created_at", "read_only", "Created at is set by the server and cannot be sent."),
        ],
    ),
    Row(
        models.UserPatch,
        {"email": None, "tags": None},
        [
            ("#/email", "wrong_type", "Email must be a string."),
            ("#/tags", "wrong_type", "Tags must be a list."),
        ],
    ),
    Row(
        models.MessageCreate,
        {"conversation_id": "cnv_1", "message": "x" * 10_001, "type": "User"},
        [
            ("#/message", "too_long", "Message must have at most 10000 characters."),
            (
                "#/type",
                "not_allowed_value",
                "Type must be one of user or agent. Did you mean user?",
            ),
        ],
    ),
    Row(
        models.TokenRotate,
        {"overlap_seconds": -1},
        [("#/overlap_seconds", "out_of_range", "Overlap seconds must be at least 0.")],
    ),
    Row(
        models.TokenRotate,
        {"overlap_seconds": 2**80},
        [("#/overlap_seconds", "out_of_range", "Overlap seconds must be at most 604800.")],
    ),
    Row(
        models.TokenRotate,
        {"overlap_seconds": True},
        [("#/overlap_seconds", "wrong_type", "Overlap seconds must be a whole number.")],
    ),
    Row(
        models.TokenCreate,
        {},
        [
            ("#/name", "required", "Name is required."),
            ("#/scopes", "required", "Scopes is required."),
        ],
    ),
    Row(
        models.TokenCreate,
        {"name": "n", "scopes": ["users:read"], "preset": "admin"},
        [("#/scopes", "not_allowed_value", "Scopes must be left out beside preset.")],
    ),
    Row(
        models.TokenCreate,
        {"preset": "owner"},
        [
            (
                "#/preset",
                "not_allowed_value",
                "Preset must be one of read-only, conversations or admin.",
            ),
            ("#/name", "required", "Name is required."),
        ],
    ),
    Row(
        models.TokenCreate,
        {"name": "n", "scopes": []},
        [("#/scopes", "too_short", "Scopes must have at least 1 item.")],
    ),
    Row(
        models.TagCreate,
        {"user_id": "usr_1", "tag": "v\u200bip"},
        [
            (
                "#/tag",
                "forbidden_character",
                "Tag must not contain control, zero-width or text-direction characters.",
            )
        ],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model.__name__}-{list(row.body)}")
def test_every_error_is_told_at_once_in_the_order_of_the_body(row: Row) -> None:
    problem = refusal(row.model, row.body)
    assert [(each.pointer, each.reason, each.message) for each in problem.errors] == row.errors
    assert problem.message.startswith(f"Validation error: {row.errors[0][2]}")


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_the_documented_example_is_accepted(model: type[RequestBody]) -> None:
    validate_body(model, example_of(model))
    assert set(EXAMPLES) == set(BODIES)


def test_a_whole_number_may_have_a_fraction_of_zero() -> None:
    # JSON has one kind of number, and JSON Schema calls this one an integer.
    assert validate_body(models.TokenRotate, {"overlap_seconds": 60.0}).overlap_seconds == 60
    for wrong in (60.5, 1e300, -60.0, True, "60"):
        refusal(models.TokenRotate, {"overlap_seconds": wrong})


def test_at_most_fifty_errors_are_told_and_the_others_counted() -> None:
    body = {f"field{number}": 1 for number in range(60)}
    problem = refusal(models.UserCreate, body)
    assert [error.field for error in problem.errors] == list(body)[:50]
    assert problem.metadata == {"more_errors": 11}
    assert problem.message.endswith("(and 60 more errors)")


def test_the_first_fifty_are_the_first_of_the_body_whatever_they_are() -> None:
    body = {"phone": 1, **{f"field{number}": 1 for number in range(60)}, "email": 2}
    problem = refusal(models.UserCreate, body)
    assert [error.field for error in problem.errors][:2] == ["phone", "field0"]
    assert problem.metadata == {"more_errors": 12}


def test_a_megabyte_of_unknown_fields_is_answered(api: httpx2.Client) -> None:
    body = "{" + ",".join(f'"f{number}":1' for number in range(90_000)) + "}"
    assert 900_000 < len(body) < 2**20
    response = api.post("/v1/users", content=body, headers={"Content-Type": "application/json"})
    error = assert_error(response, 422, "validation_failed")
    assert len(error["errors"]) == 50
    assert error["metadata"]["more_errors"] == 90_000 + 1 - 50


# --- names ---


@pytest.mark.parametrize(
    ("model", "sent", "meant"),
    [
        (models.UserCreate, "emial", "email"),
        (models.UserCreate, "E-Mail", "email"),
        (models.UserCreate, "Phone", "phone"),
        (models.UserCreate, "tag", "tags"),
        (models.ConversationCreate, "userId", "user_id"),
        (models.ConversationCreate, "user-id", "user_id"),
        (models.TokenRotate, "overlap_second", "overlap_seconds"),
        (models.UserCreate, "colour", None),
        (models.UserCreate, "", None),
        (models.UserCreate, "e" * 1000, None),
    ],
)
def test_an_unknown_field_near_a_known_one_names_it(
    model: type[RequestBody], sent: str, meant: str | None
) -> None:
    error = refusal(model, {sent: "x"}).errors[0]
    assert (error.reason, error.did_you_mean) == ("unknown_field", meant)
    assert (f"Did you mean {meant}?" in error.message) is (meant is not None)


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("a/b", "#/a~1b"),
        ("a~b", "#/a~0b"),
        ("a b", "#/a%20b"),
        ("a%b", "#/a%25b"),
        ("é", "#/%C3%A9"),
        ("", "#/"),
        ("0", "#/0"),
        ("\x00", "#/%00"),
    ],
)
def test_a_pointer_is_in_the_fragment_form_of_rfc_6901(name: str, pointer: str) -> None:
    assert refusal(models.NoFields, {name: 1}).errors[0].pointer == pointer


def test_a_name_without_end_is_told_back_in_part() -> None:
    error = refusal(models.NoFields, {"x" * 100_000: 1}).errors[0]
    assert len(json.dumps(error.as_json())) < 1000


# --- fixes ---


@pytest.mark.parametrize(
    ("model", "body", "fixes"),
    [
        (
            models.UserCreate,
            {"emial": "ada@example.com"},
            [{"op": "move", "from": "/emial", "path": "/email"}],
        ),
        (
            models.UserCreate,
            {"email": "ada@example.com", "colour": 1},
            [{"op": "remove", "path": "/colour"}],
        ),
        (
            models.UserCreate,
            {"email": "ada@example.com", "a/b": 1},
            [{"op": "remove", "path": "/a~1b"}],
        ),
        (
            models.UserCreate,
            {"email": "ada@example.com", "Email": "bob@example.com"},
            [{"op": "remove", "path": "/Email"}],
        ),
        (
            models.UserCreate,
            {"email": "ada@example.com", "id": "usr_1"},
            [{"op": "remove", "path": "/id"}],
        ),
        (
            models.TokenRotate,
            {"overlap_seconds": "60"},
            [{"op": "replace", "path": "/overlap_seconds", "value": 60}],
        ),
        (
            models.ConversationCreate,
            {"user_id": "usr_1", "channel": "WhatsApp"},
            [{"op": "replace", "path": "/channel", "value": "whatsapp"}],
        ),
        (
            models.TokenCreate,
            {"name": "n", "scopes": ["USERS:READ"]},
            [{"op": "replace", "path": "/scopes/0", "value": "users:read"}],
        ),
        # What a fix would have to invent, or would not mend, has none.
        (models.UserCreate, {}, [None]),
        (models.UserCreate, {"email": "ada"}, [None]),
        (models.UserCreate, {"email": "ada@example.com", "name": 5}, [None]),
        (models.TokenRotate, {"overlap_seconds": "060"}, [None]),
        (models.TokenRotate, {"overlap_seconds": "1e3"}, [None]),
        (models.TokenRotate, {"overlap_seconds": 0.5}, [None]),
        (models.TokenRotate, {"overlap_seconds": "999999999"}, [None]),
        (models.ConversationCreate, {"user_id": "usr_1", "channel": "PIGEON"}, [None]),
    ],
)
def test_a_fix_is_given_only_where_it_invents_nothing(
    model: type[RequestBody], body: Json, fixes: list[Json | None]
) -> None:
    assert [error.fix for error in refusal(model, body).errors] == fixes


def apply(fix: Mapping[str, Any], body: Json) -> None:
    """Apply one operation of RFC 6902, of the three that a fix can be."""
    holder, last = locate(fix["path"], body)
    if fix["op"] == "move":
        source, name = locate(fix["from"], body)
        holder[last] = source.pop(name)
    elif fix["op"] == "remove":
        del holder[last]
    else:
        assert fix["op"] == "replace"
        assert last in holder or isinstance(holder, list)
        holder[last] = fix["value"]


def locate(pointer: str, body: Any) -> tuple[Any, Any]:
    """Return what holds the place of a JSON Pointer (RFC 6901), and its key there."""
    *path, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    for step in path:
        body = body[int(step) if isinstance(body, list) else step]
    return body, int(last) if isinstance(body, list) else last


MUTATIONS = ("rename", "read_only", "unknown", "as_text", "as_float", "upper_case", "drop", "null")


@st.composite
def mutated(draw: st.DrawFn) -> tuple[type[RequestBody], Json]:
    """A valid body, spoilt in some of the ways that people spoil bodies."""
    model = draw(st.sampled_from(BODIES))
    body = copy.deepcopy(example_of(model))
    for _ in range(draw(st.integers(1, 4))):
        spoil(draw, body)
    return model, body


def spoil(draw: st.DrawFn, body: Json) -> None:
    mutation = draw(st.sampled_from(MUTATIONS))
    if mutation == "read_only":
        body[draw(st.sampled_from(["id", "created_at", "updated_at", "hint"]))] = "x"
    elif mutation == "unknown":
        body[draw(st.text(max_size=8))] = draw(st.integers() | st.text(max_size=3))
    elif body:
        spoil_field(draw, mutation, body, draw(st.sampled_from(sorted(body))))


def spoil_field(draw: st.DrawFn, mutation: str, body: Json, name: str) -> None:
    value = body.pop(name)
    if mutation == "rename":
        letters = list(name)
        letters.insert(draw(st.integers(0, len(name))), draw(st.sampled_from("aex_-")))
        body["".join(letters)] = value
    elif mutation == "as_text":
        body[name] = str(value) if isinstance(value, int) else value
    elif mutation == "as_float":
        body[name] = float(value) if isinstance(value, int) else value
    elif mutation == "upper_case":
        body[name] = value.upper() if isinstance(value, str) else value
    elif mutation == "null":
        body[name] = None


@given(spoilt=mutated())
def test_where_every_error_has_a_fix_all_of_them_make_a_body_that_is_accepted(
    spoilt: tuple[type[RequestBody], Json],
) -> None:
    model, body = spoilt
    if accepts(model, body):
        return
    fixes = [error.fix for error in refusal(model, body).errors]
    before = copy.deepcopy(body)
    if all(fixes):
        for fix in fixes:
            apply(fix or {}, body)
        assert accepts(model, body), (before, fixes)


@given(spoilt=mutated())
def test_any_fix_can_be_applied_by_itself(spoilt: tuple[type[RequestBody], Json]) -> None:
    model, body = spoilt
    if accepts(model, body):
        return
    for error in refusal(model, body).errors:
        if error.fix:
            apply(error.fix, copy.deepcopy(body))


# --- any JSON at all ---

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["ada@example.com", "+14155550123", "web", "open", "admin", "users:read"])
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@st.composite
def any_body(draw: st.DrawFn) -> tuple[type[RequestBody], Json]:
    """An object with any values, under names that the model knows and others."""
    model = draw(st.sampled_from(BODIES))
    known = st.sampled_from(sorted(model.model_fields)) if model.model_fields else st.nothing()
    return model, draw(st.dictionaries(known | st.text(max_size=8), ANY_JSON, max_size=6))


@given(sent=any_body())
def test_any_object_is_accepted_or_refused_by_the_catalogue(
    sent: tuple[type[RequestBody], Json],
) -> None:
    model, body = sent
    problem = problem_of(validate_body, model, body)
    if problem is not None:
        assert problem.kind.status == 422
        assert_told(problem, "body")


@given(model=st.sampled_from(PARAMS), sent=st.data())
def test_any_query_is_accepted_or_refused_by_the_catalogue(
    model: type[models.Params], sent: st.DataObject
) -> None:
    known = st.sampled_from(sorted(model.model_fields)) if model.model_fields else st.nothing()
    params = sent.draw(st.dictionaries(known | st.text(max_size=8), st.text(max_size=40)))
    problem = problem_of(validate_params, model, params)
    if problem is not None:
        assert problem.kind.status == 400
        assert_told(problem, "query")


def assert_told(problem: Problem, place: str) -> None:
    assert problem.errors
    assert problem.message
    for error in problem.errors:
        assert error.place == place
        assert error.pointer.startswith("#/")
        assert CATALOGUE[error.reason].of_field
        assert error.message.endswith((".", "?"))


SECRET = "s3cr3t-value-of-the-caller"


@given(
    model=st.sampled_from(BODIES),
    wrap=st.sampled_from([lambda x: x, lambda x: [x], lambda x: {"in": x}, lambda x: [[x]]]),
    name=st.sampled_from(["email", "name", "tags", "channel", "type", "message", "user_id", "x"]),
)
def test_no_submitted_value_is_told_back(model: type[RequestBody], wrap: Any, name: str) -> None:
    body = {**example_of(model), name: wrap(SECRET)}
    problem = problem_of(validate_body, model, body)
    if problem is not None:
        told = json.dumps([[asdict(error) for error in problem.errors], problem.metadata])
        assert SECRET not in told + problem.message


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_any_json_over_http_is_answered_under_the_contract(
    api: httpx2.Client, model: type[RequestBody]
) -> None:
    operation = next(each for each in OPERATIONS if each.body is model)
    path = re.sub(r"\{\w+\}", "x", operation.path)
    values: tuple[Any, ...] = (
        None,
        True,
        5,
        -1e300,
        "",
        "x",
        "\x00",
        [],
        [None],
        {},
        {"a": [1]},
        2**70,
        "\U0001f388",
    )
    for name in (*sorted(model.model_fields), "unknown"):
        for value in values:
            body = {**example_of(model), name: value}
            response = api.request(operation.method, path, json=body)
            assert response.status_code < 500
            if response.status_code >= 400:
                assert_error_object(response.json()["error"])


# --- the translation is complete ---

# What each kind of core schema can refuse in strict mode; an object always comes as a dict.
# Functions are rules of our own, which give the catalogue's reasons.
REFUSES = {
    "str": ["string_type"],
    "int": ["int_type"],
    "bool": [],  # a flag of a query, which is read before and refused there
    "list": ["list_type"],
    "literal": ["literal_error"],
    "model-fields": ["missing"],
    "function-before": [],
    "function-after": [],
    "function-wrap": [],
    "datetime": [],
    "default": [],
    "nullable": [],
    "model": [],
    "model-field": [],
}
CONSTRAINTS = {
    ("str", "min_length"): "string_too_short",
    ("str", "max_length"): "string_too_long",
    ("list", "min_length"): "too_short",
    ("list", "max_length"): "too_long",
    ("int", "ge"): "greater_than_equal",
    ("int", "le"): "less_than_equal",
}
# Members of a core schema that describe no value.
ASIDE = {"metadata", "serialization", "config", "function", "default"}


def refusals_of(schema: Any) -> Iterator[str]:
    """Walk a core schema; yield the errors that each of its parts can give."""
    if isinstance(schema, list):
        for part in schema:
            yield from refusals_of(part)
    elif isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str):
            yield from REFUSES[kind]
            yield from (
                error for at, error in CONSTRAINTS.items() if at[0] == kind and at[1] in schema
            )
        for name, part in schema.items():
            if name not in ASIDE:
                yield from refusals_of(part)


def test_the_translation_knows_exactly_the_errors_that_the_models_can_give() -> None:
    schemas = [model.__pydantic_core_schema__ for model in (*BODIES, *PARAMS)]
    assert set(refusals_of(schemas)) == set(TRANSLATION)


def test_a_field_error_tells_all_of_its_members() -> None:
    error = FieldError("body", "#/a", "a", "required", "A is required.")
    assert list(error.as_json()) == [
        "in",
        "pointer",
        "field",
        "reason",
        "message",
        "did_you_mean",
        "fix",
    ]
