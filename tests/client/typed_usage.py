"""What the type checker must say of the client. This is checked by mypy, and never run.

Each `type: ignore` is a mistake that mypy has to find: one that it does not find is an error here.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from datetime import datetime
from typing import Any, assert_type

from operator_api.client.methods import (
    Async,
    AsyncOutboxed,
    Outboxed,
    RawAsync,
    RawSync,
    Sync,
)
from operator_api.client.pages import AsyncPage, AsyncPaginator, SyncPage
from operator_api.client.resources import Resources
from operator_api.client.responses import RawResponse
from operator_api.contract.models import (
    Channel,
    Conversation,
    Deleted,
    Message,
    NewToken,
    TagCount,
    User,
)


class Receipt:
    """What an outbox gives."""


def sync(client: Resources[Sync]) -> None:
    user = client.users.create(email="ada@example.com", name=None, tags=("vip",))
    assert_type(user, User)
    assert_type(user.name, str | None)
    assert_type(user.created_at, datetime)
    assert_type(client.users.get(user.id, timeout=2.5), User)
    assert_type(client.users.update(user.id, phone=None, if_match='"1"'), User)
    assert_type(client.users.delete(user.id), Deleted)
    assert_type(client.tokens.create(name="a", scopes=["users:read"]), NewToken)
    assert_type(client.service.openapi(), dict[str, Any])
    assert_type(client.service.explain("required"), str)


def lists(client: Resources[Sync]) -> None:
    page = client.users.list(limit=10, created_after=datetime.now().astimezone())
    assert_type(page, SyncPage[User])
    assert_type(page.data, Sequence[User])
    assert_type(page.next_cursor, str | None)
    assert_type(page.get_next_page(), SyncPage[User])
    assert_type(iter(page), Iterator[User])
    assert_type(page.iter_pages(), Iterator[SyncPage[User]])
    assert_type(client.tags.list(), SyncPage[TagCount])
    assert_type(client.conversations.messages("cnv_1", type="agent"), SyncPage[Message])
    client.users.list(cursor=page.next_cursor)


def values(client: Resources[Sync]) -> None:
    conversation = client.conversations.get("cnv_1")
    # The known ones are completed by editors and compared as such; any other text may come.
    assert_type(conversation.channel, Channel | str)
    assert_type(conversation.closed_at, datetime | None)


def mistakes(client: Resources[Sync]) -> None:
    client.users.create()  # type: ignore[call-arg]  # the email is required
    client.users.create(email=None)  # type: ignore[arg-type]  # and no null
    client.users.create(email="a@b.c", mane="Ada")  # type: ignore[call-arg]  # no such field
    client.users.create("a@b.c")  # type: ignore[call-arg]  # fields are given by name
    client.users.update("usr_1", email=None)  # type: ignore[arg-type]  # it cannot be cleared
    client.users.get("usr_1", tiemout=3)  # type: ignore[call-arg]  # no such option
    client.users.get("usr_1", idempotency_key="k")  # type: ignore[call-arg]  # only for writes
    client.users.create(email="a@b.c", if_match="*")  # type: ignore[call-arg]  # nothing to match
    client.conversations.create(user_id="usr_1", channel="fax")  # type: ignore[arg-type]  # none
    client.conversations.create(
        user_id="usr_1",
        channel="web",
        status="closed",  # type: ignore[arg-type]  # it cannot begin closed
    )
    client.tokens.create(name="a", scopes=["users:reed"])  # type: ignore[list-item]  # no scope
    client.webhooks  # type: ignore[attr-defined]  # noqa: B018 - read only; there are none yet


async def awaited(client: Resources[Async]) -> None:
    coroutine: Coroutine[Any, Any, User] = client.users.get("usr_1")
    assert_type(await coroutine, User)
    assert_type(await client.users.create(email="ada@example.com"), User)
    paginator = client.conversations.list(status="open")
    assert_type(paginator, AsyncPaginator[Conversation])
    assert_type(await paginator, AsyncPage[Conversation])
    assert_type(aiter(paginator), AsyncIterator[Conversation])
    async for conversation in client.conversations.list():
        assert_type(conversation, Conversation)
    assert_type(await (await paginator).get_next_page(), AsyncPage[Conversation])
    client.users.get("usr_1")  # type: ignore[unused-coroutine]  # it must be awaited


def raw(client: Resources[RawSync]) -> None:
    assert_type(client.users.get("usr_1"), RawResponse[User])
    assert_type(client.users.get("usr_1").parse(), User)
    assert_type(client.users.list(), RawResponse[SyncPage[User]])


async def raw_awaited(client: Resources[RawAsync]) -> None:
    assert_type(await client.users.get("usr_1"), RawResponse[User])
    assert_type(await client.users.list(), RawResponse[AsyncPage[User]])


def outbox(client: Resources[Outboxed[Receipt]]) -> None:
    about = client.messages.create(conversation_id="cnv_1", message="Hello!", type="agent")
    assert_type(about, Receipt)
    assert_type(client.users.delete("usr_1", idempotency_key="k"), Receipt)
    client.users.get("usr_1")  # type: ignore[arg-type]  # a read is of no use later
    client.users.list()  # type: ignore[arg-type]  # nor is a list
    client.tokens.create(name="a")  # type: ignore[arg-type]  # its secret would be lost


async def outbox_awaited(client: Resources[AsyncOutboxed[Receipt]]) -> None:
    assert_type(await client.tags.create(user_id="usr_1", tag="vip"), Receipt)
    client.me.get()  # type: ignore[arg-type]  # a read is of no use later


def signature(client: Resources[Sync]) -> Callable[[str], User]:
    """Methods are handed on like any function."""
    return client.users.get
