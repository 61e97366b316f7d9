"""When a call is tried again: each line of the policy's table, against servers that fail so."""

import asyncio
import itertools
import socket
import time
from dataclasses import dataclass
from typing import Any

import pytest

from operator_api.client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestValidationError,
    UnprocessableEntityError,
)
from operator_api.contract.errors import Outcome
from operator_api.drill.faults import (
    Drip,
    Empty,
    Fault,
    Html,
    NotHttp,
    Refuse,
    ResetAfter,
    ResetBefore,
    ResetBeforeRequest,
    Skew,
    Stall,
    Status,
    Truncate,
    WrongJson,
)
from operator_api.drill.plans import Always
from tests.client.both import BOTH, EMAIL, Kind, at_once, create, errors_of, me
from tests.faulty import (
    answering,
    assert_none_too_early,
    attempts_per_key,
    bodies_per_key,
)
from tests.servers import eventually

pytestmark = BOTH

ALL = 5
"""Attempts, where ``max_retries`` is what it is by default: 4."""


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send writes without an idempotency key, as the client never does of its own."""
    monkeypatch.setattr("operator_api.client.core._key", lambda *_: None)


# --- the table ---


@dataclass(frozen=True)
class Row:
    """A fault that each attempt meets, how many attempts are made of what is replayable and of what
    is not, and what is then known of a write."""

    fault: Fault
    attempts: tuple[int, int]
    error: type[APIError]
    outcome: Outcome

    @property
    def options(self) -> dict[str, Any]:
        """What a client needs for it: the wait for an answer that does not come is short."""
        return {"timeout": 0.12} if self.error is APITimeoutError else {}


TABLE = [
    # Read or write timeout, reset, protocol error, truncated body.
    Row(ResetBefore(), (ALL, 1), APIConnectionError, "unknown"),
    Row(ResetAfter(), (ALL, 1), APIConnectionError, "unknown"),
    Row(Truncate(5), (ALL, 1), APIConnectionError, "unknown"),
    Row(Truncate(20, of="head"), (ALL, 1), APIConnectionError, "unknown"),
    Row(NotHttp(), (ALL, 1), APIConnectionError, "unknown"),
    Row(Stall(60), (ALL, 1), APITimeoutError, "unknown"),
    Row(Stall(60, "instead"), (ALL, 1), APITimeoutError, "unknown"),
    Row(Stall(60, "in_body"), (ALL, 1), APITimeoutError, "unknown"),
    Row(Drip(every=0.1), (ALL, 1), APITimeoutError, "unknown"),
    Row(Drip(every=0.1, head=True), (ALL, 1), APITimeoutError, "unknown"),
    # 408, 425, 429, 503.
    Row(Status(408), (ALL, ALL), APIStatusError, "not_executed"),
    Row(Status(425), (ALL, ALL), APIStatusError, "not_executed"),
    Row(Refuse("rate_limited", 0.02), (ALL, ALL), RateLimitError, "not_executed"),
    Row(Refuse("overloaded", 0.02), (ALL, ALL), InternalServerError, "not_executed"),
    Row(Status(503), (ALL, ALL), InternalServerError, "unknown"),
    # Other 5xx but 501 and 505. What our server rolled back, it says so.
    Row(Refuse("internal_error"), (ALL, 1), InternalServerError, "not_executed"),
    Row(Status(500), (ALL, 1), InternalServerError, "unknown"),
    Row(Html(502), (ALL, 1), InternalServerError, "unknown"),
    Row(Html(502, commits=True), (ALL, 1), InternalServerError, "unknown"),
    Row(Status(504), (ALL, 1), InternalServerError, "unknown"),
    Row(Status(501), (1, 1), InternalServerError, "unknown"),
    Row(Status(505), (1, 1), InternalServerError, "unknown"),
    # 409, of which one kind passes; that kind is never met without a key.
    Row(Refuse("idempotency_in_progress", 0.02), (ALL, 1), ConflictError, "not_executed"),
    Row(Refuse("already_exists"), (1, 1), ConflictError, "not_executed"),
    # A success whose type, JSON or schema is wrong.
    Row(Html(200, commits=True), (2, 1), APIResponseValidationError, "unknown"),
    Row(WrongJson('{"ok": true}'), (2, 1), APIResponseValidationError, "unknown"),
    Row(WrongJson('{"id": '), (2, 1), APIResponseValidationError, "unknown"),
    Row(WrongJson(media_type="text/html"), (2, 1), APIResponseValidationError, "unknown"),
    Row(Empty(), (2, 1), APIResponseValidationError, "unknown"),
    Row(Empty(status=201), (2, 1), APIResponseValidationError, "unknown"),
    Row(Status(204), (2, 1), APIResponseValidationError, "unknown"),
    # Any other 4xx.
    Row(Refuse("invalid_json"), (1, 1), BadRequestError, "not_executed"),
    Row(Status(402), (1, 1), APIStatusError, "not_executed"),
    Row(Refuse("insufficient_scope"), (1, 1), PermissionDeniedError, "not_executed"),
    Row(Refuse("unknown_endpoint"), (1, 1), NotFoundError, "not_executed"),
    Row(Refuse("precondition_failed"), (1, 1), APIStatusError, "not_executed"),
    Row(Status(418), (1, 1), APIStatusError, "not_executed"),
    Row(Refuse("validation_failed"), (1, 1), UnprocessableEntityError, "not_executed"),
    Row(Refuse("idempotency_key_reused"), (1, 1), UnprocessableEntityError, "not_executed"),
]
ROWS = pytest.mark.parametrize("row", TABLE, ids=lambda row: repr(row.fault))


@ROWS
async def test_what_is_replayable(kind: Kind, row: Row) -> None:
    with answering(Always(row.fault)) as server:
        async with kind.open(server.url, random=at_once, **row.options) as client:
            error = await client.fails(create)
            assert type(error) is row.error
            assert (error.attempts, error.outcome) == (row.attempts[0], row.outcome)
            assert [seen.header("x-operator-retry-count") for seen in server.seen] == [
                str(number) for number in range(row.attempts[0])
            ]
            assert attempts_per_key(server.seen) == {error.idempotency_key: row.attempts[0]}
            assert set(map(len, bodies_per_key(server.seen).values())) <= {1}
            assert len(server.answers.log) == (1 if row.fault.reaches else 0)


@ROWS
async def test_what_reads_is_replayable_without_a_key(kind: Kind, row: Row) -> None:
    with answering(Always(row.fault)) as server:
        async with kind.open(server.url, random=at_once, **row.options) as client:
            error = await client.with_options(max_retries=2).fails(me)
            assert (type(error), error.attempts) == (row.error, min(3, row.attempts[0]))
            assert (error.outcome, error.idempotency_key) == ("not_executed", None)
            assert len(server.seen) == error.attempts


@ROWS
async def test_what_is_not_replayable(kind: Kind, row: Row, keyless: None) -> None:
    with answering(Always(row.fault)) as server:
        async with kind.open(server.url, random=at_once, **row.options) as client:
            error = await client.fails(create)
            assert type(error) is row.error
            assert (error.attempts, error.outcome) == (row.attempts[1], row.outcome)
            assert len(server.seen) == row.attempts[1]
            assert len(server.answers.log) == (1 if row.fault.reaches else 0)


@ROWS
async def test_a_fault_that_passes_is_not_noticed(kind: Kind, row: Row) -> None:
    with answering([row.fault]) as server:
        options = {name: 4 * seconds for name, seconds in row.options.items()}
        async with kind.open(server.url, random=at_once, **options) as client:
            if row.attempts[0] == 1:
                await client.fails(create)
            else:
                user = await client.do(create)
                assert user.email == EMAIL
                assert len(server.seen) >= 2
                assert list(server.created_per_key().values()) == [1]
                assert [*server.answers.stored] == [user.id]


async def test_a_connection_that_is_reset_as_it_opens(kind: Kind) -> None:
    with answering([ResetBeforeRequest(), ResetBeforeRequest()]) as server:
        async with kind.open(server.url) as client:
            assert (await client.do(create)).email == EMAIL
            assert list(server.created_per_key().values()) == [1]


# --- never sent ---


@pytest.mark.parametrize("key", ["keyed", "keyless"])
async def test_a_refused_connection(kind: Kind, key: str, request: pytest.FixtureRequest) -> None:
    if key == "keyless":
        request.getfixturevalue("keyless")
    with answering() as server:
        server.proxy.close_port()
        async with kind.open(server.url, random=at_once) as client:
            error = await client.fails(create)
            assert type(error) is APIConnectionError
            assert (error.attempts, error.outcome) == (ALL, "not_executed")
            assert "Nothing was changed." in str(error)


async def test_a_name_that_does_not_exist(kind: Kind) -> None:
    async with kind.open("http://nowhere.invalid", random=at_once) as client:
        error = await client.fails(create)
        assert type(error) is APIConnectionError
        assert (error.attempts, error.outcome) == (ALL, "not_executed")


@pytest.mark.parametrize("key", ["keyed", "keyless"])
async def test_a_connection_that_is_not_accepted_in_time(
    kind: Kind, key: str, request: pytest.FixtureRequest
) -> None:
    if key == "keyless":
        request.getfixturevalue("keyless")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        # What the queue holds is accepted by the kernel; what comes later is left alone.
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            url = f"http://{address[0]}:{address[1]}"
            async with kind.open(url, random=at_once, timeout=0.15) as client:
                error = await client.fails(create)
                assert type(error) is APITimeoutError
                assert (error.attempts, error.outcome) == (ALL, "not_executed")


# --- what the server says of retrying ---


@pytest.mark.parametrize("reason", ["internal_error", "overloaded", "rate_limited"])
async def test_x_should_retry_false_always_wins(kind: Kind, reason: str) -> None:
    with answering([Refuse(reason, 0.1, should_retry=False)]) as server:
        async with kind.open(server.url) as client:
            assert (await client.fails(create)).attempts == 1
            assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422, 501])
async def test_x_should_retry_true_is_obeyed(kind: Kind, status: int) -> None:
    headers = (("X-Should-Retry", "true"),)
    with answering([Status(status, headers)]) as server:
        async with kind.open(server.url) as client:
            assert (await client.do(create)).email == EMAIL
            assert len(server.seen) == 2


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 501])
async def test_x_should_retry_true_is_not_enough_to_do_a_write_twice(
    kind: Kind, status: int, keyless: None
) -> None:
    with answering([Status(status, (("X-Should-Retry", "true"),))]) as server:
        async with kind.open(server.url) as client:
            assert (await client.fails(create)).attempts == 1
            assert len(server.seen) == 1


# --- Retry-After ---


@pytest.mark.parametrize(
    ("refusal", "least"),
    [
        (Refuse("overloaded", 0.3), 0.3),
        (Refuse("rate_limited", 0.3), 0.3),
        (Refuse("internal_error", 0.3), 0.3),
        (Refuse("overloaded", 1, as_date=True), 1.0),
        (Skew(-86_400, Refuse("rate_limited", 1, as_date=True)), 1.0),
        (Skew(31_536_000, Refuse("internal_error", 1, as_date=True)), 1.0),
    ],
    ids=repr,
)
async def test_a_retry_never_comes_earlier_than_asked(
    kind: Kind, refusal: Fault, least: float
) -> None:
    with answering([refusal]) as server:
        async with kind.open(server.url, random=at_once) as client:
            began = time.monotonic()
            await client.do(create)
            assert least <= time.monotonic() - began < least + 2
            assert_none_too_early(server.seen)


@pytest.mark.parametrize("garbage", ["-1", "soon", "nan", "inf", "1e3", "1;2", "0x10", "+1"])
async def test_garbage_in_retry_after_is_ignored(kind: Kind, garbage: str) -> None:
    with answering([Status(503, (("Retry-After", garbage),), commits=False)]) as server:
        async with kind.open(server.url, random=at_once) as client:
            began = time.monotonic()
            await client.do(create)
            assert time.monotonic() - began < 2
            assert len(server.seen) == 2


@pytest.mark.parametrize("reason", ["overloaded", "rate_limited"])
async def test_whoever_is_asked_to_wait_for_more_than_two_minutes_is_told(
    kind: Kind, reason: str
) -> None:
    with answering([Refuse(reason, 121)]) as server:
        async with kind.open(server.url, deadline=600) as client:
            began = time.monotonic()
            error = await client.fails(create)
            assert time.monotonic() - began < 2
            assert (error.retry_after, error.attempts) == (121, 1)
            assert error.outcome == "not_executed"


@pytest.mark.parametrize("reason", ["overloaded", "rate_limited"])
async def test_whoever_is_asked_to_wait_beyond_the_deadline_is_told_at_once(
    kind: Kind, reason: str
) -> None:
    with answering([Refuse(reason, 100)]) as server:
        async with kind.open(server.url) as client:
            began = time.monotonic()
            error = await client.fails(create)
            assert time.monotonic() - began < 2
            assert (error.retry_after, error.attempts) == (100, 1)


async def test_a_429_holds_back_all_calls_of_the_token(kind: Kind) -> None:
    with answering([Refuse("rate_limited", 1)]) as server:
        async with kind.open(server.url) as client:
            refused = asyncio.create_task(client.do(create))
            await asyncio.to_thread(eventually, lambda: any(each.answered for each in server.seen))
            await asyncio.sleep(0.1)  # that the client has read it
            began = time.monotonic()
            assert not errors_of(await client.all([me] * 5))
            await refused
            first, *others = server.seen
            assert first.answered_at is not None
            assert len(others) == 6
            assert min(each.at for each in others) - first.answered_at >= 1
            assert time.monotonic() - began < 4


# --- attempts ---


@pytest.mark.parametrize("max_retries", [0, 1, 2, 7])
async def test_max_retries(kind: Kind, max_retries: int) -> None:
    with answering(Always(Refuse("internal_error"))) as server:
        async with kind.open(server.url, random=at_once, max_retries=max_retries) as client:
            assert (await client.fails(create)).attempts == max_retries + 1
            assert len(server.seen) == max_retries + 1


async def test_max_retries_of_one_call_and_of_a_client_with_other_options(kind: Kind) -> None:
    with answering(Always(Refuse("internal_error"))) as server:
        async with kind.open(server.url, random=at_once) as client:
            assert (await client.fails(lambda api: create(api, max_retries=0))).attempts == 1
            assert (await client.with_options(max_retries=1).fails(create)).attempts == 2
            assert (await client.fails(create)).attempts == ALL
    assert len(server.seen) == 1 + 2 + ALL


async def test_the_callers_own_key_goes_with_each_attempt(kind: Kind) -> None:
    with answering([ResetAfter(), Refuse("overloaded", 0)]) as server:
        async with kind.open(server.url, random=at_once) as client:
            user = await client.do(lambda api: create(api, idempotency_key="order-7"))
            assert attempts_per_key(server.seen) == {"order-7": 3}
            assert server.created_per_key() == {"order-7": 1}
            raw = await client.do(
                lambda api: create(api.with_raw_response, idempotency_key="order-7")
            )
            assert raw.headers["Idempotent-Replayed"] == "true"
            assert raw.parse() == user


async def test_two_calls_have_two_keys(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url) as client:
            await client.do(create)
            await client.do(lambda api: create(api, "bob@example.com"))
            first, second = [seen.key for seen in server.seen]
            assert first != second


async def test_local_validation_sends_nothing(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url) as client:
            with pytest.raises(RequestValidationError):
                await client.do(lambda api: create(api, "ada"))
            assert server.proxy.accepted == 0


async def test_backoff_is_random_and_grows(kind: Kind) -> None:
    """With the greatest luck of the draw the waits are 0.25, 0.5, 1 and 2 seconds."""
    almost = itertools.repeat(0.4)
    with answering(Always(Refuse("internal_error"))) as server:
        async with kind.open(server.url, random=lambda: next(almost)) as client:
            await client.fails(create)
        waits = [
            later.at - (earlier.answered_at or 0)
            for earlier, later in itertools.pairwise(server.seen)
        ]
        for waited, least in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True):
            assert least <= waited < least + 1
