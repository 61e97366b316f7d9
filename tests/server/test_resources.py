"""Users, conversations, messages, tags and me: what they do, and what the stored state refuses."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from operator_api.contract.models import MAX_TAGS
from tests.calls import create, make_records, mint, missing_id, new_email
from tests.errors import assert_error
from tests.servers import Server

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def new_user(api: httpx2.Client, **fields: Any) -> dict[str, Any]:
    return create(api, "/v1/users", **{"email": new_email(), **fields})


def new_conversation(api: httpx2.Client, **fields: Any) -> dict[str, Any]:
    return create(
        api, "/v1/conversations", **{"user_id": new_user(api)["id"], "channel": "web", **fields}
    )


def read(api: httpx2.Client, path: str, **query: Any) -> Any:
    response = api.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def found(api: httpx2.Client, path: str, **query: Any) -> list[str]:
    return [each["id"] for each in read(api, path, limit=100, **query)["data"]]


# --- users ---


def test_a_user_is_what_was_sent_and_what_the_server_sets(api: httpx2.Client) -> None:
    email = new_email()
    user = new_user(api, email=email, name="Ada", phone="+14155550123", tags=["vip", "beta", "vip"])
    assert list(user) == ["id", "name", "email", "phone", "tags", "created_at", "updated_at"]
    assert user["id"].startswith("usr_")
    assert (user["email"], user["name"], user["phone"]) == (email, "Ada", "+14155550123")
    assert user["tags"] == ["beta", "vip"]
    assert user["created_at"] == user["updated_at"]
    assert read(api, f"/v1/users/{user['id']}") == user


def test_only_the_email_is_required(api: httpx2.Client) -> None:
    user = new_user(api)
    assert (user["name"], user["phone"], user["tags"]) == (None, None, [])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{}@example.com", "{}@example.com"),
        ("{}@example.com", "{}@EXAMPLE.com"),
        ("Ada.{}@example.com", "aDA.{}@example.com"),
        ("jürgen.{}@exämple.de", "JÜRGEN.{}@EXÄMPLE.de"),
        ("é.{}@example.com", "e\u0301.{}@example.com"),
        ("straße.{}@example.com", "STRASSE.{}@example.com"),
    ],
)
def test_an_email_is_taken_whatever_its_case(api: httpx2.Client, first: str, second: str) -> None:
    mark = new_email().partition("@")[0]
    user = new_user(api, email=first.format(mark))
    other = new_user(api)
    body = {"email": second.format(mark)}
    for refused in (
        api.post("/v1/users", json=body),
        api.put(f"/v1/users/{other['id']}", json=body),
        api.patch(f"/v1/users/{other['id']}", json=body),
    ):
        error = assert_error(refused, 409, "already_exists")
        assert error["metadata"] == {
            "resource": "user",
            "field": "email",
            "existing_id": user["id"],
        }
    assert found(api, "/v1/users", email=second.format(mark)) == [user["id"]]


def test_a_users_own_email_may_be_sent_again_in_another_case(api: httpx2.Client) -> None:
    user = new_user(api)
    response = api.patch(f"/v1/users/{user['id']}", json={"email": user["email"].upper()})
    assert response.json()["email"] == user["email"].upper()


def test_an_email_is_free_again_when_its_user_is_gone_or_has_another(api: httpx2.Client) -> None:
    first = new_user(api)
    api.patch(f"/v1/users/{first['id']}", json={"email": new_email()})
    second = new_user(api, email=first["email"])
    api.delete(f"/v1/users/{second['id']}")
    new_user(api, email=first["email"])


def test_put_clears_what_is_left_out(api: httpx2.Client) -> None:
    user = new_user(api, name="Ada", phone="+14155550123", tags=["vip"])
    replaced = api.put(f"/v1/users/{user['id']}", json={"email": user["email"]}).json()
    assert (replaced["name"], replaced["phone"], replaced["tags"]) == (None, None, [])
    assert replaced["created_at"] == user["created_at"] < replaced["updated_at"]
    assert read(api, f"/v1/users/{user['id']}") == replaced


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({}, {}),
        ({"name": "Grace"}, {"name": "Grace"}),
        ({"name": None}, {"name": None}),
        ({"phone": None, "name": None}, {"phone": None, "name": None}),
        ({"tags": []}, {"tags": []}),
        ({"tags": ["new", "vip"]}, {"tags": ["new", "vip"]}),
    ],
)
def test_a_merge_patch_changes_what_it_names(
    api: httpx2.Client, patch: dict[str, Any], changed: dict[str, Any]
) -> None:
    user = new_user(api, name="Ada", phone="+14155550123", tags=["vip", "beta"])
    patched = api.patch(f"/v1/users/{user['id']}", json=patch).json()
    assert patched == {**user, **changed, "updated_at": patched["updated_at"]}
    assert patched["updated_at"] > user["updated_at"]
    assert read(api, f"/v1/users/{user['id']}") == patched


def test_deleting_a_user_takes_its_conversations_messages_and_tags(api: httpx2.Client) -> None:
    records = make_records(api)
    tag = f"tag-{records.user_id}"
    create(api, "/v1/tags", user_id=records.user_id, tag=tag)
    deleted = api.delete(f"/v1/users/{records.user_id}")
    assert (deleted.status_code, deleted.json()) == (200, {"id": records.user_id, "deleted": True})
    for path in (
        f"/v1/users/{records.user_id}",
        f"/v1/conversations/{records.conversation_id}",
        f"/v1/conversations/{records.conversation_id}/messages",
        f"/v1/messages/{records.message_id}",
    ):
        assert_error(api.get(path), 404, "resource_not_found")
    assert_error(api.delete(f"/v1/users/{records.user_id}"), 404, "resource_not_found")
    assert tag not in tag_counts(api)


# --- entity tags ---


def test_every_change_of_a_user_changes_its_entity_tag(api: httpx2.Client) -> None:
    made = api.post("/v1/users", json={"email": new_email()})
    path = made.headers["location"]
    tags = [made.headers["etag"]]
    assert api.get(path).headers["etag"] == tags[0]
    tags.append(api.patch(path, json={"name": "Ada"}).headers["etag"])
    tags.append(api.put(path, json={"email": new_email()}).headers["etag"])
    create(api, "/v1/tags", user_id=made.json()["id"], tag="vip")
    tags.append(api.get(path).headers["etag"])
    assert len(set(tags)) == len(tags)
    assert all(re.fullmatch(r'"[!#-~]+"', tag) for tag in tags)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("if_match", "passes"),
    [
        ("{now}", True),
        ("*", True),
        ('"nonsense", {now}', True),
        ("{now},{old}", True),
        ("{old}", False),
        ('"nonsense"', False),
        ('""', False),
        ("W/{now}", False),
        ('{old}, W/{now}, "3"', False),
    ],
)
def test_if_match_guards_a_write(
    api: httpx2.Client, method: str, if_match: str, passes: bool
) -> None:
    made = api.post("/v1/users", json={"email": new_email()})
    path, old = made.headers["location"], made.headers["etag"]
    now = api.patch(path, json={"name": "Ada"}).headers["etag"]
    headers = {"If-Match": if_match.format(now=now, old=old)}
    body = None if method == "DELETE" else {"email": new_email()}
    response = api.request(method, path, json=body, headers=headers)
    if passes:
        assert response.status_code == 200
    else:
        error = assert_error(response, 412, "precondition_failed")
        assert error["metadata"] == {"resource": "user"}
        assert api.get(path).headers["etag"] == now


def test_if_match_does_not_find_what_is_missing(api: httpx2.Client) -> None:
    path = f"/v1/users/{missing_id('usr_')}"
    response = api.patch(path, json={}, headers={"If-Match": "*"})
    assert_error(response, 404, "resource_not_found")


# --- conversations and messages ---


def test_a_conversation_is_started_assigned_and_closed(api: httpx2.Client) -> None:
    user = new_user(api)
    started = create(api, "/v1/conversations", user_id=user["id"], channel="whatsapp")
    assert list(started) == [
        "id",
        "user_id",
        "channel",
        "status",
        "assignee",
        "started_at",
        "closed_at",
    ]
    assert started["id"].startswith("cnv_")
    assert (started["status"], started["assignee"], started["closed_at"]) == ("open", None, None)
    path = f"/v1/conversations/{started['id']}"
    assigned = api.post(f"{path}/assign", json={"assignee": "grace"})
    assert (assigned.status_code, assigned.json()) == (200, {**started, "assignee": "grace"})
    given_back = api.post(f"{path}/assign", json={"assignee": None})
    assert given_back.json() == started
    closed = api.post(f"{path}/close").json()
    assert closed == {**started, "status": "closed", "closed_at": closed["closed_at"]}
    assert started["started_at"] < closed["closed_at"]
    assert read(api, path) == closed


@pytest.mark.parametrize(
    "channel", ["web", "whatsapp", "slack", "email", "sms", "messenger", "api"]
)
@pytest.mark.parametrize("status", ["open", "pending"])
def test_a_conversation_may_begin_over_each_channel(
    api: httpx2.Client, channel: str, status: str
) -> None:
    made = new_conversation(api, channel=channel, status=status, assignee="grace")
    assert (made["channel"], made["status"], made["assignee"]) == (channel, status, "grace")


def test_a_conversation_does_not_begin_closed(api: httpx2.Client) -> None:
    body = {"user_id": new_user(api)["id"], "channel": "web", "status": "closed"}
    error = assert_error(api.post("/v1/conversations", json=body), 422, "validation_failed")
    assert error["errors"][0]["message"].startswith("Status must be one of open or pending.")


def test_what_is_closed_takes_nothing_more(api: httpx2.Client) -> None:
    records = make_records(api)
    path = f"/v1/conversations/{records.conversation_id}"
    closed_at = api.post(f"{path}/close").json()["closed_at"]
    message = {"conversation_id": records.conversation_id, "message": "Hello?", "type": "user"}
    for refused in (
        api.post("/v1/messages", json=message),
        api.post(f"{path}/assign", json={"assignee": "grace"}),
        api.post(f"{path}/close"),
    ):
        error = assert_error(refused, 409, "conversation_closed")
        assert error["metadata"] == {"closed_at": closed_at}
    assert len(read(api, f"{path}/messages")["data"]) == 1


def test_a_message_is_what_was_sent(api: httpx2.Client) -> None:
    conversation = new_conversation(api)
    text = "  Two\nlines 🎈\t"
    sent = {"conversation_id": conversation["id"], "message": text, "type": "agent"}
    message = create(api, "/v1/messages", **sent)
    assert list(message) == ["id", "conversation_id", "message", "type", "created_at"]
    assert message["id"].startswith("msg_")
    assert {name: message[name] for name in sent} == sent
    assert read(api, f"/v1/messages/{message['id']}") == message
    listed = read(api, f"/v1/conversations/{conversation['id']}/messages")
    assert listed == {"data": [message], "has_more": False, "next_cursor": None}


@pytest.mark.parametrize(
    ("path", "body", "field", "resource"),
    [
        ("/v1/conversations", {"channel": "web"}, "user_id", "user"),
        ("/v1/messages", {"message": "x", "type": "user"}, "conversation_id", "conversation"),
        ("/v1/tags", {"tag": "vip"}, "user_id", "user"),
    ],
)
@pytest.mark.parametrize("form", ["missing", "malformed", "another kind", "empty"])
def test_a_reference_to_nothing_is_422_at_its_field(
    api: httpx2.Client, path: str, body: dict[str, Any], field: str, resource: str, form: str
) -> None:
    records = make_records(api)
    ids = {
        "missing": getattr(records.missing(), field),
        "malformed": "usr\x00",
        "another kind": records.message_id,
        "empty": "",
    }
    error = assert_error(api.post(path, json={**body, field: ids[form]}), 422, "validation_failed")
    (only,) = error["errors"]
    assert (only["pointer"], only["reason"]) == (f"#/{field}", "not_found")
    assert only["message"].endswith(f"does not refer to an existing {resource}.")


# --- tags ---


def tag_counts(api: httpx2.Client) -> dict[str, int]:
    counts: dict[str, int] = {}
    query: dict[str, Any] = {"limit": 100}
    while True:
        page = read(api, "/v1/tags", **query)
        counts.update({each["tag"]: each["count"] for each in page["data"]})
        if not page["has_more"]:
            return counts
        query["cursor"] = page["next_cursor"]


def test_tagging_twice_is_tagging_once(api: httpx2.Client) -> None:
    user = new_user(api)
    first = create(api, "/v1/tags", user_id=user["id"], tag="vip")
    assert first == {"user_id": user["id"], "tag": "vip", "created_at": first["created_at"]}
    etag = api.get(f"/v1/users/{user['id']}").headers["etag"]
    assert create(api, "/v1/tags", user_id=user["id"], tag="vip") == first
    again = api.get(f"/v1/users/{user['id']}")
    assert again.headers["etag"] == etag
    assert again.json()["tags"] == ["vip"]


def test_tags_are_counted_by_users_in_the_order_of_their_names(server: Server) -> None:
    with server.client(mint(server, account="counts")) as api:
        for tags in (["a", "b"], ["b", "c", "É"], ["b"]):
            new_user(api, tags=tags)
        assert tag_counts(api) == {"a": 1, "b": 3, "c": 1, "É": 1}
        listed = [each["tag"] for each in read(api, "/v1/tags")["data"]]
        assert listed == ["a", "b", "c", "É"]


def test_a_user_has_fifty_tags_at_most(api: httpx2.Client) -> None:
    user = new_user(api, tags=[f"tag{number:02}" for number in range(MAX_TAGS - 1)])
    create(api, "/v1/tags", user_id=user["id"], tag="the last")
    refused = api.post("/v1/tags", json={"user_id": user["id"], "tag": "one more"})
    error = assert_error(refused, 409, "limit_reached")
    assert error["metadata"] == {"resource": "user", "limit": MAX_TAGS, "what": "tags"}
    # One that is there already is no new one.
    create(api, "/v1/tags", user_id=user["id"], tag="the last")


# --- filters ---


def test_users_are_found_by_each_of_their_fields(api: httpx2.Client) -> None:
    phone = f"+1{secrets.randbelow(10**10):010}"
    tag = f"tag-{new_email()}"
    before = new_user(api)
    user = new_user(api, phone=phone, tags=[tag, "vip"])
    after = new_user(api)
    assert found(api, "/v1/users", email=user["email"].upper()) == [user["id"]]
    assert found(api, "/v1/users", phone=phone) == [user["id"]]
    assert found(api, "/v1/users", tag=tag) == [user["id"]]
    assert found(api, "/v1/users", tag=tag, phone="+10000000") == []
    between = {"created_after": before["created_at"], "created_before": after["created_at"]}
    assert found(api, "/v1/users", **between) == [user["id"]]
    (listed,) = read(api, "/v1/users", tag=tag)["data"]
    assert listed == user


def test_times_of_a_filter_may_be_in_any_zone(api: httpx2.Client) -> None:
    user = new_user(api)
    made = datetime.fromisoformat(user["created_at"])
    later = (made + timedelta(hours=5, minutes=30, microseconds=1)).isoformat()
    query = {"created_before": later.replace("+00:00", "+05:30"), "email": user["email"]}
    assert found(api, "/v1/users", **query) == [user["id"]]


def test_conversations_are_found_by_each_of_their_fields(api: httpx2.Client) -> None:
    user = new_user(api)
    assignee = f"agent-{user['id']}"
    of_user = {"user_id": user["id"]}
    first = new_conversation(api, **of_user, channel="sms", assignee=assignee)
    second = new_conversation(api, **of_user, channel="web", status="pending")
    third = new_conversation(api, **of_user, channel="sms")
    api.post(f"/v1/conversations/{third['id']}/close")
    for query, expected in [
        ({}, [third, second, first]),
        ({"channel": "sms"}, [third, first]),
        ({"status": "open"}, [first]),
        ({"status": "pending"}, [second]),
        ({"status": "closed"}, [third]),
        ({"assignee": assignee}, [first]),
        ({"started_after": first["started_at"]}, [third, second]),
        ({"started_before": third["started_at"]}, [second, first]),
        ({"status": "open", "channel": "web"}, []),
    ]:
        expected_ids = [each["id"] for each in expected]
        assert found(api, "/v1/conversations", **of_user, **query) == expected_ids, query


def test_messages_are_found_by_type(api: httpx2.Client) -> None:
    conversation = new_conversation(api)
    made = [
        create(api, "/v1/messages", conversation_id=conversation["id"], message="x", type=kind)
        for kind in ("user", "agent", "user")
    ]
    path = f"/v1/conversations/{conversation['id']}/messages"
    assert found(api, path) == [made[2]["id"], made[1]["id"], made[0]["id"]]
    assert found(api, path, type="user") == [made[2]["id"], made[0]["id"]]
    assert found(api, path, type="agent") == [made[1]["id"]]


# --- ids, times, me ---


def test_ids_sort_by_time_and_times_are_utc(api: httpx2.Client) -> None:
    before = datetime.now(UTC)
    users = [new_user(api) for _ in range(5)]
    after = datetime.now(UTC)
    assert [each["id"] for each in users] == sorted(each["id"] for each in users)
    for user in users:
        assert TIME.fullmatch(user["created_at"])
        assert before <= datetime.fromisoformat(user["created_at"]) <= after


def test_me_tells_who_and_what_and_how_much(server: Server, api: httpx2.Client) -> None:
    expires_at = "2999-01-01T00:00:00.000000Z"
    made = create(api, "/v1/tokens", name="for me", scopes=["tags:read"], expires_at=expires_at)
    with server.client(made["token"]) as client:
        me = read(client, "/v1/me")
    assert me["account"]["id"].startswith("acc_")
    assert {name: me[name] for name in me if name != "account"} == {
        "environment": "test",
        "token_id": made["id"],
        "token_name": "for me",
        "scopes": ["tags:read"],
        "expires_at": expires_at,
        "limits": {
            "rate": {"limit": 1_000_000_000, "window_seconds": 60},
            "body_bytes": 1024 * 1024,
        },
    }
