"""The page of a logged request, where an error's ``log_url`` leads.

A person pastes a token into it and sees the explanation that the token may see: the page makes the
request ``GET /v1/requests/{id}`` in its name, which takes every check that such a request takes.
Nothing is kept of the token, and there is no session. A program that follows the link gets the
answer of that request itself.
"""

import json
import re
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qs

import orjson
from markupsafe import Markup, escape

from operator_api.contract.errors import BODY_TOO_LARGE, METHOD_NOT_ALLOWED, Problem
from operator_api.contract.headers import HTML
from operator_api.server.docs.site import Site, content_type, safe
from operator_api.server.exchange import Exchange, Header, Incoming, Respond, Response
from operator_api.server.render import problem_response

_FORM_BYTES = 4096
_METHODS = ("GET", "HEAD", "POST")
_HEADERS: tuple[Header, ...] = (content_type(HTML), (b"cache-control", b"no-store"), *safe())


class RequestPage:
    """The page, with the looks of the documentation's site."""

    def __init__(self, site: Site, public_url: str) -> None:
        self._site = site
        self._public_url = public_url

    def beside(self, api: Respond) -> Respond:
        """Return what answers with the page, and as the API for all else."""

        def respond(exchange: Exchange, incoming: Incoming) -> Awaitable[Response]:
            if exchange.path.startswith("/console/"):
                match exchange.segments:
                    case ["console", "requests", request_id] if request_id:
                        return self._answer(request_id, exchange, incoming, api)
            return api(exchange, incoming)

        return respond

    async def _answer(
        self, request_id: str, exchange: Exchange, incoming: Incoming, api: Respond
    ) -> Response:
        if b"text/html" not in exchange.headers.get(b"accept", b"").lower():
            _ask_for(request_id, exchange)
            return await api(exchange, incoming)
        if exchange.method in {"GET", "HEAD"}:
            headers = [(b"x-request-id", exchange.request_id.encode()), *_HEADERS]
            return Response(200, self._page(request_id), headers)
        if exchange.method != "POST":
            metadata = {"method": exchange.method, "allowed": list(_METHODS)}
            return self._refuse(exchange, Problem(METHOD_NOT_ALLOWED, metadata))
        form = await incoming.read(_FORM_BYTES)
        if len(form) > _FORM_BYTES:
            return self._refuse(exchange, Problem(BODY_TOO_LARGE, {"limit_bytes": _FORM_BYTES}))
        given = parse_qs(form.decode("latin-1"))
        _ask_for(request_id, exchange, token=given.get("token", [""])[0], reveal="reveal" in given)
        answer = await api(exchange, incoming)
        content = orjson.loads(answer.body)
        shown = {"explained": content} if answer.status == 200 else content
        kept = [pair for pair in answer.headers if pair[0] not in _REPLACED]
        return Response(answer.status, self._page(request_id, **shown), [*kept, *_HEADERS])

    def _page(
        self,
        request_id: str,
        explained: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> bytes:
        return self._site.fill(
            "request.html",
            path=None,
            request_id=request_id,
            explained=explained,
            error=error,
            prose=_prose,
            indented=_indented,
        )

    def _refuse(self, exchange: Exchange, problem: Problem) -> Response:
        return problem_response(problem, exchange.request_id, self._public_url)


def _prose(text: str) -> Markup:
    """Show a text of the catalogue, in which what is between backquotes is code."""
    marked = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(marked)  # noqa: S704 - all but the tags of this function is escaped


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


_CODE = re.compile(r"`([^`]*)`")
_REPLACED = frozenset({b"content-type", b"cache-control"})


def _ask_for(
    request_id: str, exchange: Exchange, *, token: str | None = None, reveal: bool = False
) -> None:
    """Make of the exchange the API's own request, so that the log shows what was asked."""
    exchange.method = "HEAD" if exchange.method == "HEAD" else "GET"
    exchange.path = f"/v1/requests/{request_id}"
    exchange.segments = ["v1", "requests", request_id]
    if token is not None:
        exchange.query = b"reveal=true" if reveal else b""
        exchange.headers = {
            **exchange.headers,
            b"accept": b"application/json",
            b"authorization": b"Bearer " + token.strip().encode("utf-8"),
        }
