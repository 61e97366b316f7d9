"""Rate limits: the arithmetic of GCRA, exactly; and what the API makes of it."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operator_api.contract.headers import format_rate_limit, format_rate_limit_policy
from operator_api.server.limits import Policy, Verdict
from operator_api.server.limits.limiter import NANOSECONDS, decide
from operator_api.server.limits.memory import MemoryLimiter
from tests.calls import JSON, mint
from tests.errors import assert_error
from tests.servers import Server, running

policies = st.builds(
    Policy,
    st.integers(1, 1000),
    st.floats(0.001, 86_400, allow_nan=False).map(lambda seconds: round(seconds, 3)),
)
moments = st.integers(1, 10**18)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: int = 10**15) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * NANOSECONDS)


def hit(limiter: MemoryLimiter, key: str = "a", cost: int = 1) -> Verdict:
    return asyncio.run(limiter.hit(key, cost))


def use_up(limiter: MemoryLimiter) -> Verdict:
    """Hit until it is refused, and return the refusal."""
    while (verdict := hit(limiter)).allowed:
        pass
    return verdict


# --- the arithmetic ---


@given(policy=policies, start=moments, gaps=st.lists(st.floats(0, 2), max_size=60))
def test_never_more_than_the_limit_and_the_rate_pass_in_any_window(
    policy: Policy, start: int, gaps: list[float]
) -> None:
    now, arrival, passed = start, 0, []
    spacing = policy.window_seconds * NANOSECONDS / policy.limit
    for gap in gaps:
        now += int(gap * spacing)
        verdict, arrival = decide(policy, now, arrival, 1)
        if verdict.allowed:
            passed.append(now)
    for first, since in enumerate(passed):
        for last in range(first, len(passed)):
            # In whole numbers, as the limiter counts: n - limit ≤ elapsed · limit / window.
            elapsed = passed[last] - since
            over = last - first + 1 - policy.limit
            assert over * int(policy.window_seconds * NANOSECONDS) <= elapsed * policy.limit


@given(policy=policies, start=moments)
def test_a_burst_of_exactly_the_limit_passes(policy: Policy, start: int) -> None:
    arrival, allowed = 0, []
    for number in range(policy.limit + 2):
        verdict, arrival = decide(policy, start, arrival, 1)
        allowed.append(verdict.allowed)
        assert verdict.remaining == max(policy.limit - number - 1, 0)
    assert allowed == [True] * policy.limit + [False, False]


@given(policy=policies, start=moments, used=st.integers(0, 1100), later=st.floats(0, 100))
def test_waiting_as_long_as_retry_after_says_is_enough_and_less_is_not_much_too_much(
    policy: Policy, start: int, used: int, later: float
) -> None:
    arrival = 0
    for _ in range(used):
        _, arrival = decide(policy, start, arrival, 1)
    now = start + int(later * NANOSECONDS)
    verdict, arrival = decide(policy, now, arrival, 1)
    if verdict.allowed:
        assert verdict.retry_after == 0
        return
    assert verdict.retry_after >= 1
    after, _ = decide(policy, now + verdict.retry_after * NANOSECONDS, arrival, 1)
    assert after.allowed
    # It is the shortest wait of whole seconds.
    sooner, _ = decide(policy, now + (verdict.retry_after - 1) * NANOSECONDS, arrival, 1)
    assert not sooner.allowed


@given(policy=policies, start=moments, used=st.integers(0, 1100), later=st.floats(0, 100))
def test_the_ratelimit_header_says_the_truth(
    policy: Policy, start: int, used: int, later: float
) -> None:
    arrival = 0
    for _ in range(used):
        _, arrival = decide(policy, start, arrival, 1)
    now = start + int(later * NANOSECONDS)
    told, arrival = decide(policy, now, arrival, 0)
    passing = arrival
    for _ in range(told.remaining):
        verdict, passing = decide(policy, now, passing, 1)
        assert verdict.allowed
    one_more, _ = decide(policy, now, passing, 1)
    assert not one_more.allowed
    full, _ = decide(policy, now + told.reset_seconds * NANOSECONDS, arrival, 0)
    assert full.remaining == policy.limit


@given(policy=policies, start=moments, used=st.integers(0, 50))
def test_looking_costs_nothing_and_foretells_the_next_hit(
    policy: Policy, start: int, used: int
) -> None:
    arrival = 0
    for _ in range(used):
        _, arrival = decide(policy, start, arrival, 1)
    looked, after = decide(policy, start, arrival, 0)
    really, _ = decide(policy, start, arrival, 1)
    assert looked.allowed is really.allowed
    assert decide(policy, start, after, 1)[0] == really


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("600/60s", Policy(600, 60)),
        ("1/0.5s", Policy(1, 0.5)),
        ("999999999999/86400s", Policy(999_999_999_999, 86_400)),
        *(
            (text, None)
            for text in ["", "600", "600/60", "0/60s", "-1/60s", "1/0s", "1/86401s", "1.5/60s"]
        ),
        *((text, None) for text in ["600/60s ", "٣/60s", "600/1e3s", "600/ 60s", "600/60m"]),
    ],
)
def test_how_a_policy_is_written(text: str, policy: Policy | None) -> None:
    if policy is None:
        with pytest.raises(ValueError, match="600/60s"):
            Policy.parse(text)
    else:
        assert Policy.parse(text) == policy


# --- the limiter in memory ---


def test_quota_comes_back_one_by_one() -> None:
    clock = Clock()
    limiter = MemoryLimiter(Policy(60, 60), clock)
    refused = use_up(limiter)
    assert (refused.remaining, refused.retry_after, refused.reset_seconds) == (0, 1, 60)
    clock.sleep(0.999)
    assert not hit(limiter).allowed
    clock.sleep(0.001)
    assert hit(limiter).allowed
    assert not hit(limiter).allowed


def test_keys_do_not_share() -> None:
    limiter = MemoryLimiter(Policy(3, 60), Clock())
    use_up(limiter)
    assert hit(limiter, "b").remaining == 2


def test_refused_hits_make_the_wait_no_longer() -> None:
    limiter = MemoryLimiter(Policy(1, 60), Clock())
    use_up(limiter)
    assert {hit(limiter).retry_after for _ in range(100)} == {60}


def test_looking_leaves_nothing_behind() -> None:
    limiter = MemoryLimiter(Policy(1, 60), Clock())
    for number in range(100):
        hit(limiter, str(number), cost=0)
    assert limiter._arrivals == {}


def test_the_keys_are_bounded_and_those_in_debt_are_forgotten_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("operator_api.server.limits.memory._MOST_KEYS", 10)
    clock = Clock()
    limiter = MemoryLimiter(Policy(1, 1), clock)
    for number in range(10):
        hit(limiter, f"old{number}")
    clock.sleep(1)
    hit(limiter, "new")
    assert list(limiter._arrivals) == ["new"]
    for number in range(50):
        hit(limiter, f"newer{number}")
    assert len(limiter._arrivals) <= 10
    assert not hit(limiter, "newer49").allowed


# --- in the API ---


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which a token has three requests in three seconds, and so has an address."""
    data = tmp_path_factory.mktemp("limited")
    limits = {"OPERATOR_RATE_LIMIT": "3/3s", "OPERATOR_FAILED_AUTHENTICATION_LIMIT": "3/3s"}
    with running(data, **limits) as server:
        yield server


