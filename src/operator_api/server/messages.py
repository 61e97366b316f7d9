"""Messages: they are added to a conversation that is not closed, and never change."""

from typing import Any

from operator_api.contract.errors import CONVERSATION_CLOSED, Problem
from operator_api.contract.fields import CONVERSATION_ID, format_timestamp
from operator_api.server.database import Row, Statement
from operator_api.server.exchange import Answer, Call, Change, Handler
from operator_api.server.found import not_found, refers_to_nothing
from operator_api.server.ids import new_id
from operator_api.server.lists import filters, page, position

_FIND = "SELECT * FROM messages WHERE tenant = :tenant AND id = :id"
_LIST = """
    SELECT * FROM messages
    WHERE tenant = :tenant AND conversation_id = :conversation_id AND id < :after {filters}
    ORDER BY id DESC LIMIT :most
"""
_FILTERS = {"type": "type = :type"}
_FIND_CONVERSATION = "SELECT closed_at FROM conversations WHERE tenant = :tenant AND id = :id"
# Touches the conversation only to hold it: it must not be closed before the message is in it.
_HOLD = """
    UPDATE conversations SET status = status
    WHERE tenant = :tenant AND id = :id AND status <> 'closed'
"""
_INSERT = """
    INSERT INTO messages (tenant, id, conversation_id, message, type, created_at)
    VALUES (:tenant, :id, :conversation_id, :message, :type, :created_at)
"""


async def list_messages(call: Call) -> Answer:
    """Return a page of a conversation's messages, newest first."""
    conversation_id = call.ids["conversation_id"]
    if await _conversation(call, conversation_id) is None:
        raise not_found("conversation")
    sql, given = filters(call, _FILTERS)
    parameters = {**position(call), **given, "conversation_id": conversation_id}
    rows = await call.database.scan(_LIST.format(filters=sql), parameters)
    return page(call, [_message(row) for row in rows])


async def get_message(call: Call) -> Answer:
    """Return one message."""
    parameters = {"tenant": call.tenant, "id": call.ids["message_id"]}
    row = await call.database.fetch_one(_FIND, parameters)
    if row is None:
        raise not_found("message")
    return Answer(_message(row))


async def create_message(call: Call) -> Change:
    """Decide on a new message in an open conversation: 422, 409."""
    body = call.body
    await _require_open(call, body.conversation_id)
    row = {
        "tenant": call.tenant,
        "id": new_id("msg"),
        "conversation_id": body.conversation_id,
        "message": body.message,
        "type": body.type,
        "created_at": call.now,
    }
    held = {"tenant": call.tenant, "id": body.conversation_id}
    location = (b"location", f"/v1/messages/{row['id']}".encode())
    write = [Statement(_HOLD, held, must_touch=True), Statement(_INSERT, row, must_touch=True)]
    return Change(write, Answer(_message(row), [location]))


async def _conversation(call: Call, conversation_id: str) -> Row | None:
    return await call.database.fetch_one(
        _FIND_CONVERSATION, {"tenant": call.tenant, "id": conversation_id}
    )


async def _require_open(call: Call, conversation_id: str) -> None:
    row = None
    if CONVERSATION_ID.matches(conversation_id):
        row = await _conversation(call, conversation_id)
    if row is None:
        raise refers_to_nothing("conversation_id", "conversation")
    if row["closed_at"] is not None:
        raise Problem(CONVERSATION_CLOSED, {"closed_at": format_timestamp(row["closed_at"])})


def _message(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "conversation_id": row["conversation_id"],
        "message": row["message"],
        "type": row["type"],
        "created_at": format_timestamp(row["created_at"]),
    }


HANDLERS: dict[str, Handler] = {
    "conversations.messages": list_messages,
    "messages.create": create_message,
    "messages.get": get_message,
}
