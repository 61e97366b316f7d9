"""What the request log keeps, that it keeps all of it, and that nothing of it harms a request."""

import secrets
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.contract.errors import RESOURCE_NOT_FOUND, VALIDATION_FAILED, Problem
from operator_api.contract.operations import BY_NAME
from operator_api.server.auth import Token
from operator_api.server.exchange import Exchange, Response
from operator_api.server.ids import new_id
from operator_api.server.requests import record
from operator_api.server.requests.entry import MATERIAL_BYTES, Entry, Material
from operator_api.server.requests.file import VERSION
from operator_api.server.requests.log import RequestLog
from operator_api.server.requests.record import Recorder, Retention
from operator_api.server.requests.search import Query, Reader
from operator_api.server.requests.store import MOST_UNKNOWN_PATHS, OTHER_PATHS, Store
from tests.calls import mint, new_email
from tests.errors import assert_error
from tests.servers import Server, eventually, running
from tests.wire import Wire

FILE = "requests.db"
KEY = b"k" * 32
LONG = Retention(days=30, megabytes=1000)
FAILED = Response(422, b"{}", [(b"x-error-reason", b"validation_failed")])


def token(tenant: int) -> Token:
    name = f"tok_{tenant:032x}"
    return Token(name, "a token", tenant, "acc_", "an account", "test", frozenset(), None, None)


def exchange(tenant: int | None = 1, *, at: int | None = None, **changes: Any) -> Exchange:
    """Return a refused request; ``at`` is when it began, in nanoseconds since 1970."""
    request_id = new_id("req") if at is None else f"req_{at:016x}{secrets.token_hex(8)}"
    made = Exchange(request_id, "POST", "/v1/users", ["v1", "users"], b"", {}, "127.0.0.1")
    made.operation = BY_NAME["users.create"]
    made.bearer = None if tenant is None else token(tenant)
    made.problem = Problem(VALIDATION_FAILED)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def note(recorder: Recorder, *exchanges: Exchange, body: bytes = b"") -> None:
    for each in exchanges:
        recorder.note(each, FAILED, body, complete=True)


@contextmanager
def recording(path: Path, retention: Retention = LONG, **options: Any) -> Iterator[Recorder]:
    options.setdefault("details", None)
    recorder = Recorder(path, hash_key=KEY, retention=retention, **options)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


def entries(path: Path, *tenants: int) -> list[Entry]:
    """Return all that the log has of the tenants: 0 is nobody."""
    with closing(Reader(path)) as reader:
        queries = [Query(tenant=tenant, most=1_000_000) for tenant in tenants]
        return [entry for query in queries for entry in reader.search(query)]


def all_entries(path: Path) -> list[Entry]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT DISTINCT tenant FROM labels").fetchall()
    return entries(path, *(tenant for (tenant,) in found))


def ids(found: Sequence[Entry | Exchange]) -> set[str]:
    return {each.id if isinstance(each, Entry) else each.request_id for each in found}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


# --- the whole server -----------------------------------------------------------------------------


def failures(server: Server) -> list[httpx2.Response]:
    """Make requests fail in every part of the server, and return their answers."""
    answers = []
    with server.client() as client, server.client(None) as nobody:
        headers = {"Content-Type": "application/json"}
        for _ in range(20):
            answers += [
                client.post("/v1/users", json={}),
                client.post("/v1/users", content=b"{", headers=headers),
                client.get(f"/v1/users/usr_{'0' * 32}"),
                client.get("/v1/users/42"),
                client.get("/v1/userz"),
                client.delete("/v1/users"),
                client.get("/v1/users", params={"limit": "0"}),
                nobody.get("/v1/users"),
                nobody.get("/v1/users", headers={"Authorization": "Bearer nonsense"}),
                nobody.get("/nowhere"),
            ]
    for raw in [
        b"this is no HTTP\r\n\r\n",
        b"GET /v1/users HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /v1/us",  # and no more of it: 408
        b"POST /v1/users HTTP/1.1\r\nContent-Length: 5\r\n\r\n{",
    ]:
        with Wire(server.address) as wire:
            answers.append(wire.send(raw).answer())
    return answers


