"""Tokens: made, listed, rotated, revoked; over the API, and by the command line.

A token's secret is shown once. Nobody can hand out, or rotate into their own hands, a scope that
they do not have.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from operator_api.contract.errors import NOT_ALLOWED_VALUE, OUT_OF_RANGE, TOKEN_INACTIVE, Problem
from operator_api.contract.fields import format_timestamp, to_microseconds
from operator_api.contract.scopes import PRESETS, Environment, Scope
from operator_api.contract.validation import field_error, invalid_fields
from operator_api.server.auth import Authenticator, hint_of, insufficient_scope, mint
from operator_api.server.database import Database, Row, Statement
from operator_api.server.exchange import Answer, Call, Change, Handler
from operator_api.server.found import not_found
from operator_api.server.ids import new_id
from operator_api.server.lists import page, position

_COLUMNS = "id, name, hint, scopes, created_at, expires_at, revoked_at"
_FIND = f"SELECT {_COLUMNS} FROM tokens WHERE tenant = :tenant AND id = :id"
_LIST = f"""
    SELECT {_COLUMNS} FROM tokens WHERE tenant = :tenant AND id < :after {{status}}
    ORDER BY id DESC LIMIT :most
"""
_STATUS = {
    None: "",
    "revoked": "AND revoked_at IS NOT NULL",
    "expired": "AND revoked_at IS NULL AND expires_at <= :now",
    "active": "AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)",
}
_ANY = "SELECT id FROM tokens LIMIT 1"
_INSERT = """
    INSERT INTO tokens (tenant, id, digest, name, hint, scopes, created_at, expires_at)
    VALUES (:tenant, :id, :digest, :name, :hint, :scopes, :created_at, :expires_at)
"""
_EXPIRE = """
    UPDATE tokens SET expires_at = :expires_at
    WHERE tenant = :tenant AND id = :id AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > :now)
"""
_REVOKE = """
    UPDATE tokens SET revoked_at = :now
    WHERE tenant = :tenant AND id = :id AND revoked_at IS NULL
"""


class NewToken:
    """A token that is about to be stored: its secret, its row, and what is shown of it."""

    def __init__(
        self,
        digest: Callable[[str], bytes],
        tenant: int,
        environment: Environment,
        name: str,
        scopes: Iterable[Scope],
        now: int,
        expires_at: int | None,
    ) -> None:
        self.secret = mint(environment)
        self.row = {
            "tenant": tenant,
            "id": new_id("tok"),
            "digest": digest(self.secret),
            "name": name,
            "hint": hint_of(self.secret),
            "scopes": " ".join(sorted(set(scopes))),
            "created_at": now,
            "expires_at": expires_at,
        }
        self.shown = {
            **as_json({**self.row, "revoked_at": None}, environment, now),
            "token": self.secret,
        }

    @property
    def insert(self) -> Statement:
        """Return the statement that stores it."""
        return Statement(_INSERT, self.row, must_touch=True)


class Tokens:
    """The handlers of tokens."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    @property
    def handlers(self) -> dict[str, Handler]:
        """Return them by operation."""
        return {
            "tokens.list": self.list,
            "tokens.create": self.create,
            "tokens.rotate": self.rotate,
            "tokens.revoke": self.revoke,
        }

    async def list(self, call: Call) -> Answer:
        """Return a page of the environment's tokens, newest first."""
        status = call.params.status
        sql = _LIST.format(status=_STATUS[status])
        rows = await call.database.scan(sql, {**position(call), "now": call.now})
        environment = call.token.environment
        return page(call, [as_json(row, environment, call.now) for row in rows])

    async def create(self, call: Call) -> Change:
        """Decide on a new token of the caller's own environment."""
        body = call.body
        _require_possible(call)
        scopes = body.scopes or PRESETS[body.preset]
        _require_granted(call, scopes)
        expires_at = None if body.expires_at is None else to_microseconds(body.expires_at)
        new = self._new(call, body.name, scopes, expires_at)
        return Change([new.insert], Answer(new.shown))

    async def rotate(self, call: Call) -> Change:
        """Decide on a successor; the old token ends after the overlap, or when it would anyway."""
        old = await _require(call)
        scopes = old["scopes"].split()
        _require_granted(call, scopes)
        status = _status(old, call.now)
        if status != "active":
            raise Problem(TOKEN_INACTIVE, {"status": status})
        ends = call.now + call.body.overlap_seconds * 1_000_000
        lifetime = None
        if old["expires_at"] is not None:
            ends = min(ends, old["expires_at"])
            lifetime = old["expires_at"] - old["created_at"]
        new = self._new(call, old["name"], scopes, lifetime and call.now + lifetime)
        expiry = {"tenant": call.tenant, "id": old["id"], "now": call.now, "expires_at": ends}
        shown = {
            **new.shown,
            "replaces": old["id"],
            "replaced_expires_at": format_timestamp(ends),
        }
        write = [Statement(_EXPIRE, expiry, must_touch=True), new.insert]
        return Change(write, Answer(shown), then=self._authenticator.forget)

    async def revoke(self, call: Call) -> Answer | Change:
        """Decide to end a token at once; one that is revoked already stays so."""
        old = await _require(call)
        answer = Answer({"id": old["id"], "deleted": True})
        if old["revoked_at"] is not None:
            return answer
        row = {"tenant": call.tenant, "id": old["id"], "now": call.now}
        return Change(
            [Statement(_REVOKE, row, must_touch=True)], answer, then=self._authenticator.forget
        )

    def _new(
        self, call: Call, name: str, scopes: Iterable[Scope], expires_at: int | None
    ) -> NewToken:
        caller = call.token
        return NewToken(
            self._authenticator.digest,
            caller.tenant,
            caller.environment,
            name,
            scopes,
            call.now,
            expires_at,
        )


