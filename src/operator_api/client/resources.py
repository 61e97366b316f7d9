"""What can be called, resource by resource: one method for each row of the table of operations.

A method is its signature, its documentation and the ``Call`` it builds; ``methods.py`` sends it in
each of the modes. An argument that is left out is not sent. Times are ``datetime`` with a zone, or
RFC 3339 text; ids are positional, all else is by keyword. Every method raises what ``errors.py``
draws, and takes the options of ``call.py``.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Generic, Literal, Unpack

from operator_api.client.call import OMIT, Call, ChangeOptions, Omit, Options, WriteOptions, given
from operator_api.client.errors import RequestValidationError
from operator_api.client.methods import M, Resource, lists, reads, reveals, writes
from operator_api.contract.errors import Place
from operator_api.contract.explained import ExplainedRequest
from operator_api.contract.fields import format_timestamp, to_microseconds
from operator_api.contract.logged import LoggedRequest, StatusClass
from operator_api.contract.models import (
    Catalogue,
    CatalogueEntry,
    Channel,
    Conversation,
    ConversationStatus,
    Deleted,
    Live,
    Me,
    Message,
    MessageType,
    NewToken,
    Page,
    Ready,
    RotatedToken,
    Tag,
    TagCount,
    Token,
    TokenStatus,
    User,
)
from operator_api.contract.scopes import Environment, Preset, Scope
from operator_api.contract.validation import field_error


class Users(Resource[M]):
    """The people who talk to the account."""

    @lists
    def list(
        self,
        *,
        limit: int | Omit = OMIT,
        cursor: str | Omit | None = OMIT,
        email: str | Omit | None = OMIT,
        phone: str | Omit | None = OMIT,
        tag: str | Omit | None = OMIT,
        created_after: datetime | str | Omit | None = OMIT,
        created_before: datetime | str | Omit | None = OMIT,
        **options: Unpack[Options],
    ) -> Call[Page[User]]:
        """List users, newest first.

        ``limit`` is the size of a page, 1 to 100; ``email``, ``phone`` and ``tag`` are matched
        whole, the email in any letter case.
        """
        params = given(
            limit=limit,
            cursor=cursor,
            email=email,
            phone=phone,
            tag=tag,
            created_after=_time("users.list", "query", "created_after", created_after),
            created_before=_time("users.list", "query", "created_before", created_before),
        )
        return Call("users.list", params=params, options=options)

    @writes
    def create(
        self,
        *,
        email: str,
        name: str | Omit | None = OMIT,
        phone: str | Omit | None = OMIT,
        tags: Sequence[str] | Omit = OMIT,
        **options: Unpack[WriteOptions],
    ) -> Call[User]:
        """Create a user. Only the email is required; ``phone`` is E.164, such as +14155550123.

        An email that another user of the environment has raises ConflictError
        (``already_exists``), whose ``metadata`` has the ``existing_id``.
        """
        body = given(email=email, name=name, phone=phone, tags=_list(tags))
        return Call("users.create", body=body, options=options)

    @reads
    def get(self, user_id: str, **options: Unpack[Options]) -> Call[User]:
        """Read a user."""
        return Call("users.get", ids={"user_id": user_id}, options=options)

    @writes
    def replace(
        self,
        user_id: str,
        *,
        email: str,
        name: str | Omit | None = OMIT,
        phone: str | Omit | None = OMIT,
        tags: Sequence[str] | Omit = OMIT,
        **options: Unpack[ChangeOptions],
    ) -> Call[User]:
        """Replace a user: what is left out is cleared."""
        body = given(email=email, name=name, phone=phone, tags=_list(tags))
        return Call("users.replace", ids={"user_id": user_id}, body=body, options=options)

    @writes
    def update(
        self,
        user_id: str,
        *,
        email: str | Omit = OMIT,
        name: str | Omit | None = OMIT,
        phone: str | Omit | None = OMIT,
        tags: Sequence[str] | Omit = OMIT,
        **options: Unpack[ChangeOptions],
    ) -> Call[User]:
        """Change some fields of a user: None clears one, what is left out stays as it is."""
        body = given(email=email, name=name, phone=phone, tags=_list(tags))
        return Call("users.update", ids={"user_id": user_id}, body=body, options=options)

    @writes
    def delete(self, user_id: str, **options: Unpack[ChangeOptions]) -> Call[Deleted]:
        """Delete a user, with all conversations and messages."""
        return Call("users.delete", ids={"user_id": user_id}, options=options)


class Conversations(Resource[M]):
    """Exchanges with one user over one channel."""

    @lists
    def list(
        self,
        *,
        limit: int | Omit = OMIT,
        cursor: str | Omit | None = OMIT,
        user_id: str | Omit | None = OMIT,
        status: ConversationStatus | Omit | None = OMIT,
        channel: Channel | Omit | None = OMIT,
        assignee: str | Omit | None = OMIT,
        started_after: datetime | str | Omit | None = OMIT,
        started_before: datetime | str | Omit | None = OMIT,
        **options: Unpack[Options],
    ) -> Call[Page[Conversation]]:
        """List conversations, newest first. ``limit`` is the size of a page, 1 to 100."""
        params = given(
            limit=limit,
            cursor=cursor,
            user_id=user_id,
            status=status,
            channel=channel,
            assignee=assignee,
            started_after=_time("conversations.list", "query", "started_after", started_after),
            started_before=_time("conversations.list", "query", "started_before", started_before),
        )
        return Call("conversations.list", params=params, options=options)

    @writes
    def create(
        self,
        *,
        user_id: str,
        channel: Channel,
        status: Literal["open", "pending"] | Omit = OMIT,
        assignee: str | Omit | None = OMIT,
        **options: Unpack[WriteOptions],
    ) -> Call[Conversation]:
        """Start a conversation with a user; it is ``open`` unless told to be ``pending``."""
        body = given(user_id=user_id, channel=channel, status=status, assignee=assignee)
        return Call("conversations.create", body=body, options=options)

    @reads
    def get(self, conversation_id: str, **options: Unpack[Options]) -> Call[Conversation]:
        """Read a conversation."""
        ids = {"conversation_id": conversation_id}
        return Call("conversations.get", ids=ids, options=options)

    @lists
    def messages(
        self,
        conversation_id: str,
        *,
        limit: int | Omit = OMIT,
        cursor: str | Omit | None = OMIT,
        type: MessageType | Omit | None = OMIT,  # noqa: A002 - the contract's name of the parameter
        **options: Unpack[Options],
    ) -> Call[Page[Message]]:
        """List a conversation's messages, newest first; ``type`` says whose."""
        ids = {"conversation_id": conversation_id}
        params = given(limit=limit, cursor=cursor, type=type)
        return Call("conversations.messages", ids=ids, params=params, options=options)

    @writes
    def assign(
        self,
        conversation_id: str,
        *,
        assignee: str | None,
        **options: Unpack[WriteOptions],
    ) -> Call[Conversation]:
        """Say who takes the conversation; None gives it back.

        One that is closed raises ConflictError (``conversation_closed``).
        """
        ids = {"conversation_id": conversation_id}
        body = given(assignee=assignee)
        return Call("conversations.assign", ids=ids, body=body, options=options)

    @writes
    def close(self, conversation_id: str, **options: Unpack[WriteOptions]) -> Call[Conversation]:
        """Close a conversation; it takes no messages from then on.

        One that is closed already raises ConflictError (``conversation_closed``).
        """
        ids = {"conversation_id": conversation_id}
        return Call("conversations.close", ids=ids, options=options)


