"""Conversations: started, assigned, closed. What is closed stays closed."""

from typing import Any

from operator_api.contract.errors import CONVERSATION_CLOSED, Problem
from operator_api.contract.fields import USER_ID, format_timestamp
from operator_api.server.database import Row, Statement
from operator_api.server.exchange import Answer, Call, Change, Handler
from operator_api.server.found import not_found, refers_to_nothing
from operator_api.server.ids import new_id
from operator_api.server.lists import filters, page, position

_FIND = "SELECT * FROM conversations WHERE tenant = :tenant AND id = :id"
_LIST = """
    SELECT * FROM conversations WHERE tenant = :tenant AND id < :after {filters}
    ORDER BY id DESC LIMIT :most
"""
_FILTERS = {
    "user_id": "user_id = :user_id",
    "status": "status = :status",
    "channel": "channel = :channel",
    "assignee": "assignee = :assignee",
    "started_after": "started_at > :started_after",
    "started_before": "started_at < :started_before",
}
_FIND_USER = "SELECT id FROM users WHERE tenant = :tenant AND id = :id"
# The foreign key guards against a user that is deleted in between.
_INSERT = """
    INSERT INTO conversations (tenant, id, user_id, channel, status, assignee, started_at)
    VALUES (:tenant, :id, :user_id, :channel, :status, :assignee, :now)
"""
_ASSIGN = """
    UPDATE conversations SET assignee = :assignee
    WHERE tenant = :tenant AND id = :id AND status <> 'closed'
"""
_CLOSE = """
    UPDATE conversations SET status = 'closed', closed_at = :now
    WHERE tenant = :tenant AND id = :id AND status <> 'closed'
"""


async def list_conversations(call: Call) -> Answer:
    """Return a page of conversations, newest first."""
    sql, given = filters(call, _FILTERS)
    rows = await call.database.scan(_LIST.format(filters=sql), {**position(call), **given})
    return page(call, [_conversation(row) for row in rows])


async def get_conversation(call: Call) -> Answer:
    """Return one conversation."""
    return Answer(_conversation(await _require(call)))


async def create_conversation(call: Call) -> Change:
    """Decide on a new conversation with an existing user."""
    body = call.body
    await _require_user(call, body.user_id)
    row = {
        "tenant": call.tenant,
        "id": new_id("cnv"),
        "user_id": body.user_id,
        "channel": body.channel,
        "status": body.status,
        "assignee": body.assignee,
        "now": call.now,
    }
    conversation = _conversation({**row, "started_at": call.now, "closed_at": None})
    location = (b"location", f"/v1/conversations/{row['id']}".encode())
    return Change([Statement(_INSERT, row, must_touch=True)], Answer(conversation, [location]))


async def assign_conversation(call: Call) -> Change:
    """Decide who takes the conversation."""
    conversation = _conversation(await _require_open(call))
    assignee = call.body.assignee
    row = {"tenant": call.tenant, "id": conversation["id"], "assignee": assignee}
    answer = Answer({**conversation, "assignee": assignee})
    return Change([Statement(_ASSIGN, row, must_touch=True)], answer)


async def close_conversation(call: Call) -> Change:
    """Decide to close the conversation."""
    conversation = _conversation(await _require_open(call))
    row = {"tenant": call.tenant, "id": conversation["id"], "now": call.now}
    closed = {"status": "closed", "closed_at": format_timestamp(call.now)}
    return Change([Statement(_CLOSE, row, must_touch=True)], Answer({**conversation, **closed}))


async def _require(call: Call) -> Row:
    """Return the conversation of the path: 404."""
    parameters = {"tenant": call.tenant, "id": call.ids["conversation_id"]}
    row = await call.database.fetch_one(_FIND, parameters)
    if row is None:
        raise not_found("conversation")
    return row


async def _require_open(call: Call) -> Row:
    """Return the conversation of the path, if it can still change: 404, 409."""
    row = await _require(call)
    if row["closed_at"] is not None:
        raise Problem(CONVERSATION_CLOSED, {"closed_at": format_timestamp(row["closed_at"])})
    return row


async def _require_user(call: Call, user_id: str) -> None:
    """Require that the user of the body exists: 422."""
    known = USER_ID.matches(user_id) and await call.database.fetch_one(
        _FIND_USER, {"tenant": call.tenant, "id": user_id}
    )
    if not known:
        raise refers_to_nothing("user_id", "user")


def _conversation(row: Any) -> dict[str, Any]:
    closed_at = row["closed_at"]
    return {
        "id": row["id"],
        "user_id": row["user_id"],
        "channel": row["channel"],
        "status": row["status"],
        "assignee": row["assignee"],
        "started_at": format_timestamp(row["started_at"]),
        "closed_at": None if closed_at is None else format_timestamp(closed_at),
    }


HANDLERS: dict[str, Handler] = {
    "conversations.list": list_conversations,
    "conversations.create": create_conversation,
    "conversations.get": get_conversation,
    "conversations.assign": assign_conversation,
    "conversations.close": close_conversation,
}
