"""Simulation: a test token asks for an error, so that what handles it can be tried beforehand.

::

    Operator-Simulate: rate_limited                             this error, each time
    Operator-Simulate: rate_limited; after=7                    to be tried again after 7 seconds
    Operator-Simulate: overloaded; times=2                      the first two tries of a key fail
    Operator-Simulate: store_unavailable; outcome=unknown       it may have been executed

The error is answered in the place of the operation's answer, once the token, its rate and its scope
are found good. Nothing is executed, and nothing is kept under the idempotency key.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from operator_api.contract.errors import (
    CATALOGUE,
    INTERNAL_ERROR,
    INVALID_HEADER,
    SIMULATION_NOT_ALLOWED,
    STORE_UNAVAILABLE,
    ErrorKind,
    FieldError,
    Problem,
)
from operator_api.contract.headers import IDEMPOTENCY_KEY, SIMULATE, parse_idempotency_key
from operator_api.contract.operations import Operation
from operator_api.contract.samples import sample
from operator_api.contract.suggest import nearest
from operator_api.contract.validation import field_error
from operator_api.server.exchange import Exchange

MOST_SECONDS = 86_400
MOST_TIMES = 1000
# As Python and ECMA-262 read alike, for OpenAPI too.
SIMULATE_PATTERN: Final = (
    rf"^({'|'.join(CATALOGUE)})"
    r"( *; *(after=[0-9]{1,5}|times=[0-9]{1,4}|outcome=unknown))*$"
)
_MAYBE_EXECUTED = (INTERNAL_ERROR, STORE_UNAVAILABLE)

# How many keys are counted: of each tenant, and tenants. What was used longest ago is forgotten.
MOST_KEYS = 256
_MOST_TENANTS = 1000


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is asked for. ``times`` is None where each try is to fail."""

    kind: ErrorKind
    after: int | None = None
    times: int | None = None
    maybe_executed: bool = False


class Simulator:
    """Answers what is asked for, and counts the tries of keys: in this process's memory."""

    def __init__(self) -> None:
        self._failed: OrderedDict[int, OrderedDict[str, int]] = OrderedDict()

    def refuse(self, exchange: Exchange, operation: Operation) -> None:
        """Raise the error that the request asks for; return if it has had it often enough."""
        token = exchange.token
        if token is None or token.environment != "test":
            raise Problem(SIMULATION_NOT_ALLOWED)
        key = parse_idempotency_key(exchange.header(b"idempotency-key") or "")
        asked = read_simulation(exchange.header(b"operator-simulate") or "", keyed=key is not None)
        if asked.times is not None:
            assert key is not None, "read_simulation refuses times without a key"
            if not self._fails(token.tenant, key, asked.times):
                return
        exchange.keyed = key is not None and operation.writes
        exchange.simulated = True
        raise _problem(asked, operation)

    def _fails(self, tenant: int, key: str, times: int) -> bool:
        """Count a try of the key, unless it is past those that fail."""
        failed = self._failed.setdefault(tenant, OrderedDict())
        self._failed.move_to_end(tenant)
        if len(self._failed) > _MOST_TENANTS:
            self._failed.popitem(last=False)
        count = failed.get(key, 0)
        if count >= times:
            return False
        failed[key] = count + 1
        failed.move_to_end(key)
        if len(failed) > MOST_KEYS:
            failed.popitem(last=False)
        return True


def _problem(asked: Simulation, operation: Operation) -> Problem:
    problem = sample(asked.kind, operation)
    if asked.after is not None:
        problem.after_seconds = asked.after
    if asked.maybe_executed:
        problem.outcome = "unknown"
    return problem


# --- reading the header ---


def read_simulation(value: str, *, keyed: bool) -> Simulation:
    """Read the header, or raise 400 with what it may hold; ``keyed``: there is a key to count."""
    reason, *parameters = (part.strip(" ") for part in value.split(";"))
    kind = CATALOGUE.get(reason)
    if kind is None:
        raise Problem(INVALID_HEADER, errors=[_unknown_reason(reason)])
    after = times = None
    maybe_executed = False
    seen = set()
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        number = int(text) if re.fullmatch("[0-9]{1,5}", text) else -1
        if name == "after" and kind.waits and 0 <= number <= MOST_SECONDS:
            after = number
        elif name == "times" and 1 <= number <= MOST_TIMES:
            times = number
        elif parameter == "outcome=unknown" and kind in _MAYBE_EXECUTED:
            maybe_executed = True
        else:
            raise _invalid(_expected(kind))
        if name in seen:
            raise _invalid(_expected(kind))
        seen.add(name)
    if times is not None and not keyed:
        raise _invalid(f"sent with an {IDEMPOTENCY_KEY}, whose tries are counted, if it has times")
    return Simulation(kind, after, times, maybe_executed)


def _expected(kind: ErrorKind) -> str:
    parameters = [f"times=1…{MOST_TIMES}"]
    if kind.waits:
        parameters.append(f"after=0…{MOST_SECONDS}")
    if kind in _MAYBE_EXECUTED:
        parameters.append("outcome=unknown")
    listed = " or ".join(f"`; {each}`" for each in parameters)
    return f"`{kind.reason}`, followed by nothing but {listed}, each once"


def _unknown_reason(reason: str) -> FieldError:
    expected = "a reason that GET /v1/errors lists"
    error = field_error("header", (SIMULATE,), "not_allowed_value", expected=expected)
    return error.suggesting(nearest(reason, CATALOGUE))


def _invalid(expected: str) -> Problem:
    error = field_error("header", (SIMULATE,), "invalid_format", expected=expected)
    return Problem(INVALID_HEADER, errors=[error])
