"""How an answer is written, whatever makes it: here, ASGI applications beside the pipeline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from operator_api.server.asgi import mounted
from operator_api.server.http import Connection, Edge
from tests.errors import assert_error
from tests.wire import Wire

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(*answers: list[dict[str, Any]]) -> AsyncIterator[tuple[str, int]]:
    """Serve an application that gives the answers in turn, as ASGI messages, and return where."""
    left = list(answers)

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        for message in left.pop(0):
            await send(message)

    respond = mounted(application, scheme="http", body_bytes=1000)
    config = uvicorn.Config(
        respond, http=Connection, ws="none", interface="asgi3", proxy_headers=False, log_config=None
    )
    config.load()
    edge = Edge(public_url="http://x", receive_seconds=5, keep_alive_seconds=5)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, edge, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        edge.abort()


def started(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def ask_all(address: tuple[str, int], times: int) -> list[httpx2.Response]:
    with Wire(address) as wire:
        return [wire.send(GET).answer() for _ in range(times)]


async def test_an_answer_may_come_in_parts() -> None:
    length = (b"content-length", b"4")
    async with serving(
        [started(), part(b"ab", more=True), part(b"", more=True), part(b"cd")],
        [started(length), part(b"ab", more=True), part(b"cd")],
        [started(length), part(b"abcd", more=True), part(b"")],
        [started(), part(b"")],
    ) as address:
        answers = await asyncio.to_thread(ask_all, address, 4)
    assert [answer.content for answer in answers] == [b"abcd", b"abcd", b"abcd", b""]


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: b", b"a\nb", b"a\rb", b"a\0b", b"a\r", b"\n"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.filterwarnings("ignore")
async def test_no_header_can_be_smuggled_into_an_answer(value: bytes, place: int) -> None:
    headers = [(b"content-length", b"0"), (b"x-b", b"b")]
    headers.insert(place, (b"x-a", value))
    async with serving([started(*headers), part(b"")]) as address:
        (answer,) = await asyncio.to_thread(ask_all, address, 1)
    error = assert_error(answer, 500, "internal_error")
    assert error["outcome"] == "unknown"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [started((b"content-length", b"3")), part(b"too long")],
        [started((b"content-length", b"30")), part(b"too short")],
        [part(b"")],
    ],
)
async def test_an_application_that_cannot_answer_is_an_internal_error(messages: Any) -> None:
    async with serving(messages) as address:
        (answer,) = await asyncio.to_thread(ask_all, address, 1)
    assert_error(answer, 500, "internal_error")
    assert answer.headers["connection"] == "close"
