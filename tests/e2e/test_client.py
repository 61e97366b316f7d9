"""The real clients against the real server: each operation, and what the contract promises."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.client import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from operator_api.client.call import Call
from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.server.auth import mint as mint_secret
from tests.calls import (
    Records,
    body_of,
    make_records,
    mint,
    missing_id,
    name_of,
    names_records,
    new_email,
)
from tests.client.both import BOTH, Client, Kind, me
from tests.servers import Server, running

pytestmark = BOTH
Ask = Callable[[Any], Any]


@asynccontextmanager
async def opened(kind: Kind, server: Server, token: str = "") -> AsyncIterator[Client]:
    async with kind.open(server.url, api_key=token or server.token) as client:
        yield client


def method_of(api: Any, operation: Operation) -> Any:
    resource, _, method = operation.name.partition(".")
    return getattr(getattr(api, resource), method)


def asking(operation: Operation, records: Records, **options: Any) -> Ask:
    """Return the call of an operation as a program makes it: by its method."""
    ids = [value for name, value in asdict(records).items() if f"{{{name}}}" in operation.path]
    body = body_of(operation, records) or {}
    return lambda api: method_of(api, operation)(*ids, **body, **options)


# --- each operation ---


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
async def test_each_operation(
    kind: Kind, operation: Operation, server: Server, api: httpx2.Client
) -> None:
    records = make_records(api)
    async with opened(kind, server) as client:
        answer = await client.do(asking(operation, records))
        if operation.name.endswith((".list", ".messages")):
            assert all(type(item).__name__ for item in getattr(answer, "data", []))
        elif operation.answer is not None:
            assert isinstance(answer, operation.answer)
        else:
            assert isinstance(answer, dict | str)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
async def test_each_operation_gives_its_answer_as_it_came(
    kind: Kind, operation: Operation, server: Server, api: httpx2.Client
) -> None:
    records = make_records(api)
    async with opened(kind, server) as client:
        ask = asking(operation, records)
        raw = await client.do(lambda api: ask(api.with_raw_response))
        assert raw.status_code == operation.status
        assert raw.request_id == raw.headers["X-Request-Id"]
        assert raw.request_id.startswith("req_")
        assert raw.attempts == 1
        assert raw.content
        assert raw.parse() is not None


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.writes and not each.secret], ids=name_of
)
async def test_each_write_is_done_once_under_one_key(
    kind: Kind, operation: Operation, server: Server, api: httpx2.Client
) -> None:
    ask = asking(operation, make_records(api), idempotency_key=f"key-{new_email()}")
    async with opened(kind, server) as client:
        body = await client.do(lambda api: ask(api.with_raw_response))
        again = await client.do(lambda api: ask(api.with_raw_response))
        assert "Idempotent-Replayed" not in body.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (body.content, body.request_id) == (again.content, again.request_id)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if names_records(each) and not each.public],
    ids=name_of,
)
async def test_each_operation_says_what_is_not_there(
    kind: Kind, operation: Operation, server: Server, api: httpx2.Client
) -> None:
    records = make_records(api).missing()
    async with opened(kind, server) as client:
        error = await client.fails(asking(operation, records))
        assert isinstance(error, NotFoundError | UnprocessableEntityError)
        assert error.request_id is not None
        assert error.request_id in str(error)
        assert error.attempts == 1


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if not each.public], ids=name_of)
async def test_each_operation_refuses_a_token_that_is_none(
    kind: Kind, operation: Operation, server: Server, api: httpx2.Client
) -> None:
    async with opened(kind, server, mint_secret("test")) as client:
        error = await client.fails(asking(operation, make_records(api)))
        assert type(error) is AuthenticationError
        assert (error.status_code, error.reason, error.attempts) == (401, "invalid_token", 1)
        assert error.outcome == "not_executed"


# --- entity tags ---


async def test_a_change_can_be_made_to_what_was_read_alone(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        user = await client.do(lambda api: api.users.create(email=new_email()))
        read = await client.do(lambda api: api.with_raw_response.users.get(user.id))
        tag = read.headers["ETag"]
        changed = await client.do(lambda api: api.users.update(user.id, name="Ada", if_match=tag))
        assert changed.name == "Ada"
        error = await client.fails(lambda api: api.users.update(user.id, name="Bo", if_match=tag))
        assert isinstance(error, APIStatusError)
        assert (error.status_code, error.reason) == (412, "precondition_failed")
        assert error.outcome == "not_executed"
        assert (await client.do(lambda api: api.users.get(user.id))).name == "Ada"
        await client.do(lambda api: api.users.delete(user.id, if_match="*"))


async def test_a_field_that_is_none_is_cleared_and_one_left_out_is_kept(
    kind: Kind, server: Server
) -> None:
    async with opened(kind, server) as client:
        user = await client.do(
            lambda api: api.users.create(email=new_email(), name="Ada", tags=["vip"])
        )
        kept = await client.do(lambda api: api.users.update(user.id, tags=["a", "b"]))
        assert (kept.name, [*kept.tags]) == ("Ada", ["a", "b"])
        cleared = await client.do(lambda api: api.users.update(user.id, name=None))
        assert (cleared.name, [*cleared.tags]) == (None, ["a", "b"])
        replaced = await client.do(lambda api: api.users.replace(user.id, email=user.email))
        assert [*replaced.tags] == []


# --- lists ---


async def test_pages_are_walked_to_the_end(kind: Kind, server: Server) -> None:
    token = await asyncio.to_thread(mint, server, account=f"pages of {kind} {new_email()}")
    async with opened(kind, server, token) as client:
        made = await client.all([creating(new_email()) for _ in range(251)])
        ids = {user.id for user in made}
        assert len(ids) == 251
        for limit in (100, 7):
            found = await client.items(listing(limit))
            assert len(found) == 251
            assert {user.id for user in found} == ids
        page = await client.do(lambda api: api.users.list(limit=100))
        sizes = [len(page.data)]
        while page.has_next_page():
            page = await client.do(next_of(page))
            sizes.append(len(page.data))
        assert sizes == [100, 100, 51]
        assert page.next_cursor is None


def listing(limit: int) -> Ask:
    return lambda api: api.users.list(limit=limit)


def next_of(page: Any) -> Ask:
    return lambda _: page.get_next_page()


def talking(user_id: str) -> Ask:
    return lambda api: api.conversations.create(user_id=user_id, channel="web")


def saying(conversation_id: str, text: str) -> Ask:
    return lambda api: api.messages.create(
        conversation_id=conversation_id, message=text, type="user"
    )


def reading(message_id: str) -> Ask:
    return lambda api: api.messages.get(message_id)


def creating(email: str) -> Ask:
    return lambda api: api.users.create(email=email, tags=["of-many"])


async def test_filters_go_with_each_page(kind: Kind, server: Server) -> None:
    token = await asyncio.to_thread(mint, server, account=f"filters of {kind} {new_email()}")
    async with opened(kind, server, token) as client:
        before = datetime.now(UTC) - timedelta(minutes=5)
        users = await client.all([creating(new_email()) for _ in range(3)])
        for user in users[:2]:
            for _ in range(5):
                await client.do(talking(user.id))
        found = await client.items(
            lambda api: api.conversations.list(
                user_id=users[0].id, limit=2, started_after=before, status="open"
            )
        )
        assert len(found) == 5
        assert {each.user_id for each in found} == {users[0].id}
        nothing = await client.items(lambda api: api.users.list(created_before=before))
        assert nothing == []


# --- a conversation ---


async def test_a_conversation_from_its_start_to_its_end(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        do = client.do
        user = await do(lambda api: api.users.create(email=new_email(), phone="+14155550123"))
        conversation = await do(
            lambda api: api.conversations.create(user_id=user.id, channel="whatsapp")
        )
        texts = ["Hello!", "Zoë, 你好 👋", "x" * 10_000]
        for text in texts:
            sent = await do(saying(conversation.id, text))
            assert (await do(reading(sent.id))).message == text
        found = await client.items(lambda api: api.conversations.messages(conversation.id))
        assert sorted(each.message for each in found) == sorted(texts)
        assigned = await do(lambda api: api.conversations.assign(conversation.id, assignee="Bo"))
        assert assigned.assignee == "Bo"
        closed = await do(lambda api: api.conversations.close(conversation.id))
        assert closed.status == "closed"
        assert closed.closed_at.tzinfo is UTC
        error = await client.fails(lambda api: api.conversations.close(conversation.id))
        assert isinstance(error, ConflictError)
        assert error.reason == "conversation_closed"


# --- errors ---


async def test_a_conflict_says_with_what(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        email = new_email()
        user = await client.do(lambda api: api.users.create(email=email))
        error = await client.fails(lambda api: api.users.create(email=email.upper()))
        assert isinstance(error, ConflictError)
        assert error.metadata["existing_id"] == user.id
        assert str(error).startswith("409 already_exists: ")
        assert str(error).endswith(f"({error.request_id}, see {error.doc_url})")
        assert email not in str(error)


async def test_a_key_with_another_body_is_refused(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        key = new_email()
        await client.do(lambda api: api.users.create(email=new_email(), idempotency_key=key))
        error = await client.fails(
            lambda api: api.users.create(email=new_email(), idempotency_key=key)
        )
        assert isinstance(error, UnprocessableEntityError)
        assert error.reason == "idempotency_key_reused"


async def test_what_the_server_alone_can_know_has_its_field(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        error = await client.fails(
            lambda api: api.conversations.create(user_id=missing_id("usr_"), channel="web")
        )
        assert isinstance(error, UnprocessableEntityError)
        (field,) = error.errors
        assert (field.pointer, field.reason) == ("#/user_id", "not_found")


async def test_a_missing_scope_is_named(kind: Kind, server: Server) -> None:
    token = await asyncio.to_thread(mint, server, scopes=["users:read"])
    async with opened(kind, server, token) as client:
        error = await client.fails(lambda api: api.users.create(email=new_email()))
        assert isinstance(error, PermissionDeniedError)
        assert error.metadata["missing"] == ["users:write"]


async def test_a_bad_cursor_is_a_bad_request(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        error = await client.fails(lambda api: api.users.list(cursor="2"))
        assert isinstance(error, BadRequestError)
        assert error.reason == "invalid_cursor"


async def test_the_callers_own_name_of_a_request_reaches_the_server(
    kind: Kind, server: Server
) -> None:
    async with opened(kind, server) as client:
        raw = await client.do(
            lambda api: api.with_raw_response.me.get(extra_headers={"X-Request-Id": "mine-1"})
        )
        assert raw.request_id != "mine-1"


async def test_a_limit_is_told_with_how_long_to_wait(kind: Kind, tmp_path: Path) -> None:
    with running(tmp_path / "data", OPERATOR_RATE_LIMIT="3/600s") as limited:
        async with opened(kind, limited) as other, opened(kind, limited) as client:
            for _ in range(3):
                await other.do(me)
            # Who has been told that nothing is left does not ask.
            told = await other.fails(me)
            assert (told.attempts, told.outcome) == (0, "not_executed")
            assert told.retry_after == pytest.approx(200, abs=5)
            error = await client.fails(me)
            # 200 s are asked for, which is more than anybody is kept waiting.
            assert isinstance(error, RateLimitError)
            assert (error.reason, error.attempts, error.outcome) == (
                "rate_limited",
                1,
                "not_executed",
            )
            assert error.retry_after == pytest.approx(200, abs=5)


async def test_a_call_as_a_value_is_what_its_method_makes(kind: Kind, server: Server) -> None:
    async with opened(kind, server) as client:
        email = new_email()
        user = await client.do(lambda api: api.send(Call("users.create", body={"email": email})))
        assert user.email == email


async def test_clients_of_both_kinds_work_side_by_side(kind: Kind, server: Server) -> None:
    other = Kind("async" if kind.blocks else "sync")
    async with opened(kind, server) as one, opened(other, server) as two:
        answers = await asyncio.gather(one.all([me] * 10), two.all([me] * 10))
        assert {each.environment for group in answers for each in group} == {"test"}
