"""The commands put together, and how the program ends."""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import typer

from operator_api import __version__
from operator_api.cli import accounts, failures, keys, outbox, tokens
from operator_api.cli.call import call
from operator_api.cli.explain import explain
from operator_api.cli.options import Json, Place
from operator_api.cli.output import print_json
from operator_api.cli.problems import PROGRAM, Failure, of_arguments, of_missing_package
from operator_api.cli.serve import serve

# Tracebacks are Python's own: Typer's show the values of variables, and tokens are among them.
app = typer.Typer(
    help="Operator AI: an API for customer conversations, whose errors say what to do next.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(tokens.app, name="tokens")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.add_typer(failures.app, name="failures")
app.add_typer(outbox.app, name="outbox")
app.command()(serve)
app.command()(call)
app.command()(explain)


@app.command()
def openapi(json: Json = False) -> None:
    """Print the OpenAPI document; no store is needed."""
    from operator_api.cli.store import settings_of
    from operator_api.server.openapi import openapi as describe

    print_json(describe(settings_of(Place(None, None)).url), indent=None if json else 2)


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    if json:
        print_json({"version": __version__})
    else:
        print(f"{PROGRAM} {__version__}")


def main() -> None:
    """Run the program, and exit: 0 done, 1 failed, 2 written wrongly, 130 stopped by Ctrl-C."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names may hold what the terminal cannot show
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read has enough. Python would flush again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code. A failure is told; a defect raises."""
    try:
        code: int | None = app(arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        return code or 0
    except typer.TyperException as error:
        failure = of_arguments(error)
    except ModuleNotFoundError as error:
        failure = of_missing_package(error)
    except Failure as error:
        failure = error
    failure.show(as_json="--json" in arguments)
    return failure.exit_code
