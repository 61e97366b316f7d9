"""One call from its first attempt to its answer, without I/O.

``Attempts.run`` is a generator: it yields what is to be done next, and is told what came of it. The
two senders do these things, one in a thread and one on an event loop, and decide nothing.

::

    Authorize(refused)   → a token; another one than the refused, if there is one
    Sleep(seconds)       → None
    Send(…)              → a Response, or the exception of the network
"""

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from random import random as uniform
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import urljoin

from httpx2 import URL, ConnectError, ConnectTimeout, HTTPError, InvalidURL

from operator_api.client.answers import InvalidAnswer
from operator_api.client.configuration import CONNECT_TIMEOUT, origin_of
from operator_api.client.core import RETRY_COUNT, Request, parse
from operator_api.client.errors import APIConnectionError, APIError, APITimeoutError
from operator_api.client.failing import Failed, exception_of, failure_of_status
from operator_api.client.failures.attempt import FailedAttempt
from operator_api.client.gate import Wait
from operator_api.client.policy import (
    Failure,
    Kind,
    Verdict,
    fold,
    judge,
    outcome_of,
    read_rate_limit,
    settles,
    wait,
    worth_waiting,
)
from operator_api.client.responses import Response
from operator_api.client.shared import Registry
from operator_api.client.transport import failure_of
from operator_api.contract.headers import RATE_LIMIT, RATE_LIMIT_POLICY

if TYPE_CHECKING:
    from operator_api.client.pace import Pace
    from operator_api.contract.errors import Outcome

log = logging.getLogger("operator_api.client")

_MAX_REDIRECTS = 5


class Authorize(NamedTuple):
    """Ask for a token. ``refused`` is one that the server does not take any more."""

    refused: str | None

    def __repr__(self) -> str:
        return type(self).__name__  # without the token


class Sleep(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


class Send(NamedTuple):
    """Send a request, and read its answer to the end, within ``timeout`` seconds in all."""

    method: str
    url: URL
    headers: dict[str, str]
    content: bytes | None
    timeout: float

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method})"  # without token, address and body

    @property
    def timeouts(self) -> dict[str, float]:
        """The limits of each step, as httpx2 takes them."""
        whole = self.timeout
        # Shorter than the whole, so that it is certain which of them has passed: what had no
        # connection was not sent.
        soon = 0.9 * whole
        connect = min(CONNECT_TIMEOUT, soon)
        return {"connect": connect, "read": whole, "write": whole, "pool": soon}


