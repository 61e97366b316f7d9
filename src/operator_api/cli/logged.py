"""Find a logged request in a store, whosever it is, and have it explained for the operator.

This module imports the server; ``explain`` imports it when it is asked for a request.
"""

from typing import TYPE_CHECKING, Any

from operator_api.cli.options import Place
from operator_api.cli.problems import Failure, usage
from operator_api.cli.store import settings_of, work_on
from operator_api.contract.fields import REQUEST_ID
from operator_api.server import accounts
from operator_api.server.app import open_log
from operator_api.server.ids import new_id, now_microseconds
from operator_api.server.requests.detail import DetailReader
from operator_api.server.requests.explain import Explainer, Look

if TYPE_CHECKING:
    from operator_api.server.app import Store

_NOBODYS: tuple[int, str | None] = (0, None)


def explain_request(request_id: str, place: Place, why: str | None) -> dict[str, Any]:
    """Return the explanation; ``why`` is the reason to show the bodies, and is put on record."""
    if not REQUEST_ID.matches(request_id):
        raise usage(
            "This is not the id of a request.",
            "It is req_ and 32 hexadecimal digits, as in an error's request_id, or in the header"
            " X-Request-Id of any answer.",
        )
    if why is not None and not why.strip():
        raise usage(
            "Say why the bodies are to be shown: it is put on record.",
            f"As in:\n{place.command('explain', request_id, '--reveal', 'ticket 1042')}",
        )
    settings = settings_of(place)
    look = None if why is None else Look(new_id("req"), now_microseconds(), "operator", why)

    async def work(store: "Store") -> dict[str, Any] | None:
        log = open_log(settings, store)
        details = DetailReader(store.data_keys)
        explainer = Explainer(log, details, store.database, settings.url)
        try:
            for tenant, account_id in [*await accounts.list_tenants(store.database), _NOBODYS]:
                found = await explainer.explain(tenant, account_id, request_id, look)
                if found is not None:
                    if look is not None:
                        await store.database.write([look.record(tenant, request_id)])
                    return found
            return None
        finally:
            log.close()

    if not settings.request_log_path.exists():
        raise _no_log(place, str(settings.request_log_path.absolute()))
    explained = work_on(place, work)
    if explained is None:
        raise _unknown(request_id, settings.request_log_days)
    return explained


def _no_log(place: Place, path: str) -> Failure:
    return Failure(
        404,
        "log_missing",
        f"There is no request log: the file {path} does not exist.",
        "Give --data the folder of your server; one that runs with OPERATOR_REQUEST_LOG=off keeps"
        f" none:\n{place.command('serve')}",
        metadata={"path": path},
    )


def _unknown(request_id: str, days: float) -> Failure:
    return Failure(
        404,
        "resource_not_found",
        f"There is no request {request_id} in the log.",
        f"A request is kept for {days:g} days, as long as there is room. Check the id, and that"
        " --data is the folder of the server that answered it.",
        metadata={"resource": "request"},
    )