class Messages(Resource[M]):
    """What was said in conversations."""

    @writes
    def create(
        self,
        *,
        conversation_id: str,
        message: str,
        type: MessageType,  # noqa: A002 - the contract's name of the field
        **options: Unpack[WriteOptions],
    ) -> Call[Message]:
        """Add a message to a conversation, by its ``user`` or by an ``agent``.

        A conversation that is closed raises ConflictError (``conversation_closed``).
        """
        body = given(conversation_id=conversation_id, message=message, type=type)
        return Call("messages.create", body=body, options=options)

    @reads
    def get(self, message_id: str, **options: Unpack[Options]) -> Call[Message]:
        """Read a message."""
        return Call("messages.get", ids={"message_id": message_id}, options=options)


class Tags(Resource[M]):
    """Tags on users."""

    @lists
    def list(
        self,
        *,
        limit: int | Omit = OMIT,
        cursor: str | Omit | None = OMIT,
        **options: Unpack[Options],
    ) -> Call[Page[TagCount]]:
        """List tags by name, with how many users have each."""
        return Call("tags.list", params=given(limit=limit, cursor=cursor), options=options)

    @writes
    def create(self, *, user_id: str, tag: str, **options: Unpack[WriteOptions]) -> Call[Tag]:
        """Tag a user. One that has the tag already keeps it, with the time it was first given."""
        return Call("tags.create", body=given(user_id=user_id, tag=tag), options=options)


