"""Run the server: bind, put the application together, announce it, serve, and stop in order."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from types import FrameType

import uvicorn

from operator_api.contract.errors import Problem
from operator_api.server.app import (
    Store,
    create_pipeline,
    ensure_default_account,
    lock_data,
    open_log,
    open_store,
)
from operator_api.server.console.request_page import RequestPage
from operator_api.server.docs.site import Site
from operator_api.server.exchange import Exchange, Note, Respond, Response
from operator_api.server.http import Connection, Edge
from operator_api.server.logs import Log, RequestLines, logging_to
from operator_api.server.metrics import Metrics
from operator_api.server.pipeline import Pipeline
from operator_api.server.settings import Settings

# uvicorn ticks ten times a second.
_TICKS_TO_SWEEP = 3
_DRAIN_TICK_SECONDS = 0.05
# What a stop takes beyond the settings' time, for the last answers to be written and read.
_REFUSE_SECONDS = 2.0
_TIDY_SECONDS = 600.0

log = logging.getLogger("operator_api.server")


@dataclass(frozen=True, slots=True)
class Ready:
    """The server listens. ``token`` is the first admin token, on a new store only."""

    url: str
    token: str | None


async def serve(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT; return when all is answered and committed.

    Raise AlreadyServedError if another server runs on the data folder, OSError if that folder (then
    with its ``filename``) or the port cannot be used, and whatever ``open_store`` raises.
    """
    with ExitStack() as opened:
        lines = opened.enter_context(logging_to(None, settings.log_format, settings.log_level))
        opened.enter_context(lock_data(settings.data))
        listener = opened.enter_context(closing(_listen(settings)))
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        store = await open_store(settings)
        try:
            token = await ensure_default_account(store)
            ready = Ready(settings.url, token)
            await _serve(settings, store, listener, lines, lambda: announce(ready))
        finally:
            await store.close()


async def _serve(
    settings: Settings,
    store: Store,
    listener: socket.socket,
    lines: Log,
    announce: Callable[[], None],
) -> None:
    requests = open_log(settings, store)
    metrics = Metrics()
    metrics.counter(
        "operator_log_lines_dropped",
        "Lines that the log on standard error had no room for.",
        lambda: lines.dropped,
    )
    pipeline = create_pipeline(settings, store, requests, metrics)
    record = None
    if settings.request_log == "on":
        requests.start()
        record = requests.recorder.note
    server = _Server(settings, pipeline, store, announce, _telling(metrics, RequestLines(), record))
    janitor = asyncio.create_task(_tidy(pipeline))
    # What is loaded now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    try:
        await server.serve(sockets=[listener])
    finally:
        janitor.cancel()
        requests.close()


def _telling(metrics: Metrics, lines: RequestLines, record: Note | None) -> Note:
    """Return what counts a request, says a line of it where it failed, and records it."""

    def note(exchange: Exchange, response: Response, body: bytearray, *, complete: bool) -> None:
        lines.say(exchange, response, metrics.count(exchange, response))
        if record is not None:
            record(exchange, response, body, complete=complete)

    return note


class _Server(uvicorn.Server):
    """uvicorn's, with a clock for its connections and an end that loses nothing."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        store: Store,
        announce: Callable[[], None],
        note: Note | None,
    ) -> None:
        config = uvicorn.Config(
            _with_pages(pipeline, settings.url),
            loop="none",
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            log_level="warning",  # below are what `announce` says, in other words
            server_header=False,
            proxy_headers=False,  # it is an ASGI application, and ours are none
        )
        super().__init__(config)
        self._edge = Edge(
            public_url=settings.url,
            receive_seconds=settings.receive_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
            trusted_proxies=settings.trusted_proxies,
            note=note,
        )
        self.server_state = self._edge
        self._drain_seconds = settings.drain_seconds
        self._pipeline = pipeline
        self._store = store
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announce the server once it takes requests, and signals."""
        await super().startup(sockets)
        self._announce()

    async def on_tick(self, counter: int) -> bool:
        """End what has had its time, beside uvicorn's own."""
        if counter % _TICKS_TO_SWEEP == 0:
            self._edge.sweep()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Stop in order at the first signal, and at once at the second.

        uvicorn would send the first one again at the end, so that a stop would look like a kill.
        """
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, answer all that is asked on those there are, and close them.

        What is not answered in time gets 503 ``shutting_down``, without having been executed. A
        commit that has begun is finished.
        """
        self._pipeline.closing = True
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        self._edge.drain()
        if await self._all_answered(self._drain_seconds):
            return
        self._pipeline.refusing = True
        self._store.database.refuse()
        self._edge.refuse()
        if not await self._all_answered(_REFUSE_SECONDS):
            log.warning("stopped with %d connections still open", len(self._edge.connections))
            self._edge.abort()

    async def _all_answered(self, seconds: float) -> bool:
        """Wait until every connection is closed and every request done; False if time runs out."""
        until = asyncio.get_running_loop().time() + seconds
        while self._edge.connections or self._edge.tasks:
            if asyncio.get_running_loop().time() > until:
                return False
            await self.on_tick(0)
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        return True


def _with_pages(pipeline: Pipeline, public_url: str) -> Respond:
    """Return the API with the pages for people beside it."""
    site = Site(public_url)
    return RequestPage(site, public_url).beside(site.beside(pipeline))


async def _tidy(pipeline: Pipeline) -> None:
    """Tidy up every now and then; where the store is busy, next time."""
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        try:
            await pipeline.tidy()
        except Problem as problem:
            log.warning("could not tidy up: %s", problem.kind.reason)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
