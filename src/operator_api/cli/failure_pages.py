"""A failed attempt, told: what it was, why it happens, what to do, and what was tried."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from operator_api.contract.errors import CATALOGUE, RETRYABLE_ACTIONS, Action

if TYPE_CHECKING:
    from operator_api.client.failures.entries import FailureEntry

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an attempt failed, and what to do. ``doc_url`` is the reason's page on that server."""

    title: str
    causes: tuple[str, ...]
    hint: str
    fix: str
    action: Action
    outcome: str
    doc_url: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the members by the contract's names."""
        retry = {"retryable": self.action in RETRYABLE_ACTIONS, "action": self.action}
        return {
            "title": self.title,
            "causes": list(self.causes),
            "hint": self.hint,
            "fix": self.fix,
            "retry": retry,
            "outcome": self.outcome,
            "doc_url": self.doc_url,
        }


# What has no reason of the catalogue: no answer came, or not one of this API.
_Advice = tuple[str, tuple[str, ...], str, str]
_TIMEOUT: _Advice = (
    "No answer in time",
    (
        "The server or the network is slower than the timeout allows.",
        "A firewall drops what is sent, so that nothing ever comes back.",
        "A proxy holds the answer back.",
    ),
    "See whether the server answers at all, then allow it more time.",
    "Call GET /livez from the same machine. If that is quick, raise `timeout` and `deadline`.",
)
_CONNECTION: _Advice = (
    "No connection, or a broken one",
    (
        "The server is not running, or restarts.",
        "The name or port in `base_url` is wrong, or a proxy or firewall stands between.",
        "The certificate is not valid for this name, or not trusted on this machine.",
    ),
    "The message says what the network said; check `base_url` and that the server is up.",
    "Call GET /livez of the same address from the same machine, and mend what that shows.",
)
_INVALID_ANSWER: _Advice = (
    "A success that is not one",
    (
        "A proxy or a sign-in page answers in the server's place.",
        "The answer was cut off on its way.",
        "`base_url` leads to another service.",
    ),
    "See what answered: the response headers are in `failures show`.",
    "Check `base_url`, and what stands between this machine and the server.",
)
_FOREIGN: _Advice = (
    "An error that is not of this API",
    (
        "A proxy, load balancer or firewall answered before the request came to the server.",
        "`base_url` leads to another service, or to another path of this one.",
    ),
    "See what answered: the response headers are in `failures show`.",
    "Look for the request in the log of what stands before the server.",
)


def diagnosis_of(entry: "FailureEntry") -> Diagnosis:
    """Say why it failed: by its reason, else by how it failed."""
    if kind := CATALOGUE.get(entry.reason or ""):
        action = "check_outcome" if entry.outcome == "unknown" else kind.action
        parts = urlsplit(entry.url)
        url = f"{parts.scheme}://{parts.netloc}/docs/errors/{kind.reason}"
        outcome = entry.outcome
        return Diagnosis(kind.title, kind.causes, kind.hint, kind.fix, action, outcome, url)
    if entry.status is None:
        told = _TIMEOUT if "Timeout" in entry.error else _CONNECTION
    else:
        told = _INVALID_ANSWER if entry.status < 400 else _FOREIGN
    action = "check_outcome" if entry.outcome == "unknown" else "retry_with_backoff"
    if entry.status is not None and 400 <= entry.status < 500:
        action = "fix_request"
    return Diagnosis(*told, action, entry.outcome, None)


def timeline_of(attempts: Sequence["FailureEntry"]) -> list[dict[str, Any]]:
    """Return what was tried, oldest first."""
    names = ("id", "at", "call_id", "attempt", "status", "reason", "error", "request_id")
    more = ("message", "elapsed_ms", "delay", "outcome")
    return [{name: getattr(entry, name) for name in (*names, *more)} for entry in attempts]


def page_of(entry: "FailureEntry", attempts: Sequence["FailureEntry"]) -> str:
    """Return the explanation as a page of Markdown."""
    diagnosis = diagnosis_of(entry)
    retry = "yes" if diagnosis.action in RETRYABLE_ACTIONS else "no"
    link = [f"- Documentation: {diagnosis.doc_url}"] if diagnosis.doc_url else []
    advice = (
        diagnosis.hint if diagnosis.hint == diagnosis.fix else f"{diagnosis.hint} {diagnosis.fix}"
    )
    lines = [
        f"# {entry.operation} failed: {_answer_of(entry)}",
        "",
        f"**{diagnosis.title}**" + (f": {entry.message}" if entry.message else ""),
        "",
        f"- Request: {entry.method} {entry.url}",
        f"- When: {_moment(entry.at)}, after {entry.elapsed_ms:.0f} ms",
        f"- Request id: {entry.request_id or 'none came'}; the call's own is {entry.call_id}",
        "",
        "## Why it happens",
        "",
        *(f"- {cause}" for cause in diagnosis.causes),
        "",
        "## What to do",
        "",
        advice,
        "",
        f"- Retry the same request? {retry} (`{diagnosis.action}`)",
        f"- Did the request happen? `{entry.outcome}`. {_advice_on(entry)}",
        *link,
        "",
        "## What was tried",
        "",
        *(_tried(number, each, entry) for number, each in enumerate(attempts, start=1)),
        "",
    ]
    return "\n".join(map(printable, lines))


def _advice_on(entry: "FailureEntry") -> str:
    if entry.outcome != "unknown":
        done = entry.outcome == "executed"
        return "It was done: do not send it again." if done else "Nothing was changed by it."
    if entry.idempotency_key is None:
        return "Read the record to find out, before it is sent again."
    return (
        f"Sent again with the idempotency key `{entry.idempotency_key}` it is done at most once,"
        " and the answer says what came of it."
    )


def _tried(number: int, attempt: "FailureEntry", entry: "FailureEntry") -> str:
    then = "gave up" if attempt.delay is None else f"waited {attempt.delay:.3g} s"
    this = " (this one)" if attempt.id == entry.id else ""
    took = f"after {attempt.elapsed_ms:.0f} ms"
    answer = _answer_of(attempt)
    when = _moment(attempt.at)
    return f"{number}. {when}: try {attempt.attempt}, {answer} {took}, then {then}{this}"


def _answer_of(entry: "FailureEntry") -> str:
    if entry.status is None:
        return entry.error
    return f"{entry.status} {entry.reason or 'without a reason'}"


def _moment(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{microseconds // 1000 % 1000:03d}Z"


def sheet_of(entry: "FailureEntry", bodies: dict[str, Any] | None) -> str:
    """Return all that is known of an attempt, a line for each member."""
    lines = []
    for name, value in entry.as_json().items():
        if name in {"request_headers", "response_headers"}:
            lines += [f"{name}:", *(f"  {header}: {text}" for header, text in value)]
        elif name == "at":
            lines.append(f"at: {_moment(value)}")
        else:
            lines.append(f"{name}: {'-' if value is None else value}")
    for name, body in (bodies or {}).items():
        text = json.dumps(body, indent=2, ensure_ascii=False)
        lines += [f"{name}_body, redacted:", *(f"  {line}" for line in text.splitlines())]
    return "\n".join(map(printable, lines))


def printable(line: str) -> str:
    """Show control characters as escapes: what a server answers must not steer the terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", line)
