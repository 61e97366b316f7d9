"""``operator-api serve``: run the server, and say how to use it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from operator_api.cli.options import DEFAULT_ACCOUNT, Data, Database, Json, Place, setting
from operator_api.cli.output import print_json, tell

if TYPE_CHECKING:
    from operator_api.server.serve import Ready


def serve(
    host: Annotated[
        str | None, setting("host", "HOST", "Address to listen on.", default="127.0.0.1")
    ] = None,
    port: Annotated[
        str | None, setting("port", "PORT", "Port; 0 takes a free one.", default="8000")
    ] = None,
    data: Data = None,
    database: Database = None,
    rate_limit: Annotated[
        str | None,
        setting("rate_limit", "N/SECONDSs", "Requests per token.", default="600/60s"),
    ] = None,
    json: Json = False,
) -> None:
    """Run the server.

    The first start on a folder makes its store, with the account `default` and an admin token of
    its test environment, which is shown only then. Ctrl-C stops the server when it has answered
    what is open.
    """
    import uvloop

    from operator_api.cli.store import explained, settings_of
    from operator_api.server.serve import serve as run

    place = Place(data, database)
    settings = settings_of(place, host=host, port=port, rate_limit=rate_limit)

    def announce(ready: "Ready") -> None:
        if json:
            print_json(_announcement(ready, settings.data))
        else:
            _introduce(ready, settings.data, place)

    with explained(settings, place):
        uvloop.run(run(settings, announce))


def _announcement(ready: "Ready", data: Path) -> dict[str, str | None]:
    return {
        "event": "ready",
        "url": ready.url,
        "token": ready.token,
        "account": DEFAULT_ACCOUNT if ready.token else None,
        "environment": "test" if ready.token else None,
        "data": str(data.absolute()),
    }


def _introduce(ready: "Ready", data: Path, place: Place) -> None:
    another = place.command("tokens", "create", "--name", "NAME", "--preset", "admin")
    if ready.token is None:
        tell(f"To make a token:\n{another}")
    else:
        tell(
            f"A new store, in {data.absolute()}, with the account `{DEFAULT_ACCOUNT}` and"
            " an admin token of its test environment, shown only this once:\n"
            "\n"
            f"  {ready.token}\n"
            "\n"
            "Try it; a user is created (201). The same again is refused (409), and so is '{}' as"
            " the body (422), each with the reason and what to do:\n"
            "\n"
            f"  curl -i -X POST {ready.url}/v1/users \\\n"
            f"    -H 'Authorization: Bearer {ready.token}' \\\n"
            "    -H 'Content-Type: application/json' \\\n"
            """    -d '{"email": "ada@example.com"}'\n"""
            "\n"
            f"More tokens:\n{another}\n"
        )
    tell(f"Ready at {ready.url}")
