"""Accounts, each with two tenants: its live and its test environment."""

from typing import Any

from operator_api.contract.errors import ALREADY_EXISTS, Problem
from operator_api.contract.fields import Name, format_timestamp
from operator_api.contract.models import RequestBody
from operator_api.contract.scopes import ENVIRONMENTS, SCOPES, Environment
from operator_api.contract.validation import validate_body
from operator_api.server.auth import Token
from operator_api.server.database import Database, GuardFailed, Row, Statement
from operator_api.server.found import not_found
from operator_api.server.ids import new_id, now_microseconds

DEFAULT = "default"

_LIST = "SELECT id, name, created_at FROM accounts ORDER BY created_at, id"
_FIND_TENANT = """
    SELECT tenants.id, accounts.id AS account_id FROM tenants
    JOIN accounts ON accounts.id = tenants.account_id
    WHERE accounts.name = :name AND tenants.environment = :environment
"""
_LIST_TENANTS = "SELECT id, account_id FROM tenants ORDER BY id"
_FIND_OWNER = """
    SELECT accounts.name, tenants.environment FROM tokens
    JOIN tenants ON tenants.id = tokens.tenant
    JOIN accounts ON accounts.id = tenants.account_id
    WHERE tokens.id = :id
"""
_INSERT = """
    INSERT INTO accounts (id, name, created_at) VALUES (:id, :name, :now) ON CONFLICT DO NOTHING
"""
_INSERT_TENANT = """
    INSERT INTO tenants (id, account_id, environment)
    SELECT coalesce(max(id), 0) + 1, :account_id, :environment FROM tenants
"""


class AccountCreate(RequestBody):
    """A new account: only the operator makes them, so no operation takes this."""

    name: Name


async def list_accounts(database: Database) -> list[dict[str, Any]]:
    """Return all accounts, oldest first."""
    return [_as_json(row) for row in await database.scan(_LIST, {})]


async def list_tenants(database: Database) -> list[tuple[int, str | None]]:
    """Return the tenants, each with its account's id."""
    return [(row["id"], row["account_id"]) for row in await database.scan(_LIST_TENANTS, {})]


async def create_account(database: Database, name: str) -> dict[str, Any]:
    """Create an account with both environments: 422 for a bad name, 409 if it is taken."""
    validate_body(AccountCreate, {"name": name})
    account = {"id": new_id("acc"), "name": name, "now": now_microseconds()}
    write = [Statement(_INSERT, account, must_touch=True)]
    for environment in ENVIRONMENTS:
        tenant = {"account_id": account["id"], "environment": environment}
        write.append(Statement(_INSERT_TENANT, tenant, must_touch=True))
    try:
        await database.write(write)
    except GuardFailed:
        raise Problem(ALREADY_EXISTS, {"resource": "account", "field": "name"}) from None
    return _as_json({**account, "created_at": account["now"]})


async def ensure_default(database: Database) -> None:
    """Create the account ``default`` on a store that has none."""
    if await list_accounts(database):
        return
    try:
        await create_account(database, DEFAULT)
    except Problem as problem:
        if problem.kind is not ALREADY_EXISTS:  # another process was first
            raise


async def operator_token(database: Database, name: str, environment: Environment) -> Token:
    """Return who acts when the operator does: somebody with every scope. 404 for no account.

    It is no stored token, and has no secret.
    """
    parameters = {"name": name, "environment": environment}
    row = await database.fetch_one(_FIND_TENANT, parameters, fresh=True)
    if row is None:
        raise not_found("account")
    return Token(
        id="operator",
        name="operator",
        tenant=row["id"],
        account_id=row["account_id"],
        account_name=name,
        environment=environment,
        scopes=frozenset(SCOPES),
        expires_at=None,
        revoked_at=None,
    )


async def operator_of_token(database: Database, token_id: str) -> Token | None:
    """Return the operator where the token with this id is; None if there is no such token."""
    rows = await database.scan(_FIND_OWNER, {"id": token_id})
    return await operator_token(database, rows[0]["name"], rows[0]["environment"]) if rows else None


def _as_json(row: Row | dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "created_at": format_timestamp(row["created_at"]),
    }
