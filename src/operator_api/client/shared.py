"""What all clients of a process share: one budget and one gate per origin, one pace per token.

This is the one place with state of the process. An outage or a limit is the origin's, however many
clients look at it.
"""

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakSet

from operator_api.client.budget import RetryBudget
from operator_api.client.gate import Gate
from operator_api.client.pace import Pace

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

MOST_ORIGINS = 256
MOST_PACES = 2048


@dataclass(frozen=True, slots=True)
class Origin:
    """What is shared by all calls to one origin."""

    budget: RetryBudget = field(default_factory=RetryBudget)
    gate: Gate = field(default_factory=Gate)


class _Recent(Generic[KeyT, ValueT]):
    """Makes a value for each key, and forgets those that were not asked for in a long time.

    There are two generations of at most half the size; what is found in the old one moves on.
    """

    def __init__(self, make: Callable[[], ValueT], most: int) -> None:
        self._make = make
        self._half = most // 2
        self._lock = Lock()
        self._young: dict[KeyT, ValueT] = {}
        self._old: dict[KeyT, ValueT] = {}

    def get(self, key: KeyT) -> ValueT:
        value = self._young.get(key)
        if value is not None:
            return value
        with self._lock:
            value = self._young.get(key)
            if value is None:
                value = self._old.pop(key, None)
            if value is None:
                value = self._make()
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            self._young[key] = value
            return value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Registry:
    """Finds what is shared. Ask it for each call, and keep nothing: after a fork, all is new."""

    def __init__(self) -> None:
        self.reset()
        _registries.add(self)

    def origin(self, origin: str) -> Origin:
        """Return what is shared by all calls to an origin (RFC 6454: scheme, host and port)."""
        return self._origins.get(origin)

    def pace(self, origin: str, token: str) -> Pace:
        """Return what is shared by all calls with a token. Only a digest of it is kept."""
        digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key)
        return self._paces.get((origin, digest.digest()))

    def reset(self) -> None:
        """Forget everything; with it, each lock that another thread may hold."""
        self._key = os.urandom(32)
        self._origins = _Recent[str, Origin](Origin, MOST_ORIGINS)
        self._paces = _Recent[tuple[str, bytes], Pace](Pace, MOST_PACES)


_registries: WeakSet[Registry] = WeakSet()
PROCESS = Registry()
"""The one that clients share, but for tests that bring their own."""

origin = PROCESS.origin
pace = PROCESS.pace


def _reset_after_fork() -> None:
    for registry in list(_registries):
        registry.reset()


# A lock that a thread of the parent held at the fork would never be released in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
