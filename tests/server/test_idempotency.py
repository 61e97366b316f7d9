"""A write that is sent again under its key acts once, and gets the first one's answer again."""

import asyncio
import hashlib
import itertools
import json
import signal
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.server.database import Statement
from operator_api.server.database.sqlite import SQLite
from operator_api.server.idempotency import KEPT_MICROSECONDS, SWEPT_AT_ONCE, IdempotencyKeys
from operator_api.server.ids import now_microseconds
from operator_api.vault.seal import KEY_BYTES, Sealer
from tests.errors import assert_error
from tests.servers import Server, running
from tests.stores import FILE, query, write_lock

REPLAYED = "idempotent-replayed"
Request = tuple[str, str, Any, str]
_numbers = itertools.count()


def unique(what: str = "key") -> str:
    return f"{what}-{next(_numbers)}"


def new_user(**fields: Any) -> dict[str, Any]:
    return {"email": f"{unique('user')}@keys.example", **fields}


def send(
    client: httpx2.Client, method: str, path: str, body: Any, key: str, **headers: str
) -> httpx2.Response:
    return client.request(method, path, json=body, headers={"Idempotency-Key": key, **headers})


def assert_acted(response: httpx2.Response, status: int = 201) -> dict[str, Any]:
    """Require that this request was the one that acted; return what it answers."""
    assert response.status_code == status, response.text
    assert REPLAYED not in response.headers
    answer: dict[str, Any] = response.json()
    return answer


def assert_replayed(again: httpx2.Response, first: httpx2.Response) -> None:
    """Require the first answer, byte for byte, with the headers that belong to it."""
    assert again.headers[REPLAYED] == "true"
    assert kept_of(again) == kept_of(first)


def kept_of(response: httpx2.Response) -> tuple[Any, ...]:
    """What a replay must repeat: all but the date, and what is left of the rate limit."""
    own = {"date", "ratelimit", REPLAYED}
    headers = sorted((k, v) for k, v in response.headers.items() if k not in own)
    return response.status_code, response.content, headers


@pytest.fixture(scope="module")
def user(api: httpx2.Client) -> str:
    """Return the path of a user."""
    return f"/v1/users/{api.post('/v1/users', json=new_user()).json()['id']}"


@pytest.fixture(scope="module")
def conversation(api: httpx2.Client, user: str) -> str:
    """Return the id of an open conversation."""
    body = {"user_id": user.rpartition("/")[2], "channel": "api"}
    return str(api.post("/v1/conversations", json=body).json()["id"])


# --- once ---


async def test_many_sends_of_one_key_act_once(server: Server, conversation: str) -> None:
    """200 keys, 20 concurrent sends of each: 200 rows, and as many first answers."""
    message = {"conversation_id": conversation, "type": "user"}
    requests = [("/v1/users", new_user()) for _ in range(100)]
    requests += [("/v1/messages", {**message, "message": str(n)}) for n in range(100)]
    keys = [unique() for _ in requests]
    before = counts(server)
    async with httpx2.AsyncClient(
        base_url=server.url,
        headers={"Authorization": f"Bearer {server.token}"},
        limits=httpx2.Limits(max_connections=40),
        timeout=60,
    ) as client:

        async def post(number: int) -> httpx2.Response:
            path, body = requests[number]
            return await client.post(path, json=body, headers={"Idempotency-Key": keys[number]})

        order = [number for number in range(200) for _ in range(20)]
        answers = await asyncio.gather(*(post(number) for number in order))
    assert counts(server) == [count + 100 for count in before]
    of_key: dict[int, list[httpx2.Response]] = {}
    for number, answer in zip(order, answers, strict=True):
        of_key.setdefault(number, []).append(answer)
    for of_one in of_key.values():
        (first,) = [answer for answer in of_one if REPLAYED not in answer.headers]
        assert first.status_code == 201
        assert first.headers["location"].endswith(first.json()["id"])
        for again in of_one:
            if again is not first:
                assert_replayed(again, first)


