"""The documentation as a site beside the API: what is under ``/docs``, and ``/llms.txt``.

What it does not have is left to the API, whose errors are under the contract; only people, whose
browsers ask for HTML by name, get a page that says what is missing.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
from jinja2 import Environment, FileSystemLoader

from operator_api.contract.errors import (
    CATALOGUE,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    UNKNOWN_ENDPOINT,
    Problem,
)
from operator_api.contract.headers import HTML, JSON, MARKDOWN, SIMULATE
from operator_api.contract.pages import page as entry_page
from operator_api.contract.suggest import nearest
from operator_api.server.docs.library import API, ERRORS, Library, path_of
from operator_api.server.docs.markdown import headings_of, parse, render, sections_of
from operator_api.server.docs.search import SearchIndex
from operator_api.server.exchange import Exchange, Header, Incoming, Respond, Response
from operator_api.server.render import accepted_type, problem_response

_HERE = Path(__file__).parent
# What the set-up step fetches; a plain installation has none of it.
VENDOR = _HERE / "vendor"
SCALAR = VENDOR / "scalar.js"
_STATIC = {file.name: file for file in (_HERE / "static").iterdir()}
_PLAIN_API = "reference/operations"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{inline}; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_STRICT = _POLICY.format(inline="")
# Scalar sets its styles as it goes.
_OF_SCALAR = _POLICY.format(inline=" 'unsafe-inline'")
_PLAIN_TEXT = "text/plain"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LLMS = "llms.txt"


class Site:
    """The documentation, made when it is first asked for."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url
        self._library = Library(public_url)
        self._made: dict[tuple[str, str], Response] = {}
        self._making = asyncio.Lock()

    def beside(self, api: Respond) -> Respond:
        """Return what answers as the site does, and as the API for what the site does not have."""

        def respond(exchange: Exchange, incoming: Incoming) -> Awaitable[Response]:
            ours = _is_ours(exchange.path)
            return with_site(exchange, incoming) if ours else api(exchange, incoming)

        async def with_site(exchange: Exchange, incoming: Incoming) -> Response:
            found = await self._answer(exchange)
            if found is None:
                return await api(exchange, incoming)
            return _with_headers(found, exchange)

        return respond

    async def _answer(self, exchange: Exchange) -> Response | None:
        path = exchange.path.removeprefix("/docs").removeprefix("/")  # "" is the first page
        wanted = _wanted(exchange, [HTML, MARKDOWN, JSON])
        if _is_reason(path) and wanted != HTML and not self._asks_for_json(exchange):
            return None  # `service.explain` of the API has it
        if not self._has(path):
            return self._nothing(exchange) if wanted == HTML else None
        if exchange.method not in _METHODS:
            metadata = {"method": exchange.method, "allowed": sorted(_METHODS)}
            return self._refuse(exchange, Problem(METHOD_NOT_ALLOWED, metadata))
        if exchange.method == "OPTIONS":
            return Response(200, b"", [_ALLOW])
        if path == "search":
            return await self._search(exchange, wanted)
        if exchange.path.endswith("/"):
            return Response(308, b"", [(b"location", self._library.url(path[:-1]).encode())])
        available = self._available(path)
        kind = available[0] if len(available) == 1 else _wanted(exchange, available)
        if kind is None:
            return self._refuse(exchange, Problem(NOT_ACCEPTABLE, {"available": available}))
        return await self._kept(path, kind)

    @staticmethod
    def _asks_for_json(exchange: Exchange) -> bool:
        """Say whether the request asks for a reason as JSON, and for nothing else by the way."""
        special = exchange.query or SIMULATE.lower().encode() in exchange.headers
        plain = exchange.method in {"GET", "HEAD"} and not special
        return plain and _wanted(exchange, [MARKDOWN, JSON]) == JSON

    def _has(self, path: str) -> bool:
        return (
            path in {"search", API, _LLMS}
            or self._library.has(path.rstrip("/"))
            or _file_of(path) is not None
            or (path.endswith(".md") and self._library.has(path_of(path)))
        )

    def _available(self, path: str) -> list[str]:
        """Return the media types that there are."""
        if path == _LLMS:
            return [_PLAIN_TEXT]
        if (file := _file_of(path)) is not None:
            return [_TYPES[file.suffix]]
        if path == API:
            return [HTML]
        if path.endswith(".md"):
            return [MARKDOWN]
        return [HTML, JSON] if _is_reason(path) else [HTML, MARKDOWN]

    async def _kept(self, path: str, kind: str) -> Response:
        """Return what was made before, or make it, in a thread: one thing at a time."""
        if (path, kind) not in self._made:
            async with self._making:
                if (path, kind) not in self._made:
                    self._made[path, kind] = await asyncio.to_thread(self._make, path, kind)
        return self._made[path, kind]

    def _make(self, path: str, kind: str) -> Response:
        if path == _LLMS:
            return _response(self._llms(), kind)
        if (file := _file_of(path)) is not None:
            return _response(file.read_bytes(), kind, lasts=True)
        if path.endswith(".md"):
            return _response(self._library.source(path_of(path)).encode(), kind)
        if kind == MARKDOWN:
            return _response(self._library.source(path).encode(), kind)
        if kind == JSON:
            reason = path.removeprefix(f"{ERRORS}/")
            return _response(orjson.dumps(entry_page(CATALOGUE[reason], self._public_url)), kind)
        if path == API:
            return self._api()
        return _response(self._page(path), kind)

    # --- pages

    def _page(self, path: str, note: str = "") -> bytes:
        library = self._library
        source = library.source(path)
        order = library.paths
        place = order.index(path)
        headings = headings_of(parse(source))
        return self.fill(
            "page.html",
            path=path,
            title=headings[0].text,
            headings=[each for each in headings if each.level == 2],
            body=render(source, lambda target: library.link(path, target)),
            before=self._title(order[place - 1]) if place else None,
            after=self._title(order[place + 1]) if place + 1 < len(order) else None,
            markdown_url=library.markdown_url(path),
            note=note,
        )

    def _title(self, path: str) -> Mapping[str, str]:
        known = {entry.path: entry.title for entry in self._library.contents}
        title = known.get(path) or headings_of(parse(self._library.source(path)))[0].text
        return {"title": title, "url": self._library.url(path)}

    def _api(self) -> Response:
        if SCALAR.exists():
            return _response(self.fill("api.html", path=API), HTML, policy=_OF_SCALAR)
        return _response(self._page(_PLAIN_API, note="plain"), HTML)

    def _llms(self) -> bytes:
        lines = ["# Operator AI", "", "> An API for customer conversations whose errors say what"]
        lines[-1] += " happened, why, and what to do next. Every page is Markdown at its address."
        part = None
        for entry in self._library.contents:
            if entry.part != part:
                part = entry.part
                lines += ["", f"## {part}", ""]
            name = f"{entry.path}.md" if entry.path else "index.md"
            lines.append(f"- [{entry.title}]({self._public_url}/docs/{name})")
        lines += ["", "## Errors", ""]
        lines += [
            f"- [{kind.reason}]({self._public_url}/docs/errors/{kind.reason}.md): {kind.status},"
            f" {kind.title}. {kind.hint}"
            for kind in CATALOGUE.values()
        ]
        lines += ["", "## For programs", ""]
        lines.append(f"- [OpenAPI]({self._public_url}/openapi.json): the whole contract")
        lines.append(f"- [Catalogue]({self._public_url}/v1/errors): every reason, as JSON")
        return ("\n".join(lines) + "\n").encode()

    def fill(self, template: str, **values: Any) -> bytes:
        """Return a page in the looks of the site; ``path`` is None for one that is not its own."""
        text = self._templates.get_template(template).render(
            library=self._library,
            prefix=self._library.prefix,
            version=_version_of,
            **values,
        )
        return text.encode()

    @cached_property
    def _templates(self) -> Environment:
        return Environment(
            loader=FileSystemLoader([_HERE / "templates", _HERE.parent / "console" / "templates"]),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    # --- search

    async def _search(self, exchange: Exchange, wanted: str | None) -> Response:
        query = parse_qs(exchange.query.decode("latin-1")).get("q", [""])[0].strip()[:200]
        async with self._making:
            hits = await asyncio.to_thread(lambda: self._index.find(query))
        if wanted == JSON:
            content = {"data": [{name: getattr(hit, name) for name in _OF_HIT} for hit in hits]}
            return _response(orjson.dumps(content), JSON)
        return _response(self.fill("search.html", path="search", query=query, hits=hits), HTML)

    @cached_property
    def _index(self) -> SearchIndex:
        index = SearchIndex()
        for path in self._library.paths:
            index.add(self._library.url(path), sections_of(self._library.source(path)))
        return index

    # --- what is not there

    def _nothing(self, exchange: Exchange) -> Response:
        near = nearest(exchange.path, [f"/docs/{path}" for path in self._library.paths])
        meant = self._title(near.removeprefix("/docs/")) if near else None
        body = self.fill("missing.html", path=None, request_id=exchange.request_id, meant=meant)
        problem = problem_response(Problem(UNKNOWN_ENDPOINT), exchange.request_id, self._public_url)
        headers = [pair for pair in problem.headers if pair[0] != b"content-type"]
        return Response(404, body, [*headers, content_type(HTML), *safe(_STRICT)])

    def _refuse(self, exchange: Exchange, problem: Problem) -> Response:
        return problem_response(problem, exchange.request_id, self._public_url)


_METHODS = ("GET", "HEAD", "OPTIONS")
_ALLOW: Header = (b"allow", ", ".join(_METHODS).encode())
_OF_HIT = ("url", "title", "heading", "excerpt")


def _is_ours(path: str) -> bool:
    return path == "/docs" or path.startswith("/docs/") or path == f"/{_LLMS}"


def _is_reason(path: str) -> bool:
    return path.removeprefix(f"{ERRORS}/") in CATALOGUE


def _file_of(path: str) -> Path | None:
    """Return a file of the site's own, by its name: none is looked for in a folder."""
    name = path.removeprefix("static/")
    if path == f"static/{SCALAR.name}" and SCALAR.exists():
        return SCALAR
    return _STATIC.get(name) if path.startswith("static/") else None


def _version_of(name: str) -> str:
    """Return what changes in the address of a file when the file changes."""
    file = _file_of(f"static/{name}")
    assert file is not None, name
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _wanted(exchange: Exchange, available: list[str]) -> str | None:
    """Return the media type to answer with.

    HTML is for those who name it, as browsers do. A shell or an agent that takes anything gets
    Markdown, which it can read.
    """
    accept = exchange.headers.get(b"accept", b"*/*")
    if HTML in available and b"text/html" not in accept.lower():
        available = [each for each in available if each != HTML]
    return accepted_type(accept, available)


def _response(body: bytes, kind: str, *, policy: str = _STRICT, lasts: bool = False) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    cache = b"public, max-age=31536000, immutable" if lasts else b"no-cache"
    headers = [
        content_type(kind),
        (b"etag", tag.encode()),
        (b"cache-control", cache),
        *([] if lasts else [(b"vary", b"Accept")]),
        *safe(policy),
    ]
    return Response(200, body, headers)


def content_type(kind: str) -> Header:
    """Return the header that names a media type."""
    text = kind.startswith("text/")
    return b"content-type", (f"{kind}; charset=utf-8" if text else kind).encode()


def safe(policy: str = _STRICT) -> list[Header]:
    """Return the headers that let a page do no more than it needs."""
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
    ]


def _with_headers(response: Response, exchange: Exchange) -> Response:
    """Add the request's id; answer 304 where the caller has what there is (RFC 9110, 13.1.2)."""
    request_id = (b"x-request-id", exchange.request_id.encode())
    known = exchange.header(b"if-none-match")
    tag = dict(response.headers).get(b"etag")
    if known is not None and tag is not None:
        tags = {each.strip().removeprefix("W/") for each in known.split(",")}
        if tag.decode() in tags or "*" in tags:
            kept = [pair for pair in response.headers if pair[0] != b"content-type"]
            return Response(304, b"", [request_id, *kept])
    return Response(response.status, response.body, [request_id, *response.headers])
