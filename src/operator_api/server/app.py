"""The composition root: the only place that chooses engines and puts the parts together."""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from operator_api.contract.errors import OVERLOADED, STORE_UNAVAILABLE, Problem
from operator_api.contract.operations import BY_NAME, OPERATIONS
from operator_api.contract.validation import validate_body, validate_params
from operator_api.server import (
    accounts,
    catalogue,
    conversations,
    me,
    messages,
    service,
    tags,
    users,
)
from operator_api.server.auth import Authenticator, Token
from operator_api.server.cursors import Cursors
from operator_api.server.data_keys import DataKeys
from operator_api.server.database import Database, GuardFailed
from operator_api.server.database.sqlite import SQLite, is_current
from operator_api.server.exchange import Answer, Call, Handler
from operator_api.server.idempotency import IdempotencyKeys
from operator_api.server.ids import new_id, now_microseconds
from operator_api.server.installation import Installation, load_installation, require_openable
from operator_api.server.limits.memory import MemoryLimiter
from operator_api.server.metrics import Metrics
from operator_api.server.openapi import openapi
from operator_api.server.pipeline import Bounds, Pipeline
from operator_api.server.requests import listing
from operator_api.server.requests.detail import DetailReader, SealedDetails
from operator_api.server.requests.explain import Explainer
from operator_api.server.requests.log import RequestLog
from operator_api.server.requests.record import Retention
from operator_api.server.service import Check
from operator_api.server.settings import Settings
from operator_api.server.tokens import Tokens, any_token
from operator_api.vault.keys import Keyring, UnusableKeyError, load_or_make
from operator_api.vault.seal import Sealer

BODY_BYTES = 1024 * 1024


class AlreadyServedError(Exception):
    """Another server runs on the same data folder."""


