"""Tokens: how one is sent, made, rotated and revoked, and that nobody learns what is secret."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.contract.scopes import PRESETS, SCOPES
from operator_api.server.auth import hint_of
from operator_api.server.auth import mint as mint_secret
from tests.calls import create, mint, missing_id, new_email
from tests.errors import assert_error
from tests.servers import Server, running

NEVER = {"expires_at": None, "revoked_at": None}


def soon(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat().replace("+00:00", "Z")


def status_of(server: Server, token: str) -> int:
    with server.client(token) as client:
        return client.get("/v1/me").status_code


def listed(api: httpx2.Client, token_id: str) -> dict[str, Any]:
    tokens: list[dict[str, Any]] = api.get("/v1/tokens", params={"limit": 100}).json()["data"]
    return next(each for each in tokens if each["id"] == token_id)


# --- how a token is sent ---


def spoilt(token: str) -> dict[str, tuple[str, str]]:
    """Return ways to send a token wrongly, each with the reason and a part of the message."""
    other = "B" if token[10] == "A" else "A"
    return {
        "empty": ("", "its scheme must be Bearer"),
        "Bearer": ("Bearer", "there is no token after Bearer"),
        "bare": (token, "the word Bearer is missing"),
        "Basic": ("Basic b3BlcmF0b3I6c2VjcmV0", "its scheme must be Bearer"),
        "Token": (f"Token {token}", "its scheme must be Bearer"),
        "joined": (f"Bearer:{token}", "its scheme must be Bearer"),
        "double quotes": (f'Bearer "{token}"', "spaces, quotes"),
        "single quotes": (f"Bearer '{token}'", "spaces, quotes"),
        "two spaces": (f"Bearer  {token}", "spaces, quotes"),
        "a tab": (f"Bearer \t{token}", "spaces, quotes"),
        "two tokens": (f"Bearer {token}, Bearer {token}", "one token only"),
        "a comma": (f"Bearer {token},", "one token only"),
        "not ASCII": (f"Bearer {token}é", "spaces, quotes"),
        "twice Bearer": (f"Bearer Bearer {token}", "one token only"),
        "cut off": (f"Bearer {token[:-1]}", "is not valid"),
        "cut in half": (f"Bearer {token[:30]}", "is not valid"),
        "too long": (f"Bearer {token}x", "is not valid"),
        "another letter": (f"Bearer {token[:10]}{other}{token[11:]}", "is not valid"),
        "another checksum": (f"Bearer {token[:-6]}000000", "is not valid"),
        "other environment": (f"Bearer {token.replace('_test_', '_live_')}", "is not valid"),
        "other case": (f"Bearer {token.upper()}", "is not valid"),
        "a placeholder": ("Bearer YOUR_API_KEY", "is not valid"),
        "a variable": ("Bearer $OPERATOR_API_KEY", "is not valid"),
        "unknown": (f"Bearer {mint_secret('test')}", "is not valid"),
        "endless": ("Bearer " + "x" * 30_000, "is not valid"),
    }


@pytest.mark.parametrize("how", spoilt("x" * 60))
def test_a_token_that_is_sent_wrongly_is_told_how(server: Server, how: str) -> None:
    sent, says = spoilt(server.token)[how]
    reason = "invalid_token" if says == "is not valid" else "malformed_authorization"
    with server.client(None) as client:
        headers = [(b"authorization", sent.encode("latin-1"))]
        error = assert_error(client.get("/v1/me", headers=headers), 401, reason)
    assert says in error["message"]
    assert server.token[12:] not in str(error)


def test_two_authorization_headers_are_refused(server: Server) -> None:
    headers = [("Authorization", f"Bearer {server.token}")] * 2
    with server.client(None) as client:
        response = client.get("/v1/me", headers=headers)
    error = assert_error(response, 401, "malformed_authorization")
    assert error["metadata"] == {"problem": "it must hold one token only"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(server: Server, scheme: str) -> None:
    with server.client(None) as client:
        headers = {"Authorization": f"{scheme} {server.token}"}
        assert client.get("/v1/me", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "api_key=anything",
        "apikey=anything",
        "API-KEY=anything",
        "access_token=anything",
        "token=anything",
        "authorization=Bearer%20x",
        "limit=5&api_key=anything",
        "api%5Fkey=anything",
        "key={token}",
        "limit={token}",
        "x={token}&limit=1",
        "email=%6Fp%5Ftest%5F{secret}",
    ],
)
@pytest.mark.parametrize("header", [True, False], ids=["and in the header", "only there"])
def test_a_token_in_the_url_is_refused_whatever_it_is_called(
    server: Server, query: str, header: bool
) -> None:
    token = mint_secret("test")
    with server.client("" if header else None) as client:
        response = client.get("/v1/users?" + query.format(token=token, secret=token[8:]))
    error = assert_error(response, 400, "token_in_url")
    assert token[8:] not in response.text
    assert "rotate" in error["hint"]


# --- making and listing ---


def test_a_token_is_shown_whole_once(server: Server, api: httpx2.Client) -> None:
    made = create(api, "/v1/tokens", name="once", preset="conversations")
    secret = made.pop("token")
    assert secret.startswith("op_test_")
    assert made["hint"] == hint_of(secret)
    assert {name: made[name] for name in made if name not in {"id", "created_at", "hint"}} == {
        "name": "once",
        "environment": "test",
        "scopes": sorted(PRESETS["conversations"]),
        "status": "active",
        **NEVER,
    }
    assert listed(api, made["id"]) == made
    for path in ("/v1/tokens?limit=100", "/v1/me"):
        with server.client(secret) as client:
            assert secret not in client.get(path).text
    assert status_of(server, secret) == 200


def test_scopes_may_be_named_twice_and_are_told_once(api: httpx2.Client) -> None:
    made = create(api, "/v1/tokens", name="twice", scopes=["tags:read", "tags:read", "tags:write"])
    assert made["scopes"] == ["tags:read", "tags:write"]


def test_the_environment_is_the_callers_own(api: httpx2.Client) -> None:
    body = {"name": "live", "preset": "read-only", "environment": "live"}
    error = assert_error(api.post("/v1/tokens", json=body), 422, "validation_failed")
    (only,) = error["errors"]
    assert (only["pointer"], only["reason"]) == ("#/environment", "not_allowed_value")
    assert create(api, "/v1/tokens", **{**body, "environment": "test"})["environment"] == "test"


def test_a_live_token_makes_live_tokens(server: Server) -> None:
    with server.client(mint(server, environment="live")) as live:
        made = create(live, "/v1/tokens", name="live", preset="admin")
    assert (made["environment"], made["token"][:8]) == ("live", "op_live_")


def test_what_is_wrong_with_a_new_token_is_told_at_once(api: httpx2.Client) -> None:
    body = {
        "environment": "live",
        "expires_at": "2020-01-01T00:00:00Z",
        "name": "x",
        "preset": "admin",
    }
    error = assert_error(api.post("/v1/tokens", json=body), 422, "validation_failed")
    told = [(each["pointer"], each["reason"]) for each in error["errors"]]
    assert told == [("#/environment", "not_allowed_value"), ("#/expires_at", "out_of_range")]


@pytest.mark.parametrize("path", ["/v1/tokens", "/v1/tokens/{id}/rotate"])
def test_nobody_hands_out_a_scope_that_they_do_not_have(
    server: Server, api: httpx2.Client, path: str
) -> None:
    admin = create(api, "/v1/tokens", name="admin", preset="admin")
    own = ["tokens:admin", "users:read"]
    wanted = ["users:read", "users:write"]
    bodies: list[dict[str, Any]] = (
        [{"name": "more", "scopes": wanted}, {"name": "more", "preset": "admin"}]
        if path == "/v1/tokens"
        else [{}]
    )
    with server.client(mint(server, scopes=own)) as caller:
        for body in bodies:
            response = caller.post(path.format(id=admin["id"]), json=body)
            error = assert_error(response, 403, "insufficient_scope")
            assert "users:write" in error["metadata"]["missing"]
            assert error["metadata"]["granted"] == own
        create(caller, "/v1/tokens", name="as much", scopes=own)
    assert listed(api, admin["id"])["expires_at"] is None


# --- the end of a token ---


def test_an_expired_token_is_told_since_when(server: Server, api: httpx2.Client) -> None:
    made = create(
        api, "/v1/tokens", name="short", scopes=["users:read"], expires_at=soon(seconds=1.5)
    )
    with server.client(made["token"]) as client:
        assert client.get("/v1/users").status_code == 200
        time.sleep(1.5)
        error = assert_error(client.get("/v1/users"), 401, "expired_token")
    assert error["metadata"] == {"expired_at": made["expires_at"]}
    assert listed(api, made["id"])["status"] == "expired"


@pytest.mark.parametrize("expires_at", ["2020-01-01T00:00:00Z", "1000-01-01T00:00:00Z"])
def test_a_token_does_not_begin_expired(api: httpx2.Client, expires_at: str) -> None:
    body = {"name": "late", "preset": "read-only", "expires_at": expires_at}
    error = assert_error(api.post("/v1/tokens", json=body), 422, "validation_failed")
    assert error["errors"][0]["message"] == "Expires at must be in the future."


def test_a_revoked_token_ends_at_once(server: Server, api: httpx2.Client) -> None:
    made = create(api, "/v1/tokens", name="leaked", scopes=["users:read"])
    with server.client(made["token"]) as client:
        for _ in range(3):  # it is in the cache of tokens that were just seen
            assert client.get("/v1/users").status_code == 200
        answer = api.delete(f"/v1/tokens/{made['id']}")
        assert (answer.status_code, answer.json()) == (200, {"id": made["id"], "deleted": True})
        error = assert_error(client.get("/v1/users"), 401, "revoked_token")
    shown = listed(api, made["id"])
    assert shown["status"] == "revoked"
    assert error["metadata"] == {"revoked_at": shown["revoked_at"]}


def test_revoking_again_changes_nothing(api: httpx2.Client) -> None:
    made = create(api, "/v1/tokens", name="leaked", scopes=["users:read"])
    first = api.delete(f"/v1/tokens/{made['id']}")
    revoked_at = listed(api, made["id"])["revoked_at"]
    assert api.delete(f"/v1/tokens/{made['id']}").json() == first.json()
    assert listed(api, made["id"])["revoked_at"] == revoked_at


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_token_that_does_not_exist_is_404(api: httpx2.Client, method: str) -> None:
    path = f"/v1/tokens/{missing_id('tok_')}{'/rotate' if method == 'POST' else ''}"
    assert_error(api.request(method, path), 404, "resource_not_found")


# --- rotation ---


def test_rotation_keeps_the_old_token_for_the_overlap(server: Server, api: httpx2.Client) -> None:
    old = create(api, "/v1/tokens", name="rotated", scopes=["users:read", "tags:read"])
    new = create(api, f"/v1/tokens/{old['id']}/rotate", overlap_seconds=3600)
    assert new["replaces"] == old["id"]
    assert (new["name"], new["scopes"], new["expires_at"]) == (old["name"], old["scopes"], None)
    assert new["id"] != old["id"]
    assert new["token"] != old["token"]
    assert listed(api, old["id"])["expires_at"] == new["replaced_expires_at"]
    ends = datetime.fromisoformat(new["replaced_expires_at"])
    assert ends - datetime.fromisoformat(new["created_at"]) == timedelta(hours=1)
    assert [status_of(server, each["token"]) for each in (old, new)] == [200, 200]


def test_rotation_without_a_body_overlaps_a_day(api: httpx2.Client) -> None:
    old = create(api, "/v1/tokens", name="rotated", scopes=["users:read"])
    new = api.post(f"/v1/tokens/{old['id']}/rotate").json()
    ends = datetime.fromisoformat(new["replaced_expires_at"])
    assert ends - datetime.fromisoformat(new["created_at"]) == timedelta(days=1)


def test_a_leaked_token_is_rotated_without_overlap(server: Server, api: httpx2.Client) -> None:
    old = create(api, "/v1/tokens", name="leaked", scopes=["users:read"])
    assert status_of(server, old["token"]) == 200
    new = create(api, f"/v1/tokens/{old['id']}/rotate", overlap_seconds=0)
    with server.client(old["token"]) as client:
        assert_error(client.get("/v1/users"), 401, "expired_token")
    assert status_of(server, new["token"]) == 200


def test_a_successor_lives_as_long_as_its_predecessor_was_to(api: httpx2.Client) -> None:
    old = create(api, "/v1/tokens", name="x", preset="read-only", expires_at=soon(minutes=30))
    new = create(api, f"/v1/tokens/{old['id']}/rotate", overlap_seconds=3600)
    lives = [
        datetime.fromisoformat(each["expires_at"]) - datetime.fromisoformat(each["created_at"])
        for each in (old, new)
    ]
    assert lives[0] == lives[1]
    # The overlap never prolongs a token.
    assert new["replaced_expires_at"] == old["expires_at"]


def test_a_token_of_the_latest_time_can_be_rotated(api: httpx2.Client) -> None:
    latest = "2999-12-31T23:59:59.999999Z"
    token = create(api, "/v1/tokens", name="x", preset="read-only", expires_at=latest)
    for _ in range(3):
        token = create(api, f"/v1/tokens/{token['id']}/rotate")


def test_a_token_can_rotate_itself(server: Server, api: httpx2.Client) -> None:
    old = create(api, "/v1/tokens", name="own", scopes=["tokens:admin"])
    with server.client(old["token"]) as client:
        new = create(client, f"/v1/tokens/{old['id']}/rotate", overlap_seconds=0)
        assert_error(client.get("/v1/me"), 401, "expired_token")
    assert status_of(server, new["token"]) == 200


@pytest.mark.parametrize("status", ["revoked", "expired"])
def test_an_inactive_token_is_not_rotated(api: httpx2.Client, status: str) -> None:
    old = create(api, "/v1/tokens", name="old", scopes=["users:read"])
    if status == "revoked":
        api.delete(f"/v1/tokens/{old['id']}")
    else:
        create(api, f"/v1/tokens/{old['id']}/rotate", overlap_seconds=0)
    error = assert_error(api.post(f"/v1/tokens/{old['id']}/rotate"), 409, "token_inactive")
    assert error["metadata"] == {"status": status}


@pytest.mark.parametrize("status", ["active", "expired", "revoked"])
def test_tokens_are_listed_by_status(server: Server, status: str) -> None:
    with server.client(mint(server, account=f"tokens {status}")) as api:
        made = {
            name: create(api, "/v1/tokens", name=name, preset="read-only")
            for name in ("active", "expired", "revoked")
        }
        create(api, f"/v1/tokens/{made['expired']['id']}/rotate", overlap_seconds=0)
        api.delete(f"/v1/tokens/{made['revoked']['id']}")
        tokens = api.get("/v1/tokens", params={"status": status}).json()["data"]
    assert {each["status"] for each in tokens} == {status}
    assert made[status]["id"] in {each["id"] for each in tokens}


# --- secrets ---


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "data") as server:
        yield server


def test_no_file_and_no_line_of_the_server_holds_a_token(own_server: Server) -> None:
    secrets = [own_server.token]
    with ExitStack() as stack:
        api = stack.enter_context(own_server.client())
        made = create(api, "/v1/tokens", name="a", preset="admin")
        keyed = api.post(
            "/v1/tokens",
            json={"name": "b", "preset": "admin"},
            headers={"Idempotency-Key": "keyed"},
        ).json()
        rotated = create(api, f"/v1/tokens/{made['id']}/rotate")
        secrets += [made["token"], keyed["token"], rotated["token"], mint(own_server)]
        for secret in secrets:
            client = stack.enter_context(own_server.client(secret))
            create(client, "/v1/users", email=new_email())
            client.get(f"/v1/nowhere/{secret}")
            client.get("/v1/users", params={"api_key": secret})
            client.post("/v1/users", json={secret: secret})
    held = contents(own_server.data)  # with the log of the store, which a stop empties
    own_server.stop()
    held |= contents(own_server.data)
    assert any(name.endswith("-wal") for name in held)
    # The first token is printed, that once; it is where people read it, and nowhere else.
    printed = [line for line in own_server.errors if own_server.token not in line]
    held["standard error"] = "".join(printed).encode()
    for name, content in held.items():
        assert [secret for secret in secrets if secret[8:].encode() in content] == [], name
    assert len([line for line in own_server.errors if own_server.token in line]) <= 2


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_scope_can_be_given(api: httpx2.Client) -> None:
    assert create(api, "/v1/tokens", name="all", scopes=list(SCOPES))["scopes"] == sorted(SCOPES)
