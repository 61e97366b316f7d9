"""Programs that are killed while they write and send: what was acknowledged is done, once."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from operator_api import OperatorAI
from tests.calls import new_email
from tests.faulty import faulty
from tests.servers import Server, eventually

WRITER = [sys.executable, "-m", "tests.e2e.outbox_writer"]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def acknowledged(tmp_path: Path) -> Path:
    path = tmp_path / "acknowledged"
    path.touch()
    return path


@pytest.fixture
def client(server: Server) -> Iterator[OperatorAI]:
    with OperatorAI(api_key=server.token, base_url=server.url) as client:
        yield client


def environment(server: Server, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPERATOR_")}
    return {**kept, "OPERATOR_API_KEY": server.token, "OPERATOR_BASE_URL": url}


@contextmanager
def writer(*arguments: Any, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a writer for the length of a block."""
    process = subprocess.Popen([*WRITER, *map(str, arguments)], cwd=ROOT, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def waiting(outbox: Path, before: int) -> int:
    """Count what was kept before a moment, in microseconds, and is not sent yet."""
    with closing(sqlite3.connect(outbox)) as file:
        (count,) = file.execute("SELECT count(*) FROM writes WHERE queued_at < ?", (before,))
    return int(count[0])


def test_each_acknowledged_write_is_done_once_and_in_order_over_200_kills(
    server: Server, client: OperatorAI, outbox: Path, acknowledged: Path
) -> None:
    user = client.users.create(email=new_email())
    conversations = [
        client.conversations.create(user_id=user.id, channel="web").id for _ in range(4)
    ]
    words = ("kill", outbox, acknowledged, 200, *conversations)
    with writer(*words, env=environment(server, server.url)) as killer:
        assert killer.wait(90) == 0
    with OperatorAI(api_key=server.token, base_url=server.url, outbox=outbox) as last:
        status = last.outbox.drain(deadline=30)
    assert (status.pending, status.dead) == (0, 0)

    expected: dict[str, set[str]] = defaultdict(set)
    for _, conversation, text in lines(acknowledged):
        expected[conversation].add(text)
    assert sum(map(len, expected.values())) > 400, "too few were kept to mean anything"
    for conversation in conversations:
        # Newest first; the numbers of a conversation grow, over the kills as well.
        made = [each.message for each in client.conversations.messages(conversation)][::-1]
        assert expected[conversation] <= set(made), "an acknowledged write is lost"
        assert len(made) == len(set(made)), "a write was done twice"
        assert made == sorted(made), "the order is lost"


def test_creates_outlive_an_outage_and_a_kill_and_are_done_within_five_seconds(
    server: Server, client: OperatorAI, outbox: Path, acknowledged: Path
) -> None:
    """It is 400 creates at 10/s and an outage of 20 s, four times as fast."""
    with faulty((), server) as proxy:
        variables = environment(server, proxy.url)
        with writer("create", outbox, acknowledged, 0, 10_000, 0.025, env=variables) as first:
            eventually(lambda: len(lines(acknowledged)) >= 80, 30)
            proxy.close_port()
            gone = time.monotonic()
            time.sleep(2)
            first.send_signal(signal.SIGKILL)
            first.wait()
        left = 400 - len(lines(acknowledged))
        with writer("create", outbox, acknowledged, 10_000, left, 0.025, env=variables) as second:
            time.sleep(max(0.0, gone + 5 - time.monotonic()))
            returned = int(time.time() * 1e6)
            assert waiting(outbox, returned) > 100
            proxy.open_port()
            eventually(lambda: waiting(outbox, returned) == 0, 5)
            eventually(lambda: len(lines(acknowledged)) == 400, 30)
            assert second.wait(10) == 0
    emails = [email for _, email in lines(acknowledged)]
    assert len(emails) == len(set(emails)) == 400
    for email in emails:
        (found,) = client.users.list(email=email).data
        assert found.email == email
