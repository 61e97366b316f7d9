"""The rows of the catalogue, told: as JSON, and as pages of Markdown."""

import json
from collections.abc import Mapping
from typing import Any

from operator_api.contract.errors import ErrorKind
from operator_api.contract.examples import EXAMPLES
from operator_api.contract.snippets import curl, python

# What the Python client raises for each status, by name: its classes are not the contract's.
EXCEPTIONS: Mapping[int, str] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
}
# Where `operator-api serve` is to be found, if it is not told otherwise.
LOCAL = "http://127.0.0.1:8000"


def entry(kind: ErrorKind, public_url: str) -> dict[str, Any]:
    """Return one row as ``GET /v1/errors`` shows it."""
    return {
        "reason": kind.reason,
        "status": kind.status,
        "type": kind.type,
        "title": kind.title,
        "message": kind.message,
        "hint": kind.hint,
        "causes": list(kind.causes),
        "fix": kind.fix,
        "retry": {"retryable": kind.retryable, "action": kind.action, "after_seconds": None},
        "outcome": kind.outcome,
        "of_field": kind.of_field,
        "related": list(kind.related),
        "doc_url": f"{public_url}/docs/errors/{kind.reason}",
    }


def snippets(kind: ErrorKind, public_url: str | None) -> dict[str, str]:
    """Return what provokes the row, to be run with a test token in ``OPERATOR_API_KEY``."""
    example, url = EXAMPLES[kind.reason], public_url or LOCAL
    return {"curl": curl(example, url), "python": python(example, url)}


def page(kind: ErrorKind, public_url: str) -> dict[str, Any]:
    """Return one row as its page of the documentation shows it, for programs."""
    return {**entry(kind, public_url), "examples": snippets(kind, public_url)}


def markdown(
    kind: ErrorKind, public_url: str | None, answer: Mapping[str, Any] | None = None
) -> str:
    """Return one row as a page for people and agents, with links where there is a server.

    ``answer`` is the body of an answer with it, as an example.
    """
    retry = "yes" if kind.retryable else "no"
    where = "in `errors`, for one field of a 422 or 400" if kind.of_field else kind.type
    examples = snippets(kind, public_url)
    related = ", ".join(_link(other, public_url) for other in kind.related)
    return "\n".join(
        [
            f"# {kind.status} {kind.reason}",
            "",
            f"**{kind.title}** ({where}): {kind.message}",
            "",
            "## Why it happens",
            "",
            *(f"- {cause}" for cause in kind.causes),
            "",
            "## What to do",
            "",
            kind.hint if kind.hint == kind.fix else f"{kind.hint} {kind.fix}",
            "",
            f"- Retry the same request? {retry} (`{kind.action}`)",
            f"- Did the request happen? `{kind.outcome}`",
            *([f"- Related: {related}"] if related else []),
            "",
            *_shown(answer),
            "## Try it",
            "",
            _TRY_SIMULATED if EXAMPLES[kind.reason].simulated else _TRY,
            "",
            "```shell",
            examples["curl"],
            "```",
            "",
            "```python",
            examples["python"],
            "```",
            "",
            "## Handle it in Python",
            "",
            _handling(kind),
            "",
        ]
    )


def _shown(answer: Mapping[str, Any] | None) -> list[str]:
    if answer is None:
        return []
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    return ["## What the answer looks like", "", "```json", text, "```", ""]


def _handling(kind: ErrorKind) -> str:
    raised = EXCEPTIONS.get(kind.status, "APIStatusError")
    if not kind.of_field:
        return f'The client raises `{raised}`, with `error.reason == "{kind.reason}"`.'
    text = f'One of `error.errors` has `reason == "{kind.reason}"`.'
    if kind.reason == "not_found":  # which the server alone can know
        return f"The client raises `{raised}`. {text}"
    return (
        "The client finds it before it sends anything, and raises `RequestValidationError`; with"
        f" `validate=False` the server's answer raises `{raised}`. {text}"
    )


_TRY = (
    "This provokes the error. `OPERATOR_API_KEY` is an admin token of the test environment"
    " (`op_test_…`)."
)
_TRY_SIMULATED = (
    "No request can bring this about by itself, so the example asks for it: with a token of the"
    " test environment (`op_test_…`) in `OPERATOR_API_KEY`, the server answers any request with the"
    " error that `Operator-Simulate` names, real in every respect."
)


def _link(reason: str, public_url: str | None) -> str:
    return f"`{reason}`" if public_url is None else f"[{reason}]({public_url}/docs/errors/{reason})"
