"""One runnable example of each reason in the catalogue: how to provoke it over HTTP."""

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
from typing import Any

import httpx2

from operator_api.server.auth import mint as mint_secret
from tests.calls import JSON, create, make_records, mint, missing_id, new_email
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


def sends(method: str, path: str, token: str | None = "", **request: Any) -> Example:
    """Return the example of one request, with the first token unless told."""

    def play(stage: Stage) -> httpx2.Response:
        with stage.ample.client(token) as client:
            return client.request(method, path, **request)

    return play


def posts(content: bytes, **headers: str) -> Example:
    """Return the example of a body, sent to create a user."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return sends("POST", "/v1/users", content=content, headers={**JSON, **named})


def user_with(**fields: Any) -> Example:
    """Return the example of a new user's fields."""
    return sends("POST", "/v1/users", json={"email": "ada@example.com", **fields})


def authorized_by(authorization: str) -> Example:
    """Return the example of an Authorization header."""
    return sends("GET", "/v1/me", token=None, headers={"Authorization": authorization})


# --- tokens ---


def expired_token(stage: Stage) -> httpx2.Response:
    with stage.ample.client() as api:
        made = create(api, "/v1/tokens", name="rotated", preset="read-only")
        create(api, f"/v1/tokens/{made['id']}/rotate", overlap_seconds=0)
    return sends("GET", "/v1/me", token=made["token"])(stage)


def revoked_token(stage: Stage) -> httpx2.Response:
    with stage.ample.client() as api:
        made = create(api, "/v1/tokens", name="leaked", preset="read-only")
        api.delete(f"/v1/tokens/{made['id']}")
    return sends("GET", "/v1/me", token=made["token"])(stage)


def insufficient_scope(stage: Stage) -> httpx2.Response:
    token = mint(stage.ample, scopes=["users:read"])
    return sends("POST", "/v1/users", token=token, json={"email": new_email()})(stage)


def token_inactive(stage: Stage) -> httpx2.Response:
    with stage.ample.client() as api:
        made = create(api, "/v1/tokens", name="leaked", preset="read-only")
        api.delete(f"/v1/tokens/{made['id']}")
        return api.post(f"/v1/tokens/{made['id']}/rotate")


# --- stored state ---


def already_exists(stage: Stage) -> httpx2.Response:
    body = {"email": new_email()}
    with stage.ample.client() as api:
        create(api, "/v1/users", **body)
        return api.post("/v1/users", json=body)


def limit_reached(stage: Stage) -> httpx2.Response:
    tags = [str(number) for number in range(50)]
    with stage.ample.client() as api:
        user = create(api, "/v1/users", email=new_email(), tags=tags)
        return api.post("/v1/tags", json={"user_id": user["id"], "tag": "one more"})


def conversation_closed(stage: Stage) -> httpx2.Response:
    with stage.ample.client() as api:
        path = f"/v1/conversations/{make_records(api).conversation_id}/close"
        api.post(path)
        return api.post(path)


def precondition_failed(stage: Stage) -> httpx2.Response:
    with stage.ample.client() as api:
        path = f"/v1/users/{make_records(api).user_id}"
        return api.patch(path, json={"name": "Ada"}, headers={"If-Match": '"an-older-one"'})


def idempotency_key_reused(stage: Stage) -> httpx2.Response:
    headers = {"Idempotency-Key": new_email()}
    with stage.ample.client() as api:
        api.post("/v1/users", json={"email": new_email()}, headers=headers)
        return api.post("/v1/users", json={"email": new_email()}, headers=headers)


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


def headers_too_large(stage: Stage) -> httpx2.Response:
    cookie = b"x" * 70_000
    return raw(stage.ample, b"GET /v1/me HTTP/1.1\r\nHost: a\r\nCookie: " + cookie + b"\r\n\r\n")


EXAMPLES: Mapping[str, Example] = {
    "malformed_request": malformed_request,
    "invalid_json": posts(b'{"email": "ada@example.com"'),
    "empty_body": posts(b""),
    "body_not_object": posts(json.dumps('{"email": "ada@example.com"}').encode()),
    "invalid_encoding": posts('{"name": "Zoë"}'.encode("latin-1")),
    "invalid_parameter": sends("GET", "/v1/users?limit=1000"),
    "unknown_parameter": sends("GET", "/v1/users?page=2"),
    "invalid_cursor": sends("GET", "/v1/users?cursor=2"),
    "invalid_header": posts(b"{}", Idempotency_Key="two words"),
    "token_in_url": sends("GET", "/v1/users?api_key=0123456789", token=None),
    "missing_token": sends("GET", "/v1/me", token=None),
    "malformed_authorization": authorized_by("Basic b3BlcmF0b3I6c2VjcmV0"),
    "invalid_token": authorized_by(f"Bearer {mint_secret('test')}"),
    "expired_token": expired_token,
    "revoked_token": revoked_token,
    "insufficient_scope": insufficient_scope,
    "unknown_endpoint": sends("GET", "/v1/user"),
    "resource_not_found": sends("GET", f"/v1/users/{missing_id('usr_')}"),
    "method_not_allowed": sends("DELETE", "/v1/users"),
    "not_acceptable": sends("GET", "/v1/users", headers={"Accept": "text/html"}),
    "request_timeout": request_timeout,
    "body_too_large": posts(b" " * (1024 * 1024 + 1)),
    "unsupported_media_type": sends("POST", "/v1/users", data={"email": "ada@example.com"}),
    "headers_too_large": headers_too_large,
    "already_exists": already_exists,
    "limit_reached": limit_reached,
    "conversation_closed": conversation_closed,
    "token_inactive": token_inactive,
    "idempotency_in_progress": idempotency_in_progress,
    "precondition_failed": precondition_failed,
    "validation_failed": posts(b"{}"),
    "idempotency_key_reused": idempotency_key_reused,
    "rate_limited": rate_limited,
    "too_many_failed_authentications": too_many_failed_authentications,
    "internal_error": internal_error,
    "overloaded": overloaded,
    "store_unavailable": store_unavailable,
    "shutting_down": shutting_down,
    # Reasons of fields, which stand in the errors of a 422.
    "required": sends("POST", "/v1/users", json={}),
    "unknown_field": user_with(colour="green"),
    "read_only": user_with(created_at="2026-01-31T12:00:00Z"),
    "wrong_type": user_with(tags="vip"),
    "invalid_format": sends(
        "POST", "/v1/tokens", json={"name": "n", "preset": "admin", "expires_at": "tomorrow"}
    ),
    "invalid_email": user_with(email="ada.example.com"),
    "invalid_phone": user_with(phone="(415) 555-0123"),
    "too_short": user_with(name=""),
    "too_long": user_with(name="x" * 201),
    "too_many_items": user_with(tags=["vip"] * 51),
    "out_of_range": sends("GET", "/v1/users?limit=0"),
    "not_allowed_value": sends(
        "POST", "/v1/conversations", json={"user_id": missing_id("usr_"), "channel": "pigeon"}
    ),
    "not_found": sends(
        "POST", "/v1/conversations", json={"user_id": missing_id("usr_"), "channel": "web"}
    ),
    "forbidden_character": user_with(tags=["v\u200bip"]),
}
