"""Open a store for a command, and say why it cannot be used.

This module imports the server; the commands that need it import it when they run.
"""

import asyncio
import errno
import shlex
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic_settings import SettingsError as UnreadableSettingError

from operator_api.cli.options import Place
from operator_api.cli.output import tell
from operator_api.cli.problems import PROGRAM, Failure, of_problem, usage
from operator_api.contract.errors import RESOURCE_NOT_FOUND, STORE_UNAVAILABLE, Problem
from operator_api.contract.scopes import Environment
from operator_api.contract.suggest import nearest
from operator_api.server import accounts
from operator_api.server.app import AlreadyServedError, Store, open_store
from operator_api.server.auth import Token
from operator_api.server.database import UnknownSchemaError
from operator_api.server.settings import Settings, SettingsError, load_settings
from operator_api.vault.keys import UnusableKeyError

Result = TypeVar("Result")

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_DATABASE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
# What SQLite says of a file that the operator can mend; anything else is a defect of ours.
_UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    }
)


def settings_of(place: Place, **options: str | None) -> Settings:
    """Return the settings of the options and the variables."""
    try:
        return load_settings({"data": place.data, "database": place.database, **options})
    except (SettingsError, UnreadableSettingError) as error:
        hint = f"Each option, with its variable and its form, is in:\n  {PROGRAM} serve --help"
        raise usage(str(error), hint, "invalid_setting") from None


def work_on(
    place: Place, work: Callable[[Store], Awaitable[Result]], *, make: bool = False
) -> Result:
    """Do the work on the store in this place; make the store only if told to."""
    settings = settings_of(place)
    with explained(settings, place):
        new = not settings.database_path.exists()
        if new and not make:
            raise _no_store(settings, place)
        result = asyncio.run(_work_on(settings, work))
    if new:
        tell(f"There was no store at {settings.database_path.absolute()}; now there is one.")
    return result


async def _work_on(settings: Settings, work: Callable[[Store], Awaitable[Result]]) -> Result:
    store = await open_store(settings)
    try:
        return await work(store)
    finally:
        await store.close()


async def operator_of(store: Store, place: Place, account: str, environment: Environment) -> Token:
    """Return the operator, acting in an environment of the account."""
    try:
        return await accounts.operator_token(store.database, account, environment)
    except Problem as problem:
        if problem.kind is not RESOURCE_NOT_FOUND:
            raise
        known = [each["name"] for each in await accounts.list_accounts(store.database)]
        meant = nearest(account, known)
        raise of_problem(
            problem,
            f"There is no account {account!r}." + (f" Did you mean {meant}?" if meant else ""),
            "See which there are, or make it:\n"
            f"{place.command('accounts', 'list')}\n"
            f"{place.command('accounts', 'create', account)}",
        ) from problem


# --- why a store cannot be used -------------------------------------------------------------------


@contextmanager
def explained(settings: Settings, place: Place) -> Iterator[None]:
    """Make failures of what the operator can cause, and mend."""
    try:
        yield
    except Problem as problem:
        if isinstance(problem.__cause__, sqlite3.Error):
            raise _of_sqlite(problem.__cause__, settings) from problem
        if problem.kind is STORE_UNAVAILABLE:
            path = settings.database_path.absolute()
            message = f"The store {path} cannot be used."
            raise of_problem(problem, message, _check(path)) from problem
        raise of_problem(problem) from problem
    except sqlite3.Error as error:
        raise _of_sqlite(error, settings) from error
    except UnknownSchemaError as error:
        raise Failure(
            503,
            "store_unusable",
            str(error),
            f"Nothing was changed. The store is {settings.database_path.absolute()}.",
        ) from error
    except UnusableKeyError as error:
        raise _of_key(error, settings) from error
    except AlreadyServedError as error:
        raise _already_served(error, settings) from error
    except OSError as error:
        raise _of_system(error, settings, place) from error


def _no_store(settings: Settings, place: Place) -> Failure:
    path = settings.database_path.absolute()
    return Failure(
        404,
        "store_missing",
        f"There is no store: the file {path} does not exist.",
        "Give --data, or the variable OPERATOR_DATA, the folder of your server. A new store is"
        f" made by the first start of a server:\n{place.command('serve')}",
        metadata={"path": str(path)},
    )


def _of_sqlite(error: sqlite3.Error, settings: Settings) -> Failure:
    path = settings.database_path.absolute()
    # The errors that Python's own module raises have no code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    metadata = {"path": str(path), "sqlite": getattr(error, "sqlite_errorname", None)}
    if code in _BUSY:
        return Failure(
            503,
            STORE_UNAVAILABLE.reason,
            f"The store {path} is locked: another process is writing to it, and does not finish.",
            "Try again in a moment. If it stays so, see which process has the file open:\n"
            f"  fuser -v {shlex.quote(str(path))}",
            action="retry_with_backoff",
            metadata=metadata,
        )
    if code in _NO_DATABASE:
        return Failure(
            503,
            "store_unusable",
            f"The file {path} is no SQLite database, or is damaged: {error}.",
            "Give --data or --database the store of your server. If this is it, put a backup in its"
            " place.",
            metadata=metadata,
        )
    if code in _UNUSABLE:
        return Failure(
            503,
            "store_unusable",
            f"The store {path} cannot be opened or written: {error}.",
            _check(path),
            metadata=metadata,
        )
    raise error


def _check(path: Path) -> str:
    return (
        "Check that its folder is there and has space, and that both belong to the user who runs"
        f" this command:\n  ls -la {shlex.quote(str(path.parent))}"
    )


def _of_key(error: UnusableKeyError, settings: Settings) -> Failure:
    given = settings.secret_keys is not None
    source = "the variable OPERATOR_SECRET_KEYS" if given else f"{settings.data / 'secret.key'}"
    return Failure(
        503,
        "key_unusable",
        f"The store {settings.database_path.absolute()} cannot be opened: {error}.",
        f"The key was read from {source}. Put the one there that the store was made with: without"
        " it, no token can be checked.",
        metadata={"source": source},
    )


def _already_served(error: AlreadyServedError, settings: Settings) -> Failure:
    return Failure(
        409,
        "already_served",
        str(error),
        "Use the server that runs, stop it first, or give this one another folder with --data.",
        metadata={"data": str(settings.data)},
    )


def _of_system(error: OSError, settings: Settings, place: Place) -> Failure:
    """Tell what the system refused: a file, which it names, or the address."""
    why = error.strerror or str(error)
    if error.filename is not None:
        path = Path(error.filename).absolute()
        return Failure(
            503,
            "store_unusable",
            f"{path} cannot be used: {why}.",
            _check(path),
            metadata={"path": str(path)},
        )
    listening = {"host": settings.host, "port": settings.port}
    if error.errno == errno.EADDRINUSE:
        return Failure(
            409,
            "port_in_use",
            f"Another program listens on {settings.host} port {settings.port} already.",
            "Stop it, or take another port; 0 takes a free one:\n"
            f"{place.command('serve', '--port', '0')}",
            metadata=listening,
        )
    return Failure(
        503,
        "cannot_listen",
        f"The server cannot listen on {settings.host} port {settings.port}: {why}.",
        "Give --host an address of this machine, and --port one that this user may take: 1024 or"
        " higher, or 0 for a free one.",
        metadata=listening,
    )
