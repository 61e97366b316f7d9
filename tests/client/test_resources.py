"""The methods are the table of operations, in every mode, and reach the real server."""

import inspect
import pickle
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Union, Unpack, get_args, get_origin

import httpx2
import pytest

from operator_api.client import resources
from operator_api.client.call import OMIT, Call, ChangeOptions, Omit, Options, WriteOptions
from operator_api.client.errors import RequestValidationError
from operator_api.client.methods import (
    Async,
    AsyncOutboxed,
    Mode,
    Outboxed,
    RawAsync,
    RawSync,
    Resource,
    Sync,
    lists,
    reads,
    reveals,
    writes,
)
from operator_api.client.pages import AsyncPage, AsyncPaginator, SyncPage
from operator_api.client.resources import Resources, Users
from operator_api.client.responses import RawResponse
from operator_api.contract.headers import JSON
from operator_api.contract.models import ListParams, Page, User
from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from tests.calls import Records, body_of, make_records, new_email
from tests.client.sending import AsyncSender, Sender
from tests.servers import Server

MODES = (Sync, Async, RawSync, RawAsync, Outboxed, AsyncOutboxed)

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)


def unsent(call: Call[Any]) -> Any:
    """Return the call itself."""
    return call


def in_mode(mode: type[Mode]) -> Resources[Any]:
    """Return the resources in a mode that sends nothing."""
    make: Any = mode
    return Resources(make(unsent, unsent) if mode in {RawSync, RawAsync} else make(unsent))


def written(operation: Operation) -> Any:
    """Return the descriptor of the operation's method, or say what to add."""
    resource = getattr(in_mode(Sync), operation.resource, None)
    name = operation.name.partition(".")[2]
    found = inspect.getattr_static(type(resource), name, None) if resource is not None else None
    assert found is not None, (
        f"{operation.name} is in the table of operations, and no client can call it: add the"
        f" method {name} to the class of Resources.{operation.resource} in client/resources.py"
    )
    return found


def builder(operation: Operation) -> Callable[..., Call[Any]]:
    written(operation)
    resource = getattr(in_mode(Sync), operation.resource)
    found: Callable[..., Call[Any]] = getattr(type(resource), operation.name.partition(".")[2])
    return found


def method(client: Resources[Any], operation: Operation) -> Any:
    return getattr(getattr(client, operation.resource), operation.name.partition(".")[2])


# --- each row has its method ---


def test_a_row_without_a_method_is_told() -> None:
    for name in ("users.merge", "webhooks.list"):
        new = Operation(name, "POST", "/v1/new", "A new one", User)
        with pytest.raises(AssertionError, match=rf"add the method {name.partition('.')[2]} to"):
            written(new)


def test_there_is_no_method_without_a_row() -> None:
    client = in_mode(Sync)
    methods = {
        f"{group}.{name}"
        for group, resource in vars(client).items()
        for name in vars(type(resource))
        if not name.startswith("_")
    }
    assert methods == set(BY_NAME)


