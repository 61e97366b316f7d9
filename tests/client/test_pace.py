"""The pace of a token: the server's limit is met at its rate, and not run into again and again."""

import math
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operator_api.client.pace import (
    ASSUMED_FOR,
    ASSUMED_HOLD,
    ASSUMED_QUOTA,
    LONGEST_GUESS,
    LONGEST_HOLD,
    Pace,
)
from operator_api.client.policy import Failure, Kind, RateLimit, wait
from operator_api.server.limits import Policy
from operator_api.server.limits.limiter import NANOSECONDS, decide
from tests.client.simulation import Process, World


def limit(remaining: int, quota: int = 20, window: int = 1) -> RateLimit:
    return RateLimit(remaining, None, quota, window)


def told(remaining: int, now: float = 0.0, quota: int = 20, window: int = 1) -> Pace:
    """A pace that has had one answer."""
    pace = Pace()
    pace.admit(now)
    pace.answered(limit(remaining, quota, window), now)
    return pace


def admitted_at_once(pace: Pace, now: float) -> int:
    """How many calls may go now, up to a thousand."""
    return next((n for n in range(1000) if pace.admit(now) > now), 1000)


# --- before anything is known, and while plenty is left ---


def test_all_go_at_once_while_the_server_says_nothing() -> None:
    pace = Pace()
    assert admitted_at_once(pace, 0) == 1000
    pace.answered(None, 0)
    assert admitted_at_once(pace, 0) == 1000


def test_a_limit_without_a_policy_changes_nothing() -> None:
    pace = Pace()
    pace.answered(RateLimit(0), 0)
    assert admitted_at_once(pace, 0) == 1000


def test_what_remains_may_go_at_once_and_the_rest_at_the_rate() -> None:
    pace = told(remaining=5)
    assert admitted_at_once(pace, 0) == 5
    # The last that was asked for had reserved the first slot.
    assert [pace.admit(0) for _ in range(3)] == pytest.approx([0.10, 0.15, 0.20])


def test_calls_in_flight_are_not_in_what_remains() -> None:
    """Ten leave together; the first of their answers says 19 of 20 are left, as of that moment."""
    pace = Pace()
    for _ in range(10):
        pace.admit(0)
    pace.answered(limit(19), 0)
    assert admitted_at_once(pace, 0) == 10


def test_at_most_half_is_taken_off_for_calls_in_flight() -> None:
    """Some of them may never have got there."""
    pace = Pace()
    for _ in range(500):
        pace.admit(0)
    pace.answered(limit(18), 0)
    assert admitted_at_once(pace, 0) == 9


def test_the_quota_comes_back_with_time_and_is_never_exceeded() -> None:
    pace = told(remaining=0)
    assert admitted_at_once(pace, 0.5) == 10
    pace = told(remaining=0)
    assert admitted_at_once(pace, 3600) == 20


def test_others_that_use_the_token_are_seen_in_what_remains() -> None:
    pace = told(remaining=19)
    pace.answered(limit(3), 0)
    assert admitted_at_once(pace, 0) == 3


def test_what_remains_is_rounded_down_and_costs_no_fraction() -> None:
    """The answer says 0 while nine tenths of a request have come back."""
    pace = told(remaining=0)
    pace.answered(limit(0), 0.045)
    assert pace.admit(0.045) == pytest.approx(0.05)


def test_another_policy_is_taken_over() -> None:
    pace = told(remaining=0, quota=20)
    pace.answered(limit(0, quota=2), 0)
    assert [pace.admit(0) for _ in range(2)] == pytest.approx([0.5, 1.0])


def test_a_mirror_that_was_wrong_is_set_right() -> None:
    """Where nobody waits and the server has plenty, as after a window that begins anew."""
    pace = told(remaining=0)
    pace.answered(limit(20), 0)
    assert admitted_at_once(pace, 0) == 10


