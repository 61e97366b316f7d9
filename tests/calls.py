"""One request for each operation that the server accepts, made from the table of operations.

What is asked of *all* operations, of every tenant and for every scope, is asked with these, so that
a new row of the table is held to it without a new test.
"""

import asyncio
import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import httpx2

from operator_api.contract.models import example_of
from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.contract.scopes import SCOPES, Environment
from operator_api.server import accounts
from operator_api.server.app import open_store
from operator_api.server.settings import load_settings
from tests.servers import Server

JSON = {"Content-Type": "application/json"}
_numbers = itertools.count(1)


def new_email() -> str:
    """Return an address that no other test has."""
    return f"user{next(_numbers)}.{secrets.token_hex(4)}@example.com"


def mint(
    server: Server,
    *,
    account: str = accounts.DEFAULT,
    environment: Environment = "test",
    scopes: Sequence[str] = SCOPES,
    **body: Any,
) -> str:
    """Return a new token, made as the command line does it; the account too, if it is not there."""
    return asyncio.run(_mint(server, account, environment, {"scopes": list(scopes), **body}))


async def _mint(
    server: Server, account: str, environment: Environment, body: Mapping[str, Any]
) -> str:
    store = await open_store(load_settings({"data": server.data}))
    try:
        if account not in {each["name"] for each in await accounts.list_accounts(store.database)}:
            await accounts.create_account(store.database, account)
        caller = await accounts.operator_token(store.database, account, environment)
        made = await store.perform("tokens.create", caller, body={"name": "made by a test", **body})
        token: str = made["token"]
        return token
    finally:
        await store.close()


@dataclass(frozen=True, slots=True)
class Records:
    """One record of each kind, which a request can name in its path or its body."""

    user_id: str
    conversation_id: str
    message_id: str
    token_id: str
    request_id: str
    reason: str = "required"

    def missing(self) -> "Records":
        """Return ids of the same form that nobody has."""
        names = ("user_id", "conversation_id", "message_id", "token_id", "request_id")
        return replace(self, **{name: missing_id(getattr(self, name)) for name in names})


def missing_id(like: str) -> str:
    """Return an id of the same kind that nobody has."""
    return f"{like[:4]}{secrets.token_hex(16)}"


def make_records(api: httpx2.Client) -> Records:
    """Make one record of each kind."""
    user = create(api, "/v1/users", email=new_email(), tags=["vip"])
    conversation = create(api, "/v1/conversations", user_id=user["id"], channel="web")
    about = {"conversation_id": conversation["id"], "message": "Hello!", "type": "user"}
    message = create(api, "/v1/messages", **about)
    token = create(api, "/v1/tokens", name="a token", scopes=["users:read"])
    request = api.get("/v1/me").headers["x-request-id"]
    return Records(user["id"], conversation["id"], message["id"], token["id"], request)


def create(api: httpx2.Client, path: str, **body: Any) -> dict[str, Any]:
    """Create something, require 201, and return it."""
    response = api.post(path, json=body)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def call(api: httpx2.Client, operation: Operation, records: Records) -> httpx2.Response:
    """Send a request that the operation accepts, if the records are there."""
    return api.request(
        operation.method, path_of(operation, records), json=body_of(operation, records)
    )


def path_of(operation: Operation, records: Records) -> str:
    """Return the operation's path, naming the records."""
    return operation.path.format_map(asdict(records))


def body_of(operation: Operation, records: Records) -> dict[str, Any] | None:
    """Return the documented example of the operation's body, naming the records."""
    if operation.body is None:
        return None
    body = dict(example_of(operation.body))
    ids = asdict(records)
    body.update({name: ids[name] for name in body if name in ids})
    if "email" in body:
        body["email"] = new_email()
    return body


def names_records(operation: Operation) -> bool:
    """Say whether the operation reaches stored records by an id, in its path or its body."""
    body = example_of(operation.body) if operation.body else {}
    return bool(operation.ids) or bool({"user_id", "conversation_id"} & set(body))


API = tuple(operation for operation in OPERATIONS if not operation.public)
PUBLIC = tuple(operation for operation in OPERATIONS if operation.public)
NAMING_RECORDS = tuple(operation for operation in API if names_records(operation))
# But for the log of requests, which each look at it makes longer: it has tests of its own.
LISTS = tuple(
    operation
    for operation in API
    if operation.name.endswith((".list", ".messages")) and operation.name != "requests.list"
)


def name_of(operation: Operation) -> str:
    """Name the operation in a test's id."""
    return operation.name
