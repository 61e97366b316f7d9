"""The command line: ``operator-api``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Operator AI."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option()] = None,
    data: Annotated[Path | None, typer.Option()] = None,
    database: Annotated[str | None, typer.Option()] = None,
    rate_limit: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Run the server."""
    import uvloop

    from operator_api.server.serve import Ready, serve
    from operator_api.server.settings import load_settings

    settings = load_settings(
        {"host": host, "port": port, "data": data, "database": database, "rate_limit": rate_limit}
    )

    def announce(ready: Ready) -> None:
        if ready.token:
            print(f"Your first token: {ready.token}", file=sys.stderr, flush=True)
        print(f"Ready at {ready.url}", file=sys.stderr, flush=True)

    uvloop.run(serve(settings, announce))


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
