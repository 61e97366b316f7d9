"""Which checks a request has passed, and which one it failed.

The reason of the answer says which check failed, by its row of the catalogue; those before it have
been passed, and those behind it were not come to. What is not known is not claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operator_api.contract.errors import CATALOGUE, CHECKS, Check
from operator_api.contract.operations import BY_NAME, Operation
from operator_api.server.requests.entry import Entry

# Of these checks, whatever went wrong, the row tells that they were passed.
_SEEN_BY_OPERATION: tuple[Check, ...] = ("http", "capacity", "path", "method")
_ONCE_A_TOKEN_IS_READ: tuple[Check, ...] = ("token", "rate", "scope")
_OF_A_BODY: tuple[Check, ...] = ("size", "media_type", "json", "fields")


@dataclass(frozen=True, slots=True)
class Checked:
    """One check. ``passed`` is None where it was not come to, not needed, or is not known."""

    name: Check
    passed: bool | None
    detail: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the members by the contract's names."""
        return {"name": self.name, "passed": self.passed, "detail": self.detail}


def checks_of(entry: Entry, message: str | None, headers: Mapping[str, str]) -> list[Checked]:
    """Return every check in its order. ``headers`` are those sent, as far as they are known."""
    operation = BY_NAME.get(entry.operation)
    failed = failed_check(entry)
    checks = []
    for name in CHECKS:
        unneeded = _unneeded(name, operation, entry, headers)
        if name == failed:
            checks.append(Checked(name, passed=False, detail=message))
        elif unneeded is not None:
            checks.append(Checked(name, passed=None, detail=unneeded))
        elif _passed(name, failed, entry, operation):
            checks.append(Checked(name, passed=True, detail=_fact(name, entry, operation)))
        else:
            checks.append(Checked(name, passed=None, detail=None))
    return checks


def failed_check(entry: Entry) -> Check | None:
    """Return the check that the request failed; None for a success."""
    kind = CATALOGUE.get(entry.reason)
    if kind is None or kind.check is None:
        return "work" if entry.failed else None
    # What was let in at first can still be too much when it comes to the store.
    return "work" if kind.check == "capacity" and entry.operation else kind.check


def _passed(name: Check, failed: Check | None, entry: Entry, operation: Operation | None) -> bool:
    if failed is None:
        return True
    if failed == "work":
        # It can be met at any time: only what the row shows is certain.
        known = operation is not None and name in _SEEN_BY_OPERATION
        return known or (name == "token" and bool(entry.token_id))
    return CHECKS.index(name) < CHECKS.index(failed)


def _unneeded(
    name: Check, operation: Operation | None, entry: Entry, headers: Mapping[str, str]
) -> str | None:
    """Say why a check was not needed; None if it was, or if that is not known."""
    if operation is None:
        return None
    if operation.public and name in _ONCE_A_TOKEN_IS_READ:
        return "The endpoint is public."
    if name == "scope" and operation.scope is None:
        return "Any token will do."
    if operation.body is None and name in _OF_A_BODY:
        return "The endpoint takes no body."
    if name == "idempotency" and not entry.key_hash:
        return "No Idempotency-Key was sent."
    if name == "resource" and not operation.ids and not _can_fail(operation, name):
        return "The path names no resource."
    if name == "precondition":
        if not operation.takes_if_match:
            return "The endpoint has no precondition."
        if headers and "if-match" not in headers:
            return "No If-Match was sent."
    if name == "state" and not _can_fail(operation, name):
        return "It does not depend on what else is stored."
    return None


def _can_fail(operation: Operation, name: Check) -> bool:
    return any(kind.check == name for kind in operation.errors)


def _fact(name: Check, entry: Entry, operation: Operation | None) -> str | None:
    """Say what was found, where the row tells it."""
    if name == "path":
        return entry.template or None
    if name == "method":
        return entry.method or None
    if name == "token":
        return entry.token_id or None
    if name == "scope" and operation is not None:
        return operation.scope
    if name == "resource":
        return entry.object_id or None
    if name == "idempotency" and entry.replay_of:
        return f"The answer of {entry.replay_of} was given again."
    return None
