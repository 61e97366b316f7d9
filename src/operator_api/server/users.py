"""Users, with their tags. Every change counts the version up, which is the entity tag."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from operator_api.contract.errors import ALREADY_EXISTS, PRECONDITION_FAILED, Problem
from operator_api.contract.fields import format_timestamp
from operator_api.server.database import Row, Statement
from operator_api.server.exchange import Answer, Call, Change, Handler, Header
from operator_api.server.found import not_found
from operator_api.server.ids import new_id
from operator_api.server.lists import filters, page, position

_SELECT = """
    SELECT u.id, u.email, u.name, u.phone, u.created_at, u.updated_at, u.version, t.tag
"""
_TAGS = "LEFT JOIN user_tags t ON t.tenant = u.tenant AND t.user_id = u.id"
_FIND = f"{_SELECT} FROM users u {_TAGS} WHERE u.tenant = :tenant AND u.id = :id ORDER BY t.tag"
_LIST = f"""
    {_SELECT} FROM (
        SELECT * FROM users WHERE tenant = :tenant AND id < :after {{filters}}
        ORDER BY id DESC LIMIT :most
    ) u {_TAGS} ORDER BY u.id DESC, t.tag
"""
_FILTERS = {
    "email": "email_key = :email",
    "phone": "phone = :phone",
    "tag": "id IN (SELECT user_id FROM user_tags WHERE tenant = :tenant AND tag = :tag)",
    "created_after": "created_at > :created_after",
    "created_before": "created_at < :created_before",
}
_FIND_BY_EMAIL = "SELECT id FROM users WHERE tenant = :tenant AND email_key = :email_key"
_INSERT = """
    INSERT INTO users
        (tenant, id, email, email_key, name, phone, created_at, updated_at, version)
    VALUES (:tenant, :id, :email, :email_key, :name, :phone, :now, :now, 1)
    ON CONFLICT DO NOTHING
"""
_UPDATE = """
    UPDATE users SET email = :email, email_key = :email_key, name = :name, phone = :phone,
        updated_at = :now, version = version + 1
    WHERE tenant = :tenant AND id = :id AND version = :version
"""
_DELETE = "DELETE FROM users WHERE tenant = :tenant AND id = :id AND version = :version"
_TAG = """
    INSERT INTO user_tags (tenant, user_id, tag, created_at) VALUES (:tenant, :id, :tag, :now)
