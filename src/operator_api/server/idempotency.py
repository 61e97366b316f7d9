"""Idempotency keys: a write that is sent again acts once, and gets the first one's answer.

The key is inserted in the write's own transaction, with the whole answer, so that there is no
moment in which one exists without the other. Whoever comes second finds the key there; one that was
first to ask but second to commit fails at the key, and its transaction undoes all.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from operator_api.contract.errors import (
    IDEMPOTENCY_IN_PROGRESS,
    IDEMPOTENCY_KEY_REUSED,
    Problem,
)
from operator_api.server.database import Database, Statement
from operator_api.server.exchange import Response
from operator_api.vault.seal import Sealer

KEPT_MICROSECONDS = 7 * 86_400 * 1_000_000
# What a refused write answers again; other refusals are not final, and are tried anew.
FINAL_STATUSES = frozenset({404, 409, 412})

_FIND = """
    SELECT fingerprint, answer FROM idempotency_keys
    WHERE tenant = :tenant AND key = :key AND created_at > :oldest
"""
# An old key that has not been swept away yet is as good as none.
_INSERT = """
    INSERT INTO idempotency_keys (tenant, key, fingerprint, answer, created_at)
    VALUES (:tenant, :key, :fingerprint, :answer, :now)
    ON CONFLICT (tenant, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, answer = excluded.answer,
        created_at = excluded.created_at
    WHERE idempotency_keys.created_at <= :oldest
"""
_FIND_OLD = "SELECT 1 FROM idempotency_keys WHERE created_at <= :oldest LIMIT 1"
_SWEEP = """
    DELETE FROM idempotency_keys WHERE (tenant, key) IN (
        SELECT tenant, key FROM idempotency_keys WHERE created_at <= :oldest LIMIT :most
    )
"""
SWEPT_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Key:
    """A key of one tenant, with what it was first used for."""

    tenant: int
    digest: bytes
    fingerprint: bytes

    @property
    def context(self) -> bytes:
        """Where the answer belongs, so that rows cannot be swapped."""
        return b"%d:%s:%s" % (self.tenant, self.digest, self.fingerprint)


def key_of(tenant: int, key: str, method: str, path: str, body: Any, owner: str = "") -> Key:
    """Make the key of a request. Bodies that say the same are the same, however they are spaced.

    An ``owner`` keeps the key to itself, and with it an answer that others must not see again.
    """
    said = orjson.dumps([method, path, body], option=orjson.OPT_SORT_KEYS)
    return Key(
        tenant,
        hashlib.sha256((f"{owner} {key}" if owner else key).encode()).digest(),
        hashlib.sha256(said).digest(),
    )


class IdempotencyKeys:
    """The keys of the last seven days, with their answers sealed."""

    def __init__(self, database: Database, sealer: Sealer, *, patience_seconds: float) -> None:
        self._database = database
        self._sealer = sealer
        self._patience_seconds = patience_seconds
        self._running: dict[tuple[int, bytes], asyncio.Event] = {}

    @asynccontextmanager
    async def alone(self, key: Key) -> AsyncIterator[None]:
        """Wait, but not for long, until no other request of this process uses the key."""
        name = (key.tenant, key.digest)
        try:
            async with asyncio.timeout(self._patience_seconds):
                while (running := self._running.get(name)) is not None:
                    await running.wait()
        except TimeoutError:
            raise Problem(IDEMPOTENCY_IN_PROGRESS) from None
        done = self._running[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._running[name]
            done.set()

    async def find(self, key: Key, now: int) -> tuple[str, Response] | None:
        """Return the first request's id and answer; raise 422 if it was another request."""
        oldest = now - KEPT_MICROSECONDS
        row = await self._database.fetch_one(
            _FIND, {"tenant": key.tenant, "key": key.digest, "oldest": oldest}
        )
        if row is None:
            return None
        if row["fingerprint"] != key.fingerprint:
            raise Problem(IDEMPOTENCY_KEY_REUSED)
        return _unpack(self._sealer.open(row["answer"], key.context))

    def keep(self, key: Key, request_id: str, response: Response, now: int) -> Statement:
        """Return the statement that keeps the answer, to stand first in the write."""
        parameters = {
            "tenant": key.tenant,
            "key": key.digest,
            "fingerprint": key.fingerprint,
            "answer": self._sealer.seal(_pack(request_id, response), key.context),
            "now": now,
            "oldest": now - KEPT_MICROSECONDS,
        }
        return Statement(_INSERT, parameters, must_touch=True)

    async def sweep(self, now: int) -> bool:
        """Delete some of the keys that are too old; False if there are none."""
        oldest = now - KEPT_MICROSECONDS
        if await self._database.fetch_one(_FIND_OLD, {"oldest": oldest}) is None:
            return False
        parameters = {"oldest": oldest, "most": SWEPT_AT_ONCE}
        await self._database.write([Statement(_SWEEP, parameters)], bulk=True)
        return True


def _pack(request_id: str, response: Response) -> bytes:
    headers = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    return orjson.dumps([request_id, response.status, headers]) + b"\n" + response.body


def _unpack(packed: bytes) -> tuple[str, Response]:
    head, _, body = packed.partition(b"\n")
    request_id, status, headers = orjson.loads(head)
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return request_id, Response(status, body, pairs)
