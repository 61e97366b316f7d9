"""What a fault answers in the server's place: errors true to the contract, and pages that are not.

Times are seconds since 1970, by the clock of the server that is played.
"""

import json
import math
import random
import re
import time
from email.utils import formatdate
from typing import Any

from operator_api.contract.errors import CATALOGUE, RETRYABLE_ACTIONS, ErrorKind, Problem
from operator_api.contract.headers import ERROR_REASON, JSON, REQUEST_ID, RETRY_AFTER, SHOULD_RETRY
from operator_api.drill.faults import Empty, Fault, Html, Redirect, Refuse, Status, WrongJson
from operator_api.drill.traffic import Answer, Headers

# What the variables of the catalogue's messages are filled with.
_VARIABLES: dict[str, Any] = {
    "allowed": ["GET", "HEAD", "OPTIONS"],
    "available": [JSON],
    "byte": 17,
    "cause": "expired_token",
    "closed_at": "2026-01-31T12:00:00.000000Z",
    "existing_id": "usr_0197b1c2d3e4f5061718293a4b5c6d7e",
    "expired_at": "2026-01-31T12:00:00.000000Z",
    "field": "email",
    "found": "a list",
    "header": "Content-Type",
    "limit": 600,
    "limit_bytes": 1_048_576,
    "line": 3,
    "column": 5,
    "method": "POST",
    "missing": ["users:write"],
    "problem": "expecting ',' delimiter",
    "resource": "user",
    "revoked_at": "2026-01-31T12:00:00.000000Z",
    "seconds": 10,
    "status": "revoked",
    "supported": [JSON],
    "what": "tags",
    "window_seconds": 60,
}
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\r\n"
_SCOPES: dict[str, Any] = {"required": ["users:write"], "granted": ["users:read"]}


def made_answer(fault: Fault | None, url: str, now: float, upstream: Answer | None) -> Answer:
    """Return the fault's own answer, or the upstream's where the fault leaves it as it is."""
    match fault:
        case Refuse():
            return _refusal(fault, url, now)
        case Status():
            return Answer(fault.status, fault.headers, fault.body.encode())
        case Html():
            page = _PAGE.format(f"{fault.status} {'OK' if fault.status < 400 else 'Bad Gateway'}")
            return Answer(fault.status, (("Content-Type", "text/html"),), page.encode())
        case Redirect():
            return Answer(fault.status, (("Location", fault.to),))
    assert upstream is not None, "what is answered by nobody else is the upstream's"
    match fault:
        case WrongJson():
            headers = _with(upstream.headers, "Content-Type", fault.media_type)
            return Answer(upstream.status, headers, fault.body.encode())
        case Empty():
            headers = tuple(each for each in upstream.headers if each[0].lower() != "content-type")
            return Answer(fault.status, headers)
        case _:
            return upstream


def with_date(answer: Answer, now: float, *, anew: bool) -> Answer:
    """Return the answer with a Date; one that is there stays, unless it is to be made anew."""
    if answer.header("date") is not None and not anew:
        return answer
    headers = _with(answer.headers, "Date", formatdate(now, usegmt=True))
    return Answer(answer.status, headers, answer.body)


def error_answer(problem: Problem, url: str) -> Answer:
    """Return a catalogued error as the server at the URL answers it."""
    request_id = f"req_{time.time_ns():016x}{random.getrandbits(64):016x}"
    kind, after = problem.kind, problem.after_seconds
    retryable = problem.action in RETRYABLE_ACTIONS
    error = {
        "code": kind.status,
        "message": problem.message,
        "type": kind.type,
        "reason": kind.reason,
        "hint": kind.hint,
        "request_id": request_id,
        "doc_url": f"{url}/docs/errors/{kind.reason}",
        "log_url": f"{url}/console/requests/{request_id}",
        "outcome": problem.outcome,
        "retry": {"retryable": retryable, "action": problem.action, "after_seconds": after},
        "errors": [each.as_json() for each in problem.errors],
        "metadata": problem.metadata,
    }
    headers = [
        ("Content-Type", JSON),
        (REQUEST_ID, request_id),
        (SHOULD_RETRY, str(retryable).lower()),
        (ERROR_REASON, kind.reason),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept"),
        *_headers_of(kind),
    ]
    if after is not None:
        headers.append((RETRY_AFTER, str(after)))
    return Answer(kind.status, tuple(headers), json.dumps({"error": error}).encode())


def _refusal(fault: Refuse, url: str, now: float) -> Answer:
    kind = CATALOGUE[fault.reason]
    asked = fault.retry_after
    after = None if asked is None or isinstance(asked, str) else math.ceil(asked)
    answer = error_answer(Problem(kind, _metadata(kind), after_seconds=after), url)
    headers = answer.headers
    if isinstance(asked, str):
        headers = _with(headers, RETRY_AFTER, asked)
    elif asked is not None:
        # A date has whole seconds, as Date has: their difference is what was asked, rounded up.
        date = formatdate(math.floor(now) + math.ceil(asked), usegmt=True)
        headers = _with(headers, RETRY_AFTER, date if fault.as_date else f"{asked:g}")
    if fault.should_retry is not None:
        headers = _with(headers, SHOULD_RETRY, str(fault.should_retry).lower())
    return Answer(answer.status, headers, answer.body)


def _metadata(kind: ErrorKind) -> dict[str, Any]:
    metadata = {name: _VARIABLES[name] for name in re.findall(r"\{(\w+)\}", kind.message)}
    return _SCOPES | metadata if kind.status == 403 and "missing" in metadata else metadata


def _headers_of(kind: ErrorKind) -> Headers:
    """Return what the contract has beside the headers of every error."""
    if kind.status == 401:
        sent = ', error="invalid_token"' if kind.reason.endswith("_token") else ""
        sent = "" if kind.reason == "missing_token" else sent
        return (("WWW-Authenticate", f'Bearer realm="operator-ai"{sent}'),)
    if kind.reason == "insufficient_scope":
        challenge = 'Bearer error="insufficient_scope", scope="users:write"'
        return (("WWW-Authenticate", challenge),)
    if kind.status == 405:
        return (("Allow", "GET, HEAD, OPTIONS"),)
    return (("Accept", JSON),) if kind.status == 415 else ()


def _with(headers: Headers, name: str, value: str) -> Headers:
    """Return the headers with this one put in the place of others of its name; empty is none."""
    others = tuple(each for each in headers if each[0].lower() != name.lower())
    return (*others, (name, value)) if value else others
