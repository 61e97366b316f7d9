"""One logged request, explained: each check, the cause, the fix, the tries, what was different."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operator_api.contract.errors import CATALOGUE, RETRYABLE_ACTIONS, ErrorKind, message_of
from operator_api.contract.errors import FieldError as ContractFieldError
from operator_api.contract.fields import format_timestamp
from operator_api.contract.scopes import Scope
from operator_api.server.auth import insufficient_scope
from operator_api.server.database import Database, Row, Statement
from operator_api.server.exchange import Answer, Call, Change, Handler
from operator_api.server.found import not_found
from operator_api.server.ids import now_microseconds
from operator_api.server.requests.checks import checks_of
from operator_api.server.requests.detail import DetailReader, Opened
from operator_api.server.requests.difference import difference
from operator_api.server.requests.entry import Entry, time_of
from operator_api.server.requests.log import RequestLog
from operator_api.server.requests.reproduce import curl
from operator_api.server.requests.search import Query

# A request is in the log a moment after it was answered.
_FRESH_MICROSECONDS = 2_000_000
_PATIENCE_SECONDS = 0.4
_STEP_SECONDS = 0.04
_TRIES = 50
_REVEAL: Scope = "requests:reveal"

_FIND_TOKEN = "SELECT name, hint FROM tokens WHERE tenant = :tenant AND id = :id"  # noqa: S105 - SQL
_LIST_REVEALS = """
    SELECT id, at, token_id, why FROM reveals
    WHERE request_id = :request_id AND coalesce(tenant, 0) = :tenant ORDER BY at, id
"""
_INSERT_REVEAL = """
    INSERT INTO reveals (id, tenant, request_id, token_id, at, why)
    VALUES (:id, :tenant, :request_id, :token_id, :at, :why)
"""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the bodies: by whom, when, and the id of the request that asks for it."""

    id: str
    at: int
    token_id: str
    why: str | None = None

    def record(self, tenant: int, request_id: str) -> Statement:
        """Return the statement that puts the look on record."""
        parameters = {
            "id": self.id,
            "tenant": tenant or None,
            "request_id": request_id,
            "token_id": self.token_id,
            "at": self.at,
            "why": self.why,
        }
        return Statement(_INSERT_REVEAL, parameters)


class Explainer:
    """Explains requests of one log. ``public_url`` is where the documentation is."""

    def __init__(
        self, log: RequestLog, details: DetailReader, database: Database, public_url: str
    ) -> None:
        self._log = log
        self._details = details
        self._database = database
        self._public_url = public_url

    @property
    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by operation."""
        return {"requests.get": self.get}

    async def get(self, call: Call) -> Answer | Change:
        """Explain a request of the caller's environment; a look at its bodies is recorded first."""
        request_id, token = call.ids["request_id"], call.token
        look = None
        if call.params.reveal:
            if _REVEAL not in token.scopes:
                raise insufficient_scope([_REVEAL], token)
            look = Look(call.request_id, call.now, token.id)
        found = await self.explain(call.tenant, token.account_id, request_id, look)
        if found is None:
            raise not_found("request")
        if look is None:
            return Answer(found)
        return Change([look.record(call.tenant, request_id)], Answer(found))

    async def explain(
        self, tenant: int, account_id: str | None, request_id: str, look: Look | None = None
    ) -> dict[str, Any] | None:
        """Return the explanation, None if the tenant has no such request.

        Bodies are in it only if there is a look, which is the caller's to record.
        """
        found = await self._find(tenant, request_id)
        if found is None:
            return None
        entry, sealed = found
        opened = await self._details.open(account_id, request_id, sealed)
        detail = opened.detail
        request = None if detail is None else detail["request"]
        error = _error_of(entry, opened, self._public_url)
        headers = {} if request is None else dict(map(tuple, request["headers"]))
        checks = checks_of(entry, error["message"], headers)
        success = None if detail is None else detail["last_success"]
        return {
            **entry.as_json(),
            "token": await self._token(entry),
            **error,
            "checks": [check.as_json() for check in checks],
            "tries": await self._tries(entry),
            "diff": None if request is None else difference(success, request),
            "curl": curl(entry, request, self._public_url, reveal=look is not None),
            "detail": opened.state,
            "sent": None if request is None else _sent(request),
            "revealed": None if look is None or detail is None else _revealed(detail),
            "reveals": await self._reveals(entry, look),
        }

    async def _find(self, tenant: int, request_id: str) -> tuple[Entry, bytes | None] | None:
        """Look a request up; one of this moment may still be on its way into the log."""
        found = await self._log.find(tenant, request_id)
        fresh = abs(now_microseconds() - time_of(request_id)) < _FRESH_MICROSECONDS
        left = _PATIENCE_SECONDS if fresh else 0
        while found is None and left > 0:
            await asyncio.sleep(_STEP_SECONDS)
            left -= _STEP_SECONDS
            found = await self._log.find(tenant, request_id)
        return found

    async def _token(self, entry: Entry) -> dict[str, Any] | None:
        if not entry.token_id:
            return None
        parameters = {"tenant": entry.tenant, "id": entry.token_id}
        row = await self._database.fetch_one(_FIND_TOKEN, parameters)
        name, hint = (None, None) if row is None else (row["name"], row["hint"])
        return {"id": entry.token_id, "name": name, "hint": hint}

    async def _tries(self, entry: Entry) -> list[dict[str, Any]]:
        """Return the requests with the same idempotency key, oldest first; without one, itself."""
        tries = [entry]
        if entry.key_hash:
            query = Query(tenant=entry.tenant, most=_TRIES, key_hash=entry.key_hash)
            tries = (await self._log.search(query))[::-1] or tries
        return [
            {
                "id": each.id,
                "at": format_timestamp(each.at),
                "status": each.status,
                "reason": each.reason or None,
                "latency_ms": each.latency_microseconds / 1000,
                "gap_ms": _gap(before, each),
                "retry_count": each.retry_count,
                "same_body": each.body_hash == entry.body_hash,
            }
            for before, each in zip([None, *tries], tries, strict=False)
        ]

    async def _reveals(self, entry: Entry, look: Look | None) -> list[dict[str, Any]]:
        parameters = {"request_id": entry.id, "tenant": entry.tenant}
        rows: list[Row | dict[str, Any]] = [
            *await self._database.scan(_LIST_REVEALS, parameters),
        ]
        if look is not None:
            rows.append({"id": look.id, "at": look.at, "token_id": look.token_id, "why": look.why})
        return [
            {
                "request_id": row["id"],
                "at": format_timestamp(row["at"]),
                "token_id": row["token_id"],
                "why": row["why"],
            }
            for row in rows
        ]


