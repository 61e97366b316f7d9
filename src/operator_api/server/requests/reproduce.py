"""A command that sends a logged request again.

It never holds a token: ``$OPERATOR_API_KEY`` stands for it. What redaction has masked is a
placeholder, such as ``<email 17>`` in a body or ``EMAIL`` in a URL, for the reader to fill in.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from operator_api.contract.errors import MALFORMED_AUTHORIZATION
from operator_api.server.requests.difference import shape_of
from operator_api.server.requests.entry import Entry
from operator_api.vault.redact import MASK

BODY_FILE = "request-body"
# The headers that a check looks at.
_LOOKED_AT = ("accept", "content-type", "content-encoding", "if-match", "operator-simulate")
_UNQUOTED = "/:@!&'()*+,;=~-._%"
_LINE = 92
_KIND = re.compile(r"<([a-z]+)")


def curl(
    entry: Entry, request: Mapping[str, Any] | None, public_url: str, *, reveal: bool
) -> str | None:
    """Return the command; None for what was no HTTP request.

    ``request`` is what is known beyond the row. Without ``reveal`` the values of its body are
    placeholders, also those that redaction has left.
    """
    if not entry.method:
        return None
    method = "-I" if entry.method == "HEAD" else f"-X {entry.method}"
    words = [f"curl -sS -i {method} {_url(entry, request, public_url)}"]
    words += _headers(entry, request)
    comment = ""
    if request is not None and request["bytes"]:
        body = request["body"]
        if isinstance(body, str) and body.startswith("<unreadable "):
            comment = f"# The file {BODY_FILE}: what was sent, {request['bytes']} bytes.\n"
            words.append(f"--data-binary @{BODY_FILE}")
        else:
            text = json.dumps(_filled(body, blank=not reveal), ensure_ascii=False)
            words.append(f"--data-raw {shlex.quote(text)}")
    line = " ".join(words)
    return comment + (line if len(line) <= _LINE else " \\\n  ".join(words))


def _url(entry: Entry, request: Mapping[str, Any] | None, public_url: str) -> str:
    path = MASK.sub(lambda found: _placeholder(found[0]), entry.path)
    url = public_url + quote(path, safe=_UNQUOTED)
    query = None if request is None else request["query"]
    if isinstance(query, Mapping):
        pairs = [
            f"{quote(MASK.sub(lambda found: _placeholder(found[0]), name))}={_in_query(value)}"
            for name, values in query.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        url += f"?{'&'.join(pairs)}"
    elif query is not None:
        url += "?QUERY"
    return f'"{url}"' if "$" in url else shlex.quote(url)


def _in_query(value: Any) -> str:
    text = str(value)
    if MASK.fullmatch(text) is None:
        return quote(text)
    return "" if text == "<string 0>" else _placeholder(text)


def _placeholder(masked: str) -> str:
    kind = _KIND.match(masked)
    name = "VALUE" if kind is None else kind[1].upper()
    return "$OPERATOR_API_KEY" if name in {"SECRET", "TOKEN"} else name


def _headers(entry: Entry, request: Mapping[str, Any] | None) -> Iterator[str]:
    sent = {} if request is None else {name.lower(): value for name, value in request["headers"]}
    if request is None or "authorization" in sent:
        if entry.reason == MALFORMED_AUTHORIZATION.reason:
            yield '-H "Authorization: $AUTHORIZATION"'
        else:
            yield '-H "Authorization: Bearer $OPERATOR_API_KEY"'
    for name in _LOOKED_AT:
        if name in sent and (name, sent[name]) != ("accept", "*/*"):
            yield f"-H {shlex.quote(f'{_titled(name)}: {sent[name]}')}"
    if request is not None and request["bytes"] and "content-type" not in sent:
        yield "-H 'Content-Type:'"  # curl would send one of its own
    if "idempotency-key" in sent or (request is None and entry.key_hash):
        yield '-H "Idempotency-Key: $IDEMPOTENCY_KEY"'


def _titled(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _filled(value: Any, *, blank: bool) -> Any:
    """Return a redacted body to be sent; if it is ``blank``, with the kinds of values alone."""
    if isinstance(value, Mapping):
        return {name: _filled(member, blank=blank) for name, member in value.items()}
    if isinstance(value, list):
        return [_filled(each, blank=blank) for each in value]
    if value == "<string 0>":
        return ""
    if value is None or isinstance(value, bool) or not blank:
        return value
    return f"<{shape_of(value)}>"
