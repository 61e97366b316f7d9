"""Read a query string: each name once, in UTF-8."""

import re
from urllib.parse import parse_qsl, unquote_to_bytes

from operator_api.contract.errors import FieldError
from operator_api.contract.validation import field_error, invalid_params

_TOKEN = re.compile(rb"op_(?:live|test)_[0-9A-Za-z]{8}")
_TOKEN_NAMES = re.compile(
    rb"(?:^|&)(?:api[_-]?key|(?:api[_-]?|access[_-]?)?token|authorization)=", re.IGNORECASE
)
_MOST = 50


def token_in(query: bytes) -> bool:
    """Say whether the query holds a token, by its form or by the parameter's name."""
    plain = unquote_to_bytes(query)
    return bool(_TOKEN.search(plain) or _TOKEN_NAMES.search(plain))


def read_query(query: bytes) -> dict[str, str]:
    """Return the parameters, or raise 400: twice the same name, not UTF-8, or far too many."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST
        )
    except UnicodeDecodeError:
        raise invalid_params([_whole("must be UTF-8, percent-encoded")]) from None
    except ValueError:
        raise invalid_params([_whole(f"must have at most {_MOST} parameters")]) from None
    params = dict(pairs)
    if len(params) != len(pairs):
        names = [name for name, _ in pairs]
        twice = dict.fromkeys(name for name in names if names.count(name) > 1)
        raise invalid_params(
            [
                field_error("query", (name,), "invalid_format", expected="given once")
                for name in twice
            ]
        )
    for name, value in pairs:
        if "\x00" in value:
            forbidden = field_error("query", (name,), "forbidden_character", forbidden="null bytes")
            raise invalid_params([forbidden])
    return params


def _whole(problem: str) -> FieldError:
    return FieldError("query", "#", "", "invalid_format", f"The query string {problem}.")
