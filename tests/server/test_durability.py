"""An acknowledged write survives ``kill -9``, and a retried one acts once."""

import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.servers import Server, eventually, running
from tests.stores import FILE, assert_sound, query

WRITERS = 8


@dataclass
class Sent:
    """A write that was sent; without an answer, nobody knows whether it has happened."""

    method: str
    path: str
    body: dict[str, Any] | None
    key: str
    answer: httpx2.Response | None = None


class Writer(threading.Thread):
    """Sends one write after the other, until the server is gone."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(name=name)
        self.server = server
        self.sent: list[Sent] = []
        self.failure: AssertionError | None = None

    def run(self) -> None:
        with self.server.client() as client:
            try:
                self.write(client)
            except httpx2.TransportError:
                pass  # the kill: the last one sent has no answer
            except AssertionError as failure:
                self.failure = failure

    def write(self, client: httpx2.Client) -> None:
        raise NotImplementedError

    def send(self, client: httpx2.Client, method: str, path: str, body: Any = None) -> Any:
        """Send a write under a key of its own, and return what it answers."""
        sent = Sent(method, path, body, key=f"{self.name}-{len(self.sent)}")
        self.sent.append(sent)
        sent.answer = deliver(client, sent)
        assert sent.answer.is_success, sent.answer.text
        return sent.answer.json()


class UserWriter(Writer):
    """Creates users, each with an email of its own."""

    def write(self, client: httpx2.Client) -> None:
        for number in itertools.count():
            self.send(client, "POST", "/v1/users", {"email": f"{self.name}-{number}@example.com"})


class MixedWriter(Writer):
    """Changes, tags and deletes users, and fills and closes conversations.

    Nothing but the key keeps a second message or version from being made.
    """

    def write(self, client: httpx2.Client) -> None:
        for number in itertools.count():
            email = f"{self.name}-{number}@example.com"
            user = self.send(client, "POST", "/v1/users", {"email": email})["id"]
            body = {"user_id": user, "channel": "web"}
            conversation = self.send(client, "POST", "/v1/conversations", body)["id"]
            message = {"conversation_id": conversation, "type": "user", "message": "Hello"}
            self.send(client, "POST", "/v1/messages", message)
            self.send(client, "PATCH", f"/v1/users/{user}", {"name": email})
            self.send(client, "POST", "/v1/tags", {"user_id": user, "tag": "new"})
            self.send(client, "POST", "/v1/messages", message)
            self.send(client, "POST", f"/v1/conversations/{conversation}/close")
            if number % 2:
                self.send(client, "DELETE", f"/v1/users/{user}")


def deliver(client: httpx2.Client, sent: Sent) -> httpx2.Response:
    headers = {"Idempotency-Key": sent.key}
    return client.request(sent.method, sent.path, json=sent.body, headers=headers)


def kill_under(writers: Iterable[Writer], server: Server, seconds: float) -> None:
    """Let the writers write, and kill the server under them."""
    writers = list(writers)
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    server.stop(signal.SIGKILL)
    for writer in writers:
        writer.join(60)
        assert writer.failure is None, writer.failure
    assert_sound(server.data)


def retry(client: httpx2.Client, sent: Sent) -> httpx2.Response:
    """Send a write again under its key, and require that it has happened once."""
    again = deliver(client, sent)
    assert again.is_success, (sent, again.text)
    if sent.answer is not None:
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.status_code, again.content) == (sent.answer.status_code, sent.answer.content)
    return again


# --- kill -9 ---


def test_no_acknowledged_write_is_lost_and_none_is_doubled(data: Path) -> None:
    chance = random.Random(1)
    server = Server(data).start()
    every: list[Sent] = []
    unanswered = 0
    for attempt in range(20):
        writers = [UserWriter(server, f"{attempt}-{n}") for n in range(WRITERS)]
        kill_under(writers, server, chance.uniform(0.05, 0.4))
        server.start()
        with server.client() as client:
            for writer in writers:
                unanswered += writer.sent[-1].answer is None
                writer.sent[-1].answer = retry(client, writer.sent[-1])
                every += writer.sent
    server.stop(signal.SIGKILL)
    assert_sound(data)
    assert sorted(query(data, "SELECT email, id FROM users")) == sorted(map(user_of, every))
    assert query(data, "SELECT count(*) FROM idempotency_keys") == [(len(every),)]
    assert unanswered > 20, "the kills came when nobody wrote"


def user_of(sent: Sent) -> tuple[str, str]:
    assert sent.answer is not None
    user = sent.answer.json()
    return user["email"], user["id"]


def test_every_kind_of_write_survives_and_acts_once(data: Path) -> None:
    chance = random.Random(2)
    server = Server(data).start()
    every: list[Sent] = []
    for attempt in range(8):
        writers = [MixedWriter(server, f"{attempt}-{n}") for n in range(WRITERS)]
        kill_under(writers, server, chance.uniform(0.2, 0.5))
        server.start()
        with server.client() as client:
            for sent in itertools.chain.from_iterable(writer.sent for writer in writers):
                sent.answer = retry(client, sent)
                every.append(sent)
    server.stop(signal.SIGKILL)
    assert_sound(data)
    assert stored(data) == expected(every)


def stored(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read what the store has of each user, conversation and message."""
    return {
        "users": query(
            data,
            "SELECT id, version, (SELECT count(*) FROM user_tags WHERE user_id = users.id)"
            " FROM users ORDER BY id",
        ),
        "conversations": query(
            data,
            "SELECT id, status, (SELECT count(*) FROM messages WHERE conversation_id = c.id)"
            " FROM conversations c ORDER BY id",
        ),
    }


