"""What each operation asks of a token: exactly its row's scope, and nothing where it is public."""

import httpx2
import pytest

from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.contract.scopes import PRESETS, SCOPES, Scope
from tests.calls import API, PUBLIC, Records, call, make_records, mint, name_of
from tests.errors import assert_error
from tests.servers import Server

SCOPED = tuple(operation for operation in API if operation.scope is not None)
USED = sorted({operation.scope for operation in SCOPED if operation.scope})


# The specification's own table, without webhooks, requests and review, which come later.
SPECIFIED = {
    "users:read": {"GET /v1/users", "GET /v1/users/{user_id}"},
    "users:write": {
        "POST /v1/users",
        "PUT /v1/users/{user_id}",
        "PATCH /v1/users/{user_id}",
        "DELETE /v1/users/{user_id}",
    },
    "conversations:read": {
        "GET /v1/conversations",
        "GET /v1/conversations/{conversation_id}",
        "GET /v1/conversations/{conversation_id}/messages",
        "GET /v1/messages/{message_id}",
    },
    "conversations:write": {
        "POST /v1/conversations",
        "POST /v1/conversations/{conversation_id}/assign",
        "POST /v1/conversations/{conversation_id}/close",
    },
    "messages:write": {"POST /v1/messages"},
    "tags:read": {"GET /v1/tags"},
    "tags:write": {"POST /v1/tags"},
    "tokens:admin": {
        "GET /v1/tokens",
        "POST /v1/tokens",
        "POST /v1/tokens/{token_id}/rotate",
        "DELETE /v1/tokens/{token_id}",
    },
}


def test_the_table_has_the_specified_operations_with_their_scopes() -> None:
    for scope, specified in SPECIFIED.items():
        found = {f"{each.method} {each.path}" for each in OPERATIONS if each.scope == scope}
        assert found == specified
    assert [each.path for each in API if each.scope is None] == ["/v1/me"]
    assert {each.path for each in PUBLIC} >= {"/v1/errors", "/v1/errors/{reason}", "/livez"}


@pytest.fixture(scope="module")
def with_only(server: Server) -> dict[str, str]:
    return {scope: mint(server, scopes=[scope]) for scope in USED}


@pytest.fixture(scope="module")
def with_all_but(server: Server) -> dict[str, str]:
    return {
        scope: mint(server, scopes=[other for other in SCOPES if other != scope]) for scope in USED
    }


@pytest.fixture(scope="module")
def records(api: httpx2.Client) -> Records:
    return make_records(api)


@pytest.mark.parametrize("operation", SCOPED, ids=name_of)
@pytest.mark.parametrize("exists", [True, False], ids=["existing", "missing"])
def test_without_its_scope_an_operation_answers_403_whether_or_not_the_record_exists(
    server: Server,
    with_all_but: dict[str, str],
    records: Records,
    operation: Operation,
    exists: bool,
) -> None:
    scope = str(operation.scope)
    with server.client(with_all_but[scope]) as caller:
        response = call(caller, operation, records if exists else records.missing())
    error = assert_error(response, 403, "insufficient_scope")
    assert error["metadata"] == {
        "required": [scope],
        "granted": sorted(set(SCOPES) - {scope}),
        "missing": [scope],
    }
    assert error["message"] == f"The token lacks the scope {scope}."
    challenge = f'Bearer realm="operator-ai", error="insufficient_scope", scope="{scope}"'
    assert response.headers["www-authenticate"] == challenge


@pytest.mark.parametrize("operation", SCOPED, ids=name_of)
def test_its_scope_alone_is_enough_for_an_operation(
    server: Server, api: httpx2.Client, with_only: dict[str, str], operation: Operation
) -> None:
    # Handing out scopes takes having them, so a token of tokens:admin alone gives only that.
    hands_out = operation.name in {"tokens.create", "tokens.rotate"}
    with server.client(with_only[str(operation.scope)]) as caller:
        response = call(caller, operation, make_records(api))
    if hands_out:
        missing = assert_error(response, 403, "insufficient_scope")["metadata"]["missing"]
        assert str(operation.scope) not in missing
    else:
        assert response.status_code == operation.status, response.text


@pytest.mark.parametrize(
    "operation", [operation for operation in API if operation.scope is None], ids=name_of
)
def test_any_token_will_do_where_no_scope_is_asked(
    server: Server, with_only: dict[str, str], records: Records, operation: Operation
) -> None:
    with server.client(with_only["tags:read"]) as caller:
        assert call(caller, operation, records).status_code == operation.status


@pytest.mark.parametrize("operation", API, ids=name_of)
def test_without_a_token_nothing_but_the_public_answers(
    server: Server, records: Records, operation: Operation
) -> None:
    with server.client(None) as nobody:
        assert_error(call(nobody, operation, records), 401, "missing_token")


@pytest.mark.parametrize("operation", PUBLIC, ids=name_of)
@pytest.mark.parametrize("token", [None, "op_test_nonsense"], ids=["none", "unusable"])
def test_public_operations_ask_for_no_token(
    server: Server, records: Records, operation: Operation, token: str | None
) -> None:
    with server.client(token) as anybody:
        assert call(anybody, operation, records).status_code == operation.status


def test_a_preset_is_the_scopes_that_it_names(server: Server, api: httpx2.Client) -> None:
    for preset, scopes in PRESETS.items():
        made = api.post("/v1/tokens", json={"name": preset, "preset": preset}).json()
        assert made["scopes"] == sorted(scopes)
        with server.client(made["token"]) as caller:
            assert caller.get("/v1/me").json()["scopes"] == sorted(scopes)


def test_the_read_only_preset_can_do_what_reads_its_resources_and_nothing_that_writes(
    server: Server, records: Records
) -> None:
    granted: set[Scope] = set(PRESETS["read-only"])
    with server.client(mint(server, scopes=sorted(granted))) as reader:
        for operation in OPERATIONS:
            allowed = operation.scope is None or operation.scope in granted
            assert (call(reader, operation, records).status_code != 403) is allowed, operation.name
            assert not (allowed and operation.writes)
