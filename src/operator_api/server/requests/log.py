"""The request log, as the rest of the server has it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from operator_api.contract.errors import STORE_UNAVAILABLE, Problem
from operator_api.server.requests.entry import Details, Entry
from operator_api.server.requests.record import Recorder, Retention
from operator_api.server.requests.search import NoLogError, Query, Reader


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
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._reader.search, query)
        except NoLogError as error:
            raise Problem(STORE_UNAVAILABLE) from error

    async def find(self, tenant: int, request_id: str) -> tuple[Entry, bytes | None] | None:
        """Return a request with its sealed detail, as far as there are any; 503 likewise."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._reader.find, tenant, request_id)
        except NoLogError as error:
            raise Problem(STORE_UNAVAILABLE) from error

    def close(self) -> None:
        """Write what waits, if it was started, and close the file."""
        self.recorder.stop()
        self._threads.shutdown()
        self._reader.close()
