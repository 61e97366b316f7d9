"""``operator-api explain``: the catalogue of errors without a server, and requests of its log."""

from typing import Annotated

import typer

from operator_api.cli.options import Data, Database, Json, Place
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
        typer.Argument(
            metavar="REASON|STATUS|REQUEST",
            help="As in `reason`, `code` or `request_id` of an error.",
        ),
    ] = None,
    reveal: Annotated[
        str | None,
        typer.Option(
            metavar="WHY",
            help="Of a request, show the redacted bodies too; why they are needed is recorded.",
        ),
    ] = None,
    data: Data = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Explain an error, or a request of the server's log.

    What it means, why it happens, what to do: all that an answer's `reason` stands for.

    A status lists the errors that have it; without either, all errors are listed.

    A request id, req_…, is looked up in the log in the data folder, beside a server that runs:
    each check, the cause, the fix, all tries, what was different from the last success, and a
    command that sends it again.
    """
    if what is not None and what.startswith("req_"):
        _explain_request(what, Place(data, database), reveal, json=json)
        return
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


def _explain_request(request_id: str, place: Place, why: str | None, *, json: bool) -> None:
    from operator_api.cli.logged import explain_request
    from operator_api.cli.request_pages import print_request

    explained = explain_request(request_id, place, why)
    if json:
        print_json(explained)
    else:
        print_request(explained)


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
