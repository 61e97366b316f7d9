"""How long a call takes at most, and what calls do for each other: deadline, budget, gate, pace."""

import asyncio
import math
import time
from typing import Any

import httpx2
import pytest

from operator_api.client import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InternalServerError,
    RateLimitError,
)
from operator_api.client.shared import Registry
from operator_api.contract import errors
from operator_api.contract.errors import Problem
from operator_api.drill.answers import error_answer
from operator_api.drill.faults import Drip, Fault, Refuse, ResetAfter, Stall, Status
from operator_api.drill.plans import Always
from operator_api.drill.traffic import Answer, Seen
from tests.client.both import BOTH, Ask, Kind, at_once, create, errors_of, me
from tests.faulty import Answers, answering
from tests.servers import eventually

pytestmark = BOTH


class Limited(Answers):
    """Answers ten requests at once, then ten a second; refuses the others, as the server does."""

    empty_at = 0.0

    def __call__(self, seen: Seen) -> Answer:
        now = time.monotonic()
        start = max(self.empty_at, now - 1)
        if start + 0.1 > now:
            after = math.ceil(start + 0.1 - now)
            problem = Problem(errors.RATE_LIMITED, _LIMIT, after_seconds=after)
            answer = error_answer(problem, "http://host")
        else:
            self.empty_at = start = start + 0.1
            answer = super().__call__(seen)
        left = max(0, math.floor((now - start) * 10 + 1e-6))
        kept = tuple(each for each in answer.headers if not each[0].startswith("RateLimit"))
        told = (
            ("RateLimit-Policy", '"default";q=10;w=1'),
            ("RateLimit", f'"default";r={left};t=1'),
        )
        return Answer(answer.status, (*kept, *told), answer.body)


def creating(number: int) -> Ask:
    return lambda api: create(api, f"user{number}@example.com")


_LIMIT = {"limit": 10, "window_seconds": 1, "seconds": 1}


# --- the deadline ---


@pytest.mark.parametrize(
    "fault",
    [
        Drip(every=0.5, head=True),
        Drip(every=0.5),
        Stall(60, "instead"),
        Stall(60, "after"),
        Stall(60, "in_body"),
    ],
    ids=repr,
)
async def test_a_deadline_holds(kind: Kind, fault: Fault) -> None:
    """One byte per half second never lets a read time out, and is no way to be kept waiting."""
    with answering(Always(fault)) as server:
        async with kind.open(server.url, deadline=1.2) as client:
            began = time.monotonic()
            error = await client.fails(create)
            assert type(error) is APITimeoutError
            assert error.outcome == "unknown"
            assert 1.2 <= time.monotonic() - began < 1.7


@pytest.mark.parametrize("fault", [Drip(every=0.5, head=True), Drip(every=0.5)], ids=repr)
async def test_a_deadline_holds_for_an_http_client_that_is_given(kind: Kind, fault: Fault) -> None:
    with answering(Always(fault)) as server:
        given: Any = httpx2.Client() if kind.blocks else httpx2.AsyncClient()
        async with kind.open(server.url, deadline=1.2, http_client=given) as client:
            began = time.monotonic()
            assert type(await client.fails(create)) is APITimeoutError
            assert 1.2 <= time.monotonic() - began < 1.7
            # Another client of the same is no matter.
            async with kind.open(server.url, http_client=given) as other:
                server.proxy.use([])
                await other.do(me)
        if kind.blocks:
            given.close()
        else:
            await given.aclose()


async def test_a_deadline_holds_over_all_attempts_and_the_waits_between(kind: Kind) -> None:
    with answering(Always(Refuse("overloaded", 0.5))) as server:
        async with kind.open(server.url, deadline=1.2, max_retries=100) as client:
            began = time.monotonic()
            error = await client.fails(create)
            # What would end after it is not waited for.
            assert time.monotonic() - began < 1.5
            assert type(error) is InternalServerError
            assert error.attempts in {2, 3}
            assert error.retry_after == 0.5


async def test_a_timeout_is_for_one_attempt_and_a_deadline_for_the_call(kind: Kind) -> None:
    with answering(Always(Stall(60, "instead"))) as server:
        async with kind.open(
            server.url, timeout=0.3, deadline=1, max_retries=100, random=at_once
        ) as client:
            began = time.monotonic()
            error = await client.fails(create)
            assert 0.9 <= time.monotonic() - began < 1.5
            assert error.attempts == 4


async def test_options_of_one_call_are_its_own(kind: Kind) -> None:
    with answering([Stall(60, "instead")]) as server:
        async with kind.open(server.url) as client:
            began = time.monotonic()
            error = await client.fails(lambda api: create(api, deadline=0.4))
            assert 0.4 <= time.monotonic() - began < 0.9
            assert (type(error), error.attempts) == (APITimeoutError, 1)
            began = time.monotonic()
            await client.do(lambda api: create(api, timeout=5))
            assert time.monotonic() - began < 2


