"""Why a command failed: told to people in words, and to programs as the API tells its errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from operator_api.cli.output import print_json, tell
from operator_api.contract.errors import (
    CATALOGUE,
    RETRYABLE_ACTIONS,
    TYPE_OF_STATUS,
    Action,
    FieldError,
    Outcome,
    Problem,
)
from operator_api.contract.suggest import nearest

PROGRAM = "operator-api"


class Failure(Exception):
    """A command cannot do its work, and the operator can do something about it.

    ``status`` is the one with which the API would say the same; ``reason`` is a row of the
    catalogue, or one of the command line's own. A line of the hint that is indented is a command
    to copy.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        hint: str,
        *,
        action: Action = "fix_request",
        outcome: Outcome = "not_executed",
        errors: Sequence[FieldError] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.hint = hint
        self.action = action
        self.outcome = outcome
        self.errors = errors
        self.metadata = metadata or {}

    @property
    def exit_code(self) -> int:
        """2 where the command was written wrongly, else 1."""
        return 2 if self.status in (400, 422) else 1

    def as_json(self) -> dict[str, Any]:
        """Return the members of the contract's error; those of a request are null."""
        return {
            "code": self.status,
            "message": self.message,
            "type": TYPE_OF_STATUS[self.status],
            "reason": self.reason,
            "hint": self.hint,
            "request_id": None,
            "doc_url": None,
            "log_url": None,
            "outcome": self.outcome,
            "retry": {
                "retryable": self.action in RETRYABLE_ACTIONS,
                "action": self.action,
                "after_seconds": None,
            },
            "errors": [error.as_json() for error in self.errors],
            "metadata": dict(self.metadata),
        }

    def show(self, *, as_json: bool) -> None:
        """Print it on standard error."""
        if as_json:
            print_json({"error": self.as_json()}, to_errors=True)
        else:
            tell(self.message, title="Error: ")
            tell(self.hint)


def usage(message: str, hint: str, reason: str = "usage") -> Failure:
    """Return the failure of a command that was written wrongly."""
    return Failure(400, reason, message, hint)


def of_problem(problem: Problem, message: str | None = None, hint: str | None = None) -> Failure:
    """Tell a catalogued error, in other words where the API's do not fit a command.

    Of several wrong fields, the first one's hint helps the most.
    """
    kind = problem.kind
    field = CATALOGUE[problem.errors[0].reason] if problem.errors else kind
    return Failure(
        kind.status,
        kind.reason,
        message or problem.message,
        hint or field.hint,
        action=problem.action,
        outcome=problem.outcome,
        errors=problem.errors,
        metadata=problem.metadata,
    )


def of_arguments(error: typer.TyperException) -> Failure:
    """Tell what Typer found wrong with the arguments, and name what was meant."""
    message = error.format_message().replace("Value error, ", "")
    context: typer.Context | None = getattr(error, "ctx", None)
    unknown: str | None = getattr(error, "option_name", None)
    if context is not None and unknown is not None:
        known = {name for parameter in context.command.params for name in parameter.opts}
        meant = nearest(unknown, known)
        message = f"No such option: {unknown}." + (f" Did you mean {meant}?" if meant else "")
    command = PROGRAM if context is None else context.command_path
    return usage(message, f"See what it takes:\n  {command} --help")


def of_missing_package(error: ModuleNotFoundError) -> Failure:
    """Tell that the command needs what only the server's installation brings."""
    return Failure(
        503,
        "server_not_installed",
        f"This command needs the server's packages, and {error.name} is not installed.",
        "Install them, into the environment of this program:\n  pip install 'operator-api[server]'",
        metadata={"package": error.name},
    )
