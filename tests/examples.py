"""Play the documented example of each reason; what those simulate is brought about for real."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx2

from operator_api.contract import examples
from operator_api.server.auth import mint as mint_secret
from tests.calls import mint, missing_id, new_email
from tests.servers import Server, running
from tests.stores import query, write_lock

STRAIN = {
    "OPERATOR_RATE_LIMIT": "20/60s",
    "OPERATOR_FAILED_AUTHENTICATION_LIMIT": "2/60s",
    "OPERATOR_REQUESTS_AT_ONCE": "2",
    "OPERATOR_BUSY_SECONDS": "1",
    "OPERATOR_IDEMPOTENCY_PATIENCE_SECONDS": "0.2",
    "OPERATOR_RECEIVE_SECONDS": "0.3",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers that the examples are played on: one without limits, one whose all are low."""

    ample: Server
    strained: Server
    folder: Path


Example = Callable[[Stage], httpx2.Response]


def played(example: examples.Example) -> Example:
    """Return what sends the requests of a documented example, and the last answer."""

    def play(stage: Stage) -> httpx2.Response:
        known = {examples.API_KEY: stage.ample.token, examples.NEW_EMAIL: new_email()}
        for request in example.requests:
            response = send(stage.ample, request, known)
            for name, member in request.keeps.items():
                known[name] = response.json()[member]
        return response

    return play


def send(server: Server, request: examples.Request, known: Mapping[str, str]) -> httpx2.Response:
    """Send one request of an example, with the values of its variables."""

    def filled(text: str) -> str:
        return Template(text).substitute(known)

    headers = {name: filled(str(value)) for name, value in request.headers.items()}
    body = request.body
    if isinstance(body, Mapping):
        body = filled(json.dumps(body)).encode()
    elif isinstance(body, examples.Repeated):
        body = str(body).encode()
    if request.content_type is not None:
        headers["Content-Type"] = request.content_type
    with server.client(known[request.bearer] if request.bearer else None) as client:
        return client.request(request.method, filled(request.path), content=body, headers=headers)


# --- a strained server ---


def first_other_than(status: int, send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Send again and again, until the answer is another one."""
    while (response := send()).status_code == status:
        time.sleep(0.01)
    return response


@contextmanager
def waiting_writes(server: Server, token: str, count: int, **headers: str) -> Iterator[None]:
    """Hold the store, as a backup would, with so many writes under way that get no further."""

    def write() -> None:
        with server.client(token) as client:
            client.post("/v1/users", json={"email": "w@example.com"}, headers=headers)

    with server.client(token) as client:
        client.get("/v1/me")  # the first request of an account makes its data key
    with ThreadPoolExecutor() as pool, write_lock(server.data):
        for _ in range(count):
            pool.submit(write)
        time.sleep(0.3)
        yield


def store_unavailable(stage: Stage) -> httpx2.Response:
    token = mint(stage.strained)
    with write_lock(stage.strained.data), stage.strained.client(token) as api:
        return api.post("/v1/users", json={"email": new_email()})


def overloaded(stage: Stage) -> httpx2.Response:
    token = mint(stage.strained)
    with waiting_writes(stage.strained, token, 2), stage.strained.client(token) as api:
        return first_other_than(200, lambda: api.get("/v1/users"))


def idempotency_in_progress(stage: Stage) -> httpx2.Response:
    token = mint(stage.strained)
    headers = {"Idempotency-Key": new_email()}
    with waiting_writes(stage.strained, token, 1, **headers), stage.strained.client(token) as api:
        return api.post("/v1/users", json={"email": "w@example.com"}, headers=headers)


def internal_error(stage: Stage) -> httpx2.Response:
    query(stage.strained.data, "DROP TABLE IF EXISTS messages")
    with stage.strained.client(mint(stage.strained)) as api:
        return api.get(f"/v1/messages/{missing_id('msg_')}")


def rate_limited(stage: Stage) -> httpx2.Response:
    with stage.strained.client(mint(stage.strained)) as api:
        return first_other_than(200, lambda: api.get("/v1/me"))


def too_many_failed_authentications(stage: Stage) -> httpx2.Response:
    with stage.strained.client(mint_secret("test")) as stranger:
        return first_other_than(401, lambda: stranger.get("/v1/me"))


def shutting_down(stage: Stage) -> httpx2.Response:
    with ExitStack() as stack:
        server = stack.enter_context(running(stage.folder / "stopping"))
        api = stack.enter_context(server.client())
        assert api.get("/readyz").status_code == 200  # the connection is there, and stays a moment
        stack.enter_context(waiting_writes(server, server.token, 1))
        server.process.send_signal(signal.SIGTERM)
        return first_other_than(200, lambda: api.get("/readyz"))


# --- what is not even a request ---


def raw(server: Server, sent: bytes) -> httpx2.Response:
    """Send bytes as they are, and read the answer."""
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def malformed_request(stage: Stage) -> httpx2.Response:
    return raw(stage.ample, b"GET /v1/me HTTP/1.1\r\nthis is no header\r\n\r\n")


def request_timeout(stage: Stage) -> httpx2.Response:
    return raw(stage.strained, b"GET /v1/me HTTP/1.1\r\nHost: ")


# What the documentation simulates, for real: it takes a server under strain, or broken bytes.
FOR_REAL: Mapping[str, Example] = {
    "malformed_request": malformed_request,
    "request_timeout": request_timeout,
    "idempotency_in_progress": idempotency_in_progress,
    "rate_limited": rate_limited,
    "too_many_failed_authentications": too_many_failed_authentications,
    "internal_error": internal_error,
    "overloaded": overloaded,
    "store_unavailable": store_unavailable,
    "shutting_down": shutting_down,
}
EXAMPLES: Mapping[str, Example] = {
    reason: FOR_REAL[reason] if example.simulated else played(example)
    for reason, example in examples.EXAMPLES.items()
}
