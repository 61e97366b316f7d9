"""Makes one call for a command, through the client.

This module imports the client; the command imports it when it runs.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from operator_api.cli.call_answers import Items, is_list, progress, show_answer, show_raw
from operator_api.cli.call_failures import CallFailure, of_error
from operator_api.cli.call_fields import fields_of, find_operation, read_words
from operator_api.cli.output import tell
from operator_api.cli.problems import Failure, usage
from operator_api.client import APIError, OperatorAI, OperatorError
from operator_api.client.call import Call
from operator_api.client.pages import SyncPage
from operator_api.contract.operations import Operation

_KEY = "OPERATOR_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the command was told. ``options`` are the client's, ``extras`` those of the call."""

    name: str
    words: Sequence[str]
    key_file: Path | None
    options: dict[str, Any]
    extras: dict[str, Any] = field(default_factory=dict)
    as_json: bool = False
    every_page: bool = False
    raw: bool = False
    verbose: bool = False


def make(order: Order) -> None:
    """Make the call, and print what it answers; raise Failure where it fails."""
    operation = find_operation(order.name)
    _check(order, operation)
    given = read_words(operation, order.words, strict=order.options.get("validate", True))
    call: Call[Any] = Call(operation.name, given.ids, given.params, given.body, order.extras)
    if order.verbose:
        _tell_attempts()
    # A command makes its one call, and does not begin to send what a program keeps in its outbox.
    os.environ.pop("OPERATOR_OUTBOX", None)
    try:
        with OperatorAI(api_key=_key(order, operation), **order.options) as client:
            if order.every_page:
                _list_all(client, call, operation, order)
            else:
                _call_once(client, call, operation, order)
    except OperatorError as error:
        if order.raw and (response := getattr(error, "response", None)) is not None:
            show_raw(response, as_json=order.as_json)
        raise of_error(error) from error


def _check(order: Order, operation: Operation) -> None:
    if order.every_page and not is_list(operation):
        raise usage(f"{operation.name} has no pages.", "Leave --all out.")
    if order.every_page and order.raw:
        raise usage(
            "--raw shows one answer, and --all makes many.", "Leave one of them out, or use --json."
        )
    if "idempotency_key" in order.extras and not operation.writes:
        raise usage(
            f"{operation.name} changes nothing, so it needs no idempotency key.",
            "Leave --idempotency-key out.",
        )


def _key(order: Order, operation: Operation) -> str | Callable[[], str]:
    """Return the token, from the file, the environment or a prompt."""
    if order.key_file is not None:
        try:
            return order.key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise _no_key(f"The key in {order.key_file} cannot be read: {why}.") from None
    if key := os.environ.get(_KEY):
        return key
    if operation.public:
        return _never_asked
    if sys.stdin.isatty() and sys.stderr.isatty():
        from typer import prompt

        asked: str = prompt("API key", hide_input=True, err=True)
        return asked
    raise _no_key("There is no API key.")


def _never_asked() -> str:
    raise AssertionError("a public operation needs no token")


def _no_key(message: str) -> Failure:
    return usage(
        message,
        f"Set {_KEY}, or name a file that holds it: --api-key-file PATH. A key is made by\n"
        "  operator-api tokens create --name NAME --preset conversations",
    )


def _call_once(client: OperatorAI, call: Call[Any], operation: Operation, order: Order) -> None:
    answer = client.send_raw(call)
    if order.raw:
        show_raw(answer, as_json=order.as_json)
    else:
        show_answer(operation, answer, as_json=order.as_json)


# --- all pages of a list ---


def _list_all(client: OperatorAI, call: Call[Any], operation: Operation, order: Order) -> None:
    """Print the items of all pages. Whatever ends it early, what came is printed."""
    params = {**_largest_pages(operation), **call.params}
    call = Call(call.operation, call.ids, params, None, call.options)
    items = Items(operation, as_json=order.as_json)
    next_cursor: str | None = params.get("cursor")  # of the first page that is not all printed
    # Where lines go to the same terminal, they are the progress.
    hidden = order.verbose or (order.as_json and sys.stdout.isatty())
    try:
        with progress(operation.name, hidden=hidden) as tick:
            for page in SyncPage(client.send(call), call, client.send).iter_pages():
                items.add(page.data)
                next_cursor = page.next_cursor
                tick(items.count)
    except KeyboardInterrupt:
        items.end()
        if not order.as_json:
            tell(f"Stopped after {items.count} items.{_where_to_go_on(next_cursor)}")
        raise
    except APIError as error:
        if items.count:
            items.end()
        failure = of_error(error)
        if isinstance(failure, CallFailure):
            failure.call |= {"items": items.count, "cursor": next_cursor}
        if items.count and not order.as_json:
            tell(f"{items.count} items came before it failed.{_where_to_go_on(next_cursor)}")
        raise failure from error
    items.end()
    if not order.as_json and items.count:
        tell(f"{items.count} items")


def _where_to_go_on(cursor: str | None) -> str:
    return "" if cursor is None else f" To go on from there, add\n  cursor={cursor}"


def _largest_pages(operation: Operation) -> dict[str, Any]:
    """Return the parameter that makes for the fewest requests, where there is one."""
    limit = fields_of(operation).get("limit")
    most = limit.schema.get("maximum") if limit is not None else None
    return {} if most is None else {"limit": most}


def _tell_attempts() -> None:
    """Write the client's own lines, one for each attempt, to standard error."""
    log = logging.getLogger("operator_api.client")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
