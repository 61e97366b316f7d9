"""``operator-api failures``: what a client's failed-request log holds, and what it means."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from operator_api.cli.failure_pages import diagnosis_of, page_of, printable, sheet_of, timeline_of
from operator_api.cli.options import Json, duration
from operator_api.cli.output import print_json, print_markdown, print_table, tell
from operator_api.cli.problems import PROGRAM, Failure, usage
from operator_api.contract.errors import CATALOGUE
from operator_api.contract.suggest import nearest

if TYPE_CHECKING:
    from operator_api.cli.failure_store import Filter
    from operator_api.client.failures.entries import FailureEntry

app = typer.Typer(
    help="See and explain the requests that failed, as a client has recorded them.\n\n"
    "No server is needed. A client records them with OperatorAI(failure_log=PATH)."
)

_LONGEST = 36_500 * 86_400
_parse_duration = duration(1, _LONGEST)


def _parse_status(text: str) -> str:
    if text != "none" and not (len(text) == 3 and text[0] in "12345" and _is_rest(text[1:])):
        raise typer.BadParameter("a status is a number such as 422, a class such as 5xx, or none.")
    return text


def _is_rest(text: str) -> bool:
    return text == "xx" or (text.isascii() and text.isdigit())


def _parse_since(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) - timedelta(seconds=_parse_duration(text))
    if moment.tzinfo is None:
        raise typer.BadParameter("a time names its zone, such as 2026-01-31T12:00:00Z.")
    return moment


Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="PATH",
        help="The log.  [variable: OPERATOR_FAILURE_LOG; default: the one of this user]",
    ),
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="As in `failures list`, or `last` for the newest.")
]
Status = Annotated[
    str | None,
    typer.Option(
        metavar="STATUS",
        parser=_parse_status,
        help="Only with this status: 422, 5xx, or none where no answer came.",
    ),
]
Reason = Annotated[str | None, typer.Option(metavar="REASON", help="Only for this reason.")]
OperationName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only of this operation, such as users.create.")
]
Since = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME", parser=_parse_since, help="Only since then: 30m, 2d, 2026-01-31T12:00:00Z."
    ),
]
RequestId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Only with this request id: the server's, or the call's."),
]
Key = Annotated[str | None, typer.Option(metavar="KEY", help="Only with this idempotency key.")]


@app.command("list")
def list_failures(
    log: Log = None,
    status: Status = None,
    reason: Reason = None,
    operation: OperationName = None,
    since: Since = None,
    request_id: RequestId = None,
    key: Key = None,
    limit: Annotated[int, typer.Option(min=0, help="How many at most; 0 for all.")] = 50,
    json: Json = False,
) -> None:
    """List failed attempts, newest first."""
    from operator_api.cli.failure_store import Filter, open_log

    wanted = Filter(status, reason, operation, since, request_id, key)
    store = open_log(log)
    found = store.find(wanted)
    if not found:
        _explain_nothing(wanted)
    shown = found[:limit] if limit else found
    if json:
        data = [entry.as_json() for entry in shown]
        print_json({"data": data, "total": len(found), "skipped": store.skipped})
        return
    count = f"{len(found) or 'no'} failed attempt{'' if len(found) == 1 else 's'}"
    more = f", the newest {len(shown)} shown" if len(shown) < len(found) else ""
    tell(f"{count} in {store.path}{more}")
    _tell_skipped(store.skipped)
    if shown:
        columns = ("FAILURE", "WHEN", "OPERATION", "STATUS", "REASON", "TRY", "THEN")
        print_table(columns, [_row(entry) for entry in shown])
        tell(f"What one of them means:\n{store.command('explain', shown[0].id)}")


@app.command()
def show(failure_id: Id, log: Log = None, json: Json = False) -> None:
    """Show one failed attempt in full.

    Bodies are redacted and sealed: they are shown where the key that sealed them is, in the
    variable OPERATOR_SECRET_KEYS or in the file beside the log.
    """
    from operator_api.cli.failure_store import open_log

    store = open_log(log)
    entry = store.get(failure_id)
    bodies, why_not = store.open(entry)
    if json:
        print_json({**entry.as_json(), "bodies": bodies, "bodies_missing": why_not})
        return
    print(sheet_of(entry, bodies))
    if why_not is not None:
        tell(f"The bodies are not shown: {why_not}")


@app.command()
def explain(failure_id: Id, log: Log = None, json: Json = False) -> None:
    """Explain a failed attempt: its cause, what to do, and what the client has tried.

    It names all attempts of the same call, or with the same idempotency key, in their order.
    """
    from operator_api.cli.failure_store import open_log

    store = open_log(log)
    entry = store.get(failure_id)
    attempts = store.attempts_like(entry)
    if json:
        tried = timeline_of(attempts)
        print_json({"failure": entry.as_json(), **diagnosis_of(entry).as_json(), "attempts": tried})
    else:
        print_markdown(page_of(entry, attempts))


@app.command()
def export(
    log: Log = None,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["jsonl", "csv"], typer.Option(help="One JSON object in a line, or a table.")
    ] = "jsonl",
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="A new file, for its owner alone.")
    ] = None,
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Add the redacted bodies; needs their key.")
    ] = False,
    status: Status = None,
    reason: Reason = None,
    operation: OperationName = None,
    since: Since = None,
    request_id: RequestId = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Write failed attempts for other programs, oldest first.

    With --json, what was done is printed as one JSON document; the attempts then go to --out.
    """
    from operator_api.cli.failure_store import Filter, open_log, write_export

    if json and out is None:
        raise usage(
            "With --json the attempts need a file of their own.",
            f"Name it, or take what --json prints of a list:\n  {PROGRAM} failures export --json"
            f" --out failures.{format}\n  {PROGRAM} failures list --limit 0 --json",
        )
    store = open_log(log)
    found = store.find(Filter(status, reason, operation, since, request_id, key))[::-1]
    rows: list[dict[str, Any]] = []
    for entry in found:
        row = entry.as_json()
        if bodies:
            row["bodies"], row["bodies_missing"] = store.open(entry)
        rows.append(row)
    write_export(rows, format, out, with_bodies=bodies)
    if json:
        done = {"exported": len(rows), "format": format, "out": out, "skipped": store.skipped}
        print_json(done)
    elif out is not None:
        tell(f"Wrote {len(rows)} failed attempts to {out}.")
        _tell_skipped(store.skipped)


