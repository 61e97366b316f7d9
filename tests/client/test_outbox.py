"""The outbox: what is kept is sent once and in order, and what cannot be kept raises."""

import base64
import json
import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api import (
    AsyncOperatorAI,
    ConfigurationError,
    OperatorAI,
    OutboxError,
    RequestValidationError,
)
from operator_api.client.call import Call
from operator_api.client.configuration import configure
from operator_api.client.core import Request
from operator_api.client.outbox.drain_policy import EXPIRES_AFTER
from operator_api.client.outbox.drainer import Sleep
from operator_api.client.outbox.keeper import Keeper
from operator_api.client.outbox.rows import Receipt, UnfitWriteError
from operator_api.drill.faults import Refuse, ResetAfter, Status
from operator_api.drill.plans import Always, InOrder, PerOperation
from operator_api.vault.file_keys import key_file
from tests.faulty import TOKEN, Answering, answering, bodies_per_key
from tests.servers import eventually

CONVERSATION = "cnv_" + "1" * 32
OTHER = "cnv_" + "2" * 32
CLOSED = Refuse("conversation_closed")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERATOR_SECRET_KEYS", "OPERATOR_OUTBOX", "OPERATOR_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as server:
        yield server


@contextmanager
def client_of(server: Answering, path: Path, api_key: Any = TOKEN) -> Iterator[OperatorAI]:
    with OperatorAI(api_key=api_key, base_url=server.url, outbox=path) as client:
        yield client


def say(client: OperatorAI, text: str, conversation: str = CONVERSATION, **more: Any) -> Receipt:
    return client.outbox.messages.create(
        conversation_id=conversation, message=text, type="agent", **more
    )


def texts(server: Answering) -> list[str]:
    """Return the messages in the order in which they were made."""
    return [
        server.answers.stored[id_]["message"]
        for _, id_ in server.answers.log
        if id_.startswith("msg")
    ]


# --- what is kept is sent -------------------------------------------------------------------------


