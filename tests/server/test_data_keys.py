"""Data keys: made once for each account, sealed by the operator's, and rotated beside a server."""

import asyncio
import base64
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from operator_api.server import accounts, data_keys, rotation
from operator_api.server.app import Store, open_store
from operator_api.server.data_keys import DataKeys, NoDataKeyError
from operator_api.server.database.migrate import upgrade
from operator_api.server.settings import load_settings
from operator_api.vault.keys import Keyring, UnusableKeyError
from operator_api.vault.seal import KEY_BYTES
from tests.calls import mint
from tests.servers import Server, running
from tests.stores import FILE, query

Result = TypeVar("Result")
ACCOUNTS = 5


def on_store(data: Path, work: Callable[[Store], Awaitable[Result]], **settings: Any) -> Result:
    async def open_and_work() -> Result:
        store = await open_store(load_settings({"data": data, **settings}))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(open_and_work())


async def make_accounts(store: Store) -> list[str]:
    made = [await accounts.create_account(store.database, f"a{n}") for n in range(ACCOUNTS)]
    return [each["id"] for each in made]


def wrapped_keys(data: Path) -> dict[str, bytes]:
    return dict(query(data, "SELECT account_id, wrapped FROM data_keys"))


def test_an_account_has_one_key_whoever_is_first(data: Path) -> None:
    async def work(store: Store) -> None:
        (account_id, *_) = await make_accounts(store)
        made = await asyncio.gather(*(store.data_keys.ensure(account_id) for _ in range(8)))
        assert len(set(made)) == 1
        sealed = store.data_keys.sealer(account_id, made[0]).seal(b"text", b"here")
        opener = await store.data_keys.opener(account_id)
        assert opener.open(sealed, b"here") == b"text"

    on_store(data, work)


def test_accounts_keys_cannot_be_swapped(data: Path) -> None:
    async def work(store: Store) -> None:
        one, other, *_ = await make_accounts(store)
        wrapped = await store.data_keys.ensure(one)
        await store.data_keys.ensure(other)
        with pytest.raises(UnusableKeyError):
            store.data_keys.sealer(other, wrapped)

    on_store(data, work)


def test_an_erased_key_is_gone_and_a_new_one_opens_nothing_of_it(data: Path) -> None:
    async def work(store: Store) -> None:
        account_id, *_ = await make_accounts(store)
        before = await store.data_keys.ensure(account_id)
        await store.database.write([data_keys.erase(account_id)])
        with pytest.raises(NoDataKeyError):
            await store.data_keys.opener(account_id)
        assert await store.data_keys.ensure(account_id) != before

    on_store(data, work)


def test_an_account_gets_its_key_when_it_is_first_called(server: Server) -> None:
    token = mint(server, account="called once")
    with server.client(token) as client:
        me = client.get("/v1/me").json()
    assert me["account"]["id"] in wrapped_keys(server.data)


def test_a_store_of_the_schema_before_is_upgraded_and_keeps_what_it_has(data: Path) -> None:
    data.mkdir()
    upgrade(data / FILE)
    query(data, "DROP TABLE data_keys")
    query(data, "DROP TABLE reveals")
    query(data, "UPDATE alembic_version SET version_num = '0001'")
    query(data, "INSERT INTO accounts (id, name, created_at) VALUES ('acc_1', 'kept', 1)")
    upgrade(data / FILE)
    assert query(data, "SELECT name FROM accounts") == [("kept",)]
    assert query(data, "SELECT * FROM data_keys") == []


# --- rotation ---


def test_the_file_s_key_is_replaced_and_everything_opens(data: Path) -> None:
    async def make(store: Store) -> dict[str, bytes]:
        ids = await make_accounts(store)
        for each in ids:
            await store.data_keys.ensure(each)
        return {
            each: store.data_keys.sealer(each, await store.data_keys.ensure(each)).seal(b"t", b"")
            for each in ids
        }

    sealed = on_store(data, make)
    file = data / "secret.key"
    old_key, old_wrapped = file.read_bytes(), wrapped_keys(data)
    keyring, rewrapped = on_store(data, lambda store: rotation.rotate_file(store.database, file))
    assert rewrapped == ACCOUNTS + 1
    assert old_key not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in data.iterdir() if "secret.key." in path.name} == {
        "secret.key.rotating"
    }
    assert not set(old_wrapped.values()) & set(wrapped_keys(data).values())

    async def check(store: Store) -> None:
        for account_id, each in sealed.items():
            assert (await store.data_keys.opener(account_id)).open(each, b"") == b"t"
        found = await rotation.census(store.database, store.keyring)
        assert found.ids == keyring.ids
        assert (found.under_old_keys, found.unopenable) == (0, ())

    on_store(data, check)


def test_rotations_and_servers_that_make_keys_at_the_same_time_lose_none(data: Path) -> None:
    on_store(data, make_accounts)
    file = data / "secret.key"

    def make_keys(number: int) -> None:
        async def work(store: Store) -> None:
            ids = [row["id"] for row in await accounts.list_accounts(store.database)]
            for account_id in ids[number % 2 :: 2]:
                for _ in range(8):
                    await store.database.write([data_keys.erase(account_id)])
                    await store.data_keys.ensure(account_id)

        on_store(data, work)

    def rotate(_number: int) -> None:
        for _ in range(4):
            on_store(data, lambda store: rotation.rotate_file(store.database, file))

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(rotate, 0), pool.submit(make_keys, 0)]:
            each.result()

    async def check(store: Store) -> None:
        found = await rotation.census(store.database, store.keyring)
        assert len(found.ids) == 1
        assert (found.under_old_keys, found.unopenable) == (0, ())

    on_store(data, check)