def _row(entry: "FailureEntry") -> Sequence[str]:
    then = "gave up" if entry.delay is None else f"retry in {entry.delay:.3g}s"
    when = datetime.fromtimestamp(entry.at / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    status = "none" if entry.status is None else str(entry.status)
    reason = entry.reason or entry.error
    cells = (entry.id, when, entry.operation, status, reason, str(entry.attempt), then)
    return [printable(cell) for cell in cells]


def _tell_skipped(skipped: int) -> None:
    if skipped:
        lines = "line is" if skipped == 1 else "lines are"
        tell(f"{skipped} {lines} no entry, and left out: a write was cut off, or a file damaged.")


def _explain_nothing(wanted: "Filter") -> None:
    """Refuse a filter that nothing can pass, where what was meant is near."""
    if wanted.reason is not None and wanted.reason not in CATALOGUE:
        meant = nearest(wanted.reason, CATALOGUE)
        if meant:
            raise _no_such("reason", wanted.reason, meant)
    if wanted.operation is not None:
        from operator_api.contract.operations import BY_NAME

        meant = nearest(wanted.operation, BY_NAME)
        if meant and wanted.operation not in BY_NAME:
            raise _no_such("operation", wanted.operation, meant)


def _no_such(what: str, given: str, meant: str) -> Failure:
    command = shlex.join((PROGRAM, "failures", "list", f"--{what}", meant))
    return usage(f"There is no {what} {given!r}. Did you mean {meant}?", f"Try it:\n  {command}")
