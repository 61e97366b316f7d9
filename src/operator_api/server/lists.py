"""What all lists have in common: where a page begins, which filters hold, and what it answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from operator_api.contract.fields import to_microseconds
from operator_api.server.exchange import Answer, Call

# Sorts after every id, since ids are ASCII.
_PAST_ALL = "\x7f"


def _scope(call: Call) -> list[object]:
    filters = call.params.model_dump(mode="json", exclude={"limit", "cursor"})
    return [call.operation.name, call.tenant, dict(call.ids), filters]


def position(call: Call, *, first: str = _PAST_ALL) -> dict[str, Any]:
    """Return the parameters ``tenant``, ``after`` and ``most`` of a list's query.

    ``most`` is one more than the page holds, which tells whether there is a next one.
    """
    cursor = call.params.cursor
    after = first if cursor is None else call.cursors.read(cursor, _scope(call))
    return {"tenant": call.tenant, "after": after, "most": call.params.limit + 1}


def filters(call: Call, conditions: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the SQL and the parameters of the filters that were given."""
    given = {name: getattr(call.params, name) for name in conditions}
    given = {name: value for name, value in given.items() if value is not None}
    sql = "".join(f" AND {conditions[name]}" for name in given)
    return sql, {name: _stored(value) for name, value in given.items()}


def _stored(value: Any) -> Any:
    return to_microseconds(value) if isinstance(value, datetime) else value


def page(call: Call, items: Sequence[Mapping[str, Any]], *, key: str = "id") -> Answer:
    """Answer with one page; ``key`` is the member that tells where the next one begins."""
    shown = items[: call.params.limit]
    has_more = len(items) > len(shown)
    cursor = call.cursors.write(shown[-1][key], _scope(call)) if has_more else None
    return Answer({"data": shown, "has_more": has_more, "next_cursor": cursor})
