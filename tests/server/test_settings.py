"""Settings: by option or by variable, and never with a mistake that goes unnoticed."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from operator_api.server.limits import Policy
from operator_api.server.settings import PREFIX, Settings, SettingsError, load_settings
from operator_api.vault.seal import KEY_BYTES

# Fixed, since they are part of the tests' names.
KEYS = tuple(bytes([number]) * KEY_BYTES for number in (1, 2))
KEYS_TEXT = ",".join(base64.b64encode(key).decode() for key in KEYS)

# Each setting: as text, as it is understood, another text, and that one understood.
VALUES: Mapping[str, tuple[str, Any, str, Any]] = {
    "host": ("::1", "::1", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - never bound here
    "port": ("9000", 9000, "0", 0),
    "data": ("store", Path("store"), "other", Path("other")),
    "database": ("sqlite:///a.db", "sqlite:///a.db", "sqlite:////b.db", "sqlite:////b.db"),
    "rate_limit": ("5/1s", Policy(5, 1), "10/0.5s", Policy(10, 0.5)),
    "failed_authentication_limit": ("7/60s", Policy(7, 60), "1/1s", Policy(1, 1)),
    "public_url": ("https://a.example", "https://a.example", "http://b", "http://b"),
    "secret_keys": (KEYS_TEXT, KEYS, KEYS_TEXT.split(",")[1], KEYS[1:]),
    "keep_message_text_of": ("acme", ("acme",), "acme, globex", ("acme", "globex")),
    "trusted_proxies": ("10.0.0.1", "10.0.0.1", "::1,127.0.0.1", "::1,127.0.0.1"),
    "requests_at_once": ("10", 10, "1", 1),
    "writes_waiting": ("20", 20, "1", 1),
    "busy_seconds": ("0.5", 0.5, "3", 3.0),
    "idempotency_patience_seconds": ("0.25", 0.25, "1", 1.0),
    "receive_seconds": ("4", 4.0, "0.1", 0.1),
    "keep_alive_seconds": ("60", 60.0, "0.5", 0.5),
    "drain_seconds": ("6", 6.0, "0.1", 0.1),
    "request_log": ("off", "off", "on", "on"),
    "request_log_days": ("7", 7.0, "0.5", 0.5),
    "request_log_mb": ("10", 10.0, "2.5", 2.5),
    "log_level": ("debug", "debug", "error", "error"),
    "log_format": ("json", "json", "text", "text"),
}

# Each setting with a value that must not pass.
MALFORMED = {
    "port": ["http", "-1", "65536", "80.5", ""],
    "database": ["mysql://root:hunter2@host/db", "operator.sqlite3", "sqlite:///", ":memory:", ""],
    "rate_limit": ["600", "600/60", "0/1s", "600/0s", "-5/1s", "600/min", "1e3/1s", ""],
    "failed_authentication_limit": ["lots", "0/60s", ""],
    "secret_keys": ["hunter2", "", KEYS_TEXT[:-1], f"{KEYS_TEXT},hunter2"],
    "requests_at_once": ["0", "-1", "many"],
    "writes_waiting": ["0", "-1", "many"],
    "busy_seconds": ["0", "-1", "soon", "nan"],
    "idempotency_patience_seconds": ["0", "-1", "soon", "nan"],
    "receive_seconds": ["0", "-1", "soon", "nan"],
    "keep_alive_seconds": ["0", "-1", "soon", "nan"],
    "drain_seconds": ["0", "-1", "soon", "nan"],
    "request_log": ["yes", "ON", ""],
    "request_log_days": ["0", "-1", "forever", "nan"],
    "request_log_mb": ["0", "-1", "all", "nan"],
    "log_level": ["loud", "INFO", ""],
    "log_format": ["xml", "JSON", ""],
}
MALFORMED_PAIRS = [(name, text) for name, texts in MALFORMED.items() for text in texts]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def test_every_setting_is_in_these_tables() -> None:
    assert set(VALUES) == set(Settings.model_fields)
    free_text = {"host", "data", "public_url", "trusted_proxies", "keep_message_text_of"}
    assert set(MALFORMED) == set(VALUES) - free_text


@pytest.mark.parametrize("name", VALUES)
def test_a_setting_comes_from_its_option(name: str) -> None:
    text, understood, *_ = VALUES[name]
    assert getattr(load_settings({name: text}), name) == understood


@pytest.mark.parametrize("name", VALUES)
def test_a_setting_comes_from_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, understood, *_ = VALUES[name]
    monkeypatch.setenv(variable(name), text)
    assert getattr(load_settings({}), name) == understood


@pytest.mark.parametrize("name", VALUES)
def test_an_option_goes_before_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _, other, understood = VALUES[name]
    monkeypatch.setenv(variable(name), text)
    assert getattr(load_settings({name: other}), name) == understood


@pytest.mark.parametrize("name", VALUES)
def test_an_option_that_is_not_given_leaves_it_to_the_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, understood, *_ = VALUES[name]
    monkeypatch.setenv(variable(name), text)
    assert getattr(load_settings({name: None}), name) == understood


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_has_a_description_and_a_default(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description is not None
    assert field.description.endswith(".")
    assert not field.is_required()


@pytest.mark.parametrize(("name", "text"), MALFORMED_PAIRS)
def test_a_malformed_option_is_named(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({name: text})
    assert str(raised.value).startswith(f"The option --{name.replace('_', '-')} is wrong: ")


@pytest.mark.parametrize(("name", "text"), MALFORMED_PAIRS)
def test_a_malformed_variable_is_named(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(name), text)
    with pytest.raises(SettingsError) as raised:
        load_settings({})
    assert str(raised.value).startswith(f"The variable {variable(name)} is wrong: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secret_keys", "hunter2"),
        ("secret_keys", f"{KEYS_TEXT},hunter2"),
        ("secret_keys", KEYS_TEXT[:-1]),
        ("database", "mysql://root:hunter2@host/db"),
    ],
)
def test_a_malformed_secret_is_not_shown(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(name), text)
    with pytest.raises(SettingsError) as raised:
        load_settings({})
    for secret in text.split(","):
        assert secret not in str(raised.value)
    assert raised.value.__suppress_context__


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"port": "http", "log_level": "loud"})
    assert [line.split(" is wrong")[0] for line in str(raised.value).splitlines()] == [
        "The option --port",
        "The option --log-level",
    ]


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [("OPERATOR_PROT", "OPERATOR_PORT"), ("OPERATOR_RATELIMIT", "OPERATOR_RATE_LIMIT")],
)
def test_an_unknown_variable_is_refused_with_the_one_that_was_meant(
    unknown: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(unknown, "hunter2")
    with pytest.raises(SettingsError) as raised:
        load_settings({})
    assert str(raised.value) == f"The variable {unknown} is not a setting. Did you mean {meant}?"


def test_an_unknown_variable_like_no_other_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_XYZZY", "1")
    with pytest.raises(SettingsError, match=r"^The variable OPERATOR_XYZZY is not a setting\.$"):
        load_settings({})


@pytest.mark.parametrize("name", ["OPERATOR_API_KEY", "OPERATOR_BASE_URL", "OPERATOR_LOG"])
def test_the_variables_of_the_client_are_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hunter2")
    assert load_settings({}) == load_settings({})
    assert "hunter2" not in repr(load_settings({}))


def test_repr_shows_no_key() -> None:
    shown = repr(load_settings({"secret_keys": KEYS_TEXT}))
    for key in KEYS:
        assert repr(key)[2:-1] not in shown
    for text in KEYS_TEXT.split(","):
        assert text not in shown


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"data": "folder"}, "folder/operator.sqlite3"),
        ({"data": "folder", "database": "sqlite:///other.db"}, "other.db"),
        ({"data": "folder", "database": "sqlite:////var/lib/other.db"}, "/var/lib/other.db"),
    ],
)
def test_where_the_store_is(options: dict[str, str], path: str) -> None:
    assert load_settings(options).database_path == Path(path)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"port": 8000}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "port": 80}, "http://localhost:80"),  # noqa: S104 - never bound here
        ({"host": "::", "port": 80}, "http://localhost:80"),
        ({"host": "::1", "port": 80}, "http://[::1]:80"),
        ({"public_url": "https://api.example/"}, "https://api.example"),
    ],
)
def test_what_links_begin_with(options: dict[str, Any], url: str) -> None:
    assert load_settings(options).url == url
