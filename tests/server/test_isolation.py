"""Tenants are apart: two accounts, each with a live and a test environment, over all operations.

What belongs to another tenant is, to every operation, what does not exist: the answers are the same
to the byte, once the ids of the requests are taken out.
"""

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from operator_api.contract.operations import Operation
from operator_api.contract.scopes import ENVIRONMENTS, Environment
from tests.calls import (
    LISTS,
    NAMING_RECORDS,
    Records,
    body_of,
    call,
    create,
    make_records,
    mint,
    name_of,
    path_of,
)
from tests.errors import assert_error
from tests.servers import Server

Tenant = tuple[str, Environment]
TENANTS: list[Tenant] = list(itertools.product(["acme", "globex"], ENVIRONMENTS))
PAIRS = list(itertools.permutations(TENANTS, 2))


@pytest.fixture(scope="module")
def tenants(server: Server) -> Iterator[dict[Tenant, httpx2.Client]]:
    with ExitStack() as stack:
        yield {
            (account, environment): stack.enter_context(
                server.client(mint(server, account=account, environment=environment))
            )
            for account, environment in TENANTS
        }


@pytest.fixture(scope="module")
def records(tenants: dict[Tenant, httpx2.Client]) -> dict[Tenant, Records]:
    return {tenant: make_records(client) for tenant, client in tenants.items()}


def masked(response: httpx2.Response) -> tuple[int, dict[str, str], str]:
    """Return all of an answer but what each request has of its own."""
    own = {"x-request-id", "ratelimit", "date"}
    headers = {name: value for name, value in response.headers.items() if name not in own}
    return response.status_code, headers, re.sub(r"req_[0-9a-f]{32}", "req_…", response.text)


@pytest.mark.parametrize("operation", NAMING_RECORDS, ids=name_of)
@pytest.mark.parametrize(("owner", "caller"), PAIRS, ids="-".join)
def test_anothers_record_answers_exactly_as_one_that_does_not_exist(
    tenants: dict[Tenant, httpx2.Client],
    records: dict[Tenant, Records],
    operation: Operation,
    owner: Tenant,
    caller: Tenant,
) -> None:
    body = body_of(operation, records[owner])
    missing_body = {**(body or {}), **references(body_of(operation, records[owner].missing()))}
    anothers = tenants[caller].request(
        operation.method, path_of(operation, records[owner]), json=body
    )
    missing = tenants[caller].request(
        operation.method,
        path_of(operation, records[owner].missing()),
        json=None if body is None else missing_body,
    )
    assert anothers.status_code == (404 if operation.ids else 422), anothers.text
    assert masked(anothers) == masked(missing)


def references(body: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (body or {}).items() if name.endswith("_id")}


def test_after_all_these_tries_everything_is_still_there(
    tenants: dict[Tenant, httpx2.Client], records: dict[Tenant, Records]
) -> None:
    for tenant, client in tenants.items():
        own = records[tenant]
        assert client.get(f"/v1/users/{own.user_id}").json()["tags"] == ["vip"]
        assert client.get(f"/v1/conversations/{own.conversation_id}").json()["status"] == "open"
        assert client.get(f"/v1/messages/{own.message_id}").status_code == 200
        assert {each["status"] for each in walk(client, "/v1/tokens")} == {"active"}


def walk(client: httpx2.Client, path: str) -> list[dict[str, Any]]:
    """Return all items of a list, page by page."""
    items, query = [], {"limit": "2"}
    while True:
        page = client.get(path, params=query).json()
        items += page["data"]
        if not page["has_more"]:
            return items
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_a_list_has_the_tenants_own_and_nothing_else(
    tenants: dict[Tenant, httpx2.Client], records: dict[Tenant, Records], operation: Operation
) -> None:
    for tenant, client in tenants.items():
        listed = {str(each) for each in walk(client, path_of(operation, records[tenant]))}
        own = records[tenant]
        ids = {own.user_id, own.conversation_id, own.message_id, own.token_id}
        assert listed
        if operation.name == "tags.list":
            assert listed == {str({"tag": "vip", "count": 1})}
        else:
            assert any(each in item for each in ids for item in listed)
        for other in set(TENANTS) - {tenant}:
            theirs = records[other]
            for each in (
                theirs.user_id,
                theirs.conversation_id,
                theirs.message_id,
                theirs.token_id,
            ):
                assert not any(each in item for item in listed)


def test_a_filter_by_anothers_id_or_email_finds_nothing(
    tenants: dict[Tenant, httpx2.Client], records: dict[Tenant, Records]
) -> None:
    for owner, caller in PAIRS:
        user_id = records[owner].user_id
        email = tenants[owner].get(f"/v1/users/{user_id}").json()["email"]
        conversations = tenants[caller].get("/v1/conversations", params={"user_id": user_id})
        users = tenants[caller].get("/v1/users", params={"email": email})
        assert conversations.json()["data"] == users.json()["data"] == []
        assert len(tenants[owner].get("/v1/users", params={"email": email}).json()["data"]) == 1


@pytest.mark.parametrize("path", ["/v1/users", "/v1/conversations", "/v1/tokens", "/v1/tags"])
def test_a_cursor_of_one_tenant_is_refused_to_another(
    tenants: dict[Tenant, httpx2.Client], path: str
) -> None:
    for client in tenants.values():
        create(client, "/v1/tags", user_id=make_records(client).user_id, tag="second")
    for owner, caller in PAIRS:
        cursor = tenants[owner].get(path, params={"limit": 1}).json()["next_cursor"]
        query = {"limit": 1, "cursor": cursor}
        assert tenants[owner].get(path, params=query).status_code == 200
        refused = tenants[caller].get(path, params=query)
        assert_error(refused, 400, "invalid_cursor")


def test_an_email_may_be_used_once_in_each_tenant(tenants: dict[Tenant, httpx2.Client]) -> None:
    user = {"email": "everywhere@example.com"}
    made = {client.post("/v1/users", json=user).json()["id"] for client in tenants.values()}
    assert len(made) == len(TENANTS)
    for client in tenants.values():
        error = assert_error(client.post("/v1/users", json=user), 409, "already_exists")
        assert error["metadata"]["existing_id"] in made
        made.remove(error["metadata"]["existing_id"])
    assert made == set()


def test_an_idempotency_key_is_the_tenants_own(tenants: dict[Tenant, httpx2.Client]) -> None:
    headers = {"Idempotency-Key": "the-same-everywhere"}
    user = {"email": "keyed@example.com"}
    made = [client.post("/v1/users", json=user, headers=headers) for client in tenants.values()]
    assert {each.status_code for each in made} == {201}
    assert len({each.json()["id"] for each in made}) == len(TENANTS)
    assert all("idempotent-replayed" not in each.headers for each in made)


def test_me_names_the_tenant(tenants: dict[Tenant, httpx2.Client]) -> None:
    for (account, environment), client in tenants.items():
        me = client.get("/v1/me").json()
        assert (me["account"]["name"], me["environment"]) == (account, environment)
    ids = {client.get("/v1/me").json()["account"]["id"] for client in tenants.values()}
    assert len(ids) == 2


def test_every_operation_that_reaches_records_is_in_the_matrix(
    tenants: dict[Tenant, httpx2.Client], records: dict[Tenant, Records]
) -> None:
    # Each of them does succeed for the owner: a refusal above is not a mistake in the request.
    for operation in NAMING_RECORDS:
        client = tenants["acme", "test"]
        assert call(client, operation, make_records(client)).status_code == operation.status
