"""The catalogue of errors, told: as JSON, and as pages of Markdown."""

from typing import Any

from operator_api.contract.errors import CATALOGUE, ErrorKind
from operator_api.server.exchange import Answer, Call, Handler
from operator_api.server.found import not_found


def handlers(public_url: str) -> dict[str, Handler]:
    """Return the handlers; ``public_url`` is where the documentation is."""
    entries = {reason: entry(kind, public_url) for reason, kind in CATALOGUE.items()}

    async def list_errors(call: Call) -> Answer:
        return Answer({"data": list(entries.values())})

    async def get_error(call: Call) -> Answer:
        return Answer(entries[_require(call)])

    async def explain_error(call: Call) -> Answer:
        reason = _require(call)
        page = markdown(CATALOGUE[reason], public_url)
        return Answer(page, media_type="text/markdown; charset=utf-8")

    return {
        "errors.list": list_errors,
        "errors.get": get_error,
        "service.explain": explain_error,
    }


def _require(call: Call) -> str:
    reason = call.ids["reason"]
    if reason not in CATALOGUE:
        raise not_found("reason")
    return reason


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


def markdown(kind: ErrorKind, public_url: str) -> str:
    """Return one row as a page for people and agents."""
    retry = "yes" if kind.retryable else "no"
    where = "in `errors`, for one field of a 422 or 400" if kind.of_field else kind.type
    related = ", ".join(f"[{other}]({public_url}/docs/errors/{other})" for other in kind.related)
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
        ]
    )