@pytest.fixture
def caller(limited: Server) -> Iterator[httpx2.Client]:
    """Return a client with a new token, whose quota is whole."""
    with limited.client(mint(limited, scopes=["users:read", "users:write"])) as client:
        yield client


def remaining(response: httpx2.Response) -> int:
    match = re.fullmatch(r'"default";r=(\d+);t=(\d+)', response.headers["ratelimit"])
    assert match
    assert response.headers["ratelimit-policy"] == '"default";q=3;w=3'
    return int(match[1])


def test_the_quota_is_counted_down_refused_and_given_back(caller: httpx2.Client) -> None:
    assert [remaining(caller.get("/v1/me")) for _ in range(3)] == [2, 1, 0]
    refused = caller.get("/v1/me")
    error = assert_error(refused, 429, "rate_limited")
    assert remaining(refused) == 0
    assert error["metadata"] == {"limit": 3, "window_seconds": 3}
    assert error["message"] == "Rate limit of 3 requests per 3 seconds exceeded."
    time.sleep(int(refused.headers["retry-after"]))
    assert caller.get("/v1/me").status_code == 200


def test_every_kind_of_answer_to_a_permitted_request_is_counted(caller: httpx2.Client) -> None:
    answers = [
        caller.get("/v1/users/x"),
        caller.post("/v1/users", content=b"{", headers=JSON),
        caller.head("/v1/users"),
        caller.get("/v1/users"),
    ]
    assert [each.status_code for each in answers] == [404, 400, 200, 429]


