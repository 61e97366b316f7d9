"""The types of single fields, each with the rule that checks it and the JSON Schema that says so.

The rule and the schema come from the same regular expression, which is kept to what Python and
ECMA-262 read alike. A rule fails with a ``PydanticCustomError`` whose type is a field reason of
the catalogue; ``validation.py`` makes the contract's field errors of them.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, LiteralString, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

Values = TypeVar("Values")

# Control characters: C0, DEL and C1. Text of several lines keeps tab and line ends.
_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_CONTROL_IN_TEXT = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
# What cannot be seen, or turns the text around it: zero-width, direction and isolate marks.
_INVISIBLE = r"\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"

_ATOM = r"[^\s@.\"(),:;<>\[\\\]" + _CONTROL + _INVISIBLE + r"]+"
_LABEL = r"[^\s@.\"(),:;<>\[\\\]!#$%&'*+/=?^_`{|}~" + _CONTROL + _INVISIBLE + r"]+"
EMAIL_PATTERN = rf"^(?=[^@]{{1,64}}@){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})+$"
PHONE_PATTERN = r"^\+[1-9][0-9]{6,14}$"
# Years from 1000 to 2999: in whatever zone and with whatever is added, Python can hold them.
TIMESTAMP_PATTERN = (
    r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, left naive so that isoformat adds no +00:00


def _visible(forbidden: str) -> str:
    """Match text with at least one visible character and none that is forbidden.

    What Python and ECMA-262 take differently for white space is in what is excluded beside it.
    """
    return rf"^[^{forbidden}]*[^\s{_CONTROL}{_INVISIBLE}][^{forbidden}]*$"


class _Rule:
    """A check of a string, together with the JSON Schema that describes what passes."""

    schema: dict[str, Any]

    def check(self, text: str) -> str:
        raise NotImplementedError

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | self.schema


class _Text(_Rule):
    """Text with a visible character, a longest length, and characters that it must not have."""

    def __init__(self, longest: int, forbidden: str, called: str) -> None:
        pattern = _visible(forbidden)
        self.schema = {"minLength": 1, "maxLength": longest, "pattern": pattern}
        self._longest = longest
        self._called = called
        self._matches = re.compile(pattern).fullmatch
        self._has_forbidden = re.compile(f"[{forbidden}]").search

    def check(self, text: str) -> str:
        if len(text) <= self._longest and self._matches(text):
            return text
        if len(text) > self._longest:
            raise PydanticCustomError("too_long", "", {"maximum": f"{self._longest} characters"})
        if self._has_forbidden(text):
            raise PydanticCustomError("forbidden_character", "", {"forbidden": self._called})
        raise PydanticCustomError("too_short", "", {"minimum": "1 visible character"})


class _Form(_Rule):
    """A string of one form, with the field reason for what has another one."""

    def __init__(
        self, reason: LiteralString, pattern: str, expected: str = "", **schema: Any
    ) -> None:
        self.schema = {"pattern": pattern, **schema}
        self._reason = reason
        self._variables = {"expected": expected} if expected else None
        self._matches = re.compile(pattern).fullmatch
        self._longest = schema.get("maxLength", 1024)

    def check(self, text: str) -> str:
        if len(text) <= self._longest and self._matches(text):
            return text
        raise PydanticCustomError(self._reason, "", self._variables)


Name = Annotated[str, _Text(200, _CONTROL, "control characters")]
MessageText = Annotated[str, _Text(10_000, _CONTROL_IN_TEXT, "control characters")]
TagName = Annotated[
    str,
    _Text(64, _CONTROL + _INVISIBLE, "control, zero-width or text-direction characters"),
]
# RFC 5321's lengths and RFC 6531's characters; quoted local parts are refused.
Email = Annotated[str, _Form("invalid_email", EMAIL_PATTERN, format="idn-email", maxLength=254)]
Phone = Annotated[str, _Form("invalid_phone", PHONE_PATTERN)]


_is_timestamp = re.compile(TIMESTAMP_PATTERN).fullmatch


def parse_timestamp(text: Any) -> datetime:
    """Read an RFC 3339 time, which must name its zone, as UTC."""
    if isinstance(text, datetime):
        return text
    if not isinstance(text, str):
        raise PydanticCustomError("wrong_type", "", {"expected": "a string with a time"})
    if _is_timestamp(text):
        try:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # an impossible date, such as February 30
    raise PydanticCustomError(
        "invalid_format", "", {"expected": "a time with a zone, such as 2026-01-31T12:00:00Z"}
    )


def format_timestamp(microseconds: int) -> str:
    """Write microseconds since 1970 as RFC 3339 in UTC, always with six decimals."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def to_microseconds(moment: datetime) -> int:
    """Return the whole microseconds from 1970 to the moment."""
    return (moment.astimezone(UTC).replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1)


