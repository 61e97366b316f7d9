"""An example's requests as text to run: curl in a shell, and Python with httpx2.

Both read the token from ``OPERATOR_API_KEY``, so that none stands in what is copied around.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from operator_api.contract.examples import NEW_EMAIL, Body, Example, Repeated, Request

_VARIABLE = re.compile(r"\$([A-Z_]+)")
_LINE = 92


# --- curl ---


def curl(example: Example, base_url: str) -> str:
    """Return the commands that send the example's requests, for bash and its like."""
    lines = []
    if _uses(example, NEW_EMAIL):
        lines.append(f'{NEW_EMAIL}="ada+$(date +%s)$RANDOM@example.com"')
    for request in example.requests:
        command = _curl(request, base_url)
        if not request.keeps:
            lines.append(command)
            continue
        lines.append(f"ANSWER=$({command})")
        for name, member in request.keeps.items():
            found = rf"""sed -E 's/.*"{member}":"([^"]+)".*/\1/'"""
            lines.append(f'{name}=$(echo "$ANSWER" | {found})')
    return "\n".join(lines)


def _curl(request: Request, base_url: str) -> str:
    usual = "GET" if request.body is None else "POST"
    method = "" if request.method == usual else f"-X {request.method} "
    options = "-s" if request.keeps else "-si"
    words = [f"curl {options} {method}{_quoted(base_url + request.path)}"]
    if request.bearer is not None:
        words.append(f'-H "Authorization: Bearer ${request.bearer}"')
    for name, value in _headers(request):
        words.append(f"-H {_header(name, value)}")
    before = ""
    if request.body is not None:
        before, option = _data(request.body)
        words.append(option)
    return before + _wrapped(words)


def _wrapped(words: list[str]) -> str:
    """Break a command that is too long for a line."""
    line = " ".join(words)
    return line if len(line) <= _LINE else " \\\n  ".join(words)


def _header(name: str, value: str | Repeated) -> str:
    if isinstance(value, Repeated):
        return f'"{name}: $({_repeating(value)})"'
    return _quoted(f"{name}: {value}")


def _repeating(value: Repeated) -> str:
    return f"head -c {value.times} /dev/zero | tr '\\0' '{value.text}'"


def _data(body: Body) -> tuple[str, str]:
    """Return what comes before curl, to feed it, and its option."""
    if isinstance(body, Repeated):
        return f"{_repeating(body)} | ", "--data-binary @-"
    if isinstance(body, bytes):
        if body.isascii():
            return "", f"-d {_quoted(body.decode())}"
        escaped = "".join(chr(byte) if byte < 128 else f"\\{byte:03o}" for byte in body)
        return f"printf '{escaped}' | ", "--data-binary @-"
    return "", f"-d {_quoted(json.dumps(body))}"


def _quoted(text: str) -> str:
    """Quote for a shell, with the variables left to be replaced."""
    if "'" not in text and not _VARIABLE.search(text):
        return f"'{text}'" if re.search(r"[^\w:/.,@+=-]", text) else text
    return '"' + _VARIABLE.sub(r"$\1", re.sub(r'(["\\`])', r"\\\1", text)) + '"'


# --- Python ---


def python(example: Example, base_url: str) -> str:
    """Return the program that sends the example's requests, and prints the last answer."""
    own = {request.bearer for request in example.requests}
    lines = ["import os"]
    if _uses(example, NEW_EMAIL):
        lines.append("import time")
    lines += ["", "import httpx2", "", f'api = httpx2.Client(base_url="{base_url}")']
    if "OPERATOR_API_KEY" in own:
        lines.append(
            """api.headers["Authorization"] = f"Bearer {os.environ['OPERATOR_API_KEY']}\""""
        )
    else:
        lines.remove("import os")
        lines.pop(0)
    if _uses(example, NEW_EMAIL):
        lines.append(f'{_name(NEW_EMAIL)} = f"ada+{{time.time_ns()}}@example.com"')
    for number, request in enumerate(example.requests, 1):
        last = number == len(example.requests)
        call = _call(request)
        if request.keeps:
            lines.append(f"made = {call}.json()")
            lines += [f'{_name(name)} = made["{part}"]' for name, part in request.keeps.items()]
        else:
            lines.append(f"answer = {call}" if last else call)
    lines += ["print(answer.status_code, answer.text)"]
    return "\n".join(lines)


def _call(request: Request) -> str:
    arguments = [_text(request.path)]
    headers: dict[str, str] = {name: _value(value) for name, value in _headers(request)}
    body = request.body
    if isinstance(body, Mapping):
        headers.pop("Content-Type", None)
        arguments.append(f"json={_literal(body)}")
    elif isinstance(body, Repeated):
        arguments.append(f"content=b{body.text!r} * {body.times:_}".replace("'", '"'))
    elif body is not None:
        arguments.append(f"content={body!r}")
    if request.bearer not in {None, "OPERATOR_API_KEY"}:
        headers["Authorization"] = f'f"Bearer {{{_name(str(request.bearer))}}}"'
    if headers:
        members = ", ".join(f'"{name}": {value}' for name, value in headers.items())
        arguments.append(f"headers={{{members}}}")
    line = f"api.{request.method.lower()}({', '.join(arguments)})"
    if len(line) <= _LINE - len("answer = "):
        return line
    inner = "".join(f"    {argument},\n" for argument in arguments)
    return f"api.{request.method.lower()}(\n{inner})"


def _value(value: str | Repeated) -> str:
    if isinstance(value, Repeated):
        return f'"{value.text}" * {value.times:_}'
    return _text(value)


def _literal(value: Any) -> str:
    """Write a JSON value as Python does."""
    if isinstance(value, Mapping):
        members = (f'"{name}": {_literal(each)}' for name, each in value.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """Write a string; one with variables in it as an f-string."""
    if (whole := _VARIABLE.fullmatch(text)) is not None:
        return _name(whole[1])
    if _VARIABLE.search(text):
        return 'f"' + _VARIABLE.sub(lambda found: f"{{{_name(found[1])}}}", text) + '"'
    return repr(text) if '"' in text else json.dumps(text)


def _name(variable: str) -> str:
    return variable.lower()


# --- both ---


def _headers(request: Request) -> Iterator[tuple[str, str | Repeated]]:
    if request.content_type is not None:
        yield "Content-Type", request.content_type
    yield from request.headers.items()


def _uses(example: Example, variable: str) -> bool:
    return any(f"${variable}" in repr(request) for request in example.requests)
