"""Each reason of the catalogue can be provoked, and the first check that fails answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

import httpx2
import pytest

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.server.routing import Router
from tests.calls import create, mint, missing_id, new_email
from tests.errors import assert_error
from tests.examples import EXAMPLES, STRAIN, Stage
from tests.servers import Server, running


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("examples")
    with running(folder / "strained", **STRAIN) as strained:
        yield Stage(server, strained, folder)


# --- examples ---


def test_each_reason_has_an_example() -> None:
    assert list(EXAMPLES) == list(CATALOGUE)


# What is found before there is an operation, or is no answer to one.
OF_NO_OPERATION = {
    "unknown_endpoint",
    "method_not_allowed",
    "malformed_request",
    "request_timeout",
    "headers_too_large",
}


@pytest.mark.parametrize("reason", EXAMPLES)
def test_each_example_gets_its_reason(stage: Stage, reason: str) -> None:
    kind = CATALOGUE[reason]
    response = EXAMPLES[reason](stage)
    answered = response.headers["x-error-reason"]
    error = assert_error(response, CATALOGUE[answered].status, answered)
    if kind.of_field:
        assert reason in {each["reason"] for each in error["errors"]}
        assert answered in {"validation_failed", "invalid_parameter"}
    else:
        assert answered == reason
        assert variables_of(kind.message) <= set(error["metadata"])
        assert error["outcome"] == kind.outcome == "not_executed"
        assert error["retry"]["action"] == kind.action
    if answered not in OF_NO_OPERATION:
        assert CATALOGUE[answered] in operation_of(response.request).errors


def operation_of(request: httpx2.Request) -> Operation:
    found = Router(OPERATIONS).find(request.url.path.split("/")[1:])
    assert found is not None
    return found[0].operations[request.method]


def variables_of(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


# --- the order of the checks ---


@dataclass
class Request:
    """A request that is wrong in every way, until one after the other is mended."""

    path: str = "/v1/userz/{id}"
    method: str = "POST"
    token: str | None = None
    accept: str = "text/html"
    content_type: str = "text/plain"
    key: str = "two words"
    query: str = "?nope=1"
    body: bytes = b"[" * (1024 * 1024 + 1)
    user_id: str = field(default_factory=lambda: missing_id("usr_"))
    if_match: str = '"an-older-one"'

    def send(self, server: Server) -> httpx2.Response:
        headers = {
            "Accept": self.accept,
            "Content-Type": self.content_type,
            "Idempotency-Key": self.key,
            "If-Match": self.if_match,
        }
        path = self.path.format(id=self.user_id) + self.query
        with server.client(self.token) as client:
            return client.request(self.method, path, content=self.body, headers=headers)


# What answers, and the change that mends it: each request below has all that follows still wrong.
ORDER: list[tuple[str, str]] = [
    ("unknown_endpoint", "path"),
    ("method_not_allowed", "method"),
    ("missing_token", "token"),
    ("rate_limited", "token"),
    ("insufficient_scope", "token"),
    ("not_acceptable", "accept"),
    ("body_too_large", "body"),
    ("unsupported_media_type", "content_type"),
    ("invalid_header", "key"),
    ("unknown_parameter", "query"),
    ("invalid_json", "body"),
    ("validation_failed", "body"),
    ("resource_not_found", "user_id"),
    ("precondition_failed", "if_match"),
    ("already_exists", "body"),
]


@pytest.fixture(scope="module")
def mended(stage: Stage) -> Mapping[str, Any]:
    """Return the values that mend, in the order in which they are needed."""
    server = stage.strained
    spent, unscoped, good = (
        mint(server, scopes=scopes) for scopes in (["tags:read"], ["tags:read"], ["users:write"])
    )
    with server.client(spent) as client:
        while client.get("/v1/me").status_code == 200:
            pass
    taken = new_email()
    with server.client(mint(server)) as admin:
        create(admin, "/v1/users", email=taken)
        user = create(admin, "/v1/users", email=new_email())
    email = f'{{"email": "{taken}"}}'
    return {
        "path": ["/v1/users/{id}"],
        "method": ["PATCH"],
        "token": [spent, unscoped, good],
        "accept": ["application/json"],
        "content_type": ["application/json"],
        "key": [new_email()],
        "query": [""],
        "body": [b"{", b'{"email": 1}', email.encode(), b"{}"],
        "user_id": [user["id"]],
        "if_match": ["*"],
    }


@pytest.mark.parametrize("mends", range(len(ORDER) + 1), ids=[*(each for each, _ in ORDER), "200"])
def test_the_first_check_that_fails_answers(
    stage: Stage, mended: Mapping[str, Any], mends: int
) -> None:
    request = Request()
    left = {name: iter(values) for name, values in mended.items()}
    for _, name in ORDER[:mends]:
        setattr(request, name, next(left[name]))
    # The key has its answer once a request got as far as the stored state.
    request.key += str(mends) if mends > ORDER.index(("invalid_header", "key")) else ""
    response = request.send(stage.strained)
    if mends < len(ORDER):
        reason, _ = ORDER[mends]
        assert_error(response, CATALOGUE[reason].status, reason)
    else:
        assert response.status_code == 200