def test_what_is_not_permitted_or_not_there_costs_nothing(caller: httpx2.Client) -> None:
    for _ in range(5):
        assert_error(caller.get("/v1/tags"), 403, "insufficient_scope")
        assert_error(caller.get("/v1/nowhere"), 404, "unknown_endpoint")
        assert_error(caller.delete("/v1/users"), 405, "method_not_allowed")
        assert caller.options("/v1/users").status_code == 200
        assert caller.get("/v1/errors").status_code == 200
    assert remaining(caller.get("/v1/users")) == 2


def test_one_token_does_not_use_up_anothers(limited: Server, caller: httpx2.Client) -> None:
    for _ in range(5):
        caller.get("/v1/me")
    with limited.client(mint(limited)) as other:
        assert remaining(other.get("/v1/me")) == 2


def test_over_the_limit_a_missing_scope_is_not_looked_at(caller: httpx2.Client) -> None:
    for _ in range(3):
        caller.get("/v1/me")
    assert_error(caller.get("/v1/tags"), 429, "rate_limited")


def test_an_address_that_goes_on_with_a_bad_token_is_slowed_down_and_told_why(
    limited: Server, caller: httpx2.Client
) -> None:
    with limited.client("op_test_nonsense") as stranger, limited.client(None) as nobody:
        answers = [stranger.get("/v1/me") for _ in range(10)]
        refused = next(each for each in answers if each.status_code == 429)
        assert_error(answers[0], 401, "invalid_token")
        error = assert_error(refused, 429, "too_many_failed_authentications")
        assert error["metadata"] == {"cause": "invalid_token"}
        assert "invalid_token" in error["message"]
        assert "ratelimit" not in refused.headers
        # From the same address, a valid token passes, and so does who has not tried any.
        assert remaining(caller.get("/v1/me")) == 2
        assert_error(nobody.get("/v1/me"), 401, "missing_token")
        assert nobody.get("/v1/errors").status_code == 200
        malformed = stranger.get("/v1/me", headers={"Authorization": "Basic x"})
        error = assert_error(malformed, 429, "too_many_failed_authentications")
        assert error["metadata"] == {"cause": "malformed_authorization"}
        time.sleep(int(malformed.headers["retry-after"]))
        assert_error(stranger.get("/v1/me"), 401, "invalid_token")


# --- how it is written ---


@pytest.mark.parametrize("window", [1, 60, 60.0, 3600, 86_400])
def test_the_headers_are_whole_numbers(window: float) -> None:
    # draft-ietf-httpapi-ratelimit-headers: q, w, r and t are integers of structured fields.
    assert format_rate_limit_policy(7, window) == f'"default";q=7;w={int(window)}'
    assert format_rate_limit(5, 9) == '"default";r=5;t=9'


@pytest.mark.parametrize(("trusted", "apart"), [("127.0.0.1", True), ("10.0.0.1", False)])
def test_addresses_are_told_apart_behind_a_proxy_that_is_trusted(
    tmp_path: Path, trusted: str, apart: bool
) -> None:
    variables = {
        "OPERATOR_TRUSTED_PROXIES": trusted,
        "OPERATOR_FAILED_AUTHENTICATION_LIMIT": "1/60s",
    }
    with running(tmp_path, **variables) as server, server.client("op_test_nonsense") as stranger:
        statuses = [
            stranger.get("/v1/me", headers={"X-Forwarded-For": f"1.1.1.1, {address}"}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]
    assert statuses == [401, 401 if apart else 429, 429]
