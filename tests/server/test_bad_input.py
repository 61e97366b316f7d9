"""Bad input gets its status, never a 5xx, and an error the caller can act on.

The section of that name in the specification, as tables. What is not even HTTP is in
``test_http_edge.py``; what a body's fields can have wrong in ``tests/contract``.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operator_api.contract.errors import CATALOGUE, Problem
from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.server.json_body import read_json_object
from tests.calls import JSON, LISTS, Records, create, make_records, name_of, new_email, path_of
from tests.errors import assert_error
from tests.servers import Server

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def records(api: httpx2.Client) -> Records:
    return make_records(api)


def post(api: httpx2.Client, body: bytes | Iterator[bytes], **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.post("/v1/users", content=body, headers={**JSON, **named})


# --- bodies that cannot be read ---


def nested(depth: int) -> bytes:
    """Return an object that is nested so many deep, itself counted."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


UNREADABLE: list[tuple[bytes, str, str]] = [
    # body, reason, and a part of the message
    (b"", "empty_body", "no body"),
    (b" \r\n\t", "empty_body", "no body"),
    (b'{"email": "a@example.com"', "invalid_json", "line 1, column 26"),
    (b'{"email": "a@exa', "invalid_json", "unterminated string at line 1, column 11"),
    (b'{"email":\n  }', "invalid_json", "line 2, column 3"),
    (b'{"email": "a@example.com"} x', "invalid_json", "extra data at line 1, column 28"),
    (b'{"email": "a@example.com"}{}', "invalid_json", "extra data"),
    (b'{"email": "a@example.com",}', "invalid_json", "line 1, column"),
    (b"{'email': 'a@example.com'}", "invalid_json", "line 1, column 2"),
    (b"email=a%40example.com", "invalid_json", "line 1, column 1"),
    (b"{email: 1}", "invalid_json", "line 1, column 2"),
    (b'{"email": 01}', "invalid_json", "line 1"),
    (b'{"email": +1}', "invalid_json", "line 1"),
    (b'{"email": 1.}', "invalid_json", "line 1"),
    (b'{"email": True}', "invalid_json", "line 1"),
    (b'{"email": undefined}', "invalid_json", "line 1"),
    (b'{"email": "a\nb"}', "invalid_json", "control character"),
    (b'{"email": "a\x01b"}', "invalid_json", "control character"),
    (b'{"email": "\\x41"}', "invalid_json", "escape"),
    (b'{"email": "\\u12"}', "invalid_json", "escape"),
    (b'{"email": 1} // comment', "invalid_json", "extra data"),
    (b'{"email": NaN}', "invalid_json", "NaN is not JSON at line 1, column 11"),
    (b'{"email": Infinity}', "invalid_json", "Infinity is not JSON"),
    (b'{"email": -Infinity}', "invalid_json", "-Infinity is not JSON"),
    (b"NaN", "invalid_json", "NaN is not JSON"),
    (b'{"email": 1e999}', "invalid_json", "a number too large at line 1, column 11"),
    (b'{"email": -1e999}', "invalid_json", "a number too large"),
    (b'{"email": ' + b"9" * 1000 + b"}", "invalid_json", "too many digits"),
    (b'{"email": -' + b"9" * 5000 + b"}", "invalid_json", "too many digits"),
    (b'{"email": "a", "email": "b"}', "invalid_json", "a key given twice at line 1, column 16"),
    (b'{"email": "a", "\\u0065mail": "b"}', "invalid_json", "a key given twice"),
    (b'{"tags": [{"a": 1, "a": 2}]}', "invalid_json", "a key given twice"),
    (b'{"name": "\\ud83d"}', "invalid_json", "a lone surrogate at line 1, column 10"),
    (b'{"name": "\\udc00\\ud800"}', "invalid_json", "a lone surrogate"),
    (b'{"\\ud800": 1}', "invalid_json", "a lone surrogate"),
    (nested(65), "invalid_json", "nested over 64 deep at line 1, column 69"),
    (nested(10_000), "invalid_json", "nested over 64 deep"),
    (b'{"a":[' * 33 + b"]}" * 33, "invalid_json", "nested over 64 deep"),
    (b'{"a":[' + b"{}," * 500 + nested(63) + b"]}", "invalid_json", "nested over 64 deep"),
    (b"[" * 100_000, "invalid_json", "nested over 64 deep"),
    (b'{"a":' * 100_000, "invalid_json", "nested over 64 deep"),
    (b"[]", "body_not_object", "not a list"),
    (b'[{"email": "a@example.com"}]', "body_not_object", "not a list"),
    (b'"{\\"email\\": 1}"', "body_not_object", "not a string"),
    (b"12", "body_not_object", "not a number"),
    (b"1.5", "body_not_object", "not a number"),
    (b"true", "body_not_object", "not a boolean"),
    (b"null", "body_not_object", "not null"),
    (b'\xef\xbb\xbf{"email": 1}', "invalid_encoding", "a byte order mark at byte 0"),
    ('{"email": 1}'.encode("utf-16"), "invalid_encoding", "a byte order mark"),
    ('{"email": 1}'.encode("utf-16-le"), "invalid_encoding", "a null byte, as in UTF-16 at byte 1"),
    ('{"email": 1}'.encode("utf-16-be"), "invalid_encoding", "at byte 0"),
    ('{"email": 1}'.encode("utf-32"), "invalid_encoding", "a byte order mark"),
    (b'{"name": "caf\xe9"}', "invalid_encoding", "at byte 13"),
    (b'{"name": "\xc0\xaf"}', "invalid_encoding", "at byte 10"),
    (b'{"name": "\xed\xa0\x80"}', "invalid_encoding", "at byte 10"),
    (b'{"name": "\xf5\x80\x80\x80"}', "invalid_encoding", "at byte 10"),
    (b'{"name": "\x00"}', "invalid_encoding", "a null byte"),
]


