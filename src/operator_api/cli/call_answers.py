"""What a call answered, printed: for people, for programs, and page by page.

This module imports the contract's models; the command imports it when it runs.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from operator_api.cli.call_fields import fields_of
from operator_api.cli.failure_pages import printable
from operator_api.cli.output import print_json, print_markdown, print_table, tell
from operator_api.contract.fields import TIMESTAMP_PATTERN
from operator_api.contract.headers import JSON
from operator_api.contract.models import Page
from operator_api.contract.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    from operator_api.client.responses import Response

Tick = Callable[[int], None]

_TIME = re.compile(TIMESTAMP_PATTERN)
# A longer cell is broken, and not a reason to leave a column out.
_WIDEST = 40
_GAP = 2

# Control characters above ASCII's, and marks that turn the text around them.
_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def is_list(operation: Operation) -> bool:
    """Say whether the operation answers a page of a list."""
    return operation.answer is not None and issubclass(operation.answer, Page)


def show_answer(operation: Operation, response: "Response", *, as_json: bool) -> None:
    """Print one answer: a table for a page of a list, else JSON or the page that it is."""
    if operation.answer_type != JSON:
        text = response.text
        if as_json:
            print_json(text)
        else:
            print_markdown("\n".join(map(printable, text.splitlines())) + "\n")
        return
    body = response.json()
    if as_json:
        print_json(body)
    elif is_list(operation):
        show_table(operation, body["data"])
        if body["has_more"]:
            tell(
                f"{len(body['data'])} shown, and there are more. All of them: --all; the next page:"
                f" cursor={body['next_cursor']}"
            )
    else:
        print(_readable(body))


def show_raw(response: "Response", *, as_json: bool) -> None:
    """Print status, headers and body as they came."""
    headers = response.headers.multi_items()
    if as_json:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = response.text
        told = [list(pair) for pair in headers]
        print_json({"status": response.status_code, "headers": told, "body": body})
        return
    print(f"HTTP {response.status_code}")
    for name, value in headers:
        print(printable(f"{name}: {value}"))
    print()
    print("\n".join(map(printable, response.text.splitlines())))


def show_table(operation: Operation, items: Sequence[Mapping[str, Any]]) -> None:
    """Print the items of a list as a table, with the columns of their model."""
    if not items:
        tell("There are none.")
        return
    assert operation.answer is not None, "it is a list"
    (item,) = operation.answer.__pydantic_generic_metadata__["args"]
    names = list(item.model_fields)
    columns = [[name.upper(), *(_cell(each.get(name)) for each in items)] for name in names]
    shown = columns[: _fitting(columns)]
    header, *rows = zip(*shown, strict=True)
    print_table(header, rows)
    if len(shown) < len(columns):
        tell(f"Too narrow for {', '.join(names[len(shown) :])}: see --json.")


def _fitting(columns: Sequence[Sequence[str]]) -> int:
    """Return how many columns fit on the terminal; elsewhere all do."""
    if not sys.stdout.isatty():
        return len(columns)
    available, fitting = get_terminal_size().columns, 0
    for column in columns:
        available -= min(_WIDEST, max(map(len, column))) + _GAP
        fitting += available >= 0
    return max(fitting, 1)


def _cell(value: Any) -> str:
    if value in (None, "", []):
        return "-"
    if isinstance(value, str) and _TIME.fullmatch(value):
        return f"{value[:10]} {value[11:16]}Z"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ", ".join(value)
    return printable(value if isinstance(value, str) else json.dumps(value))


def _readable(value: Any) -> str:
    """Write JSON for reading: indented, in everybody's letters, steering no terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Items:
    """The items of a list as they come: lines of JSON at once, or a table in the end."""

    def __init__(self, operation: Operation, *, as_json: bool) -> None:
        self._operation = operation
        self._as_json = as_json
        self._kept: list[dict[str, Any]] = []
        self.count = 0

    def add(self, items: Sequence[BaseModel]) -> None:
        """Take the items of one page."""
        for each in items:
            item = each.model_dump(mode="json", by_alias=True)
            if self._as_json:
                print(json.dumps(item))
            else:
                self._kept.append(item)
            self.count += 1
        sys.stdout.flush()

    def end(self) -> None:
        """Print what is still to be printed."""
        if not self._as_json:
            show_table(self._operation, self._kept)


@contextmanager
def progress(what: str, *, hidden: bool) -> Iterator[Tick]:
    """Show on a terminal how many items have come; elsewhere nothing."""
    if hidden or not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed} items"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda count: bar.update(task, completed=count)


# --- the table of operations ---


def show_operations(*, as_json: bool) -> None:
    """Print what can be called."""
    if as_json:
        print_json({"data": [_described(each) for each in OPERATIONS]})
        return
    columns = ("OPERATION", "REQUEST", "SCOPE", "WHAT IT DOES")
    print_table(columns, [_row(each) for each in OPERATIONS])
    tell("What one of them takes:\n  operator-api call --list users.create")


def show_operation(operation: Operation, *, as_json: bool) -> None:
    """Print one operation with all that it takes, and the errors that it can give."""
    if as_json:
        print_json(_described(operation))
        return
    print(f"{operation.name}: {operation.summary}")
    print(f"{operation.method} {operation.path}, {_scope(operation)}")
    fields = fields_of(operation).values()
    if fields:
        print()
        columns = ("FIELD", "IN", "TYPE", "REQUIRED", "WHAT IT IS")
        rows = [
            (each.name, each.place, each.type, "yes" if each.required else "no", _said(each.schema))
            for each in fields
        ]
        print_table(columns, rows)
    print()
    print("Errors: " + ", ".join(kind.reason for kind in operation.errors))


def _row(operation: Operation) -> tuple[str, str, str, str]:
    request = f"{operation.method} {operation.path}"
    return operation.name, request, _scope(operation), operation.summary


def _scope(operation: Operation) -> str:
    return "no token" if operation.public else operation.scope or "any token"


def _said(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description", "-"))


def _described(operation: Operation) -> dict[str, Any]:
    return {
        "operation": operation.name,
        "method": operation.method,
        "path": operation.path,
        "summary": operation.summary,
        "scope": operation.scope,
        "public": operation.public,
        "writes": operation.writes,
        "if_match": operation.takes_if_match,
        "fields": [
            {
                "name": each.name,
                "in": each.place,
                "type": each.type,
                "required": each.required,
                "description": _said(each.schema),
            }
            for each in fields_of(operation).values()
        ],
        "errors": [kind.reason for kind in operation.errors],
    }
