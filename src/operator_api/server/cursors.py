"""Cursors: the place where a list goes on, signed, so that only what was given is taken back."""

import base64
import hmac
from collections.abc import Sequence

import orjson

from operator_api.contract.errors import INVALID_CURSOR, Problem

_SIGNATURE_BYTES = 12


class Cursors:
    """Makes and reads cursors. One is good for the list and the filters that it was made for."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def write(self, position: str, scope: Sequence[object]) -> str:
        """Return the cursor of a position in the list that ``scope`` identifies."""
        text = position.encode()
        return base64.urlsafe_b64encode(self._sign(text, scope) + text).decode().rstrip("=")

    def read(self, cursor: str, scope: Sequence[object]) -> str:
        """Return the position, or raise 400 ``invalid_cursor``."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            position = raw[_SIGNATURE_BYTES:].decode()
        except ValueError:
            raise Problem(INVALID_CURSOR) from None
        # The whole text is compared: base64 can be written in several ways, and only one was given.
        if not hmac.compare_digest(cursor, self.write(position, scope)):
            raise Problem(INVALID_CURSOR)
        return position

    def _sign(self, text: bytes, scope: Sequence[object]) -> bytes:
        return hmac.digest(self._key, orjson.dumps(scope) + text, "sha256")[:_SIGNATURE_BYTES]
