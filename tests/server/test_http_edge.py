"""What happens below the pipeline: nothing that is sent gets an answer outside the contract."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from operator_api.server.http import HEAD_BYTES
from tests.errors import assert_error
from tests.servers import Server, running
from tests.wire import Wire

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/users HTTP/1.1\r\n"
RECEIVE_SECONDS = 1


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that must not warn of anything that it is sent here."""
    with running(tmp_path_factory.mktemp("edge"), OPERATOR_LOG_LEVEL="warning") as server:
        said = list(server.errors)
        yield server
        assert server.stop() == 0
        assert server.errors == said


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that waits for a second only, likewise."""
    seconds = str(RECEIVE_SECONDS)
    with running(
        tmp_path_factory.mktemp("hasty"),
        OPERATOR_RECEIVE_SECONDS=seconds,
        OPERATOR_KEEP_ALIVE_SECONDS=seconds,
        OPERATOR_LOG_LEVEL="warning",
    ) as server:
        said = list(server.errors)
        yield server
        assert server.stop() == 0
        assert server.errors == said


def post(server: Server, *headers: bytes) -> bytes:
    """Return the head of a request to create a user."""
    lines = [
        b"POST /v1/users HTTP/1.1",
        b"Host: x",
        b"Authorization: Bearer " + server.token.encode(),
        b"Content-Type: application/json",
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def assert_refused(wire: Wire, status: int, reason: str) -> dict[str, Any]:
    """Require the contract's answer, and after it an end that is no reset."""
    response = wire.answer()
    error = assert_error(response, status, reason)
    assert response.headers["connection"] == "close"
    assert response.headers["date"]
    assert wire.closes()
    return error


# --- what is not HTTP -----------------------------------------------------------------------------

