"""``operator-api accounts``: make and list accounts, and erase what is logged of one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from operator_api.cli.options import DEFAULT_ACCOUNT, Data, Database, Json, Place
from operator_api.cli.output import print_json, print_table, tell
from operator_api.cli.problems import of_problem, usage
from operator_api.contract.errors import ALREADY_EXISTS, Problem

if TYPE_CHECKING:
    from operator_api.server.app import Store

app = typer.Typer(
    help="Make and list accounts, and erase what is logged of one.\n\n"
    "A server on the same store learns of it at once."
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="How the operator calls it.")],
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Make an account.

    It has a live and a test environment, whose data are apart.

    Where there is no store yet, it makes one, with the account `default` beside this one.
    """
    from operator_api.cli.store import work_on
    from operator_api.server import accounts

    place = Place(data, database)

    async def work(store: "Store") -> dict[str, Any]:
        if name != DEFAULT_ACCOUNT:
            await accounts.ensure_default(store.database)
        try:
            account = await accounts.create_account(store.database, name)
        except Problem as problem:
            if problem.kind is not ALREADY_EXISTS:
                raise
            message = f"There is an account {name!r} already."
            hint = f"Use it, or choose another name. All:\n{place.command('accounts', 'list')}"
            raise of_problem(problem, message, hint) from problem
        await store.data_keys.ensure(account["id"])
        return account

    account = work_on(place, work, make=True)
    if json:
        print_json(account)
        return
    words = ("tokens", "create", "--account", name, "--name", "first", "--preset", "admin")
    tell(f"Made the account {name!r}, {account['id']}. A token for it:\n{place.command(*words)}")


@app.command("list")
def list_accounts(data: Data = None, database: Database = None, json: Json = False) -> None:
    """List all accounts, oldest first."""
    from operator_api.cli.store import work_on
    from operator_api.server import accounts

    async def work(store: "Store") -> list[dict[str, Any]]:
        return await accounts.list_accounts(store.database)

    found = work_on(Place(data, database), work)
    if json:
        print_json({"data": found})
        return
    print_table(
        ("ACCOUNT", "NAME", "CREATED"),
        [(account["id"], account["name"], account["created_at"]) for account in found],
    )


@app.command("erase-log")
def erase_log(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it: it cannot be undone.")] = False,
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Delete all that the request log keeps of an account.

    Its data key is destroyed as well, so that what is sealed in a copy of the log is beyond
    recovery too. Users, conversations and tokens stay. The server has to be stopped meanwhile.
    """
    from operator_api.cli.logged import erase_log as erase

    place = Place(data, database)
    if not yes:
        raise usage(
            f"This deletes the request log of the account {name!r} for good.",
            f"To do it:\n{place.command('accounts', 'erase-log', name, '--yes')}",
        )
    there = erase(name, place)
    if json:
        print_json({"account": name, "erased": True, "log": there})
        return
    tell(f"Nothing is kept any more of the requests of {name!r}.")