class Tokens(Resource[M]):
    """API tokens of the caller's environment. All of this needs the scope ``tokens:admin``."""

    @lists
    def list(
        self,
        *,
        limit: int | Omit = OMIT,
        cursor: str | Omit | None = OMIT,
        status: TokenStatus | Omit | None = OMIT,
        **options: Unpack[Options],
    ) -> Call[Page[Token]]:
        """List tokens without their secrets, newest first."""
        params = given(limit=limit, cursor=cursor, status=status)
        return Call("tokens.list", params=params, options=options)

    @reveals
    def create(
        self,
        *,
        name: str,
        preset: Preset | Omit = OMIT,
        scopes: Sequence[Scope] | Omit = OMIT,
        environment: Environment | Omit = OMIT,
        expires_at: datetime | str | Omit | None = OMIT,
        **options: Unpack[WriteOptions],
    ) -> Call[NewToken]:
        """Create a token, with ``scopes`` or a ``preset`` of them. Its secret is shown this once.

        ``environment`` must be the caller's own, if it is given at all.
        """
        body = given(
            name=name,
            preset=preset,
            scopes=_list(scopes),
            environment=environment,
            expires_at=_time("tokens.create", "body", "expires_at", expires_at),
        )
        return Call("tokens.create", body=body, options=options)

    @reveals
    def rotate(
        self,
        token_id: str,
        *,
        overlap_seconds: int | Omit = OMIT,
        **options: Unpack[WriteOptions],
    ) -> Call[RotatedToken]:
        """Replace a token. The old one stays valid for the overlap: a day unless told.

        A token that has leaked is given 0. The new secret is shown this once.
        """
        body = given(overlap_seconds=overlap_seconds)
        return Call("tokens.rotate", ids={"token_id": token_id}, body=body, options=options)

    @writes
    def revoke(self, token_id: str, **options: Unpack[WriteOptions]) -> Call[Deleted]:
        """Revoke a token at once."""
        return Call("tokens.revoke", ids={"token_id": token_id}, options=options)


