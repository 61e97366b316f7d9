"""Find a logged request in a store, whosever it is, and have it explained for the operator.

This module imports the server; ``explain`` imports it when it is asked for a request.
"""

from typing import TYPE_CHECKING, Any

from operator_api.cli.options import Place
from operator_api.cli.problems import Failure, usage
from operator_api.cli.store import explained, operator_of, settings_of, work_on
from operator_api.contract.fields import REQUEST_ID
from operator_api.server import accounts
from operator_api.server.app import AlreadyServedError, lock_data, open_log
from operator_api.server.data_keys import erase as erase_data_key
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


def erase_log(account: str, place: Place) -> bool:
    """Delete what the log keeps of an account; False if there is no log. The server is stopped.

    Its data key is destroyed first: what was sealed is then beyond recovery, in a copy of the file
    too.
    """
    settings = settings_of(place)

    async def work(store: "Store") -> bool:
        owner = await operator_of(store, place, account, "live")
        tenants = [
            tenant
            for tenant, account_id in await accounts.list_tenants(store.database)
            if account_id == owner.account_id
        ]
        await store.database.write([erase_data_key(owner.account_id)])
        if not settings.request_log_path.exists():
            return False
        log = open_log(settings, store)
        log.start()
        try:
            if not await log.erase(tenants):
                raise _not_erased(str(settings.request_log_path.absolute()))
        finally:
            log.close()
        return True

    if not settings.database_path.exists():
        return work_on(place, work)  # which says that there is no store
    with explained(settings, place):
        try:
            lock = lock_data(settings.data)
        except AlreadyServedError:
            raise _served(place) from None
    with lock:
        return work_on(place, work)


def _served(place: Place) -> Failure:
    return Failure(
        409,
        "already_served",
        "A server runs on this data folder, and goes on writing its log.",
        f"Stop it, run this again, and start it:\n{place.command('serve')}",
    )


def _not_erased(path: str) -> Failure:
    return Failure(
        503,
        "log_unusable",
        f"The data key is destroyed, but the rows of {path} could not be deleted.",
        "See that the disk has room and the file can be written, and run this again.",
        metadata={"path": path},
    )


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
