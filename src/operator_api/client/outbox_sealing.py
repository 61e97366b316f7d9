"""What of a write is sealed in the outbox: its headers and its body, by the operator's keys.

The keys are those of OPERATOR_SECRET_KEYS, of which the first seals and all open, or else one in a
file beside the outbox, ``<name>.key``, that is made once. AES-256-GCM, with the id, the time, the
operation and the address of the write as its context.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from operator_api.client.core import Request
from operator_api.client.errors import OutboxError
from operator_api.contract.headers import IDEMPOTENCY_KEY

SECRET_KEYS = "OPERATOR_SECRET_KEYS"  # noqa: S105 - the name of the variable, not what is in it


class OutboxKeys:
    """The keys of an outbox, derived from the operator's. Their ids may be known to anybody."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Loading the cryptography takes longer than a client may take to import.
        from operator_api.vault.keys import derive  # noqa: PLC0415 - see above
        from operator_api.vault.seal import Sealer  # noqa: PLC0415 - see above

        self._sealers = {
            derive(key, "outbox: key id").hex()[:16]: Sealer(derive(key, "outbox")) for key in keys
        }
        self.key_id = next(iter(self._sealers))

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all keys at hand."""
        return frozenset(self._sealers)

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
        text = json.dumps(head).encode() + b"\n" + (request.content or b"")
        return self._sealers[self.key_id].seal(text, context)

    def open(self, key_id: str, sealed: bytes, context: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the head and the body, or raise OutboxError."""
        from operator_api.vault.seal import Unsealable  # noqa: PLC0415 - as above

        if key_id not in self._sealers:
            raise OutboxError(f"The write was sealed by the key {key_id}, which is not at hand.")
        try:
            text = self._sealers[key_id].open(sealed, context)
        except Unsealable:
            raise OutboxError(
                "The write is not as it was kept: its row in the outbox was changed, or damaged."
            ) from None
        head, _, body = text.partition(b"\n")
        return json.loads(head), body


def key_file(path: Path) -> Path:
    """Return where the key beside an outbox is."""
    return path.with_name(f"{path.name}.key")


def find_keys(path: Path, *, make: bool) -> OutboxKeys | None:
    """Return the keys at hand, None if there are none. ``make`` makes the file beside the outbox.

    Raises OutboxError for keys that cannot be used, and shows none.
    """
    text, file = os.environ.get(SECRET_KEYS), key_file(path)
    if not text and not make and not file.exists():
        return None
    from operator_api.vault.keys import (  # noqa: PLC0415 - as above
        UnusableKeyError,
        load_or_make,
        parse_keys,
    )

    try:
        return OutboxKeys(parse_keys(text) if text else load_or_make(file))
    except (UnusableKeyError, OSError) as error:
        source = SECRET_KEYS if text else str(file)
        raise OutboxError(f"The key of {source} cannot be used: {error}.") from None
