"""The types of single fields: what each takes, what it refuses, and with which reason."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from operator_api.contract import fields
from operator_api.contract.fields import (
    PHONE_PATTERN,
    TIMESTAMP_PATTERN,
    USER_ID,
    Email,
    MessageText,
    Name,
    Phone,
    TagName,
    Timestamp,
    format_timestamp,
    parse_timestamp,
    to_microseconds,
)

TYPES: dict[str, Any] = {
    "email": Email,
    "phone": Phone,
    "name": Name,
    "tag": TagName,
    "text": MessageText,
    "time": Timestamp,
}
ADAPTERS: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in TYPES.items()}

TAKEN = [
    ("email", "ada@example.com"),
    ("email", "Ada.Lovelace+tag@sub.example.co.uk"),
    ("email", "o'hara!#$%&*/=?^_`{|}~-@example.com"),
    ("email", "用户@例え.jp"),
    ("email", "a" * 64 + "@example.com"),
    ("phone", "+14155550123"),
    ("phone", "+" + "1" * 15),
    ("name", "Ada Lovelace"),
    ("name", "  spaced  "),
    ("name", "Ægir 🎈 שלום"),
    ("name", "x" * 200),
    ("tag", "vip"),
    ("tag", "é" * 64),
    ("text", "line one\nline two\r\n\tindented"),
    ("text", "family \u200d emoji and \u200e marks are text"),
    ("text", "x" * 10_000),
    ("time", "2026-01-31T12:00:00Z"),
    ("time", "2026-01-31t12:00:00.123456789+05:30"),
    ("time", "2024-02-29T23:59:59-12:00"),
]

REFUSED = [
    *(
        ("email", email, "invalid_email")
        for email in [
            "",
            "ada",
            "ada@",
            "@example.com",
            "ada@example",
            "ada@@example.com",
            "ada@example..com",
            ".ada@example.com",
            "ada.@example.com",
            "a da@example.com",
            "ada@exam ple.com",
            "ada@example.com\n",
            " ada@example.com",
            "Ada <ada@example.com>",
            "ada@example.com,bob@example.com",
            '"ada"@example.com',
            "ada@[127.0.0.1]",
            "ada\x00@example.com",
            "ada\u200b@example.com",
            "ada\u202e@example.com",
            "a" * 65 + "@example.com",
            "ada@" + "x" * 250 + ".com",
        ]
    ),
    *(
        ("phone", phone, "invalid_phone")
        for phone in [
            "",
            "4155550123",
            "+04155550123",
            "+1 415 555 0123",
            "+1-415-555-0123",
            "+" + "1" * 16,
            "+123456",
            "+1415555012x",
            "+١٤١٥٥٥٥٠١٢٣",
            "+14155550123\n",
        ]
    ),
    ("name", "", "too_short"),
    ("name", "   ", "too_short"),
    ("name", "\u2003\u3000", "too_short"),
    ("name", "x" * 201, "too_long"),
    ("name", "a\x00b", "forbidden_character"),
    ("name", "a\nb", "forbidden_character"),
    ("name", "a\x9fb", "forbidden_character"),
    ("text", "", "too_short"),
    ("text", "\n\n", "too_short"),
    ("text", "x" * 10_001, "too_long"),
    ("text", "a\x00b", "forbidden_character"),
    ("text", "a\x1bb", "forbidden_character"),
    ("tag", "", "too_short"),
    ("tag", "x" * 65, "too_long"),
    ("tag", "a\tb", "forbidden_character"),
    *(
        ("tag", f"v{invisible}ip", "forbidden_character")
        for invisible in "\u00ad\u061c\u200b\u200d\u200e\u202e\u2028\u2066\ufeff"
    ),
    *(
        ("time", time, "invalid_format")
        for time in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00Z",
            "2026-02-30T12:00:00Z",
            "2025-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:60Z",
            "2026-01-31T12:00Z",
            "2026-W05-6T12:00:00Z",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00+0530",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "1769860800",
            "2026-01-31T12:00:00Z\n",
            "\uff12\uff1026-01-31T12:00:00Z",
        ]
    ),
    ("time", 1769860800, "wrong_type"),
    ("time", None, "wrong_type"),
]


@pytest.mark.parametrize(("kind", "value"), TAKEN)
def test_what_a_field_takes(kind: str, value: str) -> None:
    taken = ADAPTERS[kind].validate_python(value, strict=True)
    assert kind == "time" or taken == value


@pytest.mark.parametrize(("kind", "value", "reason"), REFUSED)
def test_what_a_field_refuses(kind: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ADAPTERS[kind].validate_python(value, strict=True)
    assert [error["type"] for error in refused.value.errors()] == [reason]


@pytest.mark.parametrize("kind", ["email", "phone", "name", "tag", "text"])
@given(text=st.text(max_size=300))
def test_the_rule_and_the_published_pattern_agree(kind: str, text: str) -> None:
    schema = ADAPTERS[kind].json_schema()
    # Python's $ also matches before a line end; ECMA-262's does not, and is Python's \\Z.
    pattern = schema["pattern"].removesuffix("$") + r"\Z"
    published = re.search(pattern, text) is not None and len(text) <= schema.get("maxLength", 1024)
    try:
        ADAPTERS[kind].validate_python(text, strict=True)
    except ValidationError:
        assert not published
    else:
        assert published


@given(email=st.emails())
def test_ordinary_addresses_are_taken(email: str) -> None:
    assert ADAPTERS["email"].validate_python(email, strict=True) == email


@given(phone=st.from_regex(PHONE_PATTERN, fullmatch=True))
def test_what_matches_the_phone_pattern_is_taken(phone: str) -> None:
    assert ADAPTERS["phone"].validate_python(phone, strict=True) == phone


# --- times ---


# The years that the pattern takes.
MOMENTS = st.datetimes(
    min_value=datetime(1000, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(2999, 12, 31),  # noqa: DTZ001 - likewise
    timezones=st.just(UTC),
)


@given(moment=MOMENTS)
def test_a_time_survives_being_stored_and_told(moment: datetime) -> None:
    told = format_timestamp(to_microseconds(moment))
    assert re.fullmatch(TIMESTAMP_PATTERN, told)
    assert told.endswith("Z")
    assert ADAPTERS["time"].validate_python(told, strict=True) == moment


@given(one=MOMENTS, other=MOMENTS)
def test_told_times_sort_as_text(one: datetime, other: datetime) -> None:
    told = [format_timestamp(to_microseconds(each)) for each in (one, other)]
    assert (told[0] < told[1]) is (one < other)


@given(text=st.from_regex(TIMESTAMP_PATTERN, fullmatch=True))
def test_what_looks_like_a_time_is_read_as_utc_or_refused(text: str) -> None:
    try:
        moment = parse_timestamp(text)
    except PydanticCustomError:
        return  # an impossible date, such as February 30
    assert moment.utcoffset() == timedelta()


# --- ids ---


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("usr_" + "0" * 32, True),
        ("usr_0197b1c2d3e4f5061718293a4b5c6d7e", True),
        ("usr_" + "0" * 31, False),
        ("usr_" + "0" * 33, False),
        ("usr_" + "A" * 32, False),
        ("cnv_" + "0" * 32, False),
        ("usr_" + "0" * 32 + "\n", False),
        ("usr_" + "\u0660" * 32, False),
        ("", False),
    ],
)
def test_the_form_of_an_id(text: str, matches: bool) -> None:
    assert USER_ID.matches(text) is matches


def test_each_kind_of_id_has_a_prefix_of_its_own() -> None:
    kinds = [kind for kind in vars(fields).values() if isinstance(kind, fields.IdOf)]
    assert len({kind.prefix for kind in kinds}) == len(kinds) >= 5
