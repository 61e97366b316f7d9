"""One runnable example of each reason: the requests that provoke it, as values.

The documentation's curl and Python (``snippets``) and the tests are made of these rows. In paths,
headers and bodies ``$NAME`` stands for what an earlier request kept, or for one of the variables:

- ``$OPERATOR_API_KEY``: an admin token of the test environment, which also authorizes each request
  that names no other;
- ``$NEW_EMAIL``: an address that nobody has yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from operator_api.contract.headers import JSON, SIMULATE

API_KEY = "OPERATOR_API_KEY"
NEW_EMAIL = "NEW_EMAIL"


@dataclass(frozen=True, slots=True)
class Repeated:
    """A text that is too long to be written down."""

    text: str
    times: int

    def __str__(self) -> str:
        return self.text * self.times


Body = Mapping[str, Any] | bytes | Repeated | None


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``bearer`` names the variable with its token; None sends none.

    ``keeps`` says which members of the answer are kept, and under what names.
    """

    method: str
    path: str
    body: Body = None
    headers: Mapping[str, str | Repeated] = field(default_factory=dict)
    bearer: str | None = API_KEY
    keeps: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str | None:
        """The media type of the body, where the headers give none."""
        return None if self.body is None or "Content-Type" in self.headers else JSON


@dataclass(frozen=True, slots=True)
class Example:
    """Requests, the last of which gets the reason. ``simulated``: the server is asked to say so."""

    requests: tuple[Request, ...]
    simulated: bool = False

    @property
    def last(self) -> Request:
        """The request that gets the reason."""
        return self.requests[-1]


def _sends(method: str, path: str, body: Body = None, **more: Any) -> Example:
    return Example((Request(method, path, body, **more),))


def _user_with(**fields: Any) -> Example:
    return _sends("POST", "/v1/users", {"email": "ada@example.com", **fields})


def _simulated(reason: str) -> Example:
    """Return the example of what no caller can bring about."""
    return Example((Request("GET", "/v1/me", headers={SIMULATE: reason}),), simulated=True)


_NOBODY = "usr_00000000000000000000000000000000"
_JSON = {"Content-Type": JSON}

_NEW_USER = Request("POST", "/v1/users", {"email": "$NEW_EMAIL"}, keeps={"USER_ID": "id"})
_NEW_TOKEN = Request(
    "POST",
    "/v1/tokens",
    {"name": "an example", "preset": "read-only"},
    keeps={"TOKEN_ID": "id", "TOKEN": "token"},
)
_REVOKE = Request("DELETE", "/v1/tokens/$TOKEN_ID")
_NEW_CONVERSATION = Request(
    "POST",
    "/v1/conversations",
    {"user_id": "$USER_ID", "channel": "web"},
    keeps={"CONVERSATION_ID": "id"},
)
_CLOSE = Request("POST", "/v1/conversations/$CONVERSATION_ID/close")
_IN_ORDER = {"Idempotency-Key": "order-1042"}