def accepted(annotation: Any) -> Any:
    """Return what a caller may pass where the contract has this type."""
    if get_origin(annotation) is Annotated:
        return accepted(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return reduce(or_, map(accepted, get_args(annotation)))
    if get_origin(annotation) is list:
        return Sequence[accepted(get_args(annotation)[0])]  # type: ignore[misc] # made at run time
    return datetime | str if annotation is datetime else annotation


def expected_parameters(operation: Operation) -> dict[str, tuple[Any, Any, Any]]:
    """Return each parameter's kind, type and default, in no order."""
    expected: dict[str, tuple[Any, Any, Any]] = {}
    for name in re.findall(r"{(\w+)}", operation.path):
        expected[name] = (inspect.Parameter.POSITIONAL_OR_KEYWORD, str, inspect.Parameter.empty)
    model = operation.body or operation.params
    for name, field in model.model_fields.items():
        kind, takes = inspect.Parameter.KEYWORD_ONLY, accepted(field.annotation)
        if field.is_required():
            expected[name] = (kind, takes, inspect.Parameter.empty)
        else:
            expected[name] = (kind, takes | Omit, OMIT)
    options = (
        (ChangeOptions if operation.takes_if_match else WriteOptions)
        if operation.writes
        else Options
    )
    expected["options"] = (
        inspect.Parameter.VAR_KEYWORD,
        Unpack[options],
        inspect.Parameter.empty,
    )
    return expected


@each_operation
def test_a_method_takes_what_its_row_takes(operation: Operation) -> None:
    takes = {
        name: (each.kind, each.annotation, each.default)
        for name, each in inspect.signature(builder(operation)).parameters.items()
        if name != "self"
    }
    assert takes == expected_parameters(operation)


@each_operation
def test_a_method_says_what_its_row_answers(operation: Operation) -> None:
    answer: Any = operation.answer
    if answer is None:
        answer = dict[str, Any] if operation.answer_type == JSON else str
    assert inspect.signature(builder(operation)).return_annotation == Call[answer]


@each_operation
def test_a_method_is_of_the_kind_of_its_row(operation: Operation) -> None:
    kind: type = lists if issubclass(operation.params, ListParams) else reads
    if operation.writes:
        kind = reveals if operation.secret else writes
    assert type(written(operation)) is kind


@each_operation
def test_a_method_builds_the_call_of_its_row(operation: Operation) -> None:
    arguments = {
        name: f"the {name}" for name in expected_parameters(operation) if name != "options"
    }
    ids = {name: arguments[name] for name in re.findall(r"{(\w+)}", operation.path)}
    rest = {name: value for name, value in arguments.items() if name not in ids}
    call = builder(operation)(None, *ids.values(), **rest, timeout=2.5)
    assert call == Call(
        operation.name,
        ids=ids,
        params={} if operation.body else rest,
        body=rest if operation.body and rest else None,
        options={"timeout": 2.5},
    )


@each_operation
def test_what_is_left_out_is_not_sent(operation: Operation) -> None:
    expected = expected_parameters(operation)
    required = {
        name: "given"
        for name, (_, _, default) in expected.items()
        if default is inspect.Parameter.empty and name != "options"
    }
    call = builder(operation)(None, **required)
    assert {**call.ids, **call.params, **(call.body or {})} == required


# --- in every mode ---


@each_operation
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_the_method_or_refuses_it(mode: type[Mode], operation: Operation) -> None:
    client = in_mode(mode)
    if mode.keeps_only_writes and (not operation.writes or operation.secret):
        with pytest.raises(AttributeError, match="cannot go through the outbox"):
            method(client, operation)
        return
    bound = method(client, operation)
    of_builder = inspect.signature(builder(operation)).parameters
    assert [*inspect.signature(bound).parameters] == [*of_builder][1:]
    assert bound.__name__ == operation.name.partition(".")[2]
    assert bound.__doc__ == builder(operation).__doc__
    assert bound.__doc__
    assert method(client, operation) is bound, "it is made once"


@pytest.mark.parametrize(
    ("mode", "one", "many"),
    [
        (Sync, User, SyncPage[User]),
        (Async, User, AsyncPaginator[User]),
        (RawSync, RawResponse[User], RawResponse[SyncPage[User]]),
        (RawAsync, RawResponse[User], RawResponse[AsyncPage[User]]),
        (Outboxed, Any, None),
        (AsyncOutboxed, Any, None),
    ],
)
def test_a_signature_says_what_is_returned(mode: type[Mode], one: Any, many: Any) -> None:
    users = in_mode(mode).users
    assert inspect.signature(users.create).return_annotation == one
    assert inspect.get_annotations(users.create)["return"] == one
    if many is not None:
        assert inspect.signature(users.list).return_annotation == many


@pytest.mark.parametrize("mode", MODES)
def test_what_is_awaited_is_a_coroutine_function(mode: type[Mode]) -> None:
    awaited = mode in {Async, RawAsync, AsyncOutboxed}
    assert inspect.iscoroutinefunction(in_mode(mode).users.create) is awaited


def test_resources_do_not_share_what_they_bind() -> None:
    first, second = in_mode(Sync), in_mode(Sync)
    assert first.users.get is not second.users.get
    assert first.users.get is not first.messages.get


@pytest.mark.parametrize(
    ("misuse", "told"),
    [
        (lambda users: users.create(), "'email'"),
        (lambda users: users.create("ada@example.com"), "positional"),
        (lambda users: users.create(email="a@b.c", phnoe="1"), "'phnoe'. Did you mean 'phone'?"),
        (lambda users: users.get("usr_1", time_out=3), "'time_out'. Did you mean 'timeout'?"),
        (lambda users: users.get("usr_1", idempotency_key="k"), "'idempotency_key'"),
        (lambda users: users.create(email="a@b.c", if_match="*"), "'if_match'"),
        (lambda users: users.list(xyzzy=1), "'xyzzy'."),
    ],
)
def test_an_argument_that_there_is_not_is_refused(misuse: Any, told: str) -> None:
    with pytest.raises(TypeError, match=re.escape(told)):
        misuse(in_mode(Sync).users)


# --- what people have ---


@pytest.mark.parametrize("tags", [["a", "b"], ("a", "b"), {"a": 1, "b": 2}.keys()])
def test_what_is_like_a_list_becomes_one(tags: Any) -> None:
    call = in_mode(Sync).users.create(email="a@b.c", tags=tags)
    assert call.body == {"email": "a@b.c", "tags": ["a", "b"]}


@pytest.mark.parametrize("tags", ["vip", b"vip", None, 5])
def test_what_is_not_like_a_list_is_left_for_the_check(tags: Any) -> None:
    assert in_mode(Sync).users.create(email="a@b.c", tags=tags).body["tags"] == tags


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00.000000Z"),
        (
            datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-01-31T06:30:00.000005Z",
        ),
        ("2026-01-31T12:00:00+01:00", "2026-01-31T12:00:00+01:00"),
        (None, None),
    ],
)
def test_times_are_sent_in_utc(moment: Any, text: str | None) -> None:
    client = in_mode(Sync)
    assert client.tokens.create(name="a", expires_at=moment).body["expires_at"] == text
    call: Any = Users.list(None, created_after=moment)
    assert call.params["created_after"] == text