@pytest.mark.parametrize(("body", "reason", "says"), UNREADABLE, ids=lambda each: str(each)[:40])
def test_a_body_that_cannot_be_read_is_400_and_says_where(
    api: httpx2.Client, body: bytes, reason: str, says: str
) -> None:
    error = assert_error(post(api, body), 400, reason)
    assert says in error["message"]
    assert error["errors"] == []


@pytest.mark.parametrize(
    "body",
    [
        b'\r\n\t {"email": 1}\n',
        nested(64),
        b'{"a":[' + b"{}," * 500 + nested(62) + b"]}",
        b'{"a":"' + b"[{" * 500 + b'"}',
        b'{"email": 1e308}',
        b'{"email": ' + b"9" * 400 + b"}",
        b'{"email": "\\ud83c\\udf88"}',
        b'{"email": "\\u0000"}',
        b'{"a": {"x": 1}, "b": {"x": 1}, "x": ["x", "x"]}',
    ],
    ids=lambda body: str(body)[:40],
)
def test_what_is_strange_but_json_is_read_and_then_validated(
    api: httpx2.Client, body: bytes
) -> None:
    assert_error(post(api, body), 422, "validation_failed")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(value=json_values, indent=st.sampled_from([None, 2]), cut=st.integers(0, 60))
def test_what_is_read_is_what_the_standard_library_reads(
    value: object, indent: int | None, cut: int
) -> None:
    text = json.dumps(value, indent=indent)
    text = text[: len(text) - cut] if cut < 10 else text
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    found = read(text.encode())
    expected = expected if isinstance(expected, dict) else None
    # It may read less than the library does, where text is strange; never more, or otherwise.
    assert found == expected or (found is None and strange(text))


@given(body=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    read(body)


def read(body: bytes) -> dict[str, Any] | None:
    """Read a body as the server does; None where it is refused, with 400."""
    try:
        return read_json_object(body)
    except Problem as problem:
        refused = problem
    assert refused.kind.status == 400
    assert refused.message
    return None


def strange(text: str) -> bool:
    """Say whether the text may have what is no JSON to us: NaN, or a lone surrogate."""
    return any(word in text for word in ("NaN", "Infinity", "\\ud"))


def test_text_of_every_script_comes_back_as_it_was_sent(api: httpx2.Client) -> None:
    name = "Ægir 🎈 שלום 你好 \u0301 \U0010ffff"
    made = create(api, "/v1/users", email=new_email(), name=name)
    assert made["name"] == name
    assert api.get(f"/v1/users/{made['id']}").json()["name"] == name


# --- size and media type ---


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65_536):
        yield b" " * 65_536
    yield b" " * (size % 65_536)


