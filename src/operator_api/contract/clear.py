"""What may be kept in clear of a request and its answer: names alone, for both sides' logs.

Names are in lower case, and ``parent.name`` is one in one place only. What is on no list is masked:
its kind and length stay, and nothing else.
"""

# Values of these are ids, constants of the contract, times and counts. What people write is not.
_CLEAR = """
    id user_id conversation_id message_id token_id account_id request_id client_request_id replaces
    channel status type environment preset scopes scope
    created_at updated_at started_at closed_at expires_at revoked_at replaced_expires_at
    overlap_seconds limit window_seconds body_bytes count has_more deleted
    code reason outcome action retryable after_seconds in pointer field did_you_mean related
    of_field fix.op fix.path fix.from
    metadata.line metadata.column metadata.byte metadata.required metadata.granted metadata.missing
    metadata.resource metadata.more_errors metadata.existing_id metadata.limit_bytes
    metadata.seconds metadata.header metadata.supported metadata.available metadata.allowed
    metadata.method metadata.cause expired_at
"""
# Sentences of ours. What others answer may have these names too, so secrets in them are masked.
_PROSE = """
    error.message error.hint errors.message doc_url log_url .title .detail .instance
    metadata.problem metadata.expected metadata.minimum metadata.maximum metadata.kind
    metadata.found metadata.what
"""
# Names that may be shown, of values that may not.
_MASKED = """
    name email phone tags tag assignee message token hint next_cursor token_name
    data error errors retry metadata fix value account rate limits checks
"""
# Headers whose values stay. The key of a write is on the client's list alone: what the server keeps
# of it is a hash.
_CLIENT_HEADERS = """
    accept allow cache-control connection content-encoding content-length content-type date etag
    idempotency-key idempotent-replayed if-match ratelimit ratelimit-policy retry-after server
    traceparent transfer-encoding user-agent vary www-authenticate x-error-reason
    x-operator-retry-count x-request-id x-should-retry
"""

CLEAR = frozenset(_CLEAR.split())
PROSE = frozenset(_PROSE.split())
MASKED = frozenset(_MASKED.split())
CLIENT_HEADERS = frozenset(_CLIENT_HEADERS.split())
SERVER_HEADERS = CLIENT_HEADERS - {"idempotency-key"} | {"host", "operator-simulate"}
