"""Each failed request can be explained: its check, its cause, its tries, what was different."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.cli.logged import explain_request
from operator_api.cli.options import Place
from operator_api.cli.problems import Failure
from operator_api.contract.errors import CATALOGUE, CHECKS
from operator_api.contract.explained import ExplainedRequest
from tests.calls import create, make_records, mint, missing_id, new_email
from tests.errors import assert_error
from tests.examples import EXAMPLES, STRAIN, Stage
from tests.servers import Server, eventually, run_cli, running
from tests.stores import query


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("explained")
    with running(folder / "strained", **STRAIN) as strained:
        yield Stage(server, strained, folder)


def explained(api: httpx2.Client, request_id: str, **params: str) -> dict[str, Any]:
    """Ask for an explanation, and hold it to its model."""
    response = api.get(f"/v1/requests/{request_id}", params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    ExplainedRequest.model_validate(found)
    assert set(found) == set(ExplainedRequest.model_fields)
    return found


def failed(response: httpx2.Response) -> str:
    assert response.status_code >= 400, response.text
    request_id: str = response.json()["error"]["request_id"]
    return request_id


def as_operator(data: Path, request_id: str, why: str | None = None) -> dict[str, Any]:
    """Ask as the operator does, who may see what nobody else can."""
    return explain_request(request_id, Place(str(data), None), why)


def states(found: dict[str, Any]) -> dict[str, bool | None]:
    return {check["name"]: check["passed"] for check in found["checks"]}


# --- checks ---


REQUEST_REASONS = [reason for reason in EXAMPLES if not CATALOGUE[reason].of_field]


@pytest.mark.parametrize("reason", REQUEST_REASONS)
def test_each_reason_is_explained_with_the_check_that_failed(stage: Stage, reason: str) -> None:
    response = provoke(stage, reason)
    error, kind = response.json()["error"], CATALOGUE[reason]
    found = look_for(stage.ample.data, error["request_id"], tries=5)
    found = found or look_for(stage.strained.data, error["request_id"])
    assert found is not None
    assert (found["status"], found["reason"]) == (kind.status, reason)
    assert (found["title"], found["hint"], found["fix"]) == (kind.title, kind.hint, kind.fix)
    assert found["causes"] == list(kind.causes)
    assert found["message"] == error["message"]
    assert found["retry"] == error["retry"]
    assert found["outcome"] == error["outcome"]
    assert found["errors"] == error["errors"]
    assert found["metadata"] == error["metadata"]
    assert found["detail"] == "open"
    checks = found["checks"]
    assert [check["name"] for check in checks] == list(CHECKS)
    (wrong,) = [check for check in checks if check["passed"] is False]
    late = kind.check == "capacity" and found["operation"] is not None
    assert wrong["name"] == ("work" if late else kind.check)
    assert wrong["detail"] == error["message"]
    behind = checks[CHECKS.index(wrong["name"]) + 1 :]
    assert {check["passed"] for check in behind} <= {None}
    if wrong["name"] != "work":
        before = checks[: CHECKS.index(wrong["name"])]
        assert all(check["passed"] or check["detail"] for check in before)


def provoke(stage: Stage, reason: str) -> httpx2.Response:
    if reason != "shutting_down":
        return EXAMPLES[reason](stage)
    # The example kills its server, which loses the last moment of the log.
    with stage.ample.client() as api:
        return api.get("/v1/me", headers={"Operator-Simulate": reason})


def look_for(data: Path, request_id: str, tries: int = 20) -> dict[str, Any] | None:
    for _ in range(tries):
        try:
            return as_operator(data, request_id)
        except Failure:  # it is not there yet
            time.sleep(0.05)
    return None


def test_a_success_has_passed_all_that_it_needed(api: httpx2.Client) -> None:
    made = api.post("/v1/users", json={"email": new_email()}, headers={"Idempotency-Key": "once"})
    found = explained(api, made.headers["x-request-id"])
    assert {name for name, passed in states(found).items() if not passed} == {
        "resource",
        "precondition",
    }
    assert (found["detail"], found["diff"], found["doc_url"]) == ("none", None, None)
    got = explained(api, api.get("/livez").headers["x-request-id"])
    assert states(got)["token"] is None


def test_what_is_not_known_of_a_defect_is_not_claimed(stage: Stage) -> None:
    query(stage.strained.data, "DROP TABLE IF EXISTS messages")
    with stage.strained.client(mint(stage.strained)) as api:
        refused = api.get(f"/v1/messages/{missing_id('msg_')}")
        found = explained(api, failed(refused))
    assert states(found)["work"] is False
    assert [name for name, passed in states(found).items() if passed] == [
        "http",
        "capacity",
        "path",
        "method",
        "token",
    ]


# --- tries, difference ---


def test_the_tries_of_an_idempotency_key_are_in_their_order(api: httpx2.Client) -> None:
    headers = {"Idempotency-Key": new_email()}
    user = {"email": new_email()}
    first = api.post("/v1/users", json={"email": "none"}, headers=headers)
    time.sleep(0.25)
    second = api.post("/v1/users", json=user, headers=headers | {"X-Operator-Retry-Count": "1"})
    third = api.post("/v1/users", json=user, headers=headers)
    fourth = api.post("/v1/users", json={"email": new_email()}, headers=headers)
    assert [each.status_code for each in (first, second, third, fourth)] == [422, 201, 201, 422]
    eventually(lambda: len(explained(api, failed(first))["tries"]) == 4)
    tries = explained(api, failed(first))["tries"]
    assert [(each["status"], each["reason"]) for each in tries] == [
        (422, "validation_failed"),
        (201, None),
        (201, None),
        (422, "idempotency_key_reused"),
    ]
    assert [each["retry_count"] for each in tries] == [None, 1, None, None]
    assert [each["same_body"] for each in tries] == [True, False, False, False]
    assert tries[0]["gap_ms"] is None
    assert 200 <= tries[1]["gap_ms"] < 2000
    last = explained(api, failed(fourth))
    assert [each["same_body"] for each in last["tries"]] == [False, False, False, True]
    assert states(last)["fields"] is True
    assert states(last)["idempotency"] is False


def test_a_replayed_refusal_says_whose_answer_it_is(api: httpx2.Client) -> None:
    headers, path = {"Idempotency-Key": new_email()}, f"/v1/users/{missing_id('usr_')}"
    first = api.delete(path, headers=headers)
    second = api.delete(path, headers=headers)
    assert second.headers["idempotent-replayed"] == "true"
    eventually(lambda: len(explained(api, failed(first))["tries"]) == 2)
    found = explained(api, explained(api, failed(first))["tries"][1]["id"])
    assert found["replay_of"] == failed(first)
    assert (found["reason"], found["message"]) == (
        "resource_not_found",
        first.json()["error"]["message"],
    )
    assert states(found)["resource"] is False


def test_the_difference_from_the_last_success(server: Server) -> None:
    with server.client(mint(server)) as api:
        good = {"email": new_email(), "name": "Ada", "tags": ["vip"], "phone": "+14155550123"}
        made = api.post("/v1/users", json=good, headers={"X-Trace": "a"})
        bad = {"emial": new_email(), "name": 5, "tags": ["vip"], "phone": ""}
        refused = api.post("/v1/users?dry=1", json=bad, headers={"User-Agent": "mine/2"})
        found = explained(api, failed(refused))
        later = api.post("/v1/users", json={**good, "email": new_email()})
        assert later.status_code == 201
    diff = found["diff"]
    assert diff["request_id"] == made.headers["x-request-id"]
    assert parts(diff["added"]) == {
        ("body", "#/emial", "email"),
        ("query", "#/dry", "digits"),
    }
    assert parts(diff["missing"]) == {
        ("body", "#/email", "email"),
        ("header", "#/x-trace", "string"),
    }
    changed = {each["pointer"]: (each["before"], each["now"]) for each in diff["changed"]}
    assert changed["#/name"] == ("string", "number")
    assert changed["#/phone"] == ("phone", "empty string")
    assert changed["#/user-agent"][1] == "mine/2"
    assert set(changed) == {"#/name", "#/phone", "#/user-agent"}


def parts(listed: list[dict[str, str]]) -> set[tuple[str, str, str]]:
    return {(each["in"], each["pointer"], each["shape"]) for each in listed}


def test_another_token_s_success_or_another_operation_s_is_not_compared(server: Server) -> None:
    with server.client(mint(server)) as one, server.client(mint(server)) as other:
        create(one, "/v1/users", email=new_email())
        one.get("/v1/users")
        refused = other.post("/v1/users", json={})
        assert explained(other, failed(refused))["diff"] is None


# --- curl ---


CURLED: list[tuple[str, dict[str, Any], str]] = [
    ("POST", {"json": {"email": "none", "name": ""}}, "validation_failed"),
    (
        "POST",
        {
            "json": {"email": "a@example.com", "name": 'O\'Neil "$HOME" `x`'},
            "params": {"a b": "c&d"},
        },
        "unknown_parameter",
    ),
    ("POST", {"content": b'{"email": '}, "invalid_json"),
    ("POST", {"content": b""}, "empty_body"),
    (
        "POST",
        {"content": b"a=b", "headers": {"Content-Type": "text/plain"}},
        "unsupported_media_type",
    ),
    ("POST", {"json": {}, "headers": {"Accept": "text/html"}}, "not_acceptable"),
    ("POST", {"json": {}, "headers": {"Idempotency-Key": "two words"}}, "invalid_header"),
    ("DELETE", {}, "method_not_allowed"),
    ("GET", {"params": {"limit": "0"}}, "invalid_parameter"),
]


@pytest.mark.parametrize(("method", "sent", "reason"), CURLED, ids=[each[2] for each in CURLED])
def test_the_curl_runs_and_gets_the_same_reason(
    server: Server, tmp_path: Path, method: str, sent: dict[str, Any], reason: str
) -> None:
    token = mint(server)
    with server.client(token) as api:
        headers = {"Content-Type": "application/json", **sent.pop("headers", {})}
        response = api.request(method, "/v1/users", headers=headers, **sent)
        assert_error(response, CATALOGUE[reason].status, reason)
        command = explained(api, failed(response), reveal="true")["curl"]
    assert token not in command
    (tmp_path / "request-body").write_bytes(response.request.content)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "OPERATOR_API_KEY": token, "IDEMPOTENCY_KEY": "two words"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"(?im)^x-error-reason: (\w+)", done.stdout) == [reason], command


def test_the_curl_of_a_bad_token_takes_the_token_from_the_environment(server: Server) -> None:
    bad = "op_test_" + "x" * 49
    with server.client(bad) as api:
        response = api.get("/v1/me")
    found = look_for(server.data, failed(response))
    assert found is not None
    assert bad not in str(found)
    assert "$OPERATOR_API_KEY" in found["curl"]
    with server.client(None) as api:
        missing = look_for(server.data, failed(api.get("/v1/me")))
    assert missing is not None
    assert "Authorization" not in missing["curl"]


# --- who may see it ---


def test_bodies_need_their_scope_and_looks_are_on_record(server: Server) -> None:
    with server.client(mint(server)) as api:
        sent = {"email": "ada@", "name": "Ada Lovelace", "channel": "web"}
        request_id = failed(api.post("/v1/users", json=sent))
        plain = explained(api, request_id)
        assert (plain["revealed"], plain["reveals"]) == (None, [])
        assert "web" not in plain["curl"]
        shown = api.get(f"/v1/requests/{request_id}", params={"reveal": "true"})
        assert shown.json()["revealed"]["body"] == {
            "email": "<string 4>",
            "name": "<string 12>",
            "channel": "web",
        }
        (look,) = explained(api, request_id)["reveals"]
    assert look["request_id"] == shown.headers["x-request-id"]
    me = shown.json()["token_id"]
    assert look["token_id"] == me
    sql = "SELECT token_id, request_id FROM reveals WHERE id = :id"
    assert query(server.data, sql, id=look["request_id"]) == [(me, request_id)]

    with server.client(mint(server, scopes=["requests:read"])) as reader:
        assert explained(reader, request_id)["revealed"] is None
        refused = reader.get(f"/v1/requests/{request_id}", params={"reveal": "true"})
        error = assert_error(refused, 403, "insufficient_scope")
        assert error["metadata"]["missing"] == ["requests:reveal"]
        assert len(explained(reader, request_id)["reveals"]) == 1


@pytest.mark.parametrize("reveal", ["true", "false"])
def test_another_tenant_s_request_is_not_there(server: Server, reveal: str) -> None:
    with server.client(mint(server)) as owner:
        request_id = failed(owner.post("/v1/users", json={}))
        explained(owner, request_id)
    others = [mint(server, account="stranger"), mint(server, environment="live")]
    for token in others:
        with server.client(token) as other:
            path = f"/v1/requests/{request_id}"
            assert_error(other.get(path, params={"reveal": reveal}), 404, "resource_not_found")
    assert query(server.data, "SELECT * FROM reveals WHERE request_id = :id", id=request_id) == []


def test_a_request_can_be_explained_at_once(api: httpx2.Client) -> None:
    for _ in range(20):
        explained(api, failed(api.post("/v1/users", json={})))


# --- the operator's ---


def test_the_operator_is_told_the_same_and_has_to_say_why_bodies_are_shown(server: Server) -> None:
    with server.client(mint(server, account="told")) as api:
        make_records(api)
        request_id = failed(api.post("/v1/users", json={"emial": "ada@example.com"}))
        theirs = explained(api, request_id)
        ours = server.cli("explain", request_id)
        assert ours == {**theirs, "doc_url": ours["doc_url"], "curl": ours["curl"]}
        shown = server.cli("explain", request_id, "--reveal", "ticket 7")
        assert shown["revealed"]["body"] == {"emial": "<email 15>"}
        (look,) = explained(api, request_id)["reveals"]
    assert (look["token_id"], look["why"]) == ("operator", "ticket 7")


def test_the_page_says_it_all(server: Server) -> None:
    with server.client(mint(server)) as api:
        create(api, "/v1/users", email=new_email())
        request_id = failed(api.post("/v1/users", json={"emial": "ada@example.com"}))
        explained(api, request_id)
    command = ["-m", "operator_api.cli", "explain", request_id, "--data", str(server.data)]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, timeout=60
    )
    page = done.stdout
    kind = CATALOGUE["validation_failed"]
    for said in (
        "✗ 422 validation_failed  POST /v1/users",
        "✓ path         /v1/users",
        "✗ fields       Validation error: emial is not a known field.",
        "· work",
        kind.causes[0],
        kind.hint,
        "+ body #/emial  email",
        "- body #/email  email",
        "$OPERATOR_API_KEY",
        "/docs/errors/validation_failed",
        'fix: {"op": "move", "from": "/emial", "path": "/email"}',
    ):
        assert said in page, page


def test_a_request_that_is_not_there_is_told(server: Server) -> None:
    with pytest.raises(AssertionError, match="There is no request req_"):
        run_cli("explain", missing_id("req_"), "--data", str(server.data))
    with pytest.raises(AssertionError, match="not the id of a request"):
        run_cli("explain", "req_1", "--data", str(server.data))
    with pytest.raises(AssertionError, match="Say why the bodies are to be shown"):
        run_cli("explain", missing_id("req_"), "--data", str(server.data), "--reveal", " ")
