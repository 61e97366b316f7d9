"""What commands print. Rich is imported when it is needed: loading it takes longer than most work.

Text for people is wrapped only on a terminal, where nothing could be made of longer lines: what is
piped keeps its lines whole. Rich leaves colours out where there is no terminal, and for NO_COLOR.
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Wider than any line of ours.
_UNBOUND = 100_000
_ID_WIDTH = 36
_GAP = 2


def print_json(value: Any, *, indent: int | None = None, to_errors: bool = False) -> None:
    """Print one JSON document, on one line unless told, in ASCII, which every encoding has."""
    file = sys.stderr if to_errors else sys.stdout
    print(json.dumps(value, indent=indent), file=file, flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. On a narrow terminal cells are broken between words; ids stay whole."""
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, _widths([columns, *rows], console.width), strict=True):
        table.add_column(column, width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _widths(rows: Sequence[Sequence[str]], available: int) -> list[int]:
    """Narrow the columns that have most to give, as far as their words allow (Rich breaks them)."""
    cells = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in cells]
    words = [max(len(word) for cell in column for word in cell.split()) for column in cells]
    least = [min(word, _ID_WIDTH) for word in words]
    while sum(widths) + _GAP * len(widths) > available and widths != least:
        spare = [width - fixed for width, fixed in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths


def print_markdown(page: str) -> None:
    """Print a page: as it is, or set for a terminal."""
    if not sys.stdout.isatty():
        print(page, end="")
        return
    from rich.markdown import Markdown

    _console(sys.stdout).print(Markdown(page))


def print_parts(*parts: "RenderableType") -> None:
    """Print what Rich sets, one part under the other."""
    console = _console(sys.stdout)
    for part in parts:
        console.print(part, soft_wrap=not console.is_terminal)


def tell(text: str, *, title: str = "") -> None:
    """Say something beside the result, on standard error.

    Lines that are indented are there to be copied, and never wrapped.
    """
    from rich.text import Text

    console = _console(sys.stderr)
    for line in text.splitlines():
        console.print(Text.assemble((title, "bold red"), line), soft_wrap=line.startswith(" "))
        title = ""


def _console(file: TextIO) -> "Console":
    from rich.console import Console

    width = None if file.isatty() else _UNBOUND
    return Console(file=file, width=width, highlight=False, emoji=False)
