"""Build a request and read its answer: no I/O, no clock. Both senders stand on this.

::

    Call ── prepare ──> Request ── (attempts.py, by a sender) ──> Response ── parse ──> the answer
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import urandom
from typing import Any
from urllib.parse import quote, urlencode

from httpx2 import URL

from operator_api.client.answers import InvalidAnswer, read_answer
from operator_api.client.call import Call
from operator_api.client.configuration import USER_AGENT, Configuration, check_headers
from operator_api.client.errors import RequestValidationError
from operator_api.client.responses import Response
from operator_api.contract.errors import FieldError, Place, Problem
from operator_api.contract.headers import (
    IDEMPOTENCY_KEY,
    JSON,
    REQUEST_ID,
    parse_idempotency_key,
    parse_if_match,
)
from operator_api.contract.operations import BY_NAME, Operation
from operator_api.contract.validation import validate_body, validate_params

RETRY_COUNT = "X-Operator-Retry-Count"


@dataclass(frozen=True, slots=True)
class Request:
    """A call, ready to be sent: the same bytes and the same key in each attempt.

    ``headers`` are all but the token and the count of retries. ``call_id`` is the caller's name for
    the request (X-Request-Id), by which the server's log finds it even where no answer came.
    """

    operation: Operation
    method: str
    url: URL = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    idempotency_key: str | None
    call_id: str
    timeout: float
    deadline: float
    max_retries: int

    @property
    def replayable(self) -> bool:
        """Whether a second sending does no more than the first."""
        return self.method in {"GET", "HEAD"} or self.idempotency_key is not None


def prepare(call: Call[Any], configuration: Configuration) -> Request:
    """Build the request, or raise RequestValidationError with what the server would refuse."""
    operation, options = BY_NAME[call.operation], call.options
    content = _content(call, operation, check=configuration.validate)
    key = _key(options, operation)
    call_id = f"call_{urandom(16).hex()}"
    headers = {
        "Accept": operation.answer_type,
        "User-Agent": USER_AGENT,
        REQUEST_ID: call_id,
        **configuration.default_headers,
    }
    if extra := options.get("extra_headers"):
        check_headers(extra)
        headers |= extra
    if content is not None:
        headers["Content-Type"] = JSON
    if key is not None:
        headers[IDEMPOTENCY_KEY] = key
    if (if_match := options.get("if_match")) is not None:
        headers["If-Match"] = _if_match(if_match, operation)
    return Request(
        operation=operation,
        method=operation.method,
        url=_url(call, operation, configuration),
        headers=headers,
        content=content,
        idempotency_key=key,
        call_id=headers[REQUEST_ID],
        timeout=options.get("timeout", configuration.timeout),
        deadline=options.get("deadline", configuration.deadline),
        max_retries=options.get("max_retries", configuration.max_retries),
    )


# --- the parts of a request ---


def _content(call: Call[Any], operation: Operation, *, check: bool) -> bytes | None:
    if operation.body is None or (operation.body_optional and not call.body):
        return None
    if check:
        try:
            validate_body(operation.body, call.body or {})
        except Problem as problem:
            raise _refused(problem, operation) from None
    try:
        return json.dumps(
            call.body or {}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The text of an error of encoding shows what could not be encoded.
        why = "it holds a lone surrogate" if isinstance(error, UnicodeError) else str(error)
        raise RequestValidationError(
            f"The body cannot be written as JSON: {why}.", operation=operation.name, errors=()
        ) from None


def _url(call: Call[Any], operation: Operation, configuration: Configuration) -> URL:
    path = operation.path
    for name, value in call.ids.items():
        path = path.replace(f"{{{name}}}", _segment(name, value, operation))
    path = configuration.base_url.path.rstrip("/") + path
    query = _query(call.params, operation, check=configuration.validate)
    return _address(configuration.base_url, path + query)


# To read an address takes longer than all else about a request, and programs call few of them.
@lru_cache(maxsize=256)
def _address(base_url: URL, target: str) -> URL:
    return base_url.copy_with(raw_path=target.encode())


def _segment(name: str, value: Any, operation: Operation) -> str:
    """Encode a variable of the path. What is empty or dots would lead to another endpoint."""
    if not isinstance(value, str) or value.strip(".") == "":
        raise _wrong("path", name, "invalid_format", f"{name} must be an id.", operation)
    return quote(value, safe="", errors="surrogatepass")


def _query(params: Mapping[str, Any], operation: Operation, *, check: bool) -> str:
    if not params:
        return ""
    texts = {
        name: json.dumps(value) if isinstance(value, bool) else str(value)
        for name, value in params.items()
        if value is not None
    }
    if check:
        try:
            validate_params(operation.params, texts)
        except Problem as problem:
            raise _refused(problem, operation) from None
    return "?" + urlencode(texts, errors="surrogatepass") if texts else ""


def _key(options: Mapping[str, Any], operation: Operation) -> str | None:
    """Return the caller's idempotency key, or make one: every write can then be sent again."""
    if not operation.writes:
        return None
    key = options.get("idempotency_key")
    if key is None:
        return urandom(16).hex()
    if not isinstance(key, str) or parse_idempotency_key(key) is None:
        message = "Idempotency-Key must be 1 to 255 visible ASCII characters other than quotes."
        raise _wrong("header", IDEMPOTENCY_KEY, "invalid_format", message, operation)
    return key


def _if_match(value: str, operation: Operation) -> str:
    if not operation.takes_if_match or parse_if_match(value) is None:
        message = (
            "If-Match must be an entity tag in quotes, or *."
            if operation.takes_if_match
            else f"{operation.name} takes no If-Match."
        )
        raise _wrong("header", "If-Match", "invalid_format", message, operation)
    return value


def _refused(problem: Problem, operation: Operation) -> RequestValidationError:
    return RequestValidationError(problem.message, operation=operation.name, errors=problem.errors)


def _wrong(
    place: Place, name: str, reason: str, message: str, operation: Operation
) -> RequestValidationError:
    error = FieldError(place, f"#/{name}", name, reason, message)
    return RequestValidationError(message, operation=operation.name, errors=[error])


# --- the answer ---


def parse(request: Request, response: Response) -> Any:
    """Return the answer's model; raise InvalidAnswer where it is not what the operation answers."""
    operation = request.operation
    if 300 <= response.status_code < 400:
        raise InvalidAnswer(
            f"it redirects ({response.status_code}), which is followed within the server's own"
            " address only, for the token's sake"
        )
    if response.status_code != operation.status:
        raise InvalidAnswer(f"it has status {response.status_code}, not {operation.status}")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != operation.answer_type:
        raise InvalidAnswer(
            f"it is {media_type or 'of no media type'}, not {operation.answer_type}"
        )
    return read_answer(operation, response.content)
