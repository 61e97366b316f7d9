"""The sealed details of failed requests: no secret is in them, and nobody else opens them."""

import asyncio
import base64
import json
import random
import secrets
import shutil
import sqlite3
import string
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx2
import pytest

from operator_api.server import accounts, data_keys
from operator_api.server.app import open_store
from operator_api.server.auth import mint as mint_secret
from operator_api.server.requests.detail import DetailReader
from operator_api.server.rotation import seal_by_first
from operator_api.server.settings import load_settings
from operator_api.vault.seal import KEY_BYTES
from tests.calls import create, mint, new_email
from tests.servers import Server, eventually, running
from tests.stores import query

LOG = "requests.db"


def failed(response: httpx2.Response) -> str:
    assert response.status_code >= 400, response.text
    request_id: str = response.headers["x-request-id"]
    return request_id


def state_of(api: httpx2.Client, request_id: str) -> str:
    response = api.get(f"/v1/requests/{request_id}", params={"reveal": "true"})
    assert response.status_code == 200, response.text
    state: str = response.json()["detail"]
    return state


def on_log(data: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data / LOG, timeout=30)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


# --- planted secrets ---


class Planted(NamedTuple):
    """A secret, and what of it must be found nowhere."""

    text: str
    traces: tuple[str, ...]


def plant(chance: random.Random, number: int) -> Planted:
    """Make one of the kinds of secrets that callers send by mistake, in one of several forms."""
    letters = string.ascii_letters + string.digits
    core = "".join(chance.choices(letters, k=43))
    jwt = ".".join(
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")
        for part in ('{"alg":"HS256","typ":"JWT"}', json.dumps({"sub": core[:20]}), core)
    )
    name = "".join(chance.choices(string.ascii_lowercase, k=12))
    kinds = [
        f"op_live_{core}aaaaaa",
        f"op_test_{core}",
        f"op_live_{core[:18]}…",
        jwt,
        f"{name}@{name[::-1]}.example",
        f"sk_live_{core[:24]}",
        f"ghp_{core[:36]}",
        f"+1415{chance.randrange(10**6, 10**7)}",
        f"4{chance.randrange(10**14, 10**15)}",
        f"https://{name}:{core[:16]}@db.example/x",
        f"-----BEGIN PRIVATE KEY-----{core}-----END PRIVATE KEY-----",
        f"Bearer {core}",
    ]
    text = kinds[number % len(kinds)]
    if number % len(kinds) == 8:
        text = luhn(text[:15])
    traces = [core[:16]] if core[:16] in text else [text]
    if "@" in text and core[:16] not in text:
        traces = [name]
    forms = [
        text,
        base64.b64encode(text.encode()).decode(),
        quote(text, safe=""),
        text.encode().hex(),
        json.dumps(text)[1:-1],
    ]
    form = forms[number // len(kinds) % len(forms)]
    return Planted(form, tuple({*traces, form}))


def luhn(digits: str) -> str:
    """Add the digit that makes a card number of it."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if position % 2 == 0 else 1)
        total += number - 9 if number > 9 else number
    return digits + str(-total % 10)


SECRETS = [plant(random.Random(number), number) for number in range(500)]


def in_fields(text: str) -> Iterator[dict[str, Any]]:
    """Yield bodies that hold a secret where none belongs."""
    body = {"email": new_email(), "name": "Ada"}
    yield body | {"password": text}
    yield body | {"deep": {"er": [{"est": text}]}}
    yield body | {text: 1}
    yield body | {"tags": [{text: text}]}
    yield {"email": text, "name": 5}
    yield body | {"name": text * 40}


def sends(text: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield requests with a secret where none belongs: most of them fail, and some succeed."""
    plain, users = text.encode("ascii", "replace").decode(), "/v1/users"
    for body in in_fields(text):
        yield "POST", users, {"json": body}
    yield "GET", users, {"params": {"note": text}}
    yield "GET", users, {"params": {text: "1"}}
    yield "GET", f"{users}/{quote(text, safe='')}", {}
    yield "GET", f"/v1/{quote(text, safe='')}", {}
    yield "POST", users, {"content": f'{{"email": "{text}'.encode()}
    for name in ("X-Secret", "Cookie", plain_name(text), "User-Agent", "Idempotency-Key"):
        yield "POST", users, {"json": {}, "headers": {name: plain[:200]}}
    yield "POST", users, {"json": {}, "headers": {"X-Request-Id": plain[:64]}}
    yield "POST", users, {"json": {"email": new_email()}, "headers": {"X-Api-Key": plain}}
    yield "POST", users, {"json": {"email": new_email()}, "params": {"x": "1", "password": text}}


def plain_name(text: str) -> str:
    """Make the name of a header of a secret; nobody can tell one of mere letters from a word."""
    name = "".join(each for each in text if each in string.ascii_letters + string.digits)
    return "X-Secret" if name.isalpha() else f"X-{name}"


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, list[str]]]:
    """Send all of the secrets to a server; return it, with the ids of the requests."""
    data = tmp_path_factory.mktemp("planted") / "data"
    with running(data, OPERATOR_LOG_LEVEL="debug") as server:
        ids = []
        with server.client() as api:
            for number, planted in enumerate(SECRETS):
                requests = list(sends(planted.text))
                method, path, more = requests[number % len(requests)]
                ids.append(api.request(method, path, **more).headers["x-request-id"])
            eventually(lambda: api.get(f"/v1/requests/{ids[-1]}").status_code == 200)
        yield server, ids