MALFORMED = {
    "not HTTP at all": b"hello\r\n\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown version": b"GET /livez HTTP/3.0\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "space in the URL": b"GET /v1/users/a b HTTP/1.1\r\n\r\n",
    "raw bytes in the URL": b"GET /v1/\xc3\xbc HTTP/1.1\r\n\r\n",
    "control character in the URL": b"GET /v1/\x01 HTTP/1.1\r\n\r\n",
    "URL without a path": b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
    "URL that cannot be parsed": b"GET http://[::1 HTTP/1.1\r\n\r\n",
    "header without a colon": b"GET /livez HTTP/1.1\r\nHost\r\n\r\n",
    "space in a header's name": b"GET /livez HTTP/1.1\r\nHo st: x\r\n\r\n",
    "NUL in a header's value": b"GET /livez HTTP/1.1\r\nA: \x00\r\n\r\n",
    "folded header": b"GET /livez HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "lengths in a list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "length beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunks not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_answered_under_the_contract(edge: Server, sent: bytes) -> None:
    with Wire(edge.address) as wire:
        error = assert_refused(wire.send(sent), 400, "malformed_request")
    assert error["outcome"] == "not_executed"


def test_each_refusal_has_an_id_of_its_own(edge: Server) -> None:
    ids = set()
    for _ in range(3):
        with Wire(edge.address) as wire:
            ids.add(assert_refused(wire.send(b"?"), 400, "malformed_request")["request_id"])
    assert len(ids) == 3


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nhello!\r\n", b"f" * 17 + b"\r\n"])
def test_a_bad_chunk_is_malformed(edge: Server, chunk: bytes) -> None:
    with Wire(edge.address) as wire:
        wire.send(post(edge, b"Transfer-Encoding: chunked"), chunk)
        assert_refused(wire, 400, "malformed_request")


def test_what_is_broken_behind_an_answer_only_ends_the_connection(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(b"POST /v1/users HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert_error(wire.answer(), 401, "missing_token")
        wire.send(b"zz\r\n")
        assert wire.closes()


def test_requests_before_a_malformed_one_are_answered_first(edge: Server) -> None:
    body = b'{"email": "before.malformed@example.com"}'
    create = post(edge, b"Content-Length: %d" % len(body)) + body
    with Wire(edge.address) as wire:
        wire.send(create + GET + b"GARBAGE\r\n\r\n")
        assert wire.answer().status_code == 201
        assert wire.answer().status_code == 200
        assert_refused(wire, 400, "malformed_request")


@pytest.mark.parametrize("cut", [b"GET /livez HT", post])
def test_a_request_that_ends_in_the_middle_is_malformed(edge: Server, cut: Any) -> None:
    sent = cut if isinstance(cut, bytes) else cut(edge, b"Content-Length: 9") + b"{"
    with Wire(edge.address) as wire:
        wire.send(sent).socket.shutdown(socket.SHUT_WR)
        assert_refused(wire, 400, "malformed_request")


def test_who_has_said_all_and_closes_its_side_is_answered(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(GET + GET).socket.shutdown(socket.SHUT_WR)
        assert [wire.answer().status_code for _ in range(2)] == [200, 200]
        assert wire.closes()


@pytest.mark.parametrize("target", [b"*", b"http://example.com", b"//livez", b"/livez#fragment"])
def test_rare_forms_of_a_url_are_answered_by_the_pipeline(edge: Server, target: bytes) -> None:
    with Wire(edge.address) as wire:
        response = wire.send(b"GET %b HTTP/1.1\r\nConnection: close\r\n\r\n" % target).answer()
        if target == b"/livez#fragment":
            assert response.status_code == 200
        else:
            assert_error(response, 404, "unknown_endpoint")
        assert wire.closes()


# --- how large a head may be ----------------------------------------------------------------------


def head_of(size: int) -> bytes:
    """Return a request whose line and headers take so many bytes."""
    start = b"GET /livez HTTP/1.1\r\nConnection: close\r\nA: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def test_a_head_just_below_the_limit_passes(edge: Server) -> None:
    head = head_of(HEAD_BYTES)
    assert len(head) == HEAD_BYTES
    for parts in ([head], [head[:100], head[100:50_000], head[50_000:]]):
        with Wire(edge.address) as wire:
            assert wire.send(*parts).answer().status_code == 200


@pytest.mark.parametrize("size", [HEAD_BYTES + 64, 300_000])
def test_a_head_above_the_limit_is_refused(edge: Server, size: int) -> None:
    head = head_of(size)
    for parts in ([head], [head[:100], head[100:50_000], head[50_000:]]):
        with Wire(edge.address) as wire:
            error = assert_refused(wire.send(*parts), 431, "headers_too_large")
            assert error["metadata"] == {"limit_bytes": HEAD_BYTES}


def test_a_header_that_is_sent_often_counts_each_time(edge: Server) -> None:
    lines = b"Ab:c\r\n" * (HEAD_BYTES // 6 + 100)
    with Wire(edge.address) as wire:
        answer = wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n").answer()
    assert_error(answer, 431, "headers_too_large")


def test_a_head_above_the_limit_is_refused_behind_another_request(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(GET + head_of(2 * HEAD_BYTES + 64))
        assert wire.answer().status_code == 200
        assert_refused(wire, 431, "headers_too_large")


def test_a_large_url_is_part_of_the_head(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(b"GET /livez?" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\n\r\n")
        assert_refused(wire, 431, "headers_too_large")


def test_a_large_body_is_not_part_of_the_head(edge: Server) -> None:
    body = b'{"name": "%b"}' % (b"a" * 200_000)
    request = post(edge, b"Content-Length: %d" % len(body)) + body
    with Wire(edge.address) as wire:
        wire.send(request[:40])
        time.sleep(0.1)  # so that the rest of the head comes in one read with the body
        wire.send(request[40:] + request + GET)
        for _ in range(2):
            assert_error(wire.answer(), 422, "validation_failed")
        assert wire.answer().status_code == 200


ENDLESS = {
    "header line": (b"GET /livez HTTP/1.1\r\nA: ", b"a" * 1000),
    "headers": (b"GET /livez HTTP/1.1\r\n", b"A: b\r\n" * 200),
    "URL": (b"GET /", b"a" * 1000),
    "empty lines": (b"", b"\r\n" * 500),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_refused(edge: Server, start: bytes, more: bytes) -> None:
    with Wire(edge.address) as wire:
        wire.send(start, *[more] * 1000)
        assert_refused(wire, 431, "headers_too_large")


@pytest.mark.parametrize(("start", "more"), [(b"0\r\n", b"A: b\r\n" * 200), (b"0;", b"a" * 1000)])
def test_trailers_and_chunk_extensions_that_never_end_are_refused(
    edge: Server, start: bytes, more: bytes
) -> None:
    with Wire(edge.address) as wire:
        wire.send(post(edge, b"Transfer-Encoding: chunked"), start, *[more] * 500)
        assert_refused(wire, 431, "headers_too_large")


def test_who_goes_on_sending_without_reading_is_cut_off(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(b"GET /livez HTTP/1.1\r\nA: ")
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            wire.send(*[b"a" * 1_000_000] * 200)


def test_a_trailer_is_not_a_header(edge: Server) -> None:
    trailer = b"Authorization: Bearer " + edge.token.encode()
    with Wire(edge.address) as wire:
        wire.send(
            b"POST /v1/users HTTP/1.1\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n%b\r\n\r\n" % trailer
        )
        assert_error(wire.answer(), 401, "missing_token")


# --- how long a request may take to arrive --------------------------------------------------------


def trickle(wire: Wire, start: bytes) -> float:
    """Send a byte now and then, until the server says something; return how long that took."""
    began = time.monotonic()
    wire.send(start)
    wire.socket.setblocking(False)
    try:
        while True:
            with suppress(BlockingIOError):
                wire.socket.recv(1, socket.MSG_PEEK)
                return time.monotonic() - began
            wire.send(b"a")
            time.sleep(0.05)
    finally:
        wire.socket.settimeout(15)


def test_a_head_that_trickles_in_is_given_up(hasty: Server) -> None:
    with Wire(hasty.address) as wire:
        took = trickle(wire, b"GET /livez HTTP/1.1\r\nA: ")
        error = assert_refused(wire, 408, "request_timeout")
    assert RECEIVE_SECONDS <= took < RECEIVE_SECONDS + 4
    assert error["metadata"] == {"seconds": RECEIVE_SECONDS}
    assert error["retry"]["retryable"]


def test_a_body_that_trickles_in_is_given_up(hasty: Server) -> None:
    with Wire(hasty.address) as wire:
        took = trickle(wire, post(hasty, b"Content-Length: 1000"))
        assert_refused(wire, 408, "request_timeout")
    assert RECEIVE_SECONDS <= took < RECEIVE_SECONDS + 4


def test_a_body_that_trickles_in_behind_its_answer_only_ends_the_connection(hasty: Server) -> None:
    with Wire(hasty.address) as wire:
        wire.send(b"POST /v1/users HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert_error(wire.answer(), 401, "missing_token")
        took = trickle(wire, b"{")
        assert wire.closes()
    assert took < RECEIVE_SECONDS + 4


def test_a_late_request_is_refused_after_those_before_it_are_answered(hasty: Server) -> None:
    with Wire(hasty.address) as wire:
        wire.send(GET + b"GET /livez HT")
        assert wire.answer().status_code == 200
        assert_refused(wire, 408, "request_timeout")


@pytest.mark.parametrize("sent", [b"", GET, b"\r\n"])
def test_a_connection_without_a_request_is_closed(hasty: Server, sent: bytes) -> None:
    with Wire(hasty.address) as wire:
        wire.send(sent)
        if sent == GET:
            assert wire.answer().status_code == 200
        assert wire.closes()


def test_who_does_not_read_the_answers_is_cut_off(hasty: Server) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\n\r\n"
    with Wire(hasty.address) as wire:
        size = len(wire.send(request).answer().content)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        times = 30_000_000 // size
        wire.send(request * times)
        time.sleep(RECEIVE_SECONDS + 1.5)
        with pytest.raises(ConnectionError):
            wire.send(GET, GET)


def test_slow_callers_do_not_keep_others_waiting(hasty: Server) -> None:
    slow = [Wire(hasty.address) for _ in range(200)]
    try:
        for wire in slow:
            wire.send(b"GET /livez HTTP/1.1\r\nA: ")
        began = time.monotonic()
        with hasty.client() as client:
            for _ in range(10):
                assert client.get("/v1/users").status_code == 200
        assert time.monotonic() - began < 2
        for wire in slow:
            assert_refused(wire, 408, "request_timeout")
    finally:
        for wire in slow:
            wire.socket.close()


# --- what is too large, in the body ---------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_who_is_still_sending_too_large_a_body_reads_the_answer(
    edge: Server, chunked: bool
) -> None:
    size, part = 5_000_000, b"a" * 50_000
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    if chunked:
        part = b"%x\r\n%b\r\n" % (len(part), part)
    with Wire(edge.address) as wire:
        wire.send(post(edge, framing), *[part] * 100)
        assert_refused(wire, 413, "body_too_large")


# --- what is HTTP, and rare -----------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(edge: Server) -> None:
    body = b'{"name": "no email"}'
    requests = [
        GET,
        b"GET /v1/users HTTP/1.1\r\n\r\n",
        post(edge, b"Content-Length: %d" % len(body)) + body,
        b"GET /nowhere HTTP/1.1\r\n\r\n",
    ]
    with Wire(edge.address) as wire:
        wire.send(b"".join(requests * 5))
        statuses = [wire.answer().status_code for _ in range(20)]
    assert statuses == [200, 401, 422, 404] * 5


def test_a_flood_of_pipelined_requests_is_answered(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(GET * 3000 + b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n" + GET)
        assert all(wire.answer().status_code == 200 for _ in range(3001))
        assert wire.closes(), "a request behind the last one was answered"


def test_who_asks_before_sending_a_body_is_told_to_go_on(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(post(edge, b"Content-Length: 2", b"Expect: 100-continue"))
        assert wire.answer().status_code == 100
        assert_error(wire.send(b"{}").answer(), 422, "validation_failed")
        assert wire.send(GET).answer().status_code == 200


def test_who_asks_before_sending_a_body_is_told_what_is_wrong(edge: Server) -> None:
    head = b"POST /v1/users HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with Wire(edge.address) as wire:
        response = wire.send(head).answer()
        assert_error(response, 401, "missing_token")
        # The body may come or not: only another connection can tell what comes next.
        assert response.headers["connection"] == "close"
        assert wire.closes()


def test_a_caller_of_http_1_0_is_answered(edge: Server) -> None:
    with Wire(edge.address) as wire:
        response = wire.send(b"GET /livez HTTP/1.0\r\n\r\n").answer()
        assert response.status_code == 200
        assert response.headers["connection"] == "close"
        assert wire.closes()


def test_the_answer_to_head_has_no_body(edge: Server) -> None:
    with Wire(edge.address) as wire:
        wire.send(b"HEAD /livez HTTP/1.1\r\n\r\n" + b"HEAD /nowhere HTTP/1.1\r\n\r\n" + GET)
        assert wire.answer(to_head=True).headers["content-length"] == "15"
        assert wire.answer(to_head=True).status_code == 404
        assert wire.answer().json() == {"status": "ok"}


UPGRADES = {
    "websocket": b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
}


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_upgrades_are_declined(edge: Server, upgrade: bytes) -> None:
    with Wire(edge.address) as wire:
        wire.send(b"GET /livez HTTP/1.1\r\n%b\r\n\r\n" % upgrade + GET)
        assert [wire.answer().status_code for _ in range(2)] == [200, 200]
        assert wire.send(GET).answer().status_code == 200


def test_a_flood_of_upgrades_is_declined(edge: Server) -> None:
    request = b"GET /livez HTTP/1.1\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n"
    with Wire(edge.address) as wire:
        wire.send(request * 2000)
        assert all(wire.answer().status_code == 200 for _ in range(2000))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_the_body_of_a_declined_upgrade_is_read(
    edge: Server, chunked: bool, together: bool
) -> None:
    body = b'{"nickname": "Ada"}'
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    head = post(edge, UPGRADES["HTTP/2"], framing)
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with Wire(edge.address) as wire:
        wire.send(*([head + body] if together else [head, body[:5], body[5:]]))
        error = assert_error(wire.answer(), 422, "validation_failed")
        assert {each["reason"] for each in error["errors"]} == {"required", "unknown_field"}
        assert wire.closes()
