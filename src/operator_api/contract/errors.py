"""The catalogue of errors: one row per cause, and the exception that carries a row.

Everything that speaks of errors reads this table: the server's answers, the OpenAPI document, the
documentation, the command line, the client's exceptions and ``GET /v1/errors``.

::

    Problem                     one catalogued error, on its way to the caller
    ├── .kind      ErrorKind    the row: status, type, message template, hint, retry, outcome
    ├── .errors    FieldError…  which parts of the request are wrong, and how to mend them
    └── .metadata               the variables of the message, for programs
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

ErrorType = Literal[
    "invalid_request",
    "authentication_error",
    "permission_error",
    "not_found",
    "conflict",
    "validation_error",
    "rate_limit_error",
    "api_error",
    "unavailable",
]
Action = Literal[
    "fix_request",
    "authenticate",
    "request_permission",
    "wait",
    "retry_with_backoff",
    "check_outcome",
    "contact_support",
]
Outcome = Literal["not_executed", "executed", "unknown"]
Place = Literal["body", "query", "header", "path"]
# What a request has to pass, in this order: the first check that fails answers.
Check = Literal[
    "http",
    "capacity",
    "path",
    "method",
    "token",
    "rate",
    "scope",
    "accept",
    "size",
    "media_type",
    "headers",
    "query",
    "json",
    "fields",
    "idempotency",
    "resource",
    "precondition",
    "state",
    "work",
]
CHECKS: tuple[Check, ...] = get_args(Check)

TYPE_OF_STATUS: Mapping[int, ErrorType] = {
    400: "invalid_request",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found",
    405: "invalid_request",
    406: "invalid_request",
    408: "invalid_request",
    409: "conflict",
    412: "conflict",
    413: "invalid_request",
    415: "invalid_request",
    422: "validation_error",
    429: "rate_limit_error",
    431: "invalid_request",
    500: "api_error",
    503: "unavailable",
}

RETRYABLE_ACTIONS = frozenset({"wait", "retry_with_backoff"})


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the catalogue.

    ``message`` is a template; each of its variables is also a member of the error's ``metadata``.
    ``of_field`` rows never answer a request by themselves: they stand in the ``errors`` list of
    one that does. Of all others ``check`` is the check that a request with this error has failed.
    """

    reason: str
    status: int
    title: str
    message: str
    hint: str
    causes: tuple[str, ...]
    fix: str
    action: Action
    outcome: Outcome = "not_executed"
    check: Check | None = None
    of_field: bool = False
    related: tuple[str, ...] = ()

    @property
    def type(self) -> ErrorType:
        """The class of the error, which follows from its status."""
        return TYPE_OF_STATUS[self.status]

    @property
    def waits(self) -> bool:
        """Whether the answer says how long to wait, in Retry-After."""
        return self.status in (429, 503) or self.action == "wait"

    @property
    def retryable(self) -> bool:
        """Whether the same request, unchanged, may succeed later."""
        return self.action in RETRYABLE_ACTIONS


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong part of a request. It never carries what was submitted.

    ``pointer`` is a JSON Pointer in the fragment form of RFC 9457 (``#/email``), into the part of
    the request that ``place`` names. ``fix`` is one RFC 6902 operation on the sent body, present
    only where it invents nothing.
    """

    place: Place
    pointer: str
    field: str
    reason: str
    message: str
    did_you_mean: str | None = None
    fix: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the members in the contract's order and names."""
        return {
            "in": self.place,
            "pointer": self.pointer,
            "field": self.field,
            "reason": self.reason,
            "message": self.message,
            "did_you_mean": self.did_you_mean,
            "fix": self.fix,
        }

    def suggesting(self, meant: str | None) -> "FieldError":
        """Return the same error with what was most likely meant, if anything was."""
        if meant is None:
            return self
        message = f"{self.message} Did you mean {meant}?"
        return replace(self, did_you_mean=meant, message=message)


class Problem(Exception):
    """A catalogued error on its way to whoever asked (RFC 9457's term)."""

    def __init__(
        self,
        kind: ErrorKind,
        metadata: Mapping[str, Any] | None = None,
        *,
        errors: Sequence[FieldError] = (),
        after_seconds: int | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(kind.reason)
        self.kind = kind
        self.metadata = dict(metadata) if metadata else {}
        self.errors = errors
        self.after_seconds = 1 if after_seconds is None and kind.waits else after_seconds
        self.outcome: Outcome = outcome or kind.outcome
        # The request had an idempotency key: to send it again is safe, and settles the outcome.
        self.repeatable = False

    @property
    def action(self) -> Action:
        """What to do: the row's advice, unless the write may have happened and repeating it, too.

        A ``repeatable`` request is repeated: whatever became of the first one, it acts once.
        """
        settled = self.outcome != "unknown" or self.repeatable
        return self.kind.action if settled else "check_outcome"

    @property
    def message(self) -> str:
        """One sentence for people."""
        return message_of(self.kind, self.metadata, self.errors)


def message_of(
    kind: ErrorKind, metadata: Mapping[str, Any], errors: Sequence[FieldError] = ()
) -> str:
    """Fill the row's template; name the first field error, and count the others."""
    message = kind.message
    if "{" in message:
        message = message.format_map({name: _spoken(value) for name, value in metadata.items()})
    if errors:
        message = f"{message}: {errors[0].message}"
        others = len(errors) - 1 + metadata.get("more_errors", 0)
        if others:
            message += f" (and {others} more error{'s' if others > 1 else ''})"
    suggestion = metadata.get("did_you_mean")
    return f"{message} Did you mean {suggestion}?" if suggestion else message


def _spoken(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


CATALOGUE: dict[str, ErrorKind] = {}


def _row(reason: str, status: int, title: str, **columns: Any) -> ErrorKind:
    columns.setdefault("action", "fix_request")
    kind = ErrorKind(reason=reason, status=status, title=title, **columns)
    CATALOGUE[reason] = kind
    return kind


# --- 400: the request cannot be read ---

MALFORMED_REQUEST = _row(
    "malformed_request",
    400,
    "Malformed HTTP request",
    check="http",
    message="The request is not valid HTTP.",
    hint="Send the request with an HTTP client library, not by hand.",
    causes=(
        "The request line or a header line is not valid HTTP/1.1.",
        "Two Content-Length headers disagree, or one stands beside Transfer-Encoding.",
        "An https:// request was sent to the plain http:// port.",
    ),
    fix="Use an HTTP client library, and check that the scheme and the port of the address match.",
    related=("headers_too_large", "request_timeout"),
)
INVALID_JSON = _row(
    "invalid_json",
    400,
    "Invalid JSON",
    check="json",
    message="The body is not valid JSON: {problem} at line {line}, column {column}.",
    hint="Check the body at the position given, or build it with a JSON library.",
    causes=(
        "The body was put together as text, with a missing quote, comma or brace.",
        "The body is cut off, or has text behind the JSON value.",
        "NaN, a number too large, a repeated key, a lone surrogate, or nesting over 64.",
    ),
    fix="Serialize the body with your language's JSON library instead of building it as text.",
    related=("empty_body", "body_not_object", "invalid_encoding"),
)
EMPTY_BODY = _row(
    "empty_body",
    400,
    "Empty body",
    check="json",
    message="The request has no body, but this endpoint needs a JSON object.",
    hint="Send a JSON object as the request body.",
    causes=(
        "The HTTP client was not given the body.",
        "A redirect or a proxy dropped the body.",
    ),
    fix="Send a JSON object with Content-Type: application/json; `{}` where nothing is needed.",
    related=("invalid_json", "body_not_object"),
)
BODY_NOT_OBJECT = _row(
    "body_not_object",
    400,
    "Body is not an object",
    check="json",
    message="The body must be a JSON object, not {found}.",
    hint="Wrap the values in one JSON object: {…}.",
    causes=(
        "A list or a single value was sent.",
        "The JSON was encoded twice, so that the body is a string that holds JSON.",
    ),
    fix="Send one JSON object per request, encoded once.",
    related=("invalid_json", "empty_body"),
)
INVALID_ENCODING = _row(
    "invalid_encoding",
    400,
    "Body is not UTF-8",
    check="json",
    message="The body is not valid UTF-8: {problem} at byte {byte}.",
    hint="Encode the body as UTF-8 without a byte order mark.",
    causes=(
        "The body is encoded as UTF-16 or Latin-1.",
        "The body begins with a byte order mark.",
        "Bytes that are not text were put into a string.",
    ),
    fix="Encode the JSON text as UTF-8 without a byte order mark (RFC 8259, section 8.1).",
    related=("invalid_json",),
)
INVALID_PARAMETER = _row(
    "invalid_parameter",
    400,
    "Invalid query parameter",
    check="query",
    message="Invalid query parameter",
    hint="Check the parameter's values in the endpoint's reference.",
    causes=(
        "A value is out of its range or of the wrong form.",
        "A parameter is given twice.",
        "The query string is not valid UTF-8.",
    ),
    fix="Correct the parameters listed in `errors`.",
    related=("unknown_parameter", "invalid_cursor"),
)
UNKNOWN_PARAMETER = _row(
    "unknown_parameter",
    400,
    "Unknown query parameter",
    check="query",
    message="Unknown query parameter",
    hint="Remove the parameter, or correct its name.",
    causes=("The name is misspelled.", "The parameter belongs to another endpoint."),
    fix="Remove or rename the parameters listed in `errors`.",
    related=("invalid_parameter",),
)
INVALID_CURSOR = _row(
    "invalid_cursor",
    400,
    "Invalid cursor",
    check="query",
    message="The cursor is not one that this list has given.",
    hint="Pass next_cursor back unchanged, with the same filters, or start without a cursor.",
    causes=(
        "The cursor was cut off or changed.",
        "The cursor comes from another list, or from the same list with other filters.",
    ),
    fix="Start again without a cursor, and pass each `next_cursor` back exactly as it came.",
    related=("invalid_parameter",),
)
INVALID_HEADER = _row(
    "invalid_header",
    400,
    "Invalid header",
    check="headers",
    message="Invalid header",
    hint="Correct the header named in `errors`.",
    causes=(
        "An Idempotency-Key is empty, longer than 255 characters or not visible ASCII.",
        "An If-Match header is not an entity tag.",
        "An Operator-Simulate header names no reason, or has parameters that its reason lacks.",
        "A header that may be sent once was sent twice.",
    ),
    fix="Correct the header named in `errors`.",
    related=("idempotency_key_reused", "precondition_failed"),
)
TOKEN_IN_URL = _row(
    "token_in_url",
    400,
    "Token in the URL",
    check="token",
    message="A token was sent in the URL, where logs and proxies can see it.",
    hint="Send the token in the Authorization header, and rotate this one: it may have leaked.",
    causes=("The token was given as a query parameter such as ?api_key=… or ?token=….",),
    fix="Send `Authorization: Bearer <token>`, and rotate the token that was in the URL.",
    related=("missing_token",),
)

# --- 401: no usable token ---

MISSING_TOKEN = _row(
    "missing_token",
    401,
    "No token",
    check="token",
    message="No API token was sent.",
    hint="Check the Authorization header: it must be `Authorization: Bearer <token>`.",
    causes=(
        "The Authorization header is missing.",
        "A redirect to another host dropped the header.",
        "The environment variable that holds the token is empty.",
    ),
    fix="Send `Authorization: Bearer <token>` with each request.",
    action="authenticate",
    related=("malformed_authorization", "invalid_token"),
)
MALFORMED_AUTHORIZATION = _row(
    "malformed_authorization",
    401,
    "Malformed Authorization header",
    check="token",
    message="The Authorization header is malformed: {problem}.",
    hint="Check the Authorization header: it must be `Authorization: Bearer <token>`, once.",
    causes=(
        "The scheme is not Bearer: Basic, or a bare token.",
        "The header was sent twice.",
        "The token has spaces, quotes or a line break around it.",
    ),
    fix="Send exactly one `Authorization: Bearer <token>` header.",
    action="authenticate",
    related=("missing_token", "invalid_token"),
)
INVALID_TOKEN = _row(
    "invalid_token",
    401,
    "Unknown token",
    check="token",
    message="The API token is not valid.",
    hint="Check that the token is active and correct: copied whole, and for this server.",
    causes=(
        "The token was cut off or mistyped when it was copied.",
        "The token belongs to another server or installation.",
    ),
    fix="Copy the token again, or create a new one.",
    action="authenticate",
    related=("expired_token", "revoked_token"),
)
EXPIRED_TOKEN = _row(
    "expired_token",
    401,
    "Expired token",
    check="token",
    message="The API token expired at {expired_at}.",
    hint="Create or rotate the token, and use the new one.",
    causes=(
        "The token's expiry date has passed.",
        "The token was rotated, and the overlap is over.",
    ),
    fix="Create a new token, or rotate tokens before they expire.",
    action="authenticate",
    related=("revoked_token", "invalid_token"),
)
REVOKED_TOKEN = _row(
    "revoked_token",
    401,
    "Revoked token",
    check="token",
    message="The API token was revoked at {revoked_at}.",
    hint="Use another token: a revoked one never becomes valid again.",
    causes=("Somebody with tokens:admin revoked the token.",),
    fix="Create a new token, and replace the revoked one wherever it is used.",
    action="authenticate",
    related=("expired_token", "invalid_token"),
)

# --- 403: the token may not ---

INSUFFICIENT_SCOPE = _row(
    "insufficient_scope",
    403,
    "Missing scope",
    check="scope",
    message="The token lacks the scope {missing}.",
    hint="Use a token with the scopes that `metadata.required` lists.",
    causes=(
        "The token was created without the scope.",
        "A read-only token is used for a write.",
        "A token tried to hand out a scope that it does not have itself.",
    ),
    fix="Create a token with the missing scopes, or ask whoever manages your tokens.",
    action="request_permission",
    related=("invalid_token", "simulation_not_allowed"),
)
SIMULATION_NOT_ALLOWED = _row(
    "simulation_not_allowed",
    403,
    "Simulation not allowed",
    check="scope",
    message="Errors are simulated for tokens of the test environment only.",
    hint="Send a token that begins with op_test_, or leave Operator-Simulate out.",
    causes=(
        "A test that simulates errors runs with a live token, or with none.",
        "The Operator-Simulate header of a test was left in the code.",
    ),
    fix="Use a test token where errors are simulated, and leave the header out everywhere else.",
    related=("insufficient_scope", "invalid_header"),
)

# --- 404 to 408, 413, 415, 431: the request's outer form ---

UNKNOWN_ENDPOINT = _row(
    "unknown_endpoint",
    404,
    "Unknown endpoint",
    check="path",
    message="There is no endpoint at this path.",
    hint="Check the endpoint's path, its /v1 prefix, and slashes at the end.",
    causes=(
        "The path is misspelled, or ends in a slash.",
        "The /v1 prefix is missing or doubled.",
    ),
    fix="Compare the path with the API reference, or with /openapi.json.",
    related=("resource_not_found", "method_not_allowed"),
)
RESOURCE_NOT_FOUND = _row(
    "resource_not_found",
    404,
    "Resource not found",
    check="resource",
    message="There is no {resource} with this id.",
    hint="Check the id, and that the token is of the same account and environment.",
    causes=(
        "The id is mistyped, or of another kind of resource.",
        "The resource was deleted.",
        "The resource belongs to another account, or to the other environment (live or test).",
    ),
    fix="List the resources with the same token to see which ids it can reach.",
    related=("unknown_endpoint",),
)
METHOD_NOT_ALLOWED = _row(
    "method_not_allowed",
    405,
    "Method not allowed",
    check="method",
    message="{method} is not allowed here. Allowed: {allowed}.",
    hint="Use one of the methods in the Allow header.",
    causes=(
        "The method is not one this path has.",
        "A redirect turned a POST into a GET.",
    ),
    fix="Use one of the methods that the Allow header lists.",
    related=("unknown_endpoint",),
)
NOT_ACCEPTABLE = _row(
    "not_acceptable",
    406,
    "Not acceptable",
    check="accept",
    message="No representation matches the Accept header. Available: {available}.",
    hint="Send `Accept: application/json`, or leave the header out.",
    causes=("The Accept header names only media types that this endpoint does not have.",),
    fix="Send `Accept: application/json`, or leave the header out.",
    related=("unsupported_media_type",),
)
REQUEST_TIMEOUT = _row(
    "request_timeout",
    408,
    "Request not received in time",
    check="http",
    message="The request did not arrive completely within {seconds} seconds.",
    hint="Send the whole request at once; check the network and the Content-Length.",
    causes=(
        "The connection is too slow, or stalled.",
        "Content-Length is larger than the body that was sent.",
    ),
    fix="Retry, with the body ready before the request begins.",
    action="retry_with_backoff",
    related=("malformed_request", "body_too_large"),
)
BODY_TOO_LARGE = _row(
    "body_too_large",
    413,
    "Body too large",
    check="size",
    message="The body is larger than {limit_bytes} bytes.",
    hint="Make the body smaller.",
    causes=(
        "A file or an image was put into a text field.",
        "Many items were sent in one request.",
    ),
    fix="Split the content over several requests.",
    related=("headers_too_large",),
)
UNSUPPORTED_MEDIA_TYPE = _row(
    "unsupported_media_type",
    415,
    "Unsupported media type",
    check="media_type",
    message="The body's {header} is not supported. Supported: {supported}.",
    hint="Send JSON with `Content-Type: application/json`, without Content-Encoding.",
    causes=(
        "Content-Type is missing, or names a form: curl -d does so where no header is given.",
        "The body is compressed (Content-Encoding).",
        "The charset is not UTF-8.",
    ),
    fix="Send `Content-Type: application/json` and an uncompressed UTF-8 body.",
    related=("invalid_encoding", "not_acceptable"),
)
HEADERS_TOO_LARGE = _row(
    "headers_too_large",
    431,
    "Headers too large",
    check="http",
    message="The request line and headers are larger than {limit_bytes} bytes.",
    hint="Send fewer or smaller headers, and put data into the body.",
    causes=(
        "Data that belongs in the body was put into the URL or a header.",
        "Cookies of another application on the same host are sent along.",
    ),
    fix="Remove the large headers, or shorten the URL.",
    related=("body_too_large", "malformed_request"),
)

# --- 409 and 412: the request is right, the stored state is against it ---

ALREADY_EXISTS = _row(
    "already_exists",
    409,
    "Already exists",
    check="state",
    message="A {resource} with this {field} already exists.",
    hint="Update the existing one, whose id is in `metadata.existing_id`, or use another value.",
    causes=(
        "The same record was created before.",
        "An earlier try, whose answer was lost, did succeed: use idempotency keys.",
    ),
    fix="Update the existing record, or send an Idempotency-Key with each create.",
    related=("idempotency_key_reused",),
)
LIMIT_REACHED = _row(
    "limit_reached",
    409,
    "Limit reached",
    check="state",
    message="The {resource} already has {limit} {what}, the most it can have.",
    hint="Remove one before you add another.",
    causes=("The record holds as many items as it can.",),
    fix="Remove what is no longer needed.",
    related=("already_exists",),
)
CONVERSATION_CLOSED = _row(
    "conversation_closed",
    409,
    "Conversation closed",
    check="state",
    message="The conversation was closed at {closed_at}.",
    hint="Start a new conversation with the user.",
    causes=("Somebody, or another process, closed the conversation.",),
    fix="Create a new conversation, and write there.",
    related=("resource_not_found",),
)
TOKEN_INACTIVE = _row(
    "token_inactive",
    409,
    "Token no longer active",
    check="state",
    message="The token is {status}, and cannot be rotated.",
    hint="Create a new token instead.",
    causes=("The token was revoked, or has expired, before it was rotated.",),
    fix="Create a new token with the same scopes.",
    related=("expired_token", "revoked_token"),
)
IDEMPOTENCY_IN_PROGRESS = _row(
    "idempotency_in_progress",
    409,
    "First request still running",
    check="idempotency",
    message="The first request with this Idempotency-Key is still running.",
    hint="Send the same request again after Retry-After: it will get the first one's answer.",
    causes=(
        "A retry was sent before the first try had its answer.",
        "Two processes use the same key at once.",
    ),
    fix="Wait as Retry-After says, then repeat the same request with the same key.",
    action="wait",
    related=("idempotency_key_reused",),
)
PRECONDITION_FAILED = _row(
    "precondition_failed",
    412,
    "Changed in between",
    check="precondition",
    message="The {resource} has changed since the version in If-Match.",
    hint="Read it again, apply your change to the new version, and send its ETag.",
    causes=("Somebody else changed the record after it was read.",),
    fix="Read the record again, redo the change, and send If-Match with the new ETag.",
    related=("invalid_header",),
)

# --- 422: the request was read, and is wrong ---

VALIDATION_FAILED = _row(
    "validation_failed",
    422,
    "Validation failed",
    check="fields",
    message="Validation error",
    hint="Double-check the required fields in your request body.",
    causes=("A field is missing, unknown, or has a wrong value: `errors` lists each one.",),
    fix="Correct each field in `errors`; where `fix` is given, it is the change to make.",
    related=("invalid_json", "idempotency_key_reused"),
)
IDEMPOTENCY_KEY_REUSED = _row(
    "idempotency_key_reused",
    422,
    "Idempotency key reused",
    check="idempotency",
    message="This Idempotency-Key was used before, for another request.",
    hint="Mint one key per operation, and change it whenever the request changes.",
    causes=(
        "The key is a constant, or is made from a value that repeats.",
        "The body was changed between the tries.",
    ),
    fix="Use a new random key (a UUID) per operation, and keep it only for retries of that one.",
    related=("idempotency_in_progress", "already_exists"),
)

# --- 429, 500, 503: not now ---

RATE_LIMITED = _row(
    "rate_limited",
    429,
    "Rate limit exceeded",
    check="rate",
    message="Rate limit of {limit} requests per {window_seconds} seconds exceeded.",
    hint="Wait as long as Retry-After says, then go on more slowly.",
    causes=(
        "Requests are sent faster than the limit, often by a loop or by many workers.",
        "Failed requests are repeated without a pause.",
    ),
    fix="Honour Retry-After, and use exponential backoff with jitter for repeated failures.",
    action="wait",
    related=("too_many_failed_authentications", "overloaded"),
)
TOO_MANY_FAILED_AUTHENTICATIONS = _row(
    "too_many_failed_authentications",
    429,
    "Too many failed authentications",
    check="token",
    message="Too many requests with unusable tokens came from this address; the last: {cause}.",
    hint="Stop, correct the token as `metadata.cause` says, then wait for Retry-After.",
    causes=(
        "An integration goes on with a wrong, expired or revoked token.",
        "Somebody is guessing tokens from this address.",
    ),
    fix="Correct the token; requests with a valid one are never held back by this.",
    action="wait",
    related=("invalid_token", "expired_token", "revoked_token"),
)
INTERNAL_ERROR = _row(
    "internal_error",
    500,
    "Internal error",
    check="work",
    message="Something went wrong on our side.",
    hint="Retry with backoff. If it persists, contact support with the request_id.",
    causes=("A defect in the server. What the request had begun was undone.",),
    fix="Retry later with backoff; report the request_id if it persists.",
    action="retry_with_backoff",
    related=("store_unavailable",),
)
OVERLOADED = _row(
    "overloaded",
    503,
    "Overloaded",
    check="capacity",
    message="The server has more requests than it can answer now.",
    hint="Retry after Retry-After, with backoff and jitter.",
    causes=("More requests come in than the server can handle.",),
    fix="Retry after the time that Retry-After gives; spread the load.",
    action="retry_with_backoff",
    related=("rate_limited", "store_unavailable"),
)
STORE_UNAVAILABLE = _row(
    "store_unavailable",
    503,
    "Store unavailable",
    check="work",
    message="The data store cannot be used at the moment.",
    hint="Retry after Retry-After, with backoff and jitter.",
    causes=(
        "The database is busy, restarting or unreachable.",
        "The disk is full.",
    ),
    fix="Retry after the time that Retry-After gives. Operators: see /readyz.",
    action="retry_with_backoff",
    related=("overloaded", "shutting_down"),
)
SHUTTING_DOWN = _row(
    "shutting_down",
    503,
    "Shutting down",
    check="capacity",
    message="The server is shutting down.",
    hint="Retry after Retry-After: another process takes over.",
    causes=("The server is being restarted or updated.",),
    fix="Retry after the time that Retry-After gives.",
    action="retry_with_backoff",
    related=("overloaded",),
)


# --- reasons of single fields, in `errors` ---


def _field(reason: str, title: str, message: str, hint: str, cause: str, fix: str) -> ErrorKind:
    return _row(
        reason,
        422,
        title,
        message=message,
        hint=hint,
        causes=(cause,),
        fix=fix,
        of_field=True,
        related=("validation_failed",),
    )


REQUIRED = _field(
    "required",
    "Missing field",
    "{field} is required.",
    "Add the field.",
    "The field is missing, or its name is misspelled.",
    "Add the field with a value.",
)
UNKNOWN_FIELD = _field(
    "unknown_field",
    "Unknown field",
    "{field} is not a known {kind}.",
    "Remove the field, or correct its name.",
    "The name is misspelled, or the field belongs to another endpoint.",
    "Rename or remove the field; `did_you_mean` names a near one.",
)
READ_ONLY = _field(
    "read_only",
    "Read-only field",
    "{field} is set by the server and cannot be sent.",
    "Remove the field.",
    "A whole record that was read is sent back.",
    "Send only the fields that can be changed.",
)
WRONG_TYPE = _field(
    "wrong_type",
    "Wrong type",
    "{field} must be {expected}.",
    "Send the JSON type that the reference gives; nothing is converted.",
    "A number, boolean or date is sent as a string, or the other way round.",
    "Send a value of the right JSON type.",
)
INVALID_FORMAT = _field(
    "invalid_format",
    "Invalid format",
    "{field} must be {expected}.",
    "Compare the value with the format in the reference.",
    "The value is of the right type, but not of the documented form.",
    "Send the value in the documented form.",
)
INVALID_EMAIL = _field(
    "invalid_email",
    "Invalid email",
    "{field} must be an email address, such as ada@example.com.",
    "Check the address for typing errors.",
    "The address has no @, no domain, or a character that is not allowed.",
    "Send one plain address, without a name or angle brackets.",
)
INVALID_PHONE = _field(
    "invalid_phone",
    "Invalid phone number",
    "{field} must be a phone number in E.164 form, such as +14155550123.",
    "Write + and the country code, then digits only.",
    "The country code is missing, or there are spaces, dashes or brackets.",
    "Format the number as E.164: +, country code, number, at most 15 digits.",
)
TOO_SHORT = _field(
    "too_short",
    "Too short",
    "{field} must have at least {minimum}.",
    "Send a longer value.",
    "The value is empty or blank.",
    "Send a value, or leave an optional field out.",
)
TOO_LONG = _field(
    "too_long",
    "Too long",
    "{field} must have at most {maximum}.",
    "Shorten the value.",
    "The value is longer than the field can hold.",
    "Shorten the value before it is sent.",
)
TOO_MANY_ITEMS = _field(
    "too_many_items",
    "Too many items",
    "{field} must have at most {maximum}.",
    "Send fewer items.",
    "The list is longer than the field can hold.",
    "Send fewer items.",
)
OUT_OF_RANGE = _field(
    "out_of_range",
    "Out of range",
    "{field} must be {expected}.",
    "Send a value within the range.",
    "The number or time is smaller or larger than the field can hold.",
    "Send a value within the documented range.",
)
NOT_ALLOWED_VALUE = _field(
    "not_allowed_value",
    "Value not allowed",
    "{field} must be {expected}.",
    "Use one of the listed values.",
    "The value is not one of the documented ones; letter case counts.",
    "Use one of the documented values.",
)
NOT_FOUND = _field(
    "not_found",
    "Referenced resource not found",
    "{field} does not refer to an existing {resource}.",
    "Check the id, and that the token is of the same account and environment.",
    "The id is mistyped, was deleted, or belongs to another account or environment.",
    "Create the resource first, or send the id of an existing one.",
)
FORBIDDEN_CHARACTER = _field(
    "forbidden_character",
    "Forbidden character",
    "{field} must not contain {forbidden}.",
    "Remove the invisible characters.",
    "Text was copied with control, zero-width or direction characters in it.",
    "Strip invisible characters before sending.",
)
