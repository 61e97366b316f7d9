"""Answers that are not what they should be: redirects, certificates, pages, bombs."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.client import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    InternalServerError,
)
from operator_api.drill.certificates import Certificate, CertificateKind, make_certificate
from operator_api.drill.faults import CloseIdle, Html, Informational, Redirect, Status
from operator_api.drill.plans import Always
from operator_api.drill.proxy import FaultProxy
from operator_api.drill.traffic import Answer, Seen
from tests.client.both import BOTH, EMAIL, Kind, at_once, create, me
from tests.faulty import TOKEN, Answers, answering, attempts_per_key, tokens_seen
from tests.servers import eventually

pytestmark = BOTH
Trust = Callable[[Certificate], None]
KEEPS_METHOD = [307, 308]
FOR_READING = [301, 302, 303, 307, 308]


# --- redirects ---


@pytest.mark.parametrize("status", KEEPS_METHOD)
async def test_a_redirect_within_the_origin_is_followed(kind: Kind, status: int) -> None:
    with answering([Redirect("/v1/users?moved=1", status)]) as server:
        async with kind.open(server.url) as client:
            assert (await client.do(create)).email == EMAIL
            first, second = server.seen
            assert second.path == "/v1/users?moved=1"
            assert (first.key, first.body, first.token) == (second.key, second.body, second.token)
            assert list(server.created_per_key().values()) == [1]


@pytest.mark.parametrize("status", FOR_READING)
@pytest.mark.parametrize("absolute", [True, False])
async def test_what_reads_follows_each_kind_of_redirect(
    kind: Kind, status: int, absolute: bool
) -> None:
    with answering() as server:
        to = f"{server.url}/v1/me?moved=1" if absolute else "me?moved=1"
        server.proxy.use([Redirect(to, status)])
        async with kind.open(server.url) as client:
            await client.do(me)
            assert [seen.path for seen in server.seen] == ["/v1/me", "/v1/me?moved=1"]


@pytest.mark.parametrize("status", FOR_READING)
@pytest.mark.parametrize("ask", [create, me])
async def test_a_redirect_to_another_origin_is_not_followed_and_never_sees_the_token(
    kind: Kind, status: int, ask: Any
) -> None:
    with answering() as other, answering(Always(Redirect(f"{other.url}/v1/me", status))) as server:
        async with kind.open(server.url, random=at_once) as client:
            error = await client.fails(ask)
            assert isinstance(error, APIResponseValidationError)
            assert error.status_code == status
            assert error.attempts == len(server.seen) == 1
            assert "redirects" in str(error)
            assert other.proxy.accepted == 0
            assert tokens_seen(server.seen) == {TOKEN}


@pytest.mark.parametrize(
    "to", ["", "http://[", "//elsewhere.example/", "ftp://h/", "javascript:1", "http:/x", "\\\\h\\"]
)
async def test_a_redirect_to_nowhere_is_an_error(kind: Kind, to: str) -> None:
    with answering(Always(Redirect(to))) as server:
        async with kind.open(server.url, random=at_once) as client:
            assert isinstance(await client.fails(me), APIResponseValidationError)
            assert len(server.seen) <= 6


async def test_redirects_without_end_do_end(kind: Kind) -> None:
    with answering(Always(Redirect("/v1/me"))) as server:
        async with kind.open(server.url, random=at_once) as client:
            assert isinstance(await client.fails(me), APIResponseValidationError)
            assert len(server.seen) == 6  # five are followed, and what comes then is told


# --- certificates ---


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trust:
    """Let clients trust the authority of a certificate, as an administrator does."""

    def trust(certificate: Certificate) -> None:
        file = tmp_path / "authority.pem"
        file.write_bytes(certificate.authority)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))

    return trust


@pytest.mark.parametrize("fault", ["untrusted", "expired", "wrong_name"])
async def test_a_wrong_certificate_is_never_retried(
    kind: Kind, fault: CertificateKind, trusted: Trust
) -> None:
    certificate = make_certificate(fault)
    trusted(certificate)
    with answering(certificate=certificate) as server:
        async with kind.open(server.url) as client:
            for ask in (create, me):
                error = await client.fails(ask)
                assert type(error) is APIConnectionError
                assert (error.attempts, error.outcome) == (1, "not_executed")
                assert "certificate" in str(error)
        assert server.seen == ()
        eventually(lambda: server.proxy.failed_handshakes == 2)


async def test_an_unknown_authority_is_never_trusted_by_default(kind: Kind) -> None:
    with answering(certificate=make_certificate()) as server:
        async with kind.open(server.url) as client:
            error = await client.fails(me)
            assert isinstance(error.__cause__, httpx2.ConnectError)
            assert error.attempts == 1


async def test_a_good_certificate_is_accepted(kind: Kind, trusted: Trust) -> None:
    certificate = make_certificate()
    trusted(certificate)
    with answering(certificate=certificate) as server:
        async with kind.open(server.url) as client:
            assert (await client.do(create)).email == EMAIL


async def test_settings_of_tls_are_those_of_an_http_client_that_is_given(kind: Kind) -> None:
    certificate = make_certificate()
    context = certificate.client_context()
    with answering(certificate=certificate) as server:
        given: Any
        if kind.blocks:
            given = httpx2.Client(verify=context)
        else:
            given = httpx2.AsyncClient(verify=context)
        async with kind.open(server.url, http_client=given) as client:
            assert (await client.do(create)).email == EMAIL
        _ = given.close() if kind.blocks else await given.aclose()


# --- what is no answer of the API's ---


@pytest.mark.parametrize("commits", [True, False])
async def test_a_page_is_no_success_even_if_it_says_so(kind: Kind, commits: bool) -> None:
    with answering(Always(Html(200, commits=commits))) as server:
        async with kind.open(server.url, random=at_once) as client:
            error = await client.fails(create)
            assert isinstance(error, APIResponseValidationError)
            assert error.outcome == "unknown"
            assert (error.attempts, error.status_code) == (2, 200)
            assert "<html>" not in str(error)
            assert error.response.text.startswith("<html>")


async def test_a_page_of_a_proxy_is_an_error_of_its_status(kind: Kind) -> None:
    with answering(Always(Html(502))) as server:
        async with kind.open(server.url, random=at_once) as client:
            error = await client.fails(create)
            assert type(error) is InternalServerError
            assert str(error).startswith("502 without a reason")
            assert (error.reason, error.request_id) == (None, None)


def compressed(body: bytes, times: int = 1) -> Answer:
    head = (("Content-Type", "application/json"), ("Content-Encoding", ", ".join(["gzip"] * times)))
    for _ in range(times):
        body = gzip.compress(body)
    return Answer(200, head, body)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Lower the size that an answer may have."""
    most = 200_000
    monkeypatch.setattr("operator_api.client._sync.MAX_ANSWER_BYTES", most)
    monkeypatch.setattr("operator_api.client._async.MAX_ANSWER_BYTES", most)
    return most