@pytest.mark.parametrize("size", [MEBIBYTE + 1, 3 * MEBIBYTE, 6 * MEBIBYTE])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_over_one_mebibyte_is_413_however_it_comes(
    server: Server, size: int, chunked: bool
) -> None:
    with server.client() as client:
        response = post(client, chunks(size) if chunked else b" " * size)
        error = assert_error(response, 413, "body_too_large")
        assert error["metadata"] == {"limit_bytes": MEBIBYTE}
        assert client.get("/v1/me").status_code == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_one_mebibyte_is_read(api: httpx2.Client, chunked: bool) -> None:
    response = post(api, chunks(MEBIBYTE) if chunked else b" " * MEBIBYTE)
    assert_error(response, 400, "empty_body")


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json;charset=utf-8", True),
        ('application/json; charset="UTF-8"', True),
        ("application/json;", True),
        (None, False),
        ("", False),
        ("json", False),
        ("text/json", False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("application/json; charset=utf-16", False),
        ("application/json; charset=latin-1", False),
        ("application/json, text/plain", False),
        ("application/jsonp", False),
        ("application/vnd.api+json", False),
        ("application/merge-patch+json", False),
        ("*/*", False),
        ("\xff\xfe", False),
    ],
)
def test_the_media_type_must_be_json(
    api: httpx2.Client, content_type: str | None, taken: bool
) -> None:
    headers = [] if content_type is None else [(b"content-type", content_type.encode("latin-1"))]
    response = api.post("/v1/users", content=b"{}", headers=headers)
    if taken:
        assert_error(response, 422, "validation_failed")
    else:
        error = assert_error(response, 415, "unsupported_media_type")
        assert response.headers["accept"] == "application/json"
        assert error["metadata"] == {"header": "Content-Type", "supported": ["application/json"]}


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "identity, gzip", "x"])
def test_a_compressed_body_is_415(api: httpx2.Client, encoding: str) -> None:
    response = post(api, b"{}", content_encoding=encoding)
    error = assert_error(response, 415, "unsupported_media_type")
    assert error["metadata"]["header"] == "Content-Encoding"


def test_an_identity_encoding_is_none(api: httpx2.Client) -> None:
    assert_error(post(api, b"{}", content_encoding="identity"), 422, "validation_failed")


@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
def test_a_patch_is_taken_as_a_merge_patch_too(
    api: httpx2.Client, records: Records, media_type: str
) -> None:
    response = api.patch(
        f"/v1/users/{records.user_id}", content=b"{}", headers={"Content-Type": media_type}
    )
    assert response.status_code == 200
    json_patch = api.patch(
        f"/v1/users/{records.user_id}",
        content=b"[]",
        headers={"Content-Type": "application/json-patch+json"},
    )
    assert_error(json_patch, 415, "unsupported_media_type")
    assert json_patch.headers["accept"] == "application/json, application/merge-patch+json"


@pytest.mark.parametrize("body", [b"", b"{}", b" "], ids=repr)
def test_a_body_that_may_be_left_out_may_be_empty(api: httpx2.Client, body: bytes) -> None:
    path = f"/v1/conversations/{make_records(api).conversation_id}/close"
    headers = JSON if body else {}
    assert api.post(path, content=body, headers=headers).status_code == 200


# --- paths ---

STRANGE_IDS = [
    "%00",
    "usr_%00",
    "usr_" + "0" * 32 + "%00",
    "usr_" + "0" * 32 + "%0A",
    "usr_" + "0" * 31,
    "usr_" + "0" * 33,
    "usr_" + "G" * 32,
    "USR_" + "0" * 32,
    "x" * 4000,
    "%FF%FE",
    "%F0%9F%8E%88",
    "%ED%A0%80",
    "'%20OR%201=1--",
    "..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%25",
    "*",
    "{user_id}",
    "undefined",
    "null",
]