Effect = Authorize | Sleep | Send
Steps = Generator[Effect, Any, tuple[Response, Any]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a call's way depends on besides the request, so that tests may choose it.

    ``clock`` is monotonic, in seconds; ``random`` is uniform in [0, 1).
    """

    registry: Registry
    record: Callable[[FailedAttempt], None] | None = None
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = uniform


class Attempts:
    """The attempts of one call, to be ``run`` once."""

    def __init__(self, request: Request, around: Surroundings) -> None:
        self._request = request
        self._around = around
        self._origin_name = origin_of(request.url)
        self._origin = around.registry.origin(self._origin_name)
        self._pace: Pace | None = None
        self._token: str | None = None
        self._url = request.url
        self._redirects = 0
        self._ends = around.clock() + request.deadline
        self._sent = 0
        self._retries = 0
        self._spent = 0.0
        self._spent_once: set[Verdict] = set()
        self._outcome: Outcome | None = None
        self._last: Failed | None = None
        self._began = 0.0

    def run(self) -> Steps:
        """Make attempts until one succeeds, or raise what became of the last one."""
        if not self._request.operation.public:
            self._take((yield Authorize(None)))
        while True:
            slot, canary = yield from self._wait_for_turn()
            came = yield from self._attempt(slot, canary=canary)
            if isinstance(came, Response):
                self._learn(came)
                if self._redirected(came):
                    continue
                try:
                    if came.status_code < 400:
                        answer = parse(self._request, came)
                        self._succeed(came)
                        return came, answer
                    failed = Failed(failure_of_status(came), came)
                except InvalidAnswer as invalid:
                    if came.status_code >= 300:
                        self._spent_once.add(Verdict.ONCE)  # it will redirect again
                    failure = Failure(Kind.INVALID_ANSWER, status=came.status_code)
                    failed = Failed(failure, came, invalid.why)
                gone = False
            else:
                failed = Failed(failure_of(came), came)
                gone = self._is_gone(came, failed.failure, slot, canary=canary)
            yield from self._recover(failed, gone=gone)

    def _take(self, token: str) -> None:
        self._token = token
        self._pace = self._around.registry.pace(self._origin_name, token)

    # --- before and during an attempt

    def _wait_for_turn(self) -> Generator[Effect, Any, tuple[float, bool]]:
        """Wait at the gate, then for the pace; return the slot, and whether this is a canary."""
        canary = yield from self._pass_the_gate()
        try:
            return (yield from self._keep_the_pace()), canary
        except BaseException:
            if canary:
                self._origin.gate.abandoned(self._around.clock())
            raise

    def _pass_the_gate(self) -> Generator[Effect, Any, bool]:
        """Wait while the origin accepts no connections; True where this attempt is to find out."""
        around, gate = self._around, self._origin.gate
        if self._request.max_retries == 0:
            return False  # who wants no second attempt does not want to wait for a first
        while True:
            now = around.clock()
            leave = gate.admit(now, around.random)
            if not isinstance(leave, Wait):
                return leave.canary
            if now + leave.seconds >= self._ends:
                yield Sleep(max(0.0, self._ends - now))
                why = f"{self._origin_name} accepts no connections"
                self._give_up(why, APIConnectionError)
            yield Sleep(leave.seconds)

    def _keep_the_pace(self) -> Generator[Effect, Any, float]:
        """Wait for a slot of the token's, and return it."""
        around, pace = self._around, self._pace
        now = slot = around.clock()
        if pace is None:
            return slot
        slot = pace.admit(now, self._ends)
        while now < slot:
            if slot > self._ends:
                why = "the server's rate limit leaves no room before the deadline"
                self._give_up(why, retry_after=slot - now)
            try:
                yield Sleep(slot - now)
            except BaseException:
                pace.give_up(slot, around.clock())
                raise
            now = around.clock()
            slot = pace.confirm(slot, now, self._ends)
        return slot

    def _attempt(
        self, slot: float, *, canary: bool
    ) -> Generator[Effect, Any, Response | HTTPError]:
        """Send the request once."""
        request, self._began = self._request, self._around.clock()
        came: Response | HTTPError | None = None
        try:
            timeout = min(request.timeout, self._ends - self._began)
            if timeout <= 0:
                self._give_up("there was no time left for an attempt")
            headers = {**request.headers, RETRY_COUNT: str(self._sent)}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            self._sent += 1
            came = yield Send(request.method, self._url, headers, request.content, timeout)
        finally:
            if came is None:  # cancelled, interrupted or too late: others may go instead
                now = self._around.clock()
                if canary:
                    self._origin.gate.abandoned(now)
                if self._pace is not None:
                    self._pace.give_up(slot, now)
        return came

    # --- after an attempt

    def _learn(self, response: Response) -> None:
        """Take from an answer what all calls of this origin and this token should know."""
        now, headers = self._around.clock(), response.headers
        self._origin.gate.answered(now)
        if self._pace is None:
            return
        limit = read_rate_limit(headers.get(RATE_LIMIT), headers.get(RATE_LIMIT_POLICY))
        if response.status_code == 429:
            self._pace.refused(failure_of_status(response).retry_after, limit, now)
        else:
            self._pace.answered(limit, now)

    def _is_gone(self, error: HTTPError, failure: Failure, slot: float, *, canary: bool) -> bool:
        """Tell the gate of an attempt without an answer; True where the call is to wait there."""
        now, around = self._around.clock(), self._around
        gate = self._origin.gate
        if failure.kind is not Kind.NEVER_SENT:
            if canary:
                gate.answered(now)  # it got connected
            return False
        if self._pace is not None:
            self._pace.give_up(slot, now)
        if not isinstance(error, ConnectError | ConnectTimeout):
            # No connection of ours was free, or a proxy refused: that says nothing of the origin.
            if canary:
                gate.abandoned(now)
            return False
        gone = gate.unreachable(now, around.random, canary=canary)
        return gone and self._request.max_retries > 0

    def _redirected(self, response: Response) -> bool:
        """Take the address that a redirect within the origin names; another one gets no token."""
        status = response.status_code
        keeps_method = status in {307, 308} or (
            status in {301, 302, 303} and self._request.method == "GET"
        )
        if not keeps_method or self._redirects == _MAX_REDIRECTS:
            return False
        location = response.headers.get("Location")
        if not location:
            return False
        try:
            target = URL(urljoin(str(self._url), location))
        except (InvalidURL, ValueError):
            return False
        if origin_of(target) != self._origin_name:
            return False
        self._redirects += 1
        self._url = target
        return True

    def _succeed(self, response: Response) -> None:
        response.attempts = self._sent
        now = self._around.clock()
        first = self._retries == 0
        self._origin.budget.succeeded(first_try=first, spent=self._spent, now=now)
        if log.isEnabledFor(logging.INFO):
            self._log(f"{response.status_code} {response.request_id or ''}".rstrip(), "")

    def _recover(self, failed: Failed, *, gone: bool) -> Generator[Effect, Any, None]:
        """Wait until the next attempt is due, or raise that there will be none."""
        request, failure = self._request, failed.failure
        self._last = failed
        outcome = outcome_of(failure, writes=request.operation.writes, told=failed.told)
        settled = settles(failure, keyed=request.idempotency_key is not None)
        self._outcome = fold(self._outcome, outcome, settled=settled)
        verdict = judge(failure, replayable=request.replayable, told=failed.told)
        if verdict is Verdict.RAISE or verdict in self._spent_once:
            self._refused(failed)
        if verdict is Verdict.NEW_TOKEN:
            self._spent_once.add(verdict)
            try:
                token = yield Authorize(self._token)
            except BaseException:
                self._record(failed, None)
                raise
            if token == self._token:
                self._refused(failed)
            self._record(failed, 0.0)
            self._take(token)
        elif gone:
            self._record(failed, 0.0)
        else:
            if verdict is Verdict.ONCE:
                self._spent_once.add(verdict)
            seconds = self._pay_for_retry(failed)
            self._record(failed, seconds)
            yield Sleep(seconds)

    def _pay_for_retry(self, failed: Failed) -> float:
        """Return how many seconds to wait before the next attempt, or raise where there is none."""
        around, failure = self._around, failed.failure
        if self._retries >= self._request.max_retries:
            self._raise(failed)
        seconds = wait(self._retries + 1, failure, around.random)
        now = around.clock()
        if not worth_waiting(seconds, failure, self._ends - now):
            self._raise(failed)
        cost = self._origin.budget.take(failure, now)
        if cost is None:
            self._raise(failed, budget_exhausted=True)
        self._retries += 1
        self._spent += cost
        return seconds

    # --- the end of a call without success

    def _give_up(
        self,
        why: str,
        late: type[APIConnectionError] = APITimeoutError,
        *,
        retry_after: float | None = None,
    ) -> NoReturn:
        """Raise that no further attempt can be made: what the last one met, if there was one."""
        if self._last is not None:
            raise self._exception(
                self._last, **({"retry_after": retry_after} if retry_after else {})
            )
        request = self._request
        raise late(
            f"{request.operation.name}: {why}; nothing was sent within {request.deadline:g} s.",
            operation=request.operation.name,
            attempts=0,
            outcome="not_executed",
            idempotency_key=request.idempotency_key,
            retry_after=retry_after,
        )

    def _refused(self, failed: Failed) -> NoReturn:
        """Raise what another attempt would not change."""
        if failed.failure.kind is Kind.STATUS and (failed.failure.status or 0) < 500:
            # The server works; what it refuses is not its fault.
            now, first = self._around.clock(), self._retries == 0
            self._origin.budget.succeeded(first_try=first, spent=self._spent, now=now)
        self._raise(failed)

    def _raise(self, failed: Failed, **more: Any) -> NoReturn:
        self._record(failed, None)
        raise self._exception(failed, **more)

    def _exception(self, failed: Failed, **more: Any) -> APIError:
        if isinstance(failed.came, Response):
            failed.came.attempts = self._sent
        return exception_of(
            failed,
            self._request,
            origin=self._origin_name,
            attempts=self._sent,
            outcome=self._outcome or "not_executed",
            **more,
        )

    def _record(self, failed: Failed, delay: float | None) -> None:
        """Write the failed attempt into the log of failures, and into the program's own log."""
        failure, came = failed.failure, failed.came
        answer = came if isinstance(came, Response) else None
        if log.isEnabledFor(logging.INFO):
            met = failure.status or failed.error.__name__
            told = (met, failure.reason, answer and answer.request_id)
            what = " ".join(str(each) for each in told if each)
            self._log(what, "given up" if delay is None else f"next in {delay:.2f} s")
        if self._around.record is None:
            return
        request = self._request
        elapsed = self._around.clock() - self._began
        self._around.record(
            FailedAttempt(
                at=int((time.time() - elapsed) * 1e6),
                operation=request.operation.name,
                method=request.method,
                path=request.operation.path,
                url=str(self._url),
                call_id=request.call_id,
                error=failed.error.__name__,
                outcome=self._outcome or "not_executed",
                attempt=self._sent,
                status=failure.status,
                reason=failure.reason,
                request_id=answer.request_id if answer else None,
                idempotency_key=request.idempotency_key,
                delay=delay,
                elapsed_ms=elapsed * 1000,
                message=self._exception(failed).message,
                request_headers=request.headers,
                request_body=request.content,
                response_headers=answer.headers.multi_items() if answer else (),
                response_body=answer.content if answer else None,
            )
        )

    def _log(self, what: str, then: str) -> None:
        operation = self._request.operation
        elapsed = (self._around.clock() - self._began) * 1000
        log.info(
            "%s %s: %s, attempt %d, %.0f ms%s",
            operation.method,
            operation.path,
            what,
            self._sent,
            elapsed,
            then and f", {then}",
        )