EXAMPLES: Mapping[str, Example] = {
    "malformed_request": _simulated("malformed_request"),
    "invalid_json": _sends("POST", "/v1/users", b'{"email": "ada@example.com"', headers=_JSON),
    "empty_body": _sends("POST", "/v1/users", headers=_JSON),
    "body_not_object": _sends("POST", "/v1/users", b'["ada@example.com"]', headers=_JSON),
    "invalid_encoding": _sends(
        "POST", "/v1/users", '{"name": "Zoë"}'.encode("latin-1"), headers=_JSON
    ),
    "invalid_parameter": _sends("GET", "/v1/users?limit=1000"),
    "unknown_parameter": _sends("GET", "/v1/users?page=2"),
    "invalid_cursor": _sends("GET", "/v1/users?cursor=2"),
    "invalid_header": _sends("POST", "/v1/users", {}, headers={"Idempotency-Key": "two words"}),
    "token_in_url": _sends("GET", "/v1/users?api_key=0123456789", bearer=None),
    "missing_token": _sends("GET", "/v1/me", bearer=None),
    "malformed_authorization": _sends(
        "GET", "/v1/me", bearer=None, headers={"Authorization": "Basic b3BlcmF0b3I6c2VjcmV0"}
    ),
    "invalid_token": _sends(
        "GET", "/v1/me", bearer=None, headers={"Authorization": "Bearer op_test_mistyped"}
    ),
    "expired_token": Example(
        (
            _NEW_TOKEN,
            Request("POST", "/v1/tokens/$TOKEN_ID/rotate", {"overlap_seconds": 0}),
            Request("GET", "/v1/me", bearer="TOKEN"),
        )
    ),
    "revoked_token": Example((_NEW_TOKEN, _REVOKE, Request("GET", "/v1/me", bearer="TOKEN"))),
    "insufficient_scope": Example(
        (_NEW_TOKEN, Request("POST", "/v1/users", {"email": "ada@example.com"}, bearer="TOKEN"))
    ),
    "simulation_not_allowed": _sends(
        "GET", "/v1/errors", bearer=None, headers={SIMULATE: "overloaded"}
    ),
    "unknown_endpoint": _sends("GET", "/v1/user"),
    "resource_not_found": _sends("GET", f"/v1/users/{_NOBODY}"),
    "method_not_allowed": _sends("DELETE", "/v1/users"),
    "not_acceptable": _sends("GET", "/v1/users", headers={"Accept": "application/xml"}),
    "request_timeout": _simulated("request_timeout"),
    "body_too_large": _sends("POST", "/v1/users", Repeated(" ", 1_048_577), headers=_JSON),
    "unsupported_media_type": _sends(
        "POST",
        "/v1/users",
        b"email=ada@example.com",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "headers_too_large": _sends("GET", "/v1/me", headers={"Cookie": Repeated("x", 70_000)}),
    "already_exists": Example((_NEW_USER, Request("POST", "/v1/users", {"email": "$NEW_EMAIL"}))),
    "limit_reached": Example(
        (
            Request(
                "POST",
                "/v1/users",
                {"email": "$NEW_EMAIL", "tags": [str(number) for number in range(50)]},
                keeps={"USER_ID": "id"},
            ),
            Request("POST", "/v1/tags", {"user_id": "$USER_ID", "tag": "one more"}),
        )
    ),
    "conversation_closed": Example((_NEW_USER, _NEW_CONVERSATION, _CLOSE, _CLOSE)),
    "token_inactive": Example(
        (_NEW_TOKEN, _REVOKE, Request("POST", "/v1/tokens/$TOKEN_ID/rotate"))
    ),
    "idempotency_in_progress": _simulated("idempotency_in_progress"),
    "precondition_failed": Example(
        (
            _NEW_USER,
            Request(
                "PATCH",
                "/v1/users/$USER_ID",
                {"name": "Ada"},
                headers={"If-Match": '"an-older-one"'},
            ),
        )
    ),
    "validation_failed": _sends("POST", "/v1/users", {}),
    "idempotency_key_reused": Example(
        (
            Request("POST", "/v1/users", {"email": "first.order@example.com"}, headers=_IN_ORDER),
            Request("POST", "/v1/users", {"email": "second.order@example.com"}, headers=_IN_ORDER),
        )
    ),
    "rate_limited": _simulated("rate_limited"),
    "too_many_failed_authentications": _simulated("too_many_failed_authentications"),
    "internal_error": _simulated("internal_error"),
    "overloaded": _simulated("overloaded"),
    "store_unavailable": _simulated("store_unavailable"),
    "shutting_down": _simulated("shutting_down"),
    # Reasons of fields, which stand in the errors of a 422 or 400.
    "required": _sends("POST", "/v1/users", {"name": "Ada"}),
    "unknown_field": _user_with(colour="green"),
    "read_only": _user_with(created_at="2026-01-31T12:00:00Z"),
    "wrong_type": _user_with(tags="vip"),
    "invalid_format": _sends(
        "POST", "/v1/tokens", {"name": "n", "preset": "admin", "expires_at": "tomorrow"}
    ),
    "invalid_email": _user_with(email="ada.example.com"),
    "invalid_phone": _user_with(phone="(415) 555-0123"),
    "too_short": _user_with(name=""),
    "too_long": _user_with(name="Ada " * 51),
    "too_many_items": _user_with(tags=[str(number) for number in range(51)]),
    "out_of_range": _sends("GET", "/v1/users?limit=0"),
    "not_allowed_value": _sends(
        "POST", "/v1/conversations", {"user_id": _NOBODY, "channel": "pigeon"}
    ),
    "not_found": _sends("POST", "/v1/conversations", {"user_id": _NOBODY, "channel": "web"}),
    "forbidden_character": _user_with(tags=["v\u200bip"]),
}
