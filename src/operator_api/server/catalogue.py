"""The catalogue of errors, for whoever asks the server."""

from operator_api.contract.answers import error_object
from operator_api.contract.errors import CATALOGUE, ErrorKind
from operator_api.contract.pages import entry, markdown
from operator_api.contract.samples import SAMPLE_REQUEST_ID, sample
from operator_api.server.exchange import Answer, Call, Handler
from operator_api.server.found import not_found

_MARKDOWN = (b"content-type", b"text/markdown; charset=utf-8")


def page_of(kind: ErrorKind, public_url: str) -> str:
    """Return the page of a reason in Markdown, with an answer that has it."""
    answer = {"error": error_object(sample(kind), SAMPLE_REQUEST_ID, public_url)}
    return markdown(kind, public_url, answer)


def handlers(public_url: str) -> dict[str, Handler]:
    """Return the handlers; ``public_url`` is where the documentation is."""
    entries = {reason: entry(kind, public_url) for reason, kind in CATALOGUE.items()}

    async def list_errors(_call: Call) -> Answer:
        return Answer({"data": list(entries.values())})

    async def get_error(call: Call) -> Answer:
        return Answer(entries[_require(call)])

    async def explain_error(call: Call) -> Answer:
        reason = _require(call)
        page = page_of(CATALOGUE[reason], public_url)
        return Answer(page.encode(), content_type=_MARKDOWN)

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
