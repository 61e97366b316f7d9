"""``operator-api tokens``: make, list, rotate and revoke tokens, as the operator who may do all."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from operator_api.cli.options import (
    DEFAULT_ACCOUNT,
    AccountName,
    Data,
    Database,
    InEnvironment,
    Json,
    Place,
    parse_expiry,
    parse_overlap,
    power,
)
from operator_api.cli.output import print_json, print_table, tell
from operator_api.cli.problems import Failure, usage
from operator_api.contract.scopes import PRESETS, Environment, Preset

if TYPE_CHECKING:
    from operator_api.server.app import Store
    from operator_api.server.auth import Token

app = typer.Typer(
    help="Make, list, rotate and revoke tokens.\n\nA server on the same store knows at once.",
)

TokenId = Annotated[
    str, typer.Argument(metavar="ID", help="The token's id, tok_…, from `tokens list`.")
]
# An id says enough to find its token; these two only guard against the wrong one.
OnlyAccount = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Only if it is of this account.")
]
OnlyEnvironment = Annotated[
    Environment | None, typer.Option("--environment", help="Only if it is of this environment.")
]


@app.command()
def create(
    name: Annotated[
        str, typer.Option(metavar="NAME", help="What it is for; people tell it by this.")
    ],
    account: AccountName = DEFAULT_ACCOUNT,
    environment: InEnvironment = "test",
    preset: Annotated[Preset | None, typer.Option(help="What it may do: some scopes.")] = None,
    scopes: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="What it may do: scopes, in place of a preset."),
    ] = None,
    expires_in: Annotated[
        int | None,
        typer.Option(
            metavar="TIME", parser=parse_expiry, help="Such as 30m, 12h or 90d; never if not given."
        ),
    ] = None,
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Make a token.

    Its secret is shown this once, alone on standard output, to be captured:
    TOKEN=$(operator-api tokens create …).

    Where there is no store yet, it makes one, with the account `default`.
    """
    body: dict[str, Any] = {"name": name, **power(scopes, preset)}
    if expires_in is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=expires_in)).isoformat()

    from operator_api.cli.store import operator_of, work_on
    from operator_api.server import accounts

    place = Place(data, database)

    async def work(store: "Store") -> Any:
        if account == DEFAULT_ACCOUNT:
            await accounts.ensure_default(store.database)
        operator = await operator_of(store, place, account, environment)
        return await store.perform("tokens.create", operator, body=body)

    token = work_on(place, work, make=account == DEFAULT_ACCOUNT)
    if json:
        print_json(token)
        return
    _show_secret(token, f"The token {token['name']!r} of account {account}, {environment}:")


