"""Run the server: bind, put the application together, announce it, serve, and stop in order."""

import gc
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from operator_api.server.app import (
    create_pipeline,
    ensure_default_account,
    lock_data,
    open_store,
)
from operator_api.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """The server listens. ``token`` is the first admin token, on a new store only."""

    url: str
    token: str | None


async def serve(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    lock = lock_data(settings.data)
    listener = _listen(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    store = await open_store(settings)
    try:
        token = await ensure_default_account(store)
        pipeline = create_pipeline(settings, store)
        config = uvicorn.Config(
            pipeline,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies or None,
            log_level=settings.log_level,
        )
        announce(Ready(settings.url, token))
        # What is loaded now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        await uvicorn.Server(config).serve(sockets=[listener])
    finally:
        await store.close()
        lock.close()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.listen(2048)
    return listener
