"""The log as an operation: a search of the requests of the caller's environment."""

from operator_api.contract.fields import to_microseconds
from operator_api.server.exchange import Answer, Call, Handler
from operator_api.server.lists import page, position
from operator_api.server.requests.log import RequestLog
from operator_api.server.requests.search import Query


def handlers(log: RequestLog) -> dict[str, Handler]:
    """Return the handlers."""

    async def list_requests(call: Call) -> Answer:
        found = await log.search(_query(call))
        return page(call, [entry.as_json() for entry in found])

    return {"requests.list": list_requests}


def _query(call: Call) -> Query:
    params = call.params
    place = position(call)
    return Query(
        tenant=call.tenant,
        most=place["most"],
        upto=place["after"],
        status=params.status,
        status_class=None if params.status_class is None else int(params.status_class[0]),
        reason=params.reason,
        operation=params.operation,
        token_id=params.token_id,
        address=None if params.address is None else params.address.lower(),
        client_request_id=params.client_request_id,
        after=None if params.after is None else to_microseconds(params.after),
        before=None if params.before is None else to_microseconds(params.before),
        words=() if params.q is None else params.q.split(),
    )
