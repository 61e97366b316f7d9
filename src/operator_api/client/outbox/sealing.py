"""What of a write is sealed in the outbox: its headers and its body, by the operator's keys.

The keys are those of OPERATOR_SECRET_KEYS, of which the first seals and all open, or else one in a
file beside the outbox, ``<name>.key``, that is made once. AES-256-GCM, with the id, the time, the
operation and the address of the write as its context.
"""

import json
import os
from pathlib import Path
from typing import Any

from operator_api.client.core import Request
from operator_api.client.errors import OutboxError
from operator_api.contract.headers import IDEMPOTENCY_KEY
from operator_api.vault import file_keys
from operator_api.vault.file_keys import SECRET_KEYS, FileKeys, KeyNotAtHand, key_file
from operator_api.vault.keys import UnusableKeyError
from operator_api.vault.seal import Unsealable

_PURPOSE = "outbox"


class OutboxKeys:
    """The keys of an outbox. Their ids may be known to anybody."""

    def __init__(self, keys: FileKeys) -> None:
        self._keys = keys
        self.key_id = keys.key_id
        self.ids = keys.ids

    def seal(self, request: Request, context: bytes) -> bytes:
        """Seal what is not in clear, with the first key."""
        headers = {
            name: value for name, value in request.headers.items() if name != IDEMPOTENCY_KEY
        }
        head: dict[str, Any] = {
            "headers": headers,
            "call_id": request.call_id,
            "timeout": request.timeout,
            "has_body": request.content is not None,
        }
        return self._keys.seal(
            json.dumps(head).encode() + b"\n" + (request.content or b""), context
        )

    def open(self, key_id: str, sealed: bytes, context: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the head and the body, or raise OutboxError."""
        try:
            text = self._keys.open(key_id, sealed, context)
        except KeyNotAtHand:
            raise OutboxError(
                f"The write was sealed by the key {key_id}, which is not at hand."
            ) from None
        except Unsealable:
            raise OutboxError(
                "The write is not as it was kept: its row in the outbox was changed, or damaged."
            ) from None
        head, _, body = text.partition(b"\n")
        return json.loads(head), body


def find_keys(path: Path, *, make: bool) -> OutboxKeys | None:
    """Return the keys at hand, None if there are none. ``make`` makes the file beside the outbox.

    Raises OutboxError for keys that cannot be used, and shows none.
    """
    try:
        keys = file_keys.find_keys(path, _PURPOSE, make=make)
    except (UnusableKeyError, OSError) as error:
        source = SECRET_KEYS if os.environ.get(SECRET_KEYS) else str(key_file(path))
        raise OutboxError(f"The key of {source} cannot be used: {error}.") from None
    return None if keys is None else OutboxKeys(keys)