def test_a_server_goes_on_when_its_key_is_replaced(data: Path) -> None:
    with running(data) as server:
        with server.client(mint(server, account="before")) as client:
            assert client.get("/v1/me").status_code == 200
        done = server.cli("keys", "rotate")
        assert done["rewrapped"] == len(wrapped_keys(data)) + 1
        with server.client(mint(server, account="after")) as client:
            assert client.get("/v1/me").status_code == 200
        status = server.cli("keys", "status")
        assert [key["first"] for key in status["keys"]] == [True]
        assert status["keys"][0]["id"] == done["key"]
        assert (status["under_old_keys"], status["unopenable"]) == (0, [])
        assert status["keys"][0]["data_keys"] == len(wrapped_keys(data)) >= 2
    with running(data) as server, server.client(mint(server)) as client:
        assert client.get("/v1/me").status_code == 200


def test_given_keys_are_rotated_by_putting_a_new_one_first(data: Path) -> None:
    old, new = (base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() for _ in range(2))

    async def make(store: Store) -> None:
        for each in await make_accounts(store):
            await store.data_keys.ensure(each)

    async def count(store: Store) -> tuple[int, int]:
        found = await rotation.census(store.database, store.keyring)
        return found.under_old_keys, len(found.unopenable)

    async def rotate(store: Store) -> int:
        return await rotation.seal_by_first(store.database, store.keyring)

    on_store(data, make, secret_keys=old)
    both = f"{new},{old}"
    assert on_store(data, count, secret_keys=both) == (ACCOUNTS + 1, 0)
    assert on_store(data, rotate, secret_keys=both) == ACCOUNTS + 1
    assert on_store(data, rotate, secret_keys=both) == 0
    assert on_store(data, count, secret_keys=new) == (0, 0)
    with pytest.raises(UnusableKeyError, match="none of the secret keys opens"):
        on_store(data, count, secret_keys=old)


def test_a_key_in_use_goes_on_sealing_while_its_account_is_there(data: Path) -> None:
    # Servers that do not have the new key yet, when all is sealed by it already.
    old, new = (Keyring([secrets.token_bytes(KEY_BYTES)]) for _ in range(2))

    async def work(store: Store) -> None:
        (account_id, *_) = await make_accounts(store)
        keys = DataKeys(store.database, lambda: old, secrets.token_bytes(KEY_BYTES))
        wrapped = await keys.ensure(account_id)
        sealer = keys.sealer(account_id, wrapped)
        context = data_keys.context_of(account_id)
        again = new.wrap(old.unwrap(wrapped, context), context)
        assert keys.sealer(account_id, again) is sealer
        stranger = DataKeys(store.database, lambda: old, secrets.token_bytes(KEY_BYTES))
        with pytest.raises(UnusableKeyError):
            stranger.sealer(account_id, again)

    on_store(data, work)


def test_what_no_key_opens_is_told_and_left_alone(data: Path) -> None:
    async def make(store: Store) -> str:
        (account_id, *_) = await make_accounts(store)
        await store.data_keys.ensure(account_id)
        return account_id

    account_id = on_store(data, make)
    with closing(sqlite3.connect(data / FILE)) as connection, connection:
        connection.execute("UPDATE data_keys SET wrapped = zeroblob(60)")

    async def check(store: Store) -> None:
        found = await rotation.census(store.database, store.keyring)
        assert found.unopenable == (account_id,)
        await rotation.rotate_file(store.database, data / "secret.key")
        with pytest.raises(UnusableKeyError):
            await store.data_keys.opener(account_id)

    on_store(data, check)


# --- what people read ---


def told(data: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "OPERATOR_" not in name}
    return subprocess.run(
        [sys.executable, "-m", "operator_api.cli", "keys", *arguments, "--data", str(data)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_people_are_told_which_key_seals_what_and_no_key_is_shown(data: Path) -> None:
    old, new = (base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() for _ in range(2))

    async def make(store: Store) -> None:
        for each in await make_accounts(store):
            await store.data_keys.ensure(each)

    on_store(data, make, secret_keys=old)
    both = {"OPERATOR_SECRET_KEYS": f"{new},{old}"}
    before = told(data, "status", **both)
    assert f"{ACCOUNTS + 1} under an old key" in before.stderr
    assert [line.split()[1:] for line in before.stdout.splitlines()[1:]] == [
        ["seals", "no", "0"],
        ["opens", "only", "yes", str(ACCOUNTS)],
    ]
    done = told(data, "rotate", **both)
    assert f"seals all now; {ACCOUNTS + 1} were under another." in done.stderr
    again = told(data, "rotate", **both)
    assert again.returncode == 1
    assert "seals everything already" in again.stderr
    for each in (before, done, again):
        assert old not in each.stdout + each.stderr
        assert new not in each.stdout + each.stderr
    lost = told(data, "status", OPERATOR_SECRET_KEYS=old)
    assert lost.returncode == 1
    assert "none of the secret keys opens what this store has sealed" in lost.stderr
