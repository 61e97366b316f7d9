"""The retry budget: how much of what is sent to an origin may be retries.

One bucket per origin and process, so that an outage is not made worse by those who suffer from it.
Retries that succeed give back what they cost: faults that pass cost nothing.
"""

from threading import Lock

from operator_api.client.policy import Failure

CAPACITY = 500.0
COST = 14.0
THROTTLED_COST = 5.0
"""After 429 and 503: the server does little for such a request, and paces us itself."""
GAIN = 1.0
"""For a success at the first attempt."""
TRICKLE = 0.5
"""Per second, so that what has been emptied is not empty for ever."""


class RetryBudget:
    """A bucket of tokens, full at first. Safe in threads; ``now`` is in monotonic seconds."""

    __slots__ = ("_at", "_lock", "_tokens")

    def __init__(self) -> None:
        self._lock = Lock()
        self._tokens = CAPACITY
        self._at = 0.0

    def take(self, failure: Failure, now: float) -> float | None:
        """Pay for a retry, and return what it cost; None if there is not enough, and no retry.

        The senders add up what a call has paid, for ``succeeded``.
        """
        cost = THROTTLED_COST if failure.throttled else COST
        with self._lock:
            self._trickle(now)
            if self._tokens < cost:
                return None
            self._tokens -= cost
            return cost

    def succeeded(self, *, first_try: bool, spent: float, now: float) -> None:
        """Gain by a success: what its retries cost, or a token if it took none."""
        if self._tokens >= CAPACITY:
            return  # nothing to gain; a take that comes in between loses at most one token
        gain = GAIN if first_try else spent
        with self._lock:
            self._trickle(now)
            self._tokens = min(CAPACITY, self._tokens + gain)

    def tokens(self, now: float) -> float:
        """Return what is left, from 0 to CAPACITY."""
        with self._lock:
            self._trickle(now)
            return self._tokens

    def _trickle(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(CAPACITY, self._tokens + TRICKLE * (now - self._at))
            self._at = now
