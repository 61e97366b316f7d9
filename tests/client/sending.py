"""The least that the resources need to reach a real server: one request for each call."""

from typing import Any, TypeVar

import httpx2

from operator_api.client.answers import read_answer
from operator_api.client.call import Call
from operator_api.client.responses import RawResponse, Response
from operator_api.contract.headers import IDEMPOTENCY_KEY
from operator_api.contract.operations import BY_NAME

T = TypeVar("T")


class Sender:
    """Sends calls, and keeps them for the test to look at."""

    def __init__(self, api: httpx2.Client) -> None:
        self._api = api
        self.calls: list[Call[Any]] = []

    def raw(self, call: Call[T], /) -> RawResponse[T]:
        self.calls.append(call)
        return _raw(call, self._api.request(**_request(call)))

    def __call__(self, call: Call[T], /) -> T:
        return self.raw(call).parse()


class AsyncSender:
    """The same, awaited."""

    def __init__(self, api: httpx2.AsyncClient) -> None:
        self._api = api
        self.calls: list[Call[Any]] = []

    async def raw(self, call: Call[T], /) -> RawResponse[T]:
        self.calls.append(call)
        return _raw(call, await self._api.request(**_request(call)))

    async def __call__(self, call: Call[T], /) -> T:
        return (await self.raw(call)).parse()


def _request(call: Call[Any]) -> dict[str, Any]:
    operation = BY_NAME[call.operation]
    headers = dict(call.options.get("extra_headers", {}))
    if key := call.options.get("idempotency_key"):
        headers[IDEMPOTENCY_KEY] = key
    return {
        "method": operation.method,
        "url": operation.path.format_map(call.ids),
        "params": {name: str(value) for name, value in call.params.items()},
        "json": call.body,
        "headers": headers,
    }


def _raw(call: Call[T], came: httpx2.Response) -> RawResponse[T]:
    operation = BY_NAME[call.operation]
    assert came.status_code == operation.status, came.text

    def parse() -> T:
        answer: T = read_answer(operation, came.content)
        return answer

    return RawResponse(Response(came.status_code, came.headers, came.content), parse)