EARLIEST = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize("moment", [datetime(2026, 1, 31, 12), EARLIEST])  # noqa: DTZ001 - as people do
@pytest.mark.parametrize(
    ("operation", "place", "name"),
    [
        ("users.list", "query", "created_after"),
        ("users.list", "query", "created_before"),
        ("conversations.list", "query", "started_after"),
        ("conversations.list", "query", "started_before"),
        ("tokens.create", "body", "expires_at"),
    ],
)
def test_a_time_without_a_zone_is_refused(
    operation: str, place: str, name: str, moment: datetime
) -> None:
    with pytest.raises(RequestValidationError, match="with a zone") as raised:
        builder(BY_NAME[operation])(None, **{"name": "a", name: moment})
    assert raised.value.operation == operation
    (error,) = raised.value.errors
    assert (error.place, error.pointer, error.reason) == (place, f"#/{name}", "invalid_format")
    assert pickle.loads(pickle.dumps(raised.value)).errors == raised.value.errors  # noqa: S301 - ours


# --- against the real server ---


@pytest.fixture
async def async_api(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def arguments(operation: Operation, records: Records) -> tuple[list[str], dict[str, Any]]:
    """Return ids and fields that the server accepts."""
    ids = [getattr(records, name) for name in re.findall(r"{(\w+)}", operation.path)]
    return ids, body_of(operation, records) or {}


def assert_is_answer(operation: Operation, answer: Any, page: type[Any]) -> None:
    model = operation.answer
    if model is None:
        assert answer
        assert isinstance(answer, dict if operation.answer_type == JSON else str)
    elif issubclass(model, Page):
        assert type(answer) is page
        (item,) = model.__pydantic_generic_metadata__["args"]
        assert answer.data
        assert {type(each) for each in answer.data} == {item}
    else:
        assert type(answer) is model
        assert not answer.model_extra


@each_operation
def test_the_server_answers_each_call(api: httpx2.Client, operation: Operation) -> None:
    ids, body = arguments(operation, make_records(api))
    answer = method(Resources(Sync(Sender(api))), operation)(*ids, **body)
    assert_is_answer(operation, answer, SyncPage)


@each_operation
def test_the_server_answers_each_call_raw(api: httpx2.Client, operation: Operation) -> None:
    ids, body = arguments(operation, make_records(api))
    sender = Sender(api)
    raw = method(Resources(RawSync(sender.raw, sender)), operation)(*ids, **body)
    assert raw.status_code == operation.status
    assert raw.request_id
    assert_is_answer(operation, raw.parse(), SyncPage)


@each_operation
async def test_the_server_answers_each_awaited_call(
    api: httpx2.Client, async_api: httpx2.AsyncClient, operation: Operation
) -> None:
    ids, body = arguments(operation, make_records(api))
    answer = await method(Resources(Async(AsyncSender(async_api))), operation)(*ids, **body)
    assert_is_answer(operation, answer, AsyncPage)


@each_operation
async def test_the_server_answers_each_awaited_call_raw(
    api: httpx2.Client, async_api: httpx2.AsyncClient, operation: Operation
) -> None:
    ids, body = arguments(operation, make_records(api))
    sender = AsyncSender(async_api)
    raw = await method(Resources(RawAsync(sender.raw, sender)), operation)(*ids, **body)
    assert raw.status_code == operation.status
    assert_is_answer(operation, raw.parse(), AsyncPage)


async def test_an_outbox_keeps_the_calls(api: httpx2.Client) -> None:
    kept: list[Call[Any]] = []

    def keep(call: Call[Any]) -> int:
        kept.append(call)
        return len(kept)

    async def keep_awaited(call: Call[Any]) -> int:
        return keep(call)

    email = new_email()
    receipt = Resources(Outboxed(keep)).users.create(email=email, idempotency_key="k1")
    assert receipt == 1
    assert await Resources(AsyncOutboxed(keep_awaited)).users.delete("usr_1") == 2
    assert kept[0] == Call("users.create", body={"email": email}, options={"idempotency_key": "k1"})
    # What is kept is what would have been sent.
    assert Sender(api)(kept[0]).email == email


def test_each_resource_is_documented() -> None:
    public = [
        each
        for each in vars(resources).values()
        if inspect.isclass(each) and issubclass(each, Resource) and each is not Resource
    ]
    assert {type(each) for each in vars(in_mode(Sync)).values()} == set(public)
    assert all(each.__doc__ for each in public)
