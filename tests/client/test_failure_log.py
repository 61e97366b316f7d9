"""The failed-request log: nothing secret is in it, nothing is lost, and no call fails by it."""

import base64
import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import stat
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from urllib.parse import quote

import pytest

from operator_api.client.failures.attempt import FailedAttempt
from operator_api.client.failures.entries import (
    FailureEntry,
    NotSealed,
    SealedByAnotherKey,
    Tampered,
    default_path,
    filled_files,
    find_keys,
    log_keys,
    read,
)
from operator_api.client.failures.known import KNOWN
from operator_api.client.failures.log import FailureLog
from operator_api.contract.operations import OPERATIONS
from operator_api.vault.file_keys import key_file
from operator_api.vault.keys import UnusableKeyError

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TOKEN = "op_live_" + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklm"
UUID = "0197b1c2d3e4f5061718293a4b5c6d7e"
BASE62 = string.ascii_letters + string.digits

ATTEMPT = FailedAttempt(
    at=1_795_000_000_000_000,
    operation="users.create",
    method="POST",
    path="/v1/users",
    url="https://api.example.com/v1/users",
    status=422,
    reason="validation_failed",
    request_id=f"req_{UUID}",
    call_id=f"call_{UUID}",
    idempotency_key=UUID,
    attempt=2,
    delay=0.25,
    error="UnprocessableEntityError",
    outcome="not_executed",
    message="422 validation_failed: Email is required.",
    elapsed_ms=12.3456,
    request_headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
    request_body=b'{"name": "Ada", "emial": "ada@example.com", "status": "open"}',
    response_headers=[("X-Request-Id", f"req_{UUID}"), ("Set-Cookie", "a=1")],
    response_body=b'{"error": {"code": 422, "message": "Email is required."}}',
)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPERATOR_SECRET_KEYS", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "failures.jsonl"


def only(path: Path) -> FailureEntry:
    (entry,) = read(path)
    return entry


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- what is in it --------------------------------------------------------------------------------


def test_an_attempt_is_kept(path: Path) -> None:
    FailureLog(path, [KEY]).record(ATTEMPT)
    entry = only(path)
    changed = {"elapsed_ms", "request_headers", "response_headers", "request_body", "response_body"}
    for name in set(FailedAttempt.__slots__) - changed:
        assert getattr(entry, name) == getattr(ATTEMPT, name)
    assert entry.elapsed_ms == 12.346
    assert entry.id.startswith("flr_")
    assert entry.sealed
    assert entry.request_headers == [
        ["Content-Type", "application/json"],
        ["Authorization", "<secret 64>"],
    ]
    assert entry.response_headers == [["X-Request-Id", f"req_{UUID}"], ["Set-Cookie", "<secret 3>"]]
    assert (entry.request_bytes, entry.response_bytes) == (61, 57)
    assert entry.open(log_keys([KEY])) == {
        "request": {"name": "<string 3>", "emial": "<email 15>", "status": "open"},
        "response": {"error": {"code": 422, "message": "Email is required."}},
    }


def test_what_is_absent_is_null(path: Path) -> None:
    bare = FailedAttempt(
        at=1, operation="users.list", method="GET", path="/v1/users", url="https://h/v1/users",
        call_id="call_1", error="APIConnectionError", outcome="not_executed",
        delay=float("nan"), elapsed_ms=float("inf"),
    )  # fmt: skip
    FailureLog(path, [KEY]).record(bare)
    entry = only(path)
    absent = (entry.status, entry.reason, entry.request_id, entry.idempotency_key, entry.delay)
    assert absent == (None,) * 5
    assert entry.elapsed_ms == 0
    assert entry.open(log_keys([KEY])) == {"request": None, "response": None}


def test_repr_shows_no_body_and_no_secret(path: Path) -> None:
    FailureLog(path, [KEY]).record(replace(ATTEMPT, message="about ada@example.com"))
    for shown in (
        repr(ATTEMPT),
        repr(only(path)),
        repr(FailureLog(path, [KEY])),
        repr(log_keys([KEY])),
    ):
        assert TOKEN not in shown
        assert "example.com" not in shown.replace("api.example.com", "")
        assert repr(KEY) not in shown


