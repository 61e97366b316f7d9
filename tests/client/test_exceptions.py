"""What the client raises: the class by status, what it tells, and that it gives no secret away."""

import copy
import inspect
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.client import errors
from operator_api.client.answers import InvalidAnswer
from operator_api.client.call import Call
from operator_api.client.configuration import Configuration
from operator_api.client.core import prepare
from operator_api.client.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    OperatorError,
    OutboxError,
    RequestValidationError,
    error_class,
)
from operator_api.client.policy import Kind as FailureKind
from operator_api.client.responses import RawResponse, Response
from operator_api.client.transport import KINDS, failure_of
from operator_api.contract.errors import CATALOGUE, FieldError
from operator_api.contract.headers import REQUEST_ID
from operator_api.drill.faults import (
    Drip,
    Fault,
    Html,
    NotHttp,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Stall,
    Status,
    Truncate,
    WrongJson,
)
from operator_api.drill.plans import Always
from tests.client.both import BOTH, Kind, at_once, create, me
from tests.faulty import Answers, answering

ANSWERED = sorted(kind.reason for kind in CATALOGUE.values() if not kind.of_field)
CLASSES = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, OperatorError)
]


# --- of an answer ---


@BOTH
@pytest.mark.parametrize("reason", ANSWERED)
async def test_an_error_of_the_server_tells_all_that_its_answer_says(
    kind: Kind, reason: str
) -> None:
    row = CATALOGUE[reason]
    with answering(Always(Refuse(reason))) as server:
        async with kind.open(server.url, max_retries=0) as client:
            error = await client.fails(create)
        (seen,) = server.seen
    assert seen.answer is not None
    told = json.loads(seen.answer.body)["error"]
    assert isinstance(error, APIStatusError)
    assert type(error) is error_class(row.status)
    assert error.status_code == row.status
    for name in ("type", "reason", "hint", "doc_url", "metadata", "outcome", "request_id"):
        assert getattr(error, name) == told[name]
    message = told["message"].removeprefix("Validation error: ")
    about = f"({told['request_id']}, see {told['doc_url']})"
    assert str(error) == f"{row.status} {reason}: {message} {about}"
    assert error.idempotency_key == seen.key
    assert error.response.json() == {"error": told}
    assert error.attempts == 1


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (402, "APIStatusError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (412, "APIStatusError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (499, "APIStatusError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
        (599, "InternalServerError"),
    ],
)
def test_the_class_of_a_status(status: int, name: str) -> None:
    assert error_class(status).__name__ == name
    assert issubclass(error_class(status), APIStatusError)


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        Html(200, commits=True),
        WrongJson(),
        Status(200, (("Content-Type", "application/json"), (REQUEST_ID, "req_1")), "{}"),
        Status(502, ((REQUEST_ID, "req_1"),), "<html>"),
        Status(418, ((REQUEST_ID, "req_1"),), '{"error": "no"}'),
    ],
    ids=repr,
)
async def test_every_error_that_had_an_answer_has_its_request_id_in_its_text(
    kind: Kind, fault: Fault
) -> None:
    with answering(Always(fault)) as server:
        async with kind.open(server.url, max_retries=0) as client:
            error = await client.fails(create)
        (seen,) = server.seen
    assert seen.answer is not None
    assert error.request_id == seen.answer.header(REQUEST_ID)
    assert str(error.request_id) in str(error) or error.request_id is None


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "5",
        '"x"',
        '{"error": null}',
        '{"error": []}',
        '{"error": {"message": 5, "errors": 5, "metadata": [], "request_id": {}}}',
        '{"error": {"errors": [null, 5, {}, {"pointer": 1}]}}',
        "[" * 100_000,
        "\ufeff{}",
        "<html>",
    ],
    ids=lambda body: body[:20],
)
async def test_whatever_an_error_answers_it_is_raised_as_one(kind: Kind, body: str) -> None:
    with answering(Always(Status(400, body=body))) as server:
        async with kind.open(server.url) as client:
            error = await client.fails(create)
    assert str(error) == "400 without a reason: The answer is not one of the API's."
    assert isinstance(error, APIStatusError)
    assert (error.reason, error.errors, error.metadata, error.request_id) == (None, (), {}, None)


# --- kept, copied, sent elsewhere ---


def made(kind: type[OperatorError]) -> OperatorError:
    """Make an exception with all that it can have."""
    members: dict[str, Any] = {
        "operation": "users.create",
        "attempts": 3,
        "outcome": "unknown",
        "request_id": "req_1",
        "idempotency_key": "k",
        "retry_after": 1.5,
        "budget_exhausted": True,
    }
    response = Response(409, httpx2.Headers({REQUEST_ID: "req_1"}), b"secret", attempts=3)
    if issubclass(kind, APIStatusError):
        field = FieldError("body", "#/email", "email", "required", "Email is required.")
        more: dict[str, Any] = {
            "reason": "r",
            "type": "t",
            "hint": "h",
            "doc_url": "d",
            "metadata": {"a": 1},
        }
        return kind("text", response=response, errors=[field], **more, **members)
    if issubclass(kind, APIResponseValidationError):
        return kind("text", response=response, **members)
    if issubclass(kind, APIError):
        return kind("text", **members)
    if issubclass(kind, RequestValidationError):
        field = FieldError("body", "#/email", "email", "required", "Email is required.")
        return kind("text", operation="users.create", errors=[field])
    return kind("text")


