"""The headers of the contract: their names, and how their values are read and written."""

import re

# Values that the contract takes or gives, in one spelling.
REQUEST_ID = "X-Request-Id"
SHOULD_RETRY = "X-Should-Retry"
ERROR_REASON = "X-Error-Reason"
IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENT_REPLAYED = "Idempotent-Replayed"
RATE_LIMIT = "RateLimit"
RATE_LIMIT_POLICY = "RateLimit-Policy"
RETRY_AFTER = "Retry-After"

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
MERGE_PATCH = "application/merge-patch+json"
MARKDOWN = "text/markdown"

MAX_IDEMPOTENCY_KEY = 255

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


def parse_idempotency_key(value: str) -> str | None:
    """Return the key, without the quotes of a structured-field string; None if it is no key."""
    key = value.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    return key if _KEY.fullmatch(key) else None


def parse_client_request_id(value: str) -> str | None:
    """Return the caller's own request id where it is 1 to 64 of ``[A-Za-z0-9._-]``."""
    return value if _CLIENT_REQUEST_ID.fullmatch(value) else None


def parse_if_match(value: str) -> list[str] | None:
    """Return the entity tags of an If-Match (RFC 9110, section 13.1.1); None if malformed.

    ``*`` comes back as itself. Weak tags never match, as If-Match compares strongly.
    """
    if value.strip() == "*":
        return ["*"]
    tags = [tag.strip() for tag in value.split(",")]
    return tags if all(_ENTITY_TAG.fullmatch(tag) for tag in tags) else None


def format_rate_limit_policy(limit: int, window_seconds: float) -> str:
    """Write the RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers."""
    return f'"default";q={limit};w={window_seconds:g}'


def format_rate_limit(remaining: int, reset_seconds: int) -> str:
    """Write the RateLimit of draft-ietf-httpapi-ratelimit-headers: what is left, and for how long.

    ``reset_seconds`` is when the whole quota is there again, if nothing more is used.
    """
    return f'"default";r={remaining};t={reset_seconds}'
