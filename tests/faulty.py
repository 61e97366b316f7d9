"""Servers that misbehave by plan, for tests of whoever calls them; and what they have seen, told.

``faulty`` stands before a real server; ``answering`` before answers from memory, which are true to
the contract as far as they go, and quick enough for thousands of calls.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from operator_api.contract import errors, models
from operator_api.contract.errors import Problem
from operator_api.contract.fields import format_timestamp
from operator_api.contract.headers import (
    IDEMPOTENT_REPLAYED,
    JSON,
    REQUEST_ID,
    RETRY_AFTER,
    format_rate_limit,
    format_rate_limit_policy,
)
from operator_api.contract.validation import validate_body
from operator_api.drill.answers import error_answer
from operator_api.drill.certificates import Certificate
from operator_api.drill.faults import Fault
from operator_api.drill.plans import Plan
from operator_api.drill.proxy import FaultProxy
from operator_api.drill.traffic import Answer, Seen
from tests.servers import Server

Faults = Plan | Iterable[Fault | None]
TOKEN = "op_test_" + "0" * 49

_PREFIX = {"users": "usr", "conversations": "cnv", "messages": "msg"}
_BODY: dict[str, type[models.RequestBody]] = {
    "users": models.UserCreate,
    "conversations": models.ConversationCreate,
    "messages": models.MessageCreate,
}


@contextmanager
def faulty(
    plan: Faults, upstream: Server, *, certificate: Certificate | None = None
) -> Iterator[FaultProxy]:
    """Stand before a real server, and misbehave by plan."""
    with FaultProxy(plan, upstream.address, certificate=certificate) as proxy:
        yield proxy


@contextmanager
def answering(
    plan: Faults = (),
    *,
    answers: "Answers | None" = None,
    certificate: Certificate | None = None,
) -> Iterator["Answering"]:
    """Answer from memory, and misbehave by plan. ``answers`` outlives the server it is given to."""
    answers = answers or Answers()
    with FaultProxy(plan, answers, certificate=certificate) as proxy:
        yield Answering(proxy, answers)


@dataclass
class Answers:
    """An upstream in memory: create, get and list users, conversations and messages; and ``me``.

    As the server does, it keeps the first answer to each Idempotency-Key. It knows the ``tokens``
    alone, and any if there are none. ``log`` has each operation that was executed, as its key (None
    without one) and the id of what it made.
    """

    tokens: set[str] = field(default_factory=set)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[tuple[str | None, str]] = field(default_factory=list)
    emails: dict[str, str] = field(default_factory=dict)
    kept: dict[str, tuple[tuple[str, str, bytes], Answer]] = field(default_factory=dict)

    def __call__(self, seen: Seen) -> Answer:
        """Answer one request."""
        try:
            return self._idempotent(seen)
        except Problem as problem:
            return error_answer(problem, f"http://{seen.header('host')}")

    def _idempotent(self, seen: Seen) -> Answer:
        if self.tokens and seen.token not in self.tokens:
            missing = seen.token is None
            raise Problem(errors.MISSING_TOKEN if missing else errors.INVALID_TOKEN)
        if seen.method == "GET" or seen.key is None:
            return self._answer(seen)
        fingerprint = (seen.method, seen.path, seen.body)
        if seen.key in self.kept:
            first, answer = self.kept[seen.key]
            if first != fingerprint:
                raise Problem(errors.IDEMPOTENCY_KEY_REUSED)
            headers = (*answer.headers, (IDEMPOTENT_REPLAYED, "true"))
            return Answer(answer.status, headers, answer.body)
        answer = self._answer(seen)
        self.kept[seen.key] = fingerprint, answer
        return answer

    def _answer(self, seen: Seen) -> Answer:
        match seen.method, *seen.path.partition("?")[0].strip("/").split("/"):
            case "POST", "v1", kind if kind in _PREFIX:
                return self._create(kind, seen)
            case "GET", "v1", "me":
                return _json(200, _ME)
            case "GET", "v1", kind if kind in _PREFIX:
                found = [each for id_, each in self.stored.items() if id_[:3] == _PREFIX[kind]]
                return _json(200, {"data": found[::-1], "has_more": False, "next_cursor": None})
            case "GET", "v1", kind, id_ if kind in _PREFIX:
                if id_ not in self.stored:
                    raise Problem(errors.RESOURCE_NOT_FOUND, {"resource": kind[:-1]})
                return _json(200, self.stored[id_])
        raise Problem(errors.UNKNOWN_ENDPOINT)

    def _create(self, kind: str, seen: Seen) -> Answer:
        try:
            sent = json.loads(seen.body)
        except ValueError:
            raise Problem(
                errors.INVALID_JSON, {"problem": "cannot be read", "line": 1, "column": 1}
            ) from None
        body = validate_body(_BODY[kind], sent)
        now, id_ = format_timestamp(time.time_ns() // 1000), _new_id(_PREFIX[kind])
        if kind == "users":
            self._refuse_taken(sent["email"])
            self.emails[sent["email"].lower()] = id_
        given = {"id": id_, **body.model_dump(mode="json")}
        match kind:
            case "users":
                made = {**given, "created_at": now, "updated_at": now}
            case "conversations":
                made = {**given, "started_at": now, "closed_at": None}
            case _:
                made = {**given, "created_at": now}
        self.stored[id_] = made
        self.log.append((seen.key, id_))
        return _json(201, made)

    def _refuse_taken(self, email: str) -> None:
        if (existing := self.emails.get(email.lower())) is not None:
            about = {"resource": "user", "field": "email", "existing_id": existing}
            raise Problem(errors.ALREADY_EXISTS, about)


@dataclass
class Answering:
    """A proxy, and the answers behind it."""

    proxy: FaultProxy
    answers: Answers

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def seen(self) -> tuple[Seen, ...]:
        return self.proxy.requests

    def created_per_key(self) -> Counter[str | None]:
        """Count what was made under each key: more than 1 is a doubled write."""
        return Counter(key for key, _ in self.answers.log)


# --- what was seen, told ---


def attempts_per_key(seen: Iterable[Seen]) -> Counter[str]:
    """Count the attempts under each key."""
    return Counter(each.key for each in seen if each.key is not None)


def tokens_seen(seen: Iterable[Seen]) -> set[str]:
    """Return every token that was sent."""
    return {each.token for each in seen if each.token is not None}


def bodies_per_key(seen: Iterable[Seen]) -> dict[str, set[bytes]]:
    """Return the bodies that came under each key: more than one is a changed retry."""
    found: dict[str, set[bytes]] = {}
    for each in seen:
        if each.key is not None and each.finished:
            found.setdefault(each.key, set()).add(each.body)
    return found


def asked_to_wait(seen: Seen) -> float | None:
    """Return how many seconds the answer's Retry-After asks for; None if it is not there or wrong.

    A date is taken against the answer's own Date.
    """
    told = seen.answer.header(RETRY_AFTER) if seen.answer else None
    if told is None or seen.answer is None:
        return None
    try:
        return float(told)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(seen.answer.header("date") or "")
        return (parsedate_to_datetime(told) - date).total_seconds()
    except ValueError:
        return None


def waited(
    seen: Iterable[Seen], *, by: Callable[[Seen], object] = lambda each: each.operation
) -> list[tuple[float, float]]:
    """Pair what each answer asked to wait with what passed until the next attempt came.

    Attempts are those of one operation; ``by=lambda seen: seen.token`` takes all calls of a token.
    """
    latest: dict[object, Seen] = {}
    pairs = []
    for each in seen:
        before = latest.get(by(each))
        if before is not None and before.answered_at is not None:
            asked = asked_to_wait(before)
            if asked is not None:
                pairs.append((asked, each.at - before.answered_at))
        latest[by(each)] = each
    return pairs


def assert_none_too_early(seen: Iterable[Seen]) -> None:
    """Require that every retry came no earlier than asked; and that there was one to judge."""
    pairs = waited(seen)
    assert pairs, "nothing was asked to wait and then came again"
    early = [(asked, passed) for asked, passed in pairs if passed < asked]
    assert not early, f"asked to wait, and came after: {early}"


def _json(status: int, value: Any) -> Answer:
    headers = (
        ("Content-Type", JSON),
        (REQUEST_ID, _new_id("req")),
        ("RateLimit-Policy", format_rate_limit_policy(600, 60)),
        ("RateLimit", format_rate_limit(599, 1)),
    )
    return Answer(status, headers, json.dumps(value).encode())


def _new_id(prefix: str) -> str:
    return f"{prefix}_{time.time_ns():016x}{random.getrandbits(64):016x}"


_ME = {
    "account": {"id": _new_id("acc"), "name": "Acme"},
    "environment": "test",
    "token_id": _new_id("tok"),
    "token_name": "first",
    "scopes": ["users:read", "users:write"],
    "expires_at": None,
    "limits": {"rate": {"limit": 600, "window_seconds": 60}, "body_bytes": 1_048_576},
}
