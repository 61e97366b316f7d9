"""A request's way, step by step, as ``Pipeline._respond`` reads from top to bottom.

Each step returns or raises a catalogued error, in the order of the contract: stateless before
stateful, cheap before dear. The pipeline knows nothing of users or conversations: given another
table of operations and other handlers, it serves another API.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import orjson

from operator_api.contract.errors import (
    INTERNAL_ERROR,
    NOT_ACCEPTABLE,
    OVERLOADED,
    RATE_LIMITED,
    RESOURCE_NOT_FOUND,
    SHUTTING_DOWN,
    TOKEN_IN_URL,
    TOO_MANY_FAILED_AUTHENTICATIONS,
    Problem,
)
from operator_api.contract.headers import (
    format_rate_limit,
    format_rate_limit_policy,
    parse_client_request_id,
)
from operator_api.contract.models import Params
from operator_api.contract.operations import Operation
from operator_api.contract.validation import validate_body, validate_params
from operator_api.server.auth import Authenticator, Token, insufficient_scope, require_active
from operator_api.server.cursors import Cursors
from operator_api.server.database import Database, GuardFailed
from operator_api.server.exchange import (
    Answer,
    Call,
    Change,
    Disconnected,
    Exchange,
    Handler,
    Incoming,
    Response,
)
from operator_api.server.idempotency import FINAL_STATUSES, IdempotencyKeys, Key, key_of
from operator_api.server.ids import now_microseconds
from operator_api.server.json_body import read_json_object
from operator_api.server.limits import Limiter
from operator_api.server.query import read_query, token_in
from operator_api.server.reading import read_conditions, read_content
from operator_api.server.render import MEDIA_TYPES, accepted_type, choose_view, problem_response
from operator_api.server.routing import Route, Router, method_not_allowed, unknown_endpoint
from operator_api.server.simulate import Simulator

log = logging.getLogger("operator_api.server")

# How often a write is decided anew because the stored state changed while it was on its way.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is taken at the most."""

    body_bytes: int
    requests_at_once: int


