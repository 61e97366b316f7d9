"""The headers of the contract: their names, and how their values are read and written."""

import math
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
SIMULATE = "Operator-Simulate"
SIMULATED = "Operator-Simulated"

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
MERGE_PATCH = "application/merge-patch+json"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
HTML = "text/html"

# As Python and ECMA-262 read alike, for OpenAPI too. The key is visible ASCII but for the quote.
IDEMPOTENCY_KEY_PATTERN = r'^([!#-~]{1,255}|"[!#-~]{1,255}")$'
_ENTITY_TAG = r'(W/)?"[!#-+\--~]*"'
IF_MATCH_PATTERN = rf"^(\*|{_ENTITY_TAG}([ \t]*,[ \t]*{_ENTITY_TAG})*)$"

_is_key = re.compile(IDEMPOTENCY_KEY_PATTERN).fullmatch
_is_if_match = re.compile(IF_MATCH_PATTERN).fullmatch
# Version 255 is none, and neither are ids that are all zeros; later versions may add parts.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def parse_idempotency_key(value: str) -> str | None:
    """Return the key, without the quotes of a structured-field string; None if it is no key."""
    return value.strip('"') if _is_key(value) else None


def parse_trace_id(value: str) -> str | None:
    """Return the trace id of a ``traceparent`` (W3C Trace Context); None if it is malformed."""
    found = _TRACEPARENT.fullmatch(value)
    return found[1] if found else None


def parse_client_request_id(value: str) -> str | None:
    """Return the caller's own request id where it is 1 to 64 of ``[A-Za-z0-9._-]``."""
    return value if _CLIENT_REQUEST_ID.fullmatch(value) else None


def parse_if_match(value: str) -> list[str] | None:
    """Return the entity tags of an If-Match (RFC 9110, section 13.1.1); None if malformed.

    ``*`` comes back as itself. Weak tags never match, as If-Match compares strongly.
    """
    return [tag.strip(" \t") for tag in value.split(",")] if _is_if_match(value) else None


def format_rate_limit_policy(limit: int, window_seconds: float) -> str:
    """Write the RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers."""
    return f'"default";q={limit};w={math.ceil(window_seconds)}'


def format_rate_limit(remaining: int, reset_seconds: int) -> str:
    """Write the RateLimit of draft-ietf-httpapi-ratelimit-headers: what is left, and for how long.

    ``reset_seconds`` is when the whole quota is there again, if nothing more is used.
    """
    return f'"default";r={remaining};t={reset_seconds}'