@pytest.mark.parametrize("strange", STRANGE_IDS, ids=lambda each: each[:20])
@pytest.mark.parametrize("kind", ["users", "conversations", "messages"])
def test_an_id_of_no_form_is_404(server: Server, kind: str, strange: str) -> None:
    # Not httpx2's client: it would resolve dots and encode what is to be sent as it is.
    error = raw_error(server, f"/v1/{kind}/{strange}")
    assert error["reason"] == "resource_not_found"
    assert error["metadata"] == {"resource": kind.removesuffix("s")}


@pytest.mark.parametrize("kind", ["user_id", "conversation_id", "message_id", "token_id"])
@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.ids and each.method != "DELETE"], ids=name_of
)
def test_an_id_of_another_kind_is_404(
    api: httpx2.Client, records: Records, operation: Operation, kind: str
) -> None:
    (name,) = operation.ids
    if name == kind:
        return
    path = operation.path.replace(f"{{{name}}}", getattr(records, kind))
    body = {"PUT": {"email": new_email()}, "POST": {"assignee": "x"}}.get(operation.method, {})
    if operation.name in {"conversations.close", "tokens.rotate"}:
        body = {}
    response = api.request(operation.method, path, json=body if operation.body else None)
    assert_error(response, 404, "resource_not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v1/users/",
        "//v1/users",
        "/v1//users",
        "/V1/users",
        "/v1/Users",
        "/v1/users/../users",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cwindows",
        "/v1/users%00",
        "/v1/users%2F",
        "/v1/users;a=b",
        "/%",
        "/%zz",
        "/%FF",
        "/" + "a/" * 2000,
        "/" + "x" * 30_000,
    ],
    ids=lambda each: each[:30],
)
def test_a_path_that_is_none_is_404(server: Server, path: str) -> None:
    assert raw_error(server, path)["reason"] == "unknown_endpoint"


def raw_error(server: Server, target: str) -> dict[str, Any]:
    """GET a target exactly as it is written, and return the error, which must be a 404."""
    with server.client() as client:
        request = client.build_request("GET", "/")
        request.extensions = {**request.extensions, "target": target.encode("ascii")}
        response = client.send(request)
    return assert_error(response, 404, response.headers["x-error-reason"])


