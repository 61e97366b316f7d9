"""Options that several commands take, and how their values are read."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from operator_api.cli.problems import PROGRAM, usage
from operator_api.contract.scopes import PRESETS, SCOPES, Environment, Preset
from operator_api.contract.suggest import nearest

DEFAULT_ACCOUNT = "default"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DAY = 86_400
_LONGEST_EXPIRY = 36_500 * _DAY
# The contract's own; its models take longer to import than `explain` takes to run.
_LONGEST_OVERLAP = 7 * _DAY


@dataclass(frozen=True, slots=True)
class Place:
    """The options that say where the store is."""

    data: str | None
    database: str | None

    def command(self, *words: str) -> str:
        """Return a line to be copied: a command that works on the same store."""
        if self.data is not None:
            words = (*words, "--data", self.data)
        if self.database is not None:
            words = (*words, "--database", self.database)
        return f"  {shlex.join((PROGRAM, *words))}"


def setting(name: str, metavar: str, what: str, default: str) -> Any:
    """Declare an option that is also a variable: the server's settings read and check both."""
    told = f"{what}  [variable: OPERATOR_{name.upper()}; default: {default}]"
    return typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=told)


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; errors are JSON as well.")
]
Data = Annotated[
    str | None, setting("data", "DIR", "Folder of the store.", default="operator-data")
]
Database = Annotated[
    str | None,
    setting(
        "database", "URL", "Database, as sqlite:///PATH.", default="operator.sqlite3 in that folder"
    ),
]
AccountName = Annotated[str, typer.Option("--account", metavar="NAME", help="Whose token it is.")]
InEnvironment = Annotated[
    Environment, typer.Option("--environment", help="Live and test data are apart.")
]


def duration(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of durations between two of them, in seconds."""

    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,9})([smhd])|0", text)
        if match is None:
            raise typer.BadParameter("a duration is a number and s, m, h or d, such as 30m or 90d.")
        seconds = int(match[1]) * _SECONDS[match[2]] if match[1] else 0
        if not least <= seconds <= most:
            raise typer.BadParameter(f"it must be from {_short(least)} to {_short(most)}.")
        return seconds

    return parse


def _short(seconds: int) -> str:
    for unit in "dhm":
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s" if seconds else "0"


parse_expiry = duration(1, _LONGEST_EXPIRY)
parse_overlap = duration(0, _LONGEST_OVERLAP)


def power(scopes: str | None, preset: Preset | None) -> dict[str, Any]:
    """Return what a new token may do, as its request says it; exactly one way must be chosen.

    There is no default: one that suits most would be too much for some, and nobody would notice.
    """
    if (scopes is None) == (preset is None):
        problem = "Say what the token may do" if scopes is None else "Choose one way to say it"
        raise usage(f"{problem}: either --preset or --scopes.", f"{_presets()}\n{_scopes()}")
    if scopes is None:
        return {"preset": preset}
    names = [name.strip() for name in scopes.split(",")]
    for name in names:
        if name not in SCOPES:
            meant = nearest(name, SCOPES)
            suggestion = f" Did you mean {meant}?" if meant else ""
            raise usage(f"There is no scope {name!r}.{suggestion}", _scopes())
    return {"scopes": names}


def _presets() -> str:
    return "\n".join(f"--preset {name}: {_briefly(name)}." for name in PRESETS)


def _briefly(preset: Preset) -> str:
    scopes = PRESETS[preset]
    return "every scope" if scopes == SCOPES else ", ".join(scopes)


def _scopes() -> str:
    return f"--scopes, with commas: any of {', '.join(SCOPES)}."
