"""The table of operations. Routing, scopes, validation, OpenAPI and the client all read it.

To add an endpoint: one row here, one handler on the server, one test.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from operator_api.contract import errors, explained, fields, logged, models
from operator_api.contract.errors import ErrorKind
from operator_api.contract.fields import IdOf
from operator_api.contract.headers import HTML, JSON, MARKDOWN, MERGE_PATCH, PLAIN
from operator_api.contract.scopes import Scope

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a caller can do.

    ``answer`` is None where it is no model's; ``answer_type`` is its media type, and
    ``other_types`` are those that an Accept header may name instead. ``scope`` is None where any
    token will do; ``public`` operations need no token. ``ids`` types the variables of the
    path; one that is not in it is a reason of the catalogue. ``can_fail`` names what the operation
    itself can refuse; what follows from its form (a body, a token, an id) is added by ``errors``.
    The answer of a ``secret`` one is for its caller alone; a ``probe`` is answered under any load.
    """

    name: str
    method: Method
    path: str
    summary: str
    answer: type[BaseModel] | None
    scope: Scope | None = None
    public: bool = False
    body: type[models.RequestBody] | None = None
    body_optional: bool = False
    params: type[models.Params] = models.Params
    ids: dict[str, IdOf] = field(default_factory=dict)
    status: Literal[200, 201] = 200
    can_fail: tuple[ErrorKind, ...] = ()
    entity_tag: bool = False
    secret: bool = False
    probe: bool = False
    answer_type: str = JSON
    other_types: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        """The group that the operation belongs to: the first part of its name."""
        return self.name.partition(".")[0]

    @property
    def writes(self) -> bool:
        """Whether it changes something, so that an Idempotency-Key has a meaning."""
        return self.method != "GET"

    @property
    def takes_if_match(self) -> bool:
        """Whether an If-Match header guards against changes in between."""
        return self.entity_tag and self.writes and bool(self.ids)

    @property
    def media_types(self) -> tuple[str, ...]:
        """What the body may be sent as."""
        return (JSON, MERGE_PATCH) if self.method == "PATCH" else (JSON,)

    @property
    def errors(self) -> tuple[ErrorKind, ...]:
        """Exactly the errors this operation can give, in the order of the checks."""
        return tuple(dict.fromkeys(self._errors()))

    def _errors(self) -> Iterator[ErrorKind]:
        if not self.public:
            yield from _TOKEN_ERRORS
        if self.scope is not None:
            yield errors.INSUFFICIENT_SCOPE
        yield errors.SIMULATION_NOT_ALLOWED
        yield errors.NOT_ACCEPTABLE
        yield from self._errors_of_form()
        yield from self.can_fail
        yield from _EDGE
        if not self.probe:
            yield from (errors.OVERLOADED, errors.SHUTTING_DOWN)
        if not self.public:
            yield errors.STORE_UNAVAILABLE

    def _errors_of_form(self) -> Iterator[ErrorKind]:
        if self.body is not None:
            yield from (errors.BODY_TOO_LARGE, errors.UNSUPPORTED_MEDIA_TYPE)
        yield errors.INVALID_HEADER
        yield from (errors.UNKNOWN_PARAMETER, errors.INVALID_PARAMETER)
        if issubclass(self.params, models.ListParams):
            yield errors.INVALID_CURSOR
        if self.body is not None:
            yield from _BODY_ERRORS
            if not self.body_optional:
                yield errors.EMPTY_BODY
        if self.ids:
            yield errors.RESOURCE_NOT_FOUND
        if self.takes_if_match:
            yield errors.PRECONDITION_FAILED
        if self.writes:
            yield from (errors.IDEMPOTENCY_KEY_REUSED, errors.IDEMPOTENCY_IN_PROGRESS)


