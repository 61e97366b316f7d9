"""The names that the API knows, and which of their values the failed-request log may keep."""

from operator_api.vault.redact import Known

# Values of these are ids, constants of the contract, times and counts. What people write is not.
_CLEAR = """
    id user_id conversation_id message_id token_id account_id request_id client_request_id replaces
    channel status type environment preset scopes scope
    created_at updated_at started_at closed_at expires_at revoked_at replaced_expires_at
    overlap_seconds limit window_seconds body_bytes count has_more deleted
    code reason outcome action retryable after_seconds in pointer field did_you_mean related
    of_field fix.op fix.path fix.from
    metadata.line metadata.column metadata.byte metadata.required metadata.granted metadata.missing
    metadata.resource metadata.more_errors metadata.existing_id
"""
# Sentences of ours. What others answer may have these names too, so secrets in them are masked.
_PROSE = """
    error.message error.hint errors.message doc_url log_url .title .detail .instance
    metadata.problem metadata.expected metadata.minimum metadata.maximum metadata.kind
"""
_MASKED = """
    name email phone tags tag assignee message token hint next_cursor token_name
    data error errors retry metadata fix value account rate limits checks
"""
_HEADERS = """
    accept allow cache-control connection content-encoding content-length content-type date etag
    idempotency-key idempotent-replayed if-match ratelimit ratelimit-policy retry-after server
    traceparent transfer-encoding user-agent vary www-authenticate x-error-reason
    x-operator-retry-count x-request-id x-should-retry
"""

KNOWN = Known(
    clear=frozenset(_CLEAR.split()),
    prose=frozenset(_PROSE.split()),
    masked=frozenset(_MASKED.split()),
    headers=frozenset(_HEADERS.split()),
)