class Pipeline:
    """The API: it makes a Response of an Exchange."""

    def __init__(
        self,
        *,
        operations: Iterable[Operation],
        handlers: Mapping[str, Handler],
        database: Database,
        authenticator: Authenticator,
        limiter: Limiter,
        failed_authentications: Limiter,
        idempotency_keys: IdempotencyKeys,
        cursors: Cursors,
        bounds: Bounds,
        public_url: str,
    ) -> None:
        operations = tuple(operations)
        self._router = Router(operations)
        self._probes = frozenset(each.path for each in operations if each.probe)
        self._handlers = handlers
        self._database = database
        self._authenticator = authenticator
        self._limiter = limiter
        self._failed_authentications = failed_authentications
        self._idempotency_keys = idempotency_keys
        self._cursors = cursors
        self._bounds = bounds
        self._public_url = public_url
        self._simulator = Simulator()
        self._policy = (
            b"ratelimit-policy",
            format_rate_limit_policy(limiter.policy.limit, limiter.policy.window_seconds).encode(),
        )
        self._running = 0
        self._contended = asyncio.Lock()
        # The server is stopping: it is not ready for more, but answers what comes all the same.
        self.closing = False
        # The time for that is over.
        self.refusing = False

    async def __call__(self, exchange: Exchange, incoming: Incoming) -> Response:
        """Answer one request; raise Disconnected if there is nobody to answer."""
        self._running += 1
        try:
            response = await self._respond(exchange, incoming)
        except Problem as problem:
            response = self._refuse(problem, exchange)
        except Disconnected:
            raise
        except Exception:
            log.exception("unexpected error", extra=exchange.traced)
            response = self._refuse(Problem(INTERNAL_ERROR), exchange)
        finally:
            self._running -= 1
        return self._with_headers(response, exchange)

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return self._running

    async def tidy(self) -> None:
        """Delete what is kept no longer. To be called now and then."""
        while await self._idempotency_keys.sweep(now_microseconds()):
            pass

    async def _respond(self, exchange: Exchange, incoming: Incoming) -> Response:
        """Take the request through every check, in the contract's order."""
        self._shed(exchange)
        accepted = choose_view(exchange.headers.get(b"accept"))
        exchange.view = accepted or "json"
        route, ids = self._router.find(exchange.segments) or await self._no_path(exchange)
        if exchange.method == "OPTIONS":
            await self._recognise(exchange)
            return _options(route)
        operation = _operation(exchange, route) or await self._no_method(exchange, route)
        exchange.operation = operation
        if operation.public:
            await self._recognise(exchange)
        else:
            if exchange.query and token_in(exchange.query):
                await self._token_in_url(exchange)
            exchange.token = await self._authenticate(exchange)
            await self._limit_and_authorize(exchange, operation, exchange.token)
        if b"operator-simulate" in exchange.headers:
            self._simulator.refuse(exchange, operation)
        if accepted is None and not _is_acceptable(exchange, operation):
            raise Problem(NOT_ACCEPTABLE, {"available": list(MEDIA_TYPES.values())})
        content = await read_content(exchange, operation, incoming, self._bounds.body_bytes)
        key_text, if_match = read_conditions(exchange, operation)
        exchange.keyed = key_text is not None
        params = _params(exchange, operation)
        body, fields = _body(content, operation)
        call = Call(
            operation=operation,
            database=self._database,
            request_id=exchange.request_id,
            now=now_microseconds(),
            ids=ids,
            params=params,
            body=fields,
            cursors=self._cursors,
            if_match=if_match,
            caller=exchange.token,
        )
        if key_text is None:
            return await self._act(exchange, call, None)
        owner = call.token.id if operation.secret else ""
        key = key_of(call.tenant, key_text, operation.method, exchange.path, body, owner)
        async with self._idempotency_keys.alone(key):
            call.now = now_microseconds()
            return await self._act(exchange, call, key)

    # --- the steps, in their order

    def _shed(self, exchange: Exchange) -> None:
        """Refuse at once what would only wait: 503."""
        overloaded = self._running > self._bounds.requests_at_once
        if (overloaded or self.refusing) and exchange.path not in self._probes:
            raise Problem(SHUTTING_DOWN if self.refusing else OVERLOADED)

    async def _no_path(self, exchange: Exchange) -> NoReturn:
        """Refuse a path that is none: 404, with the path that was most likely meant."""
        scopes = await self._recognise(exchange)
        raise unknown_endpoint(self._router.nearest_path(exchange.path, scopes))

    async def _no_method(self, exchange: Exchange, route: Route) -> NoReturn:
        """Refuse a method that the path does not have: 405."""
        await self._recognise(exchange)
        raise method_not_allowed(exchange.method, route)

    async def _recognise(self, exchange: Exchange) -> frozenset[str] | None:
        """Return the caller's scopes where no token is needed; None if there is no usable one."""
        if b"authorization" not in exchange.headers:
            return None
        try:
            token = exchange.token = await self._authenticate(exchange)
        except Problem:
            return None
        exchange.verdict = await self._limiter.hit(token.id, cost=0)
        return token.scopes

    async def _token_in_url(self, exchange: Exchange) -> NoReturn:
        """Refuse a token in the URL, whether or not there is one in the header too: 400."""
        await self._recognise(exchange)
        raise Problem(TOKEN_IN_URL)

    async def _authenticate(self, exchange: Exchange) -> Token:
        """Recognise the token: 401, or 429 for an address that goes on with unusable ones."""
        authorization = exchange.header(b"authorization")
        try:
            token = exchange.bearer = await self._authenticator.recognise(authorization)
            require_active(token)
            return token
        except Problem as problem:
            if authorization is None or problem.kind.status != 401:
                raise
            verdict = await self._failed_authentications.hit(exchange.address)
            if verdict.allowed:
                raise
            raise Problem(
                TOO_MANY_FAILED_AUTHENTICATIONS,
                {"cause": problem.kind.reason},
                after_seconds=verdict.retry_after,
            ) from None

    async def _limit_and_authorize(
        self, exchange: Exchange, operation: Operation, token: Token
    ) -> None:
        """Count the request: 429. One that lacks the scope is not counted: 403."""
        allowed = operation.scope is None or operation.scope in token.scopes
        verdict = await self._limiter.hit(token.id, cost=1 if allowed else 0)
        exchange.verdict = verdict
        if not verdict.allowed:
            policy = self._limiter.policy
            raise Problem(
                RATE_LIMITED,
                {"limit": policy.limit, "window_seconds": policy.window_seconds},
                after_seconds=verdict.retry_after,
            )
        if not allowed:
            raise insufficient_scope([operation.scope], token)

    async def _act(self, exchange: Exchange, call: Call, key: Key | None) -> Response:
        """Let the handler decide, and commit what it decided together with the key.

        Where the stored state has changed in between, it decides anew; those who meet this take
        turns, so that one of them gets through at a time.
        """
        _require_ids(call)
        response = await self._try(exchange, call, key)
        if response is not None:
            return response
        async with self._contended:
            for _ in range(_ATTEMPTS):
                response = await self._try(exchange, call, key)
                if response is not None:
                    return response
        raise Problem(OVERLOADED)

    async def _try(self, exchange: Exchange, call: Call, key: Key | None) -> Response | None:
        """Decide and commit; None if what the decision stands on has changed meanwhile."""
        if key is not None:
            kept = await self._idempotency_keys.find(key, call.now)
            if kept is not None:
                return _replayed(exchange, *kept)
        try:
            decided = await self._handlers[call.operation.name](call)
            if isinstance(decided, Change):
                return await self._commit(decided, call, key)
            if key is None:
                return _success(decided, call.operation)
            return await self._commit(Change((), decided), call, key)
        except Problem as problem:
            if key is None or problem.kind.status not in FINAL_STATUSES:
                raise
            response = self._refuse(problem, exchange)
            return await self._keep(response, call, key)

    async def _commit(self, change: Change, call: Call, key: Key | None) -> Response | None:
        """Commit the change together with its key; None if the stored state did not allow it."""
        response = _success(change.answer, call.operation)
        write = change.write
        if key is not None:
            write = (self._idempotency_keys.keep(key, call.request_id, response, call.now), *write)
        try:
            await self._database.write(write, bulk=change.bulk)
        except GuardFailed:
            # A key that is there now says it all: the first request's answer is the answer.
            first = key and await self._idempotency_keys.find(key, call.now)
            if first is None and change.explain is not None:
                await change.explain()
            return None
        if change.then is not None:
            change.then()
        return response

    async def _keep(self, response: Response, call: Call, key: Key) -> Response | None:
        """Commit a final refusal with its key; None if another request was first."""
        kept = self._idempotency_keys.keep(key, call.request_id, response, call.now)
        try:
            await self._database.write([kept])
        except GuardFailed:
            return None
        return response

    # --- the way out

    def _refuse(self, problem: Problem, exchange: Exchange) -> Response:
        # Its traceback leads to the exchange: a circle, which only the collector would take apart.
        problem.__traceback__ = problem.__context__ = None
        exchange.problem = problem
        problem.repeatable = exchange.keyed
        client_id = exchange.header(b"x-request-id")
        if client_id is not None and parse_client_request_id(client_id):
            problem.metadata["client_request_id"] = client_id
        return problem_response(problem, exchange.request_id, self._public_url, exchange.view)

    def _with_headers(self, response: Response, exchange: Exchange) -> Response:
        """Add the headers that every answer has."""
        request_id = exchange.replay_of or exchange.request_id
        headers = [(b"x-request-id", request_id.encode()), *response.headers]
        if exchange.simulated:
            headers.append((b"operator-simulated", b"true"))
        verdict = exchange.verdict
        if verdict is not None:
            value = format_rate_limit(verdict.remaining, verdict.reset_seconds)
            headers += (self._policy, (b"ratelimit", value.encode()))
        return Response(response.status, response.body, headers)


