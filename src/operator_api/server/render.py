"""The only place where an error becomes bytes: one body, in three views of it.

JSON unless asked otherwise; ``application/problem+json`` (RFC 9457) with the same object as its
extension member ``error``; and a short page of Markdown for agents.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from operator_api.contract.answers import error_headers, error_object
from operator_api.contract.errors import Problem
from operator_api.contract.headers import JSON, MARKDOWN, PROBLEM_JSON
from operator_api.server.exchange import Header, Response, View

MEDIA_TYPES: Mapping[View, str] = {"json": JSON, "problem": PROBLEM_JSON, "markdown": MARKDOWN}

_CONTENT_TYPE: Mapping[View, Header] = {
    "json": (b"content-type", b"application/json"),
    "problem": (b"content-type", b"application/problem+json"),
    "markdown": (b"content-type", b"text/markdown; charset=utf-8"),
}


def problem_response(
    problem: Problem, request_id: str, public_url: str, view: View = "json"
) -> Response:
    """Return the answer that tells of the problem, with the headers that every error has."""
    kind = problem.kind
    error = error_object(problem, request_id, public_url)
    headers = [_CONTENT_TYPE[view], *error_headers(problem)]
    return Response(kind.status, _VIEW[view](error, kind.title), headers)


# --- the three views ---


def _as_json(error: Mapping[str, Any], _title: str) -> bytes:
    return orjson.dumps({"error": error})


def _as_problem(error: Mapping[str, Any], title: str) -> bytes:
    return orjson.dumps(
        {
            "type": error["doc_url"],
            "title": title,
            "status": error["code"],
            "detail": error["message"],
            "instance": error["log_url"],
            "error": error,
        }
    )


def _as_markdown(error: Mapping[str, Any], title: str) -> bytes:
    retry = error["retry"]
    lines = [
        f"# {error['code']} {title}",
        "",
        _plain(error["message"]),
        "",
        f"- Reason: `{error['reason']}` ({error['type']})",
        f"- What to do: {error['hint']}",
        f"- Retry: {'yes' if retry['retryable'] else 'no'}, `{retry['action']}`"
        + (f", after {retry['after_seconds']} s" if retry["after_seconds"] is not None else ""),
        f"- Did it happen? `{error['outcome']}`",
        f"- Request: `{error['request_id']}`, see {error['log_url']}",
        f"- Documentation: {error['doc_url']}",
    ]
    if error["errors"]:
        lines += ["", "| where | reason | what | fix |", "| --- | --- | --- | --- |"]
    for each in error["errors"]:
        fix = _plain(orjson.dumps(each["fix"]).decode()) if each["fix"] else ""
        lines.append(
            f"| {each['in']} `{each['pointer']}` | `{each['reason']}` "
            f"| {_plain(each['message'])} | {fix} |"
        )
    if error["metadata"]:
        lines += ["", "```json", orjson.dumps(error["metadata"]).decode(), "```"]
    return ("\n".join(lines) + "\n").encode()


def _plain(text: str) -> str:
    """Take out what would end a cell, a line or a code span: names in it come from the caller."""
    words = text.replace("|", "/").replace("`", "'").split()
    return _MARKUP.sub(r"\\\g<0>", " ".join(words))


# What would begin a link, an image, a tag or an emphasis.
_MARKUP = re.compile(r"[\\*\[\]<>]|(?<!\w)_|_(?!\w)")


_VIEW: Mapping[View, Callable[[Mapping[str, Any], str], bytes]] = {
    "json": _as_json,
    "problem": _as_problem,
    "markdown": _as_markdown,
}


# --- which view ---


def choose_view(accept: bytes | None) -> View | None:
    """Return the view that an Accept header prefers (RFC 9110, section 12.5.1); None if none."""
    if accept is None:
        return "json"
    return _choose_cached(accept) if len(accept) <= _CACHED_BYTES else _choose(accept)


def _choose(accept: bytes) -> View | None:
    chosen = accepted_type(accept, [*MEDIA_TYPES.values()])
    return next((view for view, name in MEDIA_TYPES.items() if name == chosen), None)


def accepted_type(accept: bytes, available: Sequence[str]) -> str | None:
    """Return the media type that an Accept header likes best, the first where it does not mind."""
    if not accept.strip():
        return available[0]
    ranges = [_media_range(part) for part in accept.decode("latin-1").split(",") if part.strip()]
    quality = {name: _quality(name, ranges) for name in available}
    best = max(quality, key=quality.__getitem__)
    return best if quality[best] > 0 else None


# Few clients send anything else than the same short line each time.
_CACHED_BYTES = 256
_choose_cached = lru_cache(maxsize=256)(_choose)


def _media_range(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip() for piece in part.lower().split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return media_type, quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that the media type matches."""
    of = dict(ranges)
    for candidate in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if candidate in of:
            return of[candidate]
    return 0.0
