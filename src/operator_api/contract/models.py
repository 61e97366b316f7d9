"""Request and response bodies and query parameters, shared by the server, its clients and OpenAPI.

Requests are strict: unknown fields are refused and nothing is converted. A field that a change
may leave out but not set to null has a ``default_factory``: it keeps the default out of the schema.
"""

from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from operator_api.contract.errors import Action, ErrorType, Outcome, Place
from operator_api.contract.fields import (
    AccountId,
    ConversationId,
    Email,
    Known,
    MessageId,
    MessageText,
    Moment,
    Name,
    Phone,
    TagName,
    Timestamp,
    TokenId,
    UserId,
    UserIdFilter,
    parse_whole_number,
    read_integral,
)
from operator_api.contract.scopes import SCOPES, Environment, Preset, Scope

Item = TypeVar("Item")
Channel = Literal["web", "whatsapp", "slack", "email", "sms", "messenger", "api"]
ConversationStatus = Literal["open", "pending", "closed"]
MessageType = Literal["user", "agent"]
TokenStatus = Literal["active", "expired", "revoked"]

MAX_TAGS = 50
MAX_OVERLAP_SECONDS = 7 * 86_400


class RequestBody(BaseModel):
    """What a caller sends. ``read_only`` names the fields that only the server sets."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class Resource(BaseModel):
    """What the server answers. Readers accept members and values that they do not know."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class NoFields(RequestBody):
    """A body that says nothing; it may be left out."""


# --- users ---

Tags = Annotated[list[TagName], Field(max_length=MAX_TAGS)]


class User(Resource):
    """A person who talks to the account."""

    id: UserId
    name: str | None
    email: str
    phone: str | None
    tags: list[str]
    created_at: Moment
    updated_at: Moment


class UserCreate(RequestBody):
    """A new user. Only the email is required; one email is used once per environment."""

    email: Email
    name: Name | None = None
    phone: Phone | None = None
    tags: Tags = Field(default_factory=list)


class UserReplace(UserCreate):
    """The whole user: what is left out is cleared."""


class UserPatch(RequestBody):
    """The fields to change (RFC 7396): null clears, what is left out stays."""

    email: Email = Field(default_factory=str)
    name: Name | None = None
    phone: Phone | None = None
    tags: Tags = Field(default_factory=list)


# --- conversations and messages ---


class Conversation(Resource):
    """An exchange with one user over one channel."""

    id: ConversationId
    user_id: UserId
    channel: Known[Channel]
    status: Known[ConversationStatus]
    assignee: str | None
    started_at: Moment
    closed_at: Moment | None


class ConversationCreate(RequestBody):
    """A new conversation with an existing user."""

    user_id: UserId
    channel: Channel
    status: Literal["open", "pending"] = "open"
    assignee: Name | None = None


class ConversationAssign(RequestBody):
    """Who takes the conversation; null gives it back."""

    assignee: Name | None


class Message(Resource):
    """One message of a conversation, by its user or by an agent."""

    id: MessageId
    conversation_id: ConversationId
    message: str
    type: Known[MessageType]
    created_at: Moment


class MessageCreate(RequestBody):
    """A new message in a conversation that is not closed."""

    conversation_id: ConversationId
    message: MessageText
    type: MessageType


# --- tags ---


class Tag(Resource):
    """A tag on a user."""

    user_id: UserId
    tag: str
    created_at: Moment


class TagCount(Resource):
    """A tag, and how many users have it."""

    tag: str
    count: int


class TagCreate(RequestBody):
    """The tag to put on a user; a user that has it already keeps it."""

    user_id: UserId
    tag: TagName


# --- tokens ---


class Token(Resource):
    """An API token, without its secret: ``hint`` shows the ends that people recognise."""

    id: TokenId
    name: str
    environment: Known[Environment]
    scopes: list[str]
    hint: str
    status: Known[TokenStatus]
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None


class NewToken(Token):
    """A token at its creation: the only time its secret is shown."""

    token: str


class RotatedToken(NewToken):
    """The successor of a token, with when the old one ends."""

    replaces: TokenId
    replaced_expires_at: Moment


def _not_given() -> Any:
    """Return what no JSON value is equal to."""
    return ()