def test_it_is_not_set_right_while_somebody_waits_or_little_is_left() -> None:
    pace = told(remaining=0)
    pace.answered(limit(9), 0)
    assert pace.admit(0) == pytest.approx(0.05)
    pace.answered(limit(20), 0)
    assert pace.admit(0) == pytest.approx(0.10)


# --- a guess keeps nobody waiting for long ---


def test_nobody_waits_long_for_what_the_server_did_not_say() -> None:
    """A quota a day: the mirror is empty, but the server has not said that its own is."""
    pace = told(remaining=3, quota=1000, window=86_400)
    for _ in range(3):
        assert pace.admit(0) == 0
    assert [pace.admit(0) for _ in range(5)] == [0] * 5
    pace.answered(limit(0, 1000, 86_400), 0)
    assert pace.admit(0) > LONGEST_GUESS


# --- after a 429 ---


def test_a_refusal_holds_everybody_back_and_then_lets_go_at_the_rate() -> None:
    pace = told(remaining=19, now=100)
    pace.refused(2, limit(0), 100)
    slots = [pace.admit(100) for _ in range(4)]
    assert slots == pytest.approx([102, 102.05, 102.10, 102.15])
    assert min(slots) >= 102


def test_who_has_a_slot_needs_not_ask_again() -> None:
    pace = told(remaining=0)
    slot = pace.admit(0)
    pace.answered(limit(0), 0.01)
    assert pace.confirm(slot, slot) == slot


def test_a_refusal_moves_the_slots_that_are_too_early_and_no_others() -> None:
    pace = told(remaining=0)
    early, *_, late = [pace.admit(0) for _ in range(40)]
    assert late == pytest.approx(2)
    pace.refused(1, limit(0), 0.01)
    assert pace.confirm(early, early) == pytest.approx(2.05)
    assert pace.confirm(late, late) == late


def test_the_longest_of_several_refusals_holds() -> None:
    pace = told(remaining=0)
    pace.refused(5, limit(0), 0)
    pace.refused(1, limit(0), 0)
    assert pace.admit(0) == 5


def test_a_refusal_without_retry_after_or_policy() -> None:
    pace = Pace()
    pace.refused(None, None, 10)
    slots = [pace.admit(10) for _ in range(3)]
    first, step = 10 + ASSUMED_HOLD, 1 / ASSUMED_QUOTA
    assert slots == pytest.approx([first, first + step, first + 2 * step])


def test_an_assumed_policy_is_given_up_when_no_refusal_follows() -> None:
    pace = Pace()
    pace.refused(1, None, 0)
    end = 1 + ASSUMED_FOR
    assert admitted_at_once(pace, end - 0.01) == ASSUMED_QUOTA
    assert admitted_at_once(pace, end) == 1000
    pace.refused(1, None, end)
    assert pace.admit(end) == end + 1


def test_an_assumed_policy_lasts_as_long_as_refusals_do() -> None:
    pace = Pace()
    pace.refused(1, None, 0)
    pace.refused(1, RateLimit(0), 8)
    assert admitted_at_once(pace, 1 + ASSUMED_FOR) == ASSUMED_QUOTA
    assert admitted_at_once(pace, 9 + ASSUMED_FOR) == 1000


def test_a_policy_takes_the_place_of_an_assumed_one() -> None:
    pace = Pace()
    pace.refused(1, None, 0)
    pace.answered(limit(1), 1)
    assert admitted_at_once(pace, 10**6) == 20


def test_one_answer_does_not_disable_a_token_for_ever() -> None:
    pace = Pace()
    pace.refused(1e9, None, 0)
    assert pace.admit(0) == LONGEST_HOLD


# --- calls that give up ---


def test_a_slot_after_the_deadline_is_told_and_not_reserved() -> None:
    pace = told(remaining=0)
    pace.refused(2, limit(0), 0)
    assert [pace.admit(0, deadline=1) for _ in range(100)] == [2] * 100
    assert pace.admit(0, deadline=2) == 2


