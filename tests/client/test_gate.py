"""The gate: calls wait together while a server is gone; one at a time looks if it is back."""

import random
import threading
from collections.abc import Callable

import pytest

from operator_api.client.gate import LEASE, Gate, Go, Wait
from tests.client.simulation import Process, World

GO, CANARY = Go(canary=False), Go(canary=True)


def half() -> float:
    return 0.5


def closed(now: float = 0.0) -> Gate:
    """A gate that was closed at ``now``, by a call that has not asked again yet."""
    gate = Gate()
    gate.answered(now)
    assert gate.unreachable(now, half, canary=False)
    return gate


def test_it_is_open_at_first_and_while_the_server_answers() -> None:
    gate = Gate()
    for _ in range(3):
        assert gate.admit(0, half) == GO
        gate.answered(0)


def test_an_origin_that_never_answered_does_not_close_it() -> None:
    """A typo in a URL gets the usual tries, and no more."""
    gate = Gate()
    for _ in range(10):
        assert gate.unreachable(0, half, canary=False) is False
        assert gate.admit(0, half) == GO


def test_an_origin_that_has_answered_closes_it() -> None:
    gate = closed()
    assert isinstance(gate.admit(0, half), Wait)


def test_the_first_to_ask_is_told_when_to_probe_and_the_others_come_when_they_like() -> None:
    gate = closed()
    assert gate.admit(0, half) == Wait(0.125)
    assert gate.admit(0, lambda: 0.0) == Wait(0.05)
    assert gate.admit(0, lambda: 1.0) == Wait(1.0)


def test_there_is_one_canary_at_a_time() -> None:
    gate = closed()
    assert gate.admit(0.125, half) == CANARY
    for moment in (0.125, 1, 5, 0.124 + LEASE):
        assert isinstance(gate.admit(moment, half), Wait)


def test_whoever_asks_in_time_is_the_canary() -> None:
    """The one that was told to come may have been cancelled."""
    gate = closed()
    assert gate.admit(0, half) == Wait(0.125)
    assert gate.admit(0.2, half) == CANARY


def test_the_canarys_success_lets_all_go() -> None:
    gate = closed()
    assert gate.admit(1, half) == CANARY
    gate.answered(1.1)
    assert gate.admit(1.1, half) == GO


def test_an_answer_to_another_call_lets_all_go_too() -> None:
    gate = closed()
    gate.answered(0.01)
    assert gate.admit(0.01, half) == GO


def test_the_probes_back_off_up_to_two_seconds() -> None:
    gate, now, gaps = closed(), 0.0, []
    for _ in range(7):
        found = gate.admit(now, half)
        assert isinstance(found, Wait)
        gaps.append(found.seconds)
        now += found.seconds
        assert gate.admit(now, half) == CANARY
        assert gate.unreachable(now, half, canary=True)
    assert gaps == pytest.approx([0.125, 0.25, 0.5, 1, 1, 1, 1])
    for _ in range(5000):
        gate.unreachable(now, lambda: 1.0, canary=True)
    assert gate.admit(now, half) == Wait(2.0)


def test_calls_that_set_out_before_it_closed_do_not_count_as_probes() -> None:
    gate = closed()
    for _ in range(50):
        assert gate.unreachable(0, half, canary=False)
    assert gate.admit(0, half) == Wait(0.125)


def test_each_outage_begins_anew() -> None:
    gate = closed()
    for _ in range(10):
        gate.unreachable(0, half, canary=True)
    gate.answered(0)
    gate.unreachable(0, half, canary=False)
    assert gate.admit(0, half) == Wait(0.125)


def test_a_canary_that_vanishes_is_replaced_when_its_lease_ends() -> None:
    gate = closed()
    assert gate.admit(1, half) == CANARY
    assert gate.admit(1 + LEASE, half) == CANARY
    assert gate.admit(1 + LEASE, half, lease=30) == Wait(0.525)
    assert gate.admit(1 + 2 * LEASE, half, lease=30) == CANARY
    assert isinstance(gate.admit(30 + 2 * LEASE, half), Wait)
    assert gate.admit(31 + 2 * LEASE, half) == CANARY


def test_a_canary_that_is_abandoned_is_replaced_at_once() -> None:
    gate = closed()
    assert gate.admit(1, half) == CANARY
    gate.abandoned(1.1)
    assert gate.admit(1.1, half) == CANARY


def test_a_call_long_after_probes_at_once() -> None:
    assert closed().admit(3600, half) == CANARY


# --- in simulated time ---


class GoneServer:
    """Takes connections but for a while, in which it refuses them, or lets them time out."""

    def __init__(self, world: World, gone: float, back: float, takes: float) -> None:
        self.world = world
        self.gone, self.back = gone, back
        self.takes = takes
        self.probing = 0
        self.refused: list[float] = []
        self.served: list[float] = []

    @property
    def is_gone(self) -> bool:
        return self.gone <= self.world.now < self.back


