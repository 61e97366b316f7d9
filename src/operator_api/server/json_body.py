"""Read a body as one JSON object, or say exactly why it is none.

Stricter than RFC 8259 asks, because what two readers may take differently is refused: duplicate
keys, NaN, numbers that do not fit, lone surrogates (RFC 7493, I-JSON), and endless nesting.
"""

import json
import math
import re
from typing import Any, NoReturn

from operator_api.contract.errors import (
    BODY_NOT_OBJECT,
    EMPTY_BODY,
    INVALID_ENCODING,
    INVALID_JSON,
    Problem,
)

MAX_DEPTH = 64
_MAX_DIGITS = 400
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class _Refused(Exception):
    """The JSON is well formed, but has something that is not taken; ``_first_refused`` finds it."""


def read_json_object(body: bytes) -> dict[str, Any]:
    """Return the object, or raise the 400 that says what is wrong and where."""
    if not body.strip():
        raise Problem(EMPTY_BODY)
    text = _decode(body)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _invalid(_in_words(error), text, error.pos) from None
    except (_Refused, RecursionError):
        value = None
    if value is None or _has_lone_surrogate(text, value) or _is_deep(text, value):
        refused = _first_refused(text)
        if refused is not None:
            raise _invalid(refused[0], text, refused[1])
    if not isinstance(value, dict):
        raise Problem(BODY_NOT_OBJECT, {"found": _KIND[type(value)]})
    return value


def _has_lone_surrogate(text: str, value: Any) -> bool:
    if not _surrogate_escape(text):
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_deep(text: str, value: Any) -> bool:
    """Say whether it nests too deep: go down all lists and objects at once, level by level."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


_surrogate_escape = re.compile(r"\\u[dD][89a-fA-F]").search

_KIND: dict[type, str] = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _decode(body: bytes) -> str:
    if body.startswith(_BYTE_ORDER_MARKS):
        raise Problem(INVALID_ENCODING, {"problem": "a byte order mark", "byte": 0})
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Problem(INVALID_ENCODING, {"problem": error.reason, "byte": error.start}) from None
    if "\x00" in text:
        at = body.index(b"\x00")
        raise Problem(INVALID_ENCODING, {"problem": "a null byte, as in UTF-16", "byte": at})
    return text


def _invalid(problem: str, text: str, at: int) -> Problem:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return Problem(INVALID_JSON, {"problem": problem, "line": line, "column": column})


def _in_words(error: json.JSONDecodeError) -> str:
    words = error.msg.removesuffix(" at").removesuffix(" starting")
    return words[:1].lower() + words[1:]


# --- what the parser is told to refuse ---


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _Refused
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Refused
    return number


def _constant(_name: str) -> NoReturn:
    raise _Refused


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)


# --- finding what was refused, only where something is ---

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^\s{}\[\],:"]+')
_COLON = re.compile(r"\s*:")
_CONSTANTS = ("NaN", "Infinity", "-Infinity")


def _first_refused(text: str) -> tuple[str, int] | None:
    """Walk over JSON that is otherwise well formed; return what is refused, and where it is."""
    keys: list[set[str]] = []  # of each open object or list
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in "{[":
            keys.append(set())
            problem = f"nested over {MAX_DEPTH} deep" if len(keys) > MAX_DEPTH else None
        elif word in "}]":
            keys.pop()
            problem = None
        elif word[0] == '"':
            is_key = _COLON.match(text, token.end()) is not None
            problem = _string_problem(json.loads(word), keys[-1] if is_key else None)
        else:
            problem = _number_problem(word)
        if problem is not None:
            return problem, token.start()
    return None


def _string_problem(string: str, keys: set[str] | None) -> str | None:
    if any("\ud800" <= character <= "\udfff" for character in string):
        return "a lone surrogate"
    if keys is None:
        return None
    if string in keys:
        return "a key given twice"
    keys.add(string)
    return None


def _number_problem(word: str) -> str | None:
    if word in _CONSTANTS:
        return f"{word} is not JSON"
    if len(word) > _MAX_DIGITS:
        return "a number with too many digits"
    if word[-1].isdigit() and math.isinf(float(word)):
        return "a number too large"
    return None
