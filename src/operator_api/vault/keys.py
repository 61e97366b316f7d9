"""The keys that seal: given by the operator, or made once into a file that only its owner reads."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from operator_api.vault.seal import KEY_BYTES, Sealer, Unsealable


class UnusableKeyError(Exception):
    """A key is malformed, or is not the one that sealed. The message never holds the key."""


class Keyring:
    """The operator's keys: the first seals, all of them open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise UnusableKeyError(f"a secret key must have {KEY_BYTES} bytes")
        self._sealers = [Sealer(key) for key in keys]

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


def _make(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # fails where another process was first: its key is the one
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def derive(secret: bytes, purpose: str) -> bytes:
    """Derive a key for one purpose from a secret that is random already (HMAC as a PRF)."""
    return hmac.digest(secret, purpose.encode(), hashlib.sha256)