def counts(server: Server) -> list[int]:
    sql = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM messages)"
    return list(query(server.data, sql)[0])


def test_every_kind_of_write_takes_a_key(api: httpx2.Client, conversation: str) -> None:
    path = f"/v1/users/{api.post('/v1/users', json=new_user()).json()['id']}"
    user_id = path.rpartition("/")[2]
    token = api.post("/v1/tokens", json={"name": "of the test", "preset": "read-only"}).json()
    writes: list[tuple[str, str, Any, int]] = [
        ("POST", "/v1/users", new_user(tags=["b", "a"]), 201),
        ("PATCH", path, {"name": "Ada"}, 200),
        ("PATCH", path, {}, 200),
        ("PUT", path, new_user(), 200),
        ("POST", "/v1/tags", {"user_id": user_id, "tag": "vip"}, 201),
        ("POST", "/v1/conversations", {"user_id": user_id, "channel": "api"}, 201),
        ("POST", f"/v1/conversations/{conversation}/assign", {"assignee": "grace"}, 200),
        ("POST", "/v1/tokens", {"name": "new", "preset": "read-only"}, 201),
        ("POST", f"/v1/tokens/{token['id']}/rotate", None, 201),
        ("DELETE", f"/v1/tokens/{token['id']}", None, 200),
        ("DELETE", path, None, 200),
    ]
    for method, target, body, status in writes:
        key = unique()
        first = send(api, method, target, body, key)
        assert_acted(first, status)
        for _ in range(2):
            assert_replayed(send(api, method, target, body, key), first)


def test_a_change_of_nothing_is_kept_as_well(api: httpx2.Client, user: str) -> None:
    key = unique()
    first = send(api, "PATCH", user, {}, key)
    assert_acted(first, 200)
    api.patch(user, json={"name": "changed in between"})
    assert_replayed(send(api, "PATCH", user, {}, key), first)


def test_a_tag_that_is_there_already_is_kept_as_well(api: httpx2.Client, user: str) -> None:
    body, key = {"user_id": user.rpartition("/")[2], "tag": "kept"}, unique()
    api.post("/v1/tags", json=body)
    first = send(api, "POST", "/v1/tags", body, key)
    assert_acted(first)
    assert_replayed(send(api, "POST", "/v1/tags", body, key), first)


# --- the same request ---


def test_a_key_in_quotes_is_the_bare_key(api: httpx2.Client) -> None:
    body, key = new_user(), unique()
    first = send(api, "POST", "/v1/users", body, key)
    assert_acted(first)
    assert_replayed(send(api, "POST", "/v1/users", body, f'"{key}"'), first)


def test_json_that_says_the_same_is_the_same_request(api: httpx2.Client) -> None:
    body = new_user(name="Ada", tags=["x"])
    headers = {"Idempotency-Key": unique(), "Content-Type": "application/json"}
    turned = dict(reversed(body.items()))
    texts = [json.dumps(body), json.dumps(turned), json.dumps(turned, indent=4) + "\n"]
    texts.append(texts[0].replace("Ada", "\\u0041da"))
    first, *others = [api.post("/v1/users", content=text, headers=headers) for text in texts]
    assert_acted(first)
    for again in others:
        assert_replayed(again, first)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "{user}", {"name": "Another"}),
        ("PATCH", "{user}", {"name": None}),
        ("PATCH", "{user}", {}),
        ("PATCH", "{user}", {"name": "First", "tags": []}),
        ("PUT", "{user}", {"name": "First", "email": "first@keys.example"}),
        ("DELETE", "{user}", None),
        ("PATCH", "/v1/users/usr_00000000000000000000000000000000", {"name": "First"}),
        ("POST", "/v1/users", {"email": "reused@keys.example"}),
    ],
)
def test_a_key_of_another_request_is_422_and_acts_not(
    api: httpx2.Client, user: str, method: str, path: str, body: Any
) -> None:
    key = unique()
    first = send(api, "PATCH", user, {"name": "First"}, key)
    assert_acted(first, 200)
    before = api.get(user)
    error = assert_error(
        send(api, method, path.format(user=user), body, key), 422, "idempotency_key_reused"
    )
    assert error["outcome"] == "not_executed"
    assert api.get(user).headers["etag"] == before.headers["etag"]
    assert api.get("/v1/users", params={"email": "reused@keys.example"}).json()["data"] == []
    assert_replayed(send(api, "PATCH", user, {"name": "First"}, key), first)