@pytest.mark.parametrize("kind", CLASSES)
def test_each_can_be_pickled_and_copied_with_all_it_has(kind: type[OperatorError]) -> None:
    error = made(kind)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        pickled = pickle.dumps(error, protocol)
        assert b"secret" not in pickled
        restored = pickle.loads(pickled)  # noqa: S301 - our own
        assert_alike(restored, error, body=b"")
    for copied in (copy.copy(error), copy.deepcopy(error)):
        assert_alike(copied, error, body=b"secret")


def assert_alike(one: OperatorError, other: OperatorError, *, body: bytes) -> None:
    assert type(one) is type(other)
    assert (str(one), repr(one), one.args) == (str(other), repr(other), other.args)
    members, expected = dict(vars(one)), dict(vars(other))
    response, original = members.pop("response", None), expected.pop("response", None)
    assert members == expected
    if original is not None:
        assert response is not None
        assert response.content == body
        assert (response.status_code, response.attempts) == (409, 3)
        assert response.request_id == "req_1"


def test_what_the_specification_draws_is_what_there_is() -> None:
    assert issubclass(APITimeoutError, APIConnectionError)
    for kind in CLASSES:
        assert issubclass(kind, OperatorError)
    assert not issubclass(RequestValidationError, APIError)
    assert not issubclass(OutboxError, APIError)


def test_a_raw_response_is_pickled_as_what_it_is_without_its_body() -> None:
    headers = httpx2.Headers({REQUEST_ID: "req_1", "Set-Cookie": "session=secret"})
    raw: RawResponse[str] = RawResponse(Response(201, headers, b"secret"), lambda: "secret")
    pickled = pickle.dumps(raw)
    assert b"secret" not in pickled
    assert pickle.loads(pickled).request_id == "req_1"  # noqa: S301 - our own
    assert "secret" not in repr(raw)


# --- no secret ---

TOKEN = "op_test_" + "7Hq" * 16 + "Z"
PLANTED = {
    "token": TOKEN,
    "email": "grace.hopper@navy.example",
    "phone": "+14155550199",
    "card": "4242424242424242",
    "name": "Gracie Brewster",
    "header": "hdr-5ecret-8f2c",
    "query": "alan.turing@bletchley.example",
}


