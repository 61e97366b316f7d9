"""The server's settings: options, or ``OPERATOR_…`` variables, of which none may be unknown."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from operator_api.contract.suggest import nearest
from operator_api.server.limits import Policy
from operator_api.vault.keys import UnusableKeyError, parse_keys

PREFIX = "OPERATOR_"
# Variables of the client and of shells that use it; the server leaves them alone.
_OF_THE_CLIENT = frozenset(
    {
        "OPERATOR_API_KEY",
        "OPERATOR_BASE_URL",
        "OPERATOR_FAILURE_LOG",
        "OPERATOR_LOG",
        "OPERATOR_OUTBOX",
    }
)
_SQLITE = "sqlite:///"


class SettingsError(Exception):
    """A setting is unknown or malformed. The message names it, and never shows a secret."""


def _policy(value: object) -> Policy:
    return value if isinstance(value, Policy) else Policy.parse(str(value))


RateLimit = Annotated[Policy, NoDecode, PlainValidator(_policy)]


class Settings(BaseSettings):
    """How a server runs. Each field is also the variable ``OPERATOR_`` and its name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    data: Path = Field(Path("operator-data"), description="Folder of the embedded store.")
    database: str | None = Field(
        None,
        description="URL of the database; sqlite:///PATH. A file in the data folder if not set.",
    )
    rate_limit: RateLimit = Field(
        Policy(600, 60), description="Requests per token, as REQUESTS/SECONDSs."
    )
    failed_authentication_limit: RateLimit = Field(
        Policy(300, 60), description="Requests with unusable tokens per address, likewise."
    )
    public_url: str | None = Field(
        None, description="Where callers reach the server; links in errors begin with it."
    )
    secret_keys: Annotated[tuple[bytes, ...] | None, NoDecode] = Field(
        None,
        repr=False,
        description="Keys that seal, base64 of 32 bytes, by commas. One is made if none is set.",
    )
    keep_message_text_of: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Accounts, by commas, whose failed requests keep the text of messages."
    )
    trusted_proxies: str = Field(
        "", description="Addresses, by commas, whose X-Forwarded-For is believed."
    )
    requests_at_once: int = Field(1000, ge=1, description="Requests in work before 503.")
    writes_waiting: int = Field(5000, ge=1, description="Writes that wait before 503.")
    busy_seconds: float = Field(5, gt=0, description="How long a write waits for the store.")
    idempotency_patience_seconds: float = Field(
        2, gt=0, description="How long a retry waits for the first try before 409."
    )
    receive_seconds: float = Field(
        10, gt=0, description="How long a request may take to arrive before 408."
    )
    keep_alive_seconds: float = Field(
        75, gt=0, description="How long a connection may wait for its next request."
    )
    drain_seconds: float = Field(20, gt=0, description="How long a stop waits for open requests.")
    request_log: Literal["on", "off"] = Field("on", description="Whether requests are logged.")
    request_log_days: float = Field(
        30, gt=0, description="How long the request log keeps a request."
    )
    request_log_mb: float = Field(
        1024, ge=1, description="How large the request log may become, in megabytes."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much is logged to standard error."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="The form of its lines; auto is text on a terminal, and else JSON."
    )

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _read_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(parse_keys(value))
        except UnusableKeyError as error:
            raise ValueError(str(error)) from None

    @field_validator("keep_message_text_of", mode="before")
    @classmethod
    def _read_names(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @field_validator("database")
    @classmethod
    def _is_sqlite(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = value.removeprefix(_SQLITE)
        if path in {value, "", ":memory:"}:
            raise ValueError("only sqlite:///PATH is supported, with the path of a file")
        return value

    @property
    def database_path(self) -> Path:
        """The file of the embedded store."""
        if self.database is None:
            return self.data / "operator.sqlite3"
        return Path(self.database.removeprefix(_SQLITE))

    @property
    def key_file(self) -> Path:
        """The file of the keys that seal, where none are given."""
        return self.data / "secret.key"

    @property
    def request_log_path(self) -> Path:
        """The file of the request log."""
        return self.data / "requests.db"

    @property
    def url(self) -> str:
        """What links begin with, without a slash at the end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def load_settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings; what an option gives goes before its variable. Raise SettingsError."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper() not in known | _OF_THE_CLIENT:
            meant = nearest(name, known)
            raise SettingsError(
                f"The variable {name} is not a setting."
                + (f" Did you mean {meant}?" if meant else "")
            )
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as invalid:
        raise SettingsError(_in_words(invalid, given)) from None


def _in_words(invalid: ValidationError, given: Mapping[str, Any]) -> str:
    lines = []
    for error in invalid.errors(include_url=False, include_input=False):
        name = str(error["loc"][0])
        called = (
            f"The option --{name.replace('_', '-')}"
            if name in given
            else f"The variable {PREFIX}{name.upper()}"
        )
        problem = error["msg"].removeprefix("Value error, ")
        lines.append(f"{called} is wrong: {problem[:1].lower()}{problem[1:]}.")
    return "\n".join(lines)
