"""What every limiter promises, and the arithmetic of GCRA that they share.

GCRA, the generic cell rate algorithm (ITU-T I.371), keeps one number per key: the *theoretical
arrival time* at which the whole quota would be there again. All of it is in whole numbers: time in
nanoseconds times the limit, so that one request costs exactly the window, whatever the limit.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Policy:
    """So many requests in so many seconds; all of them may come at once."""

    limit: int
    window_seconds: float

    @cached_property
    def window(self) -> int:
        """The window in nanoseconds."""
        return int(self.window_seconds * NANOSECONDS)

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Read ``600/60s``. The limit is at least 1, the window from 0.001 s to a day."""
        match = re.fullmatch(r"([0-9]{1,12})/([0-9]+(?:\.[0-9]+)?)s", text)
        policy = cls(int(match[1]), _seconds(match[2])) if match else None
        if policy is None or policy.limit < 1 or not 0.001 <= policy.window_seconds <= 86_400:
            raise ValueError("a rate limit is written as requests/seconds, such as 600/60s")
        return policy


def _seconds(text: str) -> float:
    """Read seconds; whole ones are told as such, 60 and not 60.0."""
    seconds = float(text)
    return int(seconds) if seconds.is_integer() else seconds


class Verdict(NamedTuple):
    """Whether the request may pass, what is left, and how long to wait (whole seconds)."""

    allowed: bool
    remaining: int
    reset_seconds: int
    retry_after: int


class Limiter(Protocol):
    """Counts requests by key."""

    policy: Policy

    async def hit(self, key: str, cost: int = 1) -> Verdict:
        """Count a request, if it may pass, and say so. ``cost=0`` looks without counting."""
        ...


def decide(policy: Policy, now: int, arrival: int, cost: int) -> tuple[Verdict, int]:
    """Return the verdict at ``now`` (nanoseconds), and the key's next arrival time.

    ``arrival`` is the key's stored number; 0 where there is none.
    """
    window, limit = policy.window, policy.limit
    present = now * limit
    used = arrival - present if arrival > present else 0
    # Without a cost, the question is whether one more would pass.
    excess = used + (cost or 1) * window - limit * window
    if excess <= 0:
        used += cost * window
    per_second = limit * NANOSECONDS
    verdict = Verdict(
        allowed=excess <= 0,
        remaining=limit - -(-used // window),
        reset_seconds=-(-used // per_second) or 1,
        retry_after=-(-excess // per_second) if excess > 0 else 0,
    )
    return verdict, present + used
