"""Measure the server beside a bare ASGI application on the same HTTP server, in the same run.

``make bench`` or ``python -m benchmarks.run [--rounds 9] [--seconds 1] [--connections 64]``. Takes
Debian's ``wrk`` and two cores: the servers run on the first, the load on the second. Each round
measures every case and the bare application in turn; the table shows medians over the rounds.
Requests per second are what ``wrk`` counted; processor time per request is what the kernel charged
to the server, which other work on the machine disturbs less. A ratio of 0.5 means: half of what the
bare one does.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

SERVER_CORE, LOAD_CORE = "0", "1"
UNLIMITED = "1000000000/60s"
UNKNOWN_TOKEN = "op_test_3kOeuMbJ8YxY3SQWmIPSz32Yn7QwIg2buMBZvlxMZuL4GoaR5"  # noqa: S105 - it is nobody's
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Case:
    """One kind of request, the status that each answer must have, and what was measured."""

    name: str
    status: int
    lua: str
    path: str = "/v1/users"
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Process:
    """A running server."""

    url: str
    pid: int

    def processor_seconds(self) -> float:
        """Return the user and system time it has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def bare() -> Iterator[Process]:
    """Run the bare application."""
    options = ["--port", "8951", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
    command = ["uvicorn", "benchmarks.bare:app", *options, "--no-access-log"]
    with _process([sys.executable, "-m", *command, "--log-level", "warning"]) as process:
        _wait_for("http://127.0.0.1:8951/")
        yield Process("http://127.0.0.1:8951", process.pid)


@contextmanager
def ours(data: Path) -> Iterator[tuple[Process, str]]:
    """Run our server on its defaults but for the limits, which would stop the measurement."""
    command = [sys.executable, "-m", "operator_api.cli", "serve", "--port", "8952", "--json"]
    limits = {"OPERATOR_RATE_LIMIT": UNLIMITED, "OPERATOR_FAILED_AUTHENTICATION_LIMIT": UNLIMITED}
    with _process([*command, "--data", str(data)], **limits) as process:
        assert process.stdout is not None
        ready = orjson.loads(process.stdout.readline())
        yield Process(ready["url"], process.pid), ready["token"]


@contextmanager
def _process(command: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, *command],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - our own address
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def cases(token: str, user_id: str) -> list[Case]:
    """Return what is measured of our server."""
    bearer = f'wrk.headers["Authorization"] = "Bearer {token}"'
    post = f'{bearer} wrk.method = "POST" wrk.headers["Content-Type"] = "application/json"'
    create = f"""{post} local n = 0 local run = tostring(os.time()) .. tostring(math.random(1e9))
        request = function()
            n = n + 1
            return wrk.format(nil, nil, nil,
                '{{"email":"u' .. run .. 'x' .. n .. '@example.com","name":"Ada Lovelace"}}')
        end"""
    unknown = f'wrk.headers["Authorization"] = "Bearer {UNKNOWN_TOKEN}"'
    missing = "/v1/users/usr_00000000000000000000000000000000"
    return [
        Case("422, two field errors", 422, f"""{post} wrk.body = '{{"email":"no","name":5}}'"""),
        Case("401, no token", 401, ""),
        Case("401, unknown token", 401, unknown),
        Case("404, no such user", 404, bearer, missing),
        Case("201, durable create", 201, create),
        Case("200, read by id", 200, bearer, f"/v1/users/{user_id}"),
    ]


def create_user(process: Process, token: str) -> str:
    """Create the user that is read, and return its id."""
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{process.url}/v1/users",
        data=b'{"email":"read@example.com","name":"Ada Lovelace","phone":"+14155550123"}',
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own address
        user_id: str = orjson.loads(response.read())["id"]
        return user_id


def measure(
    case: Case, process: Process, folder: Path, seconds: int, connections: int = 64
) -> None:
    """Load the server with one case, and check the status of every answer."""
    script = folder / "case.lua"
    script.write_text(
        case.lua
        + f"""
        local threads = {{}}
        setup = function(thread) table.insert(threads, thread) end
        init = function() wrong = 0 end
        response = function(status) if status ~= {case.status} then wrong = wrong + 1 end end
        done = function() for _, thread in ipairs(threads) do
            io.write("wrong: " .. thread:get("wrong") .. "\\n") end end
        """
    )
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    before = process.processor_seconds()
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *load, process.url + case.path],
        capture_output=True,
        text=True,
        check=True,
    )
    spent = process.processor_seconds() - before
    wrong = re.findall(r"wrong: (\d+)", done.stdout)
    if wrong != ["0"]:
        raise SystemExit(f"{case.name}: {wrong} answers without status {case.status}")
    count = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    case.rates.append(float(re.findall(r"Requests/sec:\s+([\d.]+)", done.stdout)[0]))
    case.costs.append(spent / count * 1e6)


def table(peer: Case, measured: Sequence[Case]) -> str:
    """Return the medians, and each case's ratios to the bare application of the same round."""
    lines = [
        "| case | req/s | of bare | processor µs | of bare |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for case in (peer, *measured):
        rate, cost = statistics.median(case.rates), statistics.median(case.costs)
        of_rate = statistics.median(
            mine / theirs for mine, theirs in zip(case.rates, peer.rates, strict=True)
        )
        of_cost = statistics.median(
            theirs / mine for mine, theirs in zip(case.costs, peer.costs, strict=True)
        )
        lines.append(f"| {case.name} | {rate:,.0f} | {of_rate:.2f} | {cost:.1f} | {of_cost:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each case is measured")
    parser.add_argument("--seconds", type=int, default=1, help="how long each measurement takes")
    parser.add_argument(
        "--connections", type=int, default=64, help="how many wait for an answer at a time"
    )
    options = parser.parse_args()
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing: apt-get install wrk util-linux")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        process, token = stack.enter_context(ours(folder / "data"))
        peer_process = stack.enter_context(bare())
        measured = cases(token, create_user(process, token))
        peer = Case("bare ASGI application", 200, "", "/")
        for _ in range(options.rounds):
            measure(peer, peer_process, folder, options.seconds, options.connections)
            for case in measured:
                measure(case, process, folder, options.seconds, options.connections)
    print(table(peer, measured))


if __name__ == "__main__":
    main()
