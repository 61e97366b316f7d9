"""``operator-api keys``: which of the operator's keys seal what, and how they are changed."""

from typing import TYPE_CHECKING, Any

import typer

from operator_api.cli.options import Data, Database, Json, Place
from operator_api.cli.output import print_json, print_table, tell
from operator_api.cli.problems import Failure

if TYPE_CHECKING:
    from operator_api.server.app import Store
    from operator_api.server.settings import Settings

app = typer.Typer(
    help="Change the keys that seal what is stored, and see what each of them seals.",
)

_VARIABLE = "OPERATOR_SECRET_KEYS"


@app.command()
def status(data: Data = None, database: Database = None, json: Json = False) -> None:
    """Say what each key seals, and what is still under an old one.

    Of a key only its id is shown, which tells nothing of it.
    """
    from operator_api.cli.store import settings_of, work_on
    from operator_api.server.rotation import census

    place = Place(data, database)
    settings = settings_of(place)

    async def work(store: "Store") -> dict[str, Any]:
        return (await census(store.database, store.keyring)).as_json()

    found = {"source": _source_of(settings), **work_on(place, work)}
    if json:
        print_json(found)
        return
    tell(f"Keys of {found['source']}; the first one seals, all of them open.")
    rows = [
        (
            key["id"],
            "seals" if key["first"] else "opens only",
            "yes" if key["installation"] else "no",
            str(key["data_keys"]),
        )
        for key in found["keys"]
    ]
    print_table(("KEY", "USE", "INSTALLATION", "ACCOUNTS"), rows)
    if found["under_old_keys"]:
        tell(f"{found['under_old_keys']} under an old key. Seal them by the first:")
        tell(place.command("keys", "rotate"))
    if found["unopenable"]:
        accounts = ", ".join(found["unopenable"])
        tell(
            f"No key here opens what is sealed for {accounts}: their details cannot be read. Put"
            " the key that was there before behind the others."
        )


@app.command()
def rotate(data: Data = None, database: Database = None, json: Json = False) -> None:
    """Seal all by a new key, beside a server that runs; no data is sealed anew.

    The key in the data folder is replaced by one that is made here. Keys that are given in
    OPERATOR_SECRET_KEYS are changed in three steps: put the new one first there and start the
    servers again, run this, and take the old one away.
    """
    from operator_api.cli.store import settings_of, work_on
    from operator_api.server.rotation import rotate_file, seal_by_first

    place = Place(data, database)
    settings = settings_of(place)

    async def work(store: "Store") -> dict[str, Any]:
        if settings.secret_keys is None:
            keyring, rewrapped = await rotate_file(store.database, settings.key_file)
        else:
            keyring, rewrapped = store.keyring, await seal_by_first(store.database, store.keyring)
        return {"key": keyring.ids[0], "rewrapped": rewrapped, "source": _source_of(settings)}

    done = work_on(place, work)
    if not done["rewrapped"]:
        raise _nothing_to_rotate(done, place)
    if json:
        print_json(done)
        return
    tell(f"The key {done['key']} seals all now; {done['rewrapped']} were under another.")
    if settings.secret_keys is None:
        tell(f"The old one is gone from {done['source']}. Copy that file again, if you keep one.")
    else:
        tell(f"What stands behind the first in {_VARIABLE} is not needed any more.")


def _source_of(settings: "Settings") -> str:
    return str(settings.key_file) if settings.secret_keys is None else _VARIABLE


def _nothing_to_rotate(done: dict[str, Any], place: Place) -> Failure:
    return Failure(
        409,
        "nothing_to_rotate",
        f"The first key of {_VARIABLE}, {done['key']}, seals everything already.",
        "Put a new key before it, separated by a comma, start the servers again, and rotate then."
        " This makes one:\n  openssl rand -base64 32\n" + place.command("keys", "rotate"),
        metadata={"key": done["key"]},
    )