def test_a_url_keeps_neither_user_nor_query(path: Path) -> None:
    log = FailureLog(path)
    for url in (
        "https://ada:pw@api.example.com/v1/users?email=ada@example.com#x",
        f"https://api.example.com/v1/users/{TOKEN}",
        "https://[::1/v1?x=secretive",
    ):
        log.record(replace(ATTEMPT, url=url))
    assert [entry.url for entry in read(path)] == [
        "https://api.example.com/v1/users",
        "https://api.example.com/v1/users/<token 57>",
        "https://[::1/v1?x=secretive",
    ]


# --- keys -----------------------------------------------------------------------------------------


def test_without_a_key_there_is_the_clear_part_and_one_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = FailureLog(path)
    for _ in range(3):
        log.record(ATTEMPT)
    (warning,) = warnings(caplog)
    assert "without their bodies" in warning
    assert "OPERATOR_SECRET_KEYS" in warning
    entries = list(read(path))
    assert [entry.sealed for entry in entries] == [False] * 3
    assert entries[0].request_bytes == 61
    assert b"emial" not in path.read_bytes()
    with pytest.raises(NotSealed):
        entries[0].open(log_keys([KEY]))


def test_the_key_of_the_variable_seals(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ",".join(base64.b64encode(key).decode() for key in (KEY, OTHER))
    monkeypatch.setenv("OPERATOR_SECRET_KEYS", given)
    FailureLog(path).record(ATTEMPT)
    assert only(path).open(log_keys([KEY]))["request"]["name"] == "<string 3>"
    keys = find_keys(path)
    assert keys is not None
    assert only(path).open(keys) == only(path).open(log_keys([OTHER, KEY]))
    with pytest.raises(SealedByAnotherKey):
        only(path).open(log_keys([OTHER]))


def test_a_key_is_made_beside_the_log_where_asked(path: Path) -> None:
    assert find_keys(path) is None
    FailureLog(path, make_key=True).record(ATTEMPT)
    FailureLog(path).record(ATTEMPT)
    assert stat.S_IMODE(key_file(path).stat().st_mode) == 0o600
    keys = find_keys(path)
    assert keys is not None
    assert [set(entry.open(keys)) for entry in read(path)] == [{"request", "response"}] * 2


@pytest.mark.parametrize("text", ["not a key", base64.b64encode(b"short").decode()])
def test_an_unusable_key_is_told_once_and_not_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setenv("OPERATOR_SECRET_KEYS", text)
    log = FailureLog(path)
    log.record(ATTEMPT)
    log.record(ATTEMPT)
    (warning,) = warnings(caplog)
    assert "cannot be used" in warning
    assert text not in warning
    assert len(list(read(path))) == 2
    with pytest.raises(UnusableKeyError):
        find_keys(path)


def test_a_change_of_any_part_is_noticed(path: Path) -> None:
    FailureLog(path, [KEY]).record(ATTEMPT)
    line = path.read_bytes()
    changed = 0
    for position in range(len(line) - 1):
        for new in (b"0", b"a"):
            path.write_bytes(line[:position] + new + line[position + 1 :])
            for entry in read(path):
                if line[position : position + 1] != new:
                    changed += 1
                    with pytest.raises((Tampered, SealedByAnotherKey)):
                        entry.open(log_keys([KEY]))
    assert changed > len(line) // 2, "most changes leave a line that can be read"


def test_sealed_parts_do_not_change_places(path: Path) -> None:
    log = FailureLog(path, [KEY])
    log.record(ATTEMPT)
    log.record(ATTEMPT)
    first, second = (line.rpartition(b',"sealed":') for line in path.read_bytes().splitlines())
    path.write_bytes(b"\n".join([first[0] + first[1] + second[2], second[0] + b',"sealed":null}']))
    for entry in read(path):
        with pytest.raises(Tampered):
            entry.open(log_keys([KEY]))


# --- secrets --------------------------------------------------------------------------------------


def planted(count: int) -> Iterator[str]:
    """Make secrets that are found nowhere else."""
    chance = random.Random(7)
    for number in range(count):
        tail = "".join(chance.choice(BASE62) for _ in range(49))
        yield [
            f"op_live_{tail}",
            f"op_test_{tail[:20]}",
            f"user{tail[:12]}@mail.example",
            f"eyJhbGciOiJIUzI1NiJ9.eyJ{tail[:20]}.{tail}",
            f"whsec_{tail}",
        ][number % 5]


def hidings(secret: str) -> list[str]:
    raw = secret.encode()
    return [
        secret,
        quote(secret, safe="").replace("_", "%5F"),
        "".join(f"%{byte:02x}" for byte in raw),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(b"user:" + raw).decode().rstrip("="),
        raw.hex(),
        secret.replace("_", "\\u005f").replace("@", "\\u0040").replace("eyJ", "\\u0065yJ"),
        secret[: len(secret) * 2 // 3],
    ]


def attempts_with(secret: str) -> Iterator[FailedAttempt]:
    for hidden in random.Random(secret).sample(hidings(secret), 2):
        nested = {"a": [{"status": hidden, hidden: [hidden]}], "id": hidden, "password": hidden}
        body = json.dumps({"error": {"message": f"no {hidden}"}, "data": nested}).encode()
        yield replace(
            ATTEMPT,
            url=f"https://u:{hidden}@api.example.com/v1/users/{hidden}?token={hidden}",
            message=f"failed with {hidden} and ?token={hidden}&api_key={hidden}: Bearer {hidden}",
            request_id=hidden,
            call_id=hidden,
            idempotency_key=hidden,
            reason=hidden,
            operation=hidden,
            error=hidden,
            request_headers={"Authorization": f"Bearer {hidden}", "X-Request-Id": hidden},
            response_headers=[(hidden, hidden), ("Server", f"x {hidden}"), ("Set-Cookie", hidden)],
            request_body=body,
            response_body=body[:-5],
        )


@pytest.mark.parametrize("keys", [None, [KEY]], ids=["metadata alone", "sealed"])
def test_no_planted_secret_is_found(
    path: Path, keys: list[bytes] | None, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = list(planted(500))
    log = FailureLog(path, keys)
    for secret in secrets:
        for attempt in attempts_with(secret):
            log.record(attempt)
    written = b"".join(file.read_bytes() for file in path.parent.iterdir()).decode()
    opened = ""
    if keys:
        opened = "".join(json.dumps(entry.open(log_keys(keys))) for entry in read(path))
    everything = written.lower() + opened.lower() + caplog.text.lower()
    assert len(list(read(path))) == 500 * 2
    for secret in secrets:
        ends = [hidden[-16:].lower() for hidden in hidings(secret) if len(hidden) > 40]
        assert [end for end in ends if end in everything] == []
        made_by_chance = secret.partition("@")[0].removeprefix("user").rpartition("_")[2][-8:]
        assert made_by_chance.lower() not in everything
    assert "op_live_" not in everything
    assert "@mail" not in everything


def test_the_names_known_are_the_contracts() -> None:
    """What people write is never kept in clear: the contract's free text is none of it."""
    bodies = [operation.body for operation in OPERATIONS if operation.body is not None]
    written = {
        name
        for body in bodies
        for name, field in body.model_fields.items()
        if any(
            "_Text" in type(rule).__name__ or "_Form" in type(rule).__name__
            for rule in field.metadata
        )
    }
    assert {"email", "name", "message", "assignee"} & KNOWN.clear == set()
    assert written & KNOWN.clear == set()
    sent = {name for body in bodies for name in body.model_fields}
    assert sent <= KNOWN.names


# --- the file -------------------------------------------------------------------------------------


def test_only_the_owner_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        log = FailureLog(path, max_bytes=1500, make_key=True)
        for _ in range(4):
            log.record(ATTEMPT)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    log.record(ATTEMPT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_bounded_by_size(path: Path) -> None:
    log = FailureLog(path, max_bytes=5000, keep_files=3)
    for number in range(100):
        log.record(replace(ATTEMPT, at=number))
    assert len(filled_files(path)) == 3
    assert all(file.stat().st_size <= 5000 for file in path.parent.iterdir())
    numbers = [entry.at for entry in read(path)]
    assert numbers == list(range(100 - len(numbers), 100)), "the newest, in order"


def test_it_is_bounded_by_age(path: Path) -> None:
    now = time.time()
    log = FailureLog(path, max_age=1000, keep_files=100)
    for age in (400, 300, 10):
        log.record(replace(ATTEMPT, at=int((now - age) * 1e6)))
    assert len(filled_files(path)) == 2
    old, newer = filled_files(path)
    os.utime(old, (now - 800, now - 800))
    os.utime(newer, (now - 700, now - 700))
    FailureLog(path, max_age=1000, keep_files=100).record(ATTEMPT)
    assert filled_files(path)[0] == newer, "what could become too old before the next look is gone"
    assert not old.exists()


def _record_many(path: Path, barrier: Barrier, worker: int, count: int) -> None:
    log = FailureLog(path, [KEY], max_bytes=20_000, keep_files=100_000)
    barrier.wait()
    for number in range(count):
        log.record(replace(ATTEMPT, at=worker * 1_000_000 + number))


def test_processes_that_append_and_turn_over_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [
        context.Process(target=_record_many, args=(path, barrier, worker, 150))
        for worker in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    entries = read(path)
    found = [entry.at for entry in entries]
    assert entries.skipped == 0
    assert len(filled_files(path)) > 10
    for number in range(4):
        own = [at for at in found if at // 1_000_000 == number]
        assert own == [number * 1_000_000 + each for each in range(150)], "all, once, in order"


def test_threads_share_a_log(path: Path) -> None:
    log = FailureLog(path, max_bytes=20_000, keep_files=100_000)

    def record(worker: int) -> None:
        for number in range(60):
            log.record(replace(ATTEMPT, at=worker * 1000 + number))

    threads = [threading.Thread(target=record, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [entry.at for entry in read(path)]
    assert sorted(found) == sorted(worker * 1000 + n for worker in range(8) for n in range(60))


def test_a_fork_needs_no_care(path: Path) -> None:
    log = FailureLog(path, [KEY])
    stop = threading.Event()

    def keep_recording() -> None:
        while not stop.is_set():
            log.record(ATTEMPT)

    thread = threading.Thread(target=keep_recording)
    thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for number in range(20):
            child = context.Process(target=log.record, args=(replace(ATTEMPT, at=number),))
            child.start()
            child.join(20)
            assert child.exitcode == 0
    finally:
        stop.set()
        thread.join()
    entries = read(path)
    assert {entry.at for entry in entries} >= set(range(20))
    assert entries.skipped == 0


def test_a_reader_misses_nothing_while_it_is_turned_over(path: Path) -> None:
    log = FailureLog(path, max_bytes=3000, keep_files=1000)
    for number in range(10):
        log.record(replace(ATTEMPT, at=number))
    reading = iter(read(path))
    first = next(reading)
    for number in range(10, 30):
        log.record(replace(ATTEMPT, at=number))
    assert [first.at, *(entry.at for entry in reading)][:10] == list(range(10))


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from operator_api.client.failures.log import FailureLog
from tests.client.test_failure_log import ATTEMPT, KEY

log = FailureLog(Path(sys.argv[1]), [KEY], max_bytes=20_000, keep_files=100_000)
number = 0
while True:
    log.record(replace(ATTEMPT, at=number))
    number += 1
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_recorded(path: Path) -> None:
    root = Path(__file__).parents[2]
    for attempt in range(3):
        file = path.with_name(f"{attempt}.jsonl")
        command = [sys.executable, "-c", KILLED, str(file)]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(100 + attempt * 7):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines()
        told = 100 + attempt * 7 + len([line for line in rest if line.isdigit()])
        entries = read(file)
        found = [entry.at for entry in entries]
        assert found[: told - 1] == list(range(told - 1))
        assert entries.skipped <= 1
        FailureLog(file).record(replace(ATTEMPT, at=-1))
        assert [entry.at for entry in read(file)][-1] == -1


@pytest.mark.parametrize("cut", [1, 10, 200, -1])
def test_a_torn_line_spoils_no_other(path: Path, cut: int) -> None:
    log = FailureLog(path, [KEY])
    log.record(replace(ATTEMPT, at=1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:cut])
    entries = read(path)
    assert [entry.at for entry in entries] == ([1, 1] if cut == -1 else [1])
    assert entries.skipped == (0 if cut == -1 else 1)
    log.record(replace(ATTEMPT, at=2))
    entries = read(path)
    assert [entry.at for entry in entries] == ([1, 1, 2] if cut == -1 else [1, 2])
    assert entries.skipped == (0 if cut == -1 else 1)


@pytest.mark.parametrize(
    "line", [b"{}", b"null", b"[1]", b"\xff\xfe", b'{"v":1}', b"x" * 100_000, b"[" * 100_000]
)
def test_what_is_no_entry_is_skipped_and_counted(path: Path, line: bytes) -> None:
    FailureLog(path).record(ATTEMPT)
    whole = path.read_bytes()
    wrong = whole.replace(b'"status":422', b'"status":"422"').replace(b'"id":"f', b'"id":"g')
    path.write_bytes(line + b"\n" + whole + b"\n" + wrong)
    entries = read(path)
    assert len(list(entries)) == 1
    assert entries.skipped == 2


def test_no_log_has_no_entries(path: Path) -> None:
    assert list(read(path)) == []


# --- what goes wrong ------------------------------------------------------------------------------


def _directory(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _pipe(path: Path) -> Path:
    path.parent.mkdir()
    os.mkfifo(path)
    return path


def _below_a_file(path: Path) -> Path:
    path.parent.write_text("")
    return path


def _loop(path: Path) -> Path:
    path.parent.mkdir()
    path.symlink_to(path)
    return path


def _link(path: Path) -> Path:
    path.parent.mkdir()
    path.symlink_to(path.with_name("elsewhere"))
    return path


@pytest.mark.parametrize("place", [_directory, _pipe, _below_a_file, _loop, _link])
def test_a_place_that_cannot_be_written_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, place: object
) -> None:
    assert callable(place)
    log = FailureLog(place(path), [KEY])
    for _ in range(3):
        log.record(ATTEMPT)
    (warning,) = warnings(caplog)
    assert str(path) in warning
    assert TOKEN not in caplog.text
    assert not path.with_name("elsewhere").exists()


def test_an_unwritable_folder_is_told_once(tmp_path: Path) -> None:
    """As another user, since root may write anywhere."""
    done = in_a_process(
        tmp_path / "closed" / "failures.jsonl",
        "os.makedirs(path.parent, 0o500); os.geteuid() or os.seteuid(65534)",
    )
    assert done.count("are not recorded") == 1
    assert "Permission denied" in done


def test_a_full_disk_is_told_once_and_spoils_nothing(tmp_path: Path) -> None:
    file = tmp_path / "failures.jsonl"
    FailureLog(file, [KEY]).record(ATTEMPT)
    limit = file.stat().st_size + 100
    done = in_a_process(file, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    assert done.count("are not recorded") == 1
    FailureLog(file, [KEY]).record(replace(ATTEMPT, at=2))
    entries = read(file)
    assert [entry.at for entry in entries] == [ATTEMPT.at, 2]
    assert entries.skipped == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_descriptors_that_are_closed_behind_its_back_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "failures.jsonl"
    assert in_a_process(file, "log.record(ATTEMPT); os.closerange(3, 100)") == ""
    assert len(list(read(file))) == 4


def in_a_process(path: Path, first: str) -> str:
    """Record three times in a process of its own, and return what it complains of."""
    script = f"""
import logging, os, resource, sys
from pathlib import Path
from operator_api.client.failures.log import FailureLog
from tests.client.test_failure_log import ATTEMPT, KEY

logging.basicConfig(format="%(message)s")
path = Path(sys.argv[1])
log = FailureLog(path, [KEY])
{first}
for _ in range(3):
    log.record(ATTEMPT)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_whatever_an_attempt_holds_the_call_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = FailureLog(path, [KEY])
    odd = object()
    log.record(replace(ATTEMPT, message=odd))  # type: ignore[arg-type] # what must not be passed
    log.record(replace(ATTEMPT, status=odd))  # type: ignore[arg-type] # what must not be passed
    log.record(replace(ATTEMPT, request_headers=odd))  # type: ignore[arg-type] # the same
    assert len(warnings(caplog)) == 1
    log.record(replace(ATTEMPT, message="\ud800", request_body=b"\xff" * 1_000_000))
    assert only(path).message == "\ud800"
    body = only(path).open(log_keys([KEY]))["request"]
    assert body.startswith("<unreadable 1000000 sha256:")


def test_a_closed_log_records_no_more(path: Path) -> None:
    log = FailureLog(path)
    log.close()
    log.close()
    log.record(ATTEMPT)
    assert not path.exists()


# --- where it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OPERATOR_FAILURE_LOG": "mine.jsonl", "XDG_STATE_HOME": "/state"}, Path("mine.jsonl")),
        ({"XDG_STATE_HOME": "/state"}, Path("/state/operator-api/failures.jsonl")),
        ({"XDG_STATE_HOME": "relative"}, Path.home() / ".local/state/operator-api/failures.jsonl"),
        ({}, Path.home() / ".local/state/operator-api/failures.jsonl"),
    ],
)
def test_the_default_place(variables: dict[str, str], expected: Path) -> None:
    assert default_path(variables) == expected
