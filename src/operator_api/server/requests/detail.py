"""The sealed detail of a failed request: what was sent and answered, redacted.

::

    SealedDetails   makes details, in the log's thread
    DetailReader    opens them again
    Opened          an opened detail, or why there is none

Redaction comes before sealing, so that who has the key finds no secret either. A detail is sealed
by its account's data key, with account, id and time as the context: it opens in its own row alone.
"""

import logging
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from operator_api.contract.clear import CLEAR, MASKED, PROSE, SERVER_HEADERS
from operator_api.contract.errors import CATALOGUE, FieldError, Problem
from operator_api.contract.explained import DetailState
from operator_api.server.data_keys import DataKeys, NoDataKeyError
from operator_api.server.exchange import Exchange
from operator_api.server.requests.entry import Entry, Material, time_of
from operator_api.vault.documents import Known, Redactor
from operator_api.vault.keys import UnusableKeyError
from operator_api.vault.redact import mask
from operator_api.vault.seal import Unsealable

_is_index = re.compile(r"[0-9]{1,4}").fullmatch
# Of so many tokens and operations the last success is remembered, if its body is not larger.
_SUCCESSES = 2000
_SUCCESS_BYTES = 16 * 1024
_WAITING = 20_000
_FIELD_ERRORS = 4096
_MOST_PARAMETERS = 200
_MOST_KEPT = 300
_SAY_SECONDS = 60.0
_SURROGATE = re.compile(rb"\\ud[89a-f][0-9a-f]{2}")

log = logging.getLogger("operator_api.server")