def found_in(text: str) -> list[str]:
    return [trace for planted in SECRETS for trace in planted.traces if trace in text]


def test_all_kinds_of_requests_were_logged_with_their_details(
    scanned: tuple[Server, list[str]],
) -> None:
    server, ids = scanned
    with server.client() as api:
        answers = [api.get(f"/v1/requests/{each}").json() for each in ids]
    kept = [each for each in answers if each["detail"] == "open"]
    assert {each["status"] for each in answers} >= {201, 400, 404, 422}
    assert len(kept) >= 300


def test_no_file_holds_a_secret(scanned: tuple[Server, list[str]], tmp_path: Path) -> None:
    server, _ = scanned
    files = [path for path in server.data.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {LOG, f"{LOG}-wal", "operator.sqlite3"}
    for path in files:
        assert found_in(path.read_bytes().decode("latin-1")) == [], path.name
    # Also not in what is packed: each row of the log, in words.
    shutil.copytree(server.data, tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy" / LOG)) as log:
        assert found_in("\n".join(log.iterdump())) == []


def test_what_the_server_says_holds_no_secret(scanned: tuple[Server, list[str]]) -> None:
    server, _ = scanned
    assert any("request failed" in line for line in server.errors)
    assert found_in("".join(server.errors)) == []
    with server.client() as api:
        assert found_in(api.get("/metrics").text) == []


def test_no_answer_of_the_log_holds_a_secret(scanned: tuple[Server, list[str]]) -> None:
    server, ids = scanned
    with server.client() as api:
        for request_id in ids:
            for reveal in ("false", "true"):
                shown = api.get(f"/v1/requests/{request_id}", params={"reveal": reveal})
                assert shown.status_code == 200
                assert found_in(shown.text) == [], shown.text
        cursor = None
        while True:
            query_ = {"limit": "100"} | ({} if cursor is None else {"cursor": cursor})
            page = api.get("/v1/requests", params=query_)
            assert found_in(page.text) == []
            cursor = page.json()["next_cursor"]
            if cursor is None:
                break


def test_unsealed_details_hold_no_secret_either(scanned: tuple[Server, list[str]]) -> None:
    server, _ = scanned

    async def opened() -> list[str]:
        store = await open_store(load_settings({"data": server.data}))
        try:
            owner = await accounts.operator_token(store.database, "default", "test")
            reader = DetailReader(store.data_keys)
            rows = on_log(
                server.data, "SELECT id, sealed FROM details WHERE tenant = ?", owner.tenant
            )
            return [str(await reader.open(owner.account_id, *row)) for row in rows]
        finally:
            await store.close()

    texts = asyncio.run(opened())
    assert len(texts) >= 300
    assert all("state='open'" in text for text in texts)
    assert found_in("\n".join(texts)) == []


# --- message texts ---


@pytest.mark.parametrize(
    ("kept_of", "shown"), [("", "<string 31>"), ("default", "My card is <card 16>, call me!!!")]
)
def test_the_text_of_a_message_is_kept_only_where_the_account_lets_it(
    data: Path, kept_of: str, shown: str
) -> None:
    with running(data, OPERATOR_KEEP_MESSAGE_TEXT_OF=kept_of) as server, server.client() as api:
        text = "My card is 4111111111111111, call me!!!"
        body = {"conversation_id": "none", "message": text, "type": "user"}
        request_id = failed(api.post("/v1/messages", json=body))
        found = api.get(f"/v1/requests/{request_id}", params={"reveal": "true"}).json()
    message = found["revealed"]["body"]["message"]
    assert message == (shown if kept_of else f"<string {len(text)}>")


# --- tampering, erasing, keys ---


@pytest.fixture
def own(data: Path) -> Iterator[Server]:
    with running(data) as server:
        yield server


def two_failures(api: httpx2.Client) -> tuple[str, str]:
    one, other = (failed(api.post("/v1/users", json={"email": text})) for text in ("a", "b"))
    eventually(lambda: state_of(api, one) == state_of(api, other) == "open")
    return one, other


def test_rows_that_are_swapped_do_not_open(own: Server) -> None:
    with own.client() as api:
        one, other = two_failures(api)
        rows = dict(on_log(own.data, "SELECT id, sealed FROM details"))
        for request_id, sealed in ((one, rows[other]), (other, rows[one])):
            on_log(own.data, "UPDATE details SET sealed = ? WHERE id = ?", sealed, request_id)
        assert state_of(api, one) == state_of(api, other) == "tampered"
        on_log(own.data, "UPDATE details SET sealed = ? WHERE id = ?", rows[one], one)
        assert state_of(api, one) == "open"


def test_a_byte_that_is_changed_does_not_open(own: Server) -> None:
    with own.client() as api:
        one, _ = two_failures(api)
        ((sealed,),) = on_log(own.data, "SELECT sealed FROM details WHERE id = ?", one)
        for position in (0, 11, 12, len(sealed) // 2, len(sealed) - 1):
            changed = bytearray(sealed)
            changed[position] ^= 1
            on_log(own.data, "UPDATE details SET sealed = ? WHERE id = ?", bytes(changed), one)
            assert state_of(api, one) == "tampered"
        for rest in (b"", sealed[:-1], sealed + b"\0"):
            on_log(own.data, "UPDATE details SET sealed = ? WHERE id = ?", rest, one)
            assert state_of(api, one) == "tampered"


def test_another_account_s_row_does_not_open(own: Server) -> None:
    with own.client(mint(own, account="one")) as one, own.client(mint(own, account="two")) as two:
        mine, theirs = (
            failed(one.post("/v1/users", json={})),
            failed(two.post("/v1/users", json={})),
        )
        eventually(lambda: state_of(one, mine) == state_of(two, theirs) == "open")
        ((sealed,),) = on_log(own.data, "SELECT sealed FROM details WHERE id = ?", theirs)
        on_log(own.data, "UPDATE details SET sealed = ? WHERE id = ?", sealed, mine)
        assert state_of(one, mine) == "tampered"


def test_an_account_s_environments_share_a_key_and_their_rows_do_not_open_either(
    own: Server,
) -> None:
    live, test = mint(own, environment="live"), mint(own, environment="test")
    with own.client(live) as one, own.client(test) as other:
        mine, theirs = (failed(each.post("/v1/users", json={})) for each in (one, other))
        eventually(lambda: state_of(one, mine) == state_of(other, theirs) == "open")
        ((sealed,),) = on_log(own.data, "SELECT sealed FROM details WHERE id = ?", theirs)
        on_log(own.data, "UPDATE details SET sealed = ? WHERE id = ?", sealed, mine)
        assert state_of(one, mine) == "tampered"


def test_an_erased_account_s_details_are_gone_also_from_copies(own: Server, tmp_path: Path) -> None:
    with own.client(mint(own, account="erased")) as api:
        one, _ = two_failures(api)
        account = api.get("/v1/me").json()["account"]["id"]

        async def erase() -> None:
            store = await open_store(load_settings({"data": own.data}))
            try:
                await store.database.write([data_keys.erase(account)])
            finally:
                await store.close()

        asyncio.run(erase())
        # Whoever calls next for the account gets a new key, which opens nothing of before.
        # A token is looked up again after a second at the latest.
        assert state_of(api, one) == "erased"
        eventually(lambda: state_of(api, one) == "tampered")
        again = failed(api.post("/v1/users", json={}))
        eventually(lambda: state_of(api, again) == "open", seconds=5)
        assert state_of(api, one) == "tampered"


def test_details_open_before_during_and_after_a_rotation(own: Server) -> None:
    with own.client() as api:
        before = failed(api.post("/v1/users", json={}))
        eventually(lambda: state_of(api, before) == "open")
        for _ in range(3):
            own.cli("keys", "rotate")
            assert state_of(api, before) == "open"
            since = failed(api.post("/v1/users", json={}))
            eventually(lambda request_id=since: state_of(api, request_id) == "open")
        with own.client(mint(own, account="later")) as later:
            theirs = failed(later.post("/v1/users", json={}))
            eventually(lambda: state_of(later, theirs) == "open")
        own.stop()
        own.start()
    with own.client() as api:
        assert {state_of(api, each) for each in (before, since)} == {"open"}


def key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def test_given_keys_are_rotated_while_a_server_that_has_only_the_old_one_goes_on(
    data: Path,
) -> None:
    old, new = key(), key()
    with running(data, OPERATOR_SECRET_KEYS=old) as server, server.client() as api:
        before = failed(api.post("/v1/users", json={}))
        eventually(lambda: state_of(api, before) == "open")

        async def rotate() -> None:
            settings = load_settings({"data": data, "secret_keys": f"{new},{old}"})
            store = await open_store(settings)
            try:
                assert await seal_by_first(store.database, store.keyring) == 2
            finally:
                await store.close()

        asyncio.run(rotate())
        assert state_of(api, before) == "key_missing"  # until it is started with both
        since = failed(api.post("/v1/users", json={}))
        eventually(lambda: state_of(api, since) == "key_missing")
        server.stop()
        server.variables["OPERATOR_SECRET_KEYS"] = new
        server.start()
        with server.client() as after:
            assert {state_of(after, each) for each in (before, since)} == {"open"}


def test_a_lost_key_is_told_and_costs_nothing_but_the_details(own: Server) -> None:
    with own.client() as api:
        one, _ = two_failures(api)
        query(own.data, "UPDATE data_keys SET wrapped = zeroblob(60)")
        found = api.get(f"/v1/requests/{one}", params={"reveal": "true"}).json()
    assert (found["detail"], found["revealed"], found["sent"]) == ("key_missing", None, None)
    assert found["reason"] == "validation_failed"
    assert found["causes"]
    assert {check["passed"] for check in found["checks"]} == {True, False, None}
    assert len(own.cli("keys", "status")["unopenable"]) == 1


def test_the_log_of_a_lost_key_says_so_once(own: Server) -> None:
    query(own.data, "UPDATE data_keys SET wrapped = zeroblob(60)")
    own.stop()
    own.start()
    query(own.data, "INSERT OR REPLACE INTO data_keys SELECT id, zeroblob(60), 1 FROM accounts")
    own.stop()
    own.start()
    with own.client() as api:
        for _ in range(20):
            failed(api.post("/v1/users", json={}))
        eventually(lambda: any("are not kept" in line for line in own.errors))
        assert api.get("/v1/me").status_code == 200
    assert len([line for line in own.errors if "are not kept" in line]) == 1
    assert not any("Traceback" in line for line in own.errors)


def test_what_nobody_known_has_sent_is_the_operator_s(own: Server) -> None:
    with own.client(mint_secret("test")) as stranger:
        refused = stranger.post("/v1/users", json={"email": "ada@example.com"})
    request_id = failed(refused)
    eventually(lambda: on_log(own.data, "SELECT 1 FROM details WHERE id = ?", request_id) != [])
    found = own.cli("explain", request_id, "--reveal", "a test")
    assert found["detail"] == "open"
    assert found["token"] is None
    assert found["revealed"]["body"] is None or found["revealed"]["body"] == {"email": "<email 15>"}


def test_a_success_is_not_kept_and_holds_no_memory_of_its_own(own: Server) -> None:
    with own.client() as api:
        for _ in range(30):
            create(api, "/v1/users", email=new_email())
        assert on_log(own.data, "SELECT count(*) FROM details") == [(0,)]
