"""From an answered request to a row: what is kept is taken out, and values are redacted.

Nothing a caller chose is kept as it came but what has a form of ours: an id, an address. Other
values are redacted; idempotency keys and bodies are hashed under a key of the installation.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.headers import parse_client_request_id, parse_idempotency_key
from operator_api.contract.operations import Operation
from operator_api.server.auth import Token
from operator_api.server.exchange import Exchange, Response
from operator_api.server.requests.entry import MATERIAL_BYTES, Material
from operator_api.server.requests.rows import Label, Row
from operator_api.server.requests.store import OTHER_PATHS
from operator_api.vault.redact import redact_identifier, redact_text

# Of requests whose token is not known. No tenant of the store has this number.
NOBODY = 0

# What waits to be written of a request: references to what is there, none of it copied or looked
# at, and none of it holding on to the rest of the request. A plain tuple, since a named one takes
# three times as long to make. In order: the id, method, operation, path (where there is no
# operation), reason, outcome, status, end in nanoseconds since 1970, bearer, address, segments
# (where one of them is an id), X-Request-Id, Idempotency-Key, X-Operator-Retry-Count, the id of the
# request whose answer was given again, the body and its hash, and what a detail is made of.
Noted = tuple[
    str,
    str,
    Operation | None,
    str,
    str,
    str,
    int,
    int,
    Token | None,
    str,
    Sequence[str] | None,
    bytes | None,
    bytes | None,
    bytes | None,
    str | None,
    bytes | bytearray,
    str | None,
    Material | None,
]

_HASH_BYTES = 16
_MOST_PATH = 200
# What is longer is none of what is kept, and must not fill the queue.
_MOST_HEADER = 300
_MOST_TEXT = 1024
_MOST_VALUE = 64
_is_id = re.compile(r"[a-z]{2,6}_[0-9a-f]{32}").fullmatch
_is_count = re.compile(rb"[0-9]{1,6}").fullmatch
_is_address = re.compile(r"[0-9A-Fa-f.:]{2,45}").fullmatch


class Hashes:
    """Keyed hashes: equal values of a tenant have equal ones, and they tell nothing else."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._begun = lru_cache(maxsize=1024)(self._begin)

    def of(self, tenant: int, value: bytes | bytearray) -> str:
        """Return the hash of a value, in hexadecimal."""
        begun = self._begun(tenant).copy()
        begun.update(value)
        return begun.hexdigest()

    def _begin(self, tenant: int) -> blake2b:
        salt = tenant.to_bytes(_HASH_BYTES, "big")
        return blake2b(digest_size=_HASH_BYTES, key=self._key, salt=salt)


def tenant_of(bearer: Token | None) -> int:
    """Return whose request it was: the token's tenant, also of one that is no longer usable."""
    return NOBODY if bearer is None else bearer.tenant


def noted(
    exchange: Exchange,
    response: Response,
    body: bytes | bytearray,
    ended: int,
    hashes: Hashes,
    *,
    complete: bool,
    detailed: bool,
) -> Noted:
    """Return what waits to be written; it takes a microsecond. ``detailed`` keeps it all."""
    operation, problem, headers = exchange.operation, exchange.problem, exchange.headers
    body_hash = None
    if not complete:
        body_hash = ""
    elif len(body) > MATERIAL_BYTES:
        # However long this takes, it took longer to read the body from the connection.
        body_hash = hashes.of(tenant_of(exchange.bearer), body)
    if len(body) > MATERIAL_BYTES:
        body = body[:MATERIAL_BYTES]
    client_id, key = headers.get(b"x-request-id"), headers.get(b"idempotency-key")
    retries = headers.get(b"x-operator-retry-count")
    if client_id is not None and len(client_id) > _MOST_HEADER:
        client_id = None
    if key is not None and len(key) > _MOST_HEADER:
        key = None
    if retries is not None and len(retries) > _MOST_HEADER:
        retries = None
    outcome: str
    if problem is not None:
        reason, outcome = problem.kind.reason, problem.outcome
    elif response.status < 400:
        reason, outcome = "", "executed" if operation is not None and operation.writes else ""
    else:
        reason, outcome = _of_replayed(response)
    return (
        exchange.request_id,
        exchange.method,
        operation,
        exchange.path[:_MOST_TEXT] if operation is None else "",
        reason,
        outcome,
        response.status,
        ended,
        exchange.bearer,
        exchange.address,
        exchange.segments if operation is not None and operation.ids else None,
        client_id,
        key,
        retries,
        exchange.replay_of,
        body,
        body_hash,
        Material(exchange, response, body, complete, ended) if detailed else None,
    )


def _of_replayed(response: Response) -> tuple[str, str]:
    """Return reason and outcome of an error that is given again."""
    reason = dict(response.headers).get(b"x-error-reason", b"").decode("latin-1")
    return reason, CATALOGUE[reason].outcome if reason in CATALOGUE else "unknown"


def label_of(each: Noted, *, paths: bool) -> Label:
    """Return what the row has in common with others; ``paths`` says to keep an unknown path."""
    _, method, operation, path, reason, outcome, *_ = each
    if operation is not None:
        return Label(method, operation.name, operation.path, reason, outcome)
    if path:
        path = _redacted_path(path.replace("{", "(")) if paths else OTHER_PATHS
    return Label(method, "", path, reason, outcome)


def row_of(each: Noted, label: int, tenant: int, hashes: Hashes) -> Row:
    """Return the row."""
    (
        request_id, _, operation, _, _, _, status, ended, bearer, address, segments,
        client_id, key, retries, replay_of, body, body_hash, _,
    ) = each  # fmt: skip
    if body_hash is None:
        body_hash = hashes.of(tenant, body) if body else ""
    return [
        request_id[4:],
        label,
        status,
        max(ended - int(request_id[4:20], 16), 0) // 1000,
        "" if bearer is None else bearer.id,
        _address_of(address),
        "" if operation is None or segments is None else _object_of(operation, segments),
        "" if client_id is None else _client_id_of(client_id),
        int(retries) if retries is not None and _is_count(retries) else None,
        replay_of or "",
        "" if key is None else _key_hash(key, tenant, hashes),
        body_hash,
    ]


# Callers send the same few again and again.


@lru_cache(maxsize=1024)
def _redacted_path(path: str) -> str:
    return redact_text(path)[:_MOST_PATH]


@lru_cache(maxsize=1024)
def _redacted(value: str) -> str:
    return redact_identifier(value[:_MOST_VALUE])


@lru_cache(maxsize=1024)
def _address_of(address: str) -> str:
    """Return the address; a proxy may have told something else in its place."""
    return address.lower() if _is_address(address) else _redacted(address) if address else ""


@lru_cache(maxsize=1024)
def _place_of(path: str) -> int:
    """Return which segment of the path is its variable."""
    return next(number for number, each in enumerate(path.split("/")[1:]) if each[:1] == "{")


def _object_of(operation: Operation, segments: Sequence[str]) -> str:
    """Return what stands in the place of the path's variable."""
    segment = segments[_place_of(operation.path)]
    return segment if _is_id(segment) else _redacted(segment)


def _client_id_of(value: bytes) -> str:
    sent = parse_client_request_id(value.decode("latin-1"))
    return "" if sent is None else _redacted(sent)


def _key_hash(value: bytes, tenant: int, hashes: Hashes) -> str:
    key = parse_idempotency_key(value.decode("latin-1"))
    return "" if key is None else hashes.of(tenant, key.encode())