_WRITTEN = PlainSerializer(
    lambda moment: format_timestamp(to_microseconds(moment)), return_type=str
)
_DATE_TIME = {"type": "string", "format": "date-time"}

Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_timestamp),
    _WRITTEN,
    WithJsonSchema({**_DATE_TIME, "pattern": TIMESTAMP_PATTERN}, mode="validation"),
    WithJsonSchema(_DATE_TIME, mode="serialization"),
]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is outside of what can be kept") from None


class _AsKnown:
    """In the schema, only the values that are known: the first choice of the union."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.UnionSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        known, _any_text = schema["choices"]
        assert isinstance(known, dict)
        return handler(known)


# Of answers. The schema says what the server gives: RFC 3339 in UTC, and the values that there are.
# A client that is older than its server takes other forms of a time and other values as well.
Moment = Annotated[datetime, AfterValidator(_in_utc), _WRITTEN, WithJsonSchema(_DATE_TIME)]
Known = Annotated[Values | str, _AsKnown()]


class IdOf:
    """The id of one kind of resource: a prefix and 32 hexadecimal digits that sort by time.

    An id of another form is not a validation error: like any id that does not exist it is simply
    not found. A filter finds nothing by itself, so there the form is checked.
    """

    def __init__(self, prefix: str, resource: str) -> None:
        self.prefix = prefix
        self.resource = resource
        self.pattern = rf"^{prefix}_[0-9a-f]{{32}}$"
        self._matches = re.compile(self.pattern).fullmatch

    def matches(self, text: str) -> bool:
        """Say whether the text has the form of such an id."""
        return self._matches(text) is not None

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"pattern": self.pattern}


USER_ID = IdOf("usr", "user")
CONVERSATION_ID = IdOf("cnv", "conversation")
MESSAGE_ID = IdOf("msg", "message")
TOKEN_ID = IdOf("tok", "token")
ACCOUNT_ID = IdOf("acc", "account")
REQUEST_ID = IdOf("req", "request")

UserId = Annotated[str, USER_ID]
ConversationId = Annotated[str, CONVERSATION_ID]
MessageId = Annotated[str, MESSAGE_ID]
TokenId = Annotated[str, TOKEN_ID]
AccountId = Annotated[str, ACCOUNT_ID]
UserIdFilter = Annotated[
    str,
    _Form("invalid_format", USER_ID.pattern, "the id of a user, usr_ and 32 hexadecimal digits"),
]
TokenIdFilter = Annotated[
    str,
    _Form("invalid_format", TOKEN_ID.pattern, "the id of a token, tok_ and 32 hexadecimal digits"),
]

# Filters of the request log.
Reason = Annotated[
    str, _Form("invalid_format", "^[a-z][a-z_]{1,63}$", "a reason, such as validation_failed")
]
OperationName = Annotated[
    str, _Form("invalid_format", r"^[a-z_]{1,32}\.[a-z_]{1,32}$", "as in users.create")
]
Address = Annotated[str, _Form("invalid_format", "^[0-9A-Fa-f.:]{2,45}$", "an IP address")]
ClientRequestId = Annotated[
    str, _Form("invalid_format", "^[A-Za-z0-9._-]{1,64}$", "1 to 64 of A-Z a-z 0-9 . _ -")
]
_WORD = rf"[^\s{_CONTROL}{_INVISIBLE}]{{1,64}}"
SearchText = Annotated[
    str,
    _Form("invalid_format", f"^{_WORD}( {_WORD}){{0,4}}$", "1 to 5 words with a space between"),
]


def parse_whole_number(text: Any) -> Any:
    """Read a whole number of a query string: digits only, without spaces, signs or exponents."""
    if not isinstance(text, str):
        return text
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise PydanticCustomError("wrong_type", "", {"expected": "a whole number"})
    return int(text)


def parse_flag(text: Any) -> Any:
    """Read ``true`` or ``false`` of a query string."""
    if not isinstance(text, str):
        return text
    if text not in {"true", "false"}:
        raise PydanticCustomError("not_allowed_value", "", {"expected": "true or false"})
    return text == "true"


def read_integral(number: Any) -> Any:
    """Take 5.0 for the integer that it is in JSON Schema, and in languages with one number type."""
    return int(number) if isinstance(number, float) and number.is_integer() else number