async def any_token(database: Database) -> bool:
    """Say whether there is any token in the store, of whichever account."""
    return await database.fetch_one(_ANY, {}, fresh=True) is not None


async def _require(call: Call) -> Row:
    """Return the token of the path: 404."""
    parameters = {"tenant": call.tenant, "id": call.ids["token_id"]}
    row = await call.database.fetch_one(_FIND, parameters)
    if row is None:
        raise not_found("token")
    return row


def _require_granted(call: Call, scopes: Sequence[Scope]) -> None:
    """Require that the caller has every scope that it hands out: 403."""
    if not call.token.scopes.issuperset(scopes):
        raise insufficient_scope(scopes, call.token)


def _require_possible(call: Call) -> None:
    """Require the caller's own environment, and an end that is not past: 422 with both."""
    body, own, wrong = call.body, call.token.environment, []
    if "environment" in body.model_fields_set and body.environment != own:
        wrong.append(("environment", NOT_ALLOWED_VALUE, f"{own}, as the token's that asks"))
    if body.expires_at is not None and to_microseconds(body.expires_at) <= call.now:
        wrong.append(("expires_at", OUT_OF_RANGE, "in the future"))
    if wrong:
        raise invalid_fields(
            [
                field_error("body", (name,), kind.reason, expected=expected)
                for name, kind, expected in wrong
            ]
        )


def _status(row: Any, now: int) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    if row["expires_at"] is not None and row["expires_at"] <= now:
        return "expired"
    return "active"


def as_json(row: Any, environment: str, now: int) -> dict[str, Any]:
    """Return what is shown of a stored token."""
    return {
        "id": row["id"],
        "name": row["name"],
        "environment": environment,
        "scopes": row["scopes"].split(),
        "hint": row["hint"],
        "status": _status(row, now),
        "created_at": format_timestamp(row["created_at"]),
        "expires_at": _moment(row["expires_at"]),
        "revoked_at": _moment(row["revoked_at"]),
    }


def _moment(microseconds: int | None) -> str | None:
    return None if microseconds is None else format_timestamp(microseconds)