@pytest.mark.parametrize("times", [1, 2])
async def test_a_bomb_does_not_fill_the_memory(kind: Kind, times: int, small: int) -> None:
    bomb = compressed(b" " * 20_000_000, times)
    with FaultProxy((), lambda _: bomb) as proxy:
        async with kind.open(proxy.url, random=at_once, max_retries=0) as client:
            error = await client.fails(me)
            assert isinstance(error, APIConnectionError)
            assert f"longer than {small} bytes" in str(error.__cause__)


async def test_an_answer_that_is_too_large_is_given_up(kind: Kind, small: int) -> None:
    large = Answer(200, (("Content-Type", "application/json"),), b" " * (small + 1))
    with FaultProxy((), lambda _: large) as proxy:
        async with kind.open(proxy.url, random=at_once) as client:
            assert isinstance(await client.fails(me), APIConnectionError)
            eventually(lambda: proxy.open_connections == 0)


async def test_an_answer_that_is_compressed_is_read(kind: Kind) -> None:
    answers = Answers()

    def compress(seen: Seen) -> Answer:
        answer = answers(seen)
        kept = tuple(each for each in answer.headers if each[0] != "Content-Encoding")
        headers = (*kept, ("Content-Encoding", "gzip"))
        return Answer(answer.status, headers, gzip.compress(answer.body))

    with FaultProxy((), compress) as proxy:
        async with kind.open(proxy.url) as client:
            assert (await client.do(create)).email == EMAIL


async def test_what_is_not_compressed_as_it_says_is_no_answer(kind: Kind) -> None:
    head = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    with FaultProxy((), lambda _: Answer(200, head, b"{}")) as proxy:
        async with kind.open(proxy.url, random=at_once) as client:
            error = await client.fails(me)
            assert isinstance(error, APIConnectionError)
            assert isinstance(error.__cause__, httpx2.DecodingError)


@pytest.mark.parametrize("charset", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_a_media_type_may_have_parameters_and_any_case(kind: Kind, charset: str) -> None:
    answers = Answers()

    def rename(seen: Seen) -> Answer:
        answer = answers(seen)
        kept = tuple(each for each in answer.headers if each[0] != "Content-Type")
        return Answer(answer.status, (*kept, ("Content-Type", charset)), answer.body)

    with FaultProxy((), rename) as proxy:
        async with kind.open(proxy.url) as client:
            assert (await client.do(create)).email == EMAIL


async def test_a_huge_number_of_errors_in_an_answer_is_read(kind: Kind) -> None:
    field = {"in": "body", "pointer": "#/x", "field": "x", "reason": "r", "message": "m"}
    told = {"type": "t", "reason": "r", "message": "m", "request_id": "req_1"}
    body = json.dumps({"error": {**told, "errors": [field] * 5000}})
    with answering([Status(422, (("Content-Type", "application/json"),), body)]) as server:
        async with kind.open(server.url) as client:
            error = await client.fails(create)
            assert isinstance(error, APIStatusError)
            assert len(error.errors) == 5000


# --- what is unusual, and right ---


async def test_interim_answers_are_passed_over(kind: Kind) -> None:
    with answering(Always(Informational(103, 3))) as server:
        async with kind.open(server.url) as client:
            await client.do(create)
            await client.do(me)
            assert len(server.seen) == 2


@pytest.mark.parametrize("at", ["after_answer", "next_request"])
async def test_connections_that_close_while_they_are_kept_are_no_failure(
    kind: Kind, at: Any
) -> None:
    with answering([CloseIdle(at), None, CloseIdle(at), None]) as server:
        async with kind.open(server.url, random=at_once) as client:
            for number in range(4):
                await client.do(lambda api, n=number: create(api, f"u{n}@example.com"))  # type: ignore[misc] # the default binds the number
            assert set(server.created_per_key().values()) == {1}
            assert max(attempts_per_key(server.seen).values()) <= 2


async def test_members_and_values_that_are_new_are_taken(kind: Kind) -> None:
    user: dict[str, Any] = {
        "id": "u-1",
        "name": None,
        "email": "a@b.c",
        "phone": None,
        "tags": [],
        "plan": {"a": 1},
    }
    times = dict.fromkeys(("created_at", "updated_at"), "2026-01-31T12:00:00Z")
    body = json.dumps({**user, **times})
    with answering([Status(200, (("Content-Type", "application/json"),), body)]) as server:
        async with kind.open(server.url) as client:
            assert (await client.do(lambda api: api.users.get("u-1"))).plan == {"a": 1}
