"""``operator-api call`` where it fails: errors told in full, and lists that end early."""

import json
import re
import signal
import subprocess
import time

import httpx2
import pytest

from operator_api.contract.errors import CATALOGUE
from operator_api.drill.faults import Html, Refuse, ResetAfter, Status
from operator_api.drill.plans import Always, InOrder, Plan
from tests.calls import (
    create,
    new_email,
)
from tests.faulty import answering, faulty
from tests.servers import Server
from tests.shell import PROGRAM, Shell, environment


@pytest.fixture(scope="module")
def shell(server: Server) -> Shell:
    return Shell(server.url, server.token)


# --- errors ---------------------------------------------------------------------------------------


def test_an_error_says_all_that_is_known_of_it(shell: Shell, api: httpx2.Client) -> None:
    user = create(api, "/v1/users", email=new_email())
    words = ("users.create", f"email={user['email']}")
    printed = shell.fails(1, *words)
    kind = CATALOGUE["already_exists"]
    assert printed.startswith("Error: 409 already_exists: ")
    assert re.search(r"Request id +req_[0-9a-f]{32}\n", printed)
    for part in (kind.hint, user["id"], f"{shell.url}/docs/errors/already_exists"):
        assert part in printed
    assert "Outcome     not_executed, nothing was changed" in printed
    assert "Try again?  no" in printed
    document = shell.error(1, *words)
    assert document["error"]["metadata"]["existing_id"] == user["id"]
    assert document["call"]["attempts"] == 1
    raw = shell.run(*words, "--raw")
    assert raw.returncode == 1
    assert raw.stdout.startswith("HTTP 409\n")
    assert raw.stderr.startswith("Error: 409 ")


def test_a_token_that_is_refused(server: Server) -> None:
    printed = Shell(server.url, "op_test_" + "0" * 49).fails(1, "me.get")
    assert printed.startswith("Error: 401 invalid_token: ")
    assert "use another one" in printed


def test_a_limit_says_when_to_try_again(server: Server) -> None:
    plan = Always(Refuse("rate_limited", retry_after=300))
    with faulty(plan, server) as proxy:
        limited = Shell(proxy.url, server.token)
        printed = limited.fails(1, "users.create", f"email={new_email()}")
        document = limited.error(1, "users.create", f"email={new_email()}")
    assert "Try again?  yes, later, after 300 s" in printed
    assert document["error"]["retry"]["retryable"] is True
    assert document["call"]["retry_after"] == 300


def test_no_server() -> None:
    nowhere = Shell("http://127.0.0.1:1", "op_test_" + "0" * 49)
    printed = nowhere.fails(1, "users.create", "email=a@example.com", "--max-retries", "0")
    assert "no connection to http://127.0.0.1:1" in printed
    assert "operator-api call service.live" in printed
    assert "Outcome     not_executed" in printed
    error = nowhere.error(1, "me.get", "--max-retries", "0")["error"]
    assert (error["code"], error["reason"]) == (None, "no_connection")
    assert error["retry"]["retryable"] is True


def test_a_write_of_unknown_outcome_says_how_to_find_out(server: Server) -> None:
    email = new_email()
    with faulty(Always(ResetAfter()), server) as proxy:
        lost = Shell(proxy.url, server.token)
        printed = lost.fails(1, "users.create", f"email={email}", "--max-retries", "1")
    assert "unknown, it is not known whether" in printed
    assert "Attempts    2" in printed
    assert "Try again?  only with the idempotency key above" in printed
    option = re.search(r"--idempotency-key \S+", printed)
    assert option is not None
    again = Shell(server.url, server.token)
    made = again.says("users.create", f"email={email}", *option[0].split())
    assert made["email"] == email, "the first answer, as it would have come"


@pytest.mark.parametrize(
    "plan",
    [
        Always(Html(502)),
        Always(Status(418, (("Content-Type", "text/plain"),), "\x1b[31mred")),
        Always(Status(400, (), '{"error": {"message": "\\u001b[31m", "errors": [5]}}')),
        Always(Html(200)),
    ],
    ids=["502", "418", "half an error", "a page for a success"],
)
def test_answers_of_others_are_told_as_such(plan: Plan) -> None:
    with answering(plan) as fake:
        strange = Shell(fake.url, "op_test_" + "0" * 49)
        printed = strange.fails(1, "me.get", "--max-retries", "0")
        error = strange.error(1, "me.get", "--max-retries", "0")["error"]
    assert "a proxy or another service gave it" in printed
    assert error["doc_url"] is None


# --- lists that end early -------------------------------------------------------------------------


@pytest.fixture
def crowd(api: httpx2.Client) -> tuple[str, list[str]]:
    """Return a tag, and the users that have it, newest first."""
    tag = f"crowd{time.time_ns()}"
    made = [create(api, "/v1/users", email=new_email(), tags=[tag])["id"] for _ in range(6)]
    return tag, made[::-1]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_list_that_fails_in_the_middle(
    server: Server, crowd: tuple[str, list[str]], as_json: bool
) -> None:
    tag, users = crowd
    words = ("users.list", f"tag={tag}", "limit=2", "--all", *(("--json",) if as_json else ()))
    with faulty(InOrder((None, None, Refuse("internal_error"))), server) as proxy:
        done = Shell(proxy.url, server.token).run(*words, "--max-retries", "0")
    assert done.returncode == 1
    printed = [user for user in users if user in done.stdout]
    assert printed == users[:4], "what came is printed"
    if as_json:
        document = json.loads(done.stderr)
        assert document["error"]["reason"] == "internal_error"
        assert document["call"]["items"] == 4
        cursor = f"cursor={document['call']['cursor']}"
    else:
        assert "4 items came before it failed" in done.stderr
        found = re.search(r"cursor=\S+", done.stderr)
        assert found is not None
        cursor = found[0]
    rest = Shell(server.url, server.token).run(*words, cursor)
    assert [user for user in users if user in rest.stdout] == users[4:]


def test_ctrl_c_keeps_what_came(server: Server, crowd: tuple[str, list[str]]) -> None:
    tag, users = crowd
    with faulty(InOrder((None,), then=Refuse("overloaded", retry_after=30)), server) as proxy:
        process = subprocess.Popen(
            [*PROGRAM, "users.list", f"tag={tag}", "limit=2", "--all", "--json"],
            env=environment(proxy.url, server.token),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        came = [process.stdout.readline() for _ in range(2)]
        until = time.monotonic() + 20
        while len(proxy.requests) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert [json.loads(line)["id"] for line in came] == users[:2]
    assert (rest, errors) == ("", "")