@pytest.fixture
def all_logs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    """Log all that anybody has to say, the libraries below as well."""
    monkeypatch.setenv("OPERATOR_LOG", "debug")
    ours = logging.getLogger("operator_api.client")
    handlers = [*ours.handlers]
    caplog.set_level(logging.DEBUG)
    for name in ("operator_api.client", "httpx2", "httpcore2", "h11", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield caplog
    for handler in {*ours.handlers} - {*handlers}:
        ours.removeHandler(handler)


ECHO = json.dumps({"error": {"message": f"Bad key {TOKEN}", "email": PLANTED["email"]}})
ECHOED_IN_HEADERS: list[Fault] = [
    Status(500, (("Content-Type", "application/json"), ("X-Echo", TOKEN)), ECHO),
    Status(201, (("Content-Type", "application/json"), ("Set-Cookie", f"a={TOKEN}")), ECHO),
    Redirect(f"http://elsewhere.example/?token={TOKEN}&email={PLANTED['email']}"),
]
LEAKS: list[Fault] = [
    *ECHOED_IN_HEADERS,
    Refuse("internal_error"),
    Refuse("already_exists"),
    Refuse("validation_failed"),
    Refuse("rate_limited", 0),
    Refuse("invalid_token"),
    Status(400, (("Content-Type", "application/json"),), ECHO),
    Status(201, (("Content-Type", "text/html"),), f"<p>{PLANTED['email']}</p>"),
    NotHttp(f"550 {PLANTED['email']} {TOKEN}\r\n"),
    ResetBefore(),
    ResetAfter(),
    Truncate(100),
    Truncate(40, of="head"),
    WrongJson(),
    Stall(60, "instead"),
    Drip(every=0.2),
]


def assert_nothing_planted(where: str, text: str) -> None:
    shown = {name for name, value in PLANTED.items() if value in text}
    shown |= {name for name, value in PLANTED.items() if value.replace("@", "%40") in text}
    assert not shown, f"{where} shows {shown}: {text[:2000]}"


@BOTH
@pytest.mark.parametrize("fault", LEAKS, ids=lambda fault: type(fault).__name__)
async def test_nothing_that_is_planted_is_shown(
    kind: Kind,
    fault: Fault,
    all_logs: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    file = tmp_path / "failures.jsonl"

    def plant(api: Any) -> Any:
        return api.users.create(
            email=PLANTED["email"],
            name=f"{PLANTED['name']} {PLANTED['card']}",
            phone=PLANTED["phone"],
            extra_headers={"X-Note": PLANTED["header"]},
        )

    def look(api: Any) -> Any:
        return api.users.list(email=PLANTED["query"])

    with answering(Always(fault)) as server:
        options: dict[str, Any] = {"max_retries": 1, "timeout": 0.3, "failure_log": file}
        async with kind.open(server.url, api_key=TOKEN, random=at_once, **options) as client:
            for ask in (plant, look):
                error = await client.fails(ask)
                assert_nothing_planted("str", str(error))
                assert_nothing_planted("repr", repr(error))
                assert_nothing_planted("members", repr(vars(error)))
                assert_nothing_planted("pickle", pickle.dumps(error).decode("latin-1"))
                assert_nothing_planted(
                    "traceback", "".join(traceback.format_exception(error, chain=True))
                )
            assert_nothing_planted("client", repr(client.api) + repr(vars(client.api)))
    assert all_logs.text
    # The library below logs the headers that come; the API's hold nothing of anybody's.
    foreign = fault in ECHOED_IN_HEADERS
    lines = [
        f"{record.name} {record.getMessage()} {record.exc_text}"
        for record in all_logs.records
        if not (foreign and "receive_response_headers" in record.getMessage())
    ]
    assert_nothing_planted("log", "\n".join(lines))
    out, err = capfd.readouterr()
    assert "operator_api.client" in err
    assert_nothing_planted("output", out + err)
    assert_nothing_planted("failure log", file.read_text())


def test_no_value_is_shown_by_what_a_call_is_made_of() -> None:
    call: Call[Any] = Call(
        "users.create",
        body={"email": PLANTED["email"]},
        options={"extra_headers": {"X-Note": PLANTED["header"]}},
    )
    look: Call[Any] = Call("users.list", params={"email": PLANTED["query"]})
    configuration = Configuration(
        httpx2.URL("http://h"), default_headers={"X-Note": PLANTED["header"]}
    )
    shown = repr(
        [call, look, configuration, prepare(call, configuration), prepare(look, configuration)]
    )
    assert_nothing_planted("repr", shown)


def test_a_refusal_before_sending_shows_no_value() -> None:
    configuration = Configuration(httpx2.URL("http://h"))
    body = {"email": TOKEN, "name": 5, "phone": PLANTED["card"], PLANTED["name"]: 1}
    with pytest.raises(RequestValidationError) as raised:
        prepare(Call("users.create", body=body), configuration)
    text = "".join(traceback.format_exception(raised.value)) + repr(vars(raised.value))
    for name in ("token", "card"):
        assert PLANTED[name] not in text


# --- the exceptions of the network ---


def test_each_exception_of_the_network_has_a_meaning() -> None:
    """Fails when httpx2 adds one: decide what it means for the request that met it."""
    network = {
        kind
        for kind in vars(httpx2).values()
        if inspect.isclass(kind) and issubclass(kind, httpx2.HTTPError)
    }
    assert set(KINDS) == network


def test_no_other_exception_of_httpx2_comes_from_sending() -> None:
    """Fails when httpx2 adds one: these are of URLs, cookies, and streams read twice."""
    others = {
        name
        for name, kind in vars(httpx2).items()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and not issubclass(kind, httpx2.HTTPError)
    }
    assert others == {
        "CookieConflict",
        "InvalidURL",
        "RequestNotRead",
        "ResponseNotRead",
        "StreamClosed",
        "StreamConsumed",
        "StreamError",
    }


NEVER_SENT = {
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_have_been_sent_is_not_called_never_sent(kind: type[httpx2.HTTPError]) -> None:
    error = kind.__new__(kind)
    expected = FailureKind.NEVER_SENT if kind in NEVER_SENT else FailureKind.BROKEN
    failure = failure_of(error)
    assert failure.kind is expected
    assert failure.timed_out is issubclass(kind, httpx2.TimeoutException)


@BOTH
@pytest.mark.parametrize("kind_of_error", KINDS)
async def test_each_is_raised_as_one_of_ours(
    kind: Kind, kind_of_error: type[httpx2.HTTPError]
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        if kind_of_error is httpx2.HTTPStatusError:
            answer = httpx2.Response(400, request=request)
            raise httpx2.HTTPStatusError("no", request=request, response=answer)
        raise kind_of_error("no")

    given = kind.http_client(refuse)
    async with kind.open("http://h", http_client=given, random=at_once) as client:
        error = await client.fails(me)
    assert type(error) in {APIConnectionError, APITimeoutError}
    assert isinstance(error.__cause__, kind_of_error)
    assert error.attempts == 5


def test_an_invalid_answer_is_not_for_callers() -> None:
    assert not issubclass(InvalidAnswer, OperatorError)
    assert Answers().stored == {}