_TOKEN_ERRORS = (
    errors.TOKEN_IN_URL,
    errors.MISSING_TOKEN,
    errors.MALFORMED_AUTHORIZATION,
    errors.INVALID_TOKEN,
    errors.EXPIRED_TOKEN,
    errors.REVOKED_TOKEN,
    errors.TOO_MANY_FAILED_AUTHENTICATIONS,
    errors.RATE_LIMITED,
)
_BODY_ERRORS = (
    errors.INVALID_JSON,
    errors.BODY_NOT_OBJECT,
    errors.INVALID_ENCODING,
    errors.VALIDATION_FAILED,
)
_EDGE = (
    errors.MALFORMED_REQUEST,
    errors.HEADERS_TOO_LARGE,
    errors.REQUEST_TIMEOUT,
    errors.INTERNAL_ERROR,
)

_USER = {"user_id": fields.USER_ID}
_CONVERSATION = {"conversation_id": fields.CONVERSATION_ID}
_MESSAGE = {"message_id": fields.MESSAGE_ID}
_TOKEN = {"token_id": fields.TOKEN_ID}
_REQUEST = {"request_id": fields.REQUEST_ID}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "users.list",
        "GET",
        "/v1/users",
        "List users, newest first",
        models.Page[models.User],
        scope="users:read",
        params=models.UserListParams,
    ),
    Operation(
        "users.create",
        "POST",
        "/v1/users",
        "Create a user",
        models.User,
        scope="users:write",
        body=models.UserCreate,
        status=201,
        entity_tag=True,
        can_fail=(errors.ALREADY_EXISTS,),
    ),
    Operation(
        "users.get",
        "GET",
        "/v1/users/{user_id}",
        "Read a user",
        models.User,
        scope="users:read",
        ids=_USER,
        entity_tag=True,
    ),
    Operation(
        "users.replace",
        "PUT",
        "/v1/users/{user_id}",
        "Replace a user",
        models.User,
        scope="users:write",
        body=models.UserReplace,
        ids=_USER,
        entity_tag=True,
        can_fail=(errors.ALREADY_EXISTS,),
    ),
    Operation(
        "users.update",
        "PATCH",
        "/v1/users/{user_id}",
        "Change some fields of a user",
        models.User,
        scope="users:write",
        body=models.UserPatch,
        ids=_USER,
        entity_tag=True,
        can_fail=(errors.ALREADY_EXISTS,),
    ),
    Operation(
        "users.delete",
        "DELETE",
        "/v1/users/{user_id}",
        "Delete a user, with all conversations and messages",
        models.Deleted,
        scope="users:write",
        ids=_USER,
        entity_tag=True,
    ),
    Operation(
        "conversations.list",
        "GET",
        "/v1/conversations",
        "List conversations, newest first",
        models.Page[models.Conversation],
        scope="conversations:read",
        params=models.ConversationListParams,
    ),
    Operation(
        "conversations.create",
        "POST",
        "/v1/conversations",
        "Start a conversation",
        models.Conversation,
        scope="conversations:write",
        body=models.ConversationCreate,
        status=201,
    ),
    Operation(
        "conversations.get",
        "GET",
        "/v1/conversations/{conversation_id}",
        "Read a conversation",
        models.Conversation,
        scope="conversations:read",
        ids=_CONVERSATION,
    ),
    Operation(
        "conversations.messages",
        "GET",
        "/v1/conversations/{conversation_id}/messages",
        "List a conversation's messages, newest first",
        models.Page[models.Message],
        scope="conversations:read",
        params=models.MessageListParams,
        ids=_CONVERSATION,
    ),
    Operation(
        "conversations.assign",
        "POST",
        "/v1/conversations/{conversation_id}/assign",
        "Assign a conversation",
        models.Conversation,
        scope="conversations:write",
        body=models.ConversationAssign,
        ids=_CONVERSATION,
        can_fail=(errors.CONVERSATION_CLOSED,),
    ),
    Operation(
        "conversations.close",
        "POST",
        "/v1/conversations/{conversation_id}/close",
        "Close a conversation",
        models.Conversation,
        scope="conversations:write",
        body=models.NoFields,
        body_optional=True,
        ids=_CONVERSATION,
        can_fail=(errors.CONVERSATION_CLOSED,),
    ),
    Operation(
        "messages.create",
        "POST",
        "/v1/messages",
        "Add a message to a conversation",
        models.Message,
        scope="messages:write",
        body=models.MessageCreate,
        status=201,
        can_fail=(errors.CONVERSATION_CLOSED,),
    ),
    Operation(
        "messages.get",
        "GET",
        "/v1/messages/{message_id}",
        "Read a message",
        models.Message,
        scope="conversations:read",
        ids=_MESSAGE,
    ),
    Operation(
        "tags.list",
        "GET",
        "/v1/tags",
        "List tags by name, with how many users have each",
        models.Page[models.TagCount],
        scope="tags:read",
        params=models.ListParams,
    ),
    Operation(
        "tags.create",
        "POST",
        "/v1/tags",
        "Tag a user",
        models.Tag,
        scope="tags:write",
        body=models.TagCreate,
        status=201,
        can_fail=(errors.LIMIT_REACHED,),
    ),
    Operation(
        "tokens.list",
        "GET",
        "/v1/tokens",
        "List the tokens of this environment, newest first",
        models.Page[models.Token],
        scope="tokens:admin",
        params=models.TokenListParams,
    ),
    Operation(
        "tokens.create",
        "POST",
        "/v1/tokens",
        "Create a token; its secret is shown this once",
        models.NewToken,
        scope="tokens:admin",
        body=models.TokenCreate,
        status=201,
        secret=True,
    ),
    Operation(
        "tokens.rotate",
        "POST",
        "/v1/tokens/{token_id}/rotate",
        "Replace a token; the old one stays valid for the overlap",
        models.RotatedToken,
        scope="tokens:admin",
        body=models.TokenRotate,
        body_optional=True,
        ids=_TOKEN,
        status=201,
        secret=True,
        can_fail=(errors.TOKEN_INACTIVE,),
    ),
    Operation(
        "tokens.revoke",
        "DELETE",
        "/v1/tokens/{token_id}",
        "Revoke a token at once",
        models.Deleted,
        scope="tokens:admin",
        ids=_TOKEN,
    ),
    Operation(
        "requests.list",
        "GET",
        "/v1/requests",
        "Search the log of this environment's requests, newest first",
        models.Page[logged.LoggedRequest],
        scope="requests:read",
        params=logged.RequestListParams,
    ),
    Operation(
        "requests.get",
        "GET",
        "/v1/requests/{request_id}",
        "Explain a request: its checks, cause, fix, tries, and what was different",
        explained.ExplainedRequest,
        scope="requests:read",
        params=explained.ExplainParams,
        ids=_REQUEST,
    ),
    Operation(
        "me.get",
        "GET",
        "/v1/me",
        "Read who the caller is and what it may do",
        models.Me,
    ),
    Operation(
        "errors.list",
        "GET",
        "/v1/errors",
        "List every reason an error can have",
        models.Catalogue,
        public=True,
    ),
    Operation(
        "errors.get",
        "GET",
        "/v1/errors/{reason}",
        "Explain one reason",
        models.CatalogueEntry,
        public=True,
        can_fail=(errors.RESOURCE_NOT_FOUND,),
    ),
    Operation(
        "service.live",
        "GET",
        "/livez",
        "Is the process alive?",
        models.Live,
        public=True,
        probe=True,
    ),
    Operation(
        "service.ready",
        "GET",
        "/readyz",
        "Can it work?",
        models.Ready,
        public=True,
        probe=True,
        can_fail=(errors.STORE_UNAVAILABLE, errors.SHUTTING_DOWN),
    ),
    Operation(
        "service.metrics",
        "GET",
        "/metrics",
        "What the server counts, for Prometheus",
        None,
        public=True,
        probe=True,
        answer_type=PLAIN,
    ),
    Operation("service.openapi", "GET", "/openapi.json", "The OpenAPI document", None, public=True),
    Operation(
        "service.explain",
        "GET",
        "/docs/errors/{reason}",
        "One reason as a page",
        None,
        public=True,
        can_fail=(errors.RESOURCE_NOT_FOUND,),
        answer_type=MARKDOWN,
        other_types=(HTML, JSON),
    ),
)

BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
