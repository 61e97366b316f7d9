"""Authenticated encryption of what is stored: AES-256-GCM (NIST SP 800-38D).

The context is authenticated with the text, so that a sealed value cannot be moved to another row.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class Unsealable(Exception):
    """The value was changed, moved to another place, or sealed with another key."""


class Sealer:
    """Seals and opens with one key. Its ``repr`` shows nothing of the key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: bytes, context: bytes) -> bytes:
        """Return a fresh nonce, the encrypted text and its tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the text, or raise Unsealable."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):  # ValueError: cut so short that there is no whole nonce
            raise Unsealable("the value cannot be opened with this key and context") from None
