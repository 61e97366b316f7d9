"""Start real servers, as their users do, and talk to them over real sockets."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

UNLIMITED = "1000000000/60s"
_READY = re.compile(r"Ready at (http\S+)")
_TOKEN = re.compile(r"op_(?:live|test)_[0-9A-Za-z]{49}")


class Server:
    """One ``operator-api serve`` process on a data folder of its own."""

    def __init__(self, data: Path, *options: str, **variables: str) -> None:
        self.data = data
        self.options = options
        self.variables = {
            "OPERATOR_RATE_LIMIT": UNLIMITED,
            "OPERATOR_FAILED_AUTHENTICATION_LIMIT": UNLIMITED,
            **variables,
        }
        self.token = ""
        self.url = ""
        self.errors: list[str] = []

    def start(self) -> "Server":
        """Start the process, and return when it listens."""
        self.url = ""
        options = ["--port", "0", "--data", str(self.data), *self.options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "operator_api.cli", "serve", *options],
            env={**_clean_environment(), **self.variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(30) or not self.url:
            self.stop(signal.SIGKILL)
            raise AssertionError("the server did not start:\n" + "".join(self.errors))
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if found := _TOKEN.search(line):
                self.token = self.token or found[0]
            if found := _READY.search(line):
                self.url = found[1]
                self._ready.set()
        self._ready.set()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(how)
        code = self.process.wait(30)
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for raw sockets."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def client(self, token: str | None = "") -> httpx2.Client:
        """Return an HTTP client; with the first token unless told, with none for None."""
        token = self.token if token == "" else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30)

    def cli(self, *arguments: str) -> Any:
        """Run ``operator-api … --json`` on the server's data folder; return what it prints."""
        return run_cli(*arguments, "--data", str(self.data), "--json")


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OPERATOR_")}


def run_cli(*arguments: str) -> Any:
    """Run the command line, require that it succeeds, and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "operator_api.cli", *arguments],
        env=_clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(data: Path, *options: str, **variables: str) -> Iterator[Server]:
    """Run a server for the length of a block."""
    server = Server(data, *options, **variables).start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


def eventually(condition: Any, seconds: float = 10, every: float = 0.02) -> None:
    """Wait until the condition holds, and fail if it does not."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        time.sleep(every)