# --- pure steps ---


def _options(route: Route) -> Response:
    return Response(200, b"", [(b"allow", ", ".join(route.allowed).encode())])


def _operation(exchange: Exchange, route: Route) -> Operation | None:
    """Choose the path's operation by the method. HEAD is a GET without the body."""
    return route.operations.get("GET" if exchange.method == "HEAD" else exchange.method)


def _is_acceptable(exchange: Exchange, operation: Operation) -> bool:
    """Say whether the caller takes the operation's own type, if no error's."""
    accept = exchange.headers.get(b"accept", b"")
    return accepted_type(accept, [operation.answer_type]) is not None


def _params(exchange: Exchange, operation: Operation) -> Any:
    """Read the query: 400."""
    if not exchange.query:
        return _default_params(operation.params)
    return validate_params(operation.params, read_query(exchange.query))


@cache
def _default_params(params: type[Params]) -> Params:
    return params()


def _body(content: bytes | None, operation: Operation) -> tuple[Any, Any]:
    """Read the body as JSON: 400; and as the operation's fields: 422."""
    if operation.body is None:
        return None, None
    body = {} if content is None else read_json_object(content)
    return body, validate_body(operation.body, body)


def _require_ids(call: Call) -> None:
    """Take an id of another form for what it is: the id of nothing."""
    for name, kind in call.operation.ids.items():
        if not kind.matches(call.ids[name]):
            raise Problem(RESOURCE_NOT_FOUND, {"resource": kind.resource})


def _success(answer: Answer, operation: Operation) -> Response:
    content = answer.content
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Response(operation.status, body, (answer.content_type, *answer.headers))


def _replayed(exchange: Exchange, request_id: str, response: Response) -> Response:
    exchange.replay_of = request_id
    exchange.problem = None  # that of an earlier attempt of ours
    return response._replace(headers=[*response.headers, (b"idempotent-replayed", b"true")])
