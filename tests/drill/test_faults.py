"""Faults and plans as values: true to the contract, repeatable, and written down."""

from dataclasses import FrozenInstanceError, replace
from email.utils import parsedate_to_datetime

import httpx2
import pytest

from operator_api.contract.errors import CATALOGUE
from operator_api.drill import faults
from operator_api.drill.answers import made_answer
from operator_api.drill.faults import (
    FAULTS,
    CloseIdle,
    Drip,
    Empty,
    Fault,
    Html,
    Informational,
    NotHttp,
    Redirect,
    Refuse,
    Refused,
    ResetAfter,
    ResetBefore,
    ResetBeforeRequest,
    Skew,
    Stall,
    Status,
    Truncate,
    WrongJson,
)
from operator_api.drill.plans import (
    Always,
    Choose,
    FirstOf,
    InOrder,
    PerOperation,
    Plan,
    Share,
    Where,
    Window,
    in_order,
    read_plan,
    write_plan,
)
from operator_api.drill.traffic import Answer, Asked
from tests.errors import assert_error

URL = "http://127.0.0.1:1"
CONNECTING = Asked(at=0, elapsed=0, connection=0)
FIRST = Asked(at=0, elapsed=0, connection=0, operation=0, method="POST", path="/v1/users")


def refused_as(fault: Refuse, now: float = 0) -> httpx2.Response:
    answer = made_answer(fault, URL, now, None)
    return httpx2.Response(answer.status, headers=list(answer.headers), content=answer.body)


@pytest.mark.parametrize("reason", [row.reason for row in CATALOGUE.values() if not row.of_field])
def test_every_refusal_keeps_the_whole_contract(reason: str) -> None:
    assert_error(refused_as(Refuse(reason)), CATALOGUE[reason].status, reason)


def test_a_refusal_tells_how_long_in_whole_seconds_as_in_its_body() -> None:
    error = assert_error(refused_as(Refuse("rate_limited", retry_after=3)), 429, "rate_limited")
    assert error["retry"]["after_seconds"] == 3


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(1.5, "1.5"), (0, "0"), ("soon", "soon"), ("-1", "-1"), ("NaN", "NaN"), ("", None)],
)
def test_retry_after_in_other_forms(retry_after: float | str, header: str | None) -> None:
    response = refused_as(Refuse("overloaded", retry_after=retry_after))
    assert response.headers.get("retry-after") == header


def test_retry_after_as_a_date_is_by_the_servers_clock() -> None:
    for now in (1_000.0, 1_000.9):
        response = refused_as(Refuse("overloaded", retry_after=7, as_date=True), now)
        date = parsedate_to_datetime(response.headers["retry-after"])
        assert date.timestamp() == 1_007


def test_should_retry_can_be_told_otherwise() -> None:
    response = refused_as(Refuse("internal_error", should_retry=False))
    assert response.headers["x-should-retry"] == "false"


def test_each_fault_is_in_the_list_and_frozen() -> None:
    kinds = {each for each in vars(faults).values() if isinstance(each, type)}
    assert {each for each in kinds if issubclass(each, Fault)} - {Fault} == set(FAULTS)
    with pytest.raises(FrozenInstanceError):
        Drip().size = 2  # type: ignore[misc] # that it cannot be set is what is tested


def test_a_fault_says_whether_the_request_reaches_the_upstream() -> None:
    assert not any(fault.reaches for fault in (ResetBeforeRequest(), ResetBefore(), Refused()))
    assert not any(fault.reaches for fault in (Refuse("overloaded"), Html(), Status(500)))
    assert all(fault.reaches for fault in (ResetAfter(), Drip(), CloseIdle(), Skew(60)))
    assert Html(commits=True).reaches
    assert Stall(1).reaches
    assert not Stall(1, at="instead").reaches
    assert Skew(60, ResetAfter()).reaches
    assert not Skew(60, Refuse("rate_limited")).reaches


def test_nothing_secret_is_shown() -> None:
    asked = replace(FIRST, headers=(("authorization", "Bearer op_secret"),), body=b"op_body")
    assert "op_" not in repr(asked)
    assert asked.token == "op_secret"
    assert "op_" not in repr(Answer(200, (), b"op_body"))


# --- plans ---


def chosen(choose: Choose, *asked: Asked) -> list[Fault | None]:
    return [choose(each) for each in asked]


def operations(count: int, attempt: int = 0) -> list[Asked]:
    return [replace(FIRST, operation=number, attempt=attempt) for number in range(count)]


