"""The gate before an origin: closed while it accepts no connections, so that calls wait together.

::

    open ── unreachable, of an origin that has answered before ──> closed
     ^                                                              │ one canary at a time probes,
     └──────────────────────── answered ────────────────────────────┘ all others wait

Those who wait ask again within a second, each after a time of its own: when the gate opens, they
come spread over that second.
"""

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

LEASE = 6.0
"""Seconds for a canary to come back: longer than an attempt to connect takes."""
_POLL = (0.05, 1.0)
_BASE, _CAP = 0.25, 2.0


class Go(NamedTuple):
    """Send now. A canary must say what became of it: answered, unreachable or abandoned."""

    canary: bool


class Wait(NamedTuple):
    """Ask again in so many seconds, or give up at the deadline of the call."""

    seconds: float


_GO, _CANARY = Go(canary=False), Go(canary=True)


class Gate:
    """The gate of one origin in one process. Safe in threads; ``now`` is in monotonic seconds.

    Waiting here costs no attempt, no retry and no budget.
    """

    __slots__ = (
        "_appointed",
        "_closed",
        "_failed",
        "_known",
        "_lease_ends",
        "_lock",
        "_next_probe",
    )

    def __init__(self) -> None:
        self._lock = Lock()
        self._known = False
        self._closed = False
        self._failed = 0
        self._next_probe = 0.0
        self._lease_ends = 0.0  # of the canary that is out; 0 if none is
        self._appointed = False  # whether somebody was told to come at _next_probe

    def admit(self, now: float, random: Callable[[], float], lease: float = LEASE) -> Go | Wait:
        """Say whether to go now. A canary that is not back after ``lease`` seconds is lost."""
        return self._wait_or_probe(now, random, lease) if self._closed else _GO

    def _wait_or_probe(self, now: float, random: Callable[[], float], lease: float) -> Go | Wait:
        with self._lock:
            if not self._closed:
                return _GO
            if now >= self._next_probe and now >= self._lease_ends:
                self._lease_ends = now + lease
                return _CANARY
            if not self._appointed and self._next_probe > now >= self._lease_ends:
                self._appointed = True
                return Wait(self._next_probe - now)
            return Wait(_POLL[0] + (_POLL[1] - _POLL[0]) * random())

    def answered(self, now: float) -> None:  # noqa: ARG002 - each of the three is told the time
        """Tell that an answer came, whatever it says; of a canary, also that it got connected."""
        if self._known and not self._closed:
            return
        with self._lock:
            self._known = True
            self._closed = False

    def unreachable(self, now: float, random: Callable[[], float], *, canary: bool) -> bool:
        """Tell that no connection was possible.

        Return whether the call is to wait at the gate, at no cost. If not, the origin has never
        answered, and the usual tries are all it gets.
        """
        with self._lock:
            if not self._known:
                return False
            if self._closed and not canary:
                return True  # it set out before the gate was closed
            self._failed = self._failed + 1 if self._closed else 1
            self._closed = True
            self._lease_ends = 0.0
            self._appointed = False
            self._next_probe = now + random() * min(_CAP, _BASE * 2 ** min(self._failed - 1, 16))
            return True

    def abandoned(self, now: float) -> None:
        """Tell that a canary was cancelled before it knew: the next who asks takes its place."""
        with self._lock:
            self._lease_ends = 0.0
            self._next_probe = min(self._next_probe, now)
