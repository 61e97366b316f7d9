"""A stop loses nothing: what is asked is answered, and what is not was not done."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from operator_api.server.app import create_pipeline, open_log, open_store
from operator_api.server.idempotency import KEPT_MICROSECONDS, SWEPT_AT_ONCE
from operator_api.server.ids import now_microseconds
from operator_api.server.settings import load_settings
from tests.errors import assert_error
from tests.servers import Server, eventually, running
from tests.wire import Wire

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
EMAIL = "drained@example.com"
# Longer than any test waits: a write that is held up stays so until it is let go, or refused.
PATIENT = {
    "OPERATOR_BUSY_SECONDS": "60",
    "OPERATOR_RECEIVE_SECONDS": "60",
    "OPERATOR_LOG_LEVEL": "warning",
}


def create(server: Server) -> bytes:
    """Return a request that writes."""
    body = b'{"email": "%b"}' % EMAIL.encode()
    return (
        b"POST /v1/users HTTP/1.1\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
    ) % (server.token.encode(), len(body), body)


def signalled(server: Server, how: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal, and return when the server accepts no more connections."""
    server.process.send_signal(how)
    eventually(lambda: refuses_connections(server))


def ended(server: Server) -> int:
    """Wait until the server has stopped by itself, and return its exit code."""
    server.process.wait(10)
    return server.stop()


def refuses_connections(server: Server) -> bool:
    try:
        socket.create_connection(server.address, timeout=5).close()
    except ConnectionError:
        return True
    return False


@contextmanager
def writes_held_up(data: Path) -> Iterator[sqlite3.Connection]:
    """Hold the store's write lock, so that no write can begin."""
    with closing(sqlite3.connect(data / "operator.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def emails(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / "operator.sqlite3")) as connection:
        return [email for (email,) in connection.execute("SELECT email FROM users")]


def assert_last(response: httpx2.Response, wire: Wire) -> None:
    """Require that the answer is the connection's last one, and says so; close our side too."""
    assert response.headers["connection"] == "close"
    assert wire.closes()
    wire.socket.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_is_open_is_answered_before_the_stop(data: Path, how: signal.Signals) -> None:
    with running(data, **PATIENT) as server, writes_held_up(data) as other:
        said = list(server.errors)
        with (
            Wire(server.address) as writing,
            Wire(server.address) as arriving,
            Wire(server.address) as probing,
            Wire(server.address) as idle,
            Wire(server.address) as silent,
        ):
            writing.send(create(server))
            arriving.send(GET[:10])
            probing.send(b"GET /readyz HTTP/1.1\r\n")
            assert idle.send(GET).answer().status_code == 200
            signalled(server, how)

            assert idle.closes()
            assert silent.closes()
            readiness = probing.send(b"\r\n").answer()
            assert_error(readiness, 503, "shutting_down")
            assert_last(readiness, probing)
            alive = arriving.send(GET[10:]).answer()
            assert alive.status_code == 200
            assert_last(alive, arriving)
            assert server.process.poll() is None, "it has not waited for the write"

            other.execute("ROLLBACK")
            created = writing.answer()
            assert created.status_code == 201
            assert_last(created, writing)
        assert ended(server) == 0
        assert server.errors == said
    assert emails(data) == [EMAIL]


def test_what_is_not_answered_in_time_is_refused_and_has_not_happened(data: Path) -> None:
    with (
        running(data, OPERATOR_DRAIN_SECONDS="0.5", **PATIENT) as server,
        writes_held_up(data),
        Wire(server.address) as writing,
        Wire(server.address) as waiting,
        Wire(server.address) as head_arriving,
        Wire(server.address) as body_arriving,
    ):
        writing.send(create(server))
        time.sleep(0.1)  # so that this one has begun, and the next one waits behind it
        waiting.send(create(server))
        head_arriving.send(GET[:10])
        body_arriving.send(create(server)[:-1])
        signalled(server)
        for wire in (writing, waiting, head_arriving, body_arriving):
            response = wire.answer()
            error = assert_error(response, 503, "shutting_down")
            assert error["outcome"] == "not_executed"
            assert_last(response, wire)
        assert ended(server) == 0
    assert emails(data) == []


def test_a_busy_connection_loses_nothing(data: Path) -> None:
    answered = threading.Event()
    last: list[httpx2.Response] = []

    def ask_until_told_to_go(address: tuple[str, int]) -> None:
        with Wire(address) as wire:
            while not last:
                response = wire.send(GET).answer()
                assert response.status_code == 200
                answered.set()
                if "connection" in response.headers:
                    assert_last(response, wire)
                    last.append(response)

    with running(data) as server:
        asking = threading.Thread(target=ask_until_told_to_go, args=[server.address])
        asking.start()
        assert answered.wait(10)
        assert server.stop() == 0
        asking.join(10)
    assert last, "the connection was closed without a word"


def test_pipelined_requests_are_all_answered(data: Path) -> None:
    with (
        running(data, **PATIENT) as server,
        writes_held_up(data) as other,
        Wire(server.address) as wire,
    ):
        wire.send(create(server) + GET + GET)
        time.sleep(0.1)
        signalled(server)
        other.execute("ROLLBACK")
        answers = [wire.answer() for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 200, 200]
        assert_last(answers[-1], wire)
        assert ended(server) == 0


def test_callers_that_neither_read_nor_leave_do_not_hold_up_the_stop(data: Path) -> None:
    with (
        running(data, OPERATOR_DRAIN_SECONDS="0.5") as server,
        Wire(server.address) as deaf,
    ):
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(b"GET /openapi.json HTTP/1.1\r\n\r\n" * 200)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert ended(server) == 0


def test_a_second_signal_stops_at_once(data: Path) -> None:
    with (
        running(data, **PATIENT) as server,
        writes_held_up(data),
        Wire(server.address) as writing,
    ):
        writing.send(create(server))
        time.sleep(0.1)
        signalled(server)
        assert server.process.poll() is None
        began = time.monotonic()
        assert server.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 5
    assert emails(data) == []


# --- what keeps a server from starting ------------------------------------------------------------


def start_in_vain(*options: str) -> str:
    """Run a server that must not start, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "operator_api.cli", "serve", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_server_on_the_same_folder_is_refused(data: Path) -> None:
    with running(data) as server:
        said = start_in_vain("--port", "0", "--data", str(data))
        assert f"process {server.process.pid}" in said
        with server.client() as client:
            assert client.get("/readyz").status_code == 200


def test_a_port_in_use_is_named(data: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert port in start_in_vain("--port", port, "--data", str(data))


def test_a_data_folder_that_is_a_file_is_named(data: Path) -> None:
    data.touch()
    assert str(data) in start_in_vain("--port", "0", "--data", str(data))


# --- work in the background -----------------------------------------------------------------------


async def test_tidying_deletes_old_idempotency_keys_and_no_others(data: Path) -> None:
    settings = load_settings({"data": data})
    await (await open_store(settings)).close()
    now = now_microseconds()
    ages = [now - KEPT_MICROSECONDS - 1] * (SWEPT_AT_ONCE + 1) + [now]
    with closing(sqlite3.connect(data / "operator.sqlite3")) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.executemany(
            "INSERT INTO idempotency_keys VALUES (1, ?, x'', x'', ?)",
            [(b"%d" % number, age) for number, age in enumerate(ages)],
        )
        connection.commit()
        store = await open_store(settings)
        try:
            await create_pipeline(settings, store, open_log(settings, store)).tidy()
        finally:
            await store.close()
        assert connection.execute("SELECT created_at FROM idempotency_keys").fetchall() == [(now,)]