class Requests(Resource[M]):
    """The log of the environment's requests. All of this needs the scope ``requests:read``."""

    @lists
    def list(
        self,
        *,
        limit: int | Omit = OMIT,
        cursor: str | Omit | None = OMIT,
        status: int | Omit | None = OMIT,
        status_class: StatusClass | Omit | None = OMIT,
        reason: str | Omit | None = OMIT,
        operation: str | Omit | None = OMIT,
        token_id: str | Omit | None = OMIT,
        address: str | Omit | None = OMIT,
        client_request_id: str | Omit | None = OMIT,
        after: datetime | str | Omit | None = OMIT,
        before: datetime | str | Omit | None = OMIT,
        q: str | Omit | None = OMIT,
        **options: Unpack[Options],
    ) -> Call[Page[LoggedRequest]]:
        """Search the log, newest first. ``after`` and ``before`` are when requests began.

        Each word of ``q`` is a part of the operation, method, path or reason, or the whole of an
        id or the address.
        """
        params = given(
            limit=limit,
            cursor=cursor,
            status=status,
            status_class=status_class,
            reason=reason,
            operation=operation,
            token_id=token_id,
            address=address,
            client_request_id=client_request_id,
            after=_time("requests.list", "query", "after", after),
            before=_time("requests.list", "query", "before", before),
            q=q,
        )
        return Call("requests.list", params=params, options=options)

    @reads
    def get(
        self, request_id: str, *, reveal: bool | Omit = OMIT, **options: Unpack[Options]
    ) -> Call[ExplainedRequest]:
        """Explain a request: each check, the cause and the fix, all tries, what was different.

        ``request_id`` is that of an answer or of an exception. ``reveal`` shows the redacted bodies
        as well: it needs the scope ``requests:reveal``, and is put on record.
        """
        shown = str(reveal).lower() if isinstance(reveal, bool) else reveal
        ids = {"request_id": request_id}
        return Call("requests.get", ids=ids, params=given(reveal=shown), options=options)


class MyToken(Resource[M]):
    """The token that the calls are made with."""

    @reads
    def get(self, **options: Unpack[Options]) -> Call[Me]:
        """Read whose token it is, what it may do, until when, and within which limits."""
        return Call("me.get", options=options)


class Errors(Resource[M]):
    """The catalogue: every reason that an error of the API can have. It needs no token."""

    @reads
    def list(self, **options: Unpack[Options]) -> Call[Catalogue]:
        """List every reason, at once."""
        return Call("errors.list", options=options)

    @reads
    def get(self, reason: str, **options: Unpack[Options]) -> Call[CatalogueEntry]:
        """Explain one reason: its causes, its fix, and whether to try again."""
        return Call("errors.get", ids={"reason": reason}, options=options)


class Service(Resource[M]):
    """The server itself. It needs no token."""

    @reads
    def live(self, **options: Unpack[Options]) -> Call[Live]:
        """Ask whether the process is alive."""
        return Call("service.live", options=options)

    @reads
    def ready(self, **options: Unpack[Options]) -> Call[Ready]:
        """Ask whether the server can work; raise InternalServerError (503) where it cannot."""
        return Call("service.ready", options=options)

    @reads
    def metrics(self, **options: Unpack[Options]) -> Call[str]:
        """Read what the server counts, in Prometheus' text format."""
        return Call("service.metrics", options=options)

    @reads
    def openapi(self, **options: Unpack[Options]) -> Call[dict[str, Any]]:
        """Read the OpenAPI document."""
        return Call("service.openapi", options=options)

    @reads
    def explain(self, reason: str, **options: Unpack[Options]) -> Call[str]:
        """Read the page about one reason, as Markdown."""
        return Call("service.explain", ids={"reason": reason}, options=options)


class Resources(Generic[M]):
    """All that can be called, in one mode."""

    def __init__(self, mode: M) -> None:
        self.users = Users(mode)
        self.conversations = Conversations(mode)
        self.messages = Messages(mode)
        self.tags = Tags(mode)
        self.tokens = Tokens(mode)
        self.requests = Requests(mode)
        self.me = MyToken(mode)
        self.errors = Errors(mode)
        self.service = Service(mode)


# --- from what people have to what the contract takes ---


def _list(values: Any) -> Any:
    """Make a list of what is like one. A string is not: it would come apart into letters."""
    if isinstance(values, (Sequence, AbstractSet)) and not isinstance(values, (str, bytes, list)):
        return list(values)
    return values


def _time(operation: str, place: Place, name: str, value: Any) -> Any:
    """Write a datetime as RFC 3339 in UTC. Without a zone it could be any of 24 hours."""
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is not None:
        try:
            return format_timestamp(to_microseconds(value))
        except OverflowError:
            pass  # the first or the last day of all, and in UTC it is another one
    expected = "a time with a zone, such as datetime.now(UTC)"
    error = field_error(place, (name,), "invalid_format", expected=expected)
    raise RequestValidationError(error.message, operation=operation, errors=[error])
