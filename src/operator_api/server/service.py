"""What the ones who run the server ask: is it alive, can it work, what is its contract."""

from collections.abc import Awaitable, Callable, Mapping

from operator_api.contract.errors import SHUTTING_DOWN, STORE_UNAVAILABLE, Problem
from operator_api.server.exchange import Answer, Call, Handler
from operator_api.server.metrics import CONTENT_TYPE

# Says how a part is; raises Problem where the server cannot work without it.
Check = Callable[[], Awaitable[str]]


def handlers(
    *,
    openapi: bytes,
    metrics: Callable[[], bytes],
    checks: Mapping[str, Check],
    is_closing: Callable[[], bool],
) -> dict[str, Handler]:
    """Return the handlers; ``is_closing`` says that the server is about to stop."""

    async def live(_call: Call) -> Answer:
        return Answer({"status": "ok"})

    async def ready(_call: Call) -> Answer:
        if is_closing():
            raise Problem(SHUTTING_DOWN)
        found = {}
        for name, check in checks.items():
            try:
                found[name] = await check()
            except Problem as problem:
                raise Problem(STORE_UNAVAILABLE, {"checks": {**found, name: "failed"}}) from problem
        return Answer({"status": "ready", "checks": found})

    async def count(_call: Call) -> Answer:
        return Answer(metrics(), content_type=(b"content-type", CONTENT_TYPE))

    async def describe(_call: Call) -> Answer:
        return Answer(openapi, [(b"cache-control", b"public, max-age=300")])

    return {
        "service.live": live,
        "service.ready": ready,
        "service.metrics": count,
        "service.openapi": describe,
    }