def test_a_receipt_comes_at_once_and_the_write_is_sent(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        receipt = client.outbox.users.create(email="ada@example.com", name="Ada")
        assert receipt.id.startswith("out_")
        assert receipt.operation == "users.create"
        assert receipt.order_key is None
        assert client.outbox.drain(deadline=10).pending == 0
        assert client.outbox.get(receipt.id) is None, "what is sent is gone"
    (seen,) = server.seen
    assert (seen.key, seen.token) == (receipt.idempotency_key, TOKEN)
    assert json.loads(seen.body) == {"email": "ada@example.com", "name": "Ada"}


def test_it_is_on_the_disk_before_anything_is_sent(server: Answering, path: Path) -> None:
    server.proxy.close_port()
    with client_of(server, path) as client:
        receipt = client.outbox.users.create(email="ada@example.com", idempotency_key="mine")
        with closing(sqlite3.connect(path)) as file:
            rows = file.execute("SELECT id, idempotency_key, operation FROM writes").fetchall()
        assert rows == [(receipt.id, "mine", "users.create")]
    assert server.seen == ()


def test_what_is_pending_is_sent_by_the_next_client(server: Answering, path: Path) -> None:
    server.proxy.close_port()
    with client_of(server, path) as client:
        receipt = client.outbox.users.create(email="ada@example.com")
    server.proxy.open_port()
    with client_of(server, path):
        eventually(lambda: server.answers.log)
    assert [key for key, _ in server.answers.log] == [receipt.idempotency_key]


def test_a_lost_answer_makes_no_second_write(path: Path) -> None:
    with answering(PerOperation((ResetAfter(),))) as server, client_of(server, path) as client:
        for number in range(5):
            client.outbox.users.create(email=f"user{number}@example.com")
        assert client.outbox.drain(deadline=20).pending == 0
        assert set(server.created_per_key().values()) == {1}
        assert len(server.seen) == 10
        assert all(len(bodies) == 1 for bodies in bodies_per_key(server.seen).values())


def test_it_validates_before_it_keeps(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        with pytest.raises(RequestValidationError) as raised:
            client.outbox.users.create(email="not an address")
        assert raised.value.errors[0].reason == "invalid_email"
        assert client.outbox.pending() == []


def test_only_writes_can_be_kept(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        for missing in ("users.get", "users.list", "tokens.create"):
            resource_name, _, method = missing.partition(".")
            with pytest.raises(AttributeError, match="outbox"):
                getattr(getattr(client.outbox, resource_name), method)


def test_copies_share_the_outbox(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        other = client.with_options(default_headers={"X-Team": "blue"})
        other.outbox.users.create(email="ada@example.com")
        assert client.outbox.drain(deadline=10).pending == 0
        assert server.seen[0].header("x-team") == "blue"
        assert other._access is client._access


def test_without_a_path_there_is_none(server: Answering) -> None:
    with (
        OperatorAI(api_key=TOKEN, base_url=server.url) as client,
        pytest.raises(ConfigurationError, match="OPERATOR_OUTBOX"),
    ):
        _ = client.outbox


def test_the_variable_names_one_that_is_opened_when_it_is_used(
    server: Answering, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATOR_OUTBOX", str(path))
    with OperatorAI(api_key=TOKEN, base_url=server.url) as client:
        assert not path.exists()
        client.outbox.users.create(email="ada@example.com")
        assert client.outbox.drain(deadline=10).pending == 0


def test_a_closed_client_keeps_nothing_more(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        outbox = client.outbox
    with pytest.raises(ConfigurationError, match="closed"):
        outbox.users.create(email="ada@example.com")


def test_many_threads_keep_at_once(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        receipts: list[Receipt] = []

        def keep(worker: int) -> None:
            for number in range(20):
                email = f"user{worker}.{number}@example.com"
                receipts.append(client.outbox.users.create(email=email))

        threads = [threading.Thread(target=keep, args=(worker,)) for worker in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.outbox.drain(deadline=30).pending == 0
        expected = {receipt.idempotency_key: 1 for receipt in receipts}
        assert len(expected) == 200
        assert server.created_per_key() == expected


def test_closing_does_not_wait_for_a_server_that_is_gone(server: Answering, path: Path) -> None:
    client = OperatorAI(api_key=TOKEN, base_url=server.url, outbox=path)
    client.outbox.users.create(email="ada@example.com")
    assert client.outbox.drain(deadline=10).pending == 0
    server.proxy.close_port()
    for number in range(10):
        client.outbox.users.create(email=f"user{number}@example.com")
    time.sleep(0.3)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 1
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*), count(owner) FROM writes").fetchone() == (10, 0)


# --- order ----------------------------------------------------------------------------------------


def test_a_conversation_goes_in_order_and_others_beside_it(path: Path) -> None:
    # The first try of each message fails, after it was done or before.
    plan = PerOperation((ResetAfter(),))
    with answering(plan) as server, client_of(server, path) as client:
        for number in range(12):
            say(client, f"one {number}")
            say(client, f"two {number}", OTHER)
        assert client.outbox.drain(deadline=30).pending == 0
        made = texts(server)
        assert [text for text in made if text[:3] == "one"] == [f"one {n}" for n in range(12)]
        assert [text for text in made if text[:3] == "two"] == [f"two {n}" for n in range(12)]
        assert made != sorted(made), "the two went beside each other"


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (Call("messages.create", body={"conversation_id": CONVERSATION}), CONVERSATION),
        (Call("conversations.close", ids={"conversation_id": CONVERSATION}), CONVERSATION),
        (Call("conversations.create", body={"user_id": "usr_" + "3" * 32}), "usr_" + "3" * 32),
        (Call("users.update", ids={"user_id": "usr_" + "3" * 32}, body={}), "usr_" + "3" * 32),
        (Call("users.create", body={"email": "ada@example.com"}), None),
        (Call("messages.create", body={"conversation_id": "a secret"}), None),
    ],
    ids=lambda value: value.operation if isinstance(value, Call) else "",
)
def test_what_goes_in_order(path: Path, call: Call[Any], key: str | None) -> None:
    with keeper(path, Blocked()) as kept:
        assert kept.keep(call, configure({"base_url": URL, "validate": False})).order_key == key


def test_those_behind_a_dead_letter_go_on(path: Path) -> None:
    with answering(InOrder((CLOSED,))) as server, client_of(server, path) as client:
        say(client, "first")
        say(client, "second")
        status = client.outbox.drain(deadline=10)
        assert (status.pending, status.dead) == (0, 1)
        assert texts(server) == ["second"]


# --- dead letters ---------------------------------------------------------------------------------


def test_what_is_refused_for_good_is_a_dead_letter_with_its_error(path: Path) -> None:
    with answering() as server, client_of(server, path) as client:
        client.users.create(email="ada@example.com")
        receipt = client.outbox.users.create(email="ada@example.com")
        assert client.outbox.drain(deadline=10).dead == 1
        (letter,) = client.outbox.dead_letters()
        assert (letter.id, letter.cause) == (receipt.id, "refused")
        assert (letter.status, letter.reason) == (409, "already_exists")
        assert letter.outcome == "not_executed"
        assert letter.request_id
        assert letter.request_id.startswith("req_")
        assert "ada@example.com" not in json.dumps(letter.as_json())
        count = len(server.seen)
        time.sleep(0.3)
        assert len(server.seen) == count, "it is not sent again"


def test_a_dead_letter_is_put_back_with_a_new_key(path: Path) -> None:
    with answering(InOrder((CLOSED,))) as server, client_of(server, path) as client:
        receipt = say(client, "again")
        client.outbox.drain(deadline=10)
        write = client.outbox.retry(receipt.id)
        # Under the old one, the server would give the stored refusal.
        assert write.idempotency_key != receipt.idempotency_key
        assert client.outbox.drain(deadline=10).dead == 0
        assert texts(server) == ["again"]


def test_a_dead_letter_is_dropped(path: Path) -> None:
    with answering(Always(CLOSED)) as server, client_of(server, path) as client:
        receipt = say(client, "never mind")
        client.outbox.drain(deadline=10)
        assert client.outbox.drop(receipt.id).state == "dead"
        assert client.outbox.status().dead == 0
        with pytest.raises(OutboxError, match="There is no write"):
            client.outbox.retry(receipt.id)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Refuse("invalid_token"), 401),
        (Refuse("insufficient_scope"), 403),
        (Status(403, body="<html>Forbidden</html>"), 403),
        (Status(404, body="not here"), 404),
        (Status(413, body="too large, says a proxy"), 413),
        (Refuse("unknown_endpoint"), 404),
        (Refuse("internal_error"), 500),
    ],
    ids=["token", "scope", "waf", "proxy-404", "proxy-413", "address", "defect"],
)
def test_what_is_not_about_the_write_keeps_it_waiting(path: Path, fault: Any, status: int) -> None:
    with answering(Always(fault)) as server, client_of(server, path) as client:
        receipt = client.outbox.users.create(email="ada@example.com")

        def tried() -> bool:
            write = client.outbox.get(receipt.id)
            return write is not None and write.tries > 0

        eventually(tried, 20)
        write = client.outbox.get(receipt.id)
        assert write is not None
        assert (write.state, write.status) == ("pending", status)
        assert client.outbox.status().blocked
        server.proxy.use(())
        assert client.outbox.drain(deadline=20).pending == 0
        assert set(server.created_per_key().values()) == {1}


@pytest.mark.parametrize("failure", [ValueError("op_test_leak"), SystemExit(3)], ids=repr)
def test_a_token_that_cannot_be_had_keeps_the_write_waiting(
    server: Answering, path: Path, failure: BaseException
) -> None:
    failures = [failure]

    def token() -> str:
        if failures:
            raise failures.pop()
        return TOKEN

    with client_of(server, path, api_key=token) as client:
        receipt = client.outbox.users.create(email="ada@example.com")
        eventually(lambda: not failures)
        eventually(lambda: client.outbox.status().blocked)
        write = client.outbox.get(receipt.id)
        assert write is not None
        assert (write.tries, write.outcome) == (1, "not_executed")
        assert "op_test_leak" not in write.message
        assert client.outbox.drain(deadline=10).pending == 0


# --- clocks, leases and keys: no server is needed -------------------------------------------------

URL = "http://127.0.0.1:9"


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    """A sender that takes what it is given."""

    def __init__(self) -> None:
        self.sent: list[Request] = []

    def perform(self, request: Request, _sleep: Sleep, /) -> None:
        self.sent.append(request)

    def close(self) -> None:
        pass


class Blocked(Recorder):
    """A sender that holds what it is given until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def perform(self, request: Request, sleep: Sleep, /) -> None:
        self.sent.append(request)
        while not self.go.is_set():
            sleep(0.01)


@contextmanager
def keeper(path: Path, sender: Any, clock: Any = time.time) -> Iterator[Keeper]:
    kept = Keeper(path, httpx2.URL(URL), sender, clock=clock)
    try:
        yield kept
    finally:
        kept.close()


def message(text: str = "Hello", conversation: str = CONVERSATION) -> Call[Any]:
    body = {"conversation_id": conversation, "message": text, "type": "agent"}
    return Call("messages.create", body=body)


def keep(kept: Keeper, call: Call[Any]) -> Receipt:
    return kept.keep(call, configure({"base_url": URL}))


def test_what_is_older_than_six_days_is_never_sent(path: Path) -> None:
    clock, first = Clock(), Blocked()
    with keeper(path, first, clock) as kept:
        one, two = keep(kept, message("one")), keep(kept, message("two"))
        eventually(lambda: first.sent)
    clock.now += EXPIRES_AFTER + 1
    second = Recorder()
    with keeper(path, second, clock) as kept:
        eventually(lambda: kept.status().dead == 2)
        assert second.sent == []
        letters = {each.id: each for each in kept.writes("dead")}
        assert {each.cause for each in letters.values()} == {"expired"}
        # The first was on its way when its drainer stopped.
        assert letters[one.id].outcome == "unknown"
        assert letters[two.id].outcome == "not_executed"
        with pytest.raises(UnfitWriteError, match="done twice"):
            kept.retry(one.id, force=False)
        assert second.sent == []
        assert kept.retry(two.id, force=False).idempotency_key != two.idempotency_key
        eventually(lambda: len(second.sent) == 1)
        assert kept.retry(one.id, force=True).idempotency_key != one.idempotency_key
        eventually(lambda: len(second.sent) == 2)


def test_a_clock_that_jumps_neither_loses_nor_stops_anything(path: Path) -> None:
    clock, held = Clock(), Blocked()
    with keeper(path, held, clock) as kept:
        keep(kept, message())
        eventually(lambda: held.sent)
        with closing(sqlite3.connect(path)) as file:
            (until,) = file.execute("SELECT leased_until FROM writes").fetchone()
        assert until > clock.now * 1e6
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE writes SET owner = 'elsewhere:1:x', leased_until = ?", (until,))
    clock.now -= 86_400  # the lease is now a day ahead
    other = Recorder()
    with keeper(path, other, clock) as kept:
        eventually(lambda: other.sent)
        eventually(lambda: kept.status().pending == 0)


def test_a_clock_that_is_put_back_delays_nothing_that_was_not_tried(path: Path) -> None:
    clock, sender = Clock(), Recorder()
    with keeper(path, Blocked(), clock) as kept:
        kept._drainer.stop()
        keep(kept, message())
    clock.now -= 3600
    with keeper(path, sender, clock):
        eventually(lambda: len(sender.sent) == 1)


def test_a_lease_of_another_machine_is_waited_for(path: Path) -> None:
    clock, sender = Clock(), Recorder()
    with keeper(path, Blocked(), clock) as kept:
        keep(kept, message())
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        ends = int((clock.now + 4) * 1e6)
        file.execute("UPDATE writes SET owner = 'elsewhere:1:x', leased_until = ?", (ends,))
    with keeper(path, sender, clock) as kept:
        time.sleep(0.5)
        assert sender.sent == []
        clock.now += 4.1
        kept._drainer.hurry()
        eventually(lambda: len(sender.sent) == 1)


def test_two_drainers_share_the_work_and_keep_the_order(path: Path) -> None:
    order: list[str] = []
    lock, running = threading.Lock(), set[str]()

    class Slow(Recorder):
        def perform(self, request: Request, _sleep: Sleep, /) -> None:
            body = json.loads(request.content or b"")
            with lock:
                assert body["conversation_id"] not in running, "two of one conversation at once"
                running.add(body["conversation_id"])
            time.sleep(0.002)
            with lock:
                running.discard(body["conversation_id"])
                order.append(body["message"])
            self.sent.append(request)

    one, two = Slow(), Slow()
    conversations = [f"cnv_{number:032x}" for number in range(6)]
    with keeper(path, one) as kept, keeper(path, two) as other:
        for number in range(30):
            for index, conversation in enumerate(conversations):
                keep(kept, message(f"{index} {number:02}", conversation))
            other._drainer.start()
        assert kept.drain(20).pending == 0
    assert len(order) == len(set(order)) == 180
    for index in range(6):
        of_one = [text for text in order if text.startswith(f"{index} ")]
        assert of_one == sorted(of_one)
    assert one.sent
    assert two.sent


def test_what_is_for_another_server_stays(path: Path) -> None:
    with keeper(path, Blocked()) as kept:
        keep(kept, message())
    sender = Recorder()
    other = Keeper(path, httpx2.URL("http://127.0.0.1:10"), sender)
    try:
        status = other.drain(0.3)
        assert (status.pending, status.elsewhere) == (0, 1)
        assert sender.sent == []
    finally:
        other.close()


# --- sealing --------------------------------------------------------------------------------------

SECRETS = (TOKEN, "ada@example.com", "Ada Lovelace", "+14155550123", "s3cret-header")


def test_nothing_secret_is_in_the_files(server: Answering, path: Path) -> None:
    server.proxy.close_port()
    with client_of(server, path) as client:
        client.outbox.users.create(
            email="ada@example.com",
            name="Ada Lovelace",
            phone="+14155550123",
            extra_headers={"X-Internal": "s3cret-header"},
        )
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == [
            path.name, f"{path.name}-shm", f"{path.name}-wal", f"{path.name}.key",
        ]  # fmt: skip
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            content = file.read_bytes()
            assert not [secret for secret in SECRETS if secret.encode() in content]
        server.proxy.open_port()
        assert client.outbox.drain(deadline=10).pending == 0
    assert server.seen[0].header("x-internal") == "s3cret-header"


def test_a_lost_key_is_told_and_nothing_is_lost(path: Path) -> None:
    with keeper(path, Blocked()) as kept:
        keep(kept, message())
    aside = key_file(path).rename(path.with_name("aside"))
    with pytest.raises(OutboxError, match=r"sealed by a key.*OPERATOR_SECRET_KEYS"):
        Keeper(path, httpx2.URL(URL), Recorder())
    assert not key_file(path).exists(), "no new key takes its place"
    aside.rename(key_file(path))
    sender = Recorder()
    with keeper(path, sender):
        eventually(lambda: len(sender.sent) == 1)


def test_keys_are_rotated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    monkeypatch.setenv("OPERATOR_SECRET_KEYS", old)
    with keeper(path, Blocked()) as kept:
        keep(kept, message("old"))
    assert not key_file(path).exists()
    monkeypatch.setenv("OPERATOR_SECRET_KEYS", f"{new},{old}")
    sender = Recorder()
    with keeper(path, sender) as kept:
        keep(kept, message("new"))
        eventually(lambda: len(sender.sent) == 2)
    monkeypatch.setenv("OPERATOR_SECRET_KEYS", "c2hvcnQ=")
    with pytest.raises(OutboxError, match="OPERATOR_SECRET_KEYS cannot be used") as raised:
        Keeper(path, httpx2.URL(URL), Recorder())
    assert "c2hvcnQ=" not in str(raised.value)


@pytest.mark.parametrize("column", ["operation", "url", "base_url", "queued_at", "sealed"])
def test_a_changed_row_is_not_sent(path: Path, column: str) -> None:
    with keeper(path, Blocked()) as kept:
        keep(kept, message())
    change = {
        "operation": "'users.create'",
        "url": "'http://127.0.0.1:10/v1/messages'",
        "base_url": f"'{URL}/other'",
        "queued_at": "queued_at + 1",
        "sealed": "zeroblob(80)",
    }[column]
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(f"UPDATE writes SET {column} = {change}")
    sender = Recorder()
    base_url = f"{URL}/other" if column == "base_url" else URL
    kept = Keeper(path, httpx2.URL(base_url), sender)
    try:
        eventually(lambda: kept.writes("pending")[0].tries > 0)
        assert "changed, or damaged" in kept.writes("pending")[0].message
        assert sender.sent == []
    finally:
        kept.close()


# --- what cannot be kept raises -------------------------------------------------------------------


def test_a_full_disk_is_told_and_nothing_is_half_written(path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path.cwd())!r})
import httpx2
from operator_api import OutboxError
from operator_api.client.outbox.keeper import Keeper
from tests.client.test_outbox import Blocked, keep, message, URL
kept = Keeper(Path(sys.argv[1]), httpx2.URL(URL), Blocked())
kept._drainer.stop()
keep(kept, message("before"))
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
done = 1
try:
    while done < 1000:
        keep(kept, message("x" * 1000))
        done += 1
except OutboxError as error:
    print(error, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
keep(kept, message("after"))
print(done + 1, len(kept.writes("pending")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    kept, found = map(int, done.stdout.split())
    assert 2 < kept == found
    assert "Nothing was kept" in done.stderr
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_locked_file_is_told_after_a_while(path: Path) -> None:
    with keeper(path, Recorder()) as kept, closing(sqlite3.connect(path)) as other:
        kept._drainer.stop()
        assert kept.store._connection is not None
        kept.store._connection.execute("PRAGMA busy_timeout = 200")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutboxError, match="in use by another process"):
            keep(kept, message())
        other.execute("ROLLBACK")
        keep(kept, message())
        assert len(kept.writes("pending")) == 1


def test_a_file_that_is_moved_away_is_told(path: Path) -> None:
    with keeper(path, Recorder()) as kept:
        path.rename(path.with_name("moved"))
        with pytest.raises(OutboxError, match="moved or removed"):
            keep(kept, message())
        path.with_name("moved").rename(path)


@pytest.mark.parametrize("content", [b"not a database, but longer than a hundred bytes" * 9])
def test_what_is_no_outbox_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(OutboxError, match="not an outbox"):
        Keeper(path, httpx2.URL(URL), Recorder())
    assert path.read_bytes() == content
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as file:
        file.execute("CREATE TABLE things (a)")
    with pytest.raises(OutboxError, match="another program"):
        Keeper(other, httpx2.URL(URL), Recorder())
    with pytest.raises(OutboxError, match="cannot be opened"):
        Keeper(path / "below", httpx2.URL(URL), Recorder())


def test_a_newer_outbox_is_refused(path: Path) -> None:
    with keeper(path, Recorder()):
        pass
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 2")
    with pytest.raises(OutboxError, match="another version"):
        Keeper(path, httpx2.URL(URL), Recorder())


def test_it_is_durable(path: Path) -> None:
    with keeper(path, Recorder()) as kept:
        connection = kept.store._connection
        assert connection is not None
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


# --- event loops, processes, and the end of a program ---------------------------------------------


async def test_the_client_for_event_loops(server: Answering, path: Path) -> None:
    asked = []

    async def token() -> str:
        asked.append(1)
        return TOKEN

    async with AsyncOperatorAI(api_key=token, base_url=server.url, outbox=path) as client:
        receipt = await client.outbox.users.create(email="ada@example.com")
        assert (await client.outbox.drain(deadline=10)).pending == 0
        with pytest.raises(RequestValidationError):
            await client.outbox.users.create(email="no address")
        await client.outbox.users.create(email="ada@example.com")
        assert (await client.outbox.drain(deadline=10)).dead == 1
        (letter,) = await client.outbox.dead_letters()
        assert (await client.outbox.drop(letter.id)).reason == "already_exists"
        assert await client.outbox.get(letter.id) is None
        assert await client.outbox.pending() == []
        assert repr(client.outbox) == f"<AsyncOutbox {path}>"
    assert server.answers.log[0][0] == receipt.idempotency_key
    assert asked


def test_an_event_loops_http_client_cannot_send_from_a_thread(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="http_client"):
        AsyncOperatorAI(api_key=TOKEN, outbox=path, http_client=httpx2.AsyncClient())


def test_a_forked_process_keeps_and_drains_on_its_own(server: Answering, path: Path) -> None:
    with client_of(server, path) as client:
        client.outbox.users.create(email="before@example.com")
        fork = multiprocessing.get_context("fork")

        def child(number: int) -> None:
            for each in range(5):
                client.outbox.users.create(email=f"child{number}.{each}@example.com")
            client.outbox.drain(deadline=20)

        children = [fork.Process(target=child, args=(number,)) for number in range(3)]
        for each in children:
            each.start()
        for number in range(5):
            client.outbox.users.create(email=f"parent{number}@example.com")
        for each in children:
            each.join(30)
        assert [each.exitcode for each in children] == [0, 0, 0]
        assert client.outbox.drain(deadline=20).pending == 0
    assert len(server.created_per_key()) == 21
    assert set(server.created_per_key().values()) == {1}
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_threads_may_fork_at_once(path: Path) -> None:
    with keeper(path, Recorder()) as kept, keeper(path.with_name("other.db"), Recorder()) as other:

        def fork() -> None:
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    keep(kept, message("child"))
                    os._exit(0)
                keep(other, message("parent"))
                assert os.waitpid(pid, 0)[1] == 0

        threads = [threading.Thread(target=fork, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert kept.drain(10).pending == 0


def test_a_program_that_just_ends_neither_hangs_nor_loses(server: Answering, path: Path) -> None:
    server.proxy.close_port()
    script = (
        "import sys; from operator_api import OperatorAI\n"
        "client = OperatorAI(api_key=sys.argv[1], base_url=sys.argv[2], outbox=sys.argv[3])\n"
        "for number in range(5):\n"
        "    client.outbox.users.create(email=f'user{number}@example.com')\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", script, TOKEN, server.url, path], check=True, timeout=20)
    assert time.monotonic() - began < 10
    server.proxy.open_port()
    with client_of(server, path) as client:
        assert client.outbox.status().pending <= 5
        assert client.outbox.drain(deadline=20).pending == 0
    assert len(server.created_per_key()) == 5


# --- a server that is gone ------------------------------------------------------------------------


def test_one_canary_probes_while_the_server_is_gone_and_then_all_go(
    server: Answering, path: Path
) -> None:
    with client_of(server, path) as client:
        client.outbox.users.create(email="first@example.com")
        assert client.outbox.drain(deadline=10).pending == 0
        server.proxy.close_port()
        for number in range(100):
            client.outbox.users.create(email=f"user{number}@example.com")
        time.sleep(3)
        assert client.outbox.status().sending <= 8
        server.proxy.open_port()
        began = time.monotonic()
        eventually(lambda: len(server.answers.log) == 101, 10)
        assert time.monotonic() - began < 5
        assert set(server.created_per_key().values()) == {1}


def test_a_client_that_starts_while_the_server_is_gone(server: Answering, path: Path) -> None:
    server.proxy.close_port()
    with client_of(server, path) as client:
        for number in range(100):
            client.outbox.users.create(email=f"user{number}@example.com")
        time.sleep(3)
        assert client.outbox.status().sending <= 1, "one canary"
        server.proxy.open_port()
        began = time.monotonic()
        eventually(lambda: len(server.answers.log) == 100, 10)
        assert time.monotonic() - began < 5
