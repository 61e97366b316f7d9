"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.servers import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server without limits, which tests share: each makes its own records."""
    with running(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[httpx2.Client]:
    """Return a client of the shared server, with the admin token of its test environment."""
    with server.client() as client:
        yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder for a server of the test's own."""
    return tmp_path / "data"