def expected(every: Iterable[Sent]) -> dict[str, list[tuple[Any, ...]]]:
    """Work out what must be stored, once each of the writes has happened once."""
    users: dict[str, list[Any]] = {}
    conversations: dict[str, list[Any]] = {}
    owner: dict[str, str] = {}
    for sent in every:
        assert sent.answer is not None
        body, answer = sent.body or {}, sent.answer.json()
        match sent.method, sent.path.split("/")[2:]:
            case "POST", ["users"]:
                users[answer["id"]] = [1, 0]
            case "PATCH", ["users", user]:
                users[user][0] += 1
            case "POST", ["tags"]:
                users[body["user_id"]] = [users[body["user_id"]][0] + 1, 1]
            case "DELETE", ["users", user]:
                del users[user]
                conversations = {c: row for c, row in conversations.items() if owner[c] != user}
            case "POST", ["conversations"]:
                conversations[answer["id"]] = ["open", 0]
                owner[answer["id"]] = answer["user_id"]
            case "POST", ["messages"]:
                conversations[body["conversation_id"]][1] += 1
            case "POST", ["conversations", conversation, "close"]:
                conversations[conversation][0] = "closed"
            case other:
                raise AssertionError(other)
    return {
        "users": sorted((name, *row) for name, row in users.items()),
        "conversations": sorted((name, *row) for name, row in conversations.items()),
    }


# --- the first start ---


@pytest.mark.parametrize("attempt", range(15))
def test_a_first_start_that_was_killed_can_be_repeated(data: Path, attempt: int) -> None:
    with first_start(data) as process:
        eventually(data.exists, every=0.001)
        time.sleep(attempt * 0.04)  # from the first file to the last takes about half a second
        process.kill()
    with running(data) as server:
        assert_one_default_account(data)
        server.stop(signal.SIGKILL)
        server.start()
        assert_one_default_account(data)
    assert_sound(data)
    assert (data / "secret.key").stat().st_mode & 0o777 == 0o600


@contextmanager
def first_start(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server without waiting until it is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "operator_api.cli", "serve", "--port", "0", "--data", str(data)],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def assert_one_default_account(data: Path) -> None:
    assert query(data, "SELECT name FROM accounts") == [("default",)]
    assert query(data, "SELECT environment FROM tenants ORDER BY id") == [("live",), ("test",)]
    assert query(data, "SELECT count(*) FROM installation") == [(1,)]
    # A first token that was not shown yet is lost with its process; the command line makes others.
    assert query(data, "SELECT count(*) FROM tokens") in [[(0,)], [(1,)]]


# --- a clean end ---


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_end_leaves_one_file_with_everything_in_it(data: Path, how: signal.Signals) -> None:
    with running(data) as server:
        with server.client() as client:
            for number in range(50):
                body = {"email": f"{number}@example.com"}
                assert client.post("/v1/users", json=body).status_code == 201
            assert len(client.get("/v1/users", params={"limit": 100}).json()["data"]) == 50
        server.stop(how)
    assert not list(data.glob(f"{FILE}-*")), "the log of the store was not written back"
    assert query(data, "SELECT count(*) FROM users") == [(50,)]
    assert_sound(data)


# --- the keys of another store ---


def test_another_key_is_refused_and_does_no_damage(data: Path) -> None:
    with running(data) as server:
        with server.client() as client:
            assert client.post("/v1/users", json={"email": "a@example.com"}).status_code == 201
        server.stop()
    with pytest.raises(AssertionError) as raised:
        Server(data, OPERATOR_SECRET_KEYS=ANOTHER_KEY).start()
    said = " ".join(str(raised.value).split())
    assert "none of the secret keys opens what this store has sealed" in said
    assert ANOTHER_KEY not in said
    with running(data) as again, again.client(server.token) as client:
        (user,) = client.get("/v1/users").json()["data"]
        assert user["email"] == "a@example.com"


def test_keys_are_rotated_by_putting_a_new_one_first(data: Path) -> None:
    with running(data) as server:
        server.stop()
    both = f"{ANOTHER_KEY},{(data / 'secret.key').read_text()}"
    with running(data, OPERATOR_SECRET_KEYS=both) as again, again.client(server.token) as client:
        assert client.get("/v1/me").status_code == 200


ANOTHER_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
