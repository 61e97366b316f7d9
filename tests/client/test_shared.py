"""What a process shares: one of each, bounded, without tokens, and new after a fork."""

import gc
import os
import pickle
import signal
import threading

import pytest

from operator_api.client import shared
from operator_api.client.budget import RetryBudget
from operator_api.client.gate import Gate
from operator_api.client.pace import Pace
from operator_api.client.shared import MOST_ORIGINS, MOST_PACES, Registry

ORIGIN = "https://api.example.com"


def test_an_origin_has_one_budget_and_one_gate() -> None:
    registry = Registry()
    origin = registry.origin(ORIGIN)
    assert isinstance(origin.budget, RetryBudget)
    assert isinstance(origin.gate, Gate)
    assert registry.origin(ORIGIN) is origin
    assert registry.origin("https://other.example.com") is not origin


def test_a_token_has_one_pace_at_each_origin() -> None:
    registry = Registry()
    pace = registry.pace(ORIGIN, "token-1")
    assert isinstance(pace, Pace)
    assert registry.pace(ORIGIN, "token-1") is pace
    assert registry.pace(ORIGIN, "token-2") is not pace
    assert registry.pace("https://other.example.com", "token-1") is not pace


def test_a_process_has_one_registry_and_a_test_its_own() -> None:
    assert shared.origin(ORIGIN) is shared.PROCESS.origin(ORIGIN)
    assert shared.pace(ORIGIN, "t") is shared.PROCESS.pace(ORIGIN, "t")
    assert Registry().origin(ORIGIN) is not shared.origin(ORIGIN)


def test_no_token_is_kept() -> None:
    registry = Registry()
    registry.pace(ORIGIN, "opk_very_secret")
    keys = [*registry._paces._young, *registry._paces._old]
    assert len(keys) == 1
    assert b"opk_very_secret" not in pickle.dumps(keys)


def test_the_same_token_has_another_digest_in_another_registry() -> None:
    one, other = Registry(), Registry()
    one.pace(ORIGIN, "t")
    other.pace(ORIGIN, "t")
    assert one._paces._young.keys() != other._paces._young.keys()


@pytest.mark.parametrize("token", ["", "é", "\ud800", "x" * 100_000])
def test_any_text_can_be_a_token(token: str) -> None:
    assert isinstance(Registry().pace(ORIGIN, token), Pace)


def test_it_is_bounded() -> None:
    registry = Registry()
    for n in range(3 * MOST_PACES):
        registry.pace(ORIGIN, f"token-{n}")
        registry.origin(f"https://{n}.example.com")
    assert len(registry._paces) <= MOST_PACES
    assert len(registry._origins) <= MOST_ORIGINS


def test_what_is_in_use_is_not_forgotten() -> None:
    registry = Registry()
    kept = registry.origin(ORIGIN)
    for n in range(10 * MOST_ORIGINS):
        registry.origin(f"https://{n}.example.com")
        assert registry.origin(ORIGIN) is kept


def test_threads_get_the_same() -> None:
    registry, start = Registry(), threading.Barrier(8)
    found: list[list[int]] = []

    def hammer() -> None:
        start.wait()
        found.append([id(registry.pace(ORIGIN, f"token-{n}")) for n in range(500)])

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each == found[0] for each in found)


def test_a_registry_that_is_not_used_any_more_goes_away() -> None:
    before = len(shared._registries)
    Registry()
    gc.collect()
    assert len(shared._registries) <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # forks with threads, from 3.12
def test_a_lock_that_is_held_at_a_fork_does_not_hang_the_child() -> None:
    registry = Registry()
    origin, pace = registry.origin(ORIGIN), registry.pace(ORIGIN, "t")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with (
            registry._origins._lock,
            registry._paces._lock,
            origin.budget._lock,
            origin.gate._lock,
            pace._lock,
        ):
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends the child if it hangs
        new = registry.origin(ORIGIN)
        new.gate.answered(0)
        new.gate.unreachable(0, lambda: 0.5, canary=False)
        new.budget.tokens(0)
        registry.pace(ORIGIN, "t").admit(0)
        registry.origin("https://other.example.com")
        os._exit(0 if new is not origin else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert registry.origin(ORIGIN) is origin, "the parent goes on with what it has"