def test_keys_are_apart_by_account_and_environment(server: Server) -> None:
    made = server.cli("accounts", "create", unique("account"))
    options = ["--name", "t", "--preset", "admin"]
    tokens = [
        server.cli("tokens", "create", *options, "--account", account, "--environment", env)
        for account in ("default", made["name"])
        for env in ("live", "test")
    ]
    body, key = new_user(), unique()
    ids = set()
    for token in tokens:
        with server.client(token["token"]) as client:
            first = send(client, "POST", "/v1/users", body, key)
            ids.add(assert_acted(first)["id"])
            assert_replayed(send(client, "POST", "/v1/users", body, key), first)
    assert len(ids) == 4


# --- refusals that are final ---


def test_409_is_kept(api: httpx2.Client) -> None:
    body, key = new_user(), unique()
    taken = api.post("/v1/users", json=body).json()
    first = send(api, "POST", "/v1/users", body, key)
    assert REPLAYED not in first.headers
    error = assert_error(first, 409, "already_exists")
    api.delete(f"/v1/users/{taken['id']}")
    again = send(api, "POST", "/v1/users", body, key)
    assert_replayed(again, first)
    assert assert_error(again, 409, "already_exists") == error
    assert_acted(send(api, "POST", "/v1/users", body, unique()))


def test_404_is_kept(api: httpx2.Client) -> None:
    path, key = "/v1/users/usr_00000000000000000000000000000000", unique()
    first = send(api, "DELETE", path, None, key)
    error = assert_error(first, 404, "resource_not_found")
    again = send(api, "DELETE", path, None, key)
    assert_replayed(again, first)
    assert assert_error(again, 404, "resource_not_found") == error


def test_412_is_kept(api: httpx2.Client, user: str) -> None:
    key = unique()
    headers = {"If-Match": '"999"'}
    first = send(api, "PATCH", user, {"name": "B"}, key, **headers)
    error = assert_error(first, 412, "precondition_failed")
    again = send(api, "PATCH", user, {"name": "B"}, key, **headers)
    assert_replayed(again, first)
    assert assert_error(again, 412, "precondition_failed") == error


# --- refusals that are not ---


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        ("{", 400, "invalid_json"),
        ("{}", 422, "validation_failed"),
        ('{"email": "x"}', 422, "validation_failed"),
        ('{"user_id": "usr_00000000000000000000000000000000", "tag": "x"}', 422, None),
    ],
)
def test_a_request_that_was_wrong_can_be_corrected_under_its_key(
    api: httpx2.Client, content: str, status: int, reason: str | None
) -> None:
    headers = {"Idempotency-Key": unique(), "Content-Type": "application/json"}
    path = "/v1/users" if reason else "/v1/tags"
    wrong = api.post(path, content=content, headers=headers)
    assert_error(wrong, status, reason or "validation_failed")
    assert_acted(send(api, "POST", "/v1/users", new_user(), headers["Idempotency-Key"]))


def test_401_and_403_are_not_kept(server: Server, api: httpx2.Client) -> None:
    body, key = new_user(), unique()
    made = api.post("/v1/tokens", json={"name": "reader", "preset": "read-only"}).json()
    with server.client(None) as nobody, server.client(made["token"]) as reader:
        assert_error(send(nobody, "POST", "/v1/users", body, key), 401, "missing_token")
        assert_error(send(reader, "POST", "/v1/users", body, key), 403, "insufficient_scope")
    assert_acted(send(api, "POST", "/v1/users", body, key))