class TokenCreate(RequestBody):
    """A new token of the caller's own environment, with scopes or a preset of them."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["scopes"]}, {"required": ["preset"]}]}
    )

    name: Name
    preset: Preset = Field(default_factory=_not_given)
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))] = Field(
        default_factory=_not_given, validate_default=True
    )
    environment: Environment = Field(default_factory=lambda: "test")
    expires_at: Timestamp | None = None

    @field_validator("scopes", mode="wrap")
    @classmethod
    def _or_preset(
        cls, scopes: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """Take scopes or a preset, one of them. A preset that is wrong is an error of its own."""
        preset = info.data.get("preset")
        if scopes == _not_given():
            if preset == _not_given():
                raise PydanticCustomError("required", "")
            return []
        if preset not in {None, _not_given()}:
            expected = "left out beside preset"
            raise PydanticCustomError("not_allowed_value", "", {"expected": expected})
        return validate(scopes)


class TokenRotate(RequestBody):
    """How long the old token stays valid: a day unless told, 0 where it has leaked."""

    overlap_seconds: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP_SECONDS), BeforeValidator(read_integral)
    ] = 86_400


class RateLimitInfo(Resource):
    """How many requests the token may make within how many seconds."""

    limit: int
    window_seconds: float


class Limits(Resource):
    """The limits that hold for the token."""

    rate: RateLimitInfo
    body_bytes: int


class Account(Resource):
    """The account a token belongs to."""

    id: AccountId
    name: str


class Me(Resource):
    """Who the caller is, and what it may do."""

    account: Account
    environment: Known[Environment]
    token_id: TokenId
    token_name: str
    scopes: list[str]
    expires_at: Moment | None
    limits: Limits


# --- errors and service ---


class RetryAdvice(Resource):
    """Whether the same request may succeed later, and what to do."""

    retryable: bool
    action: Known[Action]
    after_seconds: int | None


class FieldErrorInfo(Resource):
    """One wrong part of a request. ``fix`` is an RFC 6902 operation on the sent body."""

    place: Known[Place] = Field(alias="in")
    pointer: str
    field: str
    reason: str
    message: str
    did_you_mean: str | None
    fix: dict[str, Any] | None


class ErrorInfo(Resource):
    """What happened, whether it was done, and what to do next. ``code`` is the HTTP status."""

    code: int
    message: str
    type: Known[ErrorType]
    reason: str
    hint: str
    request_id: str
    doc_url: str
    log_url: str
    outcome: Known[Outcome]
    retry: RetryAdvice
    errors: list[FieldErrorInfo]
    metadata: dict[str, Any]


class Error(Resource):
    """The body of every answer of 400 and above."""

    error: ErrorInfo


class ProblemDetails(Error):
    """The same error as RFC 9457 has it: ``application/problem+json``."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


class CatalogueEntry(Resource):
    """One reason of the catalogue; ``of_field`` reasons stand in the ``errors`` list only."""

    reason: str
    status: int
    type: Known[ErrorType]
    title: str
    message: str
    hint: str
    causes: list[str]
    fix: str
    retry: RetryAdvice
    outcome: Known[Outcome]
    of_field: bool
    related: list[str]
    doc_url: str


class Catalogue(Resource):
    """Every reason that an error of this API can have."""

    data: list[CatalogueEntry]


class Deleted(Resource):
    """What a delete answers."""

    id: str
    deleted: Literal[True]


class Live(Resource):
    """The process answers."""

    status: Known[Literal["ok"]]


class Ready(Resource):
    """Whether the process can do its work, part by part."""

    status: Known[Literal["ready", "unavailable"]]
    checks: dict[str, str]


class Page(Resource, Generic[Item]):
    """One page of a list, newest first. ``next_cursor`` is null on the last page."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None


# --- query parameters ---


class Params(BaseModel):
    """The query parameters of an operation. They are text, so numbers are read from digits."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ListParams(Params):
    """Which page of a list."""

    limit: Annotated[
        int,
        Field(ge=1, le=100, description="How many to return."),
        BeforeValidator(parse_whole_number),
    ] = 20
    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="The previous page's `next_cursor`, unchanged; the filters must be the same.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    )


def _filter(description: str) -> Any:
    return Field(default=None, description=description)


class UserListParams(ListParams):
    """Filters of users."""

    email: Email | None = _filter("Only the user with this email; letter case makes no difference.")
    phone: Phone | None = _filter("Only users with this phone number.")
    tag: TagName | None = _filter("Only users with this tag.")
    created_after: Timestamp | None = _filter("Only users created after this time.")
    created_before: Timestamp | None = _filter("Only users created before this time.")


class ConversationListParams(ListParams):
    """Filters of conversations."""

    user_id: UserIdFilter | None = _filter("Only conversations with this user.")
    status: ConversationStatus | None = _filter("Only conversations of this status.")
    channel: Channel | None = _filter("Only conversations over this channel.")
    assignee: Name | None = _filter("Only conversations that are assigned to this name.")
    started_after: Timestamp | None = _filter("Only conversations started after this time.")
    started_before: Timestamp | None = _filter("Only conversations started before this time.")


class MessageListParams(ListParams):
    """Filters of a conversation's messages."""

    type: MessageType | None = _filter("Only messages by the user, or by agents.")


class TokenListParams(ListParams):
    """Filters of tokens."""

    status: TokenStatus | None = _filter("Only tokens of this status.")


@cache
def field_names(model: type[BaseModel]) -> frozenset[str]:
    """Name the fields that the model knows."""
    return frozenset(model.model_fields)


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's documented example."""
    return EXAMPLES[model]


_USER_ID = "usr_0197b1c2d3e4f5061718293a4b5c6d7e"
_CONVERSATION_ID = "cnv_0197b1c2d3e4f5061718293a4b5c6d7e"

EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    UserCreate: {"email": "ada@example.com", "name": "Ada Lovelace", "phone": "+14155550123"},
    UserReplace: {"email": "ada@example.com", "name": "Ada King", "tags": ["vip"]},
    UserPatch: {"phone": None, "tags": ["vip", "beta"]},
    ConversationCreate: {"user_id": _USER_ID, "channel": "web"},
    ConversationAssign: {"assignee": "grace"},
    MessageCreate: {"conversation_id": _CONVERSATION_ID, "message": "Hello!", "type": "user"},
    TagCreate: {"user_id": _USER_ID, "tag": "vip"},
    TokenCreate: {"name": "nightly import", "preset": "conversations"},
    TokenRotate: {"overlap_seconds": 3600},
    NoFields: {},
}