"""
_UNTAG = "DELETE FROM user_tags WHERE tenant = :tenant AND user_id = :id AND tag = :tag"


async def list_users(call: Call) -> Answer:
    """Return a page of users, newest first."""
    sql, given = filters(call, _FILTERS)
    if "email" in given:
        given["email"] = _email_key(given["email"])
    rows = await call.database.scan(_LIST.format(filters=sql), {**position(call), **given})
    return page(call, [_user(of_one) for of_one in _by_user(rows)])


async def get_user(call: Call) -> Answer:
    """Return one user."""
    user, version = await _require(call)
    return Answer(user, [_entity_tag(version)])


async def create_user(call: Call) -> Change:
    """Decide on a new user; that the email is free is left for the write to find out."""
    user_id, body = new_id("usr"), call.body
    row = _columns(call, user_id, body.email, body.name, body.phone)
    tags = sorted(set(body.tags))
    moment = format_timestamp(call.now)
    user = _as_json(user_id, body.email, body.name, body.phone, tags, moment, moment)
    location = (b"location", f"/v1/users/{user_id}".encode())
    write = [Statement(_INSERT, row, must_touch=True)]
    if tags:
        write += _tagging(call, user_id, tags)
    taken = partial(_require_free, call, row["email_key"], user_id)
    return Change(write, Answer(user, [_entity_tag(1), location]), explain=taken)


async def replace_user(call: Call) -> Change:
    """Decide on all fields of a user; what is left out is cleared."""
    return await _change(call, call.body.model_dump())


async def update_user(call: Call) -> Change:
    """Decide on the fields that were sent (RFC 7396)."""
    return await _change(call, call.body.model_dump(exclude_unset=True))


async def delete_user(call: Call) -> Change:
    """Decide to delete a user, and with it all conversations and messages."""
    user, version = await _require(call)
    _require_version(call, version)
    row = {"tenant": call.tenant, "id": user["id"], "version": version}
    answer = Answer({"id": user["id"], "deleted": True})
    return Change([Statement(_DELETE, row, must_touch=True)], answer, bulk=True)


async def _change(call: Call, changes: dict[str, Any]) -> Change:
    user, version = await _require(call)
    _require_version(call, version)
    new = {**user, **changes, "updated_at": format_timestamp(call.now)}
    new["tags"] = sorted(set(new["tags"]))
    row = _columns(call, user["id"], new["email"], new["name"], new["phone"])
    row["version"] = version
    if row["email_key"] != _email_key(user["email"]):
        await _require_free(call, row["email_key"], user["id"])
    write = [
        Statement(_UPDATE, row, must_touch=True),
        *_untagging(call, user["id"], set(user["tags"]) - set(new["tags"])),
        *_tagging(call, user["id"], sorted(set(new["tags"]) - set(user["tags"]))),
    ]
    return Change(write, Answer(new, [_entity_tag(version + 1)]))


# --- reading ---


async def _require(call: Call) -> tuple[dict[str, Any], int]:
    """Return the user of the path and its version: 404."""
    parameters = {"tenant": call.tenant, "id": call.ids["user_id"]}
    rows = await call.database.fetch_few(_FIND, parameters)
    if not rows:
        raise not_found("user")
    return _user(rows), rows[0]["version"]


async def _require_free(call: Call, email_key: str, user_id: str) -> None:
    """Require that no other user has the email: 409."""
    taken = await call.database.fetch_one(
        _FIND_BY_EMAIL, {"tenant": call.tenant, "email_key": email_key}
    )
    if taken is not None and taken["id"] != user_id:
        raise Problem(
            ALREADY_EXISTS, {"resource": "user", "field": "email", "existing_id": taken["id"]}
        )


def _require_version(call: Call, version: int) -> None:
    """Require that the caller's If-Match names the stored version: 412."""
    if call.if_match is None or "*" in call.if_match:
        return
    if f'"{version}"' not in call.if_match:
        raise Problem(PRECONDITION_FAILED, {"resource": "user"})


def _by_user(rows: Iterable[Row]) -> Iterable[Sequence[Row]]:
    """Group the rows, one a tag, by their user."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["id"], []).append(row)
    return grouped.values()


def _user(rows: Sequence[Row]) -> dict[str, Any]:
    """Make a user of its rows, one a tag."""
    row = rows[0]
    tags = [each["tag"] for each in rows if each["tag"] is not None]
    return _as_json(
        row["id"],
        row["email"],
        row["name"],
        row["phone"],
        tags,
        format_timestamp(row["created_at"]),
        format_timestamp(row["updated_at"]),
    )


# --- forms ---


def _as_json(
    user_id: str,
    email: str,
    name: str | None,
    phone: str | None,
    tags: list[str],
    created_at: str,
    updated_at: str,
) -> dict[str, Any]:
    return {
        "id": user_id,
        "name": name,
        "email": email,
        "phone": phone,
        "tags": tags,
        "created_at": created_at,
        "updated_at": updated_at,
    }


def _columns(
    call: Call, user_id: str, email: str, name: str | None, phone: str | None
) -> dict[str, Any]:
    return {
        "tenant": call.tenant,
        "id": user_id,
        "email": email,
        "email_key": _email_key(email),
        "name": name,
        "phone": phone,
        "now": call.now,
    }


def _email_key(email: str) -> str:
    """Return what two spellings of one address have in common."""
    return email.lower() if email.isascii() else unicodedata.normalize("NFKC", email).casefold()


def _entity_tag(version: int) -> Header:
    return (b"etag", b'"%d"' % version)


def _tagging(call: Call, user_id: str, tags: Iterable[str]) -> list[Statement]:
    row = {"tenant": call.tenant, "id": user_id, "now": call.now}
    return [Statement(_TAG, {**row, "tag": tag}) for tag in tags]


def _untagging(call: Call, user_id: str, tags: Iterable[str]) -> list[Statement]:
    row = {"tenant": call.tenant, "id": user_id}
    return [Statement(_UNTAG, {**row, "tag": tag}, must_touch=True) for tag in sorted(tags)]


HANDLERS: dict[str, Handler] = {
    "users.list": list_users,
    "users.create": create_user,
    "users.get": get_user,
    "users.replace": replace_user,
    "users.update": update_user,
    "users.delete": delete_user,
}
