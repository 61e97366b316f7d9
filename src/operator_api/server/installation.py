"""What an installation is set up with: its own secret, sealed by the operator's keys."""

import secrets

from operator_api.server.database import Database, Statement
from operator_api.vault.keys import Keyring, UnusableKeyError, derive
from operator_api.vault.seal import KEY_BYTES

CONTEXT = b"installation:secret"
_FIND = "SELECT value FROM installation WHERE name = 'secret'"
_INSERT = "INSERT INTO installation (name, value) VALUES ('secret', :value) ON CONFLICT DO NOTHING"


class Installation:
    """Gives one key for each purpose, all derived from the installation's secret."""

    def __init__(self, secret: bytes) -> None:
        self.token_pepper = derive(secret, "token pepper")
        self.cursor_key = derive(secret, "cursors")
        self.answer_key = derive(secret, "idempotent answers")
        self.log_key = derive(secret, "hashes in the request log")
        self.nobodys_detail_key = derive(secret, "details of requests by nobody known")


async def load_installation(database: Database, keyring: Keyring) -> Installation:
    """Return the store's installation; make it if the store is new. Two at once get the same."""
    row = await database.fetch_one(_FIND, {})
    if row is None:
        wrapped = keyring.wrap(secrets.token_bytes(KEY_BYTES), CONTEXT)
        await database.write([Statement(_INSERT, {"value": wrapped})])
        row = await database.fetch_one(_FIND, {})
        assert row is not None, "the secret was just committed"
    return Installation(keyring.unwrap(row["value"], CONTEXT))


async def require_openable(database: Database, keyring: Keyring) -> None:
    """Raise UnusableKeyError unless the keys open the store, as they must when it starts again."""
    row = await database.fetch_one(_FIND, {})
    if row is None:
        raise UnusableKeyError("the store has lost its secret")
    keyring.unwrap(row["value"], CONTEXT)
