"""Data keys: one for each account, which seals what is the account's own.

A data key is kept sealed by a key of the operator's, so that the operator can change that key
without sealing everything anew, and so that an account is erased with its data key: what it sealed
can then be read by nobody, wherever copies of it are.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from operator_api.server import installation
from operator_api.server.database import Database, Statement
from operator_api.server.ids import now_microseconds
from operator_api.vault.keys import Keyring, UnusableKeyError
from operator_api.vault.seal import KEY_BYTES, Sealer

_KEPT_KEYS = 10_000

_FIND = "SELECT wrapped FROM data_keys WHERE account_id = :account_id"
_INSERT = """
    INSERT INTO data_keys (account_id, wrapped, created_at)
    VALUES (:account_id, :wrapped, :now) ON CONFLICT DO NOTHING
"""
_ERASE = "DELETE FROM data_keys WHERE account_id = :account_id"
_LIST = "SELECT account_id, wrapped FROM data_keys ORDER BY account_id"
_REWRAP = """
    UPDATE data_keys SET wrapped = :wrapped WHERE account_id = :account_id AND wrapped = :before
"""
_FIND_INSTALLATION = "SELECT value FROM installation WHERE name = 'secret'"
_REWRAP_INSTALLATION = """
    UPDATE installation SET value = :wrapped WHERE name = 'secret' AND value = :before
"""

LoadKeyring = Callable[[], Keyring]
"""Returns the operator's keys as they are now: a file of keys may change beside a server."""


class NoDataKeyError(Exception):
    """The account has no data key: it was erased, or nothing of it was ever sealed."""


class _Kept(NamedTuple):
    wrapped: bytes
    sealer: Sealer


class DataKeys:
    """The data keys of a store. What belongs to no account has a key of the installation's."""

    def __init__(self, database: Database, load_keyring: LoadKeyring, nobodys_key: bytes) -> None:
        self._database = database
        self._load_keyring = load_keyring
        self._nobodys = Sealer(nobodys_key)
        self._kept: dict[str, _Kept] = {}

    async def ensure(self, account_id: str) -> bytes:
        """Return an account's data key as it is kept; make it if there is none."""
        return await self._find(account_id) or await self._make(account_id)

    def sealer(self, account_id: str | None, wrapped: bytes) -> Sealer:
        """Return what seals for an account, whose data key is kept like this; in any thread.

        Raise UnusableKeyError if none of the operator's keys opens it.
        """
        if account_id is None:
            return self._nobodys
        kept = self._kept.get(account_id)
        if kept is not None and kept.wrapped == wrapped:
            return kept.sealer
        try:
            sealer = self._open(account_id, wrapped)
        except UnusableKeyError:
            if kept is None:
                raise
            # It is the same key, wrapped by one of the operator's that is not known here yet.
            sealer = kept.sealer
        if len(self._kept) >= _KEPT_KEYS:
            self._kept.clear()
        self._kept[account_id] = _Kept(wrapped, sealer)
        return sealer

    async def opener(self, account_id: str | None) -> Sealer:
        """Return what opens an account's own.

        Raise NoDataKeyError for an erased one, UnusableKeyError if none of the operator's keys
        opens its key.
        """
        if account_id is None:
            return self._nobodys
        wrapped = await self._find(account_id)
        if wrapped is None:
            raise NoDataKeyError(account_id)
        return self._open(account_id, wrapped)

    async def _find(self, account_id: str) -> bytes | None:
        row = await self._database.fetch_one(_FIND, {"account_id": account_id}, fresh=True)
        return None if row is None else row["wrapped"]

    async def _make(self, account_id: str) -> bytes:
        """Make the account's key, unless another process is first.

        The operator's keys may be rotated meanwhile. What was wrapped by the key before is then
        either found by the rotation, or wrapped anew here: the keys are looked at once more after
        the commit.
        """
        key = secrets.token_bytes(KEY_BYTES)
        context = context_of(account_id)
        keyring = self._load_keyring()
        wrapped = keyring.wrap(key, context)
        parameters = {"account_id": account_id, "wrapped": wrapped, "now": now_microseconds()}
        await self._database.write([Statement(_INSERT, parameters)])
        now = self._load_keyring()
        if now.ids[0] != keyring.ids[0]:
            again = {"account_id": account_id, "wrapped": now.wrap(key, context), "before": wrapped}
            await self._database.write([Statement(_REWRAP, again)])
        found = await self._find(account_id)
        if found is None:
            raise NoDataKeyError(account_id)
        return found

    def _open(self, account_id: str, wrapped: bytes) -> Sealer:
        return Sealer(self._load_keyring().unwrap(wrapped, context_of(account_id)))


def context_of(account_id: str) -> bytes:
    """Return where a data key belongs, so that accounts' keys cannot be swapped."""
    return b"data key:" + account_id.encode()


def erase(account_id: str) -> Statement:
    """Return the statement that destroys an account's data key, for the write that erases it."""
    return Statement(_ERASE, {"account_id": account_id})


# --- the operator's keys, and what each has sealed ---


class Wrapped(NamedTuple):
    """A key that is kept sealed; ``account_id`` is None for the installation's secret."""

    account_id: str | None
    wrapped: bytes

    @property
    def context(self) -> bytes:
        """Where it belongs."""
        account_id = self.account_id
        return installation.CONTEXT if account_id is None else context_of(account_id)


async def list_wrapped(database: Database) -> Sequence[Wrapped]:
    """Return all that the operator's keys have sealed."""
    secret = await database.scan(_FIND_INSTALLATION, {})
    keys = await database.scan(_LIST, {})
    return [
        *(Wrapped(None, row["value"]) for row in secret),
        *(Wrapped(row["account_id"], row["wrapped"]) for row in keys),
    ]


async def rewrap(database: Database, keyring: Keyring) -> int:
    """Have the first key seal all that others of the keyring have sealed; return how much it was.

    What is changed by another process meanwhile is left to it, and what none of the keys opens is
    left as it is.
    """
    statements = []
    for each in await list_wrapped(database):
        if keyring.sealed_by(each.wrapped, each.context) in (None, keyring.ids[0]):
            continue
        key = keyring.unwrap(each.wrapped, each.context)
        sql = _REWRAP_INSTALLATION if each.account_id is None else _REWRAP
        parameters = {
            "wrapped": keyring.wrap(key, each.context),
            "before": each.wrapped,
            "account_id": each.account_id,
        }
        statements.append(Statement(sql, parameters))
    if statements:
        await database.write(statements, bulk=True)
    return len(statements)