@dataclass(frozen=True, slots=True)
class Store:
    """An open store, with the secret of its installation."""

    database: Database
    installation: Installation
    authenticator: Authenticator
    data_keys: DataKeys
    keyring: Keyring

    async def close(self) -> None:
        """Finish what has begun, and close."""
        await self.database.close()

    async def perform(
        self,
        name: str,
        caller: Token,
        *,
        ids: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what an operation of tokens does, for the operator: the same checks and errors."""
        operation = BY_NAME[name]
        call = Call(
            operation=operation,
            database=self.database,
            request_id=new_id("req"),
            now=now_microseconds(),
            ids=ids or {},
            params=validate_params(operation.params, params or {}),
            body=None if operation.body is None else validate_body(operation.body, body or {}),
            cursors=Cursors(self.installation.cursor_key),
            caller=caller,
        )
        decided = await Tokens(self.authenticator).handlers[name](call)
        if isinstance(decided, Answer):
            return decided.content
        try:
            await self.database.write(decided.write)
        except GuardFailed:
            raise Problem(OVERLOADED) from None
        return decided.answer.content


async def open_store(settings: Settings) -> Store:
    """Open the store of the settings; make it, or bring it up to date, if need be."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.database_path
    current = is_current(path)

    def load_keyring() -> Keyring:
        return Keyring(settings.secret_keys or _embedded_keys(settings.key_file, path))

    keyring = load_keyring()
    if not current:
        _migrate(path)
    database = SQLite(path, busy_seconds=settings.busy_seconds, max_waiting=settings.writes_waiting)
    try:
        installation = await load_installation(database, keyring)
    except UnusableKeyError:
        keyring = load_keyring()  # which may have been rotated a moment ago
        installation = await load_installation(database, keyring)
    data_keys = DataKeys(database, load_keyring, installation.nobodys_detail_key)
    authenticator = Authenticator(database, installation.token_pepper, data_keys)
    return Store(database, installation, authenticator, data_keys, keyring)


def _embedded_keys(file: Path, store: Path) -> Sequence[bytes]:
    """Return the keys in the file. They are made before the store, and only for a new one."""
    if store.exists() and not file.exists():
        raise UnusableKeyError(f"{file} is missing, and nothing else opens what {store} has sealed")
    return load_or_make(file)


def _migrate(path: Path) -> None:
    # Alembic and SQLAlchemy take half a second to load, and are needed once.
    from operator_api.server.database.migrate import upgrade  # noqa: PLC0415 - see above

    upgrade(path)


def open_log(settings: Settings, store: Store) -> RequestLog:
    """Return the request log, to be started by the one server that writes it."""
    return RequestLog(
        settings.request_log_path,
        hash_key=store.installation.log_key,
        retention=Retention(settings.request_log_days, settings.request_log_mb),
        details=SealedDetails(store.data_keys, settings.keep_message_text_of),
    )


def create_pipeline(
    settings: Settings, store: Store, requests: RequestLog, metrics: Metrics | None = None
) -> Pipeline:
    """Put the API together. What counts its requests has to be told of them by the edge."""
    metrics = metrics or Metrics()
    details = DetailReader(store.data_keys)
    explainer = Explainer(requests, details, store.database, settings.url)
    limiter = MemoryLimiter(settings.rate_limit)
    described = orjson.dumps(openapi(settings.url))
    handlers: dict[str, Handler] = {
        **users.HANDLERS,
        **conversations.HANDLERS,
        **messages.HANDLERS,
        **tags.HANDLERS,
        **Tokens(store.authenticator).handlers,
        **listing.handlers(requests),
        **explainer.handlers,
        **me.handlers(limiter.policy, BODY_BYTES),
        **catalogue.handlers(settings.url),
        **service.handlers(
            openapi=described,
            metrics=metrics.render,
            checks=_checks(settings, store, requests),
            is_closing=lambda: pipeline.closing,
        ),
    }
    pipeline: Pipeline = Pipeline(
        operations=OPERATIONS,
        handlers=handlers,
        database=store.database,
        authenticator=store.authenticator,
        limiter=limiter,
        failed_authentications=MemoryLimiter(settings.failed_authentication_limit),
        idempotency_keys=IdempotencyKeys(
            store.database,
            Sealer(store.installation.answer_key),
            patience_seconds=settings.idempotency_patience_seconds,
        ),
        cursors=Cursors(store.installation.cursor_key),
        bounds=Bounds(BODY_BYTES, settings.requests_at_once),
        public_url=settings.url,
    )
    _watch(metrics, pipeline, store.database, requests)
    return pipeline


def _watch(metrics: Metrics, pipeline: Pipeline, database: Database, requests: RequestLog) -> None:
    """Have the metrics look at what the parts have counted."""
    recorded = requests.recorder.counts
    metrics.gauge(
        "http_server_active_requests",
        "Requests that are being answered (http.server.active_requests).",
        lambda: pipeline.running,
    )
    metrics.gauge(
        "operator_writes_waiting",
        "Writes that wait for a commit.",
        lambda: database.statistics().waiting,
    )
    metrics.sizes(
        "operator_commit_writes",
        "How many writes the commits had.",
        lambda: database.statistics().commits,
    )
    metrics.counter(
        "operator_request_log_dropped",
        "Requests that the request log had no room for.",
        lambda: recorded.dropped,
    )


def _checks(settings: Settings, store: Store, requests: RequestLog) -> dict[str, Check]:
    """Return what has to be in order for the server to do its work; the log need not be."""

    async def database() -> str:
        await store.database.check()  # its schema, too
        return "ok"

    async def keys() -> str:
        try:
            keys = settings.secret_keys or _embedded_keys(settings.key_file, settings.database_path)
            await require_openable(store.database, Keyring(keys))
        except (UnusableKeyError, OSError) as error:
            raise Problem(STORE_UNAVAILABLE) from error
        return "ok"

    async def request_log() -> str:
        if settings.request_log == "off":
            return "off"
        return "ok" if requests.recorder.working else "failing"

    return {"database": database, "migrations": database, "keys": keys, "request_log": request_log}


def lock_data(folder: Path) -> IO[str]:
    """Take the data folder for this process: limits and tokens' caches are in its memory."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (folder / "serve.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        other = lock.read().strip()
        lock.close()
        raise AlreadyServedError(
            f"Another server (process {other or 'unknown'}) runs on {folder}. Rate limits are"
            " kept in one process's memory, so a second one on the same folder would double them."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


async def ensure_default_account(store: Store) -> str | None:
    """On a store without tokens, return an admin token for the test side of ``default``.

    The account is made if need be. It is the only time that this token is shown.
    """
    await accounts.ensure_default(store.database)
    if await any_token(store.database):
        return None
    caller = await accounts.operator_token(store.database, accounts.DEFAULT, "test")
    await store.data_keys.ensure(caller.account_id)  # so that its first request need not wait
    shown = await store.perform(
        "tokens.create", caller, body={"name": "first admin", "preset": "admin"}
    )
    token: str = shown["token"]
    return token
