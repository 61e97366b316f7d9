"""The keys that seal one file on somebody's machine, such as a client's outbox.

They are derived, for that purpose alone, from the operator's keys: those of OPERATOR_SECRET_KEYS,
of which the first seals and all open, or else the one in a file beside the sealed one.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from operator_api.vault.keys import UnusableKeyError, derive, load_or_make, parse_keys
from operator_api.vault.seal import KEY_BYTES, Sealer

SECRET_KEYS = "OPERATOR_SECRET_KEYS"  # noqa: S105 - the name of the variable, not what is in it


class KeyNotAtHand(Exception):
    """What is to be opened was sealed with another key, whose id is the message."""


class FileKeys:
    """Seals with the first key and opens with all. Their ids may be known to anybody."""

    def __init__(self, keys: Sequence[bytes], purpose: str) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise UnusableKeyError(f"a secret key must have {KEY_BYTES} bytes")
        self._sealers = {
            derive(key, f"{purpose}: key id").hex()[:16]: Sealer(derive(key, purpose))
            for key in keys
        }
        self.key_id = next(iter(self._sealers))

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all keys at hand."""
        return frozenset(self._sealers)

    def seal(self, text: bytes, context: bytes) -> bytes:
        """Seal with the first key."""
        return self._sealers[self.key_id].seal(text, context)

    def open(self, key_id: str, sealed: bytes, context: bytes) -> bytes:
        """Open with the key of this id; raise KeyNotAtHand, or Unsealable for what was changed."""
        if key_id not in self._sealers:
            raise KeyNotAtHand(key_id)
        return self._sealers[key_id].open(sealed, context)


def key_file(path: Path) -> Path:
    """Return where the key beside a file is."""
    return path.with_name(f"{path.name}.key")


def find_keys(path: Path, purpose: str, *, make: bool = False) -> FileKeys | None:
    """Return the keys at hand for a file, None if there are none. ``make`` makes one beside it.

    Raises UnusableKeyError or OSError for keys that cannot be used, and shows none.
    """
    text, file = os.environ.get(SECRET_KEYS), key_file(path)
    if not text and not make and not file.exists():
        return None
    return FileKeys(parse_keys(text) if text else load_or_make(file), purpose)
