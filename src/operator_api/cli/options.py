"""Options that several commands take, and how their values are read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from operator_api.cli.failures import Failure, usage
from operator_api.contract.models import MAX_OVERLAP_SECONDS
from operator_api.contract.scopes import PRESETS, SCOPES, Environment, Preset, Scope
from operator_api.contract.suggest import nearest

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DAY = 86_400
_LONGEST_EXPIRY = 36_500 * _DAY


def setting(name: str, metavar: str, what: str, default: str) -> Any:
    """Declare an option that is also a variable: the server's settings read and check both."""
    told = f"{what}  [variable: OPERATOR_{name.upper()}; default: {default}]"
    return typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=told)


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; errors are JSON as well.")
]
Data = Annotated[
    Path | None, setting("data", "DIR", "Folder of the store.", default="operator-data")
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
parse_overlap = duration(0, MAX_OVERLAP_SECONDS)


def power(scopes: str | None, preset: Preset | None) -> dict[str, Any]:
    """Return what a new token may do, as its request says it; exactly one way must be chosen.

    There is no default: one that suits most would be too much for some, and nobody would notice.
    """
    if (scopes is None) == (preset is None):
        problem = "Say what the token may do" if scopes is None else "Choose one way to say it"
        raise usage(f"{problem}: either --preset or --scopes.", f"{_presets()}\n{_scopes()}")
    if scopes is None:
        return {"preset": preset}
    return {"scopes": [_scope(name.strip()) for name in scopes.split(",")]}


def _scope(name: str) -> Scope:
    for scope in SCOPES:
        if scope == name:
            return scope
    meant = nearest(name, SCOPES)
    raise _unknown_scope(name, meant)


def _unknown_scope(name: str, meant: str | None) -> Failure:
    suggestion = f" Did you mean {meant}?" if meant else ""
    return usage(f"There is no scope {name!r}.{suggestion}", _scopes())


def _presets() -> str:
    lines = [f"  --preset {name:14} {_briefly(name)}" for name in PRESETS]
    return "\n".join(["A preset is a bundle of scopes:", *lines])


def _briefly(preset: Preset) -> str:
    scopes = PRESETS[preset]
    return "every scope" if scopes == SCOPES else ", ".join(scopes)


def _scopes() -> str:
    return f"Scopes are given by commas, as in --scopes users:read,tags:read, out of: {', '.join(SCOPES)}."
