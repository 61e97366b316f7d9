"""The headers of the contract, on every answer that must have them."""

import re

import httpx2
import pytest

from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from tests.calls import (
    API,
    JSON,
    PUBLIC,
    Records,
    call,
    make_records,
    mint,
    name_of,
    path_of,
)
from tests.errors import assert_error
from tests.servers import Server

REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")
RATE_LIMIT = re.compile(r'"default";r=\d+;t=\d+')
METHODS_OF = {
    path: {each.method for each in OPERATIONS if each.path == path}
    for path in dict.fromkeys(each.path for each in OPERATIONS)
}


@pytest.fixture(scope="module")
def records(api: httpx2.Client) -> Records:
    return make_records(api)


def filled(path: str, records: Records) -> str:
    return path_of(next(each for each in OPERATIONS if each.path == path), records)


# --- request ids ---


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_every_answer_has_a_request_id_of_its_own(api: httpx2.Client, operation: Operation) -> None:
    fresh = make_records(api)
    answers = [call(api, operation, fresh), call(api, operation, fresh)]
    answers += [api.request(how, path_of(operation, fresh)) for how in ("OPTIONS", "HEAD")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(REQUEST_ID.fullmatch(each) for each in ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("own", ["a", "A-Z_0.9", "x" * 64, "req_" + "0" * 32])
def test_the_callers_request_id_is_kept_beside_ours(api: httpx2.Client, own: str) -> None:
    response = api.get("/v1/nowhere", headers={"X-Request-Id": own})
    error = assert_error(response, 404, "unknown_endpoint")
    assert error["metadata"]["client_request_id"] == own
    assert response.headers["x-request-id"] != own


@pytest.mark.parametrize("own", ["", "x" * 65, "a b", "a,b", "é", "<b>", "a/b", '"a"'])
def test_a_malformed_request_id_is_dropped(api: httpx2.Client, own: str) -> None:
    headers = [(b"x-request-id", own.encode("latin-1"))]
    error = assert_error(api.get("/v1/nowhere", headers=headers), 404, "unknown_endpoint")
    assert "client_request_id" not in error["metadata"]


def test_two_request_ids_are_none(api: httpx2.Client) -> None:
    headers = [("X-Request-Id", "a"), ("X-Request-Id", "b")]
    error = assert_error(api.get("/v1/nowhere", headers=headers), 404, "unknown_endpoint")
    assert "client_request_id" not in error["metadata"]


# --- rate limits ---


@pytest.mark.parametrize("operation", API, ids=name_of)
def test_a_valid_token_is_told_its_limit(api: httpx2.Client, operation: Operation) -> None:
    response = call(api, operation, make_records(api))
    assert response.headers["ratelimit-policy"] == '"default";q=1000000000;w=60'
    assert RATE_LIMIT.fullmatch(response.headers["ratelimit"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nowhere", 404),
        ("GET", f"/v1/users/usr_{'0' * 32}", 404),
        ("DELETE", "/v1/users", 405),
        ("POST", "/v1/users", 415),
        ("GET", "/v1/users?limit=0", 400),
        ("HEAD", "/v1/users", 200),
    ],
)
def test_a_valid_token_is_told_its_limit_with_errors_too(
    server: Server, method: str, path: str, status: int
) -> None:
    with server.client() as client:
        response = client.request(method, path)
        assert response.status_code == status
        assert RATE_LIMIT.fullmatch(response.headers["ratelimit"])
        assert "ratelimit-policy" in response.headers
    for token in (None, "op_test_nonsense"):
        with server.client(token) as stranger:
            assert "ratelimit" not in stranger.request(method, path).headers


# --- 401 ---


@pytest.mark.parametrize(
    ("authorization", "reason", "challenge"),
    [
        (None, "missing_token", 'Bearer realm="operator-ai"'),
        ("Basic b3A6b3A=", "malformed_authorization", 'Bearer realm="operator-ai"'),
        ("Bearer x", "invalid_token", 'Bearer realm="operator-ai", error="invalid_token"'),
    ],
)
def test_the_challenge_of_a_401(
    server: Server, authorization: str | None, reason: str, challenge: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with server.client(None) as nobody:
        response = nobody.get("/v1/me", headers=headers)
    assert_error(response, 401, reason)
    assert response.headers["www-authenticate"] == challenge


# --- 404 of a path ---


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/user", "/v1/users"),
        ("/v1/users/", "/v1/users"),
        ("/users", "/v1/users"),
        ("/V1/Users", "/v1/users"),
        ("/v1/v1/users", "/v1/users"),
        ("/v1/converstations", "/v1/conversations"),
        (f"/users/usr_{'0' * 32}", "/v1/users/{user_id}"),
        (f"/v1/messages/msg_{'0' * 32}/", "/v1/messages/{message_id}"),
        ("/openapi", "/openapi.json"),
        ("/entirely/elsewhere", None),
        ("/", None),
    ],
)
def test_a_path_near_a_known_one_names_it(api: httpx2.Client, path: str, meant: str | None) -> None:
    response = api.get(path)
    error = assert_error(response, 404, "unknown_endpoint")
    assert error["metadata"].get("did_you_mean") == meant
    assert error["message"].endswith(f"Did you mean {meant}?") is (meant is not None)
    assert response.headers["link"] == '</openapi.json>; rel="service-desc"'


def test_only_what_the_callers_scopes_can_use_is_suggested(server: Server) -> None:
    suggested = {}
    for scope in ("users:read", "tags:read"):
        with server.client(mint(server, scopes=[scope])) as caller:
            error = assert_error(caller.get("/v1/token"), 404, "unknown_endpoint")
            suggested[scope] = error["metadata"].get("did_you_mean")
            assert suggested[scope] != "/v1/tokens"
            about_users = assert_error(caller.get("/v1/user"), 404, "unknown_endpoint")
            meant = about_users["metadata"].get("did_you_mean")
            assert (meant == "/v1/users") is (scope == "users:read")
    with server.client(None) as nobody:
        error = assert_error(nobody.get("/v1/token"), 404, "unknown_endpoint")
    assert error["metadata"]["did_you_mean"] == "/v1/tokens"


# --- 405, HEAD, OPTIONS ---


@pytest.mark.parametrize("path", METHODS_OF)
def test_allow_names_all_methods_of_a_path(api: httpx2.Client, records: Records, path: str) -> None:
    methods = METHODS_OF[path] | {"OPTIONS"} | ({"HEAD"} if "GET" in METHODS_OF[path] else set())
    allow = ", ".join(sorted(methods))
    url = filled(path, records)
    options = api.options(url)
    assert (options.status_code, options.headers["allow"], options.content) == (200, allow, b"")
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - methods:
        response = api.request(method, url)
        assert response.headers["allow"] == allow
        if method != "HEAD":
            error = assert_error(response, 405, "method_not_allowed")
            assert error["metadata"] == {"method": method, "allowed": sorted(methods)}


def test_options_needs_no_token_but_a_path(server: Server) -> None:
    with server.client(None) as nobody:
        assert nobody.options("/v1/users").status_code == 200
        assert_error(nobody.options("/v1/nowhere"), 404, "unknown_endpoint")


@pytest.mark.parametrize("path", [path for path, methods in METHODS_OF.items() if "GET" in methods])
@pytest.mark.parametrize("token", ["", None], ids=["token", "none"])
def test_head_answers_as_get_without_the_body(
    server: Server, records: Records, path: str, token: str | None
) -> None:
    assert_head_is_get(server, filled(path, records), token)


@pytest.mark.parametrize(
    "path", ["/v1/nowhere", f"/v1/users/usr_{'0' * 32}", "/v1/users?limit=0", "/v1/messages"]
)
def test_head_answers_errors_as_get_without_the_body(server: Server, path: str) -> None:
    assert_head_is_get(server, path, "")


def assert_head_is_get(server: Server, path: str, token: str | None) -> None:
    own = {"date", "x-request-id", "ratelimit", "content-length"}
    with server.client(token) as client:
        get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert {name: get.headers[name] for name in get.headers if name not in own} == {
        name: head.headers[name] for name in head.headers if name not in own
    }
    # A 405 names the method twice, which is one letter longer; all else has the same length.
    longer = 2 * (get.status_code == 405)
    if path != "/metrics":  # which counts the first of the two requests, too
        assert int(head.headers["content-length"]) == len(get.content) + longer


# --- successes ---


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_each_success_is_201_for_a_create_and_200_for_all_else(
    api: httpx2.Client, operation: Operation
) -> None:
    response = call(api, operation, make_records(api))
    creates = operation.name.endswith(".create") or operation.name == "tokens.rotate"
    assert response.status_code == operation.status == (201 if creates else 200)
    assert response.headers["content-type"].partition(";")[0] == operation.answer_type
    for name in ("x-should-retry", "x-error-reason", "www-authenticate", "retry-after"):
        assert name not in response.headers


@pytest.mark.parametrize("operation", PUBLIC, ids=name_of)
def test_the_public_says_nothing_of_limits_to_nobody(
    server: Server, records: Records, operation: Operation
) -> None:
    with server.client(None) as nobody:
        assert "ratelimit" not in call(nobody, operation, records).headers


def test_the_founding_documents_example_is_in_the_body_as_bytes(api: httpx2.Client) -> None:
    response = api.post("/v1/users", content=b"{}", headers=JSON)
    assert response.status_code == 422
    expected = b'{"error":{"code":422,"message":"Validation error: Email is required.",'
    assert response.content.startswith(expected)


@pytest.mark.parametrize("name", ["users.create", "conversations.create", "messages.create"])
def test_what_was_created_is_at_its_location(api: httpx2.Client, name: str) -> None:
    made = call(api, BY_NAME[name], make_records(api))
    assert made.headers["location"].endswith(made.json()["id"])
    assert api.get(made.headers["location"]).json() == made.json()
