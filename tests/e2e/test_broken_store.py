"""A store that is locked, full, gone or spoilt: 503, nothing by halves, and recovery."""

import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.errors import assert_error
from tests.servers import Server, eventually, running
from tests.stores import FILE, assert_sound, query, write_lock

UNLIMITED = resource.RLIM_INFINITY


def create(
    client: httpx2.Client, name: str, *, key: str | None = None, size: int = 0
) -> httpx2.Response:
    """Create a user, with tags that take so many bytes."""
    tags = [f"{n:02}{'x' * 60}" for n in range(size // 64)]
    headers = {"Idempotency-Key": key} if key else {}
    body = {"email": f"{name}@example.com", "tags": tags}
    return client.post("/v1/users", json=body, headers=headers)


def assert_unavailable(response: httpx2.Response) -> None:
    error = assert_error(response, 503, "store_unavailable")
    assert error["outcome"] == "not_executed"
    assert error["retry"]["retryable"]
    assert int(response.headers["retry-after"]) >= 1


def emails(data: Path) -> set[str]:
    return {email.split("@")[0] for (email,) in query(data, "SELECT email FROM users")}


# --- locked ---


def test_a_lock_that_another_program_holds_is_503_for_writes_alone(data: Path) -> None:
    with running(data, OPERATOR_BUSY_SECONDS="0.2") as server, server.client() as client:
        user = create(client, "before").json()
        with write_lock(data):
            assert_unavailable(create(client, "locked"))
            assert_unavailable(create(client, "locked", key="key"))
            assert client.get(f"/v1/users/{user['id']}").json() == user
            assert client.get("/v1/users").json()["data"] == [user]
            assert client.get("/readyz").status_code == 200
        answer = create(client, "locked", key="key")
        assert answer.status_code == 201
        assert "idempotent-replayed" not in answer.headers
    assert emails(data) == {"before", "locked"}


def test_a_lock_that_is_soon_let_go_is_waited_for(data: Path) -> None:
    with (
        running(data, OPERATOR_BUSY_SECONDS="30") as server,
        server.client() as client,
        ThreadPoolExecutor(8) as threads,
    ):
        with write_lock(data):
            answers = [threads.submit(create, client, str(n)) for n in range(8)]
            # Reads go on, and prove that time passes while the writes wait.
            for _ in range(20):
                assert client.get("/v1/users").json()["data"] == []
            assert not any(answer.done() for answer in answers)
        assert {answer.result().status_code for answer in answers} == {201}


def test_overload_is_503_at_once_and_leaves_the_others_alone(data: Path) -> None:
    with (
        running(data, OPERATOR_WRITES_WAITING="3", OPERATOR_BUSY_SECONDS="30") as server,
        server.client() as client,
        ThreadPoolExecutor(40) as threads,
    ):
        with write_lock(data):
            answers = [threads.submit(create, client, str(n)) for n in range(40)]
            eventually(lambda: sum(answer.done() for answer in answers) > 0)
            refused = create(client, "one-more", key="key")
            error = assert_error(refused, 503, "overloaded")
            assert error["outcome"] == "not_executed"
            assert client.get("/v1/me").status_code == 200
        statuses = [answer.result().status_code for answer in answers]
        assert set(statuses) == {201, 503}
        created = statuses.count(201)
        assert created >= 3
        assert len(emails(data)) == created
        assert create(client, "one-more", key="key").status_code == 201


# --- full ---


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """Let no file of the server grow: what it writes beyond its end fails, as on a full disk.

    A limit of the process (RLIMIT_FSIZE) needs no privilege, holds from one moment to the next,
    and can be taken back; a small file system would need root.
    """
    pid = server.process.pid
    largest = max(file.stat().st_size for file in server.data.glob(f"{FILE}*"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, UNLIMITED))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))


def test_a_full_disk_is_503_with_nothing_half_written_and_passes(data: Path) -> None:
    with running(data) as server, server.client() as client:
        user = create(client, "before", size=3200).json()
        with full_disk(server):
            answers = [create(client, f"full-{n}", key=f"key-{n}", size=3200) for n in range(200)]
            refused = [n for n, answer in enumerate(answers) if answer.status_code != 201]
            assert refused
            for number in refused:
                error = assert_error(answers[number], 503, "store_unavailable")
                assert error["outcome"] == "unknown" or f"full-{number}" not in emails(data)
                # With a key, to send it again is safe and settles the outcome.
                assert error["retry"]["action"] == "retry_with_backoff"
            assert client.get(f"/v1/users/{user['id']}").json() == user
            assert_sound(data)
        eventually(lambda: create(client, "after").status_code in {201, 409})
        for again in refused:
            assert create(client, f"full-{again}", key=f"key-{again}", size=3200).status_code == 201
        assert emails(data) == {"before", "after", *(f"full-{n}" for n in range(200))}
        assert query(data, "SELECT count(*) FROM user_tags") == [(50 * 201,)]
    assert_sound(data)


