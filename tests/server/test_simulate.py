"""A test token gets any error of the catalogue that it asks for, just like the real one."""

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from operator_api import InternalServerError, OperatorAI, RateLimitError
from operator_api.contract.errors import CATALOGUE, ErrorKind
from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from operator_api.server.simulate import MOST_KEYS, SIMULATE_PATTERN
from tests.calls import JSON, create, mint, name_of, new_email
from tests.errors import assert_error
from tests.examples import EXAMPLES, STRAIN, Stage
from tests.server.test_errors_provoked import operation_of
from tests.servers import Server, running

SOME = [
    BY_NAME[name]
    for name in (
        "users.create",
        "users.update",
        "users.list",
        "me.get",
        "errors.get",
        "service.live",
    )
]
FEW = [
    "internal_error",
    "validation_failed",
    "missing_token",
    "insufficient_scope",
    "method_not_allowed",
    "precondition_failed",
    "rate_limited",
    "required",
]


def ask(
    api: httpx2.Client, operation: Operation, simulated: str, key: str | None = None
) -> httpx2.Response:
    """Ask for an error. Nothing else about the request is right."""
    headers = {"Operator-Simulate": simulated}
    if key is not None:
        headers["Idempotency-Key"] = key
    path = re.sub(r"\{\w+\}", "nobodys", operation.path)
    return api.request(operation.method, path, headers=headers)


def create_user(
    api: httpx2.Client, simulated: str | None, key: str | None, email: str = "ada@example.com"
) -> httpx2.Response:
    headers = {"Operator-Simulate": simulated, "Idempotency-Key": key}
    sent = {name: value for name, value in headers.items() if value is not None}
    return api.post("/v1/users", json={"email": email}, headers=sent)


def assert_simulated(response: httpx2.Response, kind: ErrorKind) -> dict[str, Any]:
    """Require the error, or that a 422 holds it, and that it is called simulated."""
    reason = "validation_failed" if kind.of_field else kind.reason
    error = assert_error(response, kind.status, reason)
    assert response.headers["operator-simulated"] == "true"
    assert error["outcome"] == kind.outcome
    assert error["retry"]["action"] == kind.action
    assert "ratelimit" in response.headers
    if kind.of_field:
        assert [each["reason"] for each in error["errors"]] == [kind.reason]
    return error


# --- any error ---


@pytest.mark.parametrize("reason", CATALOGUE)
def test_some_operations_answer_any_reason(api: httpx2.Client, reason: str) -> None:
    for operation in SOME:
        assert_simulated(ask(api, operation, reason), CATALOGUE[reason])


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_any_operation_answers_some_reasons(api: httpx2.Client, operation: Operation) -> None:
    for reason in FEW:
        assert_simulated(ask(api, operation, reason), CATALOGUE[reason])


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("simulated")
    with running(folder / "strained", **STRAIN) as strained:
        yield Stage(server, strained, folder)


# What stands in an answer whatever the error is, or says that it is simulated.
OF_ANY = {"operator-simulated", "ratelimit", "ratelimit-policy", "content-length", "connection"}
OF_ITS_OWN = {"request_id", "log_url", "doc_url", "message", "metadata", "errors"}


@pytest.mark.parametrize("reason", EXAMPLES)
def test_a_simulated_error_is_like_the_real_one(
    stage: Stage, api: httpx2.Client, reason: str
) -> None:
    real = EXAMPLES[reason](stage)
    simulated = ask(api, operation_answered(real), reason)
    if CATALOGUE[reason].of_field and real.headers["x-error-reason"] != "validation_failed":
        return  # a query's, which is 400
    assert names_of(simulated) == names_of(real)
    ours, theirs = (
        {name: value for name, value in each.json()["error"].items() if name not in OF_ITS_OWN}
        for each in (simulated, real)
    )
    ours["retry"].pop("after_seconds")
    theirs["retry"].pop("after_seconds")
    assert ours == theirs
    assert_alike(simulated.json()["error"], real.json()["error"], reason)