def test_429_is_not_kept(data: Path) -> None:
    with running(data, OPERATOR_RATE_LIMIT="1/1s") as server, server.client() as client:
        body, key = new_user(), unique()
        assert client.get("/v1/me").status_code == 200
        answer = send(client, "POST", "/v1/users", body, key)
        assert_error(answer, 429, "rate_limited")
        while answer.status_code == 429:
            time.sleep(int(answer.headers["retry-after"]))
            answer = send(client, "POST", "/v1/users", body, key)
        assert_acted(answer)


def test_503_is_not_kept(data: Path) -> None:
    with running(data, OPERATOR_BUSY_SECONDS="0.1") as server, server.client() as client:
        body, key = new_user(), unique()
        with write_lock(data):
            for _ in range(2):
                refused = send(client, "POST", "/v1/users", body, key)
                assert_error(refused, 503, "store_unavailable")
        first = send(client, "POST", "/v1/users", body, key)
        assert_acted(first)
        assert_replayed(send(client, "POST", "/v1/users", body, key), first)
        assert query(data, "SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize("key", ["", '""', "a b", "a" * 256, "ключ".encode()])
def test_what_is_no_key_is_400(api: httpx2.Client, key: str | bytes) -> None:
    headers = {b"Idempotency-Key": key if isinstance(key, bytes) else key.encode()}
    assert_error(api.post("/v1/users", json=new_user(), headers=headers), 400, "invalid_header")


# --- in progress ---


def test_a_key_in_work_is_409_that_can_be_waited_for(data: Path) -> None:
    patience = {"OPERATOR_IDEMPOTENCY_PATIENCE_SECONDS": "0.1", "OPERATOR_BUSY_SECONDS": "30"}
    with (
        running(data, **patience) as server,
        server.client() as client,
        ThreadPoolExecutor(2) as threads,
    ):
        sent = ("POST", "/v1/users", new_user(), unique())
        with write_lock(data):
            both = [threads.submit(send, client, *sent) for _ in range(2)]
            # One of them waits for the lock, and the other one for it, but not as long.
            (second,), (first,) = wait(both, timeout=20, return_when=FIRST_COMPLETED)
            error = assert_error(second.result(), 409, "idempotency_in_progress")
            assert error["retry"]["action"] == "wait"
            assert int(second.result().headers["retry-after"]) >= 1
            assert client.get("/v1/users").json()["data"] == []
        assert_acted(first.result())
        assert_replayed(send(client, *sent), first.result())


# --- restarts ---


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_keys_survive_a_restart(data: Path, how: signal.Signals) -> None:
    with running(data) as server:
        sent = [("POST", "/v1/users", new_user(), unique()) for _ in range(5)]
        sent.append((*sent[0][:3], unique()))  # 409: its email is taken
        with server.client() as client:
            answers = [send(client, *each) for each in sent]
            assert [answer.status_code for answer in answers] == [201] * 5 + [409]
        server.stop(how)
        server.start()
        with server.client() as client:
            for each, first in zip(sent, answers, strict=True):
                assert_replayed(send(client, *each), first)
        assert query(data, "SELECT count(*) FROM users") == [(5,)]


# --- secrets ---


def test_a_kept_token_is_not_shown_to_one_that_could_not_have_made_it(
    server: Server, api: httpx2.Client
) -> None:
    create = ("POST", "/v1/tokens", {"name": "of an admin", "preset": "admin"}, unique())
    assert_acted(send(api, *create))
    lesser = api.post("/v1/tokens", json={"name": "lesser", "scopes": ["tokens:admin"]}).json()
    with server.client(lesser["token"]) as client:
        assert_error(client.post(*create[1:2], json=create[2]), 403, "insufficient_scope")
        assert_error(send(client, *create), 403, "insufficient_scope")


def test_the_token_in_a_kept_answer_is_nowhere_in_clear(data: Path) -> None:
    with running(data) as server, server.client() as client:
        create: Request = ("POST", "/v1/tokens", {"name": "kept", "preset": "read-only"}, unique())
        made = send(client, *create)
        rotate: Request = ("POST", f"/v1/tokens/{made.json()['id']}/rotate", {}, unique())
        rotated = send(client, *rotate)
        assert_replayed(send(client, *create), made)
        assert_replayed(send(client, *rotate), rotated)
        tokens = [made.json()["token"], rotated.json()["token"]]
        for token in tokens:
            with server.client(token) as other:
                assert other.get("/v1/me").status_code == 200
        assert_not_in_files(data, [*tokens, server.token])  # in the log as well
        server.stop(signal.SIGKILL)
        server.start()
        with server.client() as again:
            assert_replayed(send(again, *create), made)
        assert_not_in_files(data, [*tokens, server.token])


def assert_not_in_files(data: Path, secrets: list[str]) -> None:
    files = sorted(data.glob(f"{FILE}*"))
    assert {file.name for file in files} >= {FILE, f"{FILE}-wal", f"{FILE}-shm"}
    stored = b"".join(file.read_bytes() for file in files)
    assert b"kept" in stored, "what is stored was not looked at"
    for secret in secrets:
        assert secret.encode() not in stored
        # Neither the part of it that nobody can guess, but for the ends that people are shown.
        assert secret[11:-4].encode() not in stored


def test_a_key_is_stored_as_a_digest(server: Server, api: httpx2.Client) -> None:
    key = unique("a-key-that-may-hold-an-email")
    assert_acted(send(api, "POST", "/v1/users", new_user(), key))
    for file in server.data.glob(f"{FILE}*"):
        assert key.encode() not in file.read_bytes()


# --- seven days ---


def test_a_key_older_than_seven_days_is_as_good_as_none(data: Path) -> None:
    with running(data) as server:
        with server.client() as client:
            made = client.post("/v1/users", json=new_user()).json()
            change = ("PATCH", f"/v1/users/{made['id']}", {"name": "Ada"})
            send(client, *change, "old")
            kept = send(client, *change, "young")
        server.stop()
        age(data, "old", KEPT_MICROSECONDS)
        age(data, "young", KEPT_MICROSECONDS - 60_000_000)  # a minute is left
        server.start()
        with server.client() as client:
            assert_replayed(send(client, *change, "young"), kept)
            acted = send(client, *change, "old")
            assert_acted(acted, 200)
            assert acted.headers["etag"] == '"4"'
            assert_replayed(send(client, *change, "old"), acted)  # it counts anew from now on


def test_a_key_that_is_too_old_may_be_used_for_another_request(data: Path) -> None:
    with running(data) as server:
        with server.client() as client:
            assert_acted(send(client, "POST", "/v1/users", new_user(), "old"))
        server.stop()
        age(data, "old", KEPT_MICROSECONDS)
        server.start()
        with server.client() as client:
            assert_acted(send(client, "POST", "/v1/users", new_user(), "old"))


def age(data: Path, key: str, microseconds: int) -> None:
    """Make a key older than it is."""
    digest = hashlib.sha256(key.encode()).digest()
    sql = "UPDATE idempotency_keys SET created_at = created_at - :by WHERE key = :digest"
    query(data, sql, by=microseconds, digest=digest)


async def test_the_sweep_deletes_what_is_too_old_and_nothing_else(data: Path) -> None:
    with running(data) as server:
        server.stop()
    now = now_microseconds()
    database = SQLite(data / FILE, busy_seconds=5, max_waiting=10)
    insert = (
        "INSERT INTO idempotency_keys (tenant, key, fingerprint, answer, created_at)"
        " VALUES (1, :key, x'00', x'00', :created_at)"
    )
    ages = {f"{n}": KEPT_MICROSECONDS + n for n in range(SWEPT_AT_ONCE + 10)}
    ages["young"] = KEPT_MICROSECONDS - 1
    await database.write(
        [
            Statement(insert, {"key": name.encode(), "created_at": now - by})
            for name, by in ages.items()
        ]
    )
    keys = IdempotencyKeys(database, Sealer(bytes(KEY_BYTES)), patience_seconds=1)
    swept = []
    for _ in range(3):
        more = await keys.sweep(now)
        left = await database.scan("SELECT key FROM idempotency_keys", {})
        swept.append((more, len(left)))
    assert swept == [(True, 11), (True, 1), (False, 1)]
    (row,) = await database.scan("SELECT key FROM idempotency_keys", {})
    assert row["key"] == b"young"
    await database.close()


# --- contention ---


async def gathered(server: Server, *requests: tuple[str, str, Any]) -> list[httpx2.Response]:
    """Send requests at once, each over a connection of its own."""
    async with httpx2.AsyncClient(
        base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}, timeout=60
    ) as client:
        return await asyncio.gather(
            *(client.request(method, path, json=body) for method, path, body in requests)
        )