@pytest.mark.parametrize("keyed", [False, True])
def test_an_unknown_outcome_is_settled_by_a_retry_with_the_same_key_alone(
    data: Path, keyed: bool
) -> None:
    with running(data) as server, server.client() as client:
        with full_disk(server):
            answer = create_until_unknown(client, keyed=keyed)
        error = assert_error(answer, 503, "store_unavailable")
        assert error["retry"]["action"] == ("retry_with_backoff" if keyed else "check_outcome")
        assert answer.headers["x-should-retry"] == ("true" if keyed else "false")


def create_until_unknown(client: httpx2.Client, *, keyed: bool) -> httpx2.Response:
    """Create users until the store cannot tell whether one was committed."""
    for number in range(2000):
        key = f"key-{number}" if keyed else None
        answer = create(client, f"user-{number}", key=key, size=3200)
        if answer.status_code == 503 and answer.json()["error"]["outcome"] == "unknown":
            return answer
    raise AssertionError("the disk did not fill up")


def test_a_disk_that_fills_up_under_many_writers(data: Path) -> None:
    with running(data) as server, ThreadPoolExecutor(8) as threads:
        with full_disk(server):
            written = list(threads.map(_write_until_full, [server] * 8, range(8)))
        acknowledged = {name for names in written for name in names}
        with server.client() as client:
            eventually(lambda: create(client, "after").status_code in {201, 409})
        assert acknowledged <= emails(data)
        # A write is whole or not there at all.
        assert query(
            data,
            "SELECT count(*) FROM users WHERE email <> 'after@example.com' AND 20 <>"
            " (SELECT count(*) FROM user_tags WHERE user_id = users.id)",
        ) == [(0,)]
    assert_sound(data)


def _write_until_full(server: Server, writer: int) -> list[str]:
    written: list[str] = []
    with server.client() as client:
        for number in range(2000):
            name = f"{writer}-{number}"
            answer = create(client, name, size=20 * 64)
            if answer.status_code == 503:
                assert_error(answer, 503, "store_unavailable")
                return written
            assert answer.status_code == 201
            written.append(name)
    raise AssertionError("the disk did not fill up")


# --- spoilt or gone ---


def test_a_spoilt_file_is_503_and_the_server_goes_on_answering(data: Path) -> None:
    with running(data) as server, server.client() as client:
        create(client, "before")
        spoil(data)
        for number in range(3):
            assert_unavailable(create(client, f"spoilt-{number}"))
            assert_unavailable(client.get("/v1/users"))
            assert_unavailable(client.get("/readyz"))
            assert client.get("/livez").status_code == 200


def spoil(data: Path) -> None:
    """Write over every page, over the log of those that are newer, and over its index."""
    for file in data.glob(f"{FILE}*"):
        with file.open("r+b") as spoilt:
            spoilt.write(b"\xa5" * file.stat().st_size)


def test_what_is_written_to_a_file_that_is_gone_is_not_acknowledged(data: Path) -> None:
    with running(data) as server, server.client() as client:
        user = create(client, "before").json()
        away = data.rename(data.with_name("away"))
        for number in range(3):
            assert_unavailable(create(client, f"gone-{number}"))
            assert_unavailable(client.get("/readyz"))
            assert client.get("/livez").status_code == 200
        away.rename(data)
        assert client.get("/readyz").status_code == 200
        assert create(client, "back").status_code == 201
        assert client.get(f"/v1/users/{user['id']}").json() == user
    assert emails(data) == {"before", "back"}


def test_what_is_written_beside_a_file_that_was_replaced_is_not_acknowledged(data: Path) -> None:
    with running(data) as server, server.client() as client:
        create(client, "before")
        restored = data / f"{FILE}.restored"
        shutil.copy(data / FILE, restored)
        restored.rename(data / FILE)
        assert_unavailable(create(client, "replaced"))
        assert_unavailable(client.get("/readyz"))
