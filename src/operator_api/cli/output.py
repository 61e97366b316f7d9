"""What commands print. Rich is imported when it is needed: loading it takes longer than most work.

Text for people is wrapped only on a terminal, where nothing could be made of longer lines: what is
piped keeps its lines whole. Rich leaves colours out where there is no terminal, and for NO_COLOR.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

# Wider than any line of ours.
_UNBOUND = 100_000


def print_json(value: Any, *, to_errors: bool = False) -> None:
    """Print one JSON document on one line, in ASCII, which every encoding has."""
    print(json.dumps(value), file=sys.stderr if to_errors else sys.stdout, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is never broken, so that it can be copied."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _console(sys.stdout).print(table)


def print_markdown(page: str) -> None:
    """Print a page: as it is, or set for a terminal."""
    if not sys.stdout.isatty():
        print(page, end="")
        return
    from rich.markdown import Markdown

    _console(sys.stdout).print(Markdown(page))


def tell(text: str) -> None:
    """Say something beside the result, on standard error. Indented lines are never wrapped."""
    console = _console(sys.stderr)
    for line in text.splitlines():
        console.print(line, soft_wrap=line.startswith(" "), markup=False)


def complain(message: str, hint: str) -> None:
    """Say what went wrong, and what to do, on standard error."""
    console = _console(sys.stderr)
    console.print("[bold red]Error:[/]", end=" ")
    tell(message)
    tell(hint)


def _console(file: TextIO) -> Console:
    from rich.console import Console

    width = None if file.isatty() else _UNBOUND
    return Console(file=file, width=width, highlight=False, emoji=False)
