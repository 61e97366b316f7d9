"""The request log, as the rest of the server has it."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from operator_api.contract.errors import STORE_UNAVAILABLE, Problem
from operator_api.server.requests.entry import Details, Entry
from operator_api.server.requests.record import Recorder, Retention
from operator_api.server.requests.search import NoLogError, Query, Reader

T = TypeVar("T")


class RequestLog:
    """The log in one file. ``recorder.note`` is what the edge hands each answered request to."""

    def __init__(
        self, path: Path, *, hash_key: bytes, retention: Retention, details: Details | None = None
    ) -> None:
        self._reader = Reader(path)
        self._threads = ThreadPoolExecutor(2, "search")
        self.recorder = Recorder(path, hash_key=hash_key, details=details, retention=retention)

    def start(self) -> None:
        """Begin to record."""
        self.recorder.start()

    async def search(self, query: Query) -> list[Entry]:
        """Return the newest that match, newest first. Raise 503 where the log cannot be read."""
        return await self._read(lambda: self._reader.search(query))

    async def find(self, tenant: int, request_id: str) -> tuple[Entry, bytes | None] | None:
        """Return a request with its sealed detail, as far as there are any; 503 likewise."""
        return await self._read(lambda: self._reader.find(tenant, request_id))

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except NoLogError as error:
            if error.spoilt:
                self.recorder.distrust()
            raise Problem(STORE_UNAVAILABLE) from error

    async def erase(self, tenants: Sequence[int]) -> bool:
        """Delete all that is kept of the tenants, beyond recovery; False if it must be repeated."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.recorder.erase, tenants)

    def close(self) -> None:
        """Write what waits, if it was started, and close the file."""
        self.recorder.stop()
        self._threads.shutdown()
        self._reader.close()