@app.command("list")
def list_tokens(
    account: AccountName = DEFAULT_ACCOUNT,
    environment: InEnvironment = "test",
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """List an environment's tokens.

    All of them, newest first; of a secret only the ends that tell it from others.
    """
    from operator_api.cli.store import operator_of, work_on

    place = Place(data, database)

    async def work(store: "Store") -> list[dict[str, Any]]:
        operator = await operator_of(store, place, account, environment)
        found: list[dict[str, Any]] = []
        params = {"limit": "100"}
        while True:
            page = await store.perform("tokens.list", operator, params=params)
            found += page["data"]
            if not page["has_more"]:
                return found
            params["cursor"] = page["next_cursor"]

    tokens = work_on(place, work)
    if json:
        print_json({"data": tokens})
        return
    other = "live" if environment == "test" else "test"
    count = f"{len(tokens) or 'no'} token{'' if len(tokens) == 1 else 's'}"
    tell(f"{count} of account {account}, {environment}; see also --environment {other}")
    if tokens:
        rows = [
            (f"{token['id']} {token['hint']}", token["name"], _power_of(token), _status_of(token))
            for token in tokens
        ]
        print_table(("TOKEN", "NAME", "SCOPES", "STATUS"), rows)


@app.command()
def rotate(
    token_id: TokenId,
    overlap: Annotated[
        int | None,
        typer.Option(
            metavar="TIME",
            parser=parse_overlap,
            help="How long the old one stays valid, up to 7d; 0 if it has leaked.  [default: 24h]",
        ),
    ] = None,
    account: OnlyAccount = None,
    environment: OnlyEnvironment = None,
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Replace a token by a new one.

    The new one has the same name, scopes and lifetime; its secret is shown this once.
    """
    body = {} if overlap is None else {"overlap_seconds": overlap}
    place = Place(data, database)
    token = _perform("tokens.rotate", token_id, place, account, environment, body)
    if json:
        print_json(token)
        return
    ends = _moment(token["replaced_expires_at"])
    _show_secret(token, f"{token['replaces']} is valid until {ends}. Its successor:")


@app.command()
def revoke(
    token_id: TokenId,
    account: OnlyAccount = None,
    environment: OnlyEnvironment = None,
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """End a token, at once and for good.

    A server that runs on the store refuses it within 2 seconds.
    """
    place = Place(data, database)
    revoked = _perform("tokens.revoke", token_id, place, account, environment)
    if json:
        print_json(revoked)
        return
    tell(f"Revoked {token_id}. Servers that run refuse it within 2 seconds.")


def _perform(
    operation: str,
    token_id: str,
    place: Place,
    account: str | None,
    environment: Environment | None,
    body: dict[str, Any] | None = None,
) -> Any:
    """Do what an operation does with one token, wherever it is, and return its answer."""
    if not token_id.startswith("tok_"):
        secret = token_id.startswith("op_")
        # What is no id is not told back: it may be a secret, misspelled.
        raise usage(
            "This is a token's secret, not its id." if secret else "This is not the id of a token.",
            ("The secret may be in your shell's history now. " if secret else "")
            + "Ids begin with tok_; find the one that belongs to the secret by its ends:\n"
            f"{place.command('tokens', 'list')}",
        )
    from operator_api.cli.store import work_on

    async def work(store: "Store") -> Any:
        operator = await _operator_beside(store, place, token_id, account, environment)
        return await store.perform(operation, operator, ids={"token_id": token_id}, body=body)

    return work_on(place, work)


async def _operator_beside(
    store: "Store",
    place: Place,
    token_id: str,
    account: str | None,
    environment: Environment | None,
) -> "Token":
    """Return the operator in the environment that the token is of, wherever that is."""
    from operator_api.server import accounts

    operator = await accounts.operator_of_token(store.database, token_id)
    if (
        operator is None
        or account not in (None, operator.account_name)
        or environment not in (None, operator.environment)
    ):
        raise Failure(
            404,
            "resource_not_found",
            f"There is no token {token_id}" + _place(account, environment) + ".",
            "Check the id, in both environments of the account:\n"
            f"{place.command('tokens', 'list', '--environment', 'test')}\n"
            f"{place.command('tokens', 'list', '--environment', 'live')}",
            metadata={"resource": "token"},
        )
    return operator


def _place(account: str | None, environment: str | None) -> str:
    return (f" in account {account}" if account else "") + (
        f" in environment {environment}" if environment else ""
    )


def _show_secret(token: dict[str, Any], what: str) -> None:
    """Print the secret alone on standard output, and what there is to know of it beside."""
    tell(what)
    print(token["token"], flush=True)
    expiry = f"expires {_moment(token['expires_at'])}" if token["expires_at"] else "never expires"
    tell(
        f"Id {token['id']}; {expiry}. Scopes: {_power_of(token)}.\n"
        "Keep the secret now: it is stored nowhere, and never shown again."
    )


def _power_of(token: dict[str, Any]) -> str:
    for preset, scopes in PRESETS.items():
        if set(scopes) == set(token["scopes"]):
            return preset
    return " ".join(token["scopes"])


def _status_of(token: dict[str, Any]) -> str:
    if token["revoked_at"]:
        return f"revoked {_moment(token['revoked_at'])}"
    if token["expires_at"]:
        verb = "expired" if token["status"] == "expired" else "active until"
        return f"{verb} {_moment(token['expires_at'])}"
    return str(token["status"])


def _moment(timestamp: str) -> str:
    """Shorten a time to the minute; it is UTC, and says so."""
    return f"{timestamp[:10]} {timestamp[11:16]}Z"
