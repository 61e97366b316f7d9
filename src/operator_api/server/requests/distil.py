"""From a request and its answer to a row: what is kept is taken out, and values are redacted.

Nothing a caller chose is kept as it came but what has a form of ours: an id, an address. Other
values are redacted; idempotency keys and bodies are hashed under a key of the installation.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.headers import parse_client_request_id, parse_idempotency_key
from operator_api.contract.operations import Operation
from operator_api.server.exchange import Exchange, Response
from operator_api.server.requests.entry import Material
from operator_api.server.requests.rows import Label, Row
from operator_api.server.requests.store import OTHER_PATHS
from operator_api.vault.redact import redact_identifier, redact_text

# Of requests whose token is not known. No tenant of the store has this number.
NOBODY = 0

_HASH_BYTES = 16
_MOST_PATH = 200
_MOST_VALUE = 64
_is_id = re.compile(r"[a-z]{2,6}_[0-9a-f]{32}").fullmatch
_is_address = re.compile(r"[0-9A-Fa-f.:]{2,45}").fullmatch
_is_count = re.compile(rb"[0-9]{1,6}").fullmatch

# Callers send the same few again and again.
_redacted_path = lru_cache(maxsize=1024)(lambda path: redact_text(path)[:_MOST_PATH])
_redacted = lru_cache(maxsize=1024)(lambda value: redact_identifier(value[:_MOST_VALUE]))


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


def tenant_of(exchange: Exchange) -> int:
    """Return whose request it was: the token's tenant, also of one that is no longer usable."""
    return NOBODY if exchange.bearer is None else exchange.bearer.tenant


def kind_of(material: Material, tenant: int) -> tuple[int, str, str, str, str] | None:
    """Return what tells labels apart, as far as that is cheaper than the label; None if not."""
    exchange = material.exchange
    operation, problem = exchange.operation, exchange.problem
    if operation is None:
        return None
    if problem is not None:
        return tenant, exchange.method, operation.name, problem.kind.reason, problem.outcome
    if material.response.status < 400:
        return tenant, exchange.method, operation.name, "", ""
    return None


def label_of(material: Material, *, paths: bool) -> Label:
    """Return what the row has in common with others; ``paths`` says to keep an unknown path."""
    exchange, response = material.exchange, material.response
    operation, problem = exchange.operation, exchange.problem
    if problem is not None:
        reason, outcome = problem.kind.reason, str(problem.outcome)
    elif response.status >= 400:
        reason = _reason_of(response)
        outcome = CATALOGUE[reason].outcome if reason in CATALOGUE else "unknown"
    else:
        reason, outcome = "", "executed" if operation and operation.writes else ""
    if operation is not None:
        return Label(exchange.method, operation.name, operation.path, reason, outcome)
    if not exchange.path:
        path = ""
    else:
        path = _redacted_path(exchange.path.replace("{", "(")) if paths else OTHER_PATHS
    return Label(exchange.method, "", path, reason, outcome)


def _reason_of(response: Response) -> str:
    """Return the reason of an answer that is given again."""
    headers = dict(response.headers)
    return headers.get(b"x-error-reason", b"").decode("latin-1")


def row_of(material: Material, label: int, tenant: int, hashes: Hashes) -> Row:
    """Return the row."""
    exchange = material.exchange
    headers, bearer, request_id = exchange.headers, exchange.bearer, exchange.request_id
    key = exchange.header(b"idempotency-key") if b"idempotency-key" in headers else None
    key = key and parse_idempotency_key(key)
    body_hash = material.body_hash
    if body_hash is None and material.body and material.complete:
        body_hash = hashes.of(tenant, material.body)
    operation = exchange.operation
    return [
        request_id[4:],
        label,
        material.response.status,
        max(material.ended - int(request_id[4:20], 16), 0) // 1000,
        "" if bearer is None else bearer.id,
        _address_of(exchange.address),
        _object_of(operation, exchange) if operation is not None and operation.ids else "",
        _client_id_of(exchange) if b"x-request-id" in headers else "",
        _retries_of(headers[b"x-operator-retry-count"])
        if b"x-operator-retry-count" in headers
        else None,
        exchange.replay_of or "",
        hashes.of(tenant, key.encode()) if key else "",
        body_hash or "",
    ]


def _address_of(address: str) -> str:
    """Return the address; a proxy may have told something else in its place."""
    return address if _is_address(address) else str(_redacted(address)) if address else ""


def _object_of(operation: Operation, exchange: Exchange) -> str:
    """Return what stands in the place of the path's variable."""
    for part, segment in zip(operation.path.split("/")[1:], exchange.segments, strict=False):
        if part.startswith("{"):
            return segment if _is_id(segment) else str(_redacted(segment))
    return ""


def _client_id_of(exchange: Exchange) -> str:
    sent = parse_client_request_id(exchange.header(b"x-request-id") or "")
    return "" if sent is None else str(_redacted(sent))


def _retries_of(value: bytes) -> int | None:
    return int(value) if _is_count(value) else None