def test_every_failed_answer_has_its_entry(data: Path) -> None:
    with running(data, OPERATOR_RECEIVE_SECONDS="0.5") as server:
        answers = failures(server)
        assert server.stop() == 0
    expected = {(each.headers["x-request-id"], each.status_code) for each in answers}
    found = {(entry.id, entry.status): entry for entry in all_entries(data / FILE)}
    assert {400, 401, 404, 405, 408, 422, 431} == {status for _, status in expected}
    assert set(found) == expected
    for each in answers:
        entry = found[each.headers["x-request-id"], each.status_code]
        assert entry.reason == each.headers["x-error-reason"]


def test_a_stop_writes_what_waits(data: Path) -> None:
    with running(data) as server:
        with server.client() as client:
            answered = {client.get("/v1/me").headers["x-request-id"] for _ in range(50)}
        assert server.stop(signal.SIGTERM) == 0
    assert ids(all_entries(data / FILE)) == answered


def test_a_killed_server_loses_the_last_moment_only_and_starts_again(data: Path) -> None:
    with running(data) as server:
        with server.client() as client:
            answered = {client.get("/v1/me").headers["x-request-id"] for _ in range(50)}
            eventually(lambda: answered <= ids(all_entries(data / FILE)))
            for _ in range(20):
                client.get("/v1/me")
        server.stop(signal.SIGKILL)
        server.start()
        with server.client() as client:
            last = client.get("/v1/me").headers["x-request-id"]
            eventually(lambda: client.get("/v1/requests", params={"q": last}).json()["data"])
        assert server.stop() == 0
    assert answered | {last} <= ids(all_entries(data / FILE))
    with closing(sqlite3.connect(data / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_log_that_goes_away_is_made_anew(data: Path) -> None:
    with running(data) as server, server.client() as client:
        eventually((data / FILE).exists)
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
            (data / name).unlink(missing_ok=True)

        def found_again() -> bool:
            asked = client.get("/v1/me").headers["x-request-id"]
            time.sleep(0.3)
            response = client.get("/v1/requests", params={"q": asked})
            return response.status_code == 200 and bool(response.json()["data"])

        eventually(found_again)
        assert server.stop() == 0
    assert any("is gone" in line for line in server.errors)


def spoil(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"spoilt! " * (file.stat().st_size // 8))


def test_a_log_that_is_spoilt_is_put_aside_while_requests_go_on(data: Path) -> None:
    def found_again(client: httpx2.Client) -> bool:
        answered = client.get("/v1/me")
        assert answered.status_code == 200
        time.sleep(0.3)
        response = client.get("/v1/requests", params={"q": answered.headers["x-request-id"]})
        assert response.status_code in {200, 503}
        return response.status_code == 200 and bool(response.json()["data"])

    with running(data) as server:
        with server.client() as client:
            eventually(lambda: found_again(client))
            spoil(data / FILE)
            spoil(data / f"{FILE}-wal")
            eventually(lambda: found_again(client), seconds=20)
        assert server.stop() == 0
        spoil(data / FILE)
        server.start()
        with server.client() as client:
            eventually(lambda: found_again(client), seconds=20)
        assert server.stop() == 0
    (aside, *_) = data.glob(f"{FILE}.spoilt-*")
    assert aside.read_bytes().startswith(b"spoilt!")
    with closing(sqlite3.connect(data / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_file_of_a_newer_program_is_left_alone_and_requests_go_on(data: Path) -> None:
    data.mkdir()
    with closing(sqlite3.connect(data / FILE)) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    with running(data) as server, server.client() as client:
        assert client.get("/v1/me").status_code == 200
        assert_error(client.get("/v1/requests"), 503, "store_unavailable")
        assert server.stop() == 0
    with closing(sqlite3.connect(data / FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_server_without_a_log_says_that_it_is_empty(data: Path) -> None:
    with running(data, OPERATOR_REQUEST_LOG="off") as server, server.client() as client:
        assert client.get("/v1/requests").json()["data"] == []
        assert server.stop() == 0
    assert not (data / FILE).exists()


def test_no_secret_is_in_the_files(data: Path) -> None:
    with running(data) as server:
        planted = mint(server)
        for client_id in (planted[:60], planted):
            headers = {
                "Authorization": f"Bearer {planted}",
                "X-Request-Id": client_id,
                "Idempotency-Key": "idempotency-key-of-mine",
                "X-Operator-Retry-Count": planted,
                "X-Secret": "header-of-mine",
            }
            with server.client(None) as client:
                client.headers.update(headers)
                client.get(f"/v1/nowhere/{planted}")
                client.get(f"/v1/users/{planted}")
                client.get("/v1/users/ada@example.com")
                client.get("/v1/users/password=hunter2-of-mine")
                client.get("/v1/users", params={"email": "grace@example.com"})
                client.post("/v1/users", json={"email": new_email(), "name": "body-of-mine"})
        assert server.stop() == 0
    assert len(all_entries(data / FILE)) == 12
    kept = b"".join(file.read_bytes() for file in data.glob(f"{FILE}*"))
    secret = [planted[:20], planted[12:30], planted[-20:], "ada@", "grace@", "of-mine", "hunter2"]
    assert [each for each in secret if each.encode() in kept] == []


# --- the queue ------------------------------------------------------------------------------------


def test_what_the_queue_cannot_hold_is_dropped_and_counted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(path, hash_key=KEY, details=None, retention=LONG)
    kept = [exchange() for _ in range(record.MOST_WAITING)]
    note(recorder, *kept)
    note(recorder, *(exchange() for _ in range(10)))
    assert recorder.counts.dropped == 10
    recorder.start()
    recorder.stop()
    assert recorder.counts.written == record.MOST_WAITING
    assert ids(entries(path, 1)) == ids(kept)
    assert "dropped 10 rows" in caplog.text


def test_large_bodies_are_bounded_too(path: Path) -> None:
    recorder = Recorder(path, hash_key=KEY, details=None, retention=LONG)
    fit = record.MOST_WAITING_BYTES // MATERIAL_BYTES
    note(recorder, *(exchange() for _ in range(fit + 3)), body=bytes(1024 * 1024))
    assert recorder.counts.dropped == 3
    assert max(len(each[record._BODY]) for each in recorder._queue) == MATERIAL_BYTES
    recorder.start()
    recorder.stop()
    found = entries(path, 1)
    assert len(found) == fit
    # All of the body is hashed, though not all of it is kept until then.
    assert {entry.body_hash for entry in found} == {recorder._hashes.of(1, bytes(1024 * 1024))}


def test_to_hand_over_takes_no_time(path: Path) -> None:
    recorder = Recorder(path, hash_key=KEY, details=None, retention=LONG)
    exchanges = [exchange() for _ in range(5000)]
    began = time.thread_time()
    note(recorder, *exchanges, body=b"{}")
    assert (time.thread_time() - began) / len(exchanges) < 50e-6  # it is about 1 µs


def test_nobodys_requests_are_kept_apart(path: Path) -> None:
    with recording(path) as recorder:
        note(recorder, mine := exchange(1), nobodys := exchange(None))
    assert ids(entries(path, 1)) == {mine.request_id}
    assert ids(entries(path, 0)) == {nobodys.request_id}


def test_hashes_are_keyed_and_the_tenants_own(path: Path) -> None:
    headers = {b"idempotency-key": b'"a-key"'}
    with recording(path) as recorder:
        note(recorder, *(exchange(n, headers=headers) for n in (1, 1, 2)), body=b"the same")
    with recording(path.with_name("other.db")) as other:
        other._hashes = type(other._hashes)(b"o" * 32)
        note(other, exchange(1, headers=headers), body=b"the same")
    found = [*entries(path, 1, 2), *entries(path.with_name("other.db"), 1)]
    for hashes in ([each.key_hash for each in found], [each.body_hash for each in found]):
        assert hashes[0] == hashes[1] != ""
        assert len(set(hashes)) == 3


def test_unknown_paths_are_kept_but_not_without_end(path: Path) -> None:
    unknown: dict[str, Any] = {"operation": None, "problem": Problem(RESOURCE_NOT_FOUND)}
    with recording(path) as recorder:
        for number in range(MOST_UNKNOWN_PATHS + 50):
            note(recorder, exchange(1, **unknown, path=f"/v1/no{number}"))
        note(recorder, known := exchange(1))
    found = entries(path, 1)
    paths = {entry.path for entry in found}
    assert len(found) == MOST_UNKNOWN_PATHS + 51
    assert {"/v1/no0", "/v1/no999", OTHER_PATHS, "/v1/users"} <= paths
    assert len(paths) <= MOST_UNKNOWN_PATHS + 3
    assert known.request_id in ids(found)


# --- details --------------------------------------------------------------------------------------


class Sealing:
    """Makes details, as slowly and as badly as told."""

    def __init__(self, *, seconds: float = 0, failing: bool = False) -> None:
        self.seconds = seconds
        self.failing = failing
        self.threads: set[str] = set()

    def note(self, _exchange: Exchange, _body: bytes | bytearray, *, failed: bool) -> None:
        del failed

    def seal(self, entry: Entry, material: Material) -> bytes | None:
        self.threads.add(threading.current_thread().name)
        assert material.exchange.request_id == entry.id
        until = time.thread_time() + self.seconds
        while time.thread_time() < until:
            pass
        if self.failing:
            raise ValueError("cannot be sealed")
        return b"sealed " + entry.id.encode()


def details(path: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, sealed FROM details").fetchall())


def test_each_failed_request_has_its_detail_and_no_other(path: Path) -> None:
    sealing = Sealing()
    with recording(path, details=sealing) as recorder:
        note(recorder, failed := exchange())
        recorder.note(exchange(problem=None), Response(201, b"{}"), b"", complete=True)
    assert details(path) == {failed.request_id: b"sealed " + failed.request_id.encode()}
    assert sealing.threads == {"request-log"}
    assert (recorder.counts.written, recorder.counts.details_written) == (2, 1)


def test_a_flood_keeps_every_row_and_not_every_detail(path: Path) -> None:
    with recording(path, details=Sealing(seconds=0.005)) as recorder:
        for _ in range(10):
            note(recorder, *(exchange() for _ in range(100)))
            time.sleep(0.1)
    counts = recorder.counts
    assert counts.written == len(entries(path, 1)) == 1000
    assert 0 < counts.details_written == len(details(path))
    assert counts.details_dropped == 1000 - counts.details_written > 500


def test_a_detail_that_fails_costs_the_detail_alone(path: Path) -> None:
    with recording(path, details=Sealing(failing=True)) as recorder:
        note(recorder, failed := exchange())
    assert ids(entries(path, 1)) == {failed.request_id}
    assert details(path) == {}
    assert recorder.counts.details_dropped == 1


# --- the file -------------------------------------------------------------------------------------


def test_a_full_disk_is_waited_for(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with recording(path) as recorder:
        note(recorder, exchange())
        eventually(lambda: recorder.counts.written == 1)
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as other:
            # No commit gets through, as on a disk that is full.
            other.execute("BEGIN IMMEDIATE")
            waiting = [exchange() for _ in range(100)]
            note(recorder, *waiting)
            eventually(lambda: recorder.counts.failures > 0)
            assert recorder.counts.written == 1
            other.execute("ROLLBACK")
        eventually(lambda: recorder.counts.written == 101)
    assert ids(waiting) <= ids(entries(path, 1))
    assert recorder.counts.dropped == 0
    assert caplog.text.count("cannot be written") == 1


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    with recording(tmp_path / "missing" / FILE) as recorder:
        note(recorder, waiting := exchange())
        eventually(lambda: recorder.counts.failures > 0)
        (tmp_path / "missing").mkdir()
        eventually(lambda: recorder.counts.written == 1)
    assert ids(entries(tmp_path / "missing" / FILE, 1)) == {waiting.request_id}


def test_the_file_has_its_version_and_is_its_owners(path: Path) -> None:
    with recording(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert path.stat().st_mode & 0o777 == 0o600


DAY = 86_400 * 10**9


def test_what_is_too_old_is_deleted_and_nothing_else(path: Path) -> None:
    now = time.time_ns()
    old = [exchange(number % 3, at=now - 9 * DAY - number) for number in range(5000)]
    new = [exchange(number % 3, at=now - number) for number in range(100)]
    with recording(path, details=Sealing()) as recorder:
        note(recorder, *old)
        eventually(lambda: recorder.counts.written == 5000)
        time.sleep(0.3)
        note(recorder, *new)
        eventually(lambda: recorder.counts.written == 5100)
    assert len(entries(path, 0, 1, 2)) == 5100
    with recording(path, Retention(days=7, megabytes=1000)):
        eventually(lambda: len(entries(path, 0, 1, 2)) == 100, seconds=30)
        eventually(lambda: set(details(path)) <= ids(new), seconds=30)
    assert ids(entries(path, 0, 1, 2)) == ids(new)


def test_a_log_that_is_too_large_loses_its_oldest(path: Path) -> None:
    now = time.time_ns()
    made = [exchange(1, at=now - number * 10**9) for number in range(20_000)]
    with closing(Store(path)):
        pass
    with recording(path) as recorder:
        for part in range(4):
            note(
                recorder, *(made[-number] for number in range(part * 5000 + 1, part * 5000 + 5001))
            )
            eventually(lambda: not recorder._queue)
    before = path.stat().st_size
    with recording(path, Retention(days=30, megabytes=2)), closing(Reader(path)) as reader:
        eventually(lambda: path.stat().st_size < 3_000_000, seconds=30)
        found = reader.search(Query(tenant=1, most=20_000))
    assert path.stat().st_size < before
    assert 0 < len(found) < 20_000
    assert ids(found) == ids(made[: len(found)])


def test_an_account_is_erased_without_a_trace(path: Path) -> None:
    headers = {b"x-request-id": b"a-trace-of-the-account"}
    with recording(path, details=Sealing()) as recorder:
        note(recorder, *(exchange(1, headers=headers) for _ in range(5000)))
        note(recorder, *(exchange(2) for _ in range(10)))
        eventually(lambda: recorder.counts.written == 5010)
        assert recorder.erase([1])
        assert entries(path, 1) == []
        assert len(entries(path, 2)) == 10
        kept = b"".join(file.read_bytes() for file in path.parent.glob(f"{FILE}*"))
        assert b"a-trace-of-the-account" not in kept
        note(recorder, again := exchange(1))
        eventually(lambda: recorder.counts.written == 5011)
    assert ids(entries(path, 1)) == {again.request_id}


async def test_an_account_is_erased_while_the_server_runs(path: Path) -> None:
    log = RequestLog(path, hash_key=KEY, retention=LONG)
    log.start()
    try:
        note(log.recorder, exchange(1), exchange(2))
        eventually(lambda: log.recorder.counts.written == 2)
        assert await log.erase([1])
        assert await log.search(Query(tenant=1, most=1)) == []
        assert len(await log.search(Query(tenant=2, most=1))) == 1
    finally:
        log.close()