def operation_answered(real: httpx2.Response) -> Operation:
    """Return the operation that was called; any, where it was none."""
    of_none = real._request is None or real.status_code in {404, 405}
    return BY_NAME["users.update"] if of_none else operation_of(real.request)


def names_of(response: httpx2.Response) -> set[str]:
    return set(response.headers) - OF_ANY


def assert_alike(simulated: dict[str, Any], real: dict[str, Any], reason: str) -> None:
    """Require the same names in the metadata, and the same field errors where it is one of them."""
    of_this_call = {"did_you_mean"}
    assert set(simulated["metadata"]) - of_this_call == set(real["metadata"]) - of_this_call
    for name, value in real["metadata"].items():
        if name not in of_this_call:
            assert isinstance(value, (type(simulated["metadata"][name]), float)), name
    assert [*map(list, simulated["errors"])] == [*map(list, real["errors"])]
    if CATALOGUE[reason].of_field:
        assert simulated["errors"] == real["errors"]
        assert simulated["message"] == real["message"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/problem+json", "application/problem+json"),
        ("text/markdown", "text/markdown; charset=utf-8"),
        ("text/html", "application/json"),
    ],
)
def test_it_comes_in_the_view_that_is_asked_for(
    api: httpx2.Client, accept: str, media_type: str
) -> None:
    headers = {"Operator-Simulate": "overloaded", "Accept": accept}
    response = api.get("/v1/me", headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (503, media_type)
    assert "overloaded" in response.text


def test_it_carries_the_callers_own_request_id(api: httpx2.Client) -> None:
    headers = {"Operator-Simulate": "overloaded", "X-Request-Id": "mine"}
    error = assert_error(api.get("/v1/me", headers=headers), 503, "overloaded")
    assert error["metadata"]["client_request_id"] == "mine"


def test_nothing_is_executed(api: httpx2.Client) -> None:
    email = new_email()
    assert_error(create_user(api, "internal_error", None, email), 500, "internal_error")
    assert api.get("/v1/users", params={"email": email}).json()["data"] == []


# --- who may ---


def test_a_live_token_may_not(server: Server) -> None:
    with server.client(mint(server, environment="live")) as live:
        for operation in SOME:
            for asked in ("overloaded", "what is this?"):
                response = ask(live, operation, asked)
                assert_error(response, 403, "simulation_not_allowed")
                assert "operator-simulated" not in response.headers


@pytest.mark.parametrize("token", [None, "op_test_mistyped"])
def test_nobody_may_not(server: Server, token: str | None) -> None:
    with server.client(token) as nobody:
        assert_error(
            ask(nobody, BY_NAME["errors.list"], "overloaded"), 403, "simulation_not_allowed"
        )
        response = ask(nobody, BY_NAME["me.get"], "overloaded")
        assert_error(response, 401, "invalid_token" if token else "missing_token")


def test_token_rate_and_scope_come_first(stage: Stage) -> None:
    with stage.strained.client(mint(stage.strained, scopes=["tags:read"])) as api:
        assert_error(ask(api, BY_NAME["users.create"], "overloaded"), 403, "insufficient_scope")
        limit = int(STRAIN["OPERATOR_RATE_LIMIT"].partition("/")[0])
        for left in range(limit - 1, -1, -1):
            response = ask(api, BY_NAME["tags.list"], "overloaded")
            assert_error(response, 503, "overloaded")
            assert f"r={left};" in response.headers["ratelimit"]
        response = ask(api, BY_NAME["tags.list"], "overloaded")
        assert_error(response, 429, "rate_limited")
        assert "operator-simulated" not in response.headers


def test_paths_and_methods_come_first(api: httpx2.Client) -> None:
    headers = {"Operator-Simulate": "overloaded"}
    assert_error(api.get("/v1/nowhere", headers=headers), 404, "unknown_endpoint")
    assert_error(api.delete("/v1/users", headers=headers), 405, "method_not_allowed")
    assert api.options("/v1/users", headers=headers).status_code == 200
    assert api.head("/v1/users", headers=headers).status_code == 503


# --- after ---


@pytest.mark.parametrize("reason", [kind.reason for kind in CATALOGUE.values() if kind.waits])
def test_after_is_the_retry_after(api: httpx2.Client, reason: str) -> None:
    for seconds in (0, 7, 86_400):
        response = ask(api, BY_NAME["users.list"], f"{reason}; after={seconds}")
        error = assert_simulated(response, CATALOGUE[reason])
        assert response.headers["retry-after"] == str(seconds)
        assert error["retry"]["after_seconds"] == seconds


# --- the outcome ---


@pytest.mark.parametrize("reason", ["internal_error", "store_unavailable"])
@pytest.mark.parametrize("key", [None, "a-key"])
def test_the_outcome_can_be_unknown(api: httpx2.Client, reason: str, key: str | None) -> None:
    response = ask(api, BY_NAME["users.create"], f"{reason}; outcome=unknown", key)
    error = assert_error(response, CATALOGUE[reason].status, reason)
    assert error["outcome"] == "unknown"
    assert error["retry"]["action"] == ("retry_with_backoff" if key else "check_outcome")


# --- times ---


def test_some_tries_fail_and_then_the_request_passes_for_real(api: httpx2.Client) -> None:
    key, email = new_email(), new_email()
    for _ in range(2):
        response = create_user(api, "overloaded; times=2; after=0", key, email)
        assert_simulated(response, CATALOGUE["overloaded"])
    passed = create_user(api, "overloaded; times=2; after=0", key, email)
    assert passed.status_code == 201
    assert "operator-simulated" not in passed.headers
    assert "idempotent-replayed" not in passed.headers
    for simulated in ("overloaded; times=2; after=0", None):
        again = create_user(api, simulated, key, email)
        assert again.status_code == 201
        assert again.content == passed.content
        assert again.headers["idempotent-replayed"] == "true"
    other = create_user(api, "overloaded; times=2", key, new_email())
    assert_error(other, 422, "idempotency_key_reused")


def test_a_simulated_failure_is_not_kept_under_the_key(api: httpx2.Client) -> None:
    key, email = new_email(), new_email()
    assert_error(create_user(api, "already_exists", key, email), 409, "already_exists")
    passed = create_user(api, None, key, email)
    assert passed.status_code == 201
    assert "idempotent-replayed" not in passed.headers


def test_without_times_each_try_fails(api: httpx2.Client) -> None:
    key = new_email()
    for _ in range(5):
        assert_error(create_user(api, "overloaded", key), 503, "overloaded")


def test_a_read_can_be_counted_by_a_key_too(api: httpx2.Client) -> None:
    key, me = new_email(), BY_NAME["me.get"]
    assert_error(ask(api, me, "overloaded; times=1", key), 503, "overloaded")
    assert ask(api, me, "overloaded; times=1", key).status_code == 200


def test_many_at_once_fail_exactly_so_often(server: Server) -> None:
    key, email = new_email(), new_email()

    def send(_: int) -> int:
        with server.client() as api:
            return create_user(api, "overloaded; times=7", key, email).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(send, range(30)))
    assert statuses == [201] * 23 + [503] * 7


