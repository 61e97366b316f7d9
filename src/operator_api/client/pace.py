"""The pace of a token: calls leave as fast as the server's policy allows, and no faster.

The server's bucket is mirrored: so many requests at once, then one each window/quota seconds. Each
call takes one when it is admitted, before the server knows of it, so that calls in flight are
counted; each answer's RateLimit corrects the mirror, and a 429 empties it.
"""

import math
from heapq import heappop, heappush
from threading import Lock

from operator_api.client.policy import RateLimit

ASSUMED_QUOTA, ASSUMED_WINDOW = 10, 1.0
"""Requests and seconds, after a 429 of a server that gives no policy."""
ASSUMED_FOR = 10.0
"""Seconds without another 429, after which that assumption is given up."""
ASSUMED_HOLD = 1.0
"""Seconds without a request, after a 429 without Retry-After."""
LONGEST_HOLD = 3600.0
"""Seconds. A token is not disabled for a whole day by one answer."""
LONGEST_GUESS = 5.0
"""Seconds that a call waits, at most, where the server has not said that nothing is left."""

_ROUNDING = 1e-6  # seconds by which floating point may be wrong about a slot


class Pace:
    """When the calls of one token, to one origin, may leave. Safe in threads.

    Moments are in monotonic seconds. A call asks ``admit`` for a slot, sleeps until it comes,
    ``confirm``s it, and goes when the slot is not later than now::

        slot = pace.admit(now, deadline)
        while now < slot <= deadline:
            ...  # sleep slot - now seconds
            slot = pace.confirm(slot, now, deadline)

    A slot after the deadline is not reserved: it says when the call could have gone.
    """

    __slots__ = (
        "_blind",
        "_exhausted",
        "_freed",
        "_hold",
        "_interval",
        "_lapses",
        "_lock",
        "_quota",
        "_zero",
    )

    def __init__(self) -> None:
        self._lock = Lock()
        self._quota = 0  # unknown, and all calls go at once
        self._interval = 0.0
        self._blind = 0  # admitted while the quota was unknown
        self._zero = -math.inf  # when the mirrored bucket is empty: later than now if slots are due
        self._hold = -math.inf  # nothing leaves before
        self._exhausted = False  # whether the server has said that nothing is left
        self._lapses = math.inf  # when an assumed policy is given up
        self._freed: list[float] = []  # slots that were reserved, and will not be used

    def admit(self, now: float, deadline: float = math.inf) -> float:
        """Return the moment to leave at: not later than now, or a slot that is now reserved."""
        with self._lock:
            if now >= self._lapses:
                self._forget()
            if not self._quota:
                self._blind += 1
                return now
            if self._freed and (freed := self._reuse(now, deadline)) is not None:
                return freed
            zero = max(self._zero, now - self._quota * self._interval)
            slot = zero + self._interval
            if slot <= now + _ROUNDING and now >= self._hold:
                self._zero = slot
                return now
            slot = max(slot, self._hold)
            if not self._exhausted and slot > now + LONGEST_GUESS:
                return now
            if slot <= deadline:
                self._zero = slot
            return slot

    def confirm(self, slot: float, now: float, deadline: float = math.inf) -> float:
        """Return the slot again, or another one where a 429 has come since and moved it."""
        return slot if slot >= self._hold else self.admit(now, deadline)

    def give_up(self, slot: float, now: float) -> None:
        """Tell that a slot was not used: the call was cancelled, or could not be sent."""
        with self._lock:
            if not self._quota:
                self._blind = max(0, self._blind - 1)
            elif slot > now:
                heappush(self._freed, slot)
            else:
                self._zero -= self._interval

    def answered(self, limit: RateLimit | None, now: float) -> None:
        """Learn from an answer that was not 429."""
        if limit is None:
            return
        with self._lock:
            self._learn(limit, now)
            if not self._quota:
                return
            remaining, left = limit.remaining, (now - self._zero) / self._interval
            if remaining == 0:
                self._exhausted = True
            if left >= remaining + 1:
                # Others use the token as well.
                self._zero = now - remaining * self._interval
            elif self._zero <= now >= self._hold and 2 * remaining >= self._quota:
                # Nobody waits, and there is plenty.
                self._exhausted = False
                if left < 1:
                    # The mirror was wrong. Half, as some may be in flight.
                    self._zero = now - remaining / 2 * self._interval

    def refused(self, retry_after: float | None, limit: RateLimit | None, now: float) -> None:
        """Learn from a 429: nothing leaves before the seconds it asks for have passed."""
        asked = ASSUMED_HOLD if retry_after is None else min(retry_after, LONGEST_HOLD)
        with self._lock:
            if limit is not None:
                self._learn(limit, now)
            self._hold = max(self._hold, now + asked)
            if not self._quota:
                self._quota, self._interval = ASSUMED_QUOTA, ASSUMED_WINDOW / ASSUMED_QUOTA
                self._lapses = self._hold
            if self._lapses < math.inf:
                self._lapses = self._hold + ASSUMED_FOR
            self._exhausted = True
            self._zero = max(self._zero, self._hold - self._interval)

    def _learn(self, limit: RateLimit, now: float) -> None:
        if not limit.quota or not limit.window:
            return
        if not self._quota:
            # Those admitted in the dark are not in what remains, but for this one. At most half is
            # taken off, as some of them may never have got there.
            left = max(limit.remaining - max(0, self._blind - 1), limit.remaining / 2)
            self._zero = now - left * limit.window / limit.quota
            self._blind = 0
        self._quota, self._interval = limit.quota, limit.window / limit.quota
        self._lapses = math.inf

    def _forget(self) -> None:
        self._quota, self._blind, self._exhausted = 0, 0, False
        self._lapses = math.inf
        self._freed.clear()

    def _reuse(self, now: float, deadline: float) -> float | None:
        """Take the first slot that was given up, and count those that have passed unused."""
        while self._freed:
            slot = self._freed[0]
            if slot >= max(now, self._hold):
                if slot <= deadline:
                    heappop(self._freed)
                return slot
            heappop(self._freed)
            if slot < now:
                self._zero -= self._interval
        return None
