"""Tokens: how they are made, kept and recognised.

A token is ``op_live_`` or ``op_test_``, 43 base62 characters of chance (256 bits) and six that are
the CRC32 of what stands before them, so that a mistyped token is refused without a look into the
store. The store keeps only an HMAC-SHA256 of it, under a pepper that the store has sealed.
"""

import hmac
import re
import secrets
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from operator_api.contract.errors import (
    EXPIRED_TOKEN,
    INSUFFICIENT_SCOPE,
    INVALID_TOKEN,
    MALFORMED_AUTHORIZATION,
    MISSING_TOKEN,
    REVOKED_TOKEN,
    Problem,
)
from operator_api.contract.fields import format_timestamp
from operator_api.contract.scopes import Environment, Scope
from operator_api.server.data_keys import DataKeys
from operator_api.server.database import Database
from operator_api.server.ids import now_microseconds

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"op_(?:live|test)_[0-9A-Za-z]{49}")
_CHANCE = 43
_CHECKSUM = 6

# A revocation by another process holds here after this long at the latest.
_CACHE_NANOSECONDS = 1_000_000_000
_CACHE_SIZE = 10_000

_FIND = """
    SELECT tokens.id, tokens.tenant, tokens.name, tokens.scopes, tokens.expires_at,
           tokens.revoked_at, tenants.environment, accounts.id AS account_id,
           accounts.name AS account_name, data_keys.wrapped AS data_key
    FROM tokens
    JOIN tenants ON tenants.id = tokens.tenant
    JOIN accounts ON accounts.id = tenants.account_id
    LEFT JOIN data_keys ON data_keys.account_id = accounts.id
    WHERE tokens.digest = :digest
"""


@dataclass(frozen=True, slots=True)
class Token:
    """Who calls: the token's row, and the tenant whose rows it may reach.

    ``data_key`` is the account's, sealed; None where nothing can be sealed for the account now.
    """

    id: str
    name: str
    tenant: int
    account_id: str
    account_name: str
    environment: Environment
    scopes: frozenset[Scope]
    expires_at: int | None
    revoked_at: int | None
    data_key: bytes | None = field(default=None, repr=False)


def mint(environment: Environment) -> str:
    """Make a new token."""
    body = f"op_{environment}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_CHANCE))
    return body + _checksum(body)


def hint_of(token: str) -> str:
    """Return the ends of a token that people may see, to tell it from others."""
    return f"{token[:11]}…{token[-4:]}"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _is_well_formed(token: str) -> bool:
    return bool(_FORM.fullmatch(token)) and token[-_CHECKSUM:] == _checksum(token[:-_CHECKSUM])


class Authenticator:
    """Recognises tokens. Those seen within the last second are not looked up again."""

    def __init__(self, database: Database, pepper: bytes, data_keys: DataKeys) -> None:
        self._database = database
        self._data_keys = data_keys
        self._keyed = hmac.new(pepper, digestmod="sha256")
        self._seen: dict[str, Token] = {}
        self._seen_since = 0

    def digest(self, token: str) -> bytes:
        """Return what the store keeps of a token."""
        keyed = self._keyed.copy()
        keyed.update(token.encode())
        return keyed.digest()

    def forget(self) -> None:
        """Look every token up again: one of them has changed."""
        self._seen.clear()

    async def recognise(self, authorization: str | None) -> Token:
        """Return the token of an Authorization header, usable or not; raise 401 if there is none.

        What is returned is for ``require_active`` to judge.
        """
        if authorization is None:
            raise Problem(MISSING_TOKEN)
        now = time.monotonic_ns()
        if now - self._seen_since > _CACHE_NANOSECONDS or len(self._seen) >= _CACHE_SIZE:
            self._seen.clear()
            self._seen_since = now
        token = self._seen.get(authorization)
        if token is None:
            token = self._seen[authorization] = await self._find(_read(authorization))
        return token

    async def _find(self, secret: str) -> Token:
        if not _is_well_formed(secret):
            raise Problem(INVALID_TOKEN)
        # Fresh, since the command line may have made the token a moment ago.
        digest = self.digest(secret)
        row = await self._database.fetch_one(_FIND, {"digest": digest}, fresh=True)
        if row is None:
            raise Problem(INVALID_TOKEN)
        return Token(
            id=row["id"],
            name=row["name"],
            tenant=row["tenant"],
            account_id=row["account_id"],
            account_name=row["account_name"],
            environment=row["environment"],
            scopes=frozenset(row["scopes"].split()),
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
            data_key=row["data_key"] or await self._make_data_key(row["account_id"]),
        )

    async def _make_data_key(self, account_id: str) -> bytes | None:
        """Make the account's data key when it is first called: nothing else waits for that."""
        try:
            return await self._data_keys.ensure(account_id)
        except Problem:  # the store takes no writes now, which is no reason to refuse a token
            return None


def _read(authorization: str) -> str:
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        if _FORM.fullmatch(scheme):
            raise _malformed("the word Bearer is missing before the token")
        raise _malformed("its scheme must be Bearer")
    if not secret:
        raise _malformed("there is no token after Bearer")
    if not secret.isascii() or not secret.isprintable() or secret.strip("\"' ") != secret:
        raise _malformed("the token has spaces, quotes or other characters around it")
    if " " in secret or "," in secret:
        raise _malformed("it must hold one token only")
    return secret


def _malformed(problem: str) -> Problem:
    return Problem(MALFORMED_AUTHORIZATION, {"problem": problem})


def require_active(token: Token) -> None:
    """Raise the 401 of a token that is revoked or has expired."""
    if token.revoked_at is not None:
        raise Problem(REVOKED_TOKEN, {"revoked_at": format_timestamp(token.revoked_at)})
    if token.expires_at is not None and token.expires_at <= now_microseconds():
        raise Problem(EXPIRED_TOKEN, {"expired_at": format_timestamp(token.expires_at)})


def insufficient_scope(required: Iterable[str | None], token: Token) -> Problem:
    """Return the 403 for what the token may not do (RFC 6750, section 3.1)."""
    wanted = sorted(scope for scope in required if scope)
    return Problem(
        INSUFFICIENT_SCOPE,
        {
            "required": wanted,
            "granted": sorted(token.scopes),
            "missing": [scope for scope in wanted if scope not in token.scopes],
        },
    )