def test_in_order() -> None:
    plan = InOrder((ResetAfter(), None, Html()), then=ResetBefore())
    expected = [ResetAfter(), None, Html(), ResetBefore(), ResetBefore()]
    assert chosen(plan.begin(), *operations(5)) == expected


def test_a_connection_takes_only_the_fault_that_is_for_it() -> None:
    choose = in_order([ResetAfter(), ResetBeforeRequest(), None]).begin()
    asked = [CONNECTING, FIRST, CONNECTING, CONNECTING, FIRST]
    assert chosen(choose, *asked) == [None, ResetAfter(), ResetBeforeRequest(), None, None]
    assert Always(ResetAfter()).begin()(CONNECTING) is None
    assert Share(1, (ResetBeforeRequest(),)).begin()(CONNECTING) is None


def test_each_run_of_a_plan_begins_anew() -> None:
    plan = in_order([ResetAfter()])
    assert [plan.begin()(FIRST), plan.begin()(FIRST)] == [ResetAfter(), ResetAfter()]


def test_per_operation() -> None:
    choose = PerOperation((ResetAfter(), Refuse("overloaded"))).begin()
    for attempt, fault in enumerate([ResetAfter(), Refuse("overloaded"), None]):
        assert chosen(choose, *operations(3, attempt)) == [fault] * 3


def test_a_share_is_the_same_for_the_same_seed_and_near_what_was_asked() -> None:
    kinds = (ResetAfter(), Refuse("internal_error"), Html())
    runs = [chosen(Share(0.4, kinds, seed=seed).begin(), *operations(1000)) for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]
    for run in runs:
        assert 350 < sum(fault is not None for fault in run) < 450
        assert {each for each in run if each} == set(kinds)


def test_a_share_spares_those_who_try_again_unless_told() -> None:
    again = operations(200, attempt=1)
    assert set(chosen(Share(0.5, (ResetAfter(),)).begin(), *again)) == {None}
    every = Share(0.5, (ResetAfter(),), first_attempts_only=False).begin()
    assert set(chosen(every, *again)) == {None, ResetAfter()}
    assert chosen(every, *again) != chosen(every, *operations(200))


def test_where() -> None:
    choose = Where(in_order([Html(), ResetAfter()]), ("POST",), "/v1/users*").begin()
    asked = [
        replace(FIRST, method="GET"),
        replace(FIRST, path="/v1/me"),
        replace(FIRST, path="/v1/users?x=/v1/me"),
        FIRST,
        CONNECTING,
    ]
    assert chosen(choose, *asked) == [None, None, Html(), ResetAfter(), None]


def test_a_window() -> None:
    at = [replace(FIRST, elapsed=seconds) for seconds in (0, 5, 12, 25)]
    assert chosen(Window(5, 20, Html()).begin(), *at) == [None, Html(), Html(), None]
    assert chosen(Window(5, 20).begin(), *at) == [None, Refused(20), Refused(13), None]


def test_the_first_plan_with_a_fault_decides() -> None:
    plan = FirstOf((Where(Always(Html()), path="/v1/me"), in_order([ResetAfter()])))
    asked = [replace(FIRST, path="/v1/me"), FIRST, FIRST]
    assert chosen(plan.begin(), *asked) == [Html(), ResetAfter(), None]


EVERY_FAULT: tuple[Fault, ...] = (
    ResetBeforeRequest(),
    ResetBefore(),
    ResetAfter(),
    Refused(2),
    Refuse("rate_limited", retry_after=1.5, should_retry=False),
    Status(200, (("X-A", "b"),), "c", commits=True),
    Html(200),
    Redirect("/elsewhere"),
    WrongJson("[", "text/plain"),
    Empty(),
    Truncate(3, "head"),
    NotHttp(),
    Stall(1, "before"),
    Drip(head=True),
    CloseIdle("next_request"),
    Informational(102, 2),
    Skew(-60, Refuse("rate_limited", retry_after=2, as_date=True)),
)


def test_every_kind_of_fault_is_written_down_below() -> None:
    assert [type(fault) for fault in EVERY_FAULT] == list(FAULTS)


@pytest.mark.parametrize(
    "plan",
    [
        Always(),
        InOrder(EVERY_FAULT, then=Html()),
        PerOperation((None, Status(404, (("X-A", "b"),), "c"))),
        FirstOf((Where(Share(0.4, EVERY_FAULT, seed=9), ("GET",), "/*"), Window(1, 2))),
    ],
)
def test_a_plan_can_be_written_down(plan: Plan) -> None:
    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize(
    "text", ["", "3", "[]", '{"kind": "Html"}', '{"kind": "None"}', '{"kind": "Always", "x": 1}']
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"plan|Expecting"):
        read_plan(text)