def test_a_slot_that_was_given_up_is_the_next_ones() -> None:
    pace = told(remaining=0)
    first, second, third = (pace.admit(0) for _ in range(3))
    pace.give_up(second, 0)
    pace.give_up(first, 0)
    assert pace.admit(0, deadline=0.01) == first, "too late for this one: it stays free"
    assert [pace.admit(0) for _ in range(3)] == pytest.approx([first, second, third + 0.05])


def test_a_slot_that_was_given_up_and_has_passed_counts_as_unused() -> None:
    pace = told(remaining=0)
    slots = [pace.admit(0) for _ in range(10)]
    for slot in slots[:9]:
        pace.give_up(slot, 0)
    # Half a second has brought ten requests; one of them was used.
    assert admitted_at_once(pace, 0.5) == 9


def test_slots_given_up_before_a_hold_are_not_used_in_it() -> None:
    pace = told(remaining=0)
    slots = [pace.admit(0) for _ in range(3)]
    for slot in slots:
        pace.give_up(slot, 0)
    pace.refused(1, limit(0), 0)
    assert pace.admit(0) >= 1


def test_an_attempt_that_was_never_sent_is_not_counted() -> None:
    pace = told(remaining=3)
    for _ in range(100):
        assert pace.admit(0) == 0
        pace.give_up(0, 0)
    assert admitted_at_once(pace, 0) == 3


def test_an_attempt_in_the_dark_that_was_never_sent_is_not_counted() -> None:
    pace = Pace()
    for _ in range(100):
        pace.give_up(pace.admit(0), 0)
    pace.admit(0)
    pace.answered(limit(19), 0)
    assert admitted_at_once(pace, 0) == 19


# --- against a server, in simulated time ---


class LimitedServer:
    """GCRA as our server has it: the same arithmetic, and its Retry-After in whole seconds."""

    def __init__(self, world: World, quota: int, window: int) -> None:
        self.world = world
        self.policy = Policy(quota, window)
        self.arrivals: dict[str, int] = {}

    def hit(self, token: str) -> tuple[bool, int, RateLimit]:
        now = round(self.world.now * NANOSECONDS)
        verdict, self.arrivals[token] = decide(
            self.policy, now, self.arrivals.get(token, 0), cost=1
        )
        seen = RateLimit(
            verdict.remaining,
            verdict.reset_seconds,
            self.policy.limit,
            int(self.policy.window_seconds),
        )
        return verdict.allowed, verdict.retry_after, seen


