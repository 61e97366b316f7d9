"""What the client is for: under faults, outages and limits, no write is lost, none is doubled.

All by default settings, through both clients, against the real server behind one that misbehaves.
The suite plays each load in a short form; ``OPERATOR_FULL_LOAD=1`` plays the whole, and prints its
figures with ``pytest -s``.
"""

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from operator_api.client import APIError
from operator_api.drill.faults import (
    CloseIdle,
    Drip,
    Empty,
    Fault,
    Html,
    Refuse,
    ResetAfter,
    ResetBefore,
    ResetBeforeRequest,
    Stall,
    Truncate,
    WrongJson,
)
from operator_api.drill.plans import Plan, Share, Window
from operator_api.drill.proxy import FaultProxy
from operator_api.drill.traffic import Seen
from tests.client.both import BOTH, Client, Kind
from tests.faulty import attempts_per_key, bodies_per_key, faulty, waited
from tests.servers import Server, running
from tests.stores import query

pytestmark = [BOTH, pytest.mark.timeout(300)]

FULL = bool(os.environ.get("OPERATOR_FULL_LOAD"))

# Each of these is met by a first attempt. The stall is shorter than the time an attempt has.
MIX: tuple[Fault, ...] = (
    ResetBeforeRequest(),
    ResetBefore(),
    ResetAfter(),
    Refuse("internal_error"),
    Refuse("overloaded", 1),
    Refuse("overloaded", 0.5),
    Refuse("store_unavailable", 1, as_date=True),
    Html(502),
    Html(502, commits=True),
    Html(200, commits=True),
    Truncate(10),
    Truncate(30, of="head"),
    WrongJson(),
    Empty(),
    Stall(2),
    Drip(size=50, every=0.05),
    CloseIdle(),
)
# A limit holds all calls back: with it in the mix, nothing else would be seen.
LIMITED = (*MIX, Refuse("rate_limited", 1))


@dataclass
class Outcome:
    """What a load came to."""

    answers: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    ended: list[float] = field(default_factory=list)

    @property
    def acknowledged(self) -> dict[str, str]:
        """The id that each email got."""
        return {each.email: each.id for each in self.answers if not isinstance(each, Exception)}


async def load(
    client: Client, emails: Sequence[str], *, at_once: int, per_second: float | None = None
) -> Outcome:
    """Create users, so many calls at a time, or at a rate."""
    outcome, began = Outcome(), time.monotonic()
    turns = asyncio.Semaphore(at_once)

    async def create(number: int, email: str) -> None:
        if per_second is not None:
            await asyncio.sleep(began + number / per_second - time.monotonic())
        async with turns:
            try:
                outcome.answers.append(await client.do(lambda api: api.users.create(email=email)))
            except APIError as error:
                outcome.answers.append(error)
        outcome.ended.append(time.monotonic())

    await asyncio.gather(*itertools.starmap(create, enumerate(emails)))
    outcome.seconds = time.monotonic() - began
    return outcome


def new_emails(name: str, count: int) -> list[str]:
    return [f"{name}.{number}.{time.time_ns():x}@example.com" for number in range(count)]


def refused_for_good(seen: Sequence[Seen]) -> list[Seen]:
    """Return what came again after an answer that no other attempt would change."""
    final: set[str] = set()
    again = []
    for each in seen:
        if each.key in final:
            again.append(each)
        if each.key and each.answered and 400 <= each.answered < 500 and each.answered != 429:
            final.add(each.key)
    return again


def assert_exact(server: Server, proxy: FaultProxy, outcome: Outcome, emails: list[str]) -> float:
    """Require that each write was done once, and is known; return the attempts of each."""
    errors = [each for each in outcome.answers if isinstance(each, Exception)]
    assert not errors, Counter(str(each)[:200] for each in errors)
    rows = Counter(email for (email,) in query(server.data, "SELECT email FROM users"))
    assert set(emails) <= set(rows), "lost"
    assert max(rows.values()) == 1, "doubled"
    assert set(outcome.acknowledged) == set(emails), "unknown"
    early = [(asked, passed) for asked, passed in waited(proxy.requests) if passed < asked]
    assert not early, f"too early: {early}"
    assert not refused_for_good(proxy.requests), "refused, and repeated"
    whole = [seen for seen in proxy.requests if not isinstance(seen.fault, ResetBeforeRequest)]
    assert {len(bodies) for bodies in bodies_per_key(whole).values()} == {1}
    attempts = attempts_per_key(proxy.seen)
    assert len(attempts) == len(emails), "a call has one key"
    return attempts.total() / len(emails)


