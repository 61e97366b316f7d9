"""A call that failed, told: what happened, which fields, what to do, and what to ask about it.

This module imports the client; the command imports it when it runs.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from operator_api.cli.failure_pages import printable
from operator_api.cli.output import print_json, tell
from operator_api.cli.problems import Failure, usage
from operator_api.client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    OperatorError,
    RequestValidationError,
)
from operator_api.contract.errors import CATALOGUE, RETRYABLE_ACTIONS, Action, FieldError

_LABEL = 12
_HAPPENED = {
    "not_executed": "nothing was changed",
    "executed": "the change was made: do not send it again",
    "unknown": "it is not known whether the change was made",
}
_TRY = {
    "fix_request": "no, the same request fails again: change it first",
    "authenticate": "no, the token is not taken: use another one",
    "request_permission": "no, the token may not do this: use one that may",
    "check_outcome": "only with the idempotency key above: then it is done at most once",
    "contact_support": "no, ask whoever runs the server, with the request id",
    "wait": "yes, later",
    "retry_with_backoff": "yes, later",
}
_NO_CONNECTION = (
    "Is the server up, and is the address right? See whether it answers at all:\n"
    "  operator-api call service.live --deadline 5"
)
_TOO_LATE = (
    "See whether the server answers at all, then give it more time by --timeout and --deadline:\n"
    "  operator-api call service.live --deadline 5"
)
_FOREIGN = (
    "This is no answer of the API: a proxy or another service gave it. Check the address, and look"
    " at the answer with --raw."
)


class CallFailure(Failure):
    """A call that failed. ``error`` is an error object of the contract's form.

    It is the server's own where there was one; ``code`` and the ids are null where no answer came.
    ``call`` is what the client knows of it beside. ``refused``: it was never sent.
    """

    def __init__(self, error: Mapping[str, Any], call: Mapping[str, Any], *, refused: bool) -> None:
        super().__init__(error["code"] or 503, error["reason"], error["message"], error["hint"])
        self.error = dict(error)
        self.call = dict(call)
        self.refused = refused

    @property
    def exit_code(self) -> int:
        """2 where nothing was sent, since the command was written wrongly; else 1."""
        return 2 if self.refused else 1

    def as_json(self) -> dict[str, Any]:
        """Return the error object."""
        return self.error

    def show(self, *, as_json: bool) -> None:
        """Print it on standard error."""
        if as_json:
            print_json({"error": self.error, "call": self.call}, to_errors=True)
            return
        tell(printable(self._headline()), title="Error: ")
        for line in self._lines():
            tell(printable(line))

    def _headline(self) -> str:
        code, reason = self.error["code"], self.error["reason"]
        message = str(self.error["message"]).removeprefix("Validation error: ")
        return f"{code} {reason}: {message}" if code else message

    def _lines(self) -> Sequence[str]:
        error, call = self.error, self.call
        lines = []
        for each in error["errors"]:
            fix = f" To mend it, {_fix(each['fix'])}." if each["fix"] else ""
            lines.append(f"  {each['pointer']}: {each['message']}{fix}")
        hint, *commands = error["hint"].splitlines() or [""]
        if hint:
            lines.append(_line("What to do", hint))
        lines += [_line("", command.strip()) for command in commands]
        details = _details(error["metadata"])
        if details:
            lines.append(_line("Details", details))
        if self.refused:
            return [*lines, _line("Outcome", "nothing was sent")]
        writes = call["idempotency_key"] is not None
        if writes:
            happened = _HAPPENED.get(error["outcome"], "")
            lines.append(_line("Outcome", f"{error['outcome']}, {happened}"))
        if writes and error["outcome"] == "unknown":
            again = f"the same command with --idempotency-key {call['idempotency_key']}"
            lines.append(_line("To find out", f"{again} does it at most once, and says what came"))
        lines.append(_line("Try again?", _advice(error, call)))
        if call["attempts"] > 1:
            stopped = ", stopped by the retry budget" if call["budget_exhausted"] else ""
            lines.append(_line("Attempts", f"{call['attempts']}{stopped}"))
        for label, name in (("Docs", "doc_url"), ("Log", "log_url"), ("Request id", "request_id")):
            if error.get(name):
                lines.append(_line(label, error[name]))
        return lines


def _line(label: str, text: str) -> str:
    # Indented, so that it is not wrapped, and can be copied.
    return f"  {label:<{_LABEL}}{text}"


def _fix(fix: Mapping[str, Any]) -> str:
    path, op = fix.get("path", ""), fix.get("op")
    if op == "move":
        return f"rename {fix.get('from', '')[1:]} to {path[1:]}"
    if op == "remove":
        return f"leave {path[1:]} out"
    return f"set {path[1:]} to {json.dumps(fix.get('value'))}"


def _details(metadata: Any) -> str:
    if not isinstance(metadata, dict):
        return ""
    told = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in metadata.items()
        if not isinstance(value, dict) and name != "client_request_id"
    }
    return "; ".join(f"{name} {value}" for name, value in told.items())


def _advice(error: Mapping[str, Any], call: Mapping[str, Any]) -> str:
    retry = error["retry"]
    action = "check_outcome" if error["outcome"] == "unknown" else retry["action"]
    text = _TRY.get(action, "yes, later" if retry["retryable"] else "no")
    after = call["retry_after"] or retry["after_seconds"]
    return f"{text}, after {after:g} s" if retry["retryable"] and after else text


# --- from exceptions ---


def of_error(error: OperatorError) -> Failure:
    """Tell whatever the client raised."""
    if isinstance(error, RequestValidationError):
        return _of_refused(error)
    if isinstance(error, APIError):
        call = {
            "operation": error.operation,
            "attempts": error.attempts,
            "idempotency_key": error.idempotency_key,
            "retry_after": error.retry_after,
            "budget_exhausted": error.budget_exhausted,
        }
        return CallFailure(_error_object(error), call, refused=False)
    return usage(str(error), "See what the command takes:\n  operator-api call --help")


def _of_refused(error: RequestValidationError) -> CallFailure:
    """Tell what the client would not send, with the reason that the server would give."""
    places = {each.place for each in error.errors}
    if places <= {"body"}:
        reason = "validation_failed"
    elif "query" in places:
        unknown = all(each.reason == "unknown_field" for each in error.errors)
        reason = "unknown_parameter" if unknown else "invalid_parameter"
    else:
        reason = "invalid_header" if "header" in places else "resource_not_found"
    first = CATALOGUE[error.errors[0].reason] if error.errors else CATALOGUE[reason]
    object_ = _made(
        CATALOGUE[reason].status,
        error.message,
        CATALOGUE[reason].type,
        reason,
        first.hint,
        errors=error.errors,
    )
    call = {"operation": error.operation, "attempts": 0, "idempotency_key": None}
    call |= {"retry_after": None, "budget_exhausted": False}
    return CallFailure(object_, call, refused=True)


def _error_object(error: APIError) -> dict[str, Any]:
    """Return the server's own object, with the outcome of all attempts; else one like it."""
    if isinstance(error, APIStatusError):
        told = _of_contract(error) or _foreign(error)
    elif isinstance(error, APIResponseValidationError):
        told = _made(
            error.status_code, error.message, "api_error", "unusable_answer", _FOREIGN,
            action="retry_with_backoff",
        )  # fmt: skip
    elif isinstance(error, APITimeoutError):
        told = _unreached(error, "no_answer_in_time", _TOO_LATE)
    elif isinstance(error, APIConnectionError):
        told = _unreached(error, "no_connection", _NO_CONNECTION)
    else:
        told = _made(None, error.message, "api_error", "endless_list", "", action="contact_support")
    told["outcome"] = error.outcome
    told["request_id"] = error.request_id or told["request_id"]
    return told