async def test_changes_of_one_user_at_once_all_succeed(server: Server, api: httpx2.Client) -> None:
    path = f"/v1/users/{api.post('/v1/users', json=new_user()).json()['id']}"
    answers = await gathered(server, *(("PATCH", path, {"name": str(n)}) for n in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["etag"] for answer in answers} == {f'"{n}"' for n in range(2, 52)}
    last = api.get(path)
    assert last.headers["etag"] == '"51"'
    (of_last,) = [answer for answer in answers if answer.headers["etag"] == '"51"']
    assert last.content == of_last.content


async def test_of_two_that_want_one_email_one_gets_it(server: Server, api: httpx2.Client) -> None:
    for _ in range(20):
        paths = [f"/v1/users/{api.post('/v1/users', json=new_user()).json()['id']}" for _ in "ab"]
        wanted = new_user()
        got, refused = sorted(
            await gathered(server, *(("PATCH", path, wanted) for path in paths)),
            key=lambda answer: answer.status_code,
        )
        assert got.status_code == 200
        error = assert_error(refused, 409, "already_exists")
        assert error["metadata"]["existing_id"] == got.json()["id"]


async def test_of_many_that_create_one_email_one_does(server: Server) -> None:
    body = new_user()
    answers = await gathered(server, *[("POST", "/v1/users", body)] * 20)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


async def test_a_conversation_with_a_user_that_is_deleted_meanwhile(
    server: Server, api: httpx2.Client
) -> None:
    for turn in range(20):
        user_id = api.post("/v1/users", json=new_user()).json()["id"]
        body = {"user_id": user_id, "channel": "web"}
        requests: list[tuple[str, str, Any]] = [("POST", "/v1/conversations", body)] * 6
        requests.insert(turn % 7, ("DELETE", f"/v1/users/{user_id}", None))
        answers = await gathered(server, *requests)
        assert answers.pop(turn % 7).status_code == 200
        for answer in answers:
            if answer.status_code != 201:
                error = assert_error(answer, 422, "validation_failed")
                assert error["errors"][0]["reason"] == "not_found"
        left = api.get("/v1/conversations", params={"user_id": user_id}).json()["data"]
        assert left == []


async def test_a_message_to_a_conversation_that_is_closed_meanwhile(
    server: Server, api: httpx2.Client
) -> None:
    user_id = api.post("/v1/users", json=new_user()).json()["id"]
    for turn in range(20):
        conversation = api.post(
            "/v1/conversations", json={"user_id": user_id, "channel": "web"}
        ).json()["id"]
        message = {"conversation_id": conversation, "type": "user", "message": "Hello"}
        requests: list[tuple[str, str, Any]] = [("POST", "/v1/messages", message)] * 6
        requests.insert(turn % 7, ("POST", f"/v1/conversations/{conversation}/close", None))
        answers = await gathered(server, *requests)
        closed = answers.pop(turn % 7)
        assert closed.status_code == 200
        created = [answer.json() for answer in answers if answer.status_code == 201]
        for answer in answers:
            if answer.status_code != 201:
                assert_error(answer, 409, "conversation_closed")
        kept = api.get(f"/v1/conversations/{conversation}/messages").json()["data"]
        assert sorted(m["id"] for m in kept) == sorted(m["id"] for m in created)
        assert all(m["created_at"] <= closed.json()["closed_at"] for m in kept)
