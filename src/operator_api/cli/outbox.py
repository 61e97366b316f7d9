"""``operator-api outbox``: what a client has kept to be sent, and what became of it."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from operator_api.cli.failure_pages import printable
from operator_api.cli.options import Json
from operator_api.cli.output import print_json, print_table, tell
from operator_api.cli.problems import Failure, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from operator_api.cli.outbox_store import OutboxFile
    from operator_api.client.outbox.rows import OutboxStatus, QueuedWrite

app = typer.Typer(
    help="See and send the writes that a client keeps until they are sent.\n\n"
    "A client keeps them with OperatorAI(outbox=PATH)."
)

Place = Annotated[
    str | None,
    typer.Option("--outbox", metavar="PATH", help="The file.  [variable: OPERATOR_OUTBOX]"),
]
WriteId = Annotated[
    str | None, typer.Argument(metavar="ID", help="As in `outbox status`, such as out_…")
]


@app.command()
def status(
    outbox: Place = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to list; 0 for all.")] = 20,
    json: Json = False,
) -> None:
    """Show what waits to be sent, and the dead letters. It needs no key and no server."""
    from operator_api.cli.outbox_store import OutboxFile

    file = OutboxFile(outbox)
    found, most = file.status(), limit or -1
    dead, pending = file.dead_letters(most), file.pending(most)
    if json:
        letters, waiting = [each.as_json() for each in dead], [each.as_json() for each in pending]
        print_json({**found.as_json(), "dead_letters": letters, "pending_writes": waiting})
        return
    tell(f"{found.pending} pending, {found.dead} dead in {file.path}")
    if found.locked_out:
        tell(
            f"{_writes_are(found.locked_out)} sealed by a key that is not at hand, and cannot be"
            " sent until it is in OPERATOR_SECRET_KEYS, or its file is beside the outbox."
        )
    if found.blocked:
        tell(f"Some have failed, and are tried again. The last error: {printable(found.blocked)}")
    if dead or pending:
        columns = ("WRITE", "QUEUED", "OPERATION", "STATE", "TRIES", "ERROR")
        print_table(columns, [_row(each) for each in (*dead, *pending)])
    if dead:
        first = dead[0].id
        tell(
            "A dead letter is sent again, or dropped, by its id:\n"
            f"{file.command('retry', first)}\n{file.command('drop', first, '--yes')}"
        )


@app.command()
def drain(
    outbox: Place = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The server.  [variable: OPERATOR_BASE_URL; default: http://127.0.0.1:8000]",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the token.  [variable: OPERATOR_API_KEY]"),
    ] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to try at most.")
    ] = 60.0,
    json: Json = False,
) -> None:
    """Send what is pending, now. It ends with 1 where something is left or refused.

    Other drainers of the same outbox may go on meanwhile: each write is sent once.
    """
    from operator_api.cli.outbox_store import OutboxFile

    file = OutboxFile(outbox)
    before = file.status()
    with _progress(before.pending, hidden=json) as show:
        after = file.drain(base_url, api_key_file, deadline, show)
    died = after.dead - before.dead
    if after.pending or after.elsewhere or died > 0:
        raise _left_over(file, after, died)
    if json:
        print_json(after.as_json())
    else:
        tell(f"Sent {before.pending}; nothing is left.")


@app.command()
def retry(
    write_id: WriteId = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even what may have been done: it may then be done twice."),
    ] = False,
    outbox: Place = None,
    json: Json = False,
) -> None:
    """Put a dead letter back, behind what is pending. A client or `outbox drain` then sends it.

    What was certainly not done gets a new idempotency key; what may have been done keeps its own.
    """
    from operator_api.cli.outbox_store import OutboxFile

    file = OutboxFile(outbox)
    _check_choice(write_id, every=every)
    ids = [write_id] if write_id else [each.id for each in file.dead_letters()]
    kept: list[Failure] = []
    writes: list[QueuedWrite] = []
    for each in ids:
        try:
            writes.append(file.retry(each, force=force))
        except Failure as failure:
            if not every:
                raise
            kept.append(failure)
    if writes or not kept:
        _tell_changed("put back", writes, as_json=json)
    if kept:
        raise Failure(
            409,
            kept[0].reason,
            f"{_writes_are(len(kept))} not put back. {kept[0].message}",
            kept[0].hint,
            metadata={"kept": len(kept)},
        )


@app.command()
def drop(
    write_id: WriteId = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    outbox: Place = None,
    json: Json = False,
) -> None:
    """Take a write out for good, pending or dead: it is never sent."""
    from operator_api.cli.outbox_store import OutboxFile

    file = OutboxFile(outbox)
    _check_choice(write_id, every=every)
    ids = [write_id] if write_id else [each.id for each in file.dead_letters()]
    what = write_id or f"all {len(ids)} dead letters"
    if not yes:
        if json or not sys.stdin.isatty():
            again = ("drop", write_id or "--all", "--yes")
            raise usage(
                f"To drop {what} is for good.",
                f"Say that you mean it:\n{file.command(*again)}",
                "not_confirmed",
            )
        if not typer.confirm(f"Drop {what} for good?", err=True):
            raise usage("Nothing was dropped.", "Say y to drop it, or give --yes.", "not_confirmed")
    _tell_changed("dropped", [file.drop(each) for each in ids], as_json=json)


def _check_choice(write_id: str | None, *, every: bool) -> None:
    if (write_id is None) != every:
        raise usage("Which write? Give either an ID or --all.", "Ids are in `outbox status`.")


def _tell_changed(what: str, writes: "list[QueuedWrite]", *, as_json: bool) -> None:
    if as_json:
        print_json({"data": [each.as_json() for each in writes]})
    else:
        tell("\n".join(f"{each.id}: {what} ({each.operation})" for each in writes) or "None.")


def _writes_are(count: int) -> str:
    return f"{count} write is" if count == 1 else f"{count} writes are"


def _row(write: "QueuedWrite") -> list[str]:
    state = "sending" if write.sending else write.cause or write.state
    told = write.message or (write.error or "-")
    cells = (
        write.id,
        write.queued_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        write.operation,
        state,
        str(write.tries),
        told,
    )
    return [printable(cell) for cell in cells]


def _left_over(file: "OutboxFile", after: "OutboxStatus", died: int) -> Failure:
    """Say what was not sent, and why."""
    told, advice = [], []
    if after.pending:
        told.append(f"{_writes_are(after.pending)} still pending")
        advice.append(
            f"The last error: {printable(after.blocked)}"
            if after.blocked
            else "None of them was answered so far: the server may be gone."
        )
    if died > 0:
        told.append(f"{_writes_are(died)} refused for good or expired")
    if after.elsewhere:
        servers = sorted({each.base_url for each in file.pending()})
        told.append(f"{_writes_are(after.elsewhere)} for another server")
        advice += [file.command("drain", "--base-url", url) for url in servers[:3]]
    advice.append(f"See each of them:\n{file.command('status')}")
    return Failure(
        503 if after.pending or after.elsewhere else 409,
        "outbox_not_drained",
        f"Not all is sent: {', and '.join(told)}.",
        "\n".join(advice),
        action="retry_with_backoff" if after.pending else "fix_request",
        metadata={**after.as_json(), "died": max(0, died)},
    )


@contextmanager
def _progress(total: int, *, hidden: bool) -> "Iterator[Callable[[OutboxStatus], None]]":
    """Show on a terminal how many are sent; elsewhere nothing."""
    if hidden or not sys.stderr.isatty():
        yield lambda _status: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("Sending", total=total)
        yield lambda found: bar.update(task, completed=max(0, total - found.pending))
