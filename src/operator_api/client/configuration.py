"""What a client is configured with: its arguments, or else the environment."""

import os
import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypedDict

from httpx2 import URL, InvalidURL

from operator_api import __version__
from operator_api.client.errors import OperatorError

ApiKey: TypeAlias = str | Callable[[], str]
AsyncApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]]

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 15.0
DEFAULT_DEADLINE = 60.0
DEFAULT_MAX_RETRIES = 4
CONNECT_TIMEOUT = 5.0

USER_AGENT = f"operator-python/{__version__} (Python {platform.python_version()})"
# What the client says of itself: another value would break the promises that stand on it.
_OWN_HEADERS = frozenset(
    {
        "authorization",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "idempotency-key",
        "if-match",
        "accept",
        "x-operator-retry-count",
    }
)


class ClientOptions(TypedDict, total=False):
    """What both clients take by keyword; ``with_options`` changes it. Times are in seconds.

    ``timeout`` is for each attempt, ``deadline`` for all of a call with the waits between;
    ``validate=False`` sends what the server would refuse.
    """

    base_url: str | URL
    timeout: float
    deadline: float
    max_retries: int
    default_headers: Mapping[str, str]
    validate: bool


class ConfigurationError(OperatorError):
    """The client cannot work with what it was given."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """How calls are made. Times are in seconds; ``origin`` is scheme, host and port."""

    base_url: URL
    timeout: float = DEFAULT_TIMEOUT
    deadline: float = DEFAULT_DEADLINE
    max_retries: int = DEFAULT_MAX_RETRIES
    validate: bool = True
    default_headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("timeout", "deadline"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name} must be a number of seconds above 0.")
        if self.max_retries < 0:
            raise ConfigurationError("max_retries must be 0 or more.")
        check_headers(self.default_headers)

    def changed(self, options: ClientOptions) -> "Configuration":
        """Return it with other options. The address stays: the connections lead to it."""
        if "base_url" in options:
            raise ConfigurationError("base_url is not an option to change: make another client.")
        return replace(self, **_known(options))


def configure(options: ClientOptions) -> Configuration:
    """Return the configuration of a new client."""
    given = _known(options)
    return Configuration(base_url=read_base_url(given.pop("base_url", None)), **given)


def _known(options: ClientOptions) -> dict[str, Any]:
    if unknown := options.keys() - ClientOptions.__optional_keys__:
        raise TypeError(f"There is no option {', '.join(sorted(unknown))}.")
    return dict(options)


def origin_of(url: URL) -> str:
    """Return scheme, host and port of an address."""
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host}:{port}"


def read_base_url(base_url: str | URL | None) -> URL:
    """Return where the API is: the argument, or OPERATOR_BASE_URL, or this machine."""
    chosen = base_url or os.environ.get("OPERATOR_BASE_URL") or DEFAULT_BASE_URL
    try:
        url = URL(chosen)
    except (InvalidURL, TypeError) as error:
        raise ConfigurationError(f"The base URL cannot be read: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(
            "The base URL must begin with http:// or https:// and name a host, as in"
            f" {DEFAULT_BASE_URL}"
        )
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError(
            "The base URL must have no user name, password, query or fragment: they end up in logs."
        )
    path = url.path.rstrip("/").removesuffix("/v1")
    return url.copy_with(path=path or "/")


def read_api_key(api_key: AsyncApiKey | None) -> AsyncApiKey:
    """Return the token, or what gives it: the argument, or OPERATOR_API_KEY."""
    chosen = api_key or os.environ.get("OPERATOR_API_KEY")
    if not chosen:
        raise ConfigurationError(
            "There is no API key. Pass api_key=…, or set OPERATOR_API_KEY."
            " `operator-api tokens create` makes one."
        )
    return check_api_key(chosen) if isinstance(chosen, str) else chosen


def check_api_key(api_key: Any) -> str:
    """Return the token without the white space that pasting adds; refuse what is no token."""
    token = api_key.strip() if isinstance(api_key, str) else ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "The API key must be one word of ASCII characters, such as op_test_…"
            " (it is not shown here, since it may be a secret)."
        )
    return token


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that the client sets itself, and values that would end their line."""
    for name, value in headers.items():
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"The header {name} is the client's own to set.")
        if not _is_token(name) or not _is_field_value(value):
            raise ConfigurationError(
                f"The header {name!r} has a name or a value that HTTP forbids."
            )


def _is_token(name: str) -> bool:
    return bool(name) and all(
        character.isascii() and (character.isalnum() or character in "!#$%&'*+-.^_`|~")
        for character in name
    )


def _is_field_value(value: str) -> bool:
    return value == value.strip() and all(
        " " <= character <= "~" or character == "\t" for character in value
    )