async def assert_true(client: Client, outcome: Outcome) -> None:
    """Require that what was taken for success is one: the record is there, by the id told."""
    found = await client.items(lambda api: api.users.list(limit=100))
    ids = {user.email: user.id for user in found}
    wrong = {email for email, id_ in outcome.acknowledged.items() if ids.get(email) != id_}
    assert not wrong, "false successes"


def report(kind: Kind, what: str, **figures: Any) -> None:
    told = ", ".join(f"{name} {value}" for name, value in figures.items())
    print(f"\n{what} ({kind}): {told}")  # noqa: T201 - figures, for whoever asks with -s


@pytest.mark.parametrize("mix", [MIX, LIMITED], ids=["mix", "limited"])
async def test_faults(kind: Kind, mix: tuple[Fault, ...], tmp_path: Path) -> None:
    """500 creates, of which 40 % meet a fault at first."""
    count = 500 if FULL else 100
    emails = new_emails("faults", count)
    plan: Plan = Share(0.4, mix, seed=7)
    with running(tmp_path / "data") as server, faulty(plan, server) as proxy:
        async with kind.open(proxy.url, api_key=server.token) as client:
            outcome = await load(client, emails, at_once=20)
            attempts = assert_exact(server, proxy, outcome, emails)
            faulted = sum(1 for seen in proxy.requests if seen.fault and seen.attempt == 0)
            figures = {"calls": count, "faulted": faulted, "attempts each": f"{attempts:.3f}"}
            report(kind, "faults", **figures, seconds=f"{outcome.seconds:.1f}")
            assert 0.3 <= faulted / count <= 0.5
            assert attempts <= 1.65
            proxy.use([])
            await assert_true(client, outcome)


async def test_an_outage(kind: Kind, tmp_path: Path) -> None:
    """400 creates at 10 a second, with the server gone for 20 seconds in the middle."""
    rate, count, start, gone = (10, 400, 10.0, 20.0) if FULL else (15, 110, 1.0, 6.0)
    emails = new_emails("outage", count)
    with running(tmp_path / "data") as server, faulty(Window(start, gone), server) as proxy:
        async with kind.open(proxy.url, api_key=server.token) as client:
            began = time.monotonic()
            outcome = await load(client, emails, at_once=400, per_second=rate)
            attempts = assert_exact(server, proxy, outcome, emails)
            first = proxy.seen[0].at
            back = first + start + gone
            # What was due before it came back is done soon after; the others as they come.
            late = count / rate - (back - began)
            done = max(outcome.ended) - back - max(0.0, late)
            waiting = sorted(outcome.ended)[: round((back - began) * rate)][-1] - back
            figures = {"calls": count, "attempts each": f"{attempts:.3f}"}
            report(
                kind,
                "outage",
                **figures,
                all_done_after_return=f"{max(outcome.ended) - back:.1f} s",
                those_waiting_done_after_return=f"{waiting:.1f} s",
            )
            assert waiting < 5
            assert done < 5
            await assert_true(client, outcome)


async def test_a_limit(kind: Kind, tmp_path: Path) -> None:
    """500 creates by 10 at a time, where the server allows 20 a second."""
    count = 500 if FULL else 70
    emails = new_emails("limit", count)
    with (
        running(tmp_path / "data", OPERATOR_RATE_LIMIT="20/1s") as server,
        faulty([], server) as proxy,
    ):
        async with kind.open(proxy.url, api_key=server.token) as client:
            outcome = await load(client, emails, at_once=10)
            attempts = assert_exact(server, proxy, outcome, emails)
            refused = sum(1 for seen in proxy.requests if seen.answered == 429)
            report(
                kind,
                "limit",
                calls=count,
                refused=refused,
                **{"attempts each": f"{attempts:.3f}"},
                seconds=f"{outcome.seconds:.1f}",
            )
            assert attempts <= 1.15
            assert outcome.seconds < count / 20 * 1.5 + 3
