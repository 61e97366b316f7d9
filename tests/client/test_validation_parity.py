"""What the client refuses before sending is what the server would: same words, same order."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from operator_api.client import (
    APIStatusError,
    BadRequestError,
    RequestValidationError,
    UnprocessableEntityError,
)
from operator_api.client.call import Call
from operator_api.contract import models
from operator_api.contract.errors import FieldError
from operator_api.contract.models import RequestBody, example_of
from operator_api.contract.operations import OPERATIONS, Operation
from tests.calls import missing_id
from tests.client.both import BOTH, Client, Kind
from tests.contract.test_validation import ROWS, Row, mutated
from tests.faulty import faulty
from tests.servers import Server

WITH_BODY = [operation for operation in OPERATIONS if operation.body is not None]
WITH_PARAMS = [each for each in OPERATIONS if each.params is not models.Params]

# Raised before any state is looked at, so the records need not be there.
IDS = {
    "user_id": missing_id("usr_"),
    "conversation_id": missing_id("cnv_"),
    "message_id": missing_id("msg_"),
    "token_id": missing_id("tok_"),
}


def call_of(operation: Operation, body: Any = None, **params: Any) -> Call[Any]:
    ids = {name: IDS[name] for name in IDS if f"{{{name}}}" in operation.path}
    return Call(operation.name, ids=ids, params=params, body=body)


def operation_of(model: type[RequestBody]) -> Operation:
    return next(operation for operation in WITH_BODY if operation.body is model)


@asynccontextmanager
async def both_ways(kind: Kind, server: Server) -> AsyncIterator[Callable[[Call[Any]], Any]]:
    """Give what compares the refusal of a call here with the server's."""
    with faulty([], server) as proxy:
        async with kind.open(proxy.url, api_key=server.token) as client:
            unchecked = client.with_options(validate=False)

            async def compare(call: Call[Any]) -> RequestValidationError | None:
                sent = len(proxy.requests)
                local = await refusal(client, call)
                if local is None:
                    came = await answer(unchecked, call)
                    if isinstance(came, UnprocessableEntityError):
                        # Only the server knows which records there are.
                        assert {each.reason for each in came.errors} == {"not_found"}
                    return None
                assert len(proxy.requests) == sent, "it was sent"
                remote = await answer(unchecked, call)
                assert isinstance(remote, UnprocessableEntityError | BadRequestError)
                assert_alike(local, remote)
                return local

            yield compare


async def refusal(client: Client, call: Call[Any]) -> RequestValidationError | None:
    try:
        await client.do(lambda api: api.send(call))
    except RequestValidationError as error:
        return error
    except APIStatusError:
        return None
    return None


async def answer(client: Client, call: Call[Any]) -> Any:
    try:
        return await client.do(lambda api: api.send(call))
    except APIStatusError as error:
        return error


def assert_alike(local: RequestValidationError, remote: APIStatusError) -> None:
    assert [told(each) for each in local.errors] == [told(each) for each in remote.errors]
    assert local.message.removeprefix("Validation error: ") in str(remote)


def told(error: FieldError) -> Mapping[str, Any]:
    return error.as_json()


# --- bodies ---


@BOTH
async def test_the_table_of_what_is_said(kind: Kind, server: Server) -> None:
    async with both_ways(kind, server) as compare:
        for row in ROWS:
            await compare_row(compare, row)


async def compare_row(compare: Callable[[Call[Any]], Any], row: Row) -> None:
    refused = await compare(call_of(operation_of(row.model), row.body))
    assert refused is not None
    assert [(each.pointer, each.reason, each.message) for each in refused.errors] == row.errors


NUMBERS: list[Any] = [5, -1, 1.5, 2**70, True]
WRONG: list[Any] = [None, "", " ", "x" * 20_000, "\u200b", *NUMBERS, [], {}, ["x", 5]]


@BOTH
@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.name)
async def test_each_field_of_each_operation_with_whatever_is_wrong(
    kind: Kind, operation: Operation, server: Server
) -> None:
    assert operation.body is not None
    example = dict(example_of(operation.body))
    async with both_ways(kind, server) as compare:
        refused = 0
        for name in operation.body.model_fields:
            for wrong in WRONG:
                body = {**example, name: wrong}
                refused += await compare(call_of(operation, body)) is not None
        assert await compare(call_of(operation, {**example, "colour": 1, "id": "x"})) is not None
        assert refused or not operation.body.model_fields


