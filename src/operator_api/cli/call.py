"""``operator-api call``: any operation of the table, through the client."""

from pathlib import Path
from typing import Annotated, Any

import typer

from operator_api.cli.problems import PROGRAM, usage


def call(
    operation: Annotated[
        str | None, typer.Argument(metavar="OPERATION", help="Such as users.create.")
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIELD=TEXT | FIELD:=JSON | - | @FILE]…", help="What it takes."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List all operations, or what OPERATION takes.")
    ] = False,
    every_page: Annotated[
        bool, typer.Option("--all", help="Go through all pages of a list; JSON is then lines.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, in one line; errors are JSON as well.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print status and headers too, of an error as well.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Tell each attempt, on standard error.")
    ] = False,
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
    api_key: Annotated[str | None, typer.Option("--api-key", hidden=True)] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="For each attempt.  [default: 15]")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="For all attempts and waits.  [default: 60]"),
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option(metavar="N", help="After the first attempt.  [default: 4]")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Do a write at most once under it; one is made if need."),
    ] = None,
    if_match: Annotated[
        str | None,
        typer.Option(metavar="ETAG", help="Change only what is still so; ETag is in --raw."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="One more header; may be given several times."),
    ] = None,
    no_validate: Annotated[
        bool, typer.Option("--no-validate", help="Send what the server is going to refuse.")
    ] = False,
) -> None:
    """Call any operation of the API.

    Fields are written field=text, or field:=JSON for what is no text; a list takes its field
    several times. Ids, filters and the body's fields all look alike. A whole JSON body comes from -
    (standard input) or @FILE; fields beside it win.

    \b
      operator-api call users.create email=ada@example.com tags=vip tags=beta
      operator-api call users.update user_id=usr_… phone:=null
      operator-api call users.list tag=vip --all --json
      operator-api call messages.create @message.json

    The token is taken from OPERATOR_API_KEY, from --api-key-file, or asked for on a terminal; never
    from an argument, which `ps` would show to everybody on the machine.

    Ends with 0 if done, 1 if it failed, 2 if nothing was sent since the command is wrong. Errors go
    to standard error.
    """  # noqa: D301 - Typer looks for the character, and leaves the lines after it as they are
    if api_key is not None:
        raise usage(
            "A key is not taken from an argument: others see it in `ps` and in your shell's"
            " history. It may be known now, so rotate it.",
            "Set OPERATOR_API_KEY, or write it to a file for --api-key-file.",
        )
    if list_:
        _list(operation, json=json)
        return
    if operation is None:
        raise usage(
            "Say which operation to call.",
            f"For example:\n  {PROGRAM} call users.list\n  {PROGRAM} call --list",
        )
    from operator_api.cli.caller import Order, make

    options = {
        "base_url": base_url,
        "timeout": timeout,
        "deadline": deadline,
        "max_retries": max_retries,
        "validate": not no_validate,
    }
    extras = {
        "idempotency_key": idempotency_key,
        "if_match": _quoted(if_match),
        "extra_headers": dict(map(_header, header or ())),
    }
    order = Order(
        name=operation,
        words=words or (),
        key_file=api_key_file,
        options=_given(options),
        extras=_given(extras),
        as_json=json,
        every_page=every_page,
        raw=raw,
        verbose=verbose,
    )
    make(order)


def _list(operation: str | None, *, json: bool) -> None:
    from operator_api.cli.call_answers import show_operation, show_operations
    from operator_api.cli.call_fields import find_operation

    if operation is None:
        show_operations(as_json=json)
    else:
        show_operation(find_operation(operation), as_json=json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {})}


def _quoted(if_match: str | None) -> str | None:
    """Put the quotes back that the shell took: no entity tag is without."""
    if if_match in (None, "*") or '"' in str(if_match):
        return if_match
    return f'"{if_match}"'


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise usage("--header takes 'Name: value'.", "For example:\n  --header 'X-Trace: 5'")
    return name.strip(), value.strip()
