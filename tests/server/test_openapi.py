"""The OpenAPI document: valid, complete, and as true as the tables it is made of."""

from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema_rs
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from operator_api import __version__
from operator_api.contract.errors import CATALOGUE
from operator_api.contract.headers import JSON, MARKDOWN, PROBLEM_JSON
from operator_api.contract.models import EXAMPLES, ErrorInfo, FieldErrorInfo
from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from operator_api.server.openapi import openapi
from tests.errors import FIELD_MEMBERS, MEMBERS, assert_error_object
from tests.servers import Server

URL = "https://api.example.com"
DOCUMENT = openapi(URL)
ROUTED = [
    (path, method, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
]


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference into the document."""
    while "$ref" in node and set(node) == {"$ref"}:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def refusals(operation: Operation) -> Iterator[tuple[int, dict[str, Any]]]:
    for status, response in described(operation)["responses"].items():
        if status != "default" and int(status) >= 400:
            yield int(status), resolve(response)


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Return the validator of a schema that refers to others of the document."""
    whole = {"components": DOCUMENT["components"], "allOf": [schema]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def every(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for child in node.values():
            yield from every(child, key)
    elif isinstance(node, list):
        for child in node:
            yield from every(child, key)


each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == __version__
    assert DOCUMENT["servers"] == [{"url": URL}]


def test_it_is_small() -> None:
    assert len(orjson.dumps(DOCUMENT)) < 400_000


def test_it_has_the_operations_of_the_table_and_no_other() -> None:
    of_table = {(each.path, each.method.lower(), each.name) for each in OPERATIONS}
    assert {(path, method, one["operationId"]) for path, method, one in ROUTED} == of_table


def test_each_tag_is_described_and_used() -> None:
    assert {tag["name"] for tag in DOCUMENT["tags"]} == {each.resource for each in OPERATIONS}


def test_each_component_is_referred_to() -> None:
    kept = {
        f"#/components/{section}/{name}"
        for section, members in DOCUMENT["components"].items()
        for name in members
        if section != "securitySchemes"
    }
    # What no operation answers, but the server does; the document's description names them.
    of_no_operation = {"#/components/responses/404", "#/components/responses/405"}
    assert kept - set(every(DOCUMENT, "$ref")) == of_no_operation
    assert all(each in DOCUMENT["info"]["description"] for each in of_no_operation)


@each_operation
def test_an_operation_lists_exactly_its_errors(operation: Operation) -> None:
    listed = []
    for status, response in refusals(operation):
        content = response["content"]
        narrowed = content[JSON]["schema"]["properties"]["error"]["properties"]
        reasons = narrowed["reason"]["enum"]
        assert narrowed["code"]["const"] == status
        assert {CATALOGUE[reason].status for reason in reasons} == {status}
        for media_type in (JSON, PROBLEM_JSON, MARKDOWN):
            assert list(content[media_type]["examples"]) == reasons
        listed += reasons
    assert sorted(listed) == sorted(kind.reason for kind in operation.errors)


@each_operation
def test_an_operation_names_its_scope(operation: Operation) -> None:
    security = described(operation)["security"]
    if operation.public:
        assert security == []
    else:
        assert security == [{"token": [operation.scope] if operation.scope else []}]


@each_operation
def test_an_operation_names_its_parameters(operation: Operation) -> None:
    parameters = [resolve(each) for each in described(operation)["parameters"]]
    names = {
        place: {p["name"] for p in parameters if p["in"] == place} for place in ("path", "query")
    }
    assert names["query"] == set(operation.params.model_fields)
    assert all(f"{{{name}}}" in operation.path for name in names["path"])
    headers = {each["name"] for each in parameters if each["in"] == "header"}
    assert ("Idempotency-Key" in headers) is operation.writes
    assert ("If-Match" in headers) is operation.takes_if_match
    assert "Operator-Simulate" in headers


@each_operation
def test_the_example_of_a_body_fits_its_schema(operation: Operation) -> None:
    if operation.body is None:
        assert "requestBody" not in described(operation)
        return
    body = described(operation)["requestBody"]
    assert body["required"] is not operation.body_optional
    assert set(body["content"]) == set(operation.media_types)
    for content in body["content"].values():
        assert content["example"] == EXAMPLES[operation.body]
        validator(content["schema"]).validate(content["example"])


def test_each_error_fits_its_schema_and_the_contract() -> None:
    responses = DOCUMENT["components"]["responses"].values()
    for content in (content for each in responses for content in each["content"].values()):
        valid = validator(content["schema"])
        for example in content.get("examples", {}).values():
            value = resolve(example)["value"]
            valid.validate(value)
            if isinstance(value, dict):
                assert_error_object(value["error"])
                assert value["error"]["doc_url"].startswith(URL)


@each_operation
def test_a_simulated_error_is_the_default_answer_of_each_operation(operation: Operation) -> None:
    response = resolve(described(operation)["responses"]["default"])
    assert set(response["content"]) == {JSON, PROBLEM_JSON, MARKDOWN}
    assert resolve(response["headers"]["Operator-Simulated"])["required"]
    error = DOCUMENT["components"]["examples"]["rate_limited"]["value"]
    validator(response["content"][JSON]["schema"]).validate(error)


def test_each_reason_has_an_example() -> None:
    examples = set(DOCUMENT["components"]["examples"])
    assert {reason for reason, kind in CATALOGUE.items() if not kind.of_field} <= examples


def test_an_error_of_another_status_or_with_less_fits_no_schema() -> None:
    refused = dict(refusals(BY_NAME["users.create"]))
    valid = validator(refused[422]["content"][JSON]["schema"])
    example = resolve(refused[422]["content"][JSON]["examples"]["validation_failed"])["value"]
    valid.validate(example)
    for change in ({"code": 400}, {"reason": "invalid_json"}, {"type": "other"}, {"outcome": "?"}):
        assert not valid.is_valid({"error": {**example["error"], **change}})
    for name in MEMBERS:
        less = {key: value for key, value in example["error"].items() if key != name}
        assert not valid.is_valid({"error": less})


def test_the_models_of_errors_are_the_contract() -> None:
    assert list(ErrorInfo.model_fields) == MEMBERS
    aliased = [field.alias or name for name, field in FieldErrorInfo.model_fields.items()]
    assert aliased == FIELD_MEMBERS


def test_the_first_example_of_creating_a_user_is_the_founding_one() -> None:
    example = DOCUMENT["components"]["examples"]["validation_failed"]["value"]["error"]
    assert (example["code"], example["message"]) == (422, "Validation error: Email is required.")


def test_schemas_say_nothing_needless() -> None:
    schemas = DOCUMENT["components"]["schemas"].values()
    assert not [each for each in schemas if "title" in each]
    assert None not in every(DOCUMENT["components"]["schemas"], "default")
    # Pydantic writes these where a rule stands behind a validator, and no reader knows them.
    assert not [*every(DOCUMENT, "ge"), *every(DOCUMENT, "le")]


def test_the_server_gives_it_to_anyone_and_lets_it_be_kept(server: Server) -> None:
    response = httpx2.get(f"{server.url}/openapi.json")
    assert response.json() == openapi(server.url)
    assert response.headers["content-type"] == JSON
    assert response.headers["cache-control"] == "public, max-age=300"
