"""Lists, whatever is listed: pages, cursors, and that each row comes exactly once."""

import base64
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from operator_api.contract.operations import Operation
from operator_api.server.cursors import Cursors
from tests.calls import LISTS, Records, create, make_records, mint, name_of, new_email, path_of
from tests.errors import assert_error
from tests.servers import Server

ROWS = 7


@pytest.fixture(scope="module")
def own(server: Server) -> Iterator[httpx2.Client]:
    """A client of an account of this module's own, in which every list has at least seven rows."""
    with server.client(mint(server, account="lists")) as client:
        yield client


@pytest.fixture(scope="module")
def records(own: httpx2.Client) -> Records:
    records = make_records(own)
    for number in range(ROWS):
        about = {"user_id": records.user_id}
        create(own, "/v1/users", email=new_email())
        create(own, "/v1/conversations", **about, channel="web")
        create(own, "/v1/tags", **about, tag=f"tag{number}")
        create(own, "/v1/tokens", name=str(number), preset="read-only")
        message = {"conversation_id": records.conversation_id, "message": "x", "type": "user"}
        create(own, "/v1/messages", **message)
    return records


def pages(client: httpx2.Client, path: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a list, each only when it is asked for."""
    while True:
        response = client.get(path, params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        assert list(page) == ["data", "has_more", "next_cursor"]
        assert page["has_more"] is (page["next_cursor"] is not None)
        yield page["data"]
        if not page["has_more"]:
            return
        query["cursor"] = page["next_cursor"]


def key_of(item: dict[str, Any]) -> str:
    return str(item.get("id") or item["tag"])


def keys(client: httpx2.Client, path: str, **query: Any) -> list[str]:
    return [key_of(item) for page in pages(client, path, **query) for item in page]


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_any_size_make_the_same_list(
    own: httpx2.Client, records: Records, operation: Operation, limit: int
) -> None:
    path = path_of(operation, records)
    whole = keys(own, path, limit=100)
    assert len(whole) >= ROWS
    assert keys(own, path, limit=limit) == whole
    assert len(set(whole)) == len(whole)
    by_name = operation.name == "tags.list"
    assert whole == sorted(whole, reverse=not by_name)


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_the_last_page_may_be_full(
    own: httpx2.Client, records: Records, operation: Operation
) -> None:
    path = path_of(operation, records)
    rows = len(keys(own, path, limit=100))
    sizes = [len(page) for page in pages(own, path, limit=rows)]
    assert sizes == [rows]
    assert [len(page) for page in pages(own, path, limit=rows - 1)] == [rows - 1, 1]


def test_twenty_are_shown_unless_told(own: httpx2.Client) -> None:
    for _ in range(21):
        create(own, "/v1/users", email=new_email())
    page = own.get("/v1/users").json()
    assert (len(page["data"]), page["has_more"]) == (20, True)


def test_an_empty_list_has_one_empty_page(server: Server) -> None:
    with server.client(mint(server, account="empty")) as client:
        for path in ("/v1/users", "/v1/conversations", "/v1/tags"):
            empty = {"data": [], "has_more": False, "next_cursor": None}
            assert client.get(path).json() == empty


def test_a_walk_gives_each_old_row_once_while_others_are_added(
    server: Server, own: httpx2.Client
) -> None:
    tag = f"walked-{new_email()}"
    old = [create(own, "/v1/users", email=new_email(), tags=[tag])["id"] for _ in range(30)]
    done = threading.Event()

    def add() -> None:
        with server.client(own.headers["authorization"].removeprefix("Bearer ")) as client:
            while not done.is_set():
                create(client, "/v1/users", email=new_email(), tags=[tag])

    writer = threading.Thread(target=add)
    writer.start()
    try:
        walked = keys(own, "/v1/users", limit=2, tag=tag)
    finally:
        done.set()
        writer.join()
    assert [each for each in walked if each in old] == sorted(old, reverse=True)
    assert len(set(walked)) == len(walked)


def test_a_walk_goes_on_where_its_rows_are_deleted(own: httpx2.Client) -> None:
    tag = f"deleted-{new_email()}"
    old = [create(own, "/v1/users", email=new_email(), tags=[tag])["id"] for _ in range(6)]
    walked = []
    for page in pages(own, "/v1/users", limit=2, tag=tag):
        walked += [each["id"] for each in page]
        for each in page:
            assert own.delete(f"/v1/users/{each['id']}").status_code == 200
    assert walked == sorted(old, reverse=True)


# --- cursors ---


def test_the_page_may_change_its_size_on_the_way(own: httpx2.Client, records: Records) -> None:
    whole = keys(own, "/v1/users", limit=100)
    first = own.get("/v1/users", params={"limit": 1}).json()
    rest = keys(own, "/v1/users", limit=3, cursor=first["next_cursor"])
    assert [first["data"][0]["id"], *rest] == whole


@pytest.mark.parametrize(
    ("path", "query", "other"),
    [
        ("/v1/users", {}, {"tag": "vip"}),
        ("/v1/users", {}, {"created_after": "2020-01-01T00:00:00Z"}),
        (
            "/v1/users",
            {"created_after": "2020-01-01T00:00:00Z"},
            {"created_after": "2020-01-02T00:00:00Z"},
        ),
        ("/v1/conversations", {}, {"status": "open"}),
        ("/v1/conversations", {"status": "open"}, {"channel": "web"}),
        ("/v1/tokens", {}, {"status": "active"}),
    ],
)
def test_a_cursor_is_refused_with_other_filters(
    own: httpx2.Client,
    records: Records,
    path: str,
    query: dict[str, str],
    other: dict[str, str],
) -> None:
    cursor = own.get(path, params={**query, "limit": 1}).json()["next_cursor"]
    assert own.get(path, params={**query, "cursor": cursor}).status_code == 200
    assert_error(own.get(path, params={**other, "cursor": cursor}), 400, "invalid_cursor")


def test_a_filter_that_says_the_same_otherwise_is_the_same(
    own: httpx2.Client, records: Records
) -> None:
    query = {"created_after": "2020-01-01T00:00:00Z", "limit": "1"}
    cursor = own.get("/v1/users", params=query).json()["next_cursor"]
    same = {"created_after": "2020-01-01T05:30:00.000+05:30", "cursor": cursor}
    assert own.get("/v1/users", params=same).status_code == 200


def test_a_cursor_is_good_for_its_own_list_only(own: httpx2.Client, records: Records) -> None:
    other = make_records(own)
    create(own, "/v1/messages", conversation_id=other.conversation_id, message="x", type="user")
    paths = [path_of(each, records) for each in LISTS]
    paths.append(f"/v1/conversations/{other.conversation_id}/messages")
    cursors = {path: own.get(path, params={"limit": 1}).json()["next_cursor"] for path in paths}
    for path in paths:
        for of, cursor in cursors.items():
            response = own.get(path, params={"cursor": cursor})
            if of == path:
                assert response.status_code == 200
            else:
                assert_error(response, 400, "invalid_cursor")


def test_a_cursor_that_was_changed_anywhere_is_refused(
    own: httpx2.Client, records: Records
) -> None:
    cursor = own.get("/v1/users", params={"limit": 1}).json()["next_cursor"]
    changed = {cursor[:-1], cursor + "A", cursor + "=", cursor + "!", cursor + " ", f"-{cursor}"}
    for place, letter in enumerate(cursor):
        changed.add(cursor[:place] + ("A" if letter != "A" else "B") + cursor[place + 1 :])
        changed |= {cursor[:place] + junk + cursor[place:] for junk in (".", "....", "!\n~ ")}
    for each in changed:
        assert_error(own.get("/v1/users", params={"cursor": each}), 400, "invalid_cursor")


def test_a_cursor_of_another_installation_is_refused(own: httpx2.Client, records: Records) -> None:
    forged = Cursors(b"another key").write(records.user_id, ["users.list", 1, {}, {}])
    assert_error(own.get("/v1/users", params={"cursor": forged}), 400, "invalid_cursor")


def test_a_cursor_names_no_more_than_a_place(own: httpx2.Client, records: Records) -> None:
    page = own.get("/v1/users", params={"limit": 1}).json()
    cursor = page["next_cursor"]
    readable = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert readable.endswith(page["data"][0]["id"].encode())
    assert len(readable) < 64
