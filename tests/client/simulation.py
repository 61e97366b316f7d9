"""A world whose time goes on only while everybody in it sleeps, for tests of waiting."""

import heapq
from collections.abc import Generator, Iterable
from itertools import count

Process = Generator[float, None, None]
"""Yields how many seconds it sleeps."""


class World:
    """Runs processes in simulated time; ``now`` is in seconds."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def run(self, processes: Iterable[Process], until: float = 10_000.0) -> None:
        order = count()
        due = [(self.now, next(order), process) for process in processes]
        heapq.heapify(due)
        while due and due[0][0] <= until:
            self.now, _, process = heapq.heappop(due)
            for seconds in process:
                assert seconds >= 0
                heapq.heappush(due, (self.now + seconds, next(order), process))
                break