def _of_contract(error: APIStatusError) -> dict[str, Any] | None:
    """Return the answer's error object, if it is one with the members that are read here."""
    try:
        told: dict[str, Any] = dict(error.response.json()["error"])
        retry = told["retry"]
        typed = (
            isinstance(retry["retryable"], bool)
            and isinstance(retry["after_seconds"], (int, float, type(None)))
            and all(isinstance(told[name], str) for name in ("message", "reason", "hint"))
            and all({"pointer", "message", "fix"} <= each.keys() for each in told["errors"])
            and "metadata" in told
        )
        hash(retry["action"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    # What answered may be anything: only what is shown here is looked at.
    return {**told, "code": error.status_code} if typed else None


def _foreign(error: APIStatusError) -> dict[str, Any]:
    later = error.status_code >= 500 or error.status_code in (408, 425, 429)
    return _made(
        error.status_code,
        error.message.partition(": ")[2] or error.message,
        "api_error",
        error.reason or "without a reason",
        error.hint or _FOREIGN,
        action="retry_with_backoff" if later else "fix_request",
        errors=error.errors,
    )


def _unreached(error: APIError, reason: str, hint: str) -> dict[str, Any]:
    return _made(None, error.message, "unavailable", reason, hint, action="retry_with_backoff")


def _made(
    code: int | None,
    message: str,
    type_: str,
    reason: str,
    hint: str,
    *,
    action: Action = "fix_request",
    errors: Sequence[FieldError] = (),
) -> dict[str, Any]:
    retryable = action in RETRYABLE_ACTIONS
    return {
        "code": code,
        "message": message,
        "type": type_,
        "reason": reason,
        "hint": hint,
        "request_id": None,
        "doc_url": None,
        "log_url": None,
        "outcome": "not_executed",
        "retry": {"retryable": retryable, "action": action, "after_seconds": None},
        "errors": [each.as_json() for each in errors],
        "metadata": {},
    }
