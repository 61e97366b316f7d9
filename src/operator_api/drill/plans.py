"""Which request meets which fault: plans, as values that can be written down and replayed.

A plan is data; ``begin`` starts a run of it, which counts. The same plan gives the same faults to
the same requests in the same order, whatever the keys, ids and ports of that run are.
"""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from operator_api.drill.faults import FAULTS, Fault, Refused, ResetBeforeRequest
from operator_api.drill.traffic import Asked

Choose = Callable[[Asked], Fault | None]


@dataclass(frozen=True)
class Plan:
    """Says of each request, and of each connection that opens, what goes wrong; None is nothing."""

    def begin(self) -> Choose:
        """Start a run: the function that is asked once for each request, in order of arrival."""
        raise NotImplementedError


@dataclass(frozen=True)
class Always(Plan):
    """The same fault each time; without one, nothing ever goes wrong."""

    fault: Fault | None = None

    def begin(self) -> Choose:
        """Start a run."""
        return lambda asked: _possible(self.fault, asked)


@dataclass(frozen=True)
class InOrder(Plan):
    """One fault per request, in order of arrival; None lets it pass. Then ``then``, for ever."""

    faults: tuple[Fault | None, ...]
    then: Fault | None = None

    def begin(self) -> Choose:
        """Start a run."""
        left = list(reversed(self.faults))

        def choose(asked: Asked) -> Fault | None:
            fault = left[-1] if left else self.then
            if asked.connecting and not isinstance(fault, ResetBeforeRequest):
                return None
            if left:
                left.pop()
            return fault

        return choose


@dataclass(frozen=True)
class PerOperation(Plan):
    """The first attempt of each operation meets the first fault, the second the second, and so on.

    An operation is what goes under one Idempotency-Key (see ``Asked``). Then ``then``, for ever.
    """

    faults: tuple[Fault | None, ...]
    then: Fault | None = None

    def begin(self) -> Choose:
        """Start a run."""
        return lambda asked: None if asked.connecting else self._choose(asked)

    def _choose(self, asked: Asked) -> Fault | None:
        return self.faults[asked.attempt] if asked.attempt < len(self.faults) else self.then


@dataclass(frozen=True)
class Share(Plan):
    """A share of the operations meets one of the faults, by chance, the same for the same seed.

    The chance is that of the n-th operation and its attempt, so it does not depend on keys, which
    differ from run to run. Unless ``first_attempts_only`` is False, an operation that is tried
    again passes.
    """

    share: float
    faults: tuple[Fault, ...]
    seed: int = 0
    first_attempts_only: bool = True

    def begin(self) -> Choose:
        """Start a run."""
        return lambda asked: None if asked.connecting else self._choose(asked)

    def _choose(self, asked: Asked) -> Fault | None:
        if asked.attempt and self.first_attempts_only:
            return None
        chance = random.Random(f"{self.seed}/{asked.operation}/{asked.attempt}")  # noqa: S311 - to be repeatable, not secret
        return chance.choice(self.faults) if chance.random() < self.share else None


@dataclass(frozen=True)
class Where(Plan):
    """A plan for the requests with one of the methods (any, if none) and such a path.

    ``path`` is a pattern of ``fnmatch``, for the path without its query: ``/v1/users/*``.
    """

    plan: Plan
    methods: tuple[str, ...] = ()
    path: str = "*"

    def begin(self) -> Choose:
        """Start a run."""
        choose = self.plan.begin()
        return lambda asked: choose(asked) if self._matches(asked) else None

    def _matches(self, asked: Asked) -> bool:
        if asked.connecting or (self.methods and asked.method not in self.methods):
            return False
        return fnmatchcase(asked.path.partition("?")[0], self.path)


@dataclass(frozen=True)
class Window(Plan):
    """An outage: a fault for all that comes in some seconds, counted from the first connection.

    The port stays closed (``Refused``) from what comes first in the window to the window's end.
    """

    start: float
    seconds: float
    fault: Fault = field(default_factory=Refused)

    def begin(self) -> Choose:
        """Start a run."""
        return self._choose

    def _choose(self, asked: Asked) -> Fault | None:
        left = self.start + self.seconds - asked.elapsed
        if asked.elapsed < self.start or left <= 0:
            return None
        if isinstance(self.fault, Refused):
            return replace(self.fault, seconds=left)
        return _possible(self.fault, asked)


@dataclass(frozen=True)
class FirstOf(Plan):
    """The first of the plans that has a fault for the request; those before it have counted it."""

    plans: tuple[Plan, ...]

    def begin(self) -> Choose:
        """Start a run."""
        runs = [plan.begin() for plan in self.plans]

        def choose(asked: Asked) -> Fault | None:
            return next((fault for run in runs if (fault := run(asked)) is not None), None)

        return choose


def in_order(faults: Iterable[Fault | None]) -> InOrder:
    """Make the plan of a list: one fault per request, then nothing."""
    return InOrder(tuple(faults))


def _possible(fault: Fault | None, asked: Asked) -> Fault | None:
    """Keep from a connection that opens what only a request can meet."""
    if asked.connecting and not isinstance(fault, ResetBeforeRequest | Refused):
        return None
    return fault


# --- written down ---

PLANS: tuple[type[Plan], ...] = (Always, InOrder, PerOperation, Share, Where, Window, FirstOf)
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*FAULTS, *PLANS)}


def write_plan(plan: Plan) -> str:
    """Write a plan as JSON, which ``read_plan`` reads."""
    return json.dumps(_written(plan))


def read_plan(text: str) -> Plan:
    """Read a plan; raises ValueError if the text is not one that ``write_plan`` has written."""
    plan = _read(json.loads(text))
    if isinstance(plan, Plan):
        return plan
    raise ValueError("this is not a plan")


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, Plan | Fault):
        members = {each.name: _written(getattr(value, each.name)) for each in fields(value)}
        return {"kind": type(value).__name__, **members}
    return value


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(each) for each in value)
    if isinstance(value, dict):
        members = {name: _read(each) for name, each in value.items() if name != "kind"}
        try:
            return _KINDS[value["kind"]](**members)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a plan: {error}") from None
    return value
