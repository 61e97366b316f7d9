"""What a failed request has other than the token's last success on the same operation.

Both are redacted, so what is compared is which fields there are, and what kind of value each has.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from operator_api.contract.fields import format_timestamp
from operator_api.server.requests.entry import time_of
from operator_api.vault.redact import MASK, kind_of

# These differ from request to request, and tell nothing.
_PASSING = frozenset(
    {
        "authorization",
        "content-length",
        "date",
        "host",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "x-forwarded-for",
        "x-operator-retry-count",
        "x-request-id",
    }
)
_MOST = 100
_KIND = re.compile(r"<([a-z]+)")


def difference(last_success: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Any:
    """Return what was added, is missing, or is of another shape; None without a success."""
    if last_success is None:
        return None
    before = dict(_shapes(last_success["request"]))
    after = dict(_shapes(now))
    return {
        "request_id": last_success["id"],
        "at": format_timestamp(time_of(last_success["id"])),
        "added": _listed(after, before),
        "missing": _listed(before, after),
        "changed": [
            {"in": place, "pointer": pointer, "before": before[place, pointer], "now": shape}
            for (place, pointer), shape in after.items()
            if before.get((place, pointer), shape) != shape
        ][:_MOST],
    }


_Key = tuple[str, str]


def _listed(of: Mapping[_Key, str], beyond: Mapping[_Key, str]) -> list[dict[str, str]]:
    return [
        {"in": place, "pointer": pointer, "shape": shape}
        for (place, pointer), shape in of.items()
        if (place, pointer) not in beyond
    ][:_MOST]


def _shapes(request: Mapping[str, Any]) -> Iterator[tuple[_Key, str]]:
    """Yield where each part of a request is, with its shape."""
    for pointer, shape in _walk(request["body"], "#"):
        if request["body"] is not None:
            yield ("body", pointer), shape
    for name, value in (request["query"] if isinstance(request["query"], dict) else {}).items():
        yield ("query", f"#/{_escaped(name)}"), shape_of(value)
    for name, value in request["headers"]:
        if name not in _PASSING:
            yield ("header", f"#/{name}"), shape_of(value) if MASK.fullmatch(value) else value


def _walk(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping) or pointer == "#":
        yield pointer, shape_of(value)
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _walk(member, f"{pointer}/{_escaped(name)}")


def shape_of(value: Any) -> str:
    """Name the shape of a redacted value: ``email``, ``number``, ``array of string``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return _shape_of_text(value)
    if isinstance(value, Sequence):
        shapes = sorted({shape_of(each) for each in value})
        return f"array of {', '.join(shapes)}" if shapes else "empty array"
    return "object"


def _shape_of_text(text: str) -> str:
    if text in {"", "<string 0>"}:
        return "empty string"
    if MASK.fullmatch(text) is None:
        return "unreadable" if text.startswith("<unreadable ") else kind_of(text)
    kind = _KIND.match(text)
    return "more" if kind is None else kind[1]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