def test_tenants_are_counted_apart(server: Server) -> None:
    key = new_email()
    for account in ("acme", "globex"):
        with server.client(mint(server, account=account)) as api:
            asked = "overloaded; times=1"
            assert_error(create_user(api, asked, key, email := new_email()), 503, "overloaded")
            assert create_user(api, asked, key, email).status_code == 201


def test_the_keys_of_others_are_not_forgotten_for_one_who_sends_many(server: Server) -> None:
    asked, me, key = "overloaded; times=1", BY_NAME["me.get"], new_email()
    with server.client() as api, server.client(mint(server, account="many")) as many:
        assert_error(ask(api, me, asked, key), 503, "overloaded")
        first = new_email()
        assert_error(ask(many, me, asked, first), 503, "overloaded")
        for _ in range(MOST_KEYS):
            ask(many, me, asked, uuid.uuid4().hex)
        assert_error(ask(many, me, asked, first), 503, "overloaded")  # the oldest is forgotten
        assert ask(api, me, asked, key).status_code == 200


# --- what is refused ---


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("overloded", "overloaded"),
        ("Rate-Limited; after=1", "rate_limited"),
        ("RATE_LIMITED", "rate_limited"),
        ("teapot", None),
        ("", None),
        ("x" * 5000, None),
        ("overloaded, overloaded", None),
    ],
)
def test_an_unknown_reason_is_refused_with_the_one_that_was_meant(
    api: httpx2.Client, asked: str, meant: str | None
) -> None:
    error = assert_error(ask(api, BY_NAME["me.get"], asked), 400, "invalid_header")
    (wrong,) = error["errors"]
    assert wrong["reason"] == "not_allowed_value"
    assert wrong["pointer"] == "#/Operator-Simulate"
    assert wrong["did_you_mean"] == meant
    assert "teapot" not in str(error)
    assert "xxx" not in str(error)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("internal_error; after=7", {"times", "outcome"}),
        ("required; after=7", {"times"}),
        ("rate_limited; outcome=unknown", {"times", "after"}),
        ("store_unavailable; outcome=executed", {"times", "after", "outcome"}),
        ("overloaded; after=-1", {"times", "after"}),
        ("overloaded; after=86401", {"times", "after"}),
        ("overloaded; after=1.5", {"times", "after"}),
        ("overloaded; after=", {"times", "after"}),
        ("overloaded; after=\u0661", {"times", "after"}),
        ("overloaded; after", {"times", "after"}),
        ("overloaded; after=1; after=1", {"times", "after"}),
        ("overloaded; times=0", {"times", "after"}),
        ("overloaded; times=1001", {"times", "after"}),
        ("overloaded; before=1", {"times", "after"}),
        ("overloaded;", {"times", "after"}),
        ("overloaded after=1", None),
    ],
)
def test_a_parameter_that_is_none_is_refused_with_those_that_are(
    api: httpx2.Client, asked: str, allowed: set[str] | None
) -> None:
    headers = [(b"operator-simulate", asked.encode()), (b"idempotency-key", b"a-key")]
    response = api.get("/v1/me", headers=headers)
    error = assert_error(response, 400, "invalid_header")
    if allowed is not None:
        assert set(re.findall(r"; (\w+)=", error["message"])) == allowed


