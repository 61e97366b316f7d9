"""``operator-api accounts erase-log``: what is logged of an account, gone for good."""

from pathlib import Path

import pytest

from tests.servers import Server, eventually, running
from tests.test_cli import complains, fails


def logged(server: Server) -> int:
    with server.client() as client:
        return len(client.get("/v1/requests", params={"status": "422"}).json()["data"])


@pytest.fixture
def used(data: Path) -> Server:
    """Return a server that is stopped, with a failed request in its log."""
    with running(data) as server:
        with server.client() as client:
            assert client.post("/v1/users", json={"name": "Ada"}).status_code == 422
            eventually(lambda: logged(server) == 1)
        server.stop()
    return server


def test_the_log_of_an_account_is_erased(used: Server) -> None:
    told = used.cli("accounts", "erase-log", "default", "--yes")
    assert told == {"account": "default", "erased": True, "log": True}
    used.start()
    try:
        assert logged(used) == 0
        with used.client() as client:  # and the account goes on
            assert client.post("/v1/users", json={"name": "Ada"}).status_code == 422
        eventually(lambda: logged(used) == 1)
    finally:
        used.stop()


def test_other_accounts_keep_theirs(used: Server) -> None:
    used.cli("accounts", "create", "other")
    used.cli("accounts", "erase-log", "other", "--yes")
    used.start()
    try:
        assert logged(used) == 1
    finally:
        used.stop()


def test_it_asks_first_and_wants_the_server_stopped(data: Path) -> None:
    erase = ("accounts", "erase-log", "default", "--data", str(data))
    with running(data):
        fails(*erase, code=2, reason="usage", says=("for good", "--yes"))
        fails(*erase, "--yes", code=1, reason="already_served", says=("Stop it",))


def test_there_is_no_such_account_or_store(used: Server, tmp_path: Path) -> None:
    place = ("--yes", "--data", str(used.data))
    complains("accounts", "erase-log", "defualt", *place, code=1, says=("Did you mean default?",))
    place = ("--yes", "--data", str(tmp_path / "none"))
    fails("accounts", "erase-log", "default", *place, code=1, reason="store_missing", says=())
