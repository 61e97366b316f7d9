"""Tags: put on users one at a time, and counted."""

from operator_api.contract.errors import LIMIT_REACHED, Problem
from operator_api.contract.fields import USER_ID, format_timestamp
from operator_api.contract.models import MAX_TAGS
from operator_api.server.database import Statement
from operator_api.server.exchange import Answer, Call, Change, Handler
from operator_api.server.found import refers_to_nothing
from operator_api.server.lists import page, position

_COUNTS = """
    SELECT tag, count(*) AS users FROM user_tags
    WHERE tenant = :tenant AND tag > :after GROUP BY tag ORDER BY tag LIMIT :most
"""
_FIND = """
    SELECT u.version, t.tag, t.created_at FROM users u
    LEFT JOIN user_tags t ON t.tenant = u.tenant AND t.user_id = u.id
    WHERE u.tenant = :tenant AND u.id = :id
"""
_TOUCH_USER = """
    UPDATE users SET version = version + 1, updated_at = :now
    WHERE tenant = :tenant AND id = :id AND version = :version
"""
_INSERT = """
    INSERT INTO user_tags (tenant, user_id, tag, created_at) VALUES (:tenant, :id, :tag, :now)
"""


async def list_tags(call: Call) -> Answer:
    """Return a page of tags by name, each with how many users have it."""
    rows = await call.database.scan(_COUNTS, position(call, first=""))
    return page(call, [{"tag": row["tag"], "count": row["users"]} for row in rows], key="tag")


async def create_tag(call: Call) -> Answer | Change:
    """Decide to tag a user. One that has the tag keeps it, with the time it was first given."""
    user_id, tag = call.body.user_id, call.body.tag
    rows = []
    if USER_ID.matches(user_id):
        rows = list(await call.database.fetch_few(_FIND, {"tenant": call.tenant, "id": user_id}))
    if not rows:
        raise refers_to_nothing("user_id", "user")
    since = {row["tag"]: row["created_at"] for row in rows if row["tag"] is not None}
    if tag in since:
        return Answer(_tag(user_id, tag, since[tag]))
    if len(since) >= MAX_TAGS:
        raise Problem(LIMIT_REACHED, {"resource": "user", "limit": MAX_TAGS, "what": "tags"})
    user = {"tenant": call.tenant, "id": user_id, "now": call.now}
    write = [
        Statement(_TOUCH_USER, {**user, "version": rows[0]["version"]}, must_touch=True),
        Statement(_INSERT, {**user, "tag": tag}, must_touch=True),
    ]
    return Change(write, Answer(_tag(user_id, tag, call.now)))


def _tag(user_id: str, tag: str, created_at: int) -> dict[str, str]:
    return {"user_id": user_id, "tag": tag, "created_at": format_timestamp(created_at)}


HANDLERS: dict[str, Handler] = {"tags.list": list_tags, "tags.create": create_tag}