# --- queries ---


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
@pytest.mark.parametrize(
    ("query", "reason", "field_reason"),
    [
        ("limit=0", "invalid_parameter", "out_of_range"),
        ("limit=101", "invalid_parameter", "out_of_range"),
        ("limit=-1", "invalid_parameter", "out_of_range"),
        ("limit=1000000000", "invalid_parameter", "out_of_range"),
        ("limit=1e9", "invalid_parameter", "wrong_type"),
        ("limit=", "invalid_parameter", "wrong_type"),
        ("limit=ten", "invalid_parameter", "wrong_type"),
        ("limit=10.0", "invalid_parameter", "wrong_type"),
        ("limit=%2010", "invalid_parameter", "wrong_type"),
        ("limit=+10", "invalid_parameter", "wrong_type"),
        ("limit=1_0", "invalid_parameter", "wrong_type"),
        ("limit=٣", "invalid_parameter", "wrong_type"),
        ("limit=" + "9" * 5000, "invalid_parameter", "wrong_type"),
        ("limit=5&limit=6", "invalid_parameter", "invalid_format"),
        ("limit=5&limit=5", "invalid_parameter", "invalid_format"),
        ("cursor=", "invalid_parameter", "too_short"),
        ("cursor=" + "A" * 1025, "invalid_parameter", "too_long"),
        ("cursor=a%00b", "invalid_parameter", "forbidden_character"),
        ("cursor=%FF", "invalid_parameter", "invalid_format"),
        ("cursor=%ED%A0%80", "invalid_parameter", "invalid_format"),
        ("lmit=5", "unknown_parameter", "unknown_field"),
        ("page=2", "unknown_parameter", "unknown_field"),
        ("limit=0&page=2", "invalid_parameter", "out_of_range"),
        ("=5", "unknown_parameter", "unknown_field"),
        ("&".join(f"p{number}=1" for number in range(1000)), "invalid_parameter", "invalid_format"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_wrong_query_is_400(
    api: httpx2.Client,
    records: Records,
    operation: Operation,
    query: str,
    reason: str,
    field_reason: str,
) -> None:
    response = api.get(f"{path_of(operation, records)}?{query}")
    error = assert_error(response, 400, reason)
    assert error["errors"][0]["reason"] == field_reason
    assert {each["in"] for each in error["errors"]} == {"query"}
    assert CATALOGUE[reason] in operation.errors


CURSORS = ["x", "AAAA", "A" * 40, "!!!!", "%20", "é", "A" * 1024, "-_-_", "....", "null", "="]


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
@pytest.mark.parametrize("cursor", CURSORS, ids=lambda each: each[:10])
def test_a_cursor_that_was_never_given_is_400(
    api: httpx2.Client, records: Records, operation: Operation, cursor: str
) -> None:
    response = api.get(f"{path_of(operation, records)}?cursor={cursor}")
    assert_error(response, 400, "invalid_cursor")


def test_a_near_parameter_is_suggested(api: httpx2.Client) -> None:
    error = assert_error(api.get("/v1/users?lmit=5"), 400, "unknown_parameter")
    assert error["errors"][0]["did_you_mean"] == "limit"
    assert error["errors"][0]["pointer"] == "#/lmit"


@pytest.mark.parametrize(
    "query",
    ["email=ada", "phone=1", "tag=%E2%80%8B", "created_after=yesterday", "created_before=2026"],
)
def test_a_wrong_filter_is_400(api: httpx2.Client, query: str) -> None:
    error = assert_error(api.get(f"/v1/users?{query}"), 400, "invalid_parameter")
    assert error["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_every_operation_refuses_what_it_has_no_parameter_for(
    api: httpx2.Client, operation: Operation
) -> None:
    ids = {name: kind.prefix + "_" + "0" * 32 for name, kind in operation.ids.items()}
    path = operation.path.format_map({"reason": "required", **ids})
    body = b"{}" if operation.body else b""
    for query, reason in [("nope=1", "unknown_parameter"), ("nope=1&nope=2", "invalid_parameter")]:
        response = api.request(operation.method, f"{path}?{query}", content=body, headers=JSON)
        assert_error(response, 400, reason)
        assert CATALOGUE[reason] in operation.errors, f"{operation.name} does not list {reason}"


# --- headers ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Idempotency-Key", ""),
        ("Idempotency-Key", '""'),
        ("Idempotency-Key", "two words"),
        ("Idempotency-Key", "x" * 256),
        ("Idempotency-Key", "clé"),
        ("Idempotency-Key", "a\tb"),
        ("If-Match", ""),
        ("If-Match", "1"),
        ("If-Match", "'1'"),
        ("If-Match", '"1'),
        ("If-Match", '"1", 2'),
        ("If-Match", '*, "1"'),
    ],
)
def test_a_malformed_header_is_400_and_named(
    api: httpx2.Client, records: Records, name: str, value: str
) -> None:
    response = api.patch(
        f"/v1/users/{records.user_id}",
        content=b"{}",
        headers=[(b"content-type", b"application/json"), (name.encode(), value.encode("latin-1"))],
    )
    error = assert_error(response, 400, "invalid_header")
    assert [(each["in"], each["field"]) for each in error["errors"]] == [("header", name)]


def test_all_malformed_headers_are_told_at_once(api: httpx2.Client, records: Records) -> None:
    headers = {"Idempotency-Key": "two words", "If-Match": "1"}
    response = api.patch(f"/v1/users/{records.user_id}", json={}, headers=headers)
    error = assert_error(response, 400, "invalid_header")
    assert [each["field"] for each in error["errors"]] == ["Idempotency-Key", "If-Match"]


def test_an_idempotency_key_may_come_once(api: httpx2.Client) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = api.post("/v1/users", json={"email": new_email()}, headers=headers)
    assert_error(response, 400, "invalid_header")


def test_a_json_body_where_none_is_read_does_no_harm(api: httpx2.Client, records: Records) -> None:
    response = api.request("GET", f"/v1/users/{records.user_id}", content=json.dumps({"a": 1}))
    assert response.status_code == 200
