"""What a fault answers in the server's place: errors true to the contract, and pages that are not.

Times are seconds since 1970, by the clock of the server that is played.
"""

import json
import math
import random
import time
from email.utils import formatdate

from operator_api.contract.answers import error_headers, error_object
from operator_api.contract.errors import CATALOGUE, Problem
from operator_api.contract.headers import JSON, REQUEST_ID, RETRY_AFTER, SHOULD_RETRY
from operator_api.contract.samples import sample
from operator_api.drill.faults import Empty, Fault, Html, Redirect, Refuse, Status, WrongJson
from operator_api.drill.traffic import Answer, Headers

_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\r\n"


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
    error = error_object(problem, request_id, url)
    headers = [
        ("Content-Type", JSON),
        (REQUEST_ID, request_id),
        *((name.decode(), value.decode()) for name, value in error_headers(problem)),
    ]
    return Answer(problem.kind.status, tuple(headers), json.dumps({"error": error}).encode())


def _refusal(fault: Refuse, url: str, now: float) -> Answer:
    problem = sample(CATALOGUE[fault.reason])
    asked = fault.retry_after
    if asked is not None and not isinstance(asked, str):
        problem.after_seconds = math.ceil(asked)
    answer = error_answer(problem, url)
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


def _with(headers: Headers, name: str, value: str) -> Headers:
    """Return the headers with this one put in the place of others of its name; empty is none."""
    others = tuple(each for each in headers if each[0].lower() != name.lower())
    return (*others, (name, value)) if value else others