def calls(
    gate: Gate, server: GoneServer, draw: Callable[[], float], deadline: float, over: list[float]
) -> Process:
    """One caller: a call after the other, each until its deadline."""
    world = server.world
    while world.now < server.back + 5:
        began = world.now
        while True:
            verdict = gate.admit(world.now, draw)
            left = began + deadline - world.now
            if isinstance(verdict, Wait):
                yield min(verdict.seconds, max(left, 0))
                if world.now >= began + deadline:
                    over.append(world.now - began)
                    break
                continue
            if server.is_gone:
                server.probing += verdict.canary
                assert server.probing <= 1, "two probes at once"
                yield server.takes
                server.probing -= verdict.canary
                server.refused.append(world.now)
                assert gate.unreachable(world.now, draw, canary=verdict.canary)
                continue
            yield 0.005
            gate.answered(world.now)
            server.served.append(world.now)
            break
        yield draw() * 0.02


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("takes", [0.001, 5.0], ids=["refuses", "times-out"])
def test_forty_callers_outlast_twenty_seconds(seed: int, takes: float) -> None:
    world, draw, gate = World(0), random.Random(seed).random, Gate()
    server, over = GoneServer(world, gone=10, back=30, takes=takes), list[float]()
    first: list[float] = []

    def witness() -> Process:
        """Notes when somebody is served for the first time after the return."""
        while world.now < 30:
            yield 0.001
        before = len(server.served)
        while len(server.served) == before:
            yield 0.001
        first.append(world.now)

    world.run([*(calls(gate, server, draw, 60, over) for _ in range(40)), witness()])
    assert over == [], "nobody gives up"
    # The first forty find out; after that it is one at a time, once in a second or so.
    probes = [at for at in server.refused if at > 10 + takes + 0.1]
    assert len(probes) <= 40
    assert 30 <= first[0] <= 30 + max(2, takes) + 0.1


@pytest.mark.parametrize("callers", [1, 2, 40, 400])
@pytest.mark.parametrize("seed", range(10))
def test_all_go_within_a_second_of_the_canarys_success(callers: int, seed: int) -> None:
    world, draw, gate = World(0), random.Random(seed).random, closed(0)
    server, released = GoneServer(world, gone=0, back=20, takes=0.001), list[float]()

    def caller() -> Process:
        while isinstance(verdict := gate.admit(world.now, draw), Wait) or server.is_gone:
            if isinstance(verdict, Wait):
                yield verdict.seconds
            else:
                assert verdict.canary
                yield 0.001
                gate.unreachable(world.now, draw, canary=True)
        released.append(world.now)
        yield 0.005
        gate.answered(world.now)

    world.run(caller() for _ in range(callers))
    assert len(released) == callers
    canary, last = min(released), max(released)
    assert 20 <= canary <= 22.01
    assert last <= canary + 1.01
    if callers == 400:
        # Spread over the second, and no herd: in a tenth of it, no more than a third of them.
        most = max(sum(at <= other < at + 0.1 for other in released) for at in released)
        assert most <= callers / 3


def test_nobody_waits_past_the_deadline() -> None:
    world, draw, gate = World(0), random.Random(1).random, Gate()
    server, over = GoneServer(world, gone=1, back=100, takes=0.001), list[float]()
    world.run((calls(gate, server, draw, 10, over) for _ in range(40)), until=50)
    assert len(over) >= 40 * 3
    assert max(over) <= 10 + 0.01


def test_a_canary_that_never_comes_back_does_not_close_it_for_ever() -> None:
    world, draw, gate = World(0), random.Random(1).random, closed(0)
    served: list[float] = []

    def lost() -> Process:
        while isinstance(verdict := gate.admit(world.now, draw), Wait):
            yield verdict.seconds
        assert verdict.canary

    def caller() -> Process:
        yield 1
        while isinstance(verdict := gate.admit(world.now, draw), Wait):
            yield verdict.seconds
        gate.answered(world.now)
        served.append(world.now)

    world.run([lost(), *(caller() for _ in range(10))])
    assert len(served) == 10
    assert max(served) <= 0.25 + LEASE + 2.1


def test_threads_send_one_canary_at_a_time() -> None:
    gate, start = closed(0), threading.Barrier(8)
    canaries: list[float] = []

    def hammer() -> None:
        start.wait()
        # Each thread goes through the same moments; one canary is let out in each lease.
        moments = [n * LEASE for n in range(1, 1001)]
        canaries.extend(at for at in moments if gate.admit(at, random.random) == CANARY)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(canaries) == len(set(canaries))


def test_threads_open_and_close_it_without_harm() -> None:
    gate, start = Gate(), threading.Barrier(8)
    gate.answered(0)

    def hammer(seed: int) -> None:
        draw = random.Random(seed)
        start.wait()
        for moment in range(2000):
            verdict = gate.admit(moment, draw.random)
            match draw.randrange(3):
                case 0:
                    gate.answered(moment)
                case 1:
                    gate.unreachable(moment, draw.random, canary=verdict == CANARY)
                case _:
                    gate.abandoned(moment)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.answered(3000)
    assert gate.admit(3000, half) == GO
