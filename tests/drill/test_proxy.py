"""What a caller sees of each fault, and whether the upstream got the request."""

import asyncio
import gc
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import pytest

from operator_api.drill.certificates import CertificateKind, make_certificate
from operator_api.drill.faults import (
    CloseIdle,
    Drip,
    Empty,
    Fault,
    Html,
    Informational,
    NotHttp,
    Redirect,
    Refuse,
    Refused,
    ResetAfter,
    ResetBefore,
    ResetBeforeRequest,
    Skew,
    Stall,
    Status,
    Truncate,
    WrongJson,
)
from operator_api.drill.plans import Always, PerOperation, Share, Window
from operator_api.drill.proxy import FaultProxy
from operator_api.drill.traffic import Answer, Seen
from tests.errors import assert_error
from tests.faulty import (
    TOKEN,
    Answering,
    Answers,
    answering,
    assert_none_too_early,
    attempts_per_key,
    bodies_per_key,
    faulty,
    tokens_seen,
    waited,
)
from tests.servers import Server, eventually
from tests.wire import Wire

USER = {"email": "ada@example.com"}
ADA = b'{"email":"ada@example.com"}'
# Making one takes longer than a call.
TRUST = ssl.create_default_context()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Require that no thread, and no socket, outlives a test."""
    threads, descriptors = threading.active_count(), open_descriptors()
    yield
    gc.collect()  # what was not closed warns here, and a warning is an error
    eventually(lambda: threading.active_count() <= threads)
    assert open_descriptors() <= descriptors


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def create(url: str, email: str = "ada@example.com", key: str = "k") -> httpx2.Response:
    with httpx2.Client(timeout=5, verify=TRUST) as client:
        headers = {"Idempotency-Key": key}
        return client.post(f"{url}/v1/users", json={"email": email}, headers=headers)


def request(key: str = "k", method: str = "POST", body: bytes = ADA) -> bytes:
    head = f"{method} /v1/users HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def only(server: Answering) -> Seen:
    eventually(lambda: server.seen and server.seen[-1].finished)
    (seen,) = server.seen
    return seen


# --- lost requests and answers ---


@pytest.mark.parametrize(
    ("fault", "made"), [(ResetBeforeRequest(), 0), (ResetBefore(), 0), (ResetAfter(), 1)]
)
def test_resets(fault: Fault, made: int) -> None:
    with answering(PerOperation((fault,))) as server, Wire(server.proxy.address) as wire:
        with pytest.raises(ConnectionResetError):
            wire.send(request()).answer()
        seen = only(server)
        assert seen.fault == fault
        assert seen.forwarded is fault.reaches is bool(made)
        assert seen.upstream_status == (201 if made else None)
        assert (seen.answered, seen.answered_at) == (None, None)
        assert server.created_per_key() == ({"k": 1} if made else {})


def test_a_connection_is_reset_as_it_opens() -> None:
    with answering([ResetBeforeRequest(), None]) as server:
        # It may come so early that there is nothing to connect to any more.
        with pytest.raises(ConnectionResetError), Wire(server.proxy.address) as wire:
            wire.answer()
        assert create(server.url).status_code == 201
        assert [seen.connecting for seen in server.proxy.seen] == [True, False]
        assert [seen.connection for seen in server.proxy.seen] == [0, 1]


def test_an_http_client_sees_resets_as_its_own_errors() -> None:
    with answering([ResetBefore(), ResetAfter(), None]) as server:
        for _ in range(2):
            with pytest.raises(httpx2.ReadError):
                create(server.url)
        answer = create(server.url)
        assert answer.status_code == 201
        assert answer.headers["idempotent-replayed"] == "true"
        assert [seen.attempt for seen in server.seen] == [0, 1, 2]
        assert attempts_per_key(server.seen) == {"k": 3}
        assert server.created_per_key() == {"k": 1}


@pytest.mark.parametrize("fault", [Truncate(5), Truncate(100_000), Truncate(9, of="head")])
def test_truncated_answers(fault: Truncate) -> None:
    with answering([fault]) as server:
        with pytest.raises(httpx2.RemoteProtocolError):
            create(server.url)
        seen = only(server)
        assert (seen.upstream_status, seen.answered) == (201, None)
        assert server.created_per_key() == {"k": 1}


def test_a_truncated_answer_has_a_whole_head_and_an_orderly_end() -> None:
    with answering([Truncate(5)]) as server, Wire(server.proxy.address) as wire:
        with pytest.raises(AssertionError, match="in the middle of an answer"):
            wire.send(request()).answer()
        assert wire._received.startswith(b'{"id"')
        assert len(wire._received) == 5


def test_a_port_that_closes_and_opens_again() -> None:
    with answering([None, Refused(0.4)]) as server, httpx2.Client() as client:
        assert client.get(f"{server.url}/v1/me").status_code == 200
        with pytest.raises(httpx2.TransportError):
            client.get(f"{server.url}/v1/me")
        began = time.monotonic()
        while True:
            try:
                Wire(server.proxy.address).socket.close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        assert 0.3 < time.monotonic() - began < 3
        assert create(server.url).status_code == 201


def test_the_port_is_closed_and_opened_by_hand() -> None:
    with answering() as server, Wire(server.proxy.address) as idle:
        address = server.proxy.address
        assert idle.send(request()).answer().status_code == 201
        for _ in range(3):
            server.proxy.close_port()
            server.proxy.close_port()
            with pytest.raises(ConnectionRefusedError):
                Wire(address)
            server.proxy.open_port()
            server.proxy.open_port()
            assert create(server.url).headers["idempotent-replayed"] == "true"
        with pytest.raises(ConnectionResetError):
            idle.answer()
        assert server.proxy.address == address


def test_an_outage() -> None:
    with answering(Window(0.2, 0.5)) as server:
        assert create(server.url).status_code == 201
        began, failed = time.monotonic(), 0
        while time.monotonic() - began < 1.5:
            try:
                create(server.url)
            except httpx2.TransportError:
                failed += 1
            time.sleep(0.02)
        assert failed > 5
        assert create(server.url).status_code == 201


# --- answers by another ---


def test_refusals_keep_the_contract_and_their_connection() -> None:
    plan = [Refuse("rate_limited", retry_after=2), Refuse("internal_error"), None]
    with answering(plan) as server, Wire(server.proxy.address) as wire:
        error = assert_error(wire.send(request()).answer(), 429, "rate_limited")
        assert error["doc_url"] == f"{server.url}/docs/errors/rate_limited"
        assert_error(wire.send(request()).answer(), 500, "internal_error")
        assert wire.send(request()).answer().status_code == 201
        assert [seen.connection for seen in server.seen] == [0, 0, 0]
        assert [seen.forwarded for seen in server.seen] == [False, False, True]
        assert [seen.answered for seen in server.seen] == [429, 500, 201]


@pytest.mark.parametrize(
    ("fault", "status", "made"),
    [(Html(), 502, 0), (Html(200, commits=True), 200, 1), (Html(504, commits=True), 504, 1)],
)
def test_pages_of_a_proxy(fault: Html, status: int, made: int) -> None:
    with answering([fault]) as server:
        answer = create(server.url)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/html"
        assert answer.text.startswith("<html>")
        assert len(server.answers.log) == made


def test_any_status() -> None:
    with answering([Status(418, (("X-Tea", "yes"),), "pot"), Status(204, body="none")]) as server:
        answer = create(server.url)
        assert (answer.status_code, answer.text, answer.headers["x-tea"]) == (418, "pot", "yes")
        assert create(server.url).content == b""
        assert server.answers.log == []


def test_redirects_tell_where_and_show_who_followed() -> None:
    with answering() as elsewhere, answering([Redirect(f"{elsewhere.url}/v1/me")]) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(headers=headers, follow_redirects=True) as client:
            assert client.get(f"{server.url}/v1/me").history[0].status_code == 307
        assert tokens_seen(server.seen) == {TOKEN}
        assert tokens_seen(elsewhere.seen) == set()
        assert len(elsewhere.seen) == 1


@pytest.mark.parametrize("body", ['{"ok": true}', "[]", '{"id": "us', ""])
def test_a_success_that_is_none(body: str) -> None:
    with answering([WrongJson(body)]) as server:
        answer = create(server.url)
        assert (answer.status_code, answer.text) == (201, body)
        assert answer.headers["content-type"] == "application/json"
        assert len(server.answers.log) == 1


@pytest.mark.parametrize("status", [200, 204])
def test_a_success_without_a_body(status: int) -> None:
    with answering([Empty(status)]) as server:
        answer = create(server.url)
        assert (answer.status_code, answer.content) == (status, b"")
        assert "content-type" not in answer.headers
        assert ("content-length" in answer.headers) is (status == 200)
        assert len(server.answers.log) == 1


def test_what_is_no_http() -> None:
    with answering([NotHttp(), NotHttp(commits=True)]) as server:
        for made in (0, 1):
            with pytest.raises(httpx2.RemoteProtocolError):
                create(server.url)
            assert len(server.answers.log) == made


# --- late and unusual answers ---


@pytest.mark.parametrize("at", ["before", "after", "in_body"])
def test_stalls_that_end(at: str) -> None:
    with answering([Stall(0.3, at)]) as server:  # type: ignore[arg-type] # the parameters are such literals
        began = time.monotonic()
        assert create(server.url).json()["email"] == "ada@example.com"
        assert time.monotonic() - began >= 0.3


def test_a_stall_instead_of_an_answer() -> None:
    with answering([Stall(0.2, "instead")]) as server, Wire(server.proxy.address) as wire:
        assert wire.send(request()).closes()
        assert not only(server).forwarded


def test_a_request_that_is_held_back_arrives_after_its_caller_has_gone() -> None:
    with answering([Stall(0.3, "before"), None]) as server:
        with Wire(server.proxy.address) as wire:
            wire.send(request())
            eventually(lambda: server.seen)
        assert create(server.url, "b@b.cd", "other").status_code == 201
        eventually(lambda: server.seen[0].finished)
        assert [key for key, _ in server.answers.log] == ["other", "k"]
        assert server.seen[0].upstream_status == 201
        assert server.seen[0].answered is None


def test_stop_waits_for_nobody() -> None:
    with answering(Always(Stall(1_000))) as server:
        wires = [Wire(server.proxy.address).send(request(str(n), body=b"{}")) for n in range(5)]
        eventually(lambda: len(server.seen) == 5)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    for wire in wires:
        wire.socket.close()


@pytest.mark.parametrize("head", [False, True])
def test_drips(head: bool) -> None:
    with answering([Drip(size=40, every=0.02, head=head)]) as server:
        began = time.monotonic()
        assert create(server.url).json()["email"] == "ada@example.com"
        assert time.monotonic() - began > (0.15 if head else 0.06)
        assert only(server).answered == 201


def test_a_kept_connection_that_closes_after_its_answer() -> None:
    with answering([CloseIdle()]) as server, Wire(server.proxy.address) as wire:
        answer = wire.send(request()).answer()
        assert answer.status_code == 201
        assert "connection" not in answer.headers
        assert wire.closes()


def test_a_kept_connection_that_closes_at_the_next_request() -> None:
    with answering([CloseIdle("next_request"), None]) as server:
        with Wire(server.proxy.address) as wire:
            assert wire.send(request()).answer().status_code == 201
            assert wire.send(request("other", body=b"")).closes()
        assert create(server.url).headers["idempotent-replayed"] == "true"
        assert [seen.forwarded for seen in server.seen] == [True, False, True]
        assert [seen.answered for seen in server.seen] == [201, None, 201]


def test_interim_answers() -> None:
    with answering([Informational(103, 2)]) as server, Wire(server.proxy.address) as wire:
        wire.send(request())
        heads = [wire._until(b"\r\n\r\n") for _ in range(2)]
        assert all(head.startswith(b"HTTP/1.1 103 ") for head in heads)
        assert wire.answer().status_code == 201


@pytest.mark.parametrize("fault", [None, Refuse("overloaded", retry_after=7, as_date=True)])
def test_a_clock_that_is_off(fault: Fault | None) -> None:
    with answering([Skew(-3600, fault)]) as server:
        answer = create(server.url)
        date = parsedate_to_datetime(answer.headers["date"])
        assert abs(date.timestamp() - (time.time() - 3600)) < 5
        if fault is not None:
            after = parsedate_to_datetime(answer.headers["retry-after"])
            assert (after - date).total_seconds() == 7


# --- HTTP itself ---


def test_keep_alive_and_its_end() -> None:
    with answering() as server, Wire(server.proxy.address) as wire:
        for number in range(3):
            email = b'{"email": "%d@b.cd"}' % number
            assert wire.send(request(str(number), body=email)).answer().status_code == 201
        last = b"GET /v1/me HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        assert wire.send(last).answer().status_code == 200
        assert wire.closes()
        assert server.proxy.accepted == 1
        eventually(lambda: server.proxy.open_connections == 0)


def test_requests_in_one_packet_in_pieces_and_in_chunks() -> None:
    with answering() as server, Wire(server.proxy.address) as wire:
        wire.send(request() + request())
        assert [wire.answer().status_code for _ in range(2)] == [201, 201]
        wire.send(*(bytes([each]) for each in request()))
        assert wire.answer().status_code == 201
        chunked = b"POST /v1/users HTTP/1.1\r\nHost: h\r\nIdempotency-Key: c\r\n"
        wire.send(chunked, b"Transfer-Encoding: chunked\r\n\r\n", b'3\r\n{"e\r\n')
        assert wire.send(b'15\r\nmail": "c@example.c"}\r\n0\r\n\r\n').answer().status_code == 201
        assert server.seen[-1].body == b'{"email": "c@example.c"}'


def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    with answering() as server, Wire(server.proxy.address) as wire:
        wire.send(request()[: -len(ADA) - 2], b"Expect: 100-continue\r\n\r\n")
        assert wire.answer().status_code == 100
        assert wire.send(ADA).answer().status_code == 201


def test_what_is_no_http_is_hung_up_on() -> None:
    with answering() as server, Wire(server.proxy.address) as wire:
        assert wire.send(b"HELO there\r\n\r\n").closes()
        assert server.seen == ()


def test_an_answer_to_head_has_no_body() -> None:
    with answering([Refuse("overloaded")]) as server, Wire(server.proxy.address) as wire:
        head = wire.send(request(method="HEAD", body=b"")).answer(to_head=True)
        assert head.status_code == 503
        assert int(head.headers["content-length"]) > 0
        assert wire.send(request()).answer().status_code == 201


# --- the record ---


def test_what_was_seen() -> None:
    with answering() as server:
        before = time.monotonic()
        with httpx2.Client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            client.post(f"{server.url}/v1/users?x=1", json=USER, headers={"X-Odd": "Y"})
        seen = only(server)
        assert before < seen.at <= (seen.answered_at or 0) < time.monotonic()
        assert (seen.method, seen.path) == ("POST", "/v1/users?x=1")
        assert (seen.header("X-ODD"), seen.token, seen.key) == ("Y", TOKEN, None)
        assert json.loads(seen.body) == USER
        assert (seen.connection, seen.operation, seen.attempt) == (0, 0, 0)
        assert TOKEN not in repr(seen)


def test_attempts_without_a_key_are_told_by_their_header() -> None:
    with answering() as server, httpx2.Client() as client:
        for count in ("0", "2", "x"):
            client.get(f"{server.url}/v1/me", headers={"X-Operator-Retry-Count": count})
        client.get(f"{server.url}/v1/me")
        assert [seen.attempt for seen in server.seen] == [0, 2, 0, 0]
        assert [seen.operation for seen in server.seen] == [0, 1, 2, 3]


@pytest.mark.parametrize("as_date", [False, True])
def test_retries_that_come_too_early_are_found(as_date: bool) -> None:
    plan = [Skew(900, Refuse("overloaded", retry_after=1, as_date=as_date)), None]
    with answering(plan) as server:
        create(server.url)
        create(server.url)
        with pytest.raises(AssertionError, match="asked to wait"):
            assert_none_too_early(server.seen)
        ((asked, passed),) = waited(server.seen)
        assert asked == 1
        assert 0 < passed < 1
        server.proxy.use(plan)
        create(server.url)
        time.sleep(1.01)
        create(server.url)
        assert_none_too_early(server.seen[2:])


def test_a_plan_can_be_changed() -> None:
    with answering(Always(Html())) as server:
        assert create(server.url).status_code == 502
        server.proxy.use([Refuse("overloaded")])
        assert [create(server.url).status_code for _ in range(2)] == [503, 201]


# --- upstreams ---


def test_before_a_real_server(server: Server) -> None:
    plan = PerOperation((ResetAfter(), Truncate(4)))
    with faulty(plan, server) as proxy, httpx2.Client(base_url=proxy.url) as client:
        headers = {"Authorization": f"Bearer {server.token}", "Idempotency-Key": "drill-1"}
        with pytest.raises(httpx2.ReadError):
            client.post("/v1/users", json={"email": "drill@example.com"}, headers=headers)
        with pytest.raises(httpx2.RemoteProtocolError):
            client.post("/v1/users", json={"email": "drill@example.com"}, headers=headers)
        answer = client.post("/v1/users", json={"email": "drill@example.com"}, headers=headers)
        assert answer.status_code == 201
        assert answer.headers["idempotent-replayed"] == "true"
        proxy.use([])
        head = client.head(f"/v1/users/{answer.json()['id']}", headers=headers)
        assert int(head.headers["content-length"]) == len(answer.content)
        assert_error(client.get("/v1/nothing", headers=headers), 404, "unknown_endpoint")
        assert [seen.upstream_status for seen in proxy.seen] == [201, 201, 201, 200, 404]


def test_an_upstream_that_is_gone_is_a_reset() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with FaultProxy(upstream=nobody.getsockname()) as proxy, pytest.raises(httpx2.ReadError):
            create(proxy.url)
        assert not proxy.seen[0].forwarded


def test_an_upstream_that_breaks_off_is_a_reset() -> None:
    with (
        answering(Always(ResetAfter())) as behind,
        FaultProxy(upstream=behind.proxy.address) as proxy,
    ):
        with pytest.raises(httpx2.ReadError):
            create(proxy.url)
        eventually(lambda: proxy.seen[0].finished)
        assert proxy.seen[0].forwarded
        assert proxy.seen[0].upstream_status is None


def test_answers_that_raise_are_not_lost() -> None:
    def broken(_seen: Seen) -> Answer:
        raise LookupError("a defect of the test")

    proxy = FaultProxy(upstream=broken).start()
    with pytest.raises(httpx2.RemoteProtocolError):
        create(proxy.url)
    with pytest.raises(RuntimeError, match="broke") as raised:
        proxy.stop()
    assert isinstance(raised.value.__cause__, LookupError)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            FaultProxy(port=taken.getsockname()[1]).start()


def test_answers_from_memory_keep_the_contract() -> None:
    answers = Answers(tokens={TOKEN})
    with answering(answers=answers) as server:
        with httpx2.Client(base_url=server.url) as client:
            assert_error(client.get("/v1/me"), 401, "missing_token")
            client.headers["Authorization"] = f"Bearer {TOKEN}x"
            assert_error(client.get("/v1/me"), 401, "invalid_token")
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            made = client.post("/v1/users", json=USER, headers={"Idempotency-Key": "k"}).json()
            assert client.get(f"/v1/users/{made['id']}").json() == made
            assert client.get("/v1/users").json()["data"] == [made]
            assert_error(client.post("/v1/users", json=USER), 409, "already_exists")
            assert_error(client.post("/v1/users", json={}), 422, "validation_failed")
            other = client.post("/v1/users", json={}, headers={"Idempotency-Key": "k"})
            assert_error(other, 422, "idempotency_key_reused")
            assert_error(client.get("/v1/users/usr_0"), 404, "resource_not_found")
            about = {"user_id": made["id"], "channel": "web"}
            conversation = client.post("/v1/conversations", json=about).json()
            said = {"conversation_id": conversation["id"], "message": "Hello!", "type": "user"}
            assert client.post("/v1/messages", json=said).json()["message"] == "Hello!"
        assert len(server.answers.log) == 3
        assert bodies_per_key(server.seen)["k"] == {ADA, b"{}"}


# --- TLS ---


def test_tls() -> None:
    certificate = make_certificate()
    with answering([None, ResetAfter(), None], certificate=certificate) as server:
        with httpx2.Client(verify=certificate.client_context(), base_url=server.url) as client:
            assert client.get("/v1/me").status_code == 200
            with pytest.raises(httpx2.TransportError):
                client.get("/v1/me")
            assert client.get("/v1/me").status_code == 200
        assert server.proxy.failed_handshakes == 0


@pytest.mark.parametrize(
    ("kind", "message"),
    [("wrong_name", "mismatch"), ("expired", "expired"), ("untrusted", "unable to get|signature")],
)
def test_certificates_that_must_be_refused(kind: CertificateKind, message: str) -> None:
    certificate = make_certificate(kind)
    with answering(certificate=certificate) as server:
        with httpx2.Client(verify=certificate.client_context(), base_url=server.url) as client:
            with pytest.raises(httpx2.ConnectError, match=message) as raised:
                client.get("/v1/me")
            cause: BaseException | None = raised.value
            while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
                cause = cause.__cause__ or cause.__context__
            assert cause is not None
        eventually(lambda: server.proxy.failed_handshakes == 1)
        assert server.seen == ()


def test_a_connection_that_is_reset_before_its_handshake() -> None:
    certificate = make_certificate()
    with (
        answering([ResetBeforeRequest()], certificate=certificate) as server,
        httpx2.Client(verify=certificate.client_context(), base_url=server.url) as client,
    ):
        with pytest.raises(httpx2.ConnectError):
            client.get("/v1/me")
        assert client.get("/v1/me").status_code == 200


def test_a_handshake_that_never_ends_does_not_keep_the_proxy() -> None:
    with answering(certificate=make_certificate()) as server:
        wire = Wire(server.proxy.address)
        eventually(lambda: server.proxy.accepted == 1)
    wire.socket.close()


# --- many at once ---


def test_fifty_connections_at_once() -> None:
    plan = Share(0.4, (ResetBefore(), ResetAfter(), Truncate(3), Html()), seed=3)

    def insist(number: int) -> int:
        for attempt in range(5):
            try:
                if create(server.url, f"{number}@b.cd", str(number)).status_code == 201:
                    return attempt
            except httpx2.TransportError:
                continue
        raise AssertionError(f"{number} was never answered")

    with answering(plan) as server:
        with ThreadPoolExecutor(50) as pool:
            attempts = list(pool.map(insist, range(150)))
        assert set(attempts) == {0, 1}
        assert 40 < sum(attempts) < 80
        assert set(server.created_per_key().values()) == {1}
        assert len(server.created_per_key()) == 150


async def test_from_an_event_loop() -> None:
    with answering(PerOperation((ResetBefore(),))) as server:
        async with httpx2.AsyncClient(base_url=server.url) as client:

            async def insist(number: int) -> int:
                headers = {"Idempotency-Key": str(number)}
                body = {"email": f"{number}@b.cd"}
                with pytest.raises(httpx2.ReadError):
                    await client.post("/v1/users", json=body, headers=headers)
                return (await client.post("/v1/users", json=body, headers=headers)).status_code

            assert await asyncio.gather(*map(insist, range(50))) == [201] * 50


def test_from_another_process() -> None:
    program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1] + '/v1/me').status)"
    with answering() as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url], capture_output=True, check=True, timeout=30
        )
        assert done.stdout.strip() == b"200"
