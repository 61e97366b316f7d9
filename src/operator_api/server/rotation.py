"""How the operator's keys are changed, beside servers that run."""

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operator_api.server.data_keys import list_wrapped, rewrap
from operator_api.server.database import Database
from operator_api.vault.keys import Keyring, keep_first, put_new_first


@dataclass(frozen=True, slots=True)
class Census:
    """What each key of a keyring seals. ``unopenable`` names the accounts that no key opens."""

    ids: tuple[str, ...]
    installation: str
    data_keys: Counter[str]
    unopenable: tuple[str, ...]

    @property
    def under_old_keys(self) -> int:
        """How much would be lost with the keys behind the first."""
        first = self.ids[0]
        return self.data_keys.total() - self.data_keys[first] + (self.installation != first)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs; of keys there are ids only."""
        return {
            "keys": [
                {
                    "id": identity,
                    "first": identity == self.ids[0],
                    "installation": identity == self.installation,
                    "data_keys": self.data_keys[identity],
                }
                for identity in self.ids
            ],
            "under_old_keys": self.under_old_keys,
            "unopenable": list(self.unopenable),
        }


async def census(database: Database, keyring: Keyring) -> Census:
    """Find out what each key seals."""
    installation, data_keys, unopenable = "", Counter[str](), []
    for each in await list_wrapped(database):
        identity = keyring.sealed_by(each.wrapped, each.context)
        if each.account_id is None:
            installation = identity or ""
        elif identity is None:
            unopenable.append(each.account_id)
        else:
            data_keys[identity] += 1
    return Census(keyring.ids, installation, data_keys, tuple(unopenable))


async def seal_by_first(database: Database, keyring: Keyring) -> int:
    """Have the first key seal all, also what is added meanwhile; return how much it was."""
    total = 0
    while done := await rewrap(database, keyring):
        total += done
    return total


async def rotate_file(database: Database, file: Path) -> tuple[Keyring, int]:
    """Replace the keys in a file by a new one; return it, and how much it seals now.

    The old ones stay in the file until the new one seals all. Servers read the file anew whenever
    they need a key; killed in between, it is done by the next rotation.
    """
    with _alone(file):
        keyring = Keyring(put_new_first(file))
        rewrapped = await seal_by_first(database, keyring)
        return Keyring(keep_first(file)), rewrapped


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.with_name(f"{file.name}.rotating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
