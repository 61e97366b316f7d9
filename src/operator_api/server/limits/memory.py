"""The limiter of one process: arrival times in memory, bounded."""

import time
from collections.abc import Callable

from operator_api.server.limits.limiter import Policy, Verdict, decide

_MOST_KEYS = 100_000


class MemoryLimiter:
    """GCRA for one process. Nothing in ``hit`` waits, so that no other request comes between."""

    def __init__(self, policy: Policy, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.policy = policy
        self._clock = clock
        self._arrivals: dict[str, int] = {}

    async def hit(self, key: str, cost: int = 1) -> Verdict:
        """Count a request, if it may pass, and say so. ``cost=0`` looks without counting."""
        now = self._clock()
        verdict, after = decide(self.policy, now, self._arrivals.get(key, 0), cost)
        if cost:
            self._arrivals[key] = after
            if len(self._arrivals) > _MOST_KEYS:
                self._forget(now * self.policy.limit)
        return verdict

    def _forget(self, present: int) -> None:
        """Drop the keys whose quota is whole again, or else the half that was first seen first."""
        self._arrivals = {key: at for key, at in self._arrivals.items() if at > present}
        if len(self._arrivals) > _MOST_KEYS:
            kept = list(self._arrivals.items())[_MOST_KEYS // 2 :]
            self._arrivals = dict(kept)