@BOTH
async def test_more_errors_than_are_told(kind: Kind, server: Server) -> None:
    body = {f"field{number}": number for number in range(80)}
    async with both_ways(kind, server) as compare:
        refused = await compare(call_of(operation_of(models.UserCreate), body))
        assert len(refused.errors) == 50


@BOTH
def test_any_body_of_any_operation(kind: Kind, server: Server) -> None:
    """Bodies that are spoilt in the ways that people spoil bodies, all at once over one client."""
    bodies: list[tuple[type[RequestBody], Any]] = []

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(spoilt=mutated())
    def collect(spoilt: tuple[type[RequestBody], Any]) -> None:
        bodies.append(spoilt)

    collect()

    async def compare_all() -> None:
        async with both_ways(kind, server) as compare:
            refused = 0
            for model, body in bodies:
                refused += await compare(call_of(operation_of(model), body)) is not None
            assert refused > len(bodies) / 4

    asyncio.run(compare_all())


@BOTH
@pytest.mark.parametrize("wrong", [math.nan, math.inf, "\ud800", {1, 2}, len, b"x"], ids=repr)
@pytest.mark.parametrize("check", [True, False])
async def test_what_is_no_json_is_never_sent(
    kind: Kind, server: Server, wrong: Any, check: bool
) -> None:
    """The server has no word for these: they cannot even be written."""
    with faulty([], server) as proxy:
        async with kind.open(proxy.url, api_key=server.token, validate=check) as client:
            body = {"email": "ada@example.com", "name": wrong}
            with pytest.raises(RequestValidationError):
                await client.do(lambda api: api.send(Call("users.create", body=body)))
            assert proxy.requests == ()


# --- queries, ids and headers ---

QUERIES: list[dict[str, Any]] = [
    {"limit": 0},
    {"limit": 101},
    {"limit": "ten"},
    {"limit": 1.5},
    {"limit": True},
    {"email": "ada"},
    {"phone": "12"},
    {"tag": ""},
    {"created_after": "yesterday"},
    {"created_after": "yesterday", "limit": -1, "email": "x"},
    {"page": 2},
    {"limits": 2},
    {"status": "opened"},
    {"channel": "pigeon"},
    {"user_id": "7"},
    {"cursor": ""},
]


@BOTH
@pytest.mark.parametrize("operation", WITH_PARAMS, ids=lambda operation: operation.name)
async def test_queries(kind: Kind, operation: Operation, server: Server) -> None:
    async with both_ways(kind, server) as compare:
        refused = 0
        for query in QUERIES:
            refused += await compare(call_of(operation, **query)) is not None
        assert refused >= 5


@BOTH
@pytest.mark.parametrize(
    "options", [{"idempotency_key": "two words"}, {"idempotency_key": ""}, {"if_match": "abc"}]
)
async def test_headers_that_the_server_would_refuse_are_not_sent(
    kind: Kind, server: Server, options: dict[str, str]
) -> None:
    with faulty([], server) as proxy:
        async with kind.open(proxy.url, api_key=server.token) as client:
            with pytest.raises(RequestValidationError) as raised:
                await client.do(lambda api: api.users.update(IDS["user_id"], name="Ada", **options))
            (error,) = raised.value.errors
            assert (error.place, error.reason) == ("header", "invalid_format")
            assert proxy.requests == ()


@BOTH
@pytest.mark.parametrize("user_id", ["", ".", "..", 5, None])
async def test_ids_that_lead_elsewhere_are_not_sent(
    kind: Kind, server: Server, user_id: Any
) -> None:
    with faulty([], server) as proxy:
        async with kind.open(proxy.url, api_key=server.token) as client:
            with pytest.raises(RequestValidationError):
                await client.do(lambda api: api.users.get(user_id))
            assert proxy.requests == ()


@BOTH
@pytest.mark.parametrize("user_id", ["a/b", "../me", "usr_1?x=1", "usr_1#x", "ü", "a b", "%2e%2e"])
async def test_ids_of_any_other_form_are_of_nobody(
    kind: Kind, server: Server, user_id: str
) -> None:
    with faulty([], server) as proxy:
        async with kind.open(proxy.url, api_key=server.token) as client:
            error = await client.fails(lambda api: api.users.get(user_id))
            assert isinstance(error, APIStatusError)
            assert (error.status_code, error.reason) == (404, "resource_not_found")
            (seen,) = proxy.requests
            assert seen.path.startswith("/v1/users/")
