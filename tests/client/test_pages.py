"""Lists are walked to their end, whatever their pages are like, and never beyond it."""

import itertools
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest

from operator_api.client.call import Call
from operator_api.client.errors import APIError, OperatorError
from operator_api.client.methods import Async, RawAsync, RawSync, Sync
from operator_api.client.pages import AsyncPage, AsyncPaginator, SyncPage
from operator_api.client.resources import Resources
from operator_api.contract.models import Page, TagCount
from tests.calls import create, new_email
from tests.client.sending import AsyncSender, Sender
from tests.servers import Server

USERS = 7


@pytest.fixture(scope="module")
def tag(api: httpx2.Client) -> str:
    """Return a tag that seven users have."""
    tag = f"pages-{secrets.token_hex(8)}"
    for _ in range(USERS):
        create(api, "/v1/users", email=new_email(), tags=[tag])
    return tag


@pytest.fixture
def sender(api: httpx2.Client) -> Sender:
    return Sender(api)


@pytest.fixture
async def async_sender(server: Server) -> AsyncIterator[AsyncSender]:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        yield AsyncSender(client)


# --- against the real server ---


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 100])
def test_iterating_goes_through_every_item_once(sender: Sender, tag: str, limit: int) -> None:
    users = list(Resources(Sync(sender)).users.list(tag=tag, limit=limit))
    assert len({user.id for user in users}) == len(users) == USERS
    assert [user.id for user in users] == sorted((user.id for user in users), reverse=True)
    assert len(sender.calls) == -(-USERS // limit)


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_awaited_iterating_goes_through_every_item_once(
    async_sender: AsyncSender, tag: str, limit: int
) -> None:
    client = Resources(Async(async_sender))
    users = [user async for user in client.users.list(tag=tag, limit=limit)]
    assert len({user.id for user in users}) == len(users) == USERS
    assert len(async_sender.calls) == -(-USERS // limit)


def test_pages_are_asked_for_when_they_are_needed(sender: Sender, tag: str) -> None:
    page = Resources(Sync(sender)).users.list(tag=tag, limit=2)
    assert len(sender.calls) == 1
    assert len([*itertools.islice(page, 2)]) == 2
    assert len(sender.calls) == 1
    assert len([*itertools.islice(page, 3)]) == 3
    assert len(sender.calls) == 2


def test_page_by_page(sender: Sender, tag: str) -> None:
    page = Resources(Sync(sender)).users.list(tag=tag, limit=3)
    sizes = [len(page.data)]
    while page.has_next_page():
        assert page.has_more
        page = page.get_next_page()
        sizes.append(len(page.data))
    assert sizes == [3, 3, 1]
    assert page.next_cursor is None
    with pytest.raises(OperatorError, match=re.escape("has_next_page()")):
        page.get_next_page()
    assert len(sender.calls) == 3


async def test_awaited_page_by_page(async_sender: AsyncSender, tag: str) -> None:
    listed = Resources(Async(async_sender)).users.list(tag=tag, limit=3)
    assert isinstance(listed, AsyncPaginator)
    assert async_sender.calls == []
    page = await listed
    sizes = [len(page.data)]
    while page.has_next_page():
        page = await page.get_next_page()
        sizes.append(len(page.data))
    assert sizes == [3, 3, 1]
    with pytest.raises(OperatorError, match=re.escape("has_next_page()")):
        await page.get_next_page()
    assert sizes == [len(page.data) async for page in listed.iter_pages()]
    assert sizes == [len(page.data) async for page in (await listed).iter_pages()]


def test_iterating_again_begins_with_the_same_page(sender: Sender, tag: str) -> None:
    page = Resources(Sync(sender)).users.list(tag=tag, limit=3)
    assert [user.id for user in page] == [user.id for user in page]
    assert [len(each.data) for each in page.iter_pages()] == [3, 3, 1]
    rest = page.get_next_page()
    assert [user.id for user in rest] == [user.id for user in page][3:]


def test_a_cursor_goes_on_where_a_page_ended(sender: Sender, tag: str) -> None:
    users = Resources(Sync(sender)).users
    page = users.list(tag=tag, limit=3)
    rest = users.list(tag=tag, limit=3, cursor=page.next_cursor)
    assert [user.id for user in rest] == [user.id for user in page][3:]


def test_the_next_page_is_asked_for_like_the_first(sender: Sender, tag: str) -> None:
    options: dict[str, Any] = {"timeout": 9.0, "max_retries": 1, "extra_headers": {"X-Mine": "1"}}
    page = Resources(Sync(sender)).users.list(tag=tag, limit=3, **options)
    assert len([*page]) == USERS
    first, *others = sender.calls
    assert first.params == {"tag": tag, "limit": 3}
    cursors = [call.params["cursor"] for call in others]
    assert len({*cursors}) == len(cursors) == 2
    for call, cursor in zip(others, cursors, strict=True):
        params = {"tag": tag, "limit": 3, "cursor": cursor}
        assert call == Call("users.list", params=params, options=options)


def test_a_list_of_a_record_keeps_its_id(sender: Sender, api: httpx2.Client) -> None:
    user = create(api, "/v1/users", email=new_email())
    conversation = create(api, "/v1/conversations", user_id=user["id"], channel="web")
    client = Resources(Sync(sender))
    for text in "abc":
        client.messages.create(conversation_id=conversation["id"], message=text, type="agent")
    sender.calls.clear()
    messages = client.conversations.messages(conversation["id"], limit=1, type="agent")
    assert [each.message for each in messages] == ["c", "b", "a"]
    assert {call.ids["conversation_id"] for call in sender.calls} == {conversation["id"]}


async def test_a_raw_list_is_read_as_the_list_itself(
    sender: Sender, async_sender: AsyncSender, tag: str
) -> None:
    raw = Resources(RawSync(sender.raw, sender)).users.list(tag=tag, limit=3)
    assert raw.headers["X-Request-Id"] == raw.request_id
    assert len([*raw.parse()]) == USERS
    client = Resources(RawAsync(async_sender.raw, async_sender))
    page = (await client.users.list(tag=tag, limit=3)).parse()
    assert isinstance(page, AsyncPage)
    assert len([user async for user in page]) == USERS


# --- what a server should not do ---


class Script:
    """Sends nothing: the pages lead from one cursor to the next, and from the last nowhere."""

    def __init__(self, cursors: Sequence[str | None], *, size: int = 1) -> None:
        self._cursors = cursors
        self._size = size
        self.sent = 0

    def __call__(self, _call: Call[Any]) -> Any:
        cursor = self._cursors[self.sent]
        self.sent += 1
        tag = TagCount(tag=f"tag {self.sent}", count=1)
        return Page[TagCount](
            data=[tag] * self._size, has_more=cursor is not None, next_cursor=cursor
        )

    async def awaited(self, call: Call[Any]) -> Any:
        return self(call)


CIRCLES = {
    "to itself": ["a"] * 9,
    "of two": ["a", "b"] * 9,
    "of three": ["a", "b", "c"] * 9,
    "of seven": [*"abcdefg"] * 9,
    "after a while": [*"123456789", *["a", "b", "c"] * 20],
}
circles = pytest.mark.parametrize("cursors", CIRCLES.values(), ids=CIRCLES)


@circles
def test_a_list_that_goes_in_circles_is_an_error(cursors: Sequence[str]) -> None:
    script = Script(cursors)
    with pytest.raises(APIError, match=re.escape("tags.list answered a next_cursor that led here")):
        list(Resources(Sync(script)).tags.list())
    assert script.sent < len(cursors)


@circles
async def test_an_awaited_list_that_goes_in_circles_is_an_error(cursors: Sequence[str]) -> None:
    script = Script(cursors)
    with pytest.raises(APIError, match="fault of the server"):
        [tag async for tag in Resources(Async(script.awaited)).tags.list()]
    assert script.sent < len(cursors)


@circles
def test_walking_by_hand_in_circles_is_an_error(cursors: Sequence[str]) -> None:
    page = Resources(Sync(Script(cursors))).tags.list()

    def walk(page: SyncPage[TagCount]) -> None:
        while page.has_next_page():
            page = page.get_next_page()

    with pytest.raises(APIError, match="would never end"):
        walk(page)


def test_a_page_that_leads_to_itself_is_seen_at_once() -> None:
    script = Script(["a", "a", "a", "a"])
    with pytest.raises(APIError):
        list(Resources(Sync(script)).tags.list())
    assert script.sent == 2
    script = Script(["a", "a"])
    with pytest.raises(APIError):
        Resources(Sync(script)).tags.list(cursor="a").get_next_page()
    assert script.sent == 1


def test_a_long_list_is_no_circle() -> None:
    cursors = [*map(str, range(3000)), None]
    assert len([*Resources(Sync(Script(cursors))).tags.list()]) == 3001


def test_an_empty_page_is_not_the_end() -> None:
    script = Script(["a", "b", None], size=0)
    assert list(Resources(Sync(script)).tags.list()) == []
    assert script.sent == 3


def test_a_page_shows_none_of_its_items() -> None:
    page = Resources(Sync(Script(["a", None]))).tags.list()
    assert repr(page) == "<SyncPage of tags.list: 1 items, and there are more>"
    assert repr(page.get_next_page()) == "<SyncPage of tags.list: 1 items>"
