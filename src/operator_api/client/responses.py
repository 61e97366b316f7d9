"""Answers as they came in: status, headers and bytes."""

import json
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from httpx2 import Headers

from operator_api.contract.headers import REQUEST_ID

# What goes with a pickle: none of it is of anybody's writing.
_KEPT = frozenset(
    {
        "content-length",
        "content-type",
        "date",
        "idempotent-replayed",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "x-error-reason",
        "x-request-id",
        "x-should-retry",
    }
)
T_co = TypeVar("T_co", covariant=True)


class Response:
    """One answer. Its text and representation do not show the body, which may hold a secret."""

    __slots__ = ("attempts", "content", "headers", "status_code")

    def __init__(
        self, status_code: int, headers: Headers, content: bytes, *, attempts: int = 1
    ) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content
        self.attempts = attempts

    @property
    def request_id(self) -> str | None:
        """The server's name for the request; it leads to its log."""
        return self.headers.get(REQUEST_ID)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Read the body as JSON; raise ValueError where it is not."""
        return json.loads(self.content)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the body and whatever else may hold a secret; a copy has all."""
        kept = [each for each in self.headers.multi_items() if each[0].lower() in _KEPT]
        headers = Headers(kept)
        return Response, (self.status_code, headers, b""), (None, {"attempts": self.attempts})

    def __copy__(self) -> Self:
        return self  # nothing of it changes once it is there

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code} {self.request_id or 'without an id'}>"


class RawResponse(Response, Generic[T_co]):
    """An answer whose model is made when it is asked for."""

    __slots__ = ("_parse",)

    def __init__(self, response: Response, parse: Callable[[], T_co]) -> None:
        super().__init__(
            response.status_code, response.headers, response.content, attempts=response.attempts
        )
        self._parse = parse

    def parse(self) -> T_co:
        """Return what the method itself would have returned."""
        return self._parse()