# A request that went well, with its body: a plain tuple, which is quickly made.
_Success = tuple[Exchange, bytes | bytearray]


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a failed request beyond its row; ``state`` says why, if it is nothing.

    ``none``: it was not kept, as for a success or in a flood of failures. ``erased``: the account's
    data key was destroyed. ``key_missing``: none of the operator's keys opens it. ``tampered``: the
    row is not as it was written.
    """

    state: DetailState
    detail: Mapping[str, Any] | None = None


class SealedDetails:
    """Makes details. ``text_of`` names the accounts that let texts of messages be kept.

    ``note`` is for the event loop, ``seal`` for the log's thread.
    """

    def __init__(self, data_keys: DataKeys, text_of: Collection[str] = ()) -> None:
        self._data_keys = data_keys
        self._text_of = frozenset(text_of)
        known = Known(clear=CLEAR, prose=PROSE, masked=MASKED, headers=SERVER_HEADERS)
        self._redactor = Redactor(known)
        self._text_redactor = Redactor(
            Known(CLEAR, PROSE | {"message"}, MASKED - {"message"}, SERVER_HEADERS)
        )
        self._successes: dict[tuple[str, str], _Success] = {}
        # By the id of the request.
        self._redacted: dict[str, orjson.Fragment] = {}
        self._compared: dict[str, _Success] = {}
        self._said_at = -_SAY_SECONDS
        self._field_errors: dict[tuple[object, ...], dict[str, Any]] = {}

    # --- the event loop's side

    def note(self, exchange: Exchange, body: bytes | bytearray, *, failed: bool) -> None:
        """Remember a success, to compare failures with; hold for a failure what to compare it with.

        Both are references to what is there anyway.
        """
        token, operation = exchange.token, exchange.operation
        if token is None or operation is None:
            return
        key = token.id, operation.name
        if failed:
            success = self._successes.get(key)
            if success is not None and len(self._compared) < _WAITING:
                self._compared[exchange.request_id] = success
        elif len(body) <= _SUCCESS_BYTES:
            self._successes[key] = exchange, body
            if len(self._successes) > _SUCCESSES:
                del self._successes[next(iter(self._successes))]

    # --- the log's thread

    def seal(self, entry: Entry, material: Material) -> bytes | None:
        """Return the redacted request and answer, sealed for the entry; None if they cannot be."""
        exchange = material.exchange
        success = self._compared.pop(entry.id, None)
        bearer = exchange.bearer
        account_id = None if bearer is None else bearer.account_id
        data_key = b"" if bearer is None else bearer.data_key
        if data_key is None:
            return None
        try:
            sealer = self._data_keys.sealer(account_id, data_key)
        except UnusableKeyError as error:
            self._say(account_id, error)
            return None
        redactor = self._redactor_of(exchange)
        detail: dict[str, Any] = {
            "request": {
                **self._request(exchange, material.body, redactor),
                "complete": material.complete,
            },
            "answer": self._answer(material, redactor),
            "last_success": None,
        }
        if success is not None:
            detail["last_success"] = self._last_success(*success, redactor)
        return sealer.seal(orjson.dumps(detail), _context(account_id, entry.id))

    def _last_success(
        self, exchange: Exchange, body: bytes | bytearray, redactor: Redactor
    ) -> orjson.Fragment:
        """Return the request that went well; many failures may follow the same one."""
        made = self._redacted.get(exchange.request_id)
        if made is None:
            request = self._request(exchange, body, redactor)
            made = orjson.Fragment(orjson.dumps({"id": exchange.request_id, "request": request}))
            if len(self._redacted) >= _SUCCESSES:
                self._redacted.clear()
            self._redacted[exchange.request_id] = made
        return made

    def _say(self, account_id: str | None, error: UnusableKeyError) -> None:
        now = time.monotonic()
        if now - self._said_at >= _SAY_SECONDS:
            self._said_at = now
            log.error("details of failed requests of %s are not kept: %s", account_id, error)

    def _redactor_of(self, exchange: Exchange) -> Redactor:
        bearer = exchange.bearer
        keeps_text = bearer is not None and bearer.account_name in self._text_of
        return self._text_redactor if keeps_text else self._redactor

    def _request(
        self, exchange: Exchange, body: bytes | bytearray, redactor: Redactor
    ) -> dict[str, Any]:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in exchange.headers.items()
        ]
        return {
            "query": _query(exchange.query, redactor),
            "headers": redactor.headers(headers),
            "bytes": len(body),
            "body": _document(redactor.body(bytes(body))) if body else None,
        }

    def _answer(self, material: Material, redactor: Redactor) -> dict[str, Any]:
        problem, response = material.exchange.problem, material.response
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response[2]]
        answer: dict[str, Any] = {
            "headers": redactor.headers(
                pair for pair in headers if pair[0] not in ("x-request-id", "content-type")
            )
        }
        if problem is None:
            answer["body"] = _document(redactor.body(response.body))
        else:
            answer["error"] = self._error(problem, redactor)
        return answer

    def _error(self, problem: Problem, redactor: Redactor) -> dict[str, Any]:
        """Return what the catalogue does not say of an error already."""
        metadata = redactor.json({"metadata": problem.metadata})["metadata"]
        # Numbers in it are limits and positions of ours, however large.
        numbers = {n: v for n, v in problem.metadata.items() if n in metadata and type(v) is int}
        return {
            "outcome": problem.outcome,
            "action": problem.action,
            "after_seconds": problem.after_seconds,
            "metadata": metadata | numbers,
            "errors": [self._field_error(error, redactor) for error in problem.errors],
        }

    def _field_error(self, error: FieldError, redactor: Redactor) -> dict[str, Any]:
        """Redact a field's error: the same few come again and again.

        All of it is ours but for the names in the pointer, and what a fix puts in.
        """
        key = (error.place, error.pointer, error.reason, error.message, error.did_you_mean)
        made = self._field_errors.get(key)
        if made is not None and error.fix is None:
            return made
        names = error.pointer.split("/")[1:]
        shown = [name if _is_index(name) else redactor.name(name) for name in names]
        fix = None if error.fix is None else redactor.json({"fix": error.fix})["fix"]
        made = error.as_json() | {"fix": fix}
        if shown != names:
            made |= {
                "pointer": "/".join(["#", *shown]),
                "field": ".".join(shown),
                "message": CATALOGUE[error.reason].title,
                "fix": None,
            }
        if error.fix is None and len(error.pointer) + len(error.message) < _MOST_KEPT:
            if len(self._field_errors) >= _FIELD_ERRORS:
                self._field_errors.clear()
            self._field_errors[key] = made
        return made


class DetailReader:
    """Opens details."""

    def __init__(self, data_keys: DataKeys) -> None:
        self._data_keys = data_keys

    async def open(self, account_id: str | None, request_id: str, sealed: bytes | None) -> Opened:
        """Open the detail of an account's request."""
        if sealed is None:
            return Opened("none")
        try:
            opener = await self._data_keys.opener(account_id)
            text = opener.open(sealed, _context(account_id, request_id))
        except NoDataKeyError:
            return Opened("erased")
        except UnusableKeyError:
            return Opened("key_missing")
        except Unsealable:
            return Opened("tampered")
        return Opened("open", orjson.loads(text))


def _document(redacted: bytes) -> orjson.Fragment:
    """Take a redacted document over as it is; a lone surrogate in it has no place in UTF-8."""
    if b"\\ud" in redacted:
        try:
            orjson.loads(redacted)
        except ValueError:
            redacted = _SURROGATE.sub(rb"\\ufffd", redacted)
    return orjson.Fragment(redacted)


def _context(account_id: str | None, request_id: str) -> bytes:
    """Return where a detail belongs: whose it is, which request's, and from when."""
    return f"request:{account_id or ''}:{request_id}:{time_of(request_id)}".encode()


def _query(query: bytes, redactor: Redactor) -> dict[str, Any] | str | None:
    """Return the parameters, masked by their names; those given twice as a list."""
    if not query:
        return None
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        return mask("text", query.decode("latin-1"))
    parameters: dict[str, Any] = {}
    for name, value in pairs:
        if name in parameters:
            before = parameters[name]
            parameters[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            parameters[name] = value
    redacted: dict[str, Any] = redactor.json(parameters)
    return redacted
