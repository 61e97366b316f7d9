"""The keys that seal: given by the operator, or made once into a file that only its owner reads."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from operator_api.vault.seal import KEY_BYTES, Sealer, Unsealable

_ID_DIGITS = 12


class UnusableKeyError(Exception):
    """A key is malformed, or is not the one that sealed. The message never holds the key."""


class Keyring:
    """The operator's keys: the first seals, all of them open.

    ``ids`` tell them apart, in their order, and tell nothing of them.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise UnusableKeyError(f"a secret key must have {KEY_BYTES} bytes")
        self._sealers = [Sealer(key) for key in keys]
        self.ids = tuple(derive(key, "key id").hex()[:_ID_DIGITS] for key in keys)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a key with the first of the keyring."""
        return self._sealers[0].seal(key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a key with whichever of the keyring sealed it."""
        for sealer in self._sealers:
            try:
                return sealer.open(wrapped, context)
            except Unsealable:
                continue
        raise UnusableKeyError("none of the secret keys opens what this store has sealed")

    def sealed_by(self, wrapped: bytes, context: bytes) -> str | None:
        """Return the id of the key that sealed it; None if it is none of the keyring."""
        for identity, sealer in zip(self.ids, self._sealers, strict=True):
            try:
                sealer.open(wrapped, context)
            except Unsealable:
                continue
            return identity
        return None


def parse_keys(text: str) -> list[bytes]:
    """Read keys in base64, separated by commas."""
    try:
        keys = [base64.b64decode(part.strip(), validate=True) for part in text.split(",")]
    except ValueError:  # binascii.Error is one, and what is not ASCII is another
        raise UnusableKeyError("a secret key is not base64") from None
    if any(len(key) != KEY_BYTES for key in keys):
        raise UnusableKeyError(f"a secret key must have {KEY_BYTES} bytes, in base64")
    return keys


def load_or_make(path: Path) -> list[bytes]:
    """Read the keys in the file; where there is none, make one that only its owner may read.

    Safe to run by two processes at once, and to be killed: the file appears whole or not at all.
    """
    if not path.exists():
        _make(path)
    try:
        return parse_keys(path.read_text("latin-1"))  # which reads any byte, for base64 to refuse
    except UnusableKeyError as error:
        raise UnusableKeyError(f"{path}: {error}") from None


def put_new_first(path: Path) -> list[bytes]:
    """Put a new key before those in the file, and return all of them. The file changes at once."""
    keys = [secrets.token_bytes(KEY_BYTES), *load_or_make(path)]
    _replace(path, keys)
    return keys


def keep_first(path: Path) -> list[bytes]:
    """Leave the first key alone in the file, and return it. The others open nothing any more."""
    keys = load_or_make(path)[:1]
    _replace(path, keys)
    return keys


def _make(path: Path) -> None:
    draft = _draft(path, [secrets.token_bytes(KEY_BYTES)])
    try:
        os.link(draft, path)  # fails where another process was first: its key is the one
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _sync_folder(path)


def _replace(path: Path, keys: Sequence[bytes]) -> None:
    _draft(path, keys).replace(path)
    _sync_folder(path)


def _draft(path: Path, keys: Sequence[bytes]) -> Path:
    """Write the keys to a file beside, which only its owner may read."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b",".join(map(base64.b64encode, keys)))
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def derive(secret: bytes, purpose: str) -> bytes:
    """Derive a key for one purpose from a secret that is random already (HMAC as a PRF)."""
    return hmac.digest(secret, purpose.encode(), hashlib.sha256)