# --- the budget ---


@pytest.mark.parametrize("fault", [Status(500), Refuse("internal_error")], ids=repr)
async def test_a_thousand_calls_in_an_outage_make_1035_requests(kind: Kind, fault: Fault) -> None:
    """The bucket has 500 tokens and a retry costs 14: 35 retries, if no time passes at all."""
    with answering(Always(fault)) as server:
        async with kind.open(server.url, random=at_once, clock=lambda: 1000.0) as client:
            errors = [await client.fails(me) for _ in range(1000)]
            assert len(server.seen) == 1035
            assert {type(error) for error in errors} == {InternalServerError}
            # Eight calls have all their retries, the ninth three of four.
            assert [error.attempts for error in errors[:10]] == [*[5] * 8, 4, 1]
            assert [error.budget_exhausted for error in errors] == [False] * 8 + [True] * 992


async def test_a_thousand_calls_at_once_make_no_more_than_that_and_what_trickles_in(
    kind: Kind,
) -> None:
    with answering(Always(Refuse("internal_error"))) as server:
        async with kind.open(server.url) as client:
            began = time.monotonic()
            for _ in range(10):
                errors = await client.all([create] * 100)
                assert {type(error) for error in errors} == {InternalServerError}
            trickled = 0.5 * (time.monotonic() - began)
            assert 1035 <= len(server.seen) <= 1000 + (500 + trickled) / 14


async def test_refusals_to_serve_cost_less(kind: Kind) -> None:
    with answering(Always(Status(503))) as server:
        async with kind.open(server.url, random=at_once, clock=lambda: 1000.0) as client:
            for _ in range(200):
                assert isinstance(await client.fails(me), InternalServerError)
            assert len(server.seen) == 200 + 100  # 500 tokens, 5 a retry


async def test_a_limit_is_no_success_and_gives_nothing_back(kind: Kind) -> None:
    registry = Registry()
    with answering(Always(Refuse("rate_limited", 0.001))) as server:
        async with kind.open(server.url, registry=registry, random=at_once) as client:
            error = await client.fails(me)
            assert (type(error), error.attempts) == (RateLimitError, 5)
            left = registry.origin(server.url).budget.tokens(time.monotonic())
            assert left < 500 - 4 * 5 + 1


async def test_faults_that_pass_cost_nothing(kind: Kind) -> None:
    """Each call fails once, seven times as often as the budget would pay for."""
    passing: list[Fault | None] = [ResetAfter(), None]
    with answering(passing * 250) as server:
        async with kind.open(server.url, random=at_once, clock=lambda: 1000.0) as client:
            for number in range(250):
                await client.do(creating(number))
            assert len(server.seen) == 500
            assert set(server.created_per_key().values()) == {1}


async def test_what_a_client_gets_wrong_does_not_empty_the_budget(kind: Kind) -> None:
    with answering(Always(Refuse("already_exists"))) as server:
        async with kind.open(server.url, clock=lambda: 1000.0) as client:
            for _ in range(50):
                await client.fails(create)
            server.proxy.use([Refuse("internal_error")])
            await client.do(create)


# --- a server that is gone ---


async def test_calls_wait_together_for_a_server_that_comes_back(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url) as client:
            await client.do(me)
            server.proxy.close_port()
            asks = [creating(number) for number in range(40)]
            calls = asyncio.create_task(client.all(asks))
            await asyncio.sleep(2.5)
            assert not calls.done()
            back = time.monotonic()
            server.proxy.open_port()
            assert not errors_of(await calls)
            # The canary comes within 2 s, and the others within the second after it.
            assert time.monotonic() - back < 2 + 1 + 1.5
            came = [seen.at for seen in server.seen if seen.method == "POST"]
            assert max(came) - min(came) <= 1.5
            # They do not come all at once.
            assert max(came) - min(came) >= 0.3
            assert set(server.created_per_key().values()) == {1}
            assert len(server.created_per_key()) == 40


async def test_one_canary_at_a_time_finds_out_whether_a_server_is_back(kind: Kind) -> None:
    registry = Registry()
    with answering() as server:
        async with kind.open(server.url, registry=registry) as client:
            await client.do(me)
            server.proxy.close_port()
            calls = asyncio.create_task(client.all([me] * 30))
            await asyncio.sleep(1.5)
            # The waits between canaries are 0 to 0.25, 0.5, 1 and 2 seconds.
            assert 1 <= registry.origin(server.url).gate._failed <= 20
            budget = registry.origin(server.url).budget
            assert budget.tokens(time.monotonic()) == 500
            server.proxy.open_port()
            assert not errors_of(await calls)
            assert len([seen for seen in server.seen if seen.path == "/v1/me"]) == 31