@pytest.mark.parametrize("key", [None, "two words"])
def test_times_needs_a_key(api: httpx2.Client, key: str | None) -> None:
    response = create_user(api, "overloaded; times=2", key)
    error = assert_error(response, 400, "invalid_header")
    assert "Idempotency-Key" in error["message"]


def test_the_documented_pattern_takes_what_is_taken() -> None:
    matches = re.compile(SIMULATE_PATTERN).match
    for asked in ("overloaded", "overloaded;after=7", "overloaded; times=2 ; after=0"):
        assert matches(asked)
    for asked in ("overloded", "overloaded; before=1", "overloaded;", "Overloaded", " overloaded"):
        assert not matches(asked)


# --- the client ---


def test_the_client_lives_through_it(server: Server) -> None:
    with OperatorAI(api_key=server.token, base_url=server.url) as client:
        asked = {"Operator-Simulate": "overloaded; times=2; after=0"}
        user = client.users.create(email=new_email(), extra_headers=asked)
        assert client.users.get(user.id).email == user.email


@pytest.mark.parametrize(
    ("asked", "raised"),
    [("rate_limited; after=7", RateLimitError), ("internal_error", InternalServerError)],
)
def test_the_client_raises_it(server: Server, asked: str, raised: type[Exception]) -> None:
    with (
        OperatorAI(api_key=server.token, base_url=server.url, max_retries=0) as client,
        pytest.raises(raised),
    ):
        client.users.list(extra_headers={"Operator-Simulate": asked})


def test_a_body_is_left_unread(api: httpx2.Client) -> None:
    headers = {**JSON, "Operator-Simulate": "conversation_closed"}
    response = api.post("/v1/messages", content=b"{not json", headers=headers)
    assert_error(response, 409, "conversation_closed")
    create(api, "/v1/users", email=new_email())  # the connection is as good as before
