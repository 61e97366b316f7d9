"""``operator-api explain``: the catalogue of errors, without a server."""

from typing import Annotated

import typer

from operator_api.cli.options import Json
from operator_api.cli.output import print_json, print_markdown, print_table, tell
from operator_api.cli.problems import PROGRAM, Failure, usage
from operator_api.contract.errors import CATALOGUE, ErrorKind
from operator_api.contract.pages import entry, markdown
from operator_api.contract.suggest import nearest

# There is no server to link to: a `doc_url` is the path on any of them.
_ANY_SERVER = ""


def explain(
    what: Annotated[
        str | None,
        typer.Argument(metavar="REASON|STATUS", help="As in `reason` or `code` of an error."),
    ] = None,
    json: Json = False,
) -> None:
    """Explain an error, without a server.

    What it means, why it happens, what to do: all that an answer's `reason` stands for.

    A status lists the errors that have it; without either, all errors are listed.
    """
    if what in CATALOGUE:
        kind = CATALOGUE[what]
        if json:
            print_json(entry(kind, _ANY_SERVER))
        else:
            print_markdown(markdown(kind, None))
        return
    kinds = [kind for kind in CATALOGUE.values() if what in (None, str(kind.status))]
    if what is not None and not kinds:
        raise _unknown(what)
    if json:
        print_json({"data": [entry(kind, _ANY_SERVER) for kind in kinds]})
        return
    print_table(("REASON", "STATUS", "MEANING"), [_row(kind) for kind in kinds])
    tell(f"One of them in full:\n  {PROGRAM} explain {kinds[0].reason}")


def _row(kind: ErrorKind) -> tuple[str, str, str]:
    status = f"{kind.status} field" if kind.of_field else str(kind.status)
    return kind.reason, status, kind.title


def _unknown(what: str) -> Failure:
    if what.isdigit():
        statuses = ", ".join(sorted({str(kind.status) for kind in CATALOGUE.values()}))
        return usage(f"No error has the status {what}.", f"The statuses are {statuses}.")
    meant = nearest(what, CATALOGUE)
    return usage(
        f"There is no reason {what!r}." + (f" Did you mean {meant}?" if meant else ""),
        f"All reasons:\n  {PROGRAM} explain",
    )
