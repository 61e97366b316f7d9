"""What the ones who run the server ask: is it alive, can it work, what is its contract."""

from collections.abc import Callable

from operator_api.contract.errors import SHUTTING_DOWN, Problem
from operator_api.server.exchange import Answer, Call, Handler


def handlers(openapi: bytes, is_closing: Callable[[], bool]) -> dict[str, Handler]:
    """Return the handlers; ``is_closing`` says that the server is about to stop."""

    async def live(_call: Call) -> Answer:
        return Answer({"status": "ok"})

    async def ready(call: Call) -> Answer:
        if is_closing():
            raise Problem(SHUTTING_DOWN)
        await call.database.check()
        return Answer({"status": "ready", "checks": {"database": "ok"}})

    async def describe(_call: Call) -> Answer:
        return Answer(openapi, [(b"cache-control", b"public, max-age=300")])

    return {"service.live": live, "service.ready": ready, "service.openapi": describe}
