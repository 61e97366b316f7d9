"""Clients in programs: cancellation, threads, forks, proxies, and tests of one's own."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from operator_api.client import (
    AsyncOperatorAI,
    ConfigurationError,
    NotFoundError,
    OperatorAI,
)
from operator_api.client.shared import Registry
from operator_api.drill.faults import Refuse, Stall
from operator_api.drill.plans import Always
from tests.client.both import BOTH, EMAIL, Kind, create, me
from tests.faulty import TOKEN, Answering, Answers, answering
from tests.servers import eventually

NEW = "op_test_" + "2" * 49

# --- interrupted ---


def connections_of(client: OperatorAI | AsyncOperatorAI) -> int:
    """Count the connections that a client has open."""
    transport: Any = client._sender.connections._transport
    return len(transport._pool.connections)


async def stalled(server: Answering, count: int) -> None:
    await asyncio.to_thread(eventually, lambda: len(server.seen) >= count)


async def test_a_task_that_is_cancelled_leaves_nothing_behind() -> None:
    kind = Kind("async")
    registry = Registry()
    with answering(Always(Stall(30, "instead"))) as server:
        async with kind.open(server.url, registry=registry) as client:
            tasks = [asyncio.create_task(client.do(create)) for _ in range(20)]
            await stalled(server, 20)
            for task in tasks:
                task.cancel()
            assert {
                type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)
            } == {asyncio.CancelledError}
            assert connections_of(client.api) == 0
            assert server.proxy.accepted == 20  # nothing was tried again
            server.proxy.use([])
            await client.do(create)
            assert registry.origin(server.url).budget.tokens(time.monotonic()) == 500


@pytest.mark.parametrize("wait", ["pace", "backoff", "gate"])
async def test_a_task_that_is_cancelled_while_it_waits_holds_up_nobody(wait: str) -> None:
    kind = Kind("async")
    with answering() as server:
        async with kind.open(server.url) as client:
            await client.do(me)
            if wait == "gate":
                server.proxy.close_port()
            else:
                refusal = Refuse("rate_limited" if wait == "pace" else "overloaded", 1)
                server.proxy.use([refusal])
            tasks = [asyncio.create_task(client.do(me)) for _ in range(10)]
            await asyncio.sleep(0.4)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if wait == "gate":
                server.proxy.open_port()
            began = time.monotonic()
            await client.do(create)
            assert time.monotonic() - began < 3.5


class StopError(BaseException):
    """As KeyboardInterrupt, which would stop the tests."""


def test_a_thread_that_is_interrupted_leaves_nothing_behind() -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise StopError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with (
            answering([Stall(30, "instead")]) as server,
            OperatorAI(base_url=server.url, api_key=TOKEN) as client,
        ):
            thread = threading.Thread(target=lambda: _interrupt_when(lambda: bool(server.seen)))
            thread.start()
            with pytest.raises(StopError):
                client.users.create(email=EMAIL)
            thread.join()
            assert connections_of(client) == 0
            assert client.users.create(email=EMAIL).email == EMAIL
            # While it waits: for the server's pause, then at the gate.
            server.proxy.use([Refuse("rate_limited", 0.8)])
            thread = threading.Thread(
                target=lambda: _interrupt_when(lambda: server.seen[-1].answered == 429)
            )
            thread.start()
            with pytest.raises(StopError):
                client.me.get()
            thread.join()
            began = time.monotonic()
            client.me.get()
            assert time.monotonic() - began < 2.5
    finally:
        signal.signal(signal.SIGUSR1, before)


def _interrupt_when(condition: Callable[[], bool]) -> None:
    eventually(condition)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGUSR1)


# --- threads, processes, closing ---


@BOTH
async def test_many_calls_at_once_get_their_own_answers(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url) as client:
            emails = [f"user{number}@example.com" for number in range(300)]
            made = await client.all([_creating(email) for email in emails])
            assert [user.email for user in made] == emails
            assert len(server.answers.log) == 300


def _creating(email: str) -> Callable[[Any], Any]:
    return lambda api: create(api, email)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_connections_of_its_own() -> None:
    with answering() as server, OperatorAI(base_url=server.url, api_key=TOKEN) as client:
        client.me.get()
        assert server.proxy.accepted == 1
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(3):
                    client.me.get()
                client.close()
                status = 0
            finally:
                os._exit(status)
        for _ in range(5):
            client.me.get()
        assert os.waitpid(child, 0)[1] == 0
        client.me.get()
        connections = {seen.connection for seen in server.seen}
        assert len(connections) == 2
        assert server.proxy.accepted == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_a_thread_asks_for_a_token_locks_nobody_out() -> None:
    asking, go_on, parent = threading.Event(), threading.Event(), os.getpid()

    def vault() -> str:
        if os.getpid() == parent:
            asking.set()
            go_on.wait(10)
        return TOKEN

    with answering() as server, OperatorAI(base_url=server.url, api_key=vault) as client:
        thread = threading.Thread(target=client.me.get)
        thread.start()
        assert asking.wait(10)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(10)  # instead of waiting for ever
                client.me.get()
                status = 0
            finally:
                os._exit(status)
        try:
            assert os.waitpid(child, 0)[1] == 0
        finally:
            go_on.set()
            thread.join()


@BOTH
async def test_a_closed_client_says_so(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url) as client:
            await client.do(me)
            other = client.with_options(timeout=3)
            await client.close()
            await client.close()
            for each in (client, other):
                with pytest.raises(ConfigurationError, match="closed"):
                    await each.do(me)
            eventually(lambda: server.proxy.open_connections == 0)


@BOTH
async def test_connections_are_kept_and_shared_by_clients_with_other_options(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url) as client:
            for _ in range(5):
                await client.do(me)
            other = client.with_options(deadline=5, default_headers={"X-Team": "blue"})
            await other.do(me)
            assert server.proxy.accepted == 1
            assert server.seen[-1].header("x-team") == "blue"
            assert server.seen[0].header("x-team") is None


@BOTH
async def test_options_that_cannot_be(kind: Kind) -> None:
    async with kind.open("http://127.0.0.1:1") as client:
        for options in ({"timeout": 0}, {"deadline": -1}, {"max_retries": -1}, {"base_url": "x"}):
            with pytest.raises(ConfigurationError):
                client.with_options(**options)
        for headers in ({"Authorization": "x"}, {"X-A": "a\r\nX-B: b"}, {"idempotency-key": "k"}):
            with pytest.raises(ConfigurationError):
                client.with_options(default_headers=headers)
            with pytest.raises(ConfigurationError):
                await client.do(lambda api, h=headers: api.me.get(extra_headers=h))  # type: ignore[misc] # the default binds it
        with pytest.raises(TypeError, match="tiemout"):
            client.with_options(tiemout=5)


# --- proxies ---


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@BOTH
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_used(
    kind: Kind, name: str, no_proxies: pytest.MonkeyPatch
) -> None:
    with answering() as proxy:
        no_proxies.setenv(name, proxy.url)
        async with kind.open("http://api.example.com") as client:
            assert isinstance(await client.fails(me), NotFoundError)  # of a whole address
        (seen,) = proxy.seen
        assert seen.path == "http://api.example.com/v1/me"
        assert seen.header("host") == "api.example.com"


@BOTH
@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "localhost,127.0.0.1"])
async def test_no_proxy_is_obeyed(
    kind: Kind, exception: str, no_proxies: pytest.MonkeyPatch
) -> None:
    with answering() as proxy, answering() as server:
        no_proxies.setenv("HTTP_PROXY", proxy.url)
        no_proxies.setenv("NO_PROXY", exception)
        async with kind.open(server.url) as client:
            await client.do(me)
        assert proxy.proxy.accepted == 0


@BOTH
async def test_a_proxy_that_is_gone_does_not_close_the_gate_of_the_server(
    kind: Kind, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with kind.open("http://api.example.com", max_retries=1) as client:
        error = await client.fails(create)
        assert (error.attempts, error.outcome) == (2, "not_executed")


# --- testing one's own code ---

USER: dict[str, Any] = {
    "id": "usr_0197b1c2d3e4f5061718293a4b5c6d7e",
    "name": "Ada",
    "email": EMAIL,
    "phone": None,
    "tags": [],
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.000000Z",
}


@BOTH
async def test_a_transport_of_httpx2_answers_in_the_servers_place(kind: Kind) -> None:
    requests: list[httpx2.Request] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(201, json=USER)

    given = kind.http_client(respond)
    async with kind.open("http://api.test/base/v1", http_client=given) as client:
        user = await client.do(lambda api: create(api, name="Ada"))
        assert (user.id, user.name) == (USER["id"], "Ada")
    (request,) = requests
    assert str(request.url) == "http://api.test/base/v1/users"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Idempotency-Key"]
    assert not given.is_closed, "it is its owner's to close"


@BOTH
async def test_an_http_client_that_is_given_does_not_follow_or_authorize_by_itself(
    kind: Kind,
) -> None:
    seen: list[httpx2.Request] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(307, headers={"Location": "http://elsewhere.test/"})

    given: Any = (httpx2.Client if kind.blocks else httpx2.AsyncClient)(
        transport=httpx2.MockTransport(respond), follow_redirects=True, auth=("user", "password")
    )
    async with kind.open("http://api.test", http_client=given, max_retries=0) as client:
        await client.fails(me)
    (request,) = seen
    assert request.url.host == "api.test"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"


@BOTH
async def test_retries_can_be_tested_with_it_too(kind: Kind) -> None:
    first: list[httpx2.Response | Exception] = [
        httpx2.Response(500),
        httpx2.ConnectError("gone"),
        httpx2.Response(200),
    ]
    answers = iter(first)

    def respond(_request: httpx2.Request) -> httpx2.Response:
        answer = next(answers, None)
        if isinstance(answer, Exception):
            raise answer
        return answer or httpx2.Response(201, json=USER)

    given = kind.http_client(respond)
    async with kind.open("http://api.test", http_client=given) as client:
        raw = await client.do(lambda api: create(api.with_raw_response))
        assert (raw.attempts, raw.status_code, raw.parse().email) == (4, 201, EMAIL)


# --- the environment ---


@BOTH
async def test_what_is_not_given_comes_from_the_environment(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answers=Answers(tokens={NEW})) as server:
        monkeypatch.setenv("OPERATOR_API_KEY", f" {NEW}\n")
        monkeypatch.setenv("OPERATOR_BASE_URL", f"{server.url}/v1/")
        if kind.blocks:
            with OperatorAI() as client:
                await asyncio.to_thread(client.me.get)
        else:
            async with AsyncOperatorAI() as async_client:
                await async_client.me.get()
        assert [seen.path for seen in server.seen] == ["/v1/me"]


@pytest.mark.parametrize("client", [OperatorAI, AsyncOperatorAI])
def test_without_a_key_it_says_how_to_get_one(
    client: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPERATOR_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPERATOR_API_KEY"):
        client()