def _gap(before: Entry | None, entry: Entry) -> float | None:
    """Return how long the caller waited after the answer before; less than 0 if it did not."""
    if before is None:
        return None
    return (entry.at - before.at - before.latency_microseconds) / 1000


def _error_of(entry: Entry, opened: Opened, public_url: str) -> dict[str, Any]:
    """Return what is said of the error: by its row, and by what was kept of the answer."""
    kind = CATALOGUE.get(entry.reason)
    if kind is None:
        nothing = dict.fromkeys(
            ("message", "title", "causes", "hint", "fix", "doc_url", "retry", "errors", "metadata")
        )
        return nothing | {"causes": [], "errors": [], "metadata": {}}
    kept = _kept_error(opened)
    action = kept.get("action", kind.action)
    return {
        "message": _message(kind, kept),
        "title": kind.title,
        "causes": list(kind.causes),
        "hint": kind.hint,
        "fix": kind.fix,
        "doc_url": f"{public_url}/docs/errors/{kind.reason}",
        "retry": {
            "retryable": action in RETRYABLE_ACTIONS,
            "action": action,
            "after_seconds": kept.get("after_seconds"),
        },
        "errors": kept.get("errors", []),
        "metadata": kept.get("metadata", {}),
    }


def _kept_error(opened: Opened) -> Mapping[str, Any]:
    if opened.detail is None:
        return {}
    answer = opened.detail["answer"]
    if "error" in answer:
        kept: Mapping[str, Any] = answer["error"]
        return kept
    body = answer["body"]
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return {}
    retry = error["retry"]
    return {**error, "action": retry["action"], "after_seconds": retry["after_seconds"]}


def _message(kind: ErrorKind, kept: Mapping[str, Any]) -> str | None:
    """Say the message again; without what was kept, only one that needs nothing of it."""
    if not kept:
        return None if "{" in kind.message else kind.message
    errors = [
        ContractFieldError(
            each["in"], each["pointer"], each["field"], each["reason"], each["message"]
        )
        for each in kept["errors"]
    ]
    return message_of(kind, kept["metadata"], errors)


def _sent(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: request[name] for name in ("query", "headers", "bytes", "complete")}


def _revealed(detail: Mapping[str, Any]) -> dict[str, Any]:
    success = detail["last_success"]
    return {
        "body": detail["request"]["body"],
        "answer_body": detail["answer"].get("body"),
        "last_success": None
        if success is None
        else {"request_id": success["id"], "body": success["request"]["body"]},
    }