async def test_a_call_waits_for_a_server_no_longer_than_its_deadline(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url, deadline=1.5) as client:
            await client.do(me)
            server.proxy.close_port()
            began = time.monotonic()
            errors = await client.all([create] * 5)
            assert 1.4 <= time.monotonic() - began < 2.5
            for error in errors:
                assert type(error) is APIConnectionError
                assert error.outcome == "not_executed"
            # Those who come now have met nothing themselves.
            error = await client.with_options(deadline=0.5).fails(create)
            assert isinstance(error, APIConnectionError)
            assert error.outcome == "not_executed"
            server.proxy.open_port()
            await client.do(create)


async def test_who_wants_no_retries_does_not_wait(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url, max_retries=0) as client:
            await client.do(me)
            server.proxy.close_port()
            began = time.monotonic()
            for _ in range(3):
                assert (await client.fails(create)).attempts == 1
            assert time.monotonic() - began < 1
            server.proxy.open_port()
            await client.do(create)


async def test_an_origin_that_never_answered_fails_after_the_usual_tries(kind: Kind) -> None:
    """A typo in an address must not hang for a minute."""
    with answering() as server:
        server.proxy.close_port()
        async with kind.open(server.url) as client:
            began = time.monotonic()
            error = await client.fails(me)
            assert (type(error), error.attempts) == (APIConnectionError, 5)
            assert time.monotonic() - began < 0.25 + 0.5 + 1 + 2 + 1


async def test_a_server_that_restarts_loses_nothing(kind: Kind) -> None:
    answers = Answers()
    with answering(answers=answers) as server:
        async with kind.open(server.url) as client:
            created = []
            for number in range(60):
                if number % 20 == 10 and number < 40:
                    server.proxy.close_port()
                    asyncio.get_running_loop().call_later(0.7, server.proxy.open_port)
                created += await client.all([creating(number)])
            assert not errors_of(created)
            assert len(answers.log) == 60


async def test_a_pool_without_a_free_connection_says_nothing_of_the_server(kind: Kind) -> None:
    registry = Registry()
    limits = httpx2.Limits(max_connections=1)
    with answering() as server:
        given = httpx2.Client(limits=limits) if kind.blocks else httpx2.AsyncClient(limits=limits)
        async with kind.open(server.url, registry=registry, http_client=given) as client:
            await client.do(me)
            server.proxy.use([Stall(1.2, "after")])
            slow = asyncio.create_task(client.do(me))
            await asyncio.to_thread(eventually, lambda: len(server.seen) == 2)
            hasty = client.with_options(timeout=0.3, max_retries=1)
            error = await hasty.fails(create)
            assert error.outcome == "not_executed"
            assert not registry.origin(server.url).gate._closed
            await slow
        if isinstance(given, httpx2.Client):
            given.close()
        else:
            await given.aclose()


# --- the pace of a token ---


async def test_a_policy_is_kept_after_the_first_refusal(kind: Kind) -> None:
    """Those that are on their way already may be refused, and no others."""
    with answering(answers=Limited()) as server:
        async with kind.open(server.url) as client:
            began = time.monotonic()
            answered = await client.all([me] * 30)
            assert not errors_of(answered)
            assert time.monotonic() - began >= 1.9  # 20 of them, at 10 a second
            assert len(server.seen) <= 30 + 20 + 3
            before = len(server.seen)
            assert not errors_of(await client.all([me] * 10))
            assert len(server.seen) <= before + 10 + 3


async def test_tokens_have_a_pace_each(kind: Kind) -> None:
    registry = Registry()
    with answering([Refuse("rate_limited", 2)]) as server:
        async with (
            kind.open(server.url, registry=registry) as one,
            kind.open(server.url, registry=registry, api_key="op_test_other") as other,
        ):
            held = asyncio.create_task(one.do(me))
            await asyncio.to_thread(eventually, lambda: server.seen and server.seen[0].answered)
            began = time.monotonic()
            await other.do(me)
            assert time.monotonic() - began < 1
            await held


async def test_a_limit_beyond_the_deadline_is_told_at_once_to_those_who_come_later(
    kind: Kind,
) -> None:
    with answering([Refuse("rate_limited", 100)]) as server:
        async with kind.open(server.url) as client:
            first = await client.fails(me)
            began = time.monotonic()
            second = await client.fails(me)
            assert time.monotonic() - began < 1
            assert type(first) is RateLimitError
            assert isinstance(second, APIError)
            assert (second.attempts, second.outcome) == (0, "not_executed")
            assert second.retry_after == pytest.approx(100, abs=2)
            assert len(server.seen) == 1
