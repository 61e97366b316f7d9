"""The retry budget: its numbers, exactly, and that threads cannot bend them."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operator_api.client.budget import CAPACITY, COST, GAIN, THROTTLED_COST, TRICKLE, RetryBudget
from operator_api.client.policy import Failure, Kind

BROKEN, SERVER_ERROR = Failure(Kind.BROKEN), Failure(Kind.STATUS, 500)
LIMITED, UNAVAILABLE = Failure(Kind.STATUS, 429), Failure(Kind.STATUS, 503)


def emptied(now: float = 0.0) -> RetryBudget:
    """A budget that has less than any retry costs: 35 retries of 14, and 2 of 5, take it all."""
    budget = RetryBudget()
    while budget.take(SERVER_ERROR, now) or budget.take(LIMITED, now):
        pass
    assert budget.tokens(now) == 0
    return budget


def test_the_numbers() -> None:
    assert (CAPACITY, COST, THROTTLED_COST, GAIN, TRICKLE) == (500, 14, 5, 1, 0.5)


@pytest.mark.parametrize(
    ("failure", "cost"),
    [
        (Failure(Kind.NEVER_SENT), 14),
        (BROKEN, 14),
        (SERVER_ERROR, 14),
        (Failure(Kind.STATUS, 408), 14),
        (Failure(Kind.INVALID_ANSWER, 200), 14),
        (LIMITED, 5),
        (UNAVAILABLE, 5),
    ],
)
def test_what_a_retry_costs(failure: Failure, cost: float) -> None:
    budget = RetryBudget()
    assert budget.take(failure, 0) == cost
    assert budget.tokens(0) == 500 - cost


@pytest.mark.parametrize(
    ("failure", "requests"), [(SERVER_ERROR, 1035), (BROKEN, 1035), (LIMITED, 1100)]
)
def test_a_thousand_calls_into_an_outage(failure: Failure, requests: int) -> None:
    """Time stands still, and each call would try four more times."""
    budget, sent = RetryBudget(), 0
    for _ in range(1000):
        sent += 1
        for _ in range(4):
            if budget.take(failure, 0) is None:
                break
            sent += 1
    assert sent == requests


def test_faults_that_pass_cost_nothing() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        spent = sum(filter(None, [budget.take(BROKEN, 0), budget.take(LIMITED, 0)]))
        assert spent == 19
        budget.succeeded(first_try=False, spent=spent, now=0)
    assert budget.tokens(0) == 500


def test_a_success_at_the_first_attempt_gives_one() -> None:
    budget = emptied()
    for _ in range(13):
        budget.succeeded(first_try=True, spent=0, now=0)
    assert budget.take(SERVER_ERROR, 0) is None
    budget.succeeded(first_try=True, spent=0, now=0)
    assert budget.take(SERVER_ERROR, 0) == 14


def test_a_retry_that_cost_nothing_gives_nothing() -> None:
    """As after a wait at the gate, or with a new token."""
    budget = emptied()
    budget.succeeded(first_try=False, spent=0, now=0)
    assert budget.tokens(0) == 0


def test_it_trickles() -> None:
    budget = emptied(now=100)
    assert budget.tokens(110) == 5
    assert budget.take(LIMITED, 109) == 5, "a thread whose reading of the clock is older"
    assert budget.tokens(110) == 0
    assert budget.tokens(10**6) == 500


def test_a_call_that_fails_for_good_gets_nothing_back() -> None:
    budget = RetryBudget()
    budget.take(SERVER_ERROR, 0)
    assert budget.tokens(0) == 486


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "throttled", "first", "after"]),
        st.floats(-5, 100),
        st.floats(0, 70),
    ),
    max_size=200,
)


@given(steps)
def test_it_is_never_negative_and_never_above_its_capacity(
    steps: list[tuple[str, float, float]],
) -> None:
    budget, now = RetryBudget(), 0.0
    for step, ahead, spent in steps:
        now += ahead
        match step:
            case "take":
                assert budget.take(BROKEN, now) in {None, 14}
            case "throttled":
                assert budget.take(LIMITED, now) in {None, 5}
            case "first":
                budget.succeeded(first_try=True, spent=0, now=now)
            case "after":
                budget.succeeded(first_try=False, spent=spent, now=now)
        assert 0 <= budget.tokens(now) <= 500


def test_threads_take_no_more_than_there_is() -> None:
    budget, start = RetryBudget(), threading.Barrier(8)
    taken: list[float | None] = []

    def hammer() -> None:
        start.wait()
        taken.extend(budget.take(LIMITED, 0) for _ in range(500))

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(filter(None, taken)) == 500
    assert budget.tokens(0) == 0
