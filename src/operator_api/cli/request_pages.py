"""A logged request explained on a terminal."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from operator_api.cli.failure_pages import printable
from operator_api.cli.output import print_parts

if TYPE_CHECKING:
    from rich.text import Text

_MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}
_STATES = {
    "none": "No more was kept of this request than its row.",
    "erased": "The account's data key was destroyed: what was sealed of this request is gone.",
    "key_missing": "None of the keys here opens what was sealed of this request.",
    "tampered": "What was sealed of this request is not as it was written: the row was changed.",
}


def print_request(explained: Mapping[str, Any]) -> None:
    """Print the explanation."""
    print_parts(*_page(explained))


def _page(explained: Mapping[str, Any]) -> Iterator["Text"]:
    yield from _head(explained)
    yield from _checks(explained)
    if explained["reason"]:
        yield from _cause(explained)
    yield from _tries(explained)
    yield from _difference(explained["diff"])
    yield from _bodies(explained["revealed"])
    if explained["curl"]:
        yield _title("Send it again")
        yield from (_line(f"  {line}") for line in explained["curl"].splitlines())
    if explained["detail"] in _STATES and explained["status"] >= 400:
        yield _line("")
        yield _line(_STATES[explained["detail"]], "yellow")
    for look in explained["reveals"]:
        why = f": {look['why']}" if look["why"] else ""
        yield _line(f"Bodies shown to {look['token_id']} at {_moment(look['at'])}{why}", "dim")
    if explained["doc_url"]:
        yield _line("")
        yield _line(explained["doc_url"], "underline")


def _head(explained: Mapping[str, Any]) -> Iterator["Text"]:
    mark, style = _MARKS[explained["status"] < 400]
    what = f"{explained['status']} {explained['reason'] or ''}".strip()
    path = explained["path"] or "no HTTP request"
    yield _line(f"{mark} {what}  {explained['method'] or ''} {path}", style)
    token = explained["token"]
    facts = [
        _moment(explained["at"]),
        f"{explained['latency_ms']:.3g} ms",
        "no known token" if token is None else f"token {token['name'] or token['id']}",
        explained["address"],
        explained["id"],
    ]
    yield _line(" · ".join(fact for fact in facts if fact), "dim")
    if explained["message"]:
        yield _line("")
        yield _line(explained["message"], "bold")
    for error in explained["errors"]:
        yield _line(f"  {error['in']} {error['pointer']}  {error['reason']}: {error['message']}")
        if error["fix"]:
            yield _line(f"    fix: {json.dumps(error['fix'], ensure_ascii=False)}", "green")


def _checks(explained: Mapping[str, Any]) -> Iterator["Text"]:
    yield _title("Checks, in their order")
    for check in explained["checks"]:
        mark, style = _MARKS[check["passed"]]
        yield _line(f"  {mark} {check['name']:<13}{check['detail'] or ''}".rstrip(), style)


def _cause(explained: Mapping[str, Any]) -> Iterator["Text"]:
    yield _title("Why it happens")
    yield from (_line(f"  - {cause}") for cause in explained["causes"])
    yield _title("What to do")
    advice = (explained["hint"], explained["fix"])
    yield from (_line(f"  {each}") for each in dict.fromkeys(advice))
    retry = explained["retry"]
    after = "" if retry["after_seconds"] is None else f", after {retry['after_seconds']} s"
    again = "yes" if retry["retryable"] else "no"
    yield _line(f"  Retry the same request? {again} ({retry['action']}{after})")
    yield _line(f"  Did it happen? {explained['outcome']}")


def _tries(explained: Mapping[str, Any]) -> Iterator["Text"]:
    tries = explained["tries"]
    if len(tries) < 2:
        return
    yield _title("Tries with the same idempotency key")
    for each in tries:
        mark, style = _MARKS[each["status"] < 400]
        gap = "" if each["gap_ms"] is None else f"+{each['gap_ms'] / 1000:.3f} s"
        this = " ← this one" if each["id"] == explained["id"] else ""
        body = "" if each["same_body"] else ", another body"
        what = f"{each['status']} {each['reason'] or ''}".strip()
        yield _line(f"  {mark} {_moment(each['at'])} {gap:>11}  {what}{body}{this}", style)


def _difference(diff: Mapping[str, Any] | None) -> Iterator["Text"]:
    if diff is None:
        return
    yield _title("Other than in this token's last success here")
    yield _line(f"  {diff['request_id']}, {_moment(diff['at'])}", "dim")
    for sign, name, style in (("+", "added", "green"), ("-", "missing", "red")):
        for part in diff[name]:
            yield _line(f"  {sign} {part['in']} {part['pointer']}  {part['shape']}", style)
    for part in diff["changed"]:
        change = f"{part['before']} → {part['now']}"
        yield _line(f"  ~ {part['in']} {part['pointer']}  {change}", "yellow")
    if not (diff["added"] or diff["missing"] or diff["changed"]):
        yield _line("  nothing: the same fields, of the same kinds")


def _bodies(revealed: Mapping[str, Any] | None) -> Iterator["Text"]:
    if revealed is None:
        return
    success = revealed["last_success"]
    for title, body in (
        ("Sent, redacted", revealed["body"]),
        ("Answered, redacted", revealed["answer_body"]),
        ("Sent in the last success, redacted", None if success is None else success["body"]),
    ):
        if body is not None:
            yield _title(title)
            text = json.dumps(body, indent=2, ensure_ascii=False)
            yield from (_line(f"  {line}") for line in text.splitlines())


def _title(text: str) -> "Text":
    return _line(f"\n{text}", "bold cyan")


def _line(text: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text("\n".join(map(printable, text.split("\n"))), style=style)


def _moment(timestamp: str) -> str:
    return f"{timestamp[:10]} {timestamp[11:23].rstrip('Z')}Z"
