"""``operator-api outbox``: what a client has kept, looked at, sent, put back and dropped."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from operator_api import OperatorAI
from operator_api.drill.faults import Refuse
from operator_api.drill.plans import Always
from operator_api.vault.file_keys import key_file
from tests.faulty import TOKEN, Answering, answering
from tests.test_cli import complains, fails, run, succeeds

CONVERSATION = "cnv_" + "1" * 32
CLOSED = Always(Refuse("conversation_closed"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as server:
        yield server


@pytest.fixture
def pending(server: Answering, path: Path) -> str:
    """Return the id of a write that waits for a server that is gone."""
    server.proxy.close_port()
    with OperatorAI(api_key=TOKEN, base_url=server.url, outbox=path) as client:
        return client.outbox.users.create(email="ada@example.com").id


@pytest.fixture
def dead(server: Answering, path: Path) -> str:
    """Return the id of a dead letter. The server would take it now."""
    server.proxy.use(CLOSED)
    with OperatorAI(api_key=TOKEN, base_url=server.url, outbox=path) as client:
        receipt = client.outbox.messages.create(
            conversation_id=CONVERSATION, message="Hello", type="agent"
        )
        assert client.outbox.drain(deadline=10).dead == 1
    server.proxy.use(())
    return receipt.id


def status(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(succeeds("outbox", "status", "--outbox", str(path), "--json"))
    return told


def test_status_shows_what_waits_and_what_is_dead(path: Path, dead: str, pending: str) -> None:
    done = run("outbox", "status", OPERATOR_OUTBOX=str(path))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["WRITE", "QUEUED", "OPERATION", "STATE", "TRIES", "ERROR"]
    assert lines[1].startswith(dead)
    assert "refused" in lines[1]
    assert "409 conversation_closed" in lines[1]
    assert lines[2].startswith(pending)
    assert "1 pending, 1 dead" in done.stderr
    assert f"operator-api outbox retry {dead}" in done.stderr
    told = status(path)
    assert (told["pending"], told["dead"]) == (1, 1)
    assert told["dead_letters"][0]["id"] == dead
    assert told["pending_writes"][0]["id"] == pending


def test_drain_sends_what_waits(server: Answering, path: Path, pending: str) -> None:
    server.proxy.open_port()
    words = ("outbox", "drain", "--outbox", str(path), "--base-url", server.url)
    done = run(*words, OPERATOR_API_KEY=TOKEN)
    assert done.returncode == 0, done.stderr
    assert "Sent 1; nothing is left." in done.stderr
    assert len(server.answers.log) == 1
    told = json.loads(succeeds(*words, "--json", OPERATOR_API_KEY=TOKEN))
    assert (told["pending"], told["dead"]) == (0, 0)


def test_drain_tells_what_it_could_not_send(server: Answering, path: Path, pending: str) -> None:
    words = ("outbox", "drain", "--outbox", str(path), "--deadline", "0.3")
    error = fails(
        *words, "--base-url", server.url, code=1, reason="outbox_not_drained",
        says=("1 write is still pending", "outbox status"), OPERATOR_API_KEY=TOKEN,
    )  # fmt: skip
    assert error["metadata"]["pending"] == 1
    says = ("1 write is for another server", f"outbox drain --base-url {server.url}")
    complains(*words, "--base-url", "http://127.0.0.1:9", code=1, says=says, OPERATOR_API_KEY=TOKEN)


def test_drain_tells_what_was_refused(server: Answering, path: Path, dead: str) -> None:
    succeeds("outbox", "retry", dead, "--outbox", str(path))
    server.proxy.use(CLOSED)
    complains(
        "outbox", "drain", "--outbox", str(path), "--base-url", server.url, code=1,
        says=("1 write is refused for good",), OPERATOR_API_KEY=TOKEN,
    )  # fmt: skip


def test_drain_needs_a_token(path: Path, pending: str) -> None:
    complains("outbox", "drain", "--outbox", str(path), code=2, says=("OPERATOR_API_KEY",))


def test_a_dead_letter_is_put_back(server: Answering, path: Path, dead: str) -> None:
    words = ("--outbox", str(path), "--json")
    (write,) = json.loads(succeeds("outbox", "retry", dead, *words))["data"]
    assert (write["id"], write["state"]) == (dead, "pending")
    error = fails(
        "outbox", "retry", dead, "--outbox", str(path), code=1, reason="write_not_dead",
        says=("is no dead letter", "outbox drain"),
    )  # fmt: skip
    assert error["code"] == 409
    assert json.loads(succeeds("outbox", "retry", "--all", *words)) == {"data": []}


def test_what_may_be_done_is_put_back_by_force_alone(path: Path, dead: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE writes SET outcome = 'unknown', cause = 'expired', ages_from = 0")
    says = ("may have been done", "done twice", f"outbox retry {dead} --force", f"drop {dead}")
    fails(
        "outbox", "retry", dead, "--outbox", str(path), code=1, reason="write_maybe_done", says=says
    )
    complains(
        "outbox", "retry", "--all", "--outbox", str(path), code=1, says=("1 write is not put back",)
    )
    succeeds("outbox", "retry", dead, "--force", "--outbox", str(path))
    assert status(path)["pending"] == 1


def test_a_write_is_dropped_for_those_who_mean_it(path: Path, dead: str) -> None:
    fails(
        "outbox", "drop", dead, "--outbox", str(path), code=2, reason="not_confirmed",
        says=("for good", f"outbox drop {dead} --yes"),
    )  # fmt: skip
    assert status(path)["dead"] == 1
    succeeds("outbox", "drop", dead, "--yes", "--outbox", str(path))
    assert status(path)["dead"] == 0
    error = fails(
        "outbox", "drop", dead, "--yes", "--outbox", str(path), code=1,
        reason="resource_not_found", says=(f"There is no write {dead}",),
    )  # fmt: skip
    assert error["metadata"] == {"resource": "write"}


def test_an_id_that_is_almost_one_is_named(path: Path, dead: str) -> None:
    wrong = dead[:-1] + ("0" if dead[-1] != "0" else "1")
    complains(
        "outbox", "retry", wrong, "--outbox", str(path), code=1, says=(f"Did you mean {dead}?",)
    )


@pytest.mark.parametrize("words", [["retry"], ["retry", "out_1", "--all"], ["drop"]])
def test_either_an_id_or_all(path: Path, dead: str, words: list[str]) -> None:
    complains("outbox", *words, "--outbox", str(path), code=2, says=("an ID or --all",))


def test_there_is_no_outbox(path: Path) -> None:
    complains("outbox", "status", code=2, says=("OPERATOR_OUTBOX is not set",))
    error = fails(
        "outbox", "status", "--outbox", str(path), code=1, reason="outbox_missing",
        says=("There is no outbox", f"OperatorAI(outbox='{path}')"),
    )  # fmt: skip
    assert error["metadata"] == {"path": str(path)}
    assert not path.exists()


def test_without_its_key_it_is_looked_at_and_not_sent(path: Path, pending: str) -> None:
    key_file(path).unlink()
    told = run("outbox", "status", "--outbox", str(path))
    assert "1 write is sealed by a key that is not at hand" in told.stderr
    assert status(path)["locked_out"] == 1
    fails(
        "outbox", "drain", "--outbox", str(path), code=1, reason="outbox_unusable",
        says=("sealed by a key", "OPERATOR_SECRET_KEYS"), OPERATOR_API_KEY=TOKEN,
    )  # fmt: skip
    succeeds("outbox", "drop", pending, "--yes", "--outbox", str(path))