class Team:
    """Workers of one process that share a pace, and what became of their calls."""

    def __init__(self, server: LimitedServer, draw: random.Random, name: str = "a") -> None:
        self.server = server
        self.world = server.world
        self.draw = draw
        self.token = name
        self.pace = Pace()
        self.attempts = 0
        self.done = 0
        self.not_before = -math.inf

    def work(self, calls: int, slowest: float = 0.03) -> Process:
        for _ in range(calls):
            yield from self._call(slowest)
            self.done += 1

    def _call(self, slowest: float) -> Iterator[float]:
        retry = 0
        while True:
            slot = self.pace.admit(self.world.now)
            while slot > self.world.now:
                yield slot - self.world.now
                slot = self.pace.confirm(slot, self.world.now)
            assert self.world.now >= self.not_before, "earlier than the server asked"
            self.attempts += 1
            yield self.draw.uniform(0.001, slowest)
            allowed, asked, seen = self.server.hit(self.token)
            yield self.draw.uniform(0.001, slowest)
            if allowed:
                self.pace.answered(seen, self.world.now)
                return
            retry += 1
            self.pace.refused(asked, seen, self.world.now)
            self.not_before = max(self.not_before, self.world.now + asked)
            failure = Failure(Kind.STATUS, 429, retry_after=asked)
            yield wait(retry, failure, self.draw.random)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("quota", "window", "workers"),
    [(20, 1, 10), (20, 1, 40), (5, 1, 10), (600, 60, 30), (30, 10, 10)],
)
def test_few_calls_run_into_the_limit(quota: int, window: int, workers: int, seed: int) -> None:
    world = World()
    team = Team(LimitedServer(world, quota, window), random.Random(seed))
    began = world.now
    world.run(team.work(500 // workers) for _ in range(workers))
    calls = workers * (500 // workers)
    assert team.done == calls
    assert team.attempts <= 1.15 * calls
    # And no time is lost: at the rate, but for the first burst and a few holds.
    assert world.now - began <= max(0, calls - quota) * window / quota * 1.1 + 5


@pytest.mark.parametrize("seed", range(10))
def test_first_connections_that_are_slow(seed: int) -> None:
    """The bucket begins to fill again later than the mirror of it does."""
    world = World()
    team = Team(LimitedServer(world, 20, 1), random.Random(seed))
    world.run(
        [*(team.work(1, slowest=0.5) for _ in range(10)), *(team.work(49) for _ in range(10))]
    )
    assert team.done == 500
    assert team.attempts <= 1.15 * 500


@pytest.mark.parametrize("seed", range(10))
def test_two_processes_with_one_token(seed: int) -> None:
    """Neither knows of the other, but for what remains and for refusals."""
    world = World()
    server, draw = LimitedServer(world, 20, 1), random.Random(seed)
    teams = [Team(server, draw), Team(server, draw)]
    world.run(team.work(50) for team in teams for _ in range(5))
    assert sum(team.done for team in teams) == 500
    assert sum(team.attempts for team in teams) <= 1.5 * 500
    assert world.now - 1000 <= 480 / 20 * 1.5


def test_tokens_do_not_touch_each_other() -> None:
    world = World()
    server, draw = LimitedServer(world, 20, 1), random.Random(1)
    busy, idle = Team(server, draw, "busy"), Team(server, draw, "idle")
    finished: list[float] = []

    def little() -> Process:
        yield from idle.work(15)
        finished.append(world.now)

    world.run([*(busy.work(50) for _ in range(10)), little()])
    assert (busy.done, idle.done, idle.attempts) == (500, 15, 15)
    assert finished[0] - 1000 <= 15 * 0.06


# --- whatever happens ---

events = st.lists(
    st.tuples(
        st.sampled_from(["admit", "answered", "refused", "give_up", "confirm", "hasty"]),
        st.floats(0, 3),
        st.integers(0, 30),
        st.none() | st.floats(0, 10),
    ),
    max_size=120,
)


@given(events, st.booleans())
@example(
    [
        ("refused", 0, 0, 0.0),
        ("admit", 0, 0, None),
        ("admit", 0, 0, None),
        ("give_up", 0, 0, None),
        ("refused", 0, 0, 1.0),
        ("hasty", 0, 0, None),
    ],
    False,
)
def test_nothing_leaves_earlier_than_asked_and_slots_are_never_lost_for_ever(
    events: list[tuple[str, float, int, float | None]], with_policy: bool
) -> None:
    pace, now, hold = Pace(), 1000.0, -math.inf
    slots: list[float] = []
    for event, ahead, remaining, asked in events:
        now += ahead
        seen = limit(remaining) if with_policy else None
        match event:
            case "admit":
                slots.append(pace.admit(now))
                assert slots[-1] >= max(now, hold) - 1e-9
            case "hasty":
                assert pace.admit(now, now) >= max(now, hold) - 1e-9
            case "confirm" if slots:
                slot = slots.pop()
                assert pace.confirm(slot, now) >= hold - 1e-9
            case "give_up" if slots:
                pace.give_up(slots.pop(), now)
            case "answered":
                pace.answered(seen, now)
            case "refused":
                pace.refused(asked, seen, now)
                hold = max(hold, now + (ASSUMED_HOLD if asked is None else asked))
    later = max(now, hold) + 100
    assert pace.admit(later) == later


def test_threads_get_slots_of_their_own() -> None:
    pace, start = told(remaining=0), threading.Barrier(8)
    slots: list[float] = []

    def hammer() -> None:
        start.wait()
        slots.extend([pace.admit(0) for _ in range(500)])

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slots) == pytest.approx([0.05 * n for n in range(1, 4001)])
